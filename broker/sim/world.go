package sim

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"time"

	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/raft"
)

const (
	nodesMax = 3
	// settleSteps bounds the quiet end of a run: what has not come to rest by then
	// never will.
	settleSteps = 10_000
)

// Options says what to play.
type Options struct {
	Seed uint64
	// Steps is how many events happen before faults end.
	Steps int
	// Still returns once every goroutine of the simulation is blocked: synctest.Wait.
	Still func()
	// Trace, if set, gets a line per event.
	Trace io.Writer
	// spoil, if set, has clients do what the judge must find.
	spoil func(*World)
}

// World is three nodes, their disks and network, and the load. Owned by the goroutine
// that calls Run, but for calls.
type World struct {
	o     Options
	dice  *rand.Rand
	net   *raft.FakeNet
	calls calls
	nodes [nodesMax]*node
	disks [nodesMax]*disk.Crashing
	away  model.NodeID // is cut off, or NoNode

	clinging clinging
	robbed   *robbed // nil: all have their files
	alone    bool    // a partition was asked to be on one node: no disk is lost from then on
	// identities are on the nodes' disks, but for those that have none yet.
	identities [nodesMax]identity

	trace   hash.Hash
	step    int
	faults  bool
	events  map[string]int
	faulted []error

	load  load
	truth truth
}

// Report is what a run came to.
type Report struct {
	// Trace is the digest of everything that happened.
	Trace string
	// Events counts what happened, by kind.
	Events map[string]int
	Steps  int
	// Faults are the promises that were broken.
	Faults []error
}

// Run plays a seed. It must be called in a synctest bubble, with its Wait as Still.
func Run(o Options) Report {
	w := newWorld(o)
	w.begin()
	for w.step < o.Steps && len(w.faulted) == 0 {
		w.once()
	}
	w.settle()
	if len(w.faulted) == 0 {
		w.judge()
	}
	for id := range w.nodes {
		if w.nodes[id] != nil {
			w.stop(model.NodeID(id))
		}
	}
	w.calls.end()
	<-time.After(time.Hour) // for what waits for a moment before it finds its node gone
	for k, n := range w.net.Seen() {
		w.events["raft: "+k] += n
	}
	return Report{Trace: hex.EncodeToString(w.trace.Sum(nil)), Events: w.events, Steps: w.step, Faults: w.faulted}
}

func newWorld(o Options) *World {
	w := &World{
		o: o, dice: rand.New(rand.NewPCG(o.Seed, 0)), net: raft.NewFakeNet(), away: model.NoNode,
		trace: sha256.New(), faults: true, events: map[string]int{},
	}
	w.net.Key = key
	w.net.Applied = func(node model.NodeID, shard model.ShardID, e raft.Entry) {
		w.log("  node %d applies %d of shard %d: %x", node, e.Index, shard, sha256.Sum256(key(shard, e.Cmd)))
	}
	w.truth.init()
	for id := range w.disks {
		w.disks[id] = disk.NewCrashing()
	}
	return w
}

// key is a command without the numbers that rooms draw for themselves.
func key(shard model.ShardID, cmd []byte) []byte {
	if shard == raft.ControllerShard {
		return cmd
	}
	c, err := partition.Decode(cmd)
	if err != nil {
		return cmd
	}
	c.Token = 0
	return c.Append(nil)
}

// log adds a line to the trace.
func (w *World) log(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	fmt.Fprintln(w.trace, line)
	if w.o.Trace != nil {
		fmt.Fprintln(w.o.Trace, line)
	}
}

// broken notes a promise that was not kept.
func (w *World) broken(format string, args ...any) {
	err := fmt.Errorf("step %d: %s", w.step, fmt.Sprintf(format, args...))
	w.log("BROKEN %v", err)
	w.faulted = append(w.faulted, err)
}

// saw counts an event.
func (w *World) saw(kind string) { w.events[kind]++ }

