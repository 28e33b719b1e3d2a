package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lni/dragonboat/v4/raftio"

	"github.com/millrace-io/millrace/broker/disk"
)

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
	// anybody was told of it: then the call may be gone. Nothing else may.
	before model
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
	if err := l.start(); err != nil {
		return nil, err
	}
	defer func() { _ = l.db.Close() }() // of an unclean stop nobody sees this
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
	sc.before = l.told.m.clone()
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
	return all
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
	l.told.cast, l.told.removals = nil, false
	for n := range found {
		l.told.cast = append(l.told.cast, n)
	}
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
		if found[n] == nil && l.db.Damaged()[n] == nil {
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
		if sc.m[n] == nil && sc.before[n] == nil {
			return nil, nil, fmt.Errorf("%v is named, which is not there", n)
		}
		if err := honest(db, n, sc.m.of(n)); err != nil {
			return nil, nil, fmt.Errorf("%v is named, and gives something else: %w", n, err)
		}
	}
	found = model{}
	excused := sc.last[page{h.file, h.at / pageBytes * pageBytes}] || h.kind == "remove" || h.kind == "cut"
	for n, r := range sc.m {
		if lost[n] != nil {
			continue
		}
		found[n] = r
		err := r.differs(db, n)
		if err != nil && excused && sc.before.of(n).differs(db, n) == nil {
			found[n], err = sc.before.of(n), nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%v is not named, but lost: %w (%d named)", n, err, len(lost))
		}
	}
	return found.clone(), lost, nil
}

// honest sees that a damaged node shows no entry that is not its own.
func honest(db store, n raftio.NodeInfo, r *replica) error {
	got, _, err := db.IterateEntries(nil, 0, n.ShardID, n.ReplicaID, r.base+1, r.last()+1, math.MaxUint64)
	if err != nil {
		return nil
	}
	if len(got) > len(r.entries) {
		return fmt.Errorf("entries %s, want at most %s", span(got), span(r.entries))
	}
	return entriesDiffer(got, r.entries[:len(got)])
}
