package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/millrace-io/millrace/broker/model"
)

// history is a log of two numbered producers and a plain one, with all of it acknowledged.
func history() (*place, []read) {
	p := &place{sent: map[string]bool{}, at: map[model.Offset]string{}, there: map[string]bool{"numbered-1.3": true}}
	var log []read
	for i := range 12 {
		value := fmt.Sprintf("numbered-%d.%d", i%2, i/2)
		if i%4 == 3 {
			value = fmt.Sprintf("plain.%d", i/4)
		}
		if i%4 == 1 {
			value = fmt.Sprintf("numbered-1.%d", i/4)
		}
		log = append(log, read{model.Offset(i), value})
	}
	log = append(log, read{12, "numbered-1.3"})
	for _, r := range log {
		p.sent[r.value] = true
		if r.value != "numbered-1.3" {
			p.at[r.offset] = r.value
		}
	}
	return p, log
}

// TestCheckerFails: a log that is right passes, and every way of spoiling it is found.
func TestCheckerFails(t *testing.T) {
	renumber := func(log []read) []read {
		for i := range log {
			log[i].offset = model.Offset(i)
		}
		return log
	}
	for name, spoil := range map[string]func([]read) []read{
		"lost":                func(l []read) []read { return renumber(slices.Delete(l, 5, 6)) },
		"lost at its end":     func(l []read) []read { return l[:len(l)-1] },
		"a hole":              func(l []read) []read { return slices.Delete(l, 5, 6) },
		"twice":               func(l []read) []read { return append(l, read{13, l[3].value}) },
		"twice in the middle": func(l []read) []read { return renumber(slices.Insert(l, 4, l[3])) },
		"swapped":             func(l []read) []read { l[2].value, l[3].value = l[3].value, l[2].value; return l },
		"offsets shifted": func(l []read) []read {
			for i := range l {
				l[i].offset++
			}
			return l
		},
		"another value": func(l []read) []read { l[3].value = "plain.9"; return l },
		"nobody's":      func(l []read) []read { return append(l, read{13, "plain.9"}) },
		"a gap in a producer's values": func(l []read) []read {
			return append(l, read{13, "numbered-0.7"})
		},
		"empty": func([]read) []read { return nil },
	} {
		p, log := history()
		p.sent["numbered-0.7"] = true
		if faults := p.wrong(log); len(faults) > 0 {
			t.Fatalf("a right log is wrong: %v", faults)
		}
		if faults := p.wrong(spoil(log)); len(faults) == 0 {
			t.Errorf("%s: nothing is found", name)
		}
	}
}

// TestChildrenCheckerFails: the same of a script's children.
func TestChildrenCheckerFails(t *testing.T) {
	var parent, child []read
	for i := range 20 {
		parent = append(parent, read{model.Offset(i), fmt.Sprint("plain.", i)})
	}
	// give has an activation take the parents of a range.
	give := func(a model.Activation, version byte, from, to int) {
		for _, r := range parent[from:to] {
			if keeps(r.value) {
				child = append(child, read{model.Offset(len(child)), childOf(a, version, r.value)})
			}
		}
	}
	all := []activation{{1, 1, 1, 0}, {2, 2, 1, 0}, {3, 2, 3, 4}, {5, 3, 4, 8}, {6, 4, 4, 8}}
	give(1, 1, 0, 6)
	give(2, 2, 6, 12)
	give(3, 2, 4, 7)
	give(5, 3, 8, 8) // its children, a seek's that was never taken, come to none
	give(6, 4, 8, 20)
	if faults := wrongChildren(parent, child, all); len(faults) > 0 || len(child) < 12 {
		t.Fatalf("right children are wrong: %v, %d", faults, len(child))
	}
	seek := slices.IndexFunc(child, func(r read) bool { return strings.HasPrefix(r.value, "3/") })
	for name, spoiled := range map[string][]read{
		"one is lost":                slices.Delete(slices.Clone(child), 2, 3),
		"one is twice":               slices.Insert(slices.Clone(child), 2, child[1]),
		"swapped":                    append([]read{child[1], child[0]}, child[2:]...),
		"one too many":               append(slices.Clone(child), read{99, "child of nobody"}),
		"none":                       nil,
		"the last is lost":           child[:len(child)-1],
		"lost at a seek":             slices.Delete(slices.Clone(child), seek, seek+1),
		"lost before a redeploy":     append(slices.Clone(child[:2]), child[4:]...),
		"twice in two activations":   slices.Insert(slices.Clone(child), seek, read{0, "2/2: " + strings.SplitN(child[0].value, ": ", 2)[1]}),
		"an older version":           slices.Concat(child[:len(child)-1], []read{{0, strings.Replace(child[len(child)-1].value, "6/4", "6/3", 1)}}),
		"of an activation overtaken": append(slices.Clone(child), child[0]),
		"of one that never was":      slices.Insert(slices.Clone(child), seek, read{0, childOf(4, 2, parent[8].value)}),
	} {
		if len(wrongChildren(parent, spoiled, all)) == 0 {
			t.Errorf("%s: nothing is found", name)
		}
	}
	all[1].keepFrom = 2 // that is, it was to begin anew
	if len(wrongChildren(parent, child, all)) == 0 {
		t.Error("a start is not heeded: nothing is found")
	}
}

// TestSpoiltScript has sidecars of some versions repeat themselves.
func TestSpoiltScript(t *testing.T) {
	found := ""
	for seed := uint64(0); seed < spoiltSeeds && found == ""; seed++ {
		for _, f := range play(t, Options{Seed: seed, Steps: *stepsFlag, spoil: func(w *World) { w.load.script.twice = true }}).Faults {
			found += f.Error()
		}
	}
	if !strings.Contains(found, "it is the turn of the parent") {
		t.Errorf("found %q", found)
	}
}

// TestCommitCheckerFails: reads of a committed offset that no order of the writes explains.
func TestCommitCheckerFails(t *testing.T) {
	c := &commits{writes: []*commit{
		{value: 1, began: 10, done: 20}, {value: 2, began: 15, done: 30}, {value: 3, began: 40}, {value: 4, began: 50, done: 60},
	}}
	for _, r := range []struct {
		value model.Offset
		began int
		wrong bool
	}{
		{0, 15, false}, {1, 15, false}, {2, 16, false}, // under way
		{0, 25, true}, {1, 35, false}, {2, 35, false}, // 1 and 2 were written side by side
		{3, 45, false}, {3, 90, false}, // unknown: it may come to be at any time
		{1, 61, true}, {2, 90, true}, {4, 90, false}, {0, 90, true},
		{7, 90, true}, // nobody's
	} {
		if why := c.wrong(r.value, r.began); (why != "") != r.wrong {
			t.Errorf("a read of %d from step %d on: %q, wrong %v", r.value, r.began, why, r.wrong)
		}
	}
}
