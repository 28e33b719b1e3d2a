package controller

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace-io/millrace/broker/model"
)

func (s *State) layout() Layout {
	return Layout{Nodes: s.Nodes(), Topics: s.Topics(), Scripts: s.Scripts()}
}

// disks is what nodes hold: partitions of these sizes wherever they are, and beside them
// what else is on a disk.
type disks struct {
	sizes map[model.PartitionID]int64
	other map[model.NodeID]int64
	total int64
}

// weights gives what nodes would say that are not silent.
func (d *disks) weights(s *State, down, gone map[model.NodeID]bool) Weights {
	w := Weights{Nodes: map[model.NodeID]Weight{}, Down: down, Gone: gone, GoneAfter: 15 * time.Minute, DiskPercent: 80}
	for _, n := range s.Nodes() {
		if n.Come() && !down[n.ID] && !gone[n.ID] {
			w.Nodes[n.ID] = Weight{DiskTotal: d.total, DiskUsed: d.other[n.ID], Held: map[model.PartitionID]int64{}}
		}
	}
	for _, t := range s.Topics() {
		for i, p := range t.Partitions {
			for _, id := range p.Replicas {
				if n, ok := w.Nodes[id]; ok {
					n.Held[t.PartitionID(int32(i))] = d.sizes[t.PartitionID(int32(i))]
					n.DiskUsed += d.sizes[t.PartitionID(int32(i))]
					w.Nodes[id] = n
				}
			}
		}
	}
	return w
}

// command gives a plan as balance proposes it.
func (p *Plan) command() Command {
	c := &ReassignPartitions{}
	for _, m := range p.Moves {
		c.Partitions = append(c.Partitions, Reassignment{Partition: m.Partition, Replicas: m.To, From: m.From, Balance: m.Why})
	}
	return Command{ReassignPartitions: c}
}

// finish has all that is on its way arrive.
func (s *State) finish(step func(Command) Result) {
	for _, t := range s.Topics() {
		for i := range t.Partitions {
			for id := t.PartitionID(int32(i)); ; {
				_, p, _ := s.partition(id)
				if p.Move == nil {
					break
				}
				step(Command{Moved: &Moved{Partition: id, Revision: p.Move.Revision}})
			}
		}
	}
}

// plan shows, and with do carries out, what is planned: plan gone=1,2 down=3 blind=0
// used=0:500 size=t/0:100. A disk has 1000 bytes.
func (w *world) plan(do bool, a args) string {
	set := func(k string) map[model.NodeID]bool {
		m := map[model.NodeID]bool{}
		for _, n := range nodeList(a.list(k)) {
			m[n] = true
		}
		return m
	}
	d := disks{sizes: map[model.PartitionID]int64{}, other: map[model.NodeID]int64{}, total: 1000}
	for where, bytes := range a.pairs("size") {
		d.sizes[w.partitionID(where)], _ = strconv.ParseInt(bytes, 10, 64)
	}
	for node, bytes := range a.pairs("used") {
		d.other[nodeList([]string{node})[0]], _ = strconv.ParseInt(bytes, 10, 64)
	}
	weights := d.weights(w.s, set("down"), set("gone"))
	weights.Internal = int(a.number("internal", 0))
	for n := range set("blind") {
		delete(weights.Nodes, n)
	}
	plan := w.s.layout().Plan(weights)
	var b strings.Builder
	for _, m := range plan.Moves {
		fmt.Fprintf(&b, "move %s/%d %v -> %v bytes=%d unit=%d: %s\n", m.Topic, m.Partition.Index, m.From, m.To, m.Bytes, m.Unit, m.Why)
	}
	for _, s := range plan.Stuck {
		fmt.Fprintf(&b, "stuck %s/%d: %s\n", s.Topic, s.Index, s.Why)
	}
	if plan.Waits != "" {
		fmt.Fprintf(&b, "waits: %s\n", plan.Waits)
	}
	if do && len(plan.Moves) > 0 {
		b.WriteString(w.answer(w.step(plan.command())))
		w.s.finish(w.step)
	}
	return b.String()
}

// first gives the part of a plan that is of its first unit.
func (p *Plan) first() (part Plan) {
	for _, m := range p.Moves {
		if m.Unit == p.Moves[0].Unit {
			part.Moves = append(part.Moves, m)
		}
	}
	return part
}

