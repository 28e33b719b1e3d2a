package transform

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/millrace-io/millrace/pacemaker/check"
)

// Input is a parent topic of a scene.
type Input struct {
	Topic      string
	Partitions int32
	Configs    map[string]string
}

// Scene is one kind of script under test.
type Scene struct {
	Name    string
	Guest   string // go or js: the module of test/scripts
	Role    string // what the guest does
	Inputs  []Input
	Outputs []string // declared; none: one, "<input>.<name>"
	ByKey   bool
	OnError string // of the manifest
	Rate    int    // records a second into each input
	Keys    int    // how many keys the load has
	Grow    bool   // partitions are added to the first input
	Trim    bool   // the parent is trimmed behind the paused script
	Compact bool
}

// Scenes are those that issue and design name, for one broker at one time.
func Scenes() []Scene {
	in := func(topic string, n int32) []Input { return []Input{{Topic: topic, Partitions: n}} }
	compacted := map[string]string{
		"cleanup.policy": "compact", "segment.bytes": "16384", "min.cleanable.dirty.ratio": "0.01", "segment.ms": "2000",
	}
	return []Scene{
		{Name: "sieve", Guest: "go", Role: "filter", Inputs: in("grain", 2), OnError: "stop", Rate: 3000, Keys: 50, Grow: true},
		{Name: "sift", Guest: "js", Role: "filter", Inputs: in("gravel", 2), OnError: "stop", Rate: 2000, Keys: 50},
		{Name: "fork", Guest: "js", Role: "fan", Inputs: in("river", 2), Outputs: []string{"left", "right"}, OnError: "stop", Rate: 300, Keys: 50, Grow: true},
		{Name: "sort", Guest: "go", Role: "rekey", Inputs: in("mail", 2), ByKey: true, OnError: "stop", Rate: 300, Keys: 50, Grow: true},
		{Name: "late", Guest: "go", Role: "late", Inputs: in("jobs", 2), OnError: "{ retry: 0, then: dlq }", Rate: 150, Keys: 50},
		{
			Name: "join", Guest: "js", Role: "late", Inputs: []Input{{Topic: "east", Partitions: 1}, {Topic: "west", Partitions: 2}},
			Outputs: []string{"both"}, OnError: "{ retry: 1, then: dlq }", Rate: 100, Keys: 50,
		},
		{
			Name: "tidy", Guest: "go", Role: "fan", Inputs: []Input{{Topic: "table", Partitions: 1, Configs: compacted}},
			Outputs: []string{"rows", "copies"}, OnError: "stop", Rate: 400, Keys: 700, Compact: true,
		},
		{Name: "gap", Guest: "js", Role: "fan", Inputs: in("ditch", 2), Outputs: []string{"near", "far"}, OnError: "stop", Rate: 200, Keys: 50, Trim: true},
	}
}

// outputs gives the children's names in the order of the output index.
func (s *Scene) outputs() []string {
	if len(s.Outputs) > 0 {
		return s.Outputs
	}
	return []string{s.Inputs[0].Topic + "." + s.Name}
}

// letters gives the topic of dead letters; empty when there is none.
func (s *Scene) letters() string {
	if !bytes.Contains([]byte(s.OnError), []byte("dlq")) {
		return ""
	}
	return s.outputs()[0] + ".dlq"
}

// manifest is the scene's transform.yaml under a version.
func (s *Scene) manifest(version int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "name: %s\ninputs: [", s.Name)
	for _, in := range s.Inputs {
		fmt.Fprintf(&b, "%s, ", in.Topic)
	}
	fmt.Fprint(&b, "]\n")
	if len(s.Outputs) > 0 {
		fmt.Fprint(&b, "outputs: [")
		for _, o := range s.Outputs {
			fmt.Fprintf(&b, "%s, ", o)
		}
		fmt.Fprint(&b, "]\n")
	}
	if s.ByKey {
		fmt.Fprint(&b, "partitioning: key\n")
	}
	fmt.Fprintf(&b, "start: start\non_error: %s\nlimits: { batch_time: %s }\n", s.OnError, s.batchTime())
	fmt.Fprintf(&b, "env: { ROLE: %s, VERSION: \"%d\" }\n", s.Role, version)
	return b.Bytes()
}

// batchTime is short where records are late on purpose: every one costs it
// several times.
func (s *Scene) batchTime() string {
	if s.Role == "late" {
		return "40ms"
	}
	return "5s"
}

// do is the script as a function, under a version and with the partitions that
// its outputs have.
func (s *Scene) do(version int, partitions int32) check.Func {
	return func(r check.Record) ([]check.Out, bool) {
		n, err := strconv.ParseUint(string(r.Value), 10, 32)
		if err != nil {
			return nil, false
		}
		h := hash(uint32(n))
		out := func(output int) check.Out {
			return check.Out{
				Output: output, Partition: -1, Key: r.Key, Headers: r.Headers,
				Value: fmt.Appendf(nil, "%d:%d:%s", version, r.Offset, r.Value),
			}
		}
		switch s.Role {
		case "filter":
			if h%1000 != 0 {
				return nil, true
			}
		case "fan":
			outs := []check.Out{out(0)}
			for range h % 3 {
				outs = append(outs, out(1))
			}
			return outs, true
		case "rekey":
			o := out(0)
			o.Key = fmt.Appendf(nil, "r%d", h%23)
			o.Partition = check.PartitionOf(o.Key, partitions)
			return []check.Out{o}, true
		case "late":
			return []check.Out{out(0)}, h%400 != 0
		}
		return []check.Out{out(0)}, true
	}
}

// hash is the guests' too.
func hash(n uint32) uint32 { return n * 2654435761 >> 8 }

// StartArgs makes a broker look often for what compaction makes due.
var StartArgs = []string{"--set", "housekeep_every=200ms"}
