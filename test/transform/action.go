package transform

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace-io/millrace/broker/admin/api"
)

// rest pauses a script and returns when every fiber says that it rests.
func (w *World) rest(s *script) error {
	return w.insist(func(ctx context.Context) error {
		if err := w.admin().Pause(ctx, s.Name); err != nil {
			return err
		}
		_, err := w.resting(ctx, s)
		return err
	})
}

// resting gives where a paused script stands.
func (w *World) resting(ctx context.Context, s *script) (map[tp]int64, error) {
	st, err := w.admin().Script(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	at := map[tp]int64{}
	for _, p := range st.Partitions {
		if p.State != api.StatePaused {
			return nil, fmt.Errorf("%s-%d is %s: %+v", p.Topic, p.Partition, p.State, p)
		}
		at[tp{p.Topic, p.Partition}] = int64(p.SourceOffset)
	}
	return at, nil
}

func (w *World) resume(s *script) error {
	return w.insist(func(ctx context.Context) error { return w.admin().Resume(ctx, s.Name) })
}

// seek moves a script by the seek command. It gets a new version while it rests,
// so that what it wrote before is told from what it writes after.
func (w *World) seek(s *script) error {
	if err := w.rest(s); err != nil {
		return err
	}
	if err := w.deploy(s, 0); err != nil {
		return err
	}
	plus := w.back(s)
	starts, err := w.after(s, plus)
	if err != nil {
		return err
	}
	err = w.insist(func(ctx context.Context) error {
		_, err := w.admin().Seek(ctx, api.SeekAsk{Name: s.Name, To: fmt.Sprintf("+%d", plus)})
		return err
	})
	if err != nil {
		return err
	}
	s.now().starts = starts
	return w.resume(s)
}

// grow adds a partition to the first input, and gives a new version at once: by
// it records are told that were routed over fewer partitions.
func (w *World) grow(s *script) error {
	in, n := s.Inputs[0], s.load.counts[0].Load()+1
	if n > 4 {
		return nil
	}
	err := w.insist(func(ctx context.Context) error {
		a := kadm.NewClient(w.reader)
		if _, err := a.UpdatePartitions(ctx, int(n), in.Topic); err != nil {
			return err
		}
		topics, err := a.ListTopics(ctx, in.Topic)
		if err == nil && len(topics[in.Topic].Partitions) != int(n) {
			err = fmt.Errorf("%s has %d partitions, want %d", in.Topic, len(topics[in.Topic].Partitions), n)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("add a partition to %s: %w", in.Topic, err)
	}
	for deadline := time.Now().Add(healTime); ; pause(50 * time.Millisecond) {
		w.loads.ForceMetadataRefresh()
		if leader, _, err := w.loads.PartitionLeader(in.Topic, n-1); err == nil && leader >= 0 {
			break // the load may write to it
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("partition %d of %s has no leader", n-1, in.Topic)
		}
	}
	s.load.counts[0].Store(n)
	return w.deploy(s, 0)
}

// trim takes away what a paused script has not read yet.
func (w *World) trim(s *script) error {
	if err := w.rest(s); err != nil {
		return err
	}
	in := s.Inputs[0]
	p := w.rand.Int32N(s.load.counts[0].Load())
	var from, to int64
	err := w.insist(func(ctx context.Context) error {
		at, err := w.resting(ctx, s)
		if err != nil {
			return err
		}
		_, end, err := bounds(ctx, w.reader, in.Topic, p)
		from, to = at[tp{in.Topic, p}], end
		if err == nil && end <= from+20 {
			err = fmt.Errorf("%s-%d has nothing to trim yet: %d records behind %d", in.Topic, p, end-from, from)
		}
		return err
	})
	if err != nil {
		return err
	}
	to = from + 1 + (to-from)/2
	err = w.insist(func(ctx context.Context) error {
		var offsets kadm.Offsets
		offsets.Add(kadm.Offset{Topic: in.Topic, Partition: p, At: to})
		answers, err := kadm.NewClient(w.reader).DeleteRecords(ctx, offsets)
		if err != nil {
			return err
		}
		if err := answers.Error(); err != nil {
			return err
		}
		first, _, err := bounds(ctx, w.reader, in.Topic, p)
		if err == nil && first != to {
			err = fmt.Errorf("%s-%d begins at %d after a trim to %d", in.Topic, p, first, to)
		}
		return err
	})
	if err != nil {
		return err
	}
	v := s.now()
	v.gaps[tp{in.Topic, p}] = append(v.gaps[tp{in.Topic, p}], [2]int64{from, to})
	return w.resume(s)
}
