package controller

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace-io/millrace/broker/model"
)

// Random commands on two replicas, one restored from snapshots now and then:
// both hold the same bytes, and the invariants hold after every command.
func TestRandomCommands(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := New(), New()
		for _, s := range []*State{a, b} {
			s.Step(Command{RegisterNode: &RegisterNode{Node: Node{ID: 0}, ClusterID: "x"}})
			for n := range model.NodeID(3) {
				s.Step(Command{RegisterNode: &RegisterNode{Node: Node{ID: n, Host: "h"}}})
			}
		}
		seen := &history{shards: map[model.ShardID]model.PartitionID{}, records: map[any][]byte{}, seats: map[model.ShardID]map[Seat]bool{}}
		for i := range rapid.IntRange(1, 60).Draw(t, "commands") {
			c := randomCommand(t, a)
			c.At, c.Seed = int64(i), [16]byte{byte(i)}
			raw, err := c.Encode()
			if err != nil {
				t.Fatal(err)
			}
			c, err = DecodeCommand(raw)
			if err != nil {
				t.Fatal(err)
			}
			before := a.Snapshot()
			ra, rb := a.Step(c), b.Step(c)
			if !bytes.Equal(ra.Encode(), rb.Encode()) || !bytes.Equal(a.Snapshot(), b.Snapshot()) {
				t.Fatalf("replicas differ after %s", raw)
			}
			if ra.Refused != nil && !bytes.Equal(before, a.Snapshot()) {
				t.Fatalf("refused %s changed the state", raw)
			}
			if rapid.IntRange(0, 4).Draw(t, "restore") == 0 {
				if b, err = Restore(b.Snapshot()); err != nil {
					t.Fatal(err)
				}
			}
			seen.check(t, a)
		}
	})
}

var (
	someTopics  = []string{"a", "b", "c", "d", "e"}
	someScripts = []string{"r", "s", "t", "u"}
)

func randomCommand(t *rapid.T, s *State) Command {
	topic := func() string { return rapid.SampledFrom(someTopics).Draw(t, "topic") }
	script := rapid.SampledFrom(someScripts).Draw(t, "script")
	var id model.TopicID
	if known, ok := s.names[topic()]; ok {
		id = known.ID
	}
	expect := model.Activation(0)
	if sc, ok := s.scripts[script]; ok {
		expect = sc.Activation
	}
	switch rapid.IntRange(0, 17).Draw(t, "kind") {
	case 17:
		return randomForget(t, s, id)
	case 11, 12:
		return randomMove(t, id)
	case 13:
		return randomMoved(t, s, id)
	case 14:
		return Command{DecommissionNode: &DecommissionNode{Node: model.NodeID(rapid.IntRange(0, 3).Draw(t, "node"))}}
	case 15:
		return Command{RecommissionNode: &RecommissionNode{Node: model.NodeID(rapid.IntRange(0, 3).Draw(t, "node"))}}
	case 16:
		return Command{SetMaintenance: &SetMaintenance{Node: model.NodeID(rapid.IntRange(0, 3).Draw(t, "node")), On: rapid.Bool().Draw(t, "on")}}
	case 0:
		return Command{RegisterNode: &RegisterNode{Node: Node{ID: model.NodeID(rapid.IntRange(0, 3).Draw(t, "node")), Host: rapid.SampledFrom([]string{"", "h"}).Draw(t, "host")}, ClusterID: "x"}}
	case 1, 2:
		return Command{CreateTopics: &CreateTopics{Topics: []NewTopic{{Name: topic(), Partitions: rapid.Int32Range(0, 5).Draw(t, "p"), Replication: int16(rapid.IntRange(1, 2).Draw(t, "rf"))}, {Name: topic(), Partitions: 1, Replication: 1}}}}
	case 3:
		return Command{DeleteTopics: &DeleteTopics{IDs: []model.TopicID{id}}}
	case 4:
		return Command{CreatePartitions: &CreatePartitions{ID: id, Count: rapid.Int32Range(1, 8).Draw(t, "p"), DryRun: rapid.Bool().Draw(t, "dry")}}
	case 5, 6, 7:
		return randomDeploy(t, script, expect, topic)
	case 8:
		return Command{PauseScript: &PauseScript{Name: script, Paused: rapid.Bool().Draw(t, "paused")}}
	case 9:
		return Command{SeekScript: &SeekScript{Name: script, Expect: expect, Starts: []Start{{Parent: model.PartitionID{Topic: id}, Offset: 5}}}}
	}
	if sc, ok := s.scripts[script]; ok && sc.Removing {
		return Command{DropScript: &DropScript{Name: script, Activation: expect}}
	}
	return Command{RemoveScript: &RemoveScript{Name: script}}
}