// seeded gives a node's command for the controller a seed of its content: ids of topics
// derive from it.
func (w *World) seeded(node model.NodeID, cmd []byte) []byte {
	c, err := controller.DecodeCommand(cmd)
	must(err == nil, "a node proposes what the controller does not read: %v", err)
	c.Seed = [16]byte{byte(node), byte(w.o.Seed)}
	b, err := c.Encode()
	must(err == nil, "encode a command: %v", err)
	sum := sha256.Sum256(b)
	copy(c.Seed[:], sum[:])
	b, err = c.Encode()
	must(err == nil, "encode a command: %v", err)
	return b
}

// begin starts the nodes and makes the topics.
func (w *World) begin() {
	for id := range w.nodes {
		w.start(model.NodeID(id))
	}
	w.faults = false
	w.makeTopics()
	if w.o.spoil != nil {
		w.o.spoil(w)
	}
	w.faults = true
}

// event is something that the driver may do next.
type event struct {
	weight int
	name   string
	do     func()
}

// once does one thing and what follows from it.
func (w *World) once() {
	w.step++
	all := []event{
		{60, "raft", w.stepRaft},
		{25, "calls", w.stepCalls},
		{25, "load", w.stepLoad},
		{14, "members", w.stepMember},
		{6, "time", w.passTime},
		{2, "flush", w.flush},
		{12, "kept", w.stepKept},
		{6, "house", w.keepHouse},
		{1, "script", w.stepScript},
	}
	if w.faults {
		all = append(all, event{1, "fault", w.fault}, event{1, "move", w.moveOp})
	}
	total := 0
	for _, e := range all {
		total += e.weight
	}
	at := w.dice.IntN(total)
	for _, e := range all {
		if at -= e.weight; at < 0 {
			e.do()
			break
		}
	}
	w.after()
}

// after lets everything come to rest, and does what a node does by itself in server.
func (w *World) after() {
	w.o.Still()
	for id, n := range w.nodes {
		switch {
		case n == nil:
		case n.dead():
			w.log("node %d dies: %v", id, n.why)
			if !n.fs.Stopped() {
				w.broken("node %d stops, and its disk is well: %v", id, n.why)
			}
			w.crash(model.NodeID(id))
			w.saw("died of its disk")
		default:
			w.reconcile(n)
			w.announce(n, false)
		}
	}
	w.o.Still()
	w.poll()
}

func (w *World) stepRaft() {
	for range 1 + w.dice.IntN(4) {
		if did := w.net.Step(w.dice, w.faults); did != "" && did != "nothing 0@0" {
			w.log("%d raft: %s", w.step, did)
		}
		w.o.Still()
	}
}

// passTime moves the clock. Most of a broker's pauses are short.
func (w *World) passTime() {
	d := time.Duration(1+w.dice.IntN(30)) * time.Millisecond
	if w.dice.IntN(20) == 0 {
		d *= 50
	}
	<-time.After(d)
	w.log("%d %v pass", w.step, d)
}

// settle ends all faults and goes on until nothing is left to be done.
func (w *World) settle() {
	w.faults = false
	w.log("%d calm", w.step)
	w.cutOff(model.NoNode)
	for id, n := range w.nodes {
		switch {
		case n == nil:
		case n.fs.Stopped(): // its power is cut: one that only takes files would try for ever
			w.crash(model.NodeID(id))
		default:
			n.fs.StopAt(0)
		}
	}
	w.load.ended = true
	for range settleSteps {
		if len(w.faulted) > 0 {
			return
		}
		for id, n := range w.nodes {
			if n == nil { // or its disk had died, and it has only now found out
				w.start(model.NodeID(id))
			}
		}
		if w.settled() {
			return
		}
		w.once()
	}
	w.broken("it does not come to rest: %v", errors.Join(w.unsettled()...))
}

func must(holds bool, format string, args ...any) {
	if !holds {
		panic("sim: broken invariant: " + fmt.Sprintf(format, args...))
	}
}
