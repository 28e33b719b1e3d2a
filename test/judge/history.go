package judge

import (
	"hash/maphash"
	"sync"
	"time"
)

// History is what is known of a topic. Any goroutine may tell it more.
type History struct {
	mu      sync.Mutex
	seed    maphash.Seed
	parts   map[int]*part
	periods []period
	found   []Finding
}

// part is what is known of a partition.
type part struct {
	sent  map[int]int // producer -> how many numbers
	acked map[Record]ack
	last  map[int]time.Time // producer -> the newest acknowledgement, or when the first was sent
	count int               // of acknowledgements
	// seen has what readers saw at offsets, next where each reader stands.
	seen map[int64]sight
	next map[string]int64
}

type ack struct {
	offset int64
	at     time.Time
}

type sight struct {
	by  string
	sum uint64
}

// period is a time in which acknowledgements may take so long.
type period struct {
	name    string
	from    time.Time
	limit   time.Duration // 0: as long as they like
	longest time.Duration
	ended   Record // what the longest wait was for
}

// New gives the history of a topic that is empty.
func New() *History {
	return &History{seed: maphash.MakeSeed(), parts: map[int]*part{}, periods: []period{{name: "the beginning"}}}
}

func (h *History) part(p int) *part {
	if h.parts[p] == nil {
		h.parts[p] = &part{sent: map[int]int{}, acked: map[Record]ack{}, last: map[int]time.Time{}, seen: map[int64]sight{}, next: map[string]int64{}}
	}
	return h.parts[p]
}

// Send gives a producer's next record of a partition, which is written from now on.
func (h *History) Send(partition, producer int, now time.Time) Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.part(partition)
	r := Record{partition, producer, p.sent[producer]}
	p.sent[producer]++
	if p.last[producer].IsZero() {
		p.last[producer] = now
	}
	return r
}

// Ack says that a record was acknowledged. One whose outcome stays unknown is told by
// nothing.
func (h *History) Ack(r Record, offset int64, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.part(r.Partition)
	p.acked[r] = ack{offset, now}
	p.count++
	h.gap(r, p.last[r.Producer], now)
	p.last[r.Producer] = now
}

// Period begins a time in which no producer may be without an acknowledgement in any of its
// partitions for longer than limit; 0: as long as it likes. A gap that reaches into several periods may
// be as long as the longest of them allows.
func (h *History) Period(name string, limit time.Duration, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.periods = append(h.periods, period{name: name, from: now, limit: limit})
}

// gap judges a wait for an acknowledgement.
func (h *History) gap(r Record, from, to time.Time) {
	var widest *period
	free, wait := false, to.Sub(from)
	for i := len(h.periods) - 1; i >= 0; i-- {
		p := &h.periods[i]
		if wait > p.longest {
			p.longest, p.ended = wait, r
		}
		free = free || p.limit == 0
		if widest == nil || p.limit > widest.limit {
			widest = p
		}
		if !p.from.After(from) {
			break
		}
	}
	if !free && wait > widest.limit {
		h.finding(Finding{Gap, r.Partition, -1, widest.name + ": " + r.String() + " is the first acknowledged for " + wait.Round(time.Millisecond).String() +
			" until " + to.Format("15:04:05.000") + ", " + widest.limit.String() + " are allowed"})
	}
}

// Longest gives the longest wait of a producer that reached into the newest period, and
// what it was for.
func (h *History) Longest() (time.Duration, Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := &h.periods[len(h.periods)-1]
	return p.longest, p.ended
}

// Oldest gives when the producer that has waited longest had its last acknowledgement, over
// all partitions that anything was sent to; of one that had none, when it sent first.
func (h *History) Oldest() (oldest time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.parts {
		for _, last := range p.last {
			if oldest.IsZero() || last.Before(oldest) {
				oldest = last
			}
		}
	}
	return oldest
}

// Acked gives how many records of each of the first so many partitions are acknowledged.
func (h *History) Acked(partitions int) []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]int, partitions)
	for p := range all {
		all[p] = h.part(p).count
	}
	return all
}

// Read says what a reader, which takes a partition's offsets one after the other, saw.
// What stands at an offset is the same for all readers, for ever.
func (h *History) Read(by string, partition int, offset int64, value []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.part(partition)
	if want := p.next[by]; offset != want {
		h.finding(Finding{Hole, partition, offset, by + " was given it next, after " + ordinal(want-1)})
	}
	p.next[by] = offset + 1
	h.sighted(p, by, partition, offset, value)
}

func (h *History) sighted(p *part, by string, partition int, offset int64, value []byte) {
	sum := maphash.Bytes(h.seed, value)
	before, ok := p.seen[offset]
	if !ok {
		p.seen[offset] = sight{by, sum}
	} else if before.sum != sum {
		h.finding(Finding{Unstable, partition, offset, before.by + " saw another value there than " + by})
	}
}

// Refused says that a reader was refused what it had to be given.
func (h *History) Refused(by string, partition int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.finding(Finding{Refused, partition, h.part(partition).next[by], by + ": " + err.Error()})
}

// Stands gives the offset that a reader is to be given next.
func (h *History) Stands(by string, partition int) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.part(partition).next[by]
}

func (h *History) finding(f Finding) { h.found = append(h.found, f) }