func randomMove(t *rapid.T, id model.TopicID) Command {
	var all []Reassignment
	for range rapid.IntRange(1, 3).Draw(t, "moves") {
		r := Reassignment{Partition: model.PartitionID{Topic: id, Index: rapid.Int32Range(0, 2).Draw(t, "index")}}
		if r.Cancel = rapid.IntRange(0, 3).Draw(t, "cancel") == 0; !r.Cancel {
			for _, n := range rapid.SliceOfN(rapid.IntRange(0, 3), 0, 3).Draw(t, "goal") {
				r.Replicas = append(r.Replicas, model.NodeID(n))
			}
		}
		all = append(all, r)
	}
	return Command{ReassignPartitions: &ReassignPartitions{Partitions: all}}
}

// randomForget gives up a node, or one that was, and has a replica born again.
func randomForget(t *rapid.T, s *State, id model.TopicID) Command {
	c := &ForgetLost{Nodes: []model.NodeID{model.NodeID(rapid.IntRange(1, 3).Draw(t, "node"))}, BeginEmpty: rapid.Bool().Draw(t, "begin")}
	at := model.PartitionID{Topic: id, Index: rapid.Int32Range(0, 2).Draw(t, "index")}
	if _, p, no := s.partition(at); no == nil {
		seat := rapid.SampledFrom(p.Seats()).Draw(t, "seat")
		goesOn := func(id model.NodeID) bool { return id != seat.Node && id != c.Nodes[0] && s.nodes[id] != nil }
		if slices.ContainsFunc(p.Replicas, goesOn) { // who goes on is not dead
			c.Dead = append(c.Dead, DeadSeat{p.Shard, seat})
		}
	}
	return Command{ForgetLost: c}
}

func randomMoved(t *rapid.T, s *State, id model.TopicID) Command {
	at := model.PartitionID{Topic: id, Index: rapid.Int32Range(0, 2).Draw(t, "index")}
	revision := uint64(rapid.IntRange(0, 60).Draw(t, "revision"))
	if _, p, no := s.partition(at); no == nil && p.Move != nil && rapid.IntRange(0, 3).Draw(t, "right") > 0 {
		revision = p.Move.Revision
	}
	return Command{Moved: &Moved{Partition: at, Revision: revision}}
}

func randomDeploy(t *rapid.T, script string, expect model.Activation, topic func() string) Command {
	d := &DeployScript{Expect: expect, Script: Script{Name: script, Digest: model.Digest{1}, Mode: ModeAsync, Inputs: []string{topic()},
		AllowMissing: rapid.Bool().Draw(t, "missing"), ByKey: rapid.Bool().Draw(t, "bykey"), Keep: rapid.Bool().Draw(t, "keep")}}
	if rapid.Bool().Draw(t, "two") {
		d.Script.Inputs = append(d.Script.Inputs, topic())
	}
	if rapid.IntRange(0, 3).Draw(t, "sync") == 0 {
		d.Script.Mode = ModeSync
		return Command{DeployScript: d}
	}
	for range rapid.IntRange(1, 2).Draw(t, "outs") {
		d.Script.Outputs = append(d.Script.Outputs, Output{Topic: topic()})
	}
	return Command{DeployScript: d}
}

// history is what must never be taken back.
type history struct {
	shards     map[model.ShardID]model.PartitionID
	records    map[any][]byte // records handed out, as they were then
	activation model.Activation
	version    uint64
	seats      map[model.ShardID]map[Seat]bool // that were once there; false: they are no more
}

