package journal_test

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"pgregory.net/rapid"

	"github.com/millrace-io/millrace/broker/disk"
)

// choices lets rapid make a teller's choices, so that it can shrink a history. It
// draws mostly small numbers, and rand decides by the high bits.
type choices struct{ t *rapid.T }

func (c choices) Uint64() uint64 { return bits.Reverse64(rapid.Uint64().Draw(c.t, "choice")) }

// fatal passes verdicts to rapid.
type fatal struct {
	testing.TB
	t *rapid.T
}

func (f fatal) Helper()                      { f.t.Helper() }
func (f fatal) Fatal(args ...any)            { f.t.Fatal(args...) }
func (f fatal) Fatalf(s string, args ...any) { f.t.Fatalf(s, args...) }
func (f fatal) Errorf(s string, args ...any) { f.t.Errorf(s, args...) }

// pair is a log beside dragonboat's own, both told the same, with the model of what
// they must hold.
type pair struct {
	t          testing.TB
	told       *teller
	db         raftio.ILogDB
	reopenDB   func() raftio.ILogDB
	pebble     raftio.ILogDB
	dir        string
	transcript []string
}

// sideBySide opens both for one history.
func sideBySide(t testing.TB, told *teller, open opens, s setup) (p *pair, done func()) {
	t.Helper()
	fs := disk.NewMemory()
	where, err := os.MkdirTemp("", "pebble")
	if err != nil {
		t.Fatal(err)
	}
	p = &pair{t: t, told: told, dir: where, db: opened(t, open, fs, s), pebble: openPebble(t, where)}
	p.reopenDB = func() raftio.ILogDB {
		closed(t, p.db)
		return opened(t, open, fs, s)
	}
	return p, func() {
		closed(t, p.db)
		closed(t, p.pebble)
		if err := os.RemoveAll(where); err != nil {
			t.Error(err)
		}
	}
}

// step makes one call on both, and compares what it touched, or reopens.
func (p *pair) step() {
	p.t.Helper()
	switch p.told.r.IntN(60) {
	case 0:
		p.reopen()
		p.compareAll()
		return
	case 1:
		if p.told.r.IntN(4) == 0 {
			p.make(p.told.imported())
			p.told.ahead = nil // its snapshot is older than what was imported
			p.reopen()         // as the tool does: pebble's caches know nothing of an import
			p.compareAll()
			return
		}
	}
	c := p.told.next()
	p.make(c)
	if _, removes := c.(removeNode); removes {
		p.reopenPebble() // its caches remember the node
	}
	for _, n := range c.nodes() {
		p.compare(n)
	}
	p.compare(p.told.cast[p.told.r.IntN(len(p.told.cast))])
}

func (p *pair) make(c call) {
	p.t.Helper()
	p.transcript = append(p.transcript, c.String())
	for name, db := range map[string]raftio.ILogDB{"the journal": p.db, "pebble": p.pebble} {
		if err := c.on(db, nil); err != nil {
			p.fail("%s: %v: %v", name, c, err)
		}
	}
	c.apply(p.told.m)
}

func (p *pair) reopen() {
	p.transcript = append(p.transcript, "reopen")
	p.db = p.reopenDB()
	p.reopenPebble()
	p.told.m.reopened()
}

func (p *pair) reopenPebble() {
	closed(p.t, p.pebble)
	p.pebble = openPebble(p.t, p.dir)
}

// compareAll holds both to the model, in all they have.
func (p *pair) compareAll() {
	p.t.Helper()
	for name, db := range map[string]raftio.ILogDB{"the journal": p.db, "pebble": p.pebble} {
		if err := p.told.m.differs(db, p.told.cast...); err != nil {
			p.fail("%s: %v", name, err)
		}
	}
}

// compare holds both to the model of a node, and to each other in what the model does
// not say: how they answer for odd ranges and sizes.
func (p *pair) compare(n raftio.NodeInfo) {
	p.t.Helper()
	r := p.told.m.of(n)
	for name, db := range map[string]raftio.ILogDB{"the journal": p.db, "pebble": p.pebble} {
		for _, err := range []error{r.bootDiffers(db, n), r.snapshotDiffers(db, n), r.stateDiffers(db, n), p.told.m.listDiffers(db)} {
			if err != nil {
				p.fail("%s: %v: %v", name, n, err)
			}
		}
	}
	for range 3 {
		p.compareRange(n, r)
	}
}

// compareRange asks both for entries. They need not agree at or below base, where
// dragonboat never asks: a removed entry may still be there.
func (p *pair) compareRange(n raftio.NodeInfo, r *replica) {
	p.t.Helper()
	some := p.told.r
	low := r.base + 1 + some.Uint64N(r.last()-r.base+3)
	high := low + some.Uint64N(12)
	maxSize := some.Uint64N(3000)
	switch some.IntN(4) {
	case 0:
		high = low + some.Uint64N(r.last()-r.base+3)
		maxSize = 1 << 40
	case 1:
		maxSize = sizeOf(r.after(low - 1)) // as much as there is
	}
	ents, size := []pb.Entry(nil), uint64(0)
	if some.IntN(4) == 0 {
		ents, size = []pb.Entry{{Index: 1 << 60}}, some.Uint64N(100)
	}
	a, sizeA, errA := p.db.IterateEntries(slices.Clone(ents), size, n.ShardID, n.ReplicaID, low, high, maxSize)
	b, sizeB, errB := p.pebble.IterateEntries(slices.Clone(ents), size, n.ShardID, n.ReplicaID, low, high, maxSize)
	if err := entriesDiffer(a, b); err != nil || sizeA != sizeB || errA != nil || errB != nil {
		p.fail("%v [%d,%d) max %d of %d..%d: %v; %d bytes, %v; pebble gives %s of %d bytes, %v",
			n, low, high, maxSize, r.base+1, r.last(), err, sizeA, errA, span(b), sizeB, errB)
	}
}

func (p *pair) fail(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("%s\nafter\n%s", fmt.Sprintf(format, args...), strings.Join(p.transcript, "\n"))
}

// TestPlainAnswersLikePebble proves the suite.
func TestPlainAnswersLikePebble(t *testing.T) {
	t.Parallel()
	differential(t, plainWith(flawless), 4, 60)
}

// differential looks for a short history that is answered differently, then goes
// through long ones.
func differential(t *testing.T, open opens, seeds uint64, steps int) {
	t.Run("rapid", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			told := tell(rand.New(choices{rt}), model{})
			told.cmdMax = 3000
			p, done := sideBySide(fatal{t, rt}, told, open, small)
			defer done()
			for range rapid.IntRange(1, 50).Draw(rt, "steps") {
				p.step()
			}
			p.compareAll()
		})
	})
	for seed := range seeds * effort() {
		t.Run(fmt.Sprintf("history %d", seed), func(t *testing.T) {
			p, done := sideBySide(t, tellSeed(seed), open, small)
			defer done()
			for range steps {
				p.step()
			}
			p.compareAll()
			p.reopen()
			p.compareAll()
		})
	}
}