// TestBalance: whatever lies wherever, a plan ends, makes nothing worse that it is to make
// better, and once it is carried out nothing is planned.
func TestBalance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, d, down, gone := drawLayout(t)
		w := d.weights(s, down, gone)
		plan := s.layout().Plan(w)
		if again := s.layout().Plan(d.weights(s, down, gone)); !reflect.DeepEqual(plan, again) {
			t.Fatalf("two plans for the same: %+v, %+v", plan, again)
		}
		before := s.clone()
		for _, m := range plan.Moves {
			checkMove(t, s, w, m)
		}
		c := plan.command()
		if r := s.Step(c); len(plan.Moves) > 0 {
			for _, p := range r.Partitions {
				if p.Refused != nil {
					t.Fatal(p.Refused.Text)
				}
			}
			for _, p := range s.Step(c).Partitions {
				if p.Refused == nil {
					t.Fatalf("%+v is done twice", p.Partition)
				}
			}
		}
		s.finish(s.Step)
		if after := s.layout().Plan(d.weights(s, down, gone)); len(after.Moves) > 0 {
			t.Fatalf("after %+v: %+v", plan.Moves, after.Moves)
		}
		checkUnits(t, before, s)
	})
}

// TestBalanceBySteps: a plan that is carried out unit by unit, and made anew after each,
// some of them still under way, ends; and what could be even is so then.
func TestBalanceBySteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, d, down, gone := drawLayout(t)
		roomy := rapid.Bool().Draw(t, "roomy")
		if roomy {
			d.total = 1 << 30
		}
		dies := rapid.IntRange(0, 20).Draw(t, "dies in")
		for round := 0; ; round++ {
			if round == dies {
				gone[model.NodeID(rapid.IntRange(0, 5).Draw(t, "who dies"))] = true
			}
			plan := s.layout().Plan(d.weights(s, down, gone))
			if len(plan.Moves) == 0 {
				checkTargets(t, s, gone, plan)
				s.finish(s.Step)
				plan = s.layout().Plan(d.weights(s, down, gone))
			}
			if len(plan.Moves) == 0 {
				break
			}
			if round == 200 {
				t.Fatalf("it does not end: %+v", plan.Moves)
			}
			part := plan.first()
			s.Step(part.command())
			if rapid.Bool().Draw(t, "arrives") {
				s.finish(s.Step)
			}
		}
		p := s.layout().planner(d.weights(s, down, gone))
		if !roomy || len(down)+len(gone) > 0 || len(p.ids) < len(s.nodes) || len(p.racks) != len(newPlacer(s.Nodes()).racked()) {
			return
		}
		heaviest := 1
		for _, u := range p.units {
			heaviest = max(heaviest, len(u.members))
		}
		for _, a := range p.ids {
			for _, b := range p.ids {
				if p.counts[a]-p.counts[b] > heaviest {
					t.Fatalf("node %d has %d replicas, node %d %d, a unit has up to %d", a, p.counts[a], b, p.counts[b], heaviest)
				}
			}
		}
	})
}

// checkTargets: nothing that balance moves is on its way to a node that is gone, unless it
// is told why that cannot be changed.
func checkTargets(t *rapid.T, s *State, gone map[model.NodeID]bool, plan Plan) {
	for _, topic := range s.Topics() {
		for i, p := range topic.Partitions {
			if p.Move == nil || p.Move.Balance == "" || p.Move.In || !slices.ContainsFunc(p.Goal(), func(id model.NodeID) bool { return gone[id] }) {
				continue
			}
			if !slices.ContainsFunc(plan.Stuck, func(s Stuck) bool { return s.Topic == topic.Name && s.Index == int32(i) }) {
				t.Fatalf("%s/%d moves to %v, %v are gone; stuck: %v", topic.Name, i, p.Goal(), gone, plan.Stuck)
			}
		}
	}
}

// racked gives the racks that there are.
func (p *placer) racked() map[rack]bool {
	m := map[rack]bool{}
	for _, r := range p.racks {
		m[r] = true
	}
	return m
}

