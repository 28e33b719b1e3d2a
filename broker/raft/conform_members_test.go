package raft

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

// conformWait bounds a question to a node that may be out of the group.
const conformWait = 2 * time.Second

var conformFounders = []model.NodeID{0, 1, 2}

// conformGroup is what a history knows of who is in the group.
type conformGroup struct {
	Members
	births model.Birth                  // the newest that was given
	comes  map[model.NodeID]model.Birth // a node's next replica, which may be in already
	were   map[Member]bool              // in the group at some time
	out    map[Member]bool              // and are no more, which the others know for good
}

// justAsk is no change.
const justAsk = -1

// change asks who is in the group, and makes one of the changes that can be made of it.
// Those who have left are out once the group has written again: see move.Mover.
func (c *conform) change(n, pick int) {
	at := c.nodes[n]
	if at == nil {
		return
	}
	c.work.Go(func() {
		ctx, cancel := context.WithTimeout(c.t.Context(), conformWait)
		defer cancel()
		group, err := at.Members(ctx, shard)
		if err != nil {
			return
		}
		if gone := c.learn(group); len(gone) > 0 && c.settle(at) {
			c.letGo(gone)
		}
		if pick == justAsk {
			return
		}
		all := c.possible(group)
		if len(all) == 0 {
			return
		}
		p := all[pick%len(all)]
		err = p.do(at, ctx, shard, p.member, group.Change)
		switch {
		case err == nil:
			c.saw(p.kind)
		case errors.Is(err, ErrMembersChanged):
			c.saw("change rejected")
		case errors.Is(err, ErrUnknown):
			c.saw("change unknown")
		case errors.Is(err, ErrDropped), errors.Is(err, ErrBusy), errors.Is(err, ErrClosed), errors.Is(err, ErrStopped):
			c.saw("change refused")
		default:
			c.broken("%s %v: %v", p.kind, p.member, err)
		}
	})
}

// possible is a change that a group takes.
type possible struct {
	kind   string
	member Member
	do     func(mover, context.Context, model.ShardID, Member, uint64) error
}

func (c *conform) possible(group Members) (all []possible) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if group.Change < c.group.Change {
		return nil // it has changed since
	}
	in := map[model.NodeID]bool{}
	for _, l := range group.Learners {
		in[l.Node] = true
		all = append(all, possible{"promoted", l, mover.Promote}, possible{"promoted", l, mover.Promote}, possible{"learner removed", l, mover.RemoveMember})
	}
	for _, v := range group.Voters {
		in[v.Node] = true
		if len(group.Voters) > 1 {
			all = append(all, possible{"removed", v, mover.RemoveMember})
		}
	}
	for _, n := range conformFounders {
		m, replica := Member{Node: n}, c.machines[n]
		comes := replica != nil && replica.birth > 0 && c.group.comes[n] == replica.birth
		if in[n] || replica != nil && !comes && !c.group.out[Member{n, replica.birth}] {
			continue // the next would not run beside it
		}
		if c.group.comes[n] == 0 || c.group.were[Member{n, c.group.comes[n]}] {
			c.group.births++
			c.group.comes[n] = c.group.births
		}
		m.Birth = c.group.comes[n]
		for range conformNodes - len(group.Voters) + 1 { // or most would end as groups of one
			all = append(all, possible{"learner added", m, mover.AddLearner})
		}
	}
	return all
}

// learn notes who is in the group, and gives those who are no more.
func (c *conform) learn(group Members) (gone []Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := &c.group
	if g.were == nil {
		g.were, g.out, g.comes = map[Member]bool{}, map[Member]bool{}, map[model.NodeID]model.Birth{}
	}
	if group.Change < g.Change {
		return nil
	}
	g.Members = group
	now := slices.Concat(group.Voters, group.Learners)
	for _, m := range now {
		g.were[m] = true
	}
	return slices.DeleteFunc(slices.Collect(maps.Keys(g.were)), func(m Member) bool { return g.out[m] || slices.Contains(now, m) })
}

// settle writes once more.
func (c *conform) settle(at mover) bool {
	cmd := c.command()
	p, err := at.Propose(shard, []byte(cmd), time.Second)
	if err == nil {
		err = p.Failed()
	}
	c.decide(told{cmd: cmd, err: err})
	return err == nil
}

func (c *conform) letGo(gone []Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range gone {
		c.group.out[m] = true
	}
}

// tend has nodes hold the replicas that they are to hold.
func (c *conform) tend() {
	for n, at := range c.nodes {
		if at == nil {
			continue
		}
		node, was := model.NodeID(n), c.ledger(n)
		c.mu.Lock()
		comes, out := c.group.comes[node], was != nil && c.group.out[Member{node, was.birth}]
		over := c.group.out[Member{node, comes}]
		c.mu.Unlock()
		if out {
			if err := errors.Join(at.Stop(shard), at.Remove(shard)); err != nil {
				c.broken("node %d does not remove its replica: %v", n, err)
			}
			c.mu.Lock()
			c.machines[n] = nil
			c.mu.Unlock()
			c.saw("went out")
			was = nil
		}
		if was != nil && !at.Running(shard) { // it has heard that it is out, and others may not know
			if err := at.Stop(shard); err != nil {
				c.broken("node %d does not stop its replica: %v", n, err)
			}
			c.again(n, was)
			c.saw("started again")
		}
		if was == nil && comes > 0 && !over {
			c.run(n, &ledger{node: n, birth: comes, of: c})
			c.saw("came in")
		}
	}
}

// inGroup gives the machines of the members, nil for one that does not run.
func (c *conform) inGroup() (all []*ledger) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range slices.Concat(c.group.Voters, c.group.Learners) {
		l := c.machines[m.Node]
		if l != nil && l.birth != m.Birth {
			l = nil
		}
		all = append(all, l)
	}
	return all
}
