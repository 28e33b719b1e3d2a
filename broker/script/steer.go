package script

import (
	"context"
	"fmt"
	"slices"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// find gives a script by name.
func (s *Service) find(name string) (*controller.Script, error) {
	sc, ok := s.o.Cluster.Metadata().Script(name)
	if !ok {
		return nil, fmt.Errorf("%w: script %q is not deployed", api.ErrNotFound, name)
	}
	return sc, nil
}

// Pause makes a script take no more records; it returns once its fibers rest.
func (s *Service) Pause(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, steerTimeout)
	defer cancel()
	if _, err := s.find(name); err != nil {
		return err
	}
	d, err := s.o.Cluster.PauseScript(ctx, name, true)
	if err != nil {
		return explain(fmt.Errorf("pause script %q: %w", name, err))
	}
	return s.awaitRest(ctx, d.Script)
}

// awaitRest waits until no fiber of a paused script moves on any node that is alive,
// and a sync one has left the path there.
func (s *Service) awaitRest(ctx context.Context, sc *controller.Script) error {
	since, what, reason := s.o.Cluster.Metadata().Version, "its fibers rest", ""
	if sc.Mode == controller.ModeSync {
		what = "the script has left the path"
	}
	err := every(ctx, s.pace(), what, func() (bool, error) {
		if sc.Mode == controller.ModeSync && s.table.now.Load().version < since {
			return false, nil
		}
		all := s.ask(ctx, sc.ID)
		i := slices.IndexFunc(all, func(t told) bool { return !t.down && !t.rests(sc.ID, since) })
		if i >= 0 {
			reason = fmt.Sprintf("; still to come: node %d %s", all[i].node, all[i].silent())
		}
		return i < 0, nil
	})
	if err != nil {
		return fmt.Errorf("%w%s", err, reason)
	}
	return nil
}

// rests tells that a node knows that a script is paused since a version of the
// metadata, and runs none of its fibers.
func (t *told) rests(id model.ScriptID, since uint64) bool {
	r, known := t.of(id)
	switch {
	case t.err != nil || t.Version < since:
		return false
	case !known:
		return true // it was removed
	}
	return !slices.ContainsFunc(r.Fibers, func(f FiberState) bool { return f.State == api.StateRunning })
}

// Resume makes a paused script go on, and one that stopped try again.
func (s *Service) Resume(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, steerTimeout)
	defer cancel()
	sc, err := s.find(name)
	if err != nil {
		return err
	}
	if !sc.Paused && sc.Fault == "" {
		// To resume what is not paused changes nothing, so that a stopped fiber
		// would not hear of it.
		if _, err := s.o.Cluster.PauseScript(ctx, name, true); err != nil {
			return explain(fmt.Errorf("resume script %q: %w", name, err))
		}
	}
	_, err = s.o.Cluster.PauseScript(ctx, name, false)
	if err != nil {
		return explain(fmt.Errorf("resume script %q: %w", name, err))
	}
	return nil
}

// Seek moves a script; it returns when all children have taken the move.
func (s *Service) Seek(ctx context.Context, ask api.SeekAsk) (api.SeekAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, steerTimeout)
	defer cancel()
	answer, err := s.seek(ctx, ask)
	return answer, explain(err)
}

func (s *Service) seek(ctx context.Context, ask api.SeekAsk) (api.SeekAnswer, error) {
	none := api.SeekAnswer{}
	sc, err := s.find(ask.Name)
	if err != nil {
		return none, err
	}
	if sc.Mode == controller.ModeSync {
		return none, fmt.Errorf("%w: script %q is sync: it has no position", api.ErrInvalid, sc.Name)
	}
	whole := ask.Topic == ""
	if !whole && !slices.Contains(sc.Inputs, ask.Topic) {
		return none, fmt.Errorf("%w: %q is not an input of script %q", api.ErrInvalid, ask.Topic, sc.Name)
	}
	if whole && ask.Partition != nil {
		return none, fmt.Errorf("%w: partition %d of which input? Name a topic", api.ErrInvalid, *ask.Partition)
	}
	if !whole && !sc.Paused {
		// The other partitions stay where they are: they have to rest for it.
		if err := s.Pause(ctx, sc.Name); err != nil {
			return none, err
		}
		defer func() {
			if _, err := s.o.Cluster.PauseScript(context.WithoutCancel(ctx), sc.Name, false); err != nil {
				s.log.Error("script not resumed after a seek", "script", sc.Name, "err", err)
			}
		}()
	}
	starts, moved, err := s.seekStarts(ctx, sc, ask)
	if err != nil {
		return none, err
	}
	done, err := s.o.Cluster.SeekScript(ctx, sc.Name, sc.Activation, starts)
	if err != nil {
		return none, fmt.Errorf("seek script %q: %w", sc.Name, err)
	}
	s.tidySoon()
	answer := api.SeekAnswer{Name: sc.Name, Activation: done.Script.Activation, Starts: startsOf(s.o.Cluster.Metadata(), moved)}
	return answer, s.awaitTaken(ctx, done.Script)
}

// seekStarts gives the starts of all partitions, and those that are moved.
func (s *Service) seekStarts(ctx context.Context, sc *controller.Script, ask api.SeekAsk) (all, moved []controller.Start, err error) {
	at, absolute, err := parseSeek(ask)
	if err != nil {
		return nil, nil, err
	}
	m := s.o.Cluster.Metadata()
	if ask.Topic == "" {
		all, err = s.resolveStarts(ctx, m, sc.Inputs, at)
		return all, all, err
	}
	stands := map[model.PartitionID]model.Offset{}
	for parent, f := range s.fibersOf(sc.ID, s.ask(ctx, sc.ID)) {
		// Only the leader's fiber has seen the last that the children took.
		leader, _ := s.o.Cluster.Leader(parent)
		if f.Activation == sc.Activation && (leader == f.node || len(s.others()) == 0) {
			stands[parent] = f.Offset
		}
	}
	for _, in := range sc.Inputs {
		t, ok := m.Topic(in)
		if !ok {
			continue
		}
		for _, p := range t.Partitions {
			st := controller.Start{Parent: t.PartitionID(p.Index)}
			if in == ask.Topic && (ask.Partition == nil || *ask.Partition == p.Index) {
				if st.Offset, err = s.place(ctx, st.Parent, at, absolute); err != nil {
					return nil, nil, fmt.Errorf("seek in %s-%d: %w", in, p.Index, err)
				}
				moved = append(moved, st)
			} else if st.Offset, ok = stands[st.Parent]; !ok {
				return nil, nil, fmt.Errorf("%w: it is not known where script %q stands in %s-%d", api.ErrUnavailable, sc.Name, in, p.Index)
			}
			all = append(all, st)
		}
	}
	if len(moved) == 0 {
		return nil, nil, fmt.Errorf("%w: %q has no such partition", api.ErrInvalid, ask.Topic)
	}
	return all, moved, nil
}

// Remove ends a script; it returns when all children have taken the removal.
func (s *Service) Remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, steerTimeout)
	defer cancel()
	if _, err := s.find(name); err != nil {
		return err
	}
	d, err := s.o.Cluster.RemoveScript(ctx, name)
	if err != nil {
		return explain(fmt.Errorf("remove script %q: %w", name, err))
	}
	s.tidySoon()
	return until(ctx, "all children have taken the removal", func() (bool, error) {
		now, ok := s.o.Cluster.Metadata().Script(name)
		return !ok || now.ID != d.Script.ID, nil
	})
}
