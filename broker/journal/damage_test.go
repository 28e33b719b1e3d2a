package journal_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lni/dragonboat/v4/raftio"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/journal"
)

// TestDamage damages the journal's files, after a Close and after a power cut.
func TestDamage(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprintf("closed %v", clean), func(t *testing.T) {
			t.Parallel()
			for seed := range effort() {
				all := damaging{calls: 120, flips: 48, cuts: 8, clean: clean, removes: true}
				if err := all.run(t.Logf, openJournal, tight, seed); err != nil {
					t.Errorf("history %d: %v", seed, err)
				}
			}
		})
	}
}

// TestPlainNoticesDamage proves the suite.
func TestPlainNoticesDamage(t *testing.T) {
	t.Parallel()
	brief := damaging{calls: 60, flips: 40, cuts: 10, clean: true}
	if err := brief.run(t.Logf, plainWith(flawless), small, 1); err != nil {
		t.Error(err)
	}
	for _, f := range []flaw{noChecksum, tolerant} {
		if err := brief.run(t.Logf, plainWith(f), small, 1); err == nil {
			t.Errorf("%s: not noticed", f)
		} else {
			t.Log(err)
		}
	}
}

// damaging tells how much of the possible is tried.
type damaging struct {
	calls       int  // before the damage
	flips, cuts int  // places in each file
	clean       bool // the log was closed
	removes     bool // whole files go too
}

// run damages every file in many places, each in a copy of its own.
func (d damaging) run(logf func(string, ...any), open opens, s setup, seed uint64) error {
	sc, err := d.scene(open, s, seed)
	if err != nil {
		return err
	}
	seen := map[string]int{}
	for _, h := range sc.harms(rand.New(rand.NewPCG(seed, 3)), d) {
		v, err := sc.judge(h)
		if err != nil {
			return fmt.Errorf("%v: %w", h, err)
		}
		seen[h.kind+" "+v]++
	}
	logf("clean stop %v, history %d: %v", d.clean, seed, seen)
	for _, kind := range []string{"flip", "zero", "cut"} {
		if seen[kind+" named"]+seen[kind+" refused"] == 0 {
			return fmt.Errorf("no %s met anything that lives: %v", kind, seen)
		}
	}
	return nil
}

// scene is what is on the disk when the damage is done, and what it should be.
type scene struct {
	open  opens
	setup setup
	fs    *disk.Crashing
	m     model
	// before is the model without the last call, and last are the pages that it wrote.
	// After an unclean stop, damage there may look like a write that was torn before
	// anybody was told of it: then the call may be gone, or a part of it. Nothing else
	// may.
	before model
	call   call
	last   map[page]bool
	// old is an earlier time's content of pages, which is what a lost write leaves.
	old map[page][]byte
}

type page struct {
	file string
	at   int64
}

const pageBytes = 4096

func (d damaging) scene(open opens, s setup, seed uint64) (*scene, error) {
	l := &life{open: open, setup: s, fs: disk.NewCrashing(), told: tellSeed(seed)}
	l.told.retired = map[raftio.NodeInfo]bool{} // of one that came again, the first may be all there is left
	if err := l.start(); err != nil {
		return nil, err
	}
	if !d.clean {
		defer func() { _ = l.db.Close() }() // which the file system that is looked at does not see
	}
	if err := l.makes(d.calls / 2); err != nil {
		return nil, err
	}
	sc := &scene{open: open, setup: s, last: map[page]bool{}}
	var err error
	if sc.old, err = pages(l.fs.Crash(seed)); err != nil {
		return nil, err
	}
	if err := l.makes(d.calls / 2); err != nil {
		return nil, err
	}
	last := l.told.next()
	for !writes(last) {
		if err := l.make(last); err != nil {
			return nil, err
		}
		last = l.told.next()
	}
	sc.before, sc.call = l.told.m.clone(), last
	prior, err := pages(l.fs.Crash(seed))
	if err != nil {
		return nil, err
	}
	if err := l.make(last); err != nil {
		return nil, err
	}
	if d.clean {
		if err := l.db.Close(); err != nil {
			return nil, err
		}
		sc.before = l.told.m.clone()
	}
	sc.fs, sc.m = l.fs.Crash(seed), l.told.m.clone()
	now, err := pages(sc.fs)
	for p, b := range now {
		sc.last[p] = !d.clean && !bytes.Equal(b, prior[p])
	}
	sc.m.reopened()
	sc.before.reopened()
	return sc, err
}