// drawLayout gives topics that lie anywhere on up to six nodes, with children of scripts.
func drawLayout(t *rapid.T) (s *State, d *disks, down, gone map[model.NodeID]bool) {
	s = New()
	nodes := rapid.IntRange(1, 6).Draw(t, "nodes")
	down, gone = map[model.NodeID]bool{}, map[model.NodeID]bool{}
	var founders []model.NodeID
	for n := range model.NodeID(nodes) {
		founders = append(founders, n)
	}
	racked := rapid.Bool().Draw(t, "racked")
	for n := range model.NodeID(nodes) {
		node := Node{ID: n, Host: "h"}
		if racked {
			node.Rack = rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "rack")
		}
		if n > 0 && rapid.IntRange(0, 9).Draw(t, "comes") == 0 {
			gone[n] = rapid.Bool().Draw(t, "for long") // a founder that has not
			down[n] = !gone[n]
			continue
		}
		s.Step(Command{RegisterNode: &RegisterNode{Node: node, ClusterID: "x", Founders: founders}})
		switch rapid.IntRange(0, 9).Draw(t, "state") {
		case 0:
			down[n] = true
		case 1:
			gone[n] = true
		}
	}
	for i := range rapid.IntRange(1, 4).Draw(t, "topics") {
		rf := rapid.IntRange(1, min(nodes, 4)).Draw(t, "rf")
		var rows [][]model.NodeID
		for range rapid.IntRange(1, 6).Draw(t, "partitions") {
			var row []model.NodeID
			for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, nodes-1), rf, rf, rapid.ID).Draw(t, "row") {
				row = append(row, model.NodeID(n))
			}
			rows = append(rows, row)
		}
		name := string(rune('a' + i))
		s.Step(Command{Seed: [16]byte{byte(i)}, CreateTopics: &CreateTopics{Topics: []NewTopic{{Name: name, Assignments: rows}}}})
		if rapid.Bool().Draw(t, "script") {
			in := string(rune('a' + rapid.IntRange(0, i).Draw(t, "in")))
			s.Step(Command{Seed: [16]byte{99, byte(i)}, DeployScript: &DeployScript{Script: Script{Name: "s" + name, Digest: model.Digest{1}, Mode: ModeAsync,
				Inputs: []string{in}, Outputs: []Output{{Topic: in + ".s" + name}}}}})
		}
	}
	if rapid.IntRange(0, 2).Draw(t, "moved") == 0 {
		topic := rapid.SampledFrom(s.Topics()).Draw(t, "topic")
		s.Step(randomMove(t, topic.ID))
		s.finish(s.Step)
	}
	if rapid.IntRange(0, 3).Draw(t, "decommissioned") == 0 {
		s.Step(Command{DecommissionNode: &DecommissionNode{Node: model.NodeID(rapid.IntRange(0, nodes-1).Draw(t, "which"))}})
		s.finish(s.Step)
	}
	d = &disks{sizes: map[model.PartitionID]int64{}, other: map[model.NodeID]int64{}, total: 1000}
	for _, n := range s.Nodes() {
		d.other[n.ID] = rapid.Int64Range(0, 600).Draw(t, "other")
	}
	for _, topic := range s.Topics() {
		for i := range topic.Partitions {
			d.sizes[topic.PartitionID(int32(i))] = rapid.SampledFrom([]int64{0, 1, 5, 20, 150}).Draw(t, "bytes")
		}
	}
	return s, d, down, gone
}

// checkMove: as many replicas as before, on different nodes, none new on a node that is
// silent, and no worse over racks unless a node is gone.
func checkMove(t *rapid.T, s *State, w Weights, m BalanceMove) {
	if len(m.To) != len(m.From) || m.Why == "" || len(slices.Compact(slices.Sorted(slices.Values(m.To)))) != len(m.To) {
		t.Fatalf("%+v", m)
	}
	p := newPlacer(s.Nodes())
	squares := func(goal []model.NodeID) (sum int) {
		for _, id := range goal {
			sum += p.inRack(id, goal) // each of n in a rack adds n
		}
		return sum
	}
	wasGone := slices.ContainsFunc(m.From, func(id model.NodeID) bool { return w.Gone[id] })
	if !wasGone && !strings.Contains(m.Why, "its parent") && squares(m.To) > squares(m.From) {
		t.Fatalf("more share a rack: %+v", m)
	}
	for _, id := range without(m.To, m.From) {
		if _, up := w.Nodes[id]; !up || !s.active(id) {
			t.Fatalf("%+v goes to node %d", m, id)
		}
	}
}

// checkUnits: what lay with its parent still does.
func checkUnits(t *rapid.T, before, after *State) {
	for _, u := range before.layout().planner(Weights{}).units {
		parent := after.topics[u.members[0].topic.ID]
		for _, m := range u.members {
			now := after.topics[m.topic.ID].Partitions[m.index]
			if !slices.Equal(now.Replicas, parent.Partitions[u.members[0].index].Replicas) {
				t.Fatalf("%s/%d is at %v, its parent was moved", m.topic.Name, m.index, now.Replicas)
			}
		}
	}
}
