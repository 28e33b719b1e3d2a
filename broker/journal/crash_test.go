package journal_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/disk"
)

// effort multiplies seeds: set by whoever has hours. 1 keeps the whole room within a
// minute on two cores.
var effort = sync.OnceValue(func() uint64 {
	n, err := strconv.ParseUint(os.Getenv("MILLRACE_TEST_EFFORT"), 10, 16)
	if err != nil {
		return 1
	}
	return n
})

// crashing tells how much of the possible a run of the crash tests tries.
type crashing struct {
	seeds  uint64 // histories
	calls  int    // of each
	luck   uint64 // outcomes of each power cut
	every  int    // power is cut at each every-th change
	nested int    // at every nested-th of these, it is cut again at each change of the recovery
}

// TestPowerCuts cuts the power at every change of a history.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]opens{"direct": openJournal, "buffered": buffered(openJournal)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Some 170 changes a history, and two of many outcomes for each.
			all := crashing{seeds: 3 * effort(), calls: 70, luck: 2, every: 1, nested: 24}
			if err := all.run(open, tight); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPowerCutAmongWorkers cuts it while several workers save at once, and share
// writes: each finds what it was told of.
func TestPowerCutAmongWorkers(t *testing.T) {
	t.Parallel()
	for seed := range 40 * effort() {
		if err := cutAmongWorkers(seed); err != nil {
			t.Fatalf("history %d: %v", seed, err)
		}
	}
}

func cutAmongWorkers(seed uint64) error {
	shared := &life{open: openJournal, setup: tight, fs: disk.NewCrashing()}
	if err := shared.start(); err != nil {
		return err
	}
	shared.fs.StopAt(5 + int(seed*37%200))
	lives := make([]*life, 5)
	errs := make([]error, len(lives))
	var wg sync.WaitGroup
	for i := range lives {
		l := *shared
		l.told = tellSeed(seed*100 + uint64(i))
		l.told.cast = []raftio.NodeInfo{{ShardID: uint64(i), ReplicaID: 1}, {ShardID: uint64(i) + 16, ReplicaID: 1}, {ShardID: uint64(i) + 32, ReplicaID: 2}}
		lives[i] = &l
		wg.Go(func() {
			for range 60 {
				c := l.told.next()
				if err := c.on(l.db, l.stopped); err != nil {
					l.flight, errs[i] = c, l.unlessCut(err)
					return
				}
				c.apply(l.told.m)
			}
		})
	}
	wg.Wait()
	_ = shared.db.Close() // which may fail
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for luck := range uint64(4) {
		if err := foundByAll(shared.crash(luck), lives); err != nil {
			return fmt.Errorf("outcome %d: %w", luck, err)
		}
	}
	return nil
}

// foundByAll opens what a power cut has left, for several lives on one log.
func foundByAll(after *life, lives []*life) error {
	if err := after.start(); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if lost := after.db.Damaged(); len(lost) > 0 {
		return fmt.Errorf("damaged by a power cut: %v", lost)
	}
	all := model{}
	for _, l := range lives {
		mine := &life{db: after.db, told: l.told, flight: l.flight}
		m, err := mine.settle()
		if err != nil {
			return err
		}
		maps.Copy(all, m)
	}
	return errors.Join(all.differs(after.db), after.db.Close())
}

// buffered opens on a file system without direct I/O.
func buffered(open opens) opens {
	return func(fs disk.FS, s setup) (store, error) {
		fs.(*disk.Crashing).RefuseDirect()
		return open(fs, s)
	}
}

// TestPlainSurvivesPowerCuts proves the suite: the plain log must pass, and with a
// flaw it must not.
func TestPlainSurvivesPowerCuts(t *testing.T) {
	brief := crashing{seeds: 1, calls: 40, luck: 4, every: 1, nested: 16}
	if err := brief.run(plainWith(flawless), small); err != nil {
		t.Error(err)
	}
	for _, f := range []flaw{noSync, noSyncDir, inPlace, lateState, lateSnapshot} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			thorough := brief
			thorough.seeds, thorough.luck = 8, 16
			if err := thorough.run(plainWith(f), small); err == nil {
				t.Error("not noticed")
			} else {
				t.Log(err)
			}
		})
	}
}

