package coordinator

import (
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/group"
	"github.com/millrace-io/millrace/broker/model"
)

// watch has groups forget the offsets of topics that are deleted: a new topic of
// that name begins at 0.
func (s *Service) watch() {
	changed, cancel := s.o.Cluster.Watch()
	defer cancel()
	known := topicIDs(s.o.Cluster.Metadata())
	for {
		select {
		case <-changed:
		case <-s.ctx.Done():
			return
		}
		now := topicIDs(s.o.Cluster.Metadata())
		gone := map[string]struct{}{}
		for name, id := range known {
			if now[name] != id {
				gone[name] = struct{}{}
			}
		}
		known = now
		if len(gone) > 0 {
			s.forgetTopics(gone)
		}
	}
}

func topicIDs(m *cluster.Metadata) map[string]model.TopicID {
	ids := map[string]model.TopicID{}
	for _, t := range m.Topics() {
		ids[t.Name] = t.ID
	}
	return ids
}

// forgetTopics tells every loop, those that are loading included: they step
// behind the load.
func (s *Service) forgetTopics(names map[string]struct{}) {
	s.mu.Lock()
	loops := make([]*loop, 0, len(s.loops))
	for _, l := range s.loops {
		loops = append(loops, l)
	}
	s.mu.Unlock()
	for _, l := range loops {
		if err := l.send(s.ctx, forgetEvent{names}); err != nil {
			l.log.Warn("offsets of deleted topics are left to expire", "topics", len(names), "err", err)
		}
	}
}

// forgetEvent carries names that nobody changes any more.
type forgetEvent struct{ names map[string]struct{} }

func (e forgetEvent) step(l *loop) { l.stepAll(group.ForgetTopics{Names: e.names}) }