// writes tells whether a call must reach the disk.
func writes(c call) bool {
	s, ok := c.(saveState)
	return ok && len(s[0].EntriesToSave) > 0
}

func (l *life) makes(calls int) error {
	for range calls {
		if err := l.make(l.told.next()); err != nil {
			return err
		}
	}
	return nil
}

func (l *life) make(c call) error {
	if err := c.on(l.db, l.stopped); err != nil {
		return fmt.Errorf("%v: %w", c, err)
	}
	c.apply(l.told.m)
	return nil
}

// pages reads every file of a log.
func pages(fs *disk.Crashing) (map[page][]byte, error) {
	all := map[page][]byte{}
	for _, name := range fs.Files(dir) {
		b, err := disk.ReadFile(fs, name, 1<<30)
		if err != nil {
			return nil, err
		}
		for at := 0; at < len(b); at += pageBytes {
			all[page{name, int64(at)}] = b[at:min(at+pageBytes, len(b))]
		}
	}
	return all, nil
}

// harm is what a bad disk does to a file.
type harm struct {
	kind string // flip, zero, stale, cut, remove
	page
	mask byte
	data []byte
}

func (h harm) String() string {
	return fmt.Sprintf("%s %s at %d", h.kind, filepath.Base(h.file), h.at)
}

// harms are those to try.
func (sc *scene) harms(r *rand.Rand, d damaging) (all []harm) {
	for _, name := range sc.fs.Files(dir) {
		info, err := sc.fs.Stat(name)
		if err != nil || info.Size == 0 { // a lock
			continue
		}
		for i := range int64(d.flips) { // spread evenly, not to leave a file's better part out
			at := (info.Size*i + r.Int64N(info.Size)) / int64(d.flips)
			all = append(all, harm{kind: "flip", page: page{name, at}, mask: 1 << r.IntN(8)})
		}
		for range d.cuts {
			all = append(all, harm{kind: "cut", page: page{name, r.Int64N(info.Size)}})
		}
		for _, at := range []int64{0, 1, pageBytes, info.Size - 1, info.Size - pageBytes} {
			if at >= 0 && at < info.Size {
				all = append(all, harm{kind: "cut", page: page{name, at}})
			}
		}
		for at := int64(0); at < info.Size; at += pageBytes {
			n := min(pageBytes, info.Size-at)
			all = append(all, harm{kind: "zero", page: page{name, at}, data: make([]byte, n)})
			if old := sc.old[page{name, at}]; int64(len(old)) == n {
				all = append(all, harm{kind: "stale", page: page{name, at}, data: old})
			}
		}
		if d.removes {
			all = append(all, harm{kind: "remove", page: page{file: name}})
		}
	}
	// That the newest file is gone nothing tells.
	newest := ""
	for p := range sc.last {
		if filepath.Ext(p.file) == ".journal" {
			newest = max(newest, p.file)
		}
	}
	return slices.DeleteFunc(all, func(h harm) bool { return h.kind == "remove" && h.file == newest })
}

