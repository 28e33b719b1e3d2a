package judge

import (
	"fmt"
	"slices"
	"strings"
)

// Kind says what is wrong.
type Kind string

// What may be wrong with a topic.
const (
	Lost      Kind = "lost"           // acknowledged, and not there
	Duplicate Kind = "duplicate"      // twice there
	Reordered Kind = "reordered"      // behind one that its producer sent later
	Moved     Kind = "changed offset" // not where it was acknowledged
	Changed   Kind = "changed value"  // there, with other bytes
	Foreign   Kind = "foreign"        // nobody wrote it
	Hole      Kind = "hole"           // offsets that nothing stands at
	Unstable  Kind = "unstable"       // an offset that readers saw different values at
	Refused   Kind = "refused"        // a reader was not given what is there
	Gap       Kind = "gap"            // acknowledgements took too long
)

// Finding is one thing that is wrong.
type Finding struct {
	Kind      Kind
	Partition int
	Offset    int64 // -1 where it is of none
	Text      string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: partition %d, offset %d: %s", f.Kind, f.Partition, f.Offset, f.Text)
}

func ordinal(offset int64) string {
	if offset < 0 {
		return "nothing"
	}
	return fmt.Sprint("offset ", offset)
}

// Stored is a record as it stands in a partition.
type Stored struct {
	Offset int64
	Value  []byte
}

// Log holds all that a partition has, from its beginning to its end, against what is
// known of it. It may be asked again with what another node gives. Nothing is written
// meanwhile.
func (h *History) Log(by string, partition int, log []Stored) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.part(partition)
	at := map[Record]int64{}
	newest := map[int]int{} // producer -> highest number so far, and 1
	for i, s := range log {
		if before := behind(log, i); s.Offset != before+1 {
			h.finding(Finding{Hole, partition, s.Offset, by + " has it after " + ordinal(before)})
		}
		h.sighted(p, by, partition, s.Offset, s.Value)
		r, whole, err := parse(s.Value)
		switch {
		case err != nil:
			h.finding(Finding{Foreign, partition, s.Offset, err.Error()})
			continue
		case r.Partition != partition || r.Number < 0 || r.Number >= p.sent[r.Producer]:
			h.finding(Finding{Foreign, partition, s.Offset, "nobody wrote " + r.String()})
			continue
		case !whole:
			h.finding(Finding{Changed, partition, s.Offset, "what calls itself " + r.String()})
		}
		if first, twice := at[r]; twice {
			h.finding(Finding{Duplicate, partition, s.Offset, fmt.Sprintf("%s, which stands at %d", r, first)})
			continue
		}
		at[r] = s.Offset
		if r.Number < newest[r.Producer] {
			h.finding(Finding{Reordered, partition, s.Offset, fmt.Sprintf("%s, behind number %d", r, newest[r.Producer]-1)})
		}
		newest[r.Producer] = max(newest[r.Producer], r.Number+1)
	}
	h.acknowledged(p, partition, at)
}

// behind gives the offset of what stands before log[i].
func behind(log []Stored, i int) int64 {
	if i == 0 {
		return -1
	}
	return log[i-1].Offset
}

// acknowledged judges whether all that was acknowledged is where it should be.
func (h *History) acknowledged(p *part, partition int, at map[Record]int64) {
	for r, a := range p.acked {
		switch offset, ok := at[r]; {
		case !ok:
			h.finding(Finding{Lost, partition, a.offset, fmt.Sprintf("%s, acknowledged %s", r, a.at.Format("15:04:05.000"))})
		case offset != a.offset:
			h.finding(Finding{Moved, partition, offset, fmt.Sprintf("%s, acknowledged at offset %d", r, a.offset)})
		}
	}
}

// Found gives all that is wrong so far, in order of kind, partition and offset.
func (h *History) Found() []Finding {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := slices.Clone(h.found)
	slices.SortFunc(found, func(a, b Finding) int {
		if d := strings.Compare(string(a.Kind), string(b.Kind)); d != 0 {
			return d
		}
		if d := a.Partition - b.Partition; d != 0 {
			return d
		}
		return int(a.Offset - b.Offset)
	})
	return found
}
