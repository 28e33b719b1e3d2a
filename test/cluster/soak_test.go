//go:build soak

package cluster

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/millrace-io/millrace/test/node"
)

const (
	soakTime = 10 * time.Minute
	// legTime is how long a cluster's history grows before it is judged.
	legTime = 2 * time.Minute
)

// TestSoak strikes three brokers with one fault after the other under load, while some
// partitions move, and judges what is left. MILLRACE_SOAK says for how long, MILLRACE_SEED
// which history, MILLRACE_FAULT what alone strikes, MILLRACE_GAPS what promises of time
// are multiplied by: 0 judges none.
func TestSoak(t *testing.T) {
	whole := soakTime
	if text := os.Getenv("MILLRACE_SOAK"); text != "" {
		var err error
		if whole, err = time.ParseDuration(text); err != nil {
			t.Fatalf("MILLRACE_SOAK: %v", err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("MILLRACE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("MILLRACE_SEED: %v", err)
		}
	}
	for end := time.Now().Add(whole); time.Now().Before(end); seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { leg(t, seed, min(legTime, time.Until(end))) })
		if t.Failed() {
			return // the seed is in its name
		}
	}
}

// variant is how a leg's brokers run; it follows from the seed.
type variant struct {
	netted bool // in network namespaces
	short  bool // logs so short that whoever was away needs the files
	late   bool // flushed after a minute: what crashes leave is in the journal alone
	copied bool // a script copies the topic
}

func (v variant) options(keep string) node.Options {
	o := node.Options{Keep: keep, Sidecar: v.copied}
	if v.short {
		o.Args = []string{"--set", "snapshot_entries=100", "--set", "snapshot_bytes=1M", "--set", "journal_file_bytes=4M", "--set", "journal_bytes_max=32M"}
	}
	if v.late {
		o.Env = []string{"MILLRACE_FLUSH_DELAY=1m"}
	}
	return o
}

// faults are what may strike a leg.
func (v variant) faults(t *testing.T) []fault {
	all := slices.Concat(nodeFaults, proxyFaults)
	if v.netted {
		all = slices.Concat(nodeFaults, netFaults)
	}
	only := os.Getenv("MILLRACE_FAULT")
	if only == "" {
		return all
	}
	all = append(all, askedFor...)
	i := slices.IndexFunc(all, func(f fault) bool { return f.name == only })
	if i < 0 {
		t.Skipf("MILLRACE_FAULT: %q does not strike %+v", only, v)
	}
	return all[i : i+1]
}

// leg is one cluster's life: a topic that stays where it is, and one that moves.
func leg(t *testing.T, seed uint64, long time.Duration) {
	v := variant{netted: seed%2 == 1 && os.Geteuid() == 0, short: seed/2%2 == 1, late: seed/4%2 == 1, copied: seed/8%2 == 1}
	t.Logf("%+v", v)
	faults := v.faults(t)
	s := newScene(t, seed, v.netted, v.options(t.ArtifactDir()))
	s.factor = gapFactor(t, 1)
	s.hold = func() { s.upTo(6 * time.Second) }
	const staying, moving = 6, 3
	l := s.start(staying)
	s.createTopic(restless, moving, 2)
	if v.copied {
		cli(t, s.c.Nodes[0], "wasm", "deploy", "--wait", script(t, "name: copy\ninputs: ["+topic+"]\nstart: start\n", "export default () => true;"))
	}
	other := startLoad(t, s.c, restless, moving, 0) // it has one replica at times
	other.period("all the time", 0)
	m := startChurn(s.c, seed, moving)
	t.Cleanup(m.stop)
	struck := map[string]int{}
	for end := time.Now().Add(long); time.Now().Before(end); {
		f := faults[s.r.IntN(len(faults))]
		s.strike(f, l)
		struck[f.name]++
	}
	m.stop()
	m.settle(t)
	other.more(t, 1)
	for _, l := range []*load{l, other} {
		l.stop(t, s.c)
		l.check(t, s.c, "the end")
	}
	s.judgeEach(l, other)
	if v.copied {
		s.checkCopy(l)
	}
	t.Logf("%+v: %s, %s", v, fmt.Sprint(struck), m)
}

// judgeEach has the topics judged as the others give them while one node after the other
// is stopped: each replica leads once.
func (s *scene) judgeEach(loads ...*load) {
	s.t.Helper()
	for i, n := range s.c.Nodes {
		n.Stop()
		for _, l := range loads {
			l.check(s.t, s.c, fmt.Sprintf("all but node %d", i))
		}
		s.c.Start(i)
	}
}

// checkCopy holds what the script has made of the topic against it: each record once, in
// order.
func (s *scene) checkCopy(l *load) {
	s.t.Helper()
	child := &load{topic: topic + ".copy", partitions: l.partitions}
	want := l.logs(s.t, s.c)
	await(s.t, "the script to come to the end", func() error {
		for p, end := range child.ends(s.t, s.c) {
			if end < int64(len(want[p])) {
				return fmt.Errorf("partition %d of the copy has %d of %d", p, end, len(want[p]))
			}
		}
		return nil
	})
	for p, log := range child.logs(s.t, s.c) {
		if len(log) != len(want[p]) {
			s.t.Errorf("partition %d of the copy has %d records, not %d", p, len(log), len(want[p]))
		}
		for i := range log[:min(len(log), len(want[p]))] {
			if !bytes.Equal(log[i].Value, want[p][i].Value) {
				s.t.Errorf("partition %d of the copy has at %d %.40q, not %.40q", p, log[i].Offset, log[i].Value, want[p][i].Value)
				break
			}
		}
	}
}