func (h *history) check(t *rapid.T, s *State) {
	if s.version < h.version || s.next.Activation < h.activation {
		t.Fatalf("version %d after %d, activation %d after %d", s.version, h.version, s.next.Activation, h.activation)
	}
	h.version, h.activation = s.version, s.next.Activation
	resting := 0
	for _, n := range s.nodes {
		if n.State == NodeMaintenance {
			resting++
		}
	}
	if resting > 1 {
		t.Fatalf("%d nodes are in maintenance", resting)
	}
	for _, topic := range s.Topics() {
		h.same(t, topic)
		if s.names[topic.Name] != topic {
			t.Fatalf("topic %s is another by its name", topic.Name)
		}
		for i, p := range topic.Partitions {
			owner, known := h.shards[p.Shard]
			if id := topic.PartitionID(int32(i)); known && owner != id || p.Index != int32(i) || p.Shard < shardFirst {
				t.Fatalf("shard %d of %s was %s's", p.Shard, id, owner)
			}
			h.shards[p.Shard] = topic.PartitionID(int32(i))
			if len(p.Replicas) == 0 || len(p.Replicas) > len(s.nodes) && !allLost(s, &p) {
				t.Fatalf("%s/%d has replicas %v", topic.Name, i, p.Replicas)
			}
			h.checkSeats(t, &p)
			checkDrained(t, s, &p)
		}
	}
	for _, sc := range s.Scripts() {
		h.same(t, sc)
		checkScript(t, s, sc)
	}
	checkAcyclic(t, s)
}

// allLost tells whether no replica of a partition is on a node that there is.
func allLost(s *State, p *Partition) bool {
	return !slices.ContainsFunc(p.Holders(), func(id model.NodeID) bool { return s.nodes[id] != nil })
}

// checkDrained: nothing is left on a node that is being decommissioned if another could
// take it.
func checkDrained(t *rapid.T, s *State, p *Partition) {
	free := 0
	for _, n := range s.Nodes() {
		if s.active(n.ID) && n.Come() && !slices.Contains(p.Goal(), n.ID) {
			free++
		}
	}
	left := slices.DeleteFunc(slices.Clone(p.Goal()), func(id model.NodeID) bool { return s.active(id) || s.nodes[id] == nil })
	if len(left) > 0 && len(left) <= free {
		t.Fatalf("%v stays on %v, %d others could take it", p.Goal(), left, free)
	}
}

// checkSeats: no seat comes twice, a node has one of them, and none has a birth that
// was not given.
func (h *history) checkSeats(t *rapid.T, p *Partition) {
	if !p.whole() {
		t.Fatalf("not every replica has a birth: %+v, %+v", p, p.Move)
	}
	known := h.seats[p.Shard]
	if known == nil {
		known = map[Seat]bool{}
		h.seats[p.Shard] = known
	}
	now, nodes := map[Seat]bool{}, map[model.NodeID]bool{}
	for _, seat := range p.Seats() {
		now[seat] = true
		if was, ok := known[seat]; ok && !was {
			t.Fatalf("%+v of shard %d was gone and is back", seat, p.Shard)
		}
		if nodes[seat.Node] || seat.Birth > p.Born {
			t.Fatalf("seats %+v, births up to %d", p.Seats(), p.Born)
		}
		nodes[seat.Node] = true
	}
	for seat := range known {
		known[seat] = now[seat]
	}
	maps.Copy(known, now)
}

// same checks that a record handed out earlier is as it was.
func (h *history) same(t *rapid.T, record any) {
	b, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	h.records[record] = slices.Clone(b)
	for r, was := range h.records {
		if now, _ := json.Marshal(r); !bytes.Equal(now, was) {
			t.Fatalf("a record changed: %s is now %s", was, now)
		}
	}
}

func checkScript(t *rapid.T, s *State, sc *Script) {
	if sc.KeepFrom > sc.Activation || sc.Activation >= s.next.Activation || sc.ID >= s.next.Script {
		t.Fatalf("ids of %+v", sc)
	}
	if sc.Mode == ModeSync || sc.Fault != "" || sc.Removing {
		return
	}
	largest, _ := s.inputs(sc)
	for _, o := range sc.Outputs {
		out, ok := s.names[o.Topic]
		if largest == 0 {
			continue
		}
		if !ok || o.Partitions < 1 || int(o.Partitions) > len(out.Partitions) {
			t.Fatalf("%s routes to %d partitions of %s, which exists: %t", sc.Name, o.Partitions, o.Topic, ok)
		}
		if !sc.ByKey && o.Partitions < largest {
			t.Fatalf("%s routes to %d partitions of %s, an input has %d", sc.Name, o.Partitions, o.Topic, largest)
		}
	}
}

// checkAcyclic takes topics away whose writers read nothing that is left.
func checkAcyclic(t *rapid.T, s *State) {
	left := s.Scripts()
	left = slices.DeleteFunc(left, func(sc *Script) bool { return sc.Mode != ModeAsync })
	for {
		n := len(left)
		written := map[string]bool{}
		for _, sc := range left {
			for _, o := range sc.Outputs {
				written[o.Topic] = true
			}
		}
		left = slices.DeleteFunc(left, func(sc *Script) bool {
			return !slices.ContainsFunc(sc.Inputs, func(in string) bool { return written[in] })
		})
		if len(left) == n {
			break
		}
	}
	if len(left) > 0 {
		t.Fatalf("a cycle over %s and others", left[0].Name)
	}
}

