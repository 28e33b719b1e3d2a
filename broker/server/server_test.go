package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/produce"
)

func silent() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// TestIdentity: a directory belongs to one node of one cluster on one host, in a
// format that this build knows.
func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	first, err := openIdentity(dir, 3, nil)
	if err != nil || first.Cluster == "" || first.Node != 3 {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := openIdentity(dir, 3, nil); err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("%+v, %v; want %+v", again, err, first)
	}
	if _, err := openIdentity(dir, 4, nil); !errors.Is(err, ErrForeignData) || !strings.Contains(err.Error(), "--node-id 3") {
		t.Errorf("another node: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*identity)
		want   error
	}{
		"renamed host": {func(i *identity) { i.Host += "x" }, ErrHostname},
		"newer format": {func(i *identity) { i.Format = formatVersion + 1 }, ErrNewerFormat},
	} {
		changed := first
		c.change(&changed)
		b, _ := json.Marshal(changed)
		if err := os.WriteFile(filepath.Join(dir, identityFile), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openIdentity(dir, 3, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, identityFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openIdentity(dir, 3, nil); err == nil {
		t.Error("half an identity was taken")
	}
}

// TestIdentityKeepsItsFounders: who forms a cluster is decided by the first start;
// where they live is not.
func TestIdentityKeepsItsFounders(t *testing.T) {
	three := []config.Seed{{ID: 0, Address: "a:1"}, {ID: 1, Address: "b:1"}, {ID: 2, Address: "c:1"}}
	moved := []config.Seed{{ID: 0, Address: "a:2"}, {ID: 1, Address: "b:1"}, {ID: 2, Address: "c:1"}}
	others := []config.Seed{{ID: 0, Address: "a:1"}, {ID: 1, Address: "b:1"}, {ID: 5, Address: "c:1"}}
	dir, alone := t.TempDir(), t.TempDir()
	first, err := openIdentity(dir, 1, three)
	if err != nil || len(first.members()) != 3 || first.Deployment == 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := openIdentity(dir, 1, moved); err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("moved: %+v, %v; want %+v", again, err, first)
	}
	if other, _ := openIdentity(t.TempDir(), 1, moved); other.Deployment == first.Deployment {
		t.Error("two clusters have one deployment id")
	}
	if one, err := openIdentity(alone, 1, three[1:2]); err != nil || one.Deployment != 0 || len(one.members()) != 1 {
		t.Errorf("alone: %+v, %v", one, err)
	}
	joins, err := openIdentity(t.TempDir(), model.NoNode, three)
	if err != nil || !joins.Joins || joins.Node != model.NoNode || joins.Cluster != "" || joins.alone() {
		t.Errorf("one that joins: %+v, %v", joins, err)
	}
	for name, c := range map[string]struct {
		dir   string
		seeds []config.Seed
	}{"others": {dir, others}, "none": {dir, nil}, "alone before": {alone, three}} {
		if _, err := openIdentity(c.dir, 1, c.seeds); !errors.Is(err, ErrOtherSeeds) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestJudge: who may vote beside whom.
func TestJudge(t *testing.T) {
	fresh, member := identity{Node: 1, Cluster: "x"}, identity{Node: 1, Cluster: "x", Formed: true}
	for name, c := range map[string]struct {
		id   identity
		g    greeting
		want error
	}{
		"both new":              {fresh, greeting{Cluster: "y", Settled: true}, nil},
		"a new one is late":     {fresh, greeting{Cluster: "y", Formed: true, Settled: true, Come: []model.NodeID{0, 2}}, nil},
		"its disk is lost":      {fresh, greeting{Cluster: "y", Formed: true, Settled: true, Come: []model.NodeID{0, 1}}, ErrWiped},
		"it was there before":   {member, greeting{Cluster: "x", Formed: true, Come: []model.NodeID{0, 1}}, nil},
		"another cluster":       {member, greeting{Cluster: "y", Formed: true}, ErrOtherCluster},
		"the other is new":      {member, greeting{Cluster: "y"}, nil},
		"other seeds":           {identity{Node: 1, Deployment: 5}, greeting{Formed: true, Come: []model.NodeID{1}, Deployment: 6}, nil},
		"it comes back":         {identity{Node: 1, Birth: 1, Disk: "b"}, greeting{Formed: true, Come: []model.NodeID{1}, Disks: map[model.NodeID]string{1: "b"}}, nil},
		"it was replaced":       {identity{Node: 1, Cluster: "x", Formed: true, Disk: "a"}, greeting{Cluster: "x", Formed: true, Come: []model.NodeID{1}, Disks: map[model.NodeID]string{1: "b"}}, ErrGone},
		"it was replaced again": {identity{Node: 1, Birth: 1, Cluster: "x", Formed: true, Disk: "a"}, greeting{Cluster: "x", Formed: true, Come: []model.NodeID{1}, Disks: map[model.NodeID]string{1: "b"}, Births: map[model.NodeID]model.Birth{1: 2}}, ErrGone},
		"it came since":         {identity{Node: 1, Birth: 2, Cluster: "x", Formed: true, Disk: "a"}, greeting{Cluster: "x", Formed: true, Come: []model.NodeID{1}, Disks: map[model.NodeID]string{1: "b"}, Births: map[model.NodeID]model.Birth{1: 1}}, nil},
		"it left":               {identity{Node: 1, Birth: 1, Cluster: "x", Formed: true, Disk: "a"}, greeting{Cluster: "x", Formed: true, Gone: []model.NodeID{1}, Births: map[model.NodeID]model.Birth{1: 1}}, ErrGone},
		"it came after it left": {identity{Node: 1, Birth: 2, Cluster: "x", Formed: true, Disk: "a"}, greeting{Cluster: "x", Formed: true, Gone: []model.NodeID{1}, Births: map[model.NodeID]model.Birth{1: 1}}, nil},
		"it was removed":        {member, greeting{Cluster: "x", Formed: true, Gone: []model.NodeID{1}}, ErrGone},
	} {
		if err := c.id.judge(c.g); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestLock: a data directory is one process's, also over the change of image.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDir(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("locked twice: %v", err)
	}
	// What the new image finds: the same open file under a number of its own.
	fd, err := unix.FcntlInt(lock.Fd(), unix.F_DUPFD, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(envBooted, "1")
	t.Setenv(envHome, t.TempDir())
	t.Setenv(envLock, strconv.Itoa(fd))
	taken, err := Boot(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{envBooted, envHome, envLock} {
		if _, left := os.LookupEnv(k); left {
			t.Errorf("%s is left for children to find", k)
		}
	}
	if flags, err := unix.FcntlInt(taken.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("children would inherit the lock: %v, %v", flags, err)
	}
	if err := errors.Join(lock.Close(), taken.Close()); err != nil {
		t.Fatal(err)
	}
	free, err := lockDir(dir)
	if err != nil {
		t.Fatalf("the lock was not let go of: %v", err)
	}
	defer free.Close()
}

// TestStrangeMarks: an environment that only claims a boot does not get around
// the lock.
func TestStrangeMarks(t *testing.T) {
	other, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, fd := range []string{"", "x", "-1", "9999", strconv.Itoa(int(other.Fd()))} {
		t.Setenv(envBooted, "1")
		t.Setenv(envLock, fd)
		if _, err := Boot(t.TempDir()); !errors.Is(err, errMarks) {
			t.Errorf("lock %q: %v", fd, err)
		}
	}
}

// TestHome goes back to where the command was typed, once an image was replaced.
func TestHome(t *testing.T) {
	run, home := t.TempDir(), t.TempDir()
	t.Chdir(run)
	if err := Home(); err != nil {
		t.Fatal(err)
	}
	if at, _ := os.Getwd(); at != run {
		t.Errorf("an ordinary command went to %s", at)
	}
	t.Setenv(envBooted, "1")
	t.Setenv(envHome, home)
	if err := Home(); err != nil {
		t.Fatal(err)
	}
	if at, _ := os.Getwd(); at != home {
		t.Errorf("in %s, want %s", at, home)
	}
}

// TestSoftSettings are what the library can read.
func TestSoftSettings(t *testing.T) {
	var settings map[string]uint64
	if err := json.Unmarshal([]byte(softSettings), &settings); err != nil || settings["ReceiveQueueLength"] == 0 || settings["TaskQueueTargetLength"] == 0 {
		t.Errorf("%v, %v", settings, err)
	}
}

// dial is a file system whose free space a test turns.
type dial struct {
	free int64
	err  error
}

func (d *dial) ask(string) (room, error) { return room{free: d.free, total: 1 << 30}, d.err }

// TestSpace: writes are refused below the guard and taken again with some slack;
// the reserve is given back when a stranger has taken what the guard kept.
func TestSpace(t *testing.T) {
	dir := t.TempDir()
	d := &dial{free: 1 << 20}
	s := &space{dir: dir, guard: 8000, reserve: 4096, log: silent(), ask: d.ask}
	reserved := func() bool {
		info, err := os.Stat(filepath.Join(dir, reserveFile))
		return err == nil && info.Size() == 4096
	}
	for _, step := range []struct {
		free     int64
		err      error
		refused  bool
		reserved bool
	}{
		{free: 1 << 20, reserved: true},
		{free: 8000, reserved: true},
		{free: 7999, refused: true, reserved: true},
		{free: 8500, refused: true, reserved: true}, // it would flap
		{err: unix.EIO, refused: true, reserved: true},
		{free: 1999, refused: true},
		{free: 9000},
		{err: unix.EIO},
		{free: 13000},
		{free: 14000, reserved: true},
	} {
		d.free, d.err = step.free, step.err
		s.measure()
		if err := s.Check(); errors.Is(err, produce.ErrStorage) != step.refused || (err != nil) != step.refused {
			t.Errorf("%d free: %v", step.free, err)
		}
		if reserved() != step.reserved {
			t.Errorf("%d free: reserved %v", step.free, !step.reserved)
		}
	}
	if s.Free() != 14000 || s.total.Load() != 1<<30 {
		t.Errorf("%d of %d", s.Free(), s.total.Load())
	}
}

// TestReserveOfAnEarlierStart is given back too.
func TestReserveOfAnEarlierStart(t *testing.T) {
	dir := t.TempDir()
	if err := allocate(filepath.Join(dir, reserveFile), 4096); err != nil {
		t.Fatal(err)
	}
	s := openSpace(dir, 0, 4096, silent())
	s.guard, s.ask = 8000, (&dial{free: 100}).ask
	s.measure()
	if _, err := os.Stat(filepath.Join(dir, reserveFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the reserve is still there: %v", err)
	}
}

// TestNoReserve: none is asked for.
func TestNoReserve(t *testing.T) {
	s := openSpace(t.TempDir(), 0, 0, silent())
	if s.held || s.trouble != "" || s.Free() == 0 {
		t.Errorf("held %v, trouble %q, free %d", s.held, s.trouble, s.Free())
	}
}

// TestPurge goes by when a directory was set aside, which its name says: its own
// time is that of its last file, long ago.
func TestPurge(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	old, young := fmt.Sprintf("aa-%d", now.Add(-8*24*time.Hour).Unix()), fmt.Sprintf("b-b-%d", now.Unix())
	for _, name := range []string{old, young, "strange"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Join(path, "0"), 0o750); err != nil {
			t.Fatal(err)
		}
		long := now.Add(-365 * 24 * time.Hour)
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
	}
	if err := purge(dir, now.Add(-removedKeep)); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if got, want := strings.Join(left, " "), young+" strange"; got != want {
		t.Errorf("left %s, want %s", got, want)
	}
}

// TestFaults are news once.
func TestFaults(t *testing.T) {
	f := newFaults()
	id := start{}.id
	damaged := errors.New("damaged")
	for i, c := range []struct {
		err  error
		news bool
	}{{nil, false}, {damaged, true}, {damaged, false}, {errors.New("worse"), true}, {nil, true}, {nil, false}} {
		if f.set(id, c.err) != c.news {
			t.Errorf("%d: %v: news is not %v", i, c.err, c.news)
		}
	}
	if len(f.all()) != 0 {
		t.Error(f.all())
	}
}
