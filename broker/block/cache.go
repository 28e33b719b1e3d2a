package block

import (
	"container/list"
	"sync"
	"sync/atomic"
)

const (
	// readsAtOnce is how many blocks are read at once into a Cache, whoever asks (Fresh
	// asks nobody): what the device was given before it, a sync of the journal waits for. One reader in steps of
	// 256 KiB gets 70-85 % of what it gives to one or four who read blocks whole, and
	// a write beside it takes 0.5-0.6 ms; beside two of those 5-11 ms, beside four 16-31.
	readsAtOnce = 1
	// readsMore is how many besides, while nobody's sync can wait for them: a consumer
	// of old records then reads 750-830 MB/s instead of 600-660.
	readsMore = 2
	// aheadMax is how many who read ahead may be in the line for a read: a reader who
	// needs a block now waits for no more of them.
	aheadMax = 4
	// aheadWaiting is how many may wait for that; beyond it nothing is read ahead.
	aheadWaiting = 64
	// aheadBytesMin is the least Cache that reads ahead: in a smaller one blocks
	// would be gone before they are used.
	aheadBytesMin = 16 * Size
)

// ID names a file in a Cache.
type ID uint64

// Read fills b with a block and tells how many bytes of it there are.
type Read func(b []byte) (int, error)

// Cache keeps blocks that were read; those not used for longest go first. A nil
// Cache keeps nothing.
type Cache struct {
	// Calm, if set before the Cache is used, tells that no sync of the journal is to
	// be expected now.
	Calm func() bool

	memory  *Memory
	max     int64
	ids     atomic.Uint64
	reads   chan struct{} // those who read
	more    chan struct{} // those who read besides
	wanted  atomic.Int64  // reads that somebody waits for, those under way excepted
	seats   chan struct{} // those who read ahead
	waiting atomic.Int64
	hits    atomic.Int64
	misses  atomic.Int64

	mu     sync.Mutex
	blocks map[key]*entry
	order  *list.List // of *entry, the last used first
	bytes  int64
}

type key struct {
	file  ID
	index int64
}

// entry is a block, or one that is being read: n and err are set when ready closes.
type entry struct {
	key   key
	buf   *Buffer // the Cache holds it
	n     int
	err   error
	ready chan struct{}
	at    *list.Element
}

// NewCache gives a Cache of at most max bytes in buffers of memory.
func NewCache(memory *Memory, max int64) *Cache {
	return &Cache{
		memory: memory, max: max, reads: make(chan struct{}, readsAtOnce), more: make(chan struct{}, readsMore), seats: make(chan struct{}, aheadMax),
		blocks: map[key]*entry{}, order: list.New(),
	}
}

// NewID names a file.
func (c *Cache) NewID() ID {
	if c == nil {
		return 0
	}
	return ID(c.ids.Add(1))
}

// Counts tells how often a block was found and how often it was read.
func (c *Cache) Counts() (hits, misses int64) { return c.hits.Load(), c.misses.Load() }

// Get gives a block of a file with want bytes, at most Size, and how many it has; the
// caller releases it. With fewer than want there are no more.
func (c *Cache) Get(file ID, index int64, want int, read Read) (*Buffer, int, error) {
	if c == nil {
		return Fresh(nil, want, read)
	}
	k := key{file, index}
	for {
		c.mu.Lock()
		e, mine := c.find(k), false
		c.mu.Unlock()
		if e == nil {
			e, mine = c.load(k, want, read)
		}
		<-e.ready
		switch {
		case e.err != nil:
			e.buf.Release()
			return nil, 0, e.err
		case mine:
			return e.buf, e.n, nil
		case e.n >= want:
			c.hits.Add(1)
			return e.buf, e.n, nil
		}
		e.buf.Release()
		c.drop(e) // it was read while the file was shorter
	}
}

// find gives a block that is there or being read, held, or nil; under the mutex.
func (c *Cache) find(k key) *entry {
	e := c.blocks[k]
	if e != nil {
		c.order.MoveToFront(e.at)
		e.buf.Hold()
	}
	return e
}

// Fresh reads a block of at most want bytes that nobody keeps.
func Fresh(memory *Memory, want int, read Read) (*Buffer, int, error) {
	b := memory.Get(want)
	n, err := read(b.Bytes())
	if err != nil {
		b.Release()
		return nil, 0, err
	}
	return b, n, nil
}

// turn waits for a place among those who read and gives what it is to be taken from
// again.
func (c *Cache) turn() <-chan struct{} {
	c.wanted.Add(1)
	defer c.wanted.Add(-1)
	more := c.more
	if c.Calm == nil || !c.Calm() {
		more = nil
	}
	select {
	case c.reads <- struct{}{}:
		return c.reads
	case more <- struct{}{}:
		return c.more
	}
}

// load waits for its turn and reads a block for all who ask for it meanwhile, unless
// another has begun to. The block is held; memory is taken when the turn has come.
func (c *Cache) load(k key, want int, read Read) (e *entry, mine bool) {
	turn := c.turn()
	defer func() { <-turn }()
	c.mu.Lock()
	if e = c.find(k); e != nil {
		c.mu.Unlock()
		return e, false
	}
	e = &entry{key: k, buf: c.memory.Get(want), ready: make(chan struct{})}
	e.buf.Hold() // the caller's
	e.at = c.order.PushFront(e)
	c.blocks[k] = e
	c.bytes += int64(len(e.buf.Bytes()))
	c.mu.Unlock()
	c.misses.Add(1)
	e.n, e.err = read(e.buf.Bytes())
	close(e.ready)
	if e.err != nil {
		c.drop(e)
	} else {
		c.shrink()
	}
	return e, true
}

// shrink lets the blocks go that were not used for longest.
func (c *Cache) shrink() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := c.order.Back(); at != nil && c.bytes > c.max; {
		e := at.Value.(*entry)
		at = at.Prev()
		select {
		case <-e.ready:
			c.remove(e)
		default: // whoever reads it has it removed
		}
	}
}

func (c *Cache) drop(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(e)
}

// remove takes an entry out, if it is still there; under the mutex.
func (c *Cache) remove(e *entry) {
	if c.blocks[e.key] != e {
		return
	}
	delete(c.blocks, e.key)
	c.order.Remove(e.at)
	c.bytes -= int64(len(e.buf.Bytes()))
	e.buf.Release()
}

// Forget drops a file's blocks: it is gone, or what was read of it is damaged.
func (c *Cache) Forget(file ID) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.blocks {
		if k.file == file {
			c.remove(e)
		}
	}
}

// Ahead has a block read on another goroutine, if there is room to and nobody waits
// for another block, for a reader who is likely to ask for it next. done is called,
// once, when read is not called any more.
func (c *Cache) Ahead(file ID, index int64, want int, read Read, done func()) {
	if !c.mayRead(key{file, index}) {
		done()
		return
	}
	go func() {
		defer done()
		defer c.waiting.Add(-1)
		c.seats <- struct{}{}
		defer func() { <-c.seats }()
		if c.wanted.Load() > 0 { // by somebody else, and now
			return
		}
		if b, _, err := c.Get(file, index, want, read); err == nil {
			b.Release()
		} // whoever needs the block meets the error again
	}()
}

// mayRead tells whether a block is worth reading ahead, and takes a place for it.
func (c *Cache) mayRead(k key) bool {
	if c == nil || c.max < aheadBytesMin {
		return false
	}
	c.mu.Lock()
	_, known := c.blocks[k]
	c.mu.Unlock()
	if known {
		return false
	}
	if c.waiting.Add(1) > aheadWaiting {
		c.waiting.Add(-1)
		return false
	}
	return true
}
