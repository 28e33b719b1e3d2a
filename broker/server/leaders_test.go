package server

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/model"
)

// atOnce applies a command where it was proposed.
type atOnce struct {
	apply func(index uint64, cmd []byte) []byte
	index uint64
}

func (a *atOnce) ProposeController(_ context.Context, cmd []byte) ([]byte, error) {
	a.index++
	return a.apply(a.index, cmd), nil
}

// watched is node 0 of three, which hears the others.
type watched struct {
	*Server
	t      *testing.T
	now    time.Time
	others [3]*cluster.Cluster
}

func newWatched(t *testing.T) *watched {
	w := &watched{t: t, now: time.Unix(100, 0)}
	a := &atOnce{}
	c := cluster.New(cluster.Options{Node: 0, Proposer: a, Now: func() time.Time { return w.now }, Log: silent()})
	a.apply = c.StateMachine().Apply
	w.Server = &Server{n: config.Node{ID: 0}, log: silent(), cluster: c}
	for n := range w.others {
		if _, err := c.RegisterNode(t.Context(), cluster.Node{ID: model.NodeID(n), Host: "h"}, "x"); err != nil {
			t.Fatal(err)
		}
		w.others[n] = cluster.New(cluster.Options{Node: model.NodeID(n), Log: silent()})
	}
	return w
}

// pass lets time pass, in which node 0 hears these nodes.
func (w *watched) pass(d time.Duration, nodes ...int) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(time.Second) {
		for _, n := range nodes {
			a, _ := w.others[n].Announce(true)
			w.cluster.Hear(a)
		}
	}
}

func (w *watched) maintenance(node model.NodeID, on bool) {
	w.t.Helper()
	if err := w.cluster.SetMaintenance(w.t.Context(), node, on); err != nil {
		w.t.Fatal(err)
	}
}

// expect compares whom node 0 gives a partition that it leads, plain or with scripts,
// because it should not lead it.
func (w *watched) expect(what string, plain, scripted []model.NodeID) {
	w.t.Helper()
	replicas := []model.NodeID{0, 1, 2}
	for scripts, want := range map[bool][]model.NodeID{false: plain, true: scripted} {
		if got := w.heirs(replicas, scripts); fmt.Sprint(got) != fmt.Sprint(want) {
			w.t.Errorf("%s: to %v, scripts %v; want %v", what, got, scripts, want)
		}
	}
}

// TestHeirs: to whom a node gives what it should not lead.
func TestHeirs(t *testing.T) {
	type nodes = []model.NodeID
	w := newWatched(t)
	w.maintenance(0, true)
	w.expect("nobody was heard", nil, nil)
	w.pass(steadyFor/2, 1, 2)
	w.expect("they have just come", nil, nil)
	w.pass(steadyFor, 1, 2)
	w.expect("in maintenance", nodes{1, 2}, nodes{1, 2})
	w.others[1].SetUnfit(cluster.UnfitScripts)
	w.pass(time.Second, 1, 2)
	w.expect("one without a sidecar", nodes{2}, nodes{2}) // until it has been so for a while
	w.pass(steadyFor, 1, 2)
	w.expect("one without a sidecar, by now", nodes{1, 2}, nodes{2})
	w.others[2].SetUnfit(cluster.UnfitDisk)
	w.pass(2*steadyFor, 1, 2)
	w.expect("the other is slow", nodes{1}, nodes{1}) // rather one without scripts
	w.others[1].SetUnfit(cluster.UnfitDisk)
	w.pass(2*steadyFor, 1, 2)
	w.expect("both are slow", nil, nil)
	w.maintenance(0, false)
	w.cluster.SetUnfit(cluster.UnfitDisk)
	w.expect("all are slow", nil, nil)
	w.others[1].SetUnfit(0)
	w.others[2].SetUnfit(cluster.UnfitScripts)
	w.pass(2*steadyFor, 1, 2)
	w.expect("slow itself", nodes{1, 2}, nodes{1})
	w.maintenance(1, true)
	w.expect("slow, another in maintenance", nodes{2}, nodes{2})
	w.cluster.SetUnfit(cluster.UnfitScripts)
	w.expect("without a sidecar as all who may lead", nil, nil)
	w.cluster.SetUnfit(0)
	w.expect("fit", nil, nil)
	w.pass(steadyFor)
	w.cluster.SetUnfit(cluster.UnfitDisk)
	w.expect("the others are gone", nil, nil)
}

// TestMeantFor: leadership goes back to who was fit for a while, and to nobody in
// maintenance.
func TestMeantFor(t *testing.T) {
	w := newWatched(t)
	w.pass(2*steadyFor, 1, 2)
	if w.isMeantFor(0, false) || !w.isMeantFor(1, false) || !w.isMeantFor(1, true) {
		t.Error("what is led for another that is there stays")
	}
	w.others[1].SetUnfit(cluster.UnfitDisk)
	w.pass(2*steadyFor, 1, 2)
	if w.isMeantFor(1, false) {
		t.Error("it goes to a node that is slow")
	}
	w.others[1].SetUnfit(0)
	w.pass(steadyFor-time.Second, 1, 2)
	if w.isMeantFor(1, false) {
		t.Error("it goes back at once")
	}
	w.pass(3*time.Second, 1, 2)
	if !w.isMeantFor(1, false) {
		t.Error("it does not go back")
	}
	w.maintenance(1, true)
	if w.isMeantFor(1, false) {
		t.Error("it goes to a node in maintenance")
	}
	w.maintenance(1, false)
	if !w.isMeantFor(1, false) {
		t.Error("the maintenance has ended, and it stays")
	}
	w.others[1].Leave()
	w.pass(2*steadyFor, 1, 2)
	if w.isMeantFor(1, false) {
		t.Error("it goes to a node that stops")
	}
}

// TestTakers: who stops gives to the fit, and to any that is alive rather than to none.
func TestTakers(t *testing.T) {
	type nodes = []model.NodeID
	w := newWatched(t)
	w.cluster.Leave()
	expect := func(what string, scripts bool, want nodes) {
		t.Helper()
		if got := w.takers(nodes{0, 1, 2}, scripts); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: to %v; want %v", what, got, want)
		}
	}
	expect("nobody is there", false, nil)
	w.pass(time.Second, 1, 2)
	expect("both are fit", true, nodes{1, 2})
	w.others[1].SetUnfit(cluster.UnfitDisk)
	w.others[2].SetUnfit(cluster.UnfitScripts)
	w.pass(time.Second, 1, 2)
	expect("one is slow", true, nodes{2})
	w.others[2].SetUnfit(cluster.UnfitDisk)
	w.pass(time.Second, 1, 2)
	expect("both are slow", false, nodes{1, 2})
	w.others[1].Leave()
	w.pass(time.Second, 1, 2)
	expect("one stops too", false, nodes{2})
}

// TestUnfitProblem: what people are told of a node that should not lead.
func TestUnfitProblem(t *testing.T) {
	w := newWatched(t)
	m := w.cluster.Metadata()
	if got := unfitProblem(m, m.Nodes[1], 0); got != "" {
		t.Errorf("a fit one: %s", got)
	}
	if got := unfitProblem(m, m.Nodes[1], cluster.UnfitScripts); got != "" {
		t.Errorf("there are no scripts: %s", got)
	}
	if got, want := unfitProblem(m, m.Nodes[1], cluster.UnfitDisk), "node 1 gives its leadership away: its writes to the Raft log take longer than 500ms; look after its disk"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}