func TestSnapshotRefusesDamage(t *testing.T) {
	s := New()
	s.Step(Command{RegisterNode: &RegisterNode{Node: Node{ID: 0}, ClusterID: "x"}})
	good := s.Snapshot()
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		if _, err := Restore(bad); !errors.Is(err, ErrSnapshotCorrupt) && !errors.Is(err, ErrSnapshotFormat) {
			t.Fatalf("byte %d damaged: %v", i, err)
		}
		if _, err := Restore(good[:i]); !errors.Is(err, ErrSnapshotCorrupt) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	newer := bytes.Clone(good)
	newer[4] = snapshotLevels + 1
	if _, err := Restore(newer); !errors.Is(err, ErrSnapshotFormat) {
		t.Fatalf("a newer format: %v", err)
	}
}

// TestSnapshotOfOlderBuilds: a state of which nothing has moved is written as builds
// wrote it that knew of no moves, and read.
func TestSnapshotOfOlderBuilds(t *testing.T) {
	older := `{"version":2,"cluster_id":"x","next":{"shard":101,"producer":0,"script":1,"activation":1},"config_revision":0,` +
		`"nodes":[{"id":0,"host":"h","port":0},{"id":1,"host":"h","port":0}],"topics":[{"name":"a","id":"AAAAAAAAAAAAAAAAAAAAAQ",` +
		`"partitions":[{"index":0,"shard":100,"replicas":[0]}],"revision":2}],"scripts":null}`
	b := append([]byte(snapshotMagic), 1, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum([]byte(older), castagnoli))
	b = append(b, older...)
	s, err := Restore(b)
	if err != nil {
		t.Fatal(err)
	}
	if now := s.Snapshot(); !bytes.Equal(now, b) {
		t.Errorf("it is written as %s", now[snapshotHeader:])
	}
	id := model.PartitionID{Topic: s.names["a"].ID}
	s.Step(Command{ReassignPartitions: &ReassignPartitions{Partitions: []Reassignment{{Partition: id, Replicas: []model.NodeID{1}}}}})
	moving := s.Snapshot()
	if _, p, _ := s.partition(id); p.Move == nil || moving[4] != snapshotFormat {
		t.Errorf("%+v is in format %d", p, moving[4])
	}
	body := bytes.Replace(moving[snapshotHeader:], []byte(`"births":[1]`), []byte(`"births":[]`), 1)
	binary.LittleEndian.PutUint32(moving[8:], crc32.Checksum(body, castagnoli))
	if _, err := Restore(append(moving[:snapshotHeader], body...)); !errors.Is(err, ErrSnapshotCorrupt) {
		t.Errorf("a replica without a birth: %v", err)
	}
}

func FuzzCommand(f *testing.F) {
	seed := []Command{
		{CreateTopics: &CreateTopics{Topics: []NewTopic{{Name: "a", Partitions: 1, Replication: 1}}}},
		{CreatePartitions: &CreatePartitions{Count: 3}},
		{DeployScript: &DeployScript{Script: Script{Name: "s", Inputs: []string{"a"}, Outputs: []Output{{Topic: "b"}}, Mode: ModeAsync}}},
		{SetClusterConfigs: &SetClusterConfigs{Node: -1, Set: map[string]string{"a": "b"}}},
	}
	for _, c := range seed {
		b, err := c.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCommand(b)
		if err != nil {
			return
		}
		s := New()
		s.Step(Command{RegisterNode: &RegisterNode{Node: Node{ID: 0}, ClusterID: "x"}})
		r := s.Step(c)
		r.Encode()
		if _, err := Restore(s.Snapshot()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRefusalsCrossTheLog(t *testing.T) {
	for _, c := range codes {
		in := Result{Refused: refuse(c.err, "x")}
		out, err := DecodeResult(in.Encode())
		if err != nil || !errors.Is(out.Refused.Err(), c.err) {
			t.Errorf("%s comes out as %v, %v", c.code, out.Refused.Err(), err)
		}
	}
	if err := (&Refusal{Code: "of another version", Text: "t"}).Err(); !errors.Is(err, ErrRefused) {
		t.Errorf("an unknown code is %v", err)
	}
}
