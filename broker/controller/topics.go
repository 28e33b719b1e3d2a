package controller

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"slices"
	"strconv"

	"github.com/millrace-io/millrace/broker/model"
)

// put makes t the record of its topic, at the version of this command.
func (s *State) put(t *Topic) {
	t.Revision = s.version
	s.topics[t.ID] = t
	s.names[t.Name] = t
}

func (s *State) createTopics(c *Command, ask *CreateTopics) (r Result, changed bool) {
	if len(ask.Topics) > topicsPerCommandMax {
		return refused(refuse(ErrCommand, "%d topics in one command, %d may be", len(ask.Topics), topicsPerCommandMax))
	}
	p := s.placer()
	for i := range ask.Topics {
		t, no := s.createTopic(c, p, &ask.Topics[i])
		r.Topics = append(r.Topics, TopicResult{Topic: t, Refused: no})
		changed = changed || no == nil
	}
	r.Reactivated = s.refit(c)
	return r, changed && !ask.DryRun
}

// createTopic checks everything before it changes anything.
func (s *State) createTopic(c *Command, p *placer, n *NewTopic) (*Topic, *Refusal) {
	if err := model.CheckTopicName(n.Name); err != nil {
		return nil, &Refusal{Code: "topic_name", Text: err.Error()}
	}
	if _, ok := s.names[n.Name]; ok {
		return nil, refuse(ErrTopicExists, "%q", n.Name)
	}
	count := n.Partitions
	if len(n.Assignments) > 0 {
		count = int32(len(n.Assignments))
		if no := s.checkAssignment(n.Name, n.Assignments); no != nil {
			return nil, no
		}
	} else if no := s.checkReplication(n.Name, n.Replication); no != nil {
		return nil, no
	}
	if count < 1 || count > partitionsMax {
		return nil, refuse(ErrInvalidPartitions, "topic %q asks for %d, 1 to %d may be", n.Name, count, partitionsMax)
	}
	t := &Topic{Name: n.Name, ID: s.newTopicID(c, n.Name), Internal: n.Internal, Overrides: maps.Clone(n.Overrides)}
	s.extend(t, p, count, n.Replication, n.Assignments)
	s.put(t)
	return t, nil
}

// extend gives t partitions up to count: of assignments, in order, or placed.
func (s *State) extend(t *Topic, p *placer, count int32, replication int16, assignments [][]model.NodeID) {
	first := int32(len(t.Partitions))
	for i := first; i < count; i++ {
		var replicas []model.NodeID
		if len(assignments) > 0 {
			replicas = slices.Clone(assignments[i-first])
		} else {
			replicas = p.place(replication)
		}
		t.Partitions = append(t.Partitions, Partition{Index: i, Shard: s.next.Shard, Replicas: replicas})
		s.next.Shard++
	}
}

// newTopicID derives an id from the command's seed. Ids whose text begins with
// '-' are passed over: tools would read them as flags.
func (s *State) newTopicID(c *Command, name string) model.TopicID {
	for n := uint64(0); ; n++ {
		sum := sha256.Sum256(strconv.AppendUint(append(c.Seed[:], name...), n, 10))
		id := model.TopicID(sum[:16])
		_, taken := s.topics[id]
		if !taken && !id.IsZero() && base64.RawURLEncoding.EncodeToString(id[:1])[0] != '-' {
			return id
		}
	}
}

func (s *State) deleteTopics(c *Command, ask *DeleteTopics) (r Result, changed bool) {
	for _, id := range ask.IDs {
		t, ok := s.topics[id]
		if !ok {
			r.Topics = append(r.Topics, TopicResult{Refused: refuse(ErrUnknownTopic, "id %s", id)})
			continue
		}
		if t.Internal {
			r.Topics = append(r.Topics, TopicResult{Refused: refuse(ErrInternalTopic, "%q cannot be deleted", t.Name)})
			continue
		}
		delete(s.topics, id)
		delete(s.names, t.Name)
		s.unbind(c, t)
		r.Topics = append(r.Topics, TopicResult{Topic: t})
		changed = true
	}
	return r, changed
}

func (s *State) createPartitions(c *Command, ask *CreatePartitions) (Result, bool) {
	t, ok := s.topics[ask.ID]
	if !ok {
		return refused(refuse(ErrUnknownTopic, "id %s", ask.ID))
	}
	added := int(ask.Count) - len(t.Partitions)
	switch {
	case t.Internal:
		return refused(refuse(ErrInternalTopic, "%q cannot grow", t.Name))
	case added <= 0 || ask.Count > partitionsMax:
		return refused(refuse(ErrInvalidPartitions, "topic %q has %d, asked for %d, which must be more and at most %d", t.Name, len(t.Partitions), ask.Count, partitionsMax))
	case len(ask.Assignments) > 0 && len(ask.Assignments) != added:
		return refused(refuse(ErrInvalidAssignment, "topic %q: %d partitions are assigned, %d would be added", t.Name, len(ask.Assignments), added))
	}
	if no := s.checkAssignment(t.Name, ask.Assignments); no != nil {
		return refused(no)
	}
	if len(ask.Assignments) == 0 {
		if no := s.checkReplication(t.Name, t.Replication()); no != nil {
			return refused(no)
		}
	}
	faults := s.faults()
	grown := s.grow(t, s.placer(), ask.Count, ask.Assignments)
	r := Result{Topics: []TopicResult{{Topic: grown}}, Reactivated: s.refit(c)}
	for _, sc := range s.Scripts() {
		if sc.Fault != "" && faults[sc.Name] == "" {
			return refused(refuse(ErrInvalidPartitions, "topic %q cannot grow to %d: %s", t.Name, ask.Count, sc.Fault))
		}
	}
	return r, !ask.DryRun
}

// grow replaces t's record by one of count partitions.
func (s *State) grow(t *Topic, p *placer, count int32, assignments [][]model.NodeID) *Topic {
	n := *t
	n.Partitions = slices.Clone(t.Partitions)
	s.extend(&n, p, count, t.Replication(), assignments)
	s.put(&n)
	return &n
}