func (h harm) do(fs *disk.Crashing) error {
	switch h.kind {
	case "flip":
		return fs.Corrupt(h.file, h.at, h.mask)
	case "remove":
		return errors.Join(fs.Remove(h.file), fs.SyncDir(dir))
	}
	f, err := fs.OpenAppend(h.file)
	if err != nil {
		return err
	}
	if h.kind == "cut" {
		err = f.Truncate(h.at)
	} else {
		_, err = f.WriteAt(h.data, h.at)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// forgets tells whether a harm takes so much that nothing may be left of a node, not
// even a name: whoever finds others named must not start one from nothing.
func (h harm) forgets() bool { return h.kind == "cut" || h.kind == "remove" }

// judge opens a damaged copy. A log may refuse to open, naming the file. One that
// opens holds all that was acknowledged of every node it does not name, and still does
// after it was used and opened again.
func (sc *scene) judge(h harm) (verdict string, err error) {
	l := &life{open: sc.open, setup: sc.setup, fs: sc.fs.Crash(0)}
	if err := h.do(l.fs); err != nil {
		return "", err
	}
	if err := l.start(); err != nil {
		if !strings.Contains(err.Error(), filepath.Base(h.file)) {
			return "", fmt.Errorf("refused without naming the file: %w", err)
		}
		return "refused", nil
	}
	found, lost, err := sc.intact(l.db, h)
	if err != nil {
		return "", errors.Join(err, l.db.Close())
	}
	l.told = tell(rand.New(rand.NewPCG(uint64(h.at), 5)), found)
	l.told.cast, l.told.removals = slices.SortedFunc(maps.Keys(found), func(a, b raftio.NodeInfo) int {
		return cmp.Or(cmp.Compare(a.ShardID, b.ShardID), cmp.Compare(a.ReplicaID, b.ReplicaID))
	}), false
	if len(found) > 0 {
		if err := live(l.told, l.db, 6); err != nil {
			return "", fmt.Errorf("it opened with %d named, but then: %w", len(lost), err)
		}
	}
	if err := errors.Join(l.db.Close(), l.start()); err != nil {
		return "", fmt.Errorf("it opened with %d named, but not again: %w", len(lost), err)
	}
	found.reopened()
	for n, r := range found {
		if err := r.differs(l.db, n); err != nil {
			return "", fmt.Errorf("opened again: %v: %w", n, err)
		}
	}
	for n := range sc.m {
		if lost[n] != nil && l.db.Damaged()[n] == nil {
			return "", fmt.Errorf("opened again: %v is no longer named", n)
		}
	}
	verdict = "harmless"
	if len(lost) > 0 {
		verdict = "named"
	}
	return verdict, l.db.Close()
}

// intact gives what is there of the nodes that are not named, which must be all.
func (sc *scene) intact(db store, h harm) (found model, lost map[raftio.NodeInfo]error, err error) {
	lost = db.Damaged()
	for n := range lost {
		_, _, _ = db.IterateEntries(nil, 0, n.ShardID, n.ReplicaID, 1, 1000, math.MaxUint64) // whatever it says: nobody starts it
	}
	found = model{}
	excused := sc.last[page{h.file, h.at / pageBytes * pageBytes}] || h.kind == "remove" || h.kind == "cut"
	for n, r := range sc.m {
		if lost[n] != nil {
			continue
		}
		found[n] = r
		err := r.differs(db, n)
		if err != nil && excused {
			found[n], err = sc.excuse(db, n, err)
		}
		if err != nil && h.forgets() && len(lost) > 0 && (&replica{}).differs(db, n) == nil {
			delete(found, n)
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%v is not named, but lost: %w (%d named)", n, err, len(lost))
		}
	}
	return found.clone(), lost, nil
}

// excuse finds what is left of the last call.
func (sc *scene) excuse(db store, n raftio.NodeInfo, err error) (*replica, error) {
	if e := sc.before.of(n).differs(db, n); e != nil {
		l := &life{db: db, told: &teller{m: sc.before}, flight: sc.call}
		return l.outcome(n, fmt.Errorf("%w; or, without the last call, %w", err, e))
	}
	return sc.before.of(n), nil
}

// A damaged node stays named until it is removed, or a snapshot is imported for it.
func TestDamageEndsWithTheNode(t *testing.T) {
	t.Parallel()
	ss := snapshotOf(one, 100, 5)
	for name, end := range map[string]call{"removed": removeNode{one}, "imported": importSnapshot{one, ss}, "left": removeTo{one, 1}} {
		t.Run(name, func(t *testing.T) {
			l := lasts(t, small)
			l.begin(one, 3, 5000)
			l.begin(busy, 3, 100)
			reopen := func() {
				closed(t, l.db)
				var err error
				if l.db, err = openJournal(l.watched, setup{fileBytes: small.fileBytes, bytesMax: small.bytesMax, fatal: func(err error) { t.Error(err) }}); err != nil {
					t.Fatal(err)
				}
				l.m.reopened()
			}
			if err := l.fs.Corrupt(dir+"/0000000000000001.journal", 3*4096+1000, 1); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				reopen()
				if lost := l.db.Damaged(); len(lost) != 1 || !errors.Is(lost[one], journal.ErrDamaged) {
					t.Fatalf("damaged %v, want %v alone", lost, one)
				}
			}
			l.do(end)
			for range 2 {
				if lost := l.db.Damaged(); (len(lost) > 0) != (name == "left") {
					t.Fatalf("damaged %v", lost)
				}
				if name != "left" {
					if err := l.m.differs(l.db, one); err != nil {
						t.Fatal(err)
					}
				}
				reopen()
			}
		})
	}
}