// run cuts the power everywhere.
func (c crashing) run(open opens, s setup) error {
	for seed := range c.seeds {
		for point := 1; ; point += c.every {
			over, err := c.cutAt(open, s, seed, point)
			if err != nil {
				return fmt.Errorf("history %d, power cut at change %d: %w", seed, point, err)
			}
			if over {
				break
			}
		}
	}
	return nil
}

// cutAt lives through a history until the power is cut, and looks at what is left. It
// is over when the history ended before. A log may write on goroutines of its own, so
// the same point need not be in the same call each time: what was acknowledged until
// then is what counts.
func (c crashing) cutAt(open opens, s setup, seed uint64, point int) (over bool, err error) {
	l := &life{open: open, setup: s, fs: disk.NewCrashing(), told: tellSeed(seed)}
	l.fs.StopAt(point)
	if err := l.live(c.calls); err != nil {
		return false, err
	}
	if over = !l.fs.Stopped(); over && point < c.calls {
		return false, fmt.Errorf("the history has only %d changes", point)
	}
	for luck := range c.luck {
		after := l.crash(seed<<40 + uint64(point)<<8 + luck)
		if c.nested > 0 && point/c.every%c.nested == 0 {
			if err := after.crashAgain(); err != nil {
				return false, fmt.Errorf("outcome %d: %w", luck, err)
			}
		}
		if err := after.recover(); err != nil {
			return false, fmt.Errorf("outcome %d: %w", luck, err)
		}
		if err := after.goOn(); err != nil {
			return false, fmt.Errorf("outcome %d: it recovered, but then: %w", luck, err)
		}
	}
	return over, nil
}

// life is a log on a file system that may lose power, with the history that it is
// told.
type life struct {
	open    opens
	setup   setup
	fs      *disk.Crashing
	db      store
	stopped chan struct{} // closed by the log's Fatal
	told    *teller       // its model is what was acknowledged
	flight  call          // the one that failed: it may have come to something or not
}

func (l *life) start() (err error) {
	stopped := make(chan struct{})
	var once sync.Once
	s := l.setup
	s.fatal = func(error) { once.Do(func() { close(stopped) }) }
	l.stopped = stopped
	l.db, err = l.open(l.fs, s)
	return err
}

// live makes calls, reopening the log now and then, until the power is cut. What
// fails without that is an error, and so is a log that acknowledges after it failed.
func (l *life) live(calls int) error {
	if err := l.start(); err != nil {
		return l.unlessCut(err)
	}
	for i := range calls {
		if i%40 == 39 {
			if err := errors.Join(l.db.Close(), l.start()); err != nil {
				return l.unlessCut(err)
			}
			l.told.m.reopened()
		}
		c := l.told.next()
		if err := c.on(l.db, l.stopped); err != nil {
			l.flight = c
			defer l.db.Close() // which fails as well
			return errors.Join(l.unlessCut(fmt.Errorf("%v: %w", c, err)), refuses(l.db))
		}
		c.apply(l.told.m)
	}
	return l.unlessCut(l.db.Close())
}

func (l *life) unlessCut(err error) error {
	if l.fs.Stopped() {
		return nil
	}
	return err
}

// refuses tries that a log which has failed acknowledges nothing more.
func refuses(db raftio.ILogDB) error {
	n := raftio.NodeInfo{ShardID: 16, ReplicaID: 1}
	for _, c := range []call{
		saves(n, pb.State{Term: 1}, entry(1, 1)), saves(n, pb.State{Term: 1}), saves(n, pb.State{Term: 1, Commit: 1}),
		takes(n, 1, 1), saveBootstrap{n, pb.Bootstrap{Join: true}}, removeNode{n}, importSnapshot{n, snapshotOf(n, 1, 1)},
	} {
		if err := c.on(db, nil); err == nil {
			return fmt.Errorf("%v was acknowledged after a failure", c)
		}
	}
	return nil
}

func (l *life) model() model {
	if l.told == nil {
		return model{}
	}
	return l.told.m
}

// crash is the life of the machine that comes up again.
func (l *life) crash(luck uint64) *life {
	return &life{open: l.open, setup: l.setup, fs: l.fs.Crash(luck), flight: l.flight, told: tell(rand.New(rand.NewPCG(luck, 2)), l.model().clone())}
}

