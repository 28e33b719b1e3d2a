package script

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// Nodes asks the cluster's other nodes; server gives it. An error says that a node
// told nothing, and why.
type Nodes interface {
	Report(ctx context.Context, node model.NodeID, ask ReportAsk) (Report, error)
	Lines(ctx context.Context, node model.NodeID, ask LinesAsk) (Lines, error)
}

// nodeWait bounds a question to another node: one that hangs must not hide the rest.
const nodeWait = 2 * time.Second

// nodesTick is how often other nodes are asked by who waits for what they do.
const nodesTick = 50 * time.Millisecond

// told is what a node told, or why it told nothing.
type told struct {
	node model.NodeID
	Report
	down bool  // nobody has heard of it of late: nothing runs there
	err  error // it is alive and did not answer
}

// silent says why there is no report.
func (t *told) silent() string {
	switch {
	case t.down:
		return "the node is down"
	case t.err != nil:
		return "the node does not answer: " + t.err.Error()
	}
	return ""
}

// of gives what was told of a script; ok is false when the node does not know it.
func (t *told) of(id model.ScriptID) (*ScriptReport, bool) {
	i := slices.IndexFunc(t.Scripts, func(r ScriptReport) bool { return r.Script == id })
	if i < 0 {
		return nil, false
	}
	return &t.Scripts[i], true
}

// others lists the cluster's other nodes.
func (s *Service) others() (others []model.NodeID) {
	if s.o.Nodes == nil {
		return nil
	}
	for _, n := range s.o.Cluster.Metadata().Nodes {
		if n.ID != s.o.Node {
			others = append(others, n.ID)
		}
	}
	return others
}

// here is this node's own report alone.
func (s *Service) here(scripts ...model.ScriptID) []told {
	return []told{{node: s.o.Node, Report: s.Report(ReportAsk{Scripts: scripts})}}
}

// ask has every node tell of scripts, all if none are named; it takes nodeWait at
// most. The answers are in order of node.
func (s *Service) ask(ctx context.Context, scripts ...model.ScriptID) []told {
	others := s.others()
	answers := make([]told, len(others))
	s.each(ctx, others, func(ctx context.Context, i int, alive bool) {
		t := told{node: others[i], down: !alive}
		if alive {
			t.Report, t.err = s.o.Nodes.Report(ctx, t.node, ReportAsk{Scripts: scripts})
		}
		answers[i] = t
	})
	answers = append(answers, s.here(scripts...)...)
	slices.SortFunc(answers, func(a, b told) int { return int(a.node) - int(b.node) })
	return answers
}

// each calls do for all nodes at once, with nodeWait, and returns when all are done.
func (s *Service) each(ctx context.Context, nodes []model.NodeID, do func(ctx context.Context, i int, alive bool)) {
	ctx, cancel := context.WithTimeout(ctx, nodeWait)
	defer cancel()
	var work sync.WaitGroup
	for i, node := range nodes {
		work.Go(func() { do(ctx, i, s.o.Cluster.Alive(node)) })
	}
	work.Wait()
}

// pace is how often to look at what all nodes do.
func (s *Service) pace() time.Duration {
	if len(s.others()) == 0 {
		return waitTick
	}
	return nodesTick
}

// runs is a fiber and where it runs.
type runs struct {
	node model.NodeID
	FiberState
}

// fibersOf gives the fiber of each parent partition. Where two nodes tell of one, the
// leader's counts; else the one that is further.
func (s *Service) fibersOf(id model.ScriptID, all []told) map[model.PartitionID]runs {
	found := map[model.PartitionID]runs{}
	for i := range all {
		r, ok := all[i].of(id)
		if !ok {
			continue
		}
		for _, f := range r.Fibers {
			now := runs{all[i].node, f}
			if old, twice := found[f.Parent]; !twice || s.rather(now, old) {
				found[f.Parent] = now
			}
		}
	}
	return found
}

func (s *Service) rather(a, b runs) bool {
	if leader, _ := s.o.Cluster.Leader(a.Parent); leader == a.node || leader == b.node {
		return leader == a.node
	}
	if a.Activation != b.Activation {
		return a.Activation > b.Activation
	}
	return a.Offset > b.Offset
}

// missing names nodes that a deployed script does not run on and has to, with the
// reason of one of them. An error says that it never will.
func missing(sc *controller.Script, all []told) (nodes []model.NodeID, reason string, err error) {
	for i := range all {
		t := &all[i]
		why := ""
		r, known := t.of(sc.ID)
		switch {
		case t.down:
			continue // it leads nothing, and loads the script before it does again
		case t.err != nil:
			why = t.silent()
		case !known || r.Activation < sc.Activation:
			why = "the node has not heard of it yet"
		case r.Activation > sc.Activation:
			return nil, "", fmt.Errorf("%w: script %q was changed by somebody else meanwhile", api.ErrConflict, sc.Name)
		case r.State == api.StateStopped:
			return nil, "", fmt.Errorf("%w: script %q: %s", api.ErrInvalid, sc.Name, on(t.node, len(all), r.Reason))
		case r.State != api.StateRunning:
			why = r.Reason
		case sc.Mode == controller.ModeSync && !r.InPath:
			why = "it is not in the path of all its topics yet"
		default:
			continue
		}
		nodes, reason = append(nodes, t.node), on(t.node, len(all), why)
	}
	return nodes, reason, nil
}

// on names the node that a reason is of, where there are several.
func on(node model.NodeID, nodes int, reason string) string {
	if nodes == 1 {
		return reason
	}
	return fmt.Sprintf("node %d: %s", node, reason)
}

// downWarnings are for who waited for a script to run everywhere.
func downWarnings(all []told) (lines []string) {
	for i := range all {
		if all[i].down {
			lines = append(lines, fmt.Sprintf("node %d is down: it was not waited for, and loads the script when it is back", all[i].node))
		}
	}
	return lines
}
