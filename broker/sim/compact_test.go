package sim

import (
	"fmt"
	"slices"
	"testing"

	"github.com/millrace-io/millrace/broker/model"
)

// keyedHistory is a log of keyed, whole and cleaned, with what clients know of it.
func keyedHistory() (p *place, whole, cleaned look) {
	p = &place{sent: map[string]bool{}, at: map[model.Offset]string{}, there: map[string]bool{}}
	whole = look{high: 60}
	for i := range 60 {
		name := fmt.Sprintf("numbered-%d.%d", i%2, i/2)
		key, tombstone := keyOf(name)
		whole.records = append(whole.records, full{model.Offset(i), key, name, tombstone, 0})
		p.sent[name], p.at[model.Offset(i)] = true, name
	}
	last := map[string]full{}
	newest(last, whole.records)
	cleaned = look{high: 60}
	for _, r := range whole.records {
		if r.offset >= 55 || last[r.key] == r { // the last segment is not cleaned
			cleaned.records = append(cleaned.records, r)
		}
	}
	return p, whole, cleaned
}

// lastOf finds the last record of a key that is a tombstone, or not.
func lastOf(l look, tombstone bool) int {
	last := map[string]full{}
	newest(last, l.records)
	return slices.IndexFunc(l.records, func(r full) bool { return r.tombstone == tombstone && last[r.key] == r })
}

// without is a replica that lacks a record.
func without(l look, i int) look {
	l.records = slices.Delete(slices.Clone(l.records), i, i+1)
	return l
}

// TestKeyedCheckerFails: cleaned and uncleaned replicas pass, and every way of spoiling one
// is found.
func TestKeyedCheckerFails(t *testing.T) {
	_, whole, cleaned := keyedHistory()
	value, tombstone := lastOf(cleaned, false), lastOf(cleaned, true)
	if value < 0 || tombstone < 0 || len(cleaned.records) > 30 {
		t.Fatalf("the history is not what it was: %d records, a value %d, a tombstone %d", len(cleaned.records), value, tombstone)
	}
	change := func(i int, f func(*full)) func(look) look {
		return func(l look) look {
			l.records = slices.Clone(l.records)
			f(&l.records[i])
			return l
		}
	}
	for name, spoil := range map[string]func(look) look{
		"a last value is lost":     func(l look) look { return without(l, value) },
		"a last tombstone is lost": func(l look) look { return without(l, tombstone) },
		"empty":                    func(l look) look { l.records = nil; return l },
		"renumbered":               change(value, func(r *full) { r.offset++ }),
		"another value":            change(value, func(r *full) { r.name = "numbered-0.0" }),
		"another key":              change(value, func(r *full) { r.key = "key" }),
		"revived":                  change(tombstone, func(r *full) { r.tombstone = false }),
		"at another time":          change(value, func(r *full) { r.time++ }),
		"cut off":                  func(l look) look { l.high--; l.records = l.records[:len(l.records)-1]; return l },
		"swapped": func(l look) look {
			return change(3, func(r *full) { *r = l.records[4] })(change(4, func(r *full) { *r = l.records[3] })(l))
		},
		"twice":           func(l look) look { l.records = slices.Insert(slices.Clone(l.records), 3, l.records[3]); return l },
		"another horizon": func(l look) look { l.horizon = 3; return l },
	} {
		if faults := wrongReplicas([]look{whole, cleaned, cleaned}, nil); len(faults) > 0 {
			t.Fatalf("right replicas are wrong: %q", faults)
		}
		if len(wrongReplicas([]look{whole, cleaned, spoil(cleaned)}, nil)) == 0 {
			t.Errorf("%s: nothing is found", name)
		}
	}
	gone := without(cleaned, tombstone)
	after := cleaned.records[tombstone].offset + 1
	whole.horizon, cleaned.horizon, gone.horizon = after, after, after
	if faults := wrongReplicas([]look{whole, cleaned, gone}, nil); len(faults) > 0 {
		t.Errorf("a tombstone that may go is missed: %q", faults)
	}
	if faults := wrongReplicas([]look{whole, cleaned, without(whole, int(after-1))}, nil); len(faults) == 0 {
		t.Error("a tombstone is gone, and what it superseded is not: nothing is found")
	}
}

