package controller

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace-io/millrace/broker/model"
)

var rewrite = flag.Bool("rewrite", false, "write the answers of transcripts anew")

// A transcript is blocks of commands, a line of four dashes and the answers. A
// command is a verb, a name and k=v arguments; see world.do.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(t, string(b))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(b) {
				t.Fatalf("%s differs (-rewrite to accept):\n%s", file, got)
			}
		})
	}
}

func replay(t *testing.T, text string) string {
	w := &world{t: t, s: New()}
	var out strings.Builder
	for _, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		asked, _, _ := strings.Cut(block, "\n----")
		out.WriteString(asked + "\n----\n")
		for _, line := range strings.Split(asked, "\n") {
			if !strings.HasPrefix(line, "#") {
				out.WriteString(w.do(line))
			}
		}
		out.WriteString("\n")
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

// world is one state with a clock and a seed that count the commands.
type world struct {
	t *testing.T
	s *State
	n int64
}

// args are a command's k=v; a key may repeat.
type args map[string][]string

func (a args) one(k string) string {
	if len(a[k]) == 0 {
		return ""
	}
	return a[k][0]
}

func (a args) list(k string) []string {
	if a.one(k) == "" {
		return nil
	}
	return strings.Split(a.one(k), ",")
}

func (a args) number(k string, none int64) int64 {
	if a.one(k) == "" {
		return none
	}
	n, err := strconv.ParseInt(a.one(k), 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// pairs reads conf=name:value.
func (a args) pairs(k string) map[string]string {
	var m map[string]string
	for _, p := range a[k] {
		name, v, _ := strings.Cut(p, ":")
		if m == nil {
			m = map[string]string{}
		}
		m[name] = v
	}
	return m
}

func (w *world) do(line string) string {
	words := strings.Fields(line)
	verb, name, a := words[0], "", args{}
	for _, word := range words[1:] {
		if k, v, ok := strings.Cut(word, "="); ok {
			a[k] = append(a[k], v)
		} else {
			name = word
		}
	}
	if shown, ok := w.show(verb, name); ok {
		return shown
	}
	if verb == "plan" || verb == "balance" {
		return w.plan(verb == "balance", a)
	}
	return w.answer(w.step(w.command(verb, name, a)))
}

// step sends a command through its encoding, and checks that a refusal or a dry
// run changed nothing and that a snapshot gives the same state back.
func (w *world) step(c Command) Result {
	w.n++
	c.At, c.Seed = w.n, [16]byte{byte(w.n), byte(w.n >> 8)}
	b, err := c.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	decoded, err := DecodeCommand(b)
	if err != nil {
		w.t.Fatal(err)
	}
	before := w.s.Snapshot()
	restored, err := Restore(before)
	if err != nil {
		w.t.Fatal(err)
	}
	r := w.s.Step(decoded)
	if r.Refused != nil && !bytes.Equal(before, w.s.Snapshot()) {
		w.t.Fatalf("refused command %s changed the state", b)
	}
	again := restored.Step(decoded)
	if !bytes.Equal(again.Encode(), r.Encode()) || !bytes.Equal(restored.Snapshot(), w.s.Snapshot()) {
		w.t.Fatalf("command %s steps otherwise after a restore", b)
	}
	back, err := DecodeResult(r.Encode())
	if err != nil {
		w.t.Fatal(err)
	}
	return back
}

func (w *world) command(verb, name string, a args) Command {
	dry := a.one("dry") != ""
	id := model.TopicID{0xff}
	if t, ok := w.s.names[name]; ok {
		id = t.ID
	}
	switch verb {
	case "node":
		n, _ := strconv.Atoi(name)
		return Command{RegisterNode: &RegisterNode{Node: Node{ID: model.NodeID(n), Host: a.one("host"), Port: 9092, Rack: a.one("rack"), Disk: a.one("disk"), Version: a.one("version"), Level: Level(a.number("level", int64(LevelBuild)))}, ClusterID: a.one("cluster"), Founders: nodeList(a.list("founders"))}}
	case "create":
		c := &CreateTopics{DryRun: dry}
		for _, n := range strings.Split(name, ",") {
			c.Topics = append(c.Topics, NewTopic{Name: n, Partitions: int32(a.number("p", 1)), Replication: int16(a.number("rf", 1)),
				Internal: a.one("internal") != "", Assignments: assignment(a), Overrides: a.pairs("conf")})
		}
		return Command{CreateTopics: c}
	case "delete":
		return Command{DeleteTopics: &DeleteTopics{IDs: []model.TopicID{id}}}
	case "grow":
		return Command{CreatePartitions: &CreatePartitions{ID: id, Count: int32(a.number("p", 1)), Assignments: assignment(a), DryRun: dry}}
	case "config":
		rev := uint64(a.number("rev", -1))
		if t, ok := w.s.names[name]; ok && a.one("rev") == "" {
			rev = t.Revision
		}
		return Command{SetTopicConfigs: &SetTopicConfigs{ID: id, Revision: rev, Set: a.pairs("set"), Delete: a.list("del")}}
	case "cluster":
		return Command{SetClusterConfigs: &SetClusterConfigs{Node: model.NodeID(a.number("node", -1)), Revision: uint64(a.number("rev", int64(w.s.configRevision))), Set: a.pairs("set"), Delete: a.list("del")}}
	case "producers":
		return Command{AllocateProducers: &AllocateProducers{Count: a.number("n", 0)}}
	}
	if c, ok := featureCommand(verb, name, a); ok {
		return c
	}
	if c, ok := w.moveCommand(verb, name, a); ok {
		return c
	}
	return w.scriptCommand(verb, name, a, dry)
}

// moveCommand reads decommission 1, move a/0:1,2;a/1:0 and move a/0 cancel=1, and moved a/0 rev=7.
func (w *world) moveCommand(verb, name string, a args) (Command, bool) {
	switch verb {
	case "move":
		c := &ReassignPartitions{}
		for _, text := range strings.Split(name, ";") {
			where, nodes, _ := strings.Cut(text, ":")
			r := Reassignment{Partition: w.partitionID(where), Cancel: a.one("cancel") != ""}
			if nodes != "" {
				r.Replicas = nodeList(strings.Split(nodes, ","))
			}
			c.Partitions = append(c.Partitions, r)
		}
		return Command{ReassignPartitions: c}, true
	case "forget":
		f := &ForgetLost{Nodes: nodeList(strings.Split(name, ",")), BeginEmpty: a.one("begin") != ""}
		for _, text := range a.list("dead") { // SHARD:NODE, of birth 0
			var d DeadSeat
			if _, err := fmt.Sscanf(text, "%d:%d", &d.Shard, &d.Node); err != nil {
				w.t.Fatal(err)
			}
			f.Dead = append(f.Dead, d)
		}
		return Command{ForgetLost: f}, true
	case "decommission", "recommission":
		n, _ := strconv.Atoi(name)
		if verb == "decommission" {
			return Command{DecommissionNode: &DecommissionNode{Node: model.NodeID(n)}}, true
		}
		return Command{RecommissionNode: &RecommissionNode{Node: model.NodeID(n)}}, true
	case "maintenance":
		n, _ := strconv.Atoi(name)
		return Command{SetMaintenance: &SetMaintenance{Node: model.NodeID(n), On: a.one("off") == ""}}, true
	case "join":
		n, err := strconv.Atoi(name)
		if err != nil {
			n = int(model.NoNode)
		}
		return Command{JoinNode: &JoinNode{Renew: a.one("renew") != "", Node: Node{ID: model.NodeID(n), Host: "h", RPC: a.one("rpc"), Disk: a.one("disk"), Birth: model.Birth(a.number("birth", 0)), Level: Level(a.number("level", int64(LevelBuild)))}}}, true
	case "leave":
		n, _ := strconv.Atoi(name)
		return Command{RemoveNode: &RemoveNode{Node: model.NodeID(n)}}, true
	case "renew":
		return Command{RenewReplica: &RenewReplica{Partition: w.partitionID(name), Node: model.NodeID(a.number("node", 0)), Birth: model.Birth(a.number("birth", 0))}}, true
	case "moved":
		id := w.partitionID(name)
		_, p, _ := w.s.partition(id)
		rev := int64(0)
		if p.Move != nil {
			rev = int64(p.Move.Revision)
		}
		return Command{Moved: &Moved{Partition: id, Revision: uint64(a.number("rev", rev))}}, true
	}
	return Command{}, false
}

func (w *world) partitionID(text string) model.PartitionID {
	topic, index, _ := strings.Cut(text, "/")
	i, _ := strconv.Atoi(index)
	id := model.TopicID{0xff}
	if t, ok := w.s.names[topic]; ok {
		id = t.ID
	}
	return model.PartitionID{Topic: id, Index: int32(i)}
}

func nodeList(texts []string) (ids []model.NodeID) {
	for _, text := range texts {
		n, _ := strconv.Atoi(text)
		ids = append(ids, model.NodeID(n))
	}
	return ids
}

func (w *world) scriptCommand(verb, name string, a args, dry bool) Command {
	expect := model.Activation(0)
	if sc, ok := w.s.scripts[name]; ok {
		expect = sc.Activation
	}
	expect = model.Activation(a.number("expect", int64(expect)))
	switch verb {
	case "deploy":
		sc := Script{Name: name, Digest: model.Digest{byte(a.number("digest", 1))}, Mode: Mode(a.one("mode")), Inputs: a.list("in"),
			AllowMissing: a.one("missing") != "", Keep: a.one("keep") != "", ByKey: a.one("bykey") != "", Starts: w.starts(a)}
		if sc.Mode == "" {
			sc.Mode = ModeAsync
		}
		for _, o := range a.list("out") {
			sc.Outputs = append(sc.Outputs, Output{Topic: o, DLQ: strings.HasSuffix(o, ".dlq"), Overrides: a.pairs("conf")})
		}
		return Command{DeployScript: &DeployScript{Script: sc, Expect: expect, DryRun: dry}}
	case "pause", "resume":
		return Command{PauseScript: &PauseScript{Name: name, Paused: verb == "pause"}}
	case "seek":
		return Command{SeekScript: &SeekScript{Name: name, Expect: expect, Starts: w.starts(a)}}
	case "remove":
		return Command{RemoveScript: &RemoveScript{Name: name}}
	case "drop":
		return Command{DropScript: &DropScript{Name: name, Activation: expect}}
	}
	return Command{}
}

// starts reads start=topic/index@offset.
func (w *world) starts(a args) (starts []Start) {
	for _, text := range a["start"] {
		where, at, _ := strings.Cut(text, "@")
		topic, index, _ := strings.Cut(where, "/")
		i, _ := strconv.Atoi(index)
		o, _ := strconv.Atoi(at)
		starts = append(starts, Start{Parent: model.PartitionID{Topic: w.s.names[topic].ID, Index: int32(i)}, Offset: model.Offset(o)})
	}
	return starts
}

// assignment reads at=0:1;1:0, a list of replicas per partition.
func assignment(a args) (rows [][]model.NodeID) {
	for _, row := range strings.FieldsFunc(a.one("at"), func(r rune) bool { return r == ';' }) {
		var ids []model.NodeID
		for _, id := range strings.Split(row, ":") {
			n, _ := strconv.Atoi(id)
			ids = append(ids, model.NodeID(n))
		}
		rows = append(rows, ids)
	}
	return rows
}

func (w *world) answer(r Result) string {
	var b strings.Builder
	if r.Refused != nil {
		return "refused: " + r.Refused.Text + "\n"
	}
	for _, t := range r.Topics {
		if t.Refused != nil {
			fmt.Fprintf(&b, "refused: %s\n", t.Refused.Text)
		} else {
			b.WriteString(topicLine(t.Topic))
		}
	}
	for _, p := range r.Partitions {
		if p.Refused != nil {
			fmt.Fprintf(&b, "refused: %s\n", p.Refused.Text)
		} else {
			fmt.Fprintf(&b, "partition %s\n", partitionText(p.Partition))
		}
	}
	if r.Script != nil {
		b.WriteString(w.scriptLine(r.Script))
	}
	if r.Node != nil {
		fmt.Fprintf(&b, "node %d.%d\n", r.Node.ID, r.Node.Birth)
	}
	if r.ClusterID != "" {
		fmt.Fprintf(&b, "cluster %s\n", r.ClusterID)
	}
	if r.Count > 0 {
		fmt.Fprintf(&b, "producers %d..%d\n", r.FirstID, int64(r.FirstID)+r.Count-1)
	}
	if f := r.Forgotten; f != nil {
		fmt.Fprintf(&b, "fewer%v begun%v lost%v\n", w.names(f.Fewer), w.names(f.Begun), w.names(f.Lost))
	}
	if len(r.Reactivated) > 0 {
		fmt.Fprintf(&b, "reactivated %s\n", strings.Join(r.Reactivated, ","))
	}
	fmt.Fprintf(&b, "v%d\n", r.Version)
	return b.String()
}

func (w *world) names(all []model.PartitionID) (texts []string) {
	for _, id := range all {
		texts = append(texts, fmt.Sprintf("%s/%d", w.s.topics[id.Topic].Name, id.Index))
	}
	return texts
}

// partitionText gives shard:[node.birth ...], births where they are not 0, and the move.
func partitionText(p *Partition) string {
	seats := func(all []Seat) string {
		var texts []string
		for _, s := range all {
			text := fmt.Sprint(s.Node)
			if s.Birth > 0 {
				text += fmt.Sprintf(".%d", s.Birth)
			}
			texts = append(texts, text)
		}
		return "[" + strings.Join(texts, " ") + "]"
	}
	text := fmt.Sprintf("%d:%s", p.Shard, seats(p.Seats()[:len(p.Replicas)]))
	if p.Move == nil {
		return text
	}
	text += "->" + seats(p.Move.Seats())
	if p.Move.In {
		text += fmt.Sprintf("in, leaving%v", p.Move.Leaving)
	}
	return fmt.Sprintf("%s@%d", text, p.Move.Revision)
}

func topicLine(t *Topic) string {
	var parts, conf []string
	for _, p := range t.Partitions {
		parts = append(parts, partitionText(&p))
	}
	for k, v := range t.Overrides {
		conf = append(conf, k+":"+v)
	}
	sort.Strings(conf)
	line := fmt.Sprintf("topic %s id=%s %s", t.Name, hex.EncodeToString(t.ID[:2]), strings.Join(parts, " "))
	if len(conf) > 0 {
		line += " conf=" + strings.Join(conf, ",")
	}
	if t.MadeFor != 0 {
		line += fmt.Sprintf(" madefor=%d", t.MadeFor)
	}
	if t.Internal {
		line += " internal"
	}
	return fmt.Sprintf("%s rev=%d\n", line, t.Revision)
}

func (w *world) scriptLine(sc *Script) string {
	var outs, starts []string
	for _, o := range sc.Outputs {
		outs = append(outs, fmt.Sprintf("%s*%d", o.Topic, o.Partitions))
	}
	for _, st := range sc.Starts {
		name := "?"
		if t, ok := w.s.topics[st.Parent.Topic]; ok {
			name = t.Name
		}
		starts = append(starts, fmt.Sprintf("%s/%d@%d", name, st.Parent.Index, st.Offset))
	}
	line := fmt.Sprintf("script %s id=%d activation=%d keepfrom=%d %s->%s", sc.Name, sc.ID, sc.Activation, sc.KeepFrom, strings.Join(sc.Inputs, ","), strings.Join(outs, ","))
	if len(starts) > 0 {
		line += " starts=" + strings.Join(starts, ",")
	}
	for _, f := range []struct {
		on   bool
		text string
	}{{sc.Keep, " keep"}, {sc.Paused, " paused"}, {sc.Removing, " removing"}, {sc.Fault != "", " fault=" + strconv.Quote(sc.Fault)}} {
		if f.on {
			line += f.text
		}
	}
	return line + "\n"
}

func (w *world) show(verb, name string) (string, bool) {
	var b strings.Builder
	switch verb {
	case "topics":
		for _, t := range w.s.Topics() {
			b.WriteString(topicLine(t))
		}
	case "scripts":
		for _, sc := range w.s.Scripts() {
			b.WriteString(w.scriptLine(sc))
		}
	case "nodes":
		for _, n := range w.s.Nodes() {
			name := fmt.Sprint(n.ID)
			if n.Birth > 0 {
				name += fmt.Sprintf(".%d", n.Birth)
			}
			line := strings.TrimSpace(fmt.Sprintf("node %s %s", name, n.State))
			if n.Version != "" {
				line += fmt.Sprintf(" build=%s level=%d", n.Version, n.Level)
			}
			b.WriteString(line + "\n")
		}
	case "configs":
		keys := []string{}
		for k, v := range w.s.clusterConfigs {
			keys = append(keys, "all "+k+"="+v)
		}
		for n, m := range w.s.nodeConfigs {
			for k, v := range m {
				keys = append(keys, fmt.Sprintf("node %d %s=%s", n, k, v))
			}
		}
		if len(keys) == 0 {
			keys = append(keys, "none")
		}
		slices.Sort(keys)
		b.WriteString(strings.Join(keys, "\n") + "\n")
	default:
		return "", false
	}
	return b.String(), true
}
