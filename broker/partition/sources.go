package partition

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/millrace-io/millrace/broker/model"
)

const (
	// verdictsMax is how many skipped offsets are kept per source: a fiber asks for
	// those between its slowest and fastest child, which are a few batches apart.
	verdictsMax = 1 << 12
	// removedMax is how many removed sources are remembered, so that a late activate
	// of an older activation cannot bring them back. Part of the format.
	removedMax = 1 << 10
)

// source is how far a child has taken one parent partition for one script.
type source struct {
	activation model.Activation
	announced  model.Activation // never older than activation
	offset     model.Offset
	gap        int64
	removed    bool
	verdicts   []model.Offset // replaced, never changed: states share it
}

func (s *source) state() SourceState {
	if s == nil {
		return SourceState{}
	}
	if s.removed {
		return SourceState{Activation: s.activation, Announced: s.announced}
	}
	return SourceState{Activation: s.activation, Announced: s.announced, Offset: s.offset, Known: true, Gap: s.gap, Verdicts: s.verdicts}
}

// matches is the compare of the compare-and-set.
func (s *source) matches(ask *Source) bool {
	return s != nil && !s.removed && s.activation == ask.Activation && s.offset == ask.From && s.announced <= ask.Seen
}

// advance is the set.
func (s *source) advance(ask *Source) {
	s.offset = ask.To
	s.gap += ask.Gap
	if len(ask.Verdicts) == 0 {
		return
	}
	all := slices.Concat(s.verdicts, ask.Verdicts)
	s.verdicts = slices.Clip(all[max(0, len(all)-verdictsMax):])
}

// activate applies an Activate: only a newer activation than is known, and no
// older one than was announced, changes anything, so that a repeated one does not
// move a source back.
func (p *Partition) activate(a *Activate) SourceState {
	s := p.sources[a.Key]
	if s != nil && (a.Activation <= s.activation || a.Activation < s.announced) {
		return s.state()
	}
	if p.sources == nil {
		p.sources = map[model.SourceKey]*source{}
	}
	if a.Announce {
		next := source{removed: true}
		if s != nil {
			next = *s
		}
		next.announced = a.Activation
		p.sources[a.Key] = &next
		p.forgetRemoved()
		return next.state()
	}
	next := &source{activation: a.Activation, announced: a.Activation, offset: a.Offset, removed: a.Remove}
	if a.Keep && !a.Remove && s != nil && !s.removed {
		next.offset, next.gap, next.verdicts = s.offset, s.gap, s.verdicts
	}
	p.sources[a.Key] = next
	if a.Remove {
		p.forgetRemoved()
	}
	return next.state()
}

// forgetRemoved drops the oldest removed sources beyond removedMax.
func (p *Partition) forgetRemoved() {
	removed := p.sourceKeys()
	removed = slices.DeleteFunc(removed, func(k model.SourceKey) bool { return !p.sources[k].removed })
	if len(removed) <= removedMax {
		return
	}
	slices.SortStableFunc(removed, func(a, b model.SourceKey) int {
		return cmp.Compare(p.sources[a].announced, p.sources[b].announced)
	})
	for _, k := range removed[:len(removed)-removedMax] {
		delete(p.sources, k)
	}
}

// sourceKeys gives all keys in one fixed order.
func (p *Partition) sourceKeys() []model.SourceKey {
	keys := make([]model.SourceKey, 0, len(p.sources))
	for k := range p.sources {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b model.SourceKey) int {
		return cmp.Or(cmp.Compare(a.Script, b.Script),
			bytes.Compare(a.Parent.Topic[:], b.Parent.Topic[:]), cmp.Compare(a.Parent.Index, b.Parent.Index))
	})
	return keys
}

// SourceEntry is a source with what is known of it.
type SourceEntry struct {
	Key   model.SourceKey
	State SourceState
}

// Source tells how far a source was taken.
func (p *Partition) Source(k model.SourceKey) SourceState { return p.sources[k].state() }

// Sources lists all sources that are not removed, in a fixed order.
func (p *Partition) Sources() []SourceEntry {
	var entries []SourceEntry
	for _, k := range p.sourceKeys() {
		if s := p.sources[k]; !s.removed {
			entries = append(entries, SourceEntry{k, s.state()})
		}
	}
	return entries
}
