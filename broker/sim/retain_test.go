package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/segment"
)

// TestTrimmedCheckerFails: a log that begins where it may passes, and every way of having
// lost more is found.
func TestTrimmedCheckerFails(t *testing.T) {
	for name, c := range map[string]struct {
		start model.Offset
		spoil func([]read) []read
		wrong bool
	}{
		"whole":                      {0, func(l []read) []read { return l }, false},
		"its beginning is gone":      {5, func(l []read) []read { return l[5:] }, false},
		"all of it is gone":          {13, func(l []read) []read { return nil }, false},
		"more than that":             {5, func(l []read) []read { return l[6:] }, true},
		"less than that":             {5, func(l []read) []read { return l[4:] }, true},
		"a hole behind":              {5, func(l []read) []read { return slices.Delete(l[5:], 2, 3) }, true},
		"its end too":                {5, func(l []read) []read { return l[5 : len(l)-2] }, true},
		"what has no offset is gone": {5, func(l []read) []read { return l[5 : len(l)-1] }, true},
		"another's":                  {5, func(l []read) []read { l[7].value = "plain.9"; return l[5:] }, true},
		"swapped":                    {5, func(l []read) []read { l[8].value, l[9].value = l[9].value, l[8].value; return l[5:] }, true},
		"all, and it begins earlier": {12, func(l []read) []read { return nil }, false}, // 12 was acknowledged without an offset
		"all, and more is known":     {11, func(l []read) []read { return nil }, true},
	} {
		p, log := history()
		p.start = c.start
		if faults := p.wrong(c.spoil(log)); (len(faults) > 0) != c.wrong {
			t.Errorf("%s: %q, wrong %v", name, faults, c.wrong)
		}
	}
}

// TestStartCheckerFails: answers about where a log begins.
func TestStartCheckerFails(t *testing.T) {
	for name, c := range map[string]struct {
		told  func(s *starts) string
		wrong bool
	}{
		"a read":                           {func(s *starts) string { return s.wrong(question{from: 7, told: 4, start: 6}) }, false},
		"at the start":                     {func(s *starts) string { return s.wrong(question{from: 6, told: 4, start: 6}) }, false},
		"out of range":                     {func(s *starts) string { return s.wrong(question{from: 6, refused: true}) }, false},
		"out of range, and was not to go":  {func(s *starts) string { return s.wrong(question{from: 9, refused: true}) }, true},
		"what is gone":                     {func(s *starts) string { return s.wrong(question{from: 5, told: 4, start: 6}) }, true},
		"what was gone":                    {func(s *starts) string { return s.wrong(question{from: 3, told: 4, start: 2}) }, true},
		"a start that goes back":           {func(s *starts) string { return s.wrong(question{from: 7, told: 6, start: 4}) }, true},
		"a start that nobody asked for":    {func(s *starts) string { return s.wrong(question{from: 12, told: 6, start: 10}) }, true},
		"deleted":                          {func(s *starts) string { return s.deleted(4, 6, 8) }, false},
		"not deleted":                      {func(s *starts) string { return s.deleted(4, 6, 5) }, true},
		"deleted, and the start goes back": {func(s *starts) string { return s.deleted(8, 6, 7) }, true},
		"too much deleted":                 {func(s *starts) string { return s.deleted(4, 6, 10) }, true},
		"the end":                          {func(s *starts) string { return strings.Join(s.end([]model.Offset{6, 6, 6}), ", ") }, false},
		"they differ":                      {func(s *starts) string { return strings.Join(s.end([]model.Offset{6, 6, 7}), ", ") }, true},
		"before what was told": {func(s *starts) string {
			s.deleted(4, 6, 8)
			return strings.Join(s.end([]model.Offset{6, 6, 6}), ", ")
		}, true},
		"behind what was to go": {func(s *starts) string { return strings.Join(s.end([]model.Offset{10, 10, 10}), ", ") }, true},
	} {
		if why := c.told(&starts{asked: 6, due: 9}); (why != "") != c.wrong {
			t.Errorf("%s: %q, wrong %v", name, why, c.wrong)
		}
	}
}

// TestRulesCheckerFails: what leaders may find to be due.
func TestRulesCheckerFails(t *testing.T) {
	now := time.UnixMilli(10_000)
	r := rules{age: time.Second, bytes: 300, deleteRetention: 500 * time.Millisecond}
	l := look{start: 2, high: 6, segments: 1}
	for i, v := range []string{"plain.2", "plain.3", "plain.4", "plain.5"} {
		l.records = append(l.records, full{offset: model.Offset(i + 2), name: v, time: int64(8500 + 250*i), tombstone: true})
	}
	for i := range 6 { // of which two were deleted, and are still there
		b := (&producer{id: -1}).batch(&sent{values: []string{"plain"}})
		for j := range 8 {
			b[j] = 0
		}
		b[7] = byte(i)
		l.log = append(l.log, b...)
	}
	size := int64(len(l.log) / 6)
	r.bytes = 2*(size+segment.FrameOverhead) + segment.HeaderSize
	for name, c := range map[string]struct {
		why   string
		wrong bool
	}{
		"old":             {r.wrongAge(l, 4, now), false},
		"too young":       {r.wrongAge(l, 5, now), true}, // 1,000 ms: it is to be kept for so long
		"old and young":   {r.wrongAge(l, 6, now), true},
		"back":            {r.wrongAge(l, 2, now), true},
		"beyond":          {r.wrongAge(l, 7, now.Add(time.Hour)), true},
		"much":            {r.wrongSize(l, 4), false},
		"too much":        {r.wrongSize(l, 5), true},
		"to where it is":  {r.wrongSize(l, 2), true},
		"tombstones":      {r.wrongHorizon(l, 6, now.Add(-250*time.Millisecond)), false},
		"young ones":      {r.wrongHorizon(l, 6, now.Add(-251*time.Millisecond)), true},
		"of what is kept": {r.wrongHorizon(l, 5, now.Add(-251*time.Millisecond)), false},
		"nobody's":        {r.wrongHorizon(l, 7, now.Add(time.Hour)), true},
	} {
		if (c.why != "") != c.wrong {
			t.Errorf("%s: %q, wrong %v", name, c.why, c.wrong)
		}
	}
}

// TestSpoiltRetention plays seeds in which clients, or the topics' settings, are not what
// the judge takes them for, and expects it to say so.
func TestSpoiltRetention(t *testing.T) {
	for want, spoil := range map[string]func(*kept){
		"nothing was to go but what is before": func(k *kept) { k.secret = true },
		", before the log's start":             func(k *kept) { k.confused = true },
		"proposes a trim of aged":              func(k *kept) { k.rules.age *= 2 },
		"proposes a trim of sized":             func(k *kept) { k.rules.bytes += 500 },
		"proposes a horizon of keyed":          func(k *kept) { k.rules.deleteRetention *= 20 },
	} {
		found := ""
		for seed := uint64(0); seed < spoiltSeeds && !strings.Contains(found, want); seed++ {
			r := play(t, Options{Seed: seed, Steps: *stepsFlag, spoil: func(w *World) { spoil(&w.load.kept) }})
			for _, f := range r.Faults {
				found += f.Error()
			}
		}
		if !strings.Contains(found, want) {
			t.Errorf("expected %q, found %q", want, found)
		}
	}
}
