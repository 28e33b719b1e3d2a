package disk

import (
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
)

// sector is the unit in which a device writes without tearing, in bytes.
const sector = 512

// Crashing is a Memory that remembers what was synced, and can lose the rest. Its
// changes (writes, truncations, syncs, names) are numbered from 1.
type Crashing struct {
	*Memory
	points int
	stopAt int
	dead   bool
}

// NewCrashing gives an empty file system that has not lost anything.
func NewCrashing() *Crashing {
	c := &Crashing{Memory: NewMemory()}
	c.history = true
	c.point = c.step
	return c
}

// StopAt cuts the power at the n-th change from now on, which fails with
// ErrPowerCut like all that follow. A write or rename may then be found done; a
// sync has promised nothing. 0 never stops.
func (c *Crashing) StopAt(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.points, c.stopAt = 0, n
}

// Points counts the changes since the last StopAt, or the beginning.
func (c *Crashing) Points() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.points
}

// Stopped tells whether the power is cut.
func (c *Crashing) Stopped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

// step runs under the mutex, before each change.
func (c *Crashing) step(Op, string) (frozen bool, err error) {
	if c.dead {
		return true, ErrPowerCut
	}
	c.points++
	if c.points == c.stopAt {
		c.dead = true
		return false, ErrPowerCut
	}
	return false, nil
}

// Crash gives the file system as a machine finds it after a power cut now. What
// was synced is there; of the rest, seed decides what is kept, lost, torn or
// reordered. The old one stays as it is: other seeds give other outcomes.
func (c *Crashing) Crash(seed uint64) *Crashing {
	c.mu.Lock()
	defer c.mu.Unlock()
	luck := &luck{r: rand.New(rand.NewPCG(seed, 1))}
	luck.mode = luck.r.IntN(4)
	names, dirs := maps.Clone(c.durable), maps.Clone(c.dirs)
	var moves []nameChange // of directories, that were lost
	for _, n := range c.pending {
		if luck.keeps() {
			n.apply(names)
		} else if n.dir {
			moves = append(moves, n)
		}
	}
	for _, n := range slices.Backward(moves) {
		moveBelow(dirs, n.name, n.from)
	}
	after := NewCrashing()
	after.capacity, after.noDirect = c.capacity, c.noDirect
	maps.Copy(after.dirs, dirs)
	copies := map[*node]*node{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		for dir := filepath.Dir(name); !after.dirs[dir]; dir = filepath.Dir(dir) {
			after.dirs[dir] = true // it was removed when it was empty, and it was not
		}
		old := names[name]
		if copies[old] == nil {
			b := luck.content(old)
			copies[old] = &node{data: b, durable: append([]byte{}, b...)}
			after.used += int64(len(b))
		}
		after.names[name] = copies[old]
		after.durable[name] = copies[old]
	}
	return after
}

// luck decides what survives. Mode 0 loses all that was not synced, 1 keeps all,
// 2 and 3 decide one by one, 3 tearing as well.
type luck struct {
	r    *rand.Rand
	mode int
}

func (l *luck) keeps() bool {
	switch l.mode {
	case 0:
		return false
	case 1:
		return true
	}
	return l.r.IntN(2) == 0
}

func (l *luck) content(n *node) []byte {
	b := append([]byte{}, n.durable...)
	for _, c := range n.pending {
		if !c.survives && !l.keeps() {
			continue
		}
		if !c.survives && l.mode == 3 && len(c.data) > 0 {
			c = l.tear(c, b)
		}
		b = c.apply(b)
	}
	return b
}

// tear keeps a part of a write: a prefix to the byte, or any of its sectors, the
// others being as before, or zero where the file grew.
func (l *luck) tear(c change, before []byte) change {
	switch l.r.IntN(3) {
	case 0:
		return c
	case 1:
		return change{off: c.off, data: c.data[:l.r.IntN(len(c.data)+1)]}
	}
	data := append([]byte{}, c.data...)
	for at := 0; at < len(data); at += sector {
		if l.r.IntN(2) == 0 {
			lost := data[at:min(at+sector, len(data))]
			clear(lost)
			if old := c.off + int64(at); old < int64(len(before)) {
				copy(lost, before[old:])
			}
		}
	}
	return change{off: c.off, data: data}
}
