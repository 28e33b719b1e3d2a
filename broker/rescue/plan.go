package rescue

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

var (
	// ErrUnreported says that a node is neither given up nor has reported. Stop it and have
	// it report, or give it up too.
	ErrUnreported = errors.New("a node is neither lost nor has it reported")
	// ErrUnknownNode says that a node that is given up is not known. Look at the ids.
	ErrUnknownNode = errors.New("nothing here knows of a node that is given up")
)

// Fate is what becomes of a group.
type Fate string

// The fates.
const (
	// GoesOn: its majority is lost, and Decision.By goes on with what it has.
	GoesOn Fate = "goes on"
	// Keeps: it has a majority without the lost nodes, and is left alone.
	Keeps Fate = "keeps its majority"
	// Ends: nobody who is left can go on.
	Ends Fate = "is lost"
)

// Decision is what becomes of a group, and why.
type Decision struct {
	Shard model.ShardID `json:"shard"`
	Fate  Fate          `json:"fate"`
	// By is who goes on, in Term, with the members of Stay; those of Gone are removed.
	By   model.NodeID  `json:"by"`
	Term uint64        `json:"term,omitempty"`
	Stay []raft.Member `json:"stay,omitempty"`
	Gone []raft.Member `json:"gone,omitempty"`
	// LastTerm and LastIndex are the end of By's log, Undecided how many of its last entries
	// it did not know to be decided. They count from now on.
	LastTerm  uint64 `json:"last_term,omitempty"`
	LastIndex uint64 `json:"last_index,omitempty"`
	Undecided uint64 `json:"undecided,omitempty"`
	// Why is set where there is more to say.
	Why string `json:"why,omitempty"`
}

// Plan is what becomes of every group that anybody who is left holds, in order of shards.
type Plan struct {
	Node   model.NodeID   `json:"node"`
	Lost   []model.NodeID `json:"lost"`
	Groups []Decision     `json:"groups"`
}

// Count tells how many groups have a fate.
func (p *Plan) Count(f Fate) (n int) {
	for i := range p.Groups {
		if p.Groups[i].Fate == f {
			n++
		}
	}
	return n
}

// Dead gives the replicas of nodes that are left which their groups go on without: they are
// to come back under new births.
func (p *Plan) Dead() (dead []controller.DeadSeat) {
	for i := range p.Groups {
		d := &p.Groups[i]
		for _, m := range d.Gone {
			if !slices.Contains(p.Lost, m.Node) && d.Shard != raft.ControllerShard {
				dead = append(dead, controller.DeadSeat{Shard: d.Shard, Seat: controller.Seat(m)})
			}
		}
	}
	return dead
}

// held is a replica of a group, and where it is.
type held struct {
	node model.NodeID
	*raft.Group
}

func (h held) self() raft.Member { return raft.Member{Node: h.node, Birth: h.Birth} }

// Make decides, on the node of own. others are the reports of all other nodes that are left.
func Make(own *Report, others []*Report) (*Plan, error) {
	if err := own.check(others); err != nil {
		return nil, err
	}
	groups := map[model.ShardID][]held{}
	for _, r := range append([]*Report{own}, others...) {
		for i := range r.Groups {
			g := &r.Groups[i]
			groups[g.Shard] = append(groups[g.Shard], held{r.Node, g})
		}
	}
	p := &Plan{Node: own.Node, Lost: own.Lost}
	for _, shard := range slices.Sorted(maps.Keys(groups)) {
		p.Groups = append(p.Groups, decide(groups[shard], own.Lost))
	}
	return p, nil
}

// complete refuses where a node that is known has not reported, or one that is given up is
// not known.
func (r *Report) complete(reported, known map[model.NodeID]bool) error {
	for _, n := range slices.Sorted(maps.Keys(known)) {
		if !reported[n] && !slices.Contains(r.Lost, n) {
			return fmt.Errorf("%w: node %d", ErrUnreported, n)
		}
	}
	for _, n := range r.Lost {
		if reported[n] {
			return fmt.Errorf("%w: node %d is given up, and has reported", ErrReport, n)
		}
	}
	for _, n := range r.Given {
		if !known[n] {
			return fmt.Errorf("%w: node %d", ErrUnknownNode, n)
		}
	}
	return nil
}

