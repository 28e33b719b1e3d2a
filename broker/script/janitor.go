package script

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// janitorEvery is how often what is left over is looked for, when nobody says
// that there is something.
const janitorEvery = 5 * time.Second

// strayKeep is how long what nobody runs is kept after it was written: a node that
// deploys a script stores it first, and the controller, which tidies, hears of the
// deployment later. No deployment takes that long.
const strayKeep = 2*deployTimeout + time.Minute

// tidySoon has the janitor look.
func (s *Service) tidySoon() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// janitor finishes removals and forgets what no child needs any more, where the
// controller is led, until ctx ends. Two nodes may take themselves for it: whatever
// it does may be done twice, and long after it was decided.
func (s *Service) janitor(ctx context.Context) {
	ticker := time.NewTicker(janitorEvery)
	defer ticker.Stop()
	changed, cancel := s.o.Cluster.Watch()
	defer cancel()
	for {
		if m := s.o.Cluster.Metadata(); m.Controller == s.o.Node && s.ended() {
			s.tidy(ctx, m, time.Now().Add(-strayKeep))
		}
		if !s.awaitWork(ctx, ticker.C, changed) {
			return
		}
	}
}

// awaitWork returns when there is something to tidy, or may be; false: ctx has ended.
func (s *Service) awaitWork(ctx context.Context, tick <-chan time.Time, changed <-chan struct{}) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick:
			return true
		case <-s.kick:
			return true
		case <-changed: // a removal that was asked for at another node is waited for there
			if slices.ContainsFunc(s.o.Cluster.Metadata().Scripts(), func(sc *controller.Script) bool { return sc.Removing }) {
				return true
			}
		}
	}
}

func (s *Service) ended() bool {
	select {
	case <-s.store.AtEnd():
		return true
	default:
		return false
	}
}

// tidy keeps strays that were stored after a moment.
func (s *Service) tidy(ctx context.Context, m *cluster.Metadata, before time.Time) {
	for _, sc := range m.Scripts() {
		var err error
		if sc.Removing {
			err = s.finishRemoval(ctx, m, sc)
		} else {
			err = s.forgetOld(ctx, sc, before)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("script not tidied up; it will be tried again", "script", sc.Name, "removing", sc.Removing, "err", err)
		}
	}
	s.forgetGone(ctx, before)
}

// finishRemoval has every child take the removal, then forgets the script.
func (s *Service) finishRemoval(ctx context.Context, m *cluster.Metadata, sc *controller.Script) error {
	s.deploys.Lock()
	defer s.deploys.Unlock()
	if sc.Mode == controller.ModeAsync {
		if err := s.removeFromChildren(ctx, m, sc); err != nil {
			return err
		}
	}
	// Before the script is dropped: from then on the name may be stored anew, and what
	// is stored last counts.
	if err := s.store.forget(ctx, s.store.keysOf(sc.Name)); err != nil {
		return err
	}
	switch err := s.o.Cluster.DropScript(ctx, sc.Name, sc.Activation); {
	case errors.Is(err, cluster.ErrUnknownScript): // another node was first
		return nil
	case err != nil:
		return fmt.Errorf("drop script: %w", err)
	}
	s.log.Info("script removed", "script", sc.Name, "activation", sc.Activation)
	return nil
}

// removeFromChildren writes the removal into every partition that the script,
// in any of its activations that are still known, wrote to.
func (s *Service) removeFromChildren(ctx context.Context, m *cluster.Metadata, sc *controller.Script) error {
	specs := s.store.plansOf(sc.Name)
	if spec, err := specOf(m, sc); err == nil {
		specs = append(specs, spec)
	}
	type link struct {
		child  model.PartitionID
		parent model.PartitionID
	}
	done := map[link]bool{}
	for _, spec := range specs {
		for _, in := range spec.Inputs {
			parent, ok := m.TopicByID(in.ID)
			if !ok || spec.Script != sc.ID {
				continue
			}
			for _, p := range parent.Partitions {
				for _, c := range spec.ForTopic(in.Topic).Children(p.Index) {
					l := link{c.ID, parent.PartitionID(p.Index)}
					if _, there := m.Partition(c.ID); !there || done[l] {
						continue
					}
					a := partition.Activate{Key: model.SourceKey{Script: sc.ID, Parent: l.parent}, Activation: sc.Activation, Remove: true}
					if _, err := s.o.Log.Activate(ctx, c.ID, a); err != nil {
						return fmt.Errorf("remove from %s-%d: %w", c.Topic, c.ID.Index, err)
					}
					done[l] = true
				}
			}
		}
	}
	return nil
}

// forgetOld forgets older plans and modules of a script whose children have all
// taken the newest, and repairs the record of its name.
func (s *Service) forgetOld(ctx context.Context, sc *controller.Script, before time.Time) error {
	s.deploys.Lock()
	defer s.deploys.Unlock()
	if now, ok := s.o.Cluster.Metadata().Script(sc.Name); !ok || now.Activation != sc.Activation {
		return nil // it moved on
	}
	if d, _, err := s.store.find(moduleID{sc.Name, sc.Digest}); err == nil && s.pointer(sc.Name) != sc.Digest {
		if err := s.store.point(ctx, d); err != nil {
			return fmt.Errorf("write what the name runs: %w", err)
		}
	}
	old := s.store.oldKeysOf(sc, before)
	if len(old) == 0 {
		return nil
	}
	if sc.Mode == controller.ModeAsync {
		if left, _ := s.notTaken(sc, s.ask(ctx, sc.ID)); len(left) > 0 || s.elsewhere(sc) {
			return nil
		}
	}
	return s.store.forget(ctx, old)
}

// elsewhere tells whether an input has no fiber anywhere yet: then children may
// stand under an older activation without anybody saying so.
func (s *Service) elsewhere(sc *controller.Script) bool {
	m := s.o.Cluster.Metadata()
	return slices.ContainsFunc(sc.Inputs, func(in string) bool {
		_, ok := m.Topic(in)
		return !ok
	})
}

func (s *Service) pointer(name string) model.Digest {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	return s.store.names[name].Digest
}

// forgetGone forgets what is stored of names that are not deployed: removed just
// before a crash, or stored for a deployment that was refused.
func (s *Service) forgetGone(ctx context.Context, before time.Time) {
	s.deploys.Lock()
	defer s.deploys.Unlock()
	m := s.o.Cluster.Metadata()
	for _, name := range s.store.allNames() {
		if _, ok := m.Script(name); ok || !s.store.newest(name).Before(before) {
			continue
		}
		if err := s.store.forget(ctx, s.store.keysOf(name)); err != nil && ctx.Err() == nil {
			s.log.Warn("records of a script that is gone not removed", "script", name, "err", err)
		}
	}
}

// allNames lists the names that anything is stored of.
func (s *Store) allNames() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]bool{}
	for name := range s.names {
		seen[name] = true
	}
	for id := range s.modules {
		seen[id.name] = true
	}
	for id := range s.plans {
		seen[id.name] = true
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
