package transform

import (
	"fmt"
	"slices"
	"testing"

	"github.com/millrace-io/millrace/pacemaker"
	"github.com/millrace-io/millrace/pacemaker/check"
)

const (
	madeRecords = 3000
	madeTurn    = 1500 // where the second version takes over
)

// made plays a scene by the book, without a broker: two versions over one parent
// partition, and what they leave.
func made(s Scene) *history {
	at := tp{s.Inputs[0].Topic, 0}
	h := &history{
		scene: &s, parents: map[tp][]check.Record{},
		versions: []*version{{number: 1, after: 0, routes: 2}, {number: 2, after: 7, routes: 2}},
	}
	for range s.outputs() {
		h.outputs = append(h.outputs, make([][]check.Record, 2))
	}
	if s.letters() != "" {
		h.letters = make([][]check.Record, 2)
	}
	for n := range madeRecords {
		r := check.Record{
			Offset: int64(n), Timestamp: int64(1000 + n), Key: []byte("k"), Value: fmt.Appendf(nil, "%d", n),
			Headers: []check.Header{{Key: fromHeader, Value: fmt.Appendf(nil, "%s/0", at.topic)}},
		}
		h.parents[at] = append(h.parents[at], r)
		v := h.versions[0]
		if n >= madeTurn {
			v = h.versions[1]
		}
		h.take(v, r)
	}
	return h
}

// take leaves what a version makes of a record.
func (h *history) take(v *version, r check.Record) {
	outs, ok := h.scene.do(v.number, v.routes)(r)
	if !ok {
		letter := r
		letter.Headers = append(slices.Clone(r.Headers),
			check.Header{Key: pacemaker.HeaderActivation, Value: fmt.Append(nil, v.after+1)},
			check.Header{Key: pacemaker.HeaderOffset, Value: fmt.Append(nil, r.Offset)})
		h.letters[0] = append(h.letters[0], letter)
		return
	}
	for _, o := range outs {
		child := &h.outputs[o.Output][max(o.Partition, 0)]
		*child = append(*child, check.Record{
			Offset: int64(len(*child)), Timestamp: r.Timestamp, Key: o.Key, Value: o.Value, Headers: o.Headers,
		})
	}
}

func (h *history) judge() error {
	job, err := h.job()
	if err == nil {
		_, err = job.Run()
	}
	return err
}

// TestJudgeNotices gives the judge what broken compare-and-sets leave behind. It
// must pass what is right, and nothing else.
func TestJudgeNotices(t *testing.T) {
	harm := map[string]func([]check.Record) []check.Record{
		"lost":          func(c []check.Record) []check.Record { return slices.Delete(c, len(c)/2, len(c)/2+1) },
		"lost at first": func(c []check.Record) []check.Record { return c[1:] },
		"lost at last":  func(c []check.Record) []check.Record { return c[:len(c)-1] },
		"twice":         func(c []check.Record) []check.Record { return slices.Insert(c, len(c)/3, c[len(c)/3]) },
		"range twice": func(c []check.Record) []check.Record {
			return slices.Insert(c, len(c)/2, slices.Clone(c[len(c)/4:len(c)/2])...)
		},
		"range lost": func(c []check.Record) []check.Record { return slices.Delete(c, len(c)/4, len(c)/4+2) },
		"range again at the end": func(c []check.Record) []check.Record {
			return append(c, slices.Clone(c[len(c)-2:])...)
		},
		"out of order": func(c []check.Record) []check.Record {
			i, j := 0, len(c)-1 // neighbours may be copies
			c[i], c[j] = c[j], c[i]
			return c
		},
		"another value": func(c []check.Record) []check.Record {
			c[len(c)/2].Value = []byte("1:0:0")
			return c
		},
		"another time": func(c []check.Record) []check.Record {
			c[len(c)/2].Timestamp++
			return c
		},
	}
	for _, s := range Scenes() {
		if err := made(s).judge(); err != nil {
			t.Errorf("%s: by the book, yet: %v", s.Name, err)
		}
		for name, do := range harm {
			h := made(s)
			if s.Compact {
				h.there = map[tp]map[int64]bool{{s.Inputs[0].Topic, 0}: allOf(madeRecords)}
			}
			last := len(h.outputs) - 1
			h.outputs[last][0] = do(h.outputs[last][0])
			if err := h.judge(); err == nil {
				t.Errorf("%s: a child with a record %s goes unnoticed", s.Name, name)
			}
			if h := made(s); h.letters != nil && name != "another value" {
				if h.letters[0] = do(h.letters[0]); h.judge() == nil {
					t.Errorf("%s: a dead letter %s goes unnoticed", s.Name, name)
				}
			}
		}
	}
}

func allOf(n int64) map[int64]bool {
	all := map[int64]bool{}
	for o := range n {
		all[o] = true
	}
	return all
}

// TestJudgeNoticesVersions: two versions that overlap, or leave a hole between
// them, and a record that is both an output and a dead letter.
func TestJudgeNoticesVersions(t *testing.T) {
	for _, s := range Scenes() {
		h := made(s)
		at := tp{s.Inputs[0].Topic, 0}
		if s.Compact {
			h.there = map[tp]map[int64]bool{at: allOf(madeRecords)}
		}
		again := 20
		if s.Role == "filter" {
			again = 1200 // far enough for a sieve to show it
		}
		for n := madeTurn; n < madeTurn+again; n++ {
			h.takeFirst(h.parents[at][n])
		}
		if h.judge() == nil {
			t.Errorf("%s: two versions took the same records, and it goes unnoticed", s.Name)
		}
		if h := made(s); h.letters != nil {
			bad := slices.IndexFunc(h.parents[at], func(r check.Record) bool { _, ok := h.scene.do(1, 2)(r); return !ok })
			v := &version{number: 1, routes: 2}
			r := h.parents[at][bad]
			h.outputs[0][0] = slices.Insert(h.outputs[0][0], bad, check.Record{
				Timestamp: r.Timestamp, Key: r.Key, Headers: r.Headers, Value: fmt.Appendf(nil, "%d:%d:%s", v.number, r.Offset, r.Value),
			})
			if h.judge() == nil {
				t.Errorf("%s: record %d is an output and a dead letter, and it goes unnoticed", s.Name, bad)
			}
		}
	}
}

// takeFirst has the first version take a record too, in its place in the child.
func (h *history) takeFirst(r check.Record) {
	outs, ok := h.scene.do(1, 2)(r)
	if !ok {
		return
	}
	for _, o := range outs {
		child := &h.outputs[o.Output][max(o.Partition, 0)]
		i := slices.IndexFunc(*child, func(c check.Record) bool { m, err := markOf(c); return err == nil && m.version == 2 })
		*child = slices.Insert(*child, max(i, 0), check.Record{Timestamp: r.Timestamp, Key: o.Key, Value: o.Value, Headers: o.Headers})
	}
}
