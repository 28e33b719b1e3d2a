package partition

import (
	"sort"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

// cached is a batch in memory: its own header, and the rest in raft's command.
type cached struct {
	header record.Header
	rest   []byte // shared with the entry's Cmd: never written
}

// cachedOverhead is what a batch costs besides its records, in bytes.
const cachedOverhead = 96

func (c *cached) cost() int64 { return int64(len(c.rest) + cachedOverhead) }

// cache holds the newest batches of the log without a gap, in a ring.
type cache struct {
	ring    []cached
	head, n int
	bytes   int64
	max     int64
}

func (c *cache) at(i int) *cached { return &c.ring[(c.head+i)%len(c.ring)] }

func (c *cache) add(h record.Header, rest []byte) {
	if c.max <= 0 {
		return
	}
	if c.n == len(c.ring) {
		c.grow()
	}
	c.n++
	*c.at(c.n - 1) = cached{h, rest}
	c.bytes += c.at(c.n - 1).cost()
	c.shrink(c.max)
}

func (c *cache) grow() {
	ring := make([]cached, max(8, 2*len(c.ring)))
	for i := range c.n {
		ring[i] = *c.at(i)
	}
	c.ring, c.head = ring, 0
}

func (c *cache) drop() {
	c.bytes -= c.at(0).cost()
	*c.at(0) = cached{} // lets go of the command
	c.head = (c.head + 1) % len(c.ring)
	c.n--
}

// shrink forgets the oldest batches until bytes or fewer are held.
func (c *cache) shrink(bytes int64) {
	for c.n > 0 && c.bytes > bytes {
		c.drop()
	}
	if c.n == 0 {
		c.ring, c.head = nil, 0
	}
}

func (c *cache) limit(bytes int64) {
	c.max = bytes
	c.shrink(max(bytes, 0))
}

// trim forgets batches that end before an offset.
func (c *cache) trim(to model.Offset) {
	for c.n > 0 && c.at(0).header.Batch().NextOffset() <= to {
		c.drop()
	}
	c.shrink(c.max)
}

// find gives the place of the batch that holds an offset; false when it is older
// than the cache.
func (c *cache) find(o model.Offset) (int, bool) {
	if c.n == 0 || o < c.at(0).header.Batch().BaseOffset() {
		return 0, false
	}
	return sort.Search(c.n, func(i int) bool { return c.at(i).header.Batch().NextOffset() > o }), true
}

// CacheBytes is the memory that may be freed: recent batches, and what is in memory
// of segments although it is written.
func (p *Partition) CacheBytes() int64 { return p.cache.bytes + p.tailBytes() }

// tailBytes is what shrinkTails can free. What is in memory is the end of the log,
// without a gap.
func (p *Partition) tailBytes() int64 {
	var n int64
	for i := len(p.segments) - 1; i >= 0 && p.segments[i].InMemory(); i-- {
		n += p.segments[i].Clean()
	}
	return n
}

// shrinkTails frees what is written, the oldest first, until at most keep bytes of
// it are in memory.
func (p *Partition) shrinkTails(keep int64) {
	for i := len(p.segments) - 1; i >= 0 && p.segments[i].InMemory(); i-- {
		s := p.segments[i]
		s.Shrink(keep)
		keep = max(keep-s.Clean(), 0)
	}
}

// CacheShrink frees n bytes or all there are: what is written first, which is the
// older, then recent batches; and the indexes that readers of old segments have
// loaded.
func (p *Partition) CacheShrink(n int64) {
	tails := p.tailBytes()
	p.shrinkTails(max(tails-n, 0))
	n -= tails - p.tailBytes()
	p.cache.shrink(max(p.cache.bytes-max(n, 0), 0))
	for _, s := range p.held {
		s.ForgetIndex()
	}
	p.held = nil
}