// TestKeyedTruthCheckerFails: the same of what clients know, all replicas being alike.
func TestKeyedTruthCheckerFails(t *testing.T) {
	judge := func(p *place, l look) []string {
		last := map[string]full{}
		newest(last, p.records())
		newest(last, l.records)
		return append(wrongReplicas([]look{l, l, l}, p.records()), p.wrongKeyed(l, last)...)
	}
	p, whole, cleaned := keyedHistory()
	if faults := append(judge(p, whole), judge(p, cleaned)...); len(faults) > 0 {
		t.Fatalf("a right log is wrong: %q", faults)
	}
	value := lastOf(cleaned, false)
	of := cleaned.records[value]
	for name, spoil := range map[string]func(p *place, l *look){
		"a last value is lost":    func(_ *place, l *look) { *l = without(*l, value) },
		"nobody's":                func(p *place, l *look) { delete(p.sent, of.name) },
		"another was read there":  func(p *place, l *look) { p.at[of.offset] = "numbered-0.0" },
		"the wrong key":           func(_ *place, l *look) { l.records[value].key = "key" },
		"a value for a tombstone": func(_ *place, l *look) { l.records[value].tombstone = true },
		"out of order": func(p *place, l *look) {
			a, b := &l.records[len(l.records)-1], &l.records[len(l.records)-3] // of one producer
			a.name, b.name = b.name, a.name
			p.at = map[model.Offset]string{}
		},
		"acknowledged, and not there": func(p *place, l *look) {
			delete(p.at, of.offset)
			p.there[of.name] = true
			*l = without(*l, value)
		},
	} {
		p, _, cleaned := keyedHistory()
		cleaned.records = slices.Clone(cleaned.records)
		spoil(p, &cleaned)
		if len(judge(p, cleaned)) == 0 {
			t.Errorf("%s: nothing is found", name)
		}
	}
	p.there[of.name] = true
	if faults := judge(p, cleaned); len(faults) > 0 {
		t.Errorf("acknowledged without an offset, and there: %q", faults)
	}
	last := map[string]full{}
	newest(last, whole.records)
	if faults := wrongPassed(map[model.Offset]bool{of.offset: true}, last, 0); len(faults) == 0 {
		t.Error("a reader was not given the last of a key: nothing is found")
	}
	if faults := wrongPassed(map[model.Offset]bool{0: true, 1: true}, last, 0); len(faults) > 0 {
		t.Errorf("a reader was not given what is superseded: %q", faults)
	}
}

// TestCleanCheckerFails: one look of a replica's housekeeping.
func TestCleanCheckerFails(t *testing.T) {
	_, whole, cleaned := keyedHistory()
	value, tombstone := lastOf(cleaned, false), lastOf(cleaned, true)
	after := cleaned.records[tombstone].offset + 1
	for name, c := range map[string]struct {
		after   look
		horizon model.Offset
		wrong   bool
	}{
		"nothing to do":             {whole, 0, false},
		"cleaned":                   {cleaned, 0, false},
		"a tombstone":               {without(cleaned, tombstone), after, false},
		"a tombstone that stays":    {without(cleaned, tombstone), after - 1, true},
		"a last value":              {without(cleaned, value), 60, true},
		"all":                       {look{high: 60}, 60, true},
		"its beginning":             {look{start: 1, high: 60, records: cleaned.records}, 0, true},
		"what was not there":        {look{high: 60, records: append(slices.Clone(cleaned.records), full{offset: 61})}, 0, true},
		"what was elsewhere":        {look{high: 60, records: append([]full{{offset: 1, name: "numbered-0.0"}}, cleaned.records...)}, 0, true},
		"the end of it, renumbered": {look{high: 61, records: cleaned.records}, 0, true},
	} {
		before := whole
		before.horizon, before.ends = c.horizon, map[model.Offset]model.Offset{54: 56}
		if faults := wrongClean(before, c.after); (len(faults) > 0) != c.wrong {
			t.Errorf("%s: %q, wrong %v", name, faults, c.wrong)
		}
	}
}