// recover opens the log, which must be whole: it holds all that was acknowledged, and
// the call in flight wholly or not at all, by node. Then that is what it holds.
func (l *life) recover() error {
	if err := l.start(); err != nil {
		l.db = nil
		return fmt.Errorf("open: %w", err)
	}
	if lost := l.db.Damaged(); len(lost) > 0 {
		return fmt.Errorf("damaged by a power cut: %v", lost)
	}
	m, err := l.settle()
	if err != nil {
		return err
	}
	l.told.m, l.flight = m, nil
	return m.differs(l.db)
}

func (l *life) settle() (model, error) {
	m := l.told.m.clone()
	m.reopened()
	nodes := slices.Collect(maps.Keys(m))
	if l.flight != nil {
		nodes = append(nodes, l.flight.nodes()...)
	}
	found := model{}
	for _, n := range nodes {
		is, err := m[n], m.of(n).differs(l.db, n)
		if err != nil {
			is, err = l.outcome(n, err)
		}
		if err != nil {
			return nil, fmt.Errorf("%v: %w", n, err)
		}
		if is != nil {
			found[n] = is
			l.adopt(n, is)
		}
	}
	return found, nil
}

// outcome finds what the call in flight has come to, for a node that is not as if it
// had not been made.
func (l *life) outcome(n raftio.NodeInfo, err error) (*replica, error) {
	for i, c := range outcomes(l.flight, n) {
		m := model{n: l.told.m.of(n)}.clone()
		c.apply(m)
		m.reopened()
		e := m.of(n).differs(l.db, n)
		if e == nil {
			return m.of(n), nil
		}
		if i == 0 {
			err = fmt.Errorf("%w; or, if %v was done, %w; nor is it a part of that", err, c, e)
		}
	}
	return nil, err
}

// outcomes are what a call that failed may have done to a node, but for nothing. Of an
// update's entries the last may be missing: they can be too many for one write.
func outcomes(c call, n raftio.NodeInfo) (all []call) {
	if c == nil || !slices.Contains(c.nodes(), n) {
		return nil
	}
	updates, ok := c.(saveState)
	if !ok {
		return []call{c}
	}
	for _, u := range updates {
		if nodeOf(u) != n {
			continue
		}
		all = append(all, saveState{u})
		for keep := len(u.EntriesToSave) - 1; keep > 0; keep-- {
			part := u
			part.EntriesToSave = u.EntriesToSave[:keep]
			all = append(all, saveState{part})
		}
	}
	return all
}

// adopt takes the commit that the log remembers for the one raft goes on from.
func (l *life) adopt(n raftio.NodeInfo, r *replica) {
	if s, err := l.db.ReadRaftState(n.ShardID, n.ReplicaID, r.snapshot.Index); err == nil {
		r.state.Commit = s.State.Commit
	}
}

// crashAgain cuts the power at each change of the recovery. What one recovery has
// shown, raft has acted on: another may not take it back.
func (l *life) crashAgain() error {
	for point := 1; ; point++ {
		fork := l.crash(uint64(point)) // nothing is unsynced yet: a copy
		fork.fs.StopAt(point)
		err := fork.recover()
		if opened := fork.db != nil; opened {
			_ = fork.db.Close() // the power may go here too
			if err != nil {
				return err
			}
		}
		if !fork.fs.Stopped() {
			return err
		}
		for luck := range uint64(2) {
			third := fork.crash(luck*1000 + uint64(point))
			if err := third.recover(); err != nil {
				return fmt.Errorf("power cut again at change %d of the recovery, outcome %d: %w", point, luck, err)
			}
			if err := third.goOn(); err != nil {
				return fmt.Errorf("power cut again at change %d of the recovery, outcome %d: it recovered, but then: %w", point, luck, err)
			}
		}
	}
}

// goOn sees that a recovered log takes more, and keeps it.
func (l *life) goOn() error {
	if err := live(l.told, l.db, 12); err != nil {
		return err
	}
	if err := errors.Join(l.told.m.differs(l.db), l.db.Close(), l.start()); err != nil {
		return err
	}
	l.told.m.reopened()
	return errors.Join(l.told.m.differs(l.db), l.db.Close())
}
