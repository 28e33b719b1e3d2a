package transform

import (
	"fmt"
	"testing"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/pacemaker"
	"github.com/millrace-io/millrace/test/node"
)

// TestBadScripts runs scripts that do what none should: each meets its stated
// policy, the broker and its other topics do not notice.
func TestBadScripts(t *testing.T) {
	t.Parallel()
	r := newRig(t, node.Options{Sidecar: true})
	r.topic("plain")
	pid := r.Node.Pid()
	stop := r.plainAcks("plain")
	for name, try := range map[string]func(*rig, string){
		"loop": (*rig).loops, "allocate": (*rig).allocates, "panic": (*rig).panics, "garbage": (*rig).answersGarbage, "throw": (*rig).throws,
	} {
		r.topic(name)
		try(r, name)
	}
	acks, worst := stop()
	t.Logf("%d plain acks, the slowest took %s", acks, worst)
	if worst > calm {
		t.Errorf("an ack of a topic without scripts took %s", worst)
	}
	select {
	case <-r.Node.Done():
		t.Fatalf("the broker ended: %v", r.Node.Status())
	default:
	}
	if r.Node.Pid() != pid {
		t.Error("the broker is another process")
	}
}

// bad is the manifest of a bad guest.
func bad(role, policy, limits string) string {
	return fmt.Sprintf("inputs: [%s]\nstart: start\nenv: { ROLE: %s }\non_error: %s\nlimits: %s\n", role, role, policy, limits)
}

// loops: every record is late; each is a dead letter, in order.
func (r *rig) loops(name string) {
	r.T.Helper()
	r.put("x-"+name, "go", bad(name, "{ retry: 0, then: dlq }", "{ batch_time: 10ms }"))
	r.write(name, 0, 20)
	r.took("x-"+name, 20)
	r.lettersAre(name, "deadline", 20)
}

// allocates: every record meets the memory's limit; each is skipped.
func (r *rig) allocates(name string) {
	r.T.Helper()
	r.put("x-"+name, "js", bad(name, "{ retry: 0, then: skip }", "{ memory: 32MiB, batch_time: 5s }"))
	r.write(name, 0, 5)
	p := r.took("x-"+name, 5)
	if got := r.all(name + ".x-" + name); len(got) != 0 || p.LastError == nil {
		r.T.Errorf("%s: %d records came out, last error %+v", name, len(got), p.LastError)
	}
}

// panics: one of 1,000 records traps; all others come out, in order.
func (r *rig) panics(name string) {
	r.T.Helper()
	r.put("x-"+name, "go", bad(name, "{ retry: 1, then: dlq }", "{ batch_time: 5s }"))
	r.write(name, 0, 3000)
	r.took("x-"+name, 3000)
	letters := r.lettersAre(name, "", 3)
	r.othersAre(name, 3000, letters)
}

// answersGarbage: every kind of garbage is refused; nothing of it is written.
func (r *rig) answersGarbage(name string) {
	r.T.Helper()
	r.put("x-"+name, "garbage", bad(name, "{ retry: 0, then: dlq }", "{ batch_time: 5s }"))
	r.write(name, 0, 50)
	r.took("x-"+name, 50)
	letters := r.lettersAre(name, "garbage", 50)
	r.othersAre(name, 50, letters)
}

// throws: one record of 100,000 stops the script before it; a version that does
// not throw goes on from there, so that nothing is lost or twice.
func (r *rig) throws(name string) {
	r.T.Helper()
	const records, at = 100_500, 99_999
	r.put("x-"+name, "js", bad(name, "{ retry: 2, then: stop }", "{ batch_time: 5s }"))
	r.write(name, 0, records)
	p := r.await("x-"+name, "stopped", func(p api.ScriptPartition) bool { return p.State == api.StateStopped })
	if p.SourceOffset != at || p.LastError == nil || p.LastError.Offset != at {
		r.T.Errorf("%s: stopped at %d, want %d; last error %+v", name, p.SourceOffset, at, p.LastError)
	}
	r.othersAre(name, at, nil)
	r.put("x-"+name, "js", "inputs: ["+name+"]\nstart: start\nenv: { ROLE: pass }\non_error: stop\n")
	r.took("x-"+name, records)
	r.othersAre(name, records, nil)
}

// lettersAre gives the offsets of a script's dead letters.
func (r *rig) lettersAre(name, kind string, want int) map[int64]bool {
	r.T.Helper()
	offsets, last := map[int64]bool{}, int64(-1)
	for _, letter := range r.all(name + ".x-" + name + ".dlq") {
		var offset int64
		var text string
		for _, h := range letter.Headers {
			switch h.Key {
			case pacemaker.HeaderOffset:
				if _, err := fmt.Sscan(string(h.Value), &offset); err != nil {
					r.T.Error(err)
				}
			case pacemaker.HeaderError:
				text = string(h.Value)
			}
		}
		if offset <= last || string(letter.Value) != fmt.Sprint(offset) {
			r.T.Errorf("%s: the letter of record %d, %q, comes after that of %d", name, offset, letter.Value, last)
		}
		if len(text) < len(kind) || text[:len(kind)] != kind {
			r.T.Errorf("%s: the letter of record %d says %q, want %s", name, offset, text, kind)
		}
		last, offsets[offset] = offset, true
	}
	if len(offsets) != want {
		r.T.Errorf("%s: %d dead letters, want %d", name, len(offsets), want)
	}
	return offsets
}

// othersAre checks that all records but some came out, in order and once.
func (r *rig) othersAre(name string, records int, without map[int64]bool) {
	r.T.Helper()
	var want []int
	for n := range records {
		if !without[int64(n)] {
			want = append(want, n)
		}
	}
	got := r.all(name + ".x-" + name)
	if len(got) != len(want) {
		r.T.Errorf("%s: %d records came out, want %d", name, len(got), len(want))
		return
	}
	for i, rec := range got {
		if string(rec.Value) != fmt.Sprint(want[i]) {
			r.T.Errorf("%s: record %d is %q, want %d", name, i, rec.Value, want[i])
			return
		}
	}
}
