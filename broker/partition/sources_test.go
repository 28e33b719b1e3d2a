package partition

import (
	"fmt"
	"testing"

	"github.com/millrace-io/millrace/broker/model"
)

// taken is what the checker knows of a source: how far the appends that were
// accepted have brought it.
type taken struct {
	activation, announced model.Activation
	offset                model.Offset
	known                 bool
}

// checkSources recomputes every source from the log: under one activation, the
// ranges that were accepted follow each other without gap or overlap, so no parent
// record was taken twice or left out.
func checkSources(log []Entry, results []Outcome) error {
	state := map[model.SourceKey]taken{}
	for i, o := range results {
		c, err := Decode(log[i].Cmd)
		if err != nil {
			return err
		}
		if o.Err != nil {
			continue
		}
		switch c.Kind {
		case KindActivate:
			a := c.Activate
			s := state[a.Key]
			if s != (taken{}) && (a.Activation <= s.activation || a.Activation < s.announced) {
				continue
			}
			if a.Announce {
				s.announced = a.Activation
				state[a.Key] = s
				continue
			}
			next := taken{a.Activation, a.Activation, a.Offset, !a.Remove}
			if a.Keep && s.known && !a.Remove {
				next.offset = s.offset
			}
			state[a.Key] = next
		case KindSource:
			s := state[c.Source.Key]
			if !s.known || s.activation != c.Source.Activation || s.offset != c.Source.From || s.announced > c.Source.Seen {
				return fmt.Errorf("entry %d: range %d to %d of activation %d was taken at %+v", i+1, c.Source.From, c.Source.To, c.Source.Activation, s)
			}
			s.offset = c.Source.To
			state[c.Source.Key] = s
		}
	}
	return nil
}

// TestBrokenCompareAndSetIsNoticed takes the outcomes that a child without compare
// would give: the checker must refuse them.
func TestBrokenCompareAndSetIsNoticed(t *testing.T) {
	for name, accept := range map[string]func(s SourceState, ask Source) bool{
		"any from":       func(s SourceState, ask Source) bool { return s.Activation == ask.Activation },
		"any activation": func(s SourceState, ask Source) bool { return s.Offset == ask.From },
		"older from":     func(s SourceState, ask Source) bool { return ask.From <= s.Offset && s.Activation == ask.Activation },
		"unseen":         func(s SourceState, ask Source) bool { return ask.From == s.Offset && s.Activation == ask.Activation },
	} {
		t.Run(name, func(t *testing.T) {
			noticed := 0
			for seed := range uint64(20) {
				w := newWorld(t, seed, smallConfig(false))
				if err := w.open(); err != nil {
					t.Fatal(err)
				}
				for range 300 {
					if err := w.step(); err != nil {
						t.Fatal(err)
					}
				}
				if err := checkSources(w.log, w.results); err != nil {
					t.Fatalf("the real one: %v", err)
				}
				broken := append([]Outcome(nil), w.results...)
				for i, o := range broken {
					c, _ := Decode(w.log[i].Cmd)
					if c.Kind == KindSource && o.Source.Known && accept(o.Source, c.Source) {
						broken[i].Err = nil
					}
				}
				if checkSources(w.log, broken) != nil {
					noticed++
				}
			}
			if noticed == 0 {
				t.Fatal("a broken compare-and-set went unnoticed")
			}
		})
	}
}

func TestRemovedSourceStaysRemoved(t *testing.T) {
	p := &Partition{}
	k := key(0)
	p.activate(&Activate{Key: k, Activation: 5})
	if s := p.activate(&Activate{Key: k, Activation: 6, Remove: true}); s.Known || s.Activation != 6 {
		t.Fatalf("removed: %+v", s)
	}
	if s := p.activate(&Activate{Key: k, Activation: 5}); s.Known {
		t.Fatalf("a late activate brought it back: %+v", s)
	}
	if s := p.activate(&Activate{Key: k, Activation: 7, Offset: 3, Keep: true}); !s.Known || s.Offset != 3 {
		t.Fatalf("activated again: %+v", s)
	}
	for i := range removedMax + 10 {
		p.activate(&Activate{Key: key(i + 1), Activation: 1, Remove: true})
	}
	if len(p.sources) != removedMax+1 {
		t.Fatalf("%d sources are remembered", len(p.sources))
	}
}

// TestAnnouncedActivationFences follows a child from the announcement on: it
// stays where it is for whoever has not seen it, and takes no older activation.
func TestAnnouncedActivationFences(t *testing.T) {
	p := &Partition{}
	k := key(0)
	stands := func(what string, s, want SourceState) {
		t.Helper()
		if s.Activation != want.Activation || s.Announced != want.Announced || s.Offset != want.Offset || s.Known != want.Known {
			t.Fatalf("%s: %+v, want %+v", what, s, want)
		}
	}
	stands("announced before it is known", p.activate(&Activate{Key: k, Activation: 6, Announce: true}), SourceState{Announced: 6})
	stands("an older one", p.activate(&Activate{Key: k, Activation: 5, Offset: 3}), SourceState{Announced: 6})
	stands("taken", p.activate(&Activate{Key: k, Activation: 6, Offset: 3}), SourceState{Activation: 6, Announced: 6, Offset: 3, Known: true})
	stands("the next announced", p.activate(&Activate{Key: k, Activation: 8, Announce: true}), SourceState{Activation: 6, Announced: 8, Offset: 3, Known: true})
	stands("one between", p.activate(&Activate{Key: k, Activation: 7, Keep: true}), SourceState{Activation: 6, Announced: 8, Offset: 3, Known: true})
	s := p.sources[k]
	if s.matches(&Source{Activation: 6, Seen: 7, From: 3}) {
		t.Fatal("an append by a fiber that has not seen what was announced")
	}
	if !s.matches(&Source{Activation: 6, Seen: 8, From: 3}) {
		t.Fatal("an append by a fiber that has seen it is refused")
	}
	stands("taken too", p.activate(&Activate{Key: k, Activation: 8, Keep: true}), SourceState{Activation: 8, Announced: 8, Offset: 3, Known: true})
}

func TestVerdictsAreBounded(t *testing.T) {
	s := &source{}
	for i := range 3 * verdictsMax {
		s.advance(&Source{To: model.Offset(i + 1), Verdicts: []model.Offset{model.Offset(i)}})
	}
	if len(s.verdicts) != verdictsMax || s.verdicts[verdictsMax-1] != 3*verdictsMax-1 {
		t.Fatalf("%d verdicts, the last %d", len(s.verdicts), s.verdicts[len(s.verdicts)-1])
	}
}
