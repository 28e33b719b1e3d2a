package journal_test

import (
	"log"
	"log/slog"
	"reflect"
	"testing"
	"unsafe"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/logger"
	"github.com/lni/dragonboat/v4/plugin/tee"
	"github.com/lni/dragonboat/v4/raftio"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/journal"
)

// TestMain keeps dragonboat and pebble quiet: they log every file they open.
func TestMain(m *testing.M) {
	log.SetOutput(discard{})
	for _, name := range []string{"logdb", "LogDB", "tan", "pebblekv", "config", "fileutil"} {
		logger.GetLogger(name).SetLevel(logger.ERROR)
	}
	m.Run()
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// workers is dragonboat's ExecShards: as many goroutines call SaveRaftState, each
// for its own shards.
const workers = 16

// worker gives the id with which dragonboat saves a shard.
func worker(shard uint64) uint64 { return shard%workers + 1 }

// openPebble opens the log that dragonboat comes with, the reference of what each
// method answers. Its constructor is internal; the tee, made to run two logs side by
// side, is the only public door to it, so one of the two is taken out of there.
func openPebble(t testing.TB, dir string) raftio.ILogDB {
	t.Helper()
	c := config.NodeHostConfig{NodeHostDir: dir, RTTMillisecond: 1, RaftAddress: "localhost:1"}
	if err := c.Prepare(); err != nil {
		t.Fatal(err)
	}
	c.Expert.LogDB = config.GetTinyMemLogDBConfig()
	c.Expert.LogDB.Shards = 1 // stores, not shards: one opens faster than 16 and answers alike
	c.Expert.Engine = config.GetDefaultEngineConfig()
	both, err := tee.CreateTanPebbleLogDB(c, nil, []string{dir}, []string{dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := half(both, "odb").Close(); err != nil {
		t.Fatal(err)
	}
	return half(both, "ndb")
}

// half reads an unexported field of the tee.
func half(both raftio.ILogDB, field string) raftio.ILogDB {
	v := reflect.ValueOf(both).Elem().FieldByName(field)
	return reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem().Interface().(raftio.ILogDB)
}

// store is a log on a file system: dragonboat's interface, and the names of the nodes
// whose log was lost to damage.
type store interface {
	raftio.ILogDB
	Damaged() map[raftio.NodeInfo]error
}

// setup is what a test says of a log, but for its file system.
type setup struct {
	fileBytes, bytesMax int64
	fatal               func(error)
	pinned              func(raftio.NodeInfo)
}

// roomy has files that take the largest command.
var roomy = setup{fileBytes: 8 << 20, bytesMax: 4 * 8 << 20}

// small makes files so small that a long history rolls and recycles them.
var small = setup{fileBytes: 64 << 10, bytesMax: 8 * 64 << 10}

// tight makes them so few that a short history does, and that nodes must be moved.
var tight = setup{fileBytes: 64 << 10, bytesMax: 4 * 64 << 10}

// opens opens a log on a file system, in dir.
type opens func(fs disk.FS, s setup) (store, error)

// openJournal opens the one all this is about.
func openJournal(fs disk.FS, s setup) (store, error) {
	j, err := journal.Open(journal.Options{
		FS: fs, Dir: dir, FileBytes: s.fileBytes, BytesMax: s.bytesMax, Log: slog.New(slog.DiscardHandler), Fatal: s.fatal, Pinned: s.pinned,
	})
	if err != nil {
		return nil, err // not a nil *Journal that is a store
	}
	return j, nil
}

const dir = "/data/journal"
