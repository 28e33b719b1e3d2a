package core

import (
	"sync"
	"time"
)

// holding is what a partition has in memory, in bytes.
type holding struct{ cache, unwritten int64 }

func holds(r *replica) holding { return holding{r.part.CacheBytes(), r.part.Unwritten()} }

// recount takes over what a partition holds now, and keeps both budgets.
func (c *Core) recount(r *replica, before holding) {
	now := holds(r)
	c.cache += now.cache - before.cache
	c.unwritten += now.unwritten - before.unwritten
	c.pressure.Store(c.unwritten)
	if c.cache > c.set.o.CacheBytes {
		c.shrinkCaches()
	}
	c.answerOwed()
}

// answer tells raft that its entries are applied: at once, or when there is room
// for more. What they did is visible already.
func (c *Core) answer(e *applyEvent) {
	if c.unwritten <= c.set.o.WriteBytes {
		e.reply <- nil
		return
	}
	c.owed = append(c.owed, e)
	c.flushEarly()
}

func (c *Core) answerOwed() {
	if c.unwritten > c.set.o.WriteBytes {
		return
	}
	for _, e := range c.owed {
		if r := c.replicas[e.shard]; r == nil || !r.failed {
			e.reply <- nil
		}
	}
	c.owed = nil
}

// flushEarly starts writing, before it is due, what takes more than its share of the
// budget, while half of that is used. Whoever is not chosen waits for a flush that is
// under way.
func (c *Core) flushEarly() {
	if c.unwritten <= c.set.o.WriteBytes/2 {
		return
	}
	for r := range c.dirty {
		if r.part.Unwritten()*int64(len(c.dirty)) >= c.unwritten {
			c.flush(r)
		}
	}
}

// breathMax is how far apart flushes write, all of a node together: 256 KiB each, some
// 200 MB/s. What they write meanwhile is what the journal's next write meets.
const breathMax = 1250 * time.Microsecond

// breath is how far apart they write with so many bytes unwritten of a budget: less
// from a quarter of it on, and from half of it as fast as the device takes them.
func breath(unwritten, budget int64) time.Duration {
	room := min(max(budget/2-unwritten, 0), budget/4)
	return breathMax * time.Duration(room) / time.Duration(max(budget/4, 1))
}

// pace spaces writes out. The zero one is ready.
type pace struct {
	mu   sync.Mutex
	next time.Time
}

// turn takes a place in the line, apart from the one before, and says how long it is until then.
func (p *pace) turn(now time.Time, apart time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(apart)
	return p.next.Sub(now)
}

// Breathe is called between two writes of a flush.
func (s *Set) Breathe() {
	if apart := s.apart(); apart > 0 {
		time.Sleep(s.pace.turn(time.Now(), apart))
	}
}

// apart is the breath of the loop that has the least room; none when one is closing.
func (s *Set) apart() time.Duration {
	least := breathMax
	for _, c := range s.cores {
		if c.closing.Load() {
			return 0
		}
		least = min(least, breath(c.pressure.Load(), s.o.WriteBytes))
	}
	return least
}

// shrinkTo is how far caches shrink once they are over budget, in percent: some
// slack, so that not every apply walks them.
const shrinkTo = 75

// shrinkCaches takes from each partition in proportion to what it holds.
func (c *Core) shrinkCaches() {
	target := c.set.o.CacheBytes * shrinkTo / 100
	over := c.cache - target
	total := c.cache
	c.cache = 0
	for _, r := range c.replicas {
		held := r.part.CacheBytes()
		if total > 0 && held > 0 {
			r.part.CacheShrink(int64(float64(held) * float64(over) / float64(total)))
		}
		c.cache += r.part.CacheBytes()
	}
}