// termsLeapt are terms that only the lost nodes may have seen: a term is a partition's leader
// epoch, and a client takes no word of an older one than it knows.
const termsLeapt = 10_000

// decide says what becomes of a group that these hold. Of replicas whose files may be ahead
// of their log one stays, and then alone: what is in the files only, no log can give to
// others, and the files of one cannot be taken back to where another's log ends.
func decide(all []held, lost []model.NodeID) Decision {
	d := Decision{Shard: all[0].Shard, Fate: Ends, By: model.NoNode}
	best, why := choose(all)
	if best == nil {
		d.Why = why
		return d
	}
	d.LastTerm, d.LastIndex = best.LastTerm, best.LastIndex
	alive, fits := map[raft.Member]bool{}, map[raft.Member]bool{}
	for _, h := range all {
		if h.Damaged == "" {
			alive[h.self()] = true
			fits[h.self()] = h.self() == best.self() || !h.Taken && !best.Taken
		}
		d.Term = max(d.Term, h.Term+termsLeapt)
	}
	isLost := func(m raft.Member) bool { return slices.Contains(lost, m.Node) }
	if !slices.ContainsFunc(everybody(best.Group), isLost) || majority(best.Members.Voters, alive) && majority(best.Decided.Voters, alive) {
		return Decision{Shard: d.Shard, Fate: Keeps, By: model.NoNode, LastTerm: d.LastTerm, LastIndex: d.LastIndex}
	}
	d.Fate, d.By, d.Why = GoesOn, best.node, why
	d.Undecided = best.LastIndex - min(best.Commit, best.LastIndex)
	for _, m := range best.Members.Voters {
		d.sort(m, fits[m])
	}
	for _, m := range best.Members.Learners { // one whose node is there may be about to start
		d.sort(m, fits[m] || !alive[m] && !isLost(m))
	}
	return d
}

func (d *Decision) sort(m raft.Member, stays bool) {
	if stays {
		d.Stay = append(d.Stay, m)
	} else {
		d.Gone = append(d.Gone, m)
	}
}

// choose gives the replica that has the longest log, a voter if there is one, of the lowest
// node if several have; nil if none can go on.
func choose(all []held) (best *held, why string) {
	for _, learners := range []bool{false, true} {
		for i := range all {
			h := &all[i]
			members := h.Members.Voters
			if learners {
				members = h.Members.Learners
			}
			switch {
			case h.Damaged != "":
				why = fmt.Sprintf("the log of node %d is damaged: %s", h.node, h.Damaged)
			case !slices.Contains(members, h.self()):
			case best == nil || best.behind(h):
				best = h
			}
		}
		if best != nil && learners {
			return best, fmt.Sprintf("node %d was about to become a member, and may lack what it was not sent yet", best.node)
		}
		if best != nil {
			return best, why
		}
	}
	if why == "" {
		why = "no replica that is left is a member of the group"
	}
	return nil, why
}

// behind tells whether another replica has the longer log.
func (h *held) behind(o *held) bool {
	order := cmp.Or(cmp.Compare(h.LastTerm, o.LastTerm), cmp.Compare(h.LastIndex, o.LastIndex), cmp.Compare(o.node, h.node))
	return order < 0
}

// majority tells whether more than half of voters are alive.
func majority(voters []raft.Member, alive map[raft.Member]bool) bool {
	n := 0
	for _, v := range voters {
		if alive[v] {
			n++
		}
	}
	return n > len(voters)/2
}

// everybody gives the members of a group at its log's end, and as decided.
func everybody(g *raft.Group) []raft.Member {
	return slices.Concat(g.Members.Voters, g.Members.Learners, g.Decided.Voters, g.Decided.Learners)
}
