package script

import (
	"context"
	"fmt"
	"strconv"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/sdk/manifest"
)

// resolveStarts gives the offset that a position means in every partition of
// the inputs that exist.
func (s *Service) resolveStarts(ctx context.Context, m *cluster.Metadata, inputs []string, at manifest.Start) ([]controller.Start, error) {
	var starts []controller.Start
	for _, name := range inputs {
		topic, ok := m.Topic(name)
		if !ok {
			continue // to be made: its partitions begin at 0
		}
		for _, p := range topic.Partitions {
			id := topic.PartitionID(p.Index)
			offset, err := s.resolve(ctx, id, at)
			if err != nil {
				return nil, fmt.Errorf("find offset %s of %s-%d: %w", at, name, p.Index, err)
			}
			starts = append(starts, controller.Start{Parent: id, Offset: offset})
		}
	}
	return starts, nil
}

// resolve gives the offset that a position means in one partition: within the
// bounds of its log.
func (s *Service) resolve(ctx context.Context, id model.PartitionID, at manifest.Start) (model.Offset, error) {
	ask := func(timestamp int64) (model.Offset, error) { return s.o.Log.Offset(ctx, id, timestamp) }
	if at.Kind == manifest.StartStart {
		return ask(timestampEarliest)
	}
	end, err := ask(timestampLatest)
	if err != nil || at.Kind == manifest.StartEnd {
		return end, err
	}
	if at.Kind == manifest.StartTime {
		found, err := ask(at.Value)
		if err == nil && found == model.NoOffset {
			found = end // nothing is that young yet
		}
		return found, err
	}
	first, err := ask(timestampEarliest)
	if err != nil {
		return first, err
	}
	if at.Kind == manifest.StartPlus {
		return first + min(model.Offset(at.Value), end-first), nil
	}
	return end - min(model.Offset(at.Value), end-first), nil
}

// place gives the offset that a seek means in one partition. One beyond the end
// is refused: the script would pass over records that are not written yet.
func (s *Service) place(ctx context.Context, id model.PartitionID, at manifest.Start, absolute model.Offset) (model.Offset, error) {
	if absolute == model.NoOffset {
		return s.resolve(ctx, id, at)
	}
	end, err := s.o.Log.Offset(ctx, id, timestampLatest)
	if err == nil && absolute > end {
		err = fmt.Errorf("%w: offset %d is beyond the end, %d", api.ErrInvalid, absolute, end)
	}
	return absolute, err
}

// startsOf puts starts into the admin API's words.
func startsOf(m *cluster.Metadata, starts []controller.Start) []api.StartOffset {
	var out []api.StartOffset
	for _, st := range starts {
		if t, ok := m.TopicByID(st.Parent.Topic); ok {
			out = append(out, api.StartOffset{Topic: t.Name, Partition: st.Parent.Index, Offset: st.Offset})
		}
	}
	return out
}

// parseSeek reads a position; an absolute offset is one only for one partition.
func parseSeek(ask api.SeekAsk) (at manifest.Start, absolute model.Offset, err error) {
	n, bad := strconv.ParseInt(ask.To, 10, 64)
	if bad == nil && n >= 0 && ask.To[0] != '+' {
		if ask.Topic == "" || ask.Partition == nil {
			return at, 0, fmt.Errorf("%w: offset %d means one partition: name a topic and a partition", api.ErrInvalid, n)
		}
		return at, model.Offset(n), nil
	}
	at, err = manifest.ParseStart(ask.To)
	if err != nil {
		return at, 0, fmt.Errorf("%w: %w; or an offset together with a topic and a partition", api.ErrInvalid, err)
	}
	return at, model.NoOffset, nil
}
