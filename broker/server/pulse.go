package server

import (
	"sync"
	"time"
)

const (
	// pulseSpan is the time over which a device is judged, pulseSlow how much of it must
	// have gone to slow writes: one stall of a second is no reason to move hundreds of leaders.
	pulseSpan, pulseSlow = 6 * time.Second, 3 * time.Second
	// pulseCalm is how long no write must have been slow until the device is fit again.
	pulseCalm = 10 * time.Second
)

// pulse judges the device of the Raft log by its writes, of which there is one at a time.
// Its methods may be called from any goroutine.
type pulse struct {
	mu    sync.Mutex
	limit time.Duration // beyond which a write is slow
	// slow are the slow writes that ended in the last pulseSpan, in order.
	slow []span
	// unfit: the device was judged slow, and has not been calm since. last is when a
	// write was slow the last time.
	unfit bool
	last  time.Time
}

// span is the time of one write.
type span struct{ from, to time.Time }

// within gives how much of s lies at since or later.
func (s span) within(since time.Time) time.Duration {
	if s.from.Before(since) {
		s.from = since
	}
	return max(0, s.to.Sub(s.from))
}

// wrote is told of every write when it has ended. It is quick.
func (p *pulse) wrote(now time.Time, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit == 0 || took <= p.limit {
		return
	}
	p.forget(now)
	p.slow = append(p.slow, span{now.Add(-took), now})
	p.last = now
}

// judge tells whether the device is slow. underWay is for how long the present write has
// not returned, limit beyond what time one is slow.
func (p *pulse) judge(now time.Time, underWay, limit time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = limit
	p.forget(now)
	var sum time.Duration
	for _, s := range p.slow {
		sum += s.within(now.Add(-pulseSpan))
	}
	// One that has ended since underWay was read is among those above already.
	from := now.Add(-underWay)
	if n := len(p.slow); underWay > limit && (n == 0 || !from.Before(p.slow[n-1].to)) {
		sum += span{from, now}.within(now.Add(-pulseSpan))
		p.last = now
	}
	switch {
	case sum >= pulseSlow:
		p.unfit = true
	case now.Sub(p.last) >= pulseCalm:
		p.unfit = false
	}
	return p.unfit
}

// forget drops what ended before the span that is judged.
func (p *pulse) forget(now time.Time) {
	n := 0
	for n < len(p.slow) && p.slow[n].to.Before(now.Add(-pulseSpan)) {
		n++
	}
	p.slow = append(p.slow[:0], p.slow[n:]...)
}
