package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"github.com/millrace-io/millrace/test/node"
)

const (
	smallDisk = 256 << 20
	// recoverLimit is how soon after space is back writes must be taken again.
	recoverLimit = 30 * time.Second
)

func smallNode(t *testing.T, disk string, args ...string) *node.Node {
	return node.Start(t, node.Options{Dir: filepath.Join(disk, "data"), Args: append([]string{
		"--memory", "256M", "--set", "low_space_guard=64M", "--set", "low_space_reserve=16M",
		"--set", "snapshot_bytes=8M", "--set", "housekeep_every=100ms",
	}, args...)})
}

// writeTo writes records of 64 KiB until one fails, at most limit, and tells
// how many were acknowledged.
func writeTo(t *testing.T, n *node.Node, topic string, limit int) (acked int, err error) {
	t.Helper()
	cl := plain(n)
	defer cl.Close()
	ctx := within(t, 60*time.Second)
	for acked < limit {
		if err = cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: numbered(acked)}).FirstErr(); err != nil {
			return acked, err
		}
		acked++
	}
	return acked, nil
}

func numbered(i int) []byte { return append(fmt.Appendf(nil, "%08d", i), make([]byte, 64<<10)...) }

// checkNumbered reads a topic of writeTo back: all that was acknowledged, in order.
func checkNumbered(t *testing.T, n *node.Node, topic string, acked int) {
	t.Helper()
	read, err := readPartition(t, n, topic, 0, 0)
	if err != nil {
		t.Errorf("read %s: %v", topic, err)
	}
	if len(read) < acked {
		t.Errorf("%d records of %s read, %d were acknowledged", len(read), topic, acked)
	}
	for i, r := range read[:min(acked, len(read))] {
		if string(r.Value[:8]) != fmt.Sprintf("%08d", i) {
			t.Fatalf("record %d of %s is %s", i, topic, r.Value[:8])
		}
	}
}

// awaitWrites waits until a record is taken again, and counts it.
func awaitWrites(t *testing.T, n *node.Node, topic string, acked *int) {
	t.Helper()
	began := time.Now()
	await(t, recoverLimit, "writes are taken again", func() bool {
		more, _ := writeOne(t, n, topic, *acked)
		*acked += more
		return more > 0
	})
	t.Logf("writes taken again %v after space came back", time.Since(began).Round(time.Millisecond))
}

func writeOne(t *testing.T, n *node.Node, topic string, number int) (acked int, err error) {
	cl := plain(n)
	defer cl.Close()
	if err := cl.ProduceSync(within(t, 5*time.Second), &kgo.Record{Topic: topic, Value: numbered(number)}).FirstErr(); err != nil {
		return 0, err
	}
	return 1, nil
}

// TestDiskLow fills the disk by produce: writes are refused before anything
// meets its end, reads go on, and deleting a topic brings writes back.
func TestDiskLow(t *testing.T) {
	disk := node.SmallDisk(t, smallDisk)
	n := smallNode(t, disk)
	makeTopic(t, n, "ballast", 1)
	makeTopic(t, n, "kept", 1)
	kept, err := writeTo(t, n, "kept", 100)
	if err != nil {
		t.Fatal(err)
	}
	ballast, err := writeTo(t, n, "ballast", smallDisk/(64<<10))
	if !errors.Is(err, kerr.KafkaStorageError) {
		t.Fatalf("after %d records: %v, want KAFKA_STORAGE_ERROR", ballast, err)
	}
	t.Logf("refused after %d MiB, %d MiB free", (kept+ballast)>>4, freeBytes(t, disk)>>20)
	if h := health(t, n); !h.LowSpace || h.Healthy {
		t.Errorf("health does not tell of low space: %+v", h)
	}
	checkNumbered(t, n, "kept", kept)
	checkNumbered(t, n, "ballast", ballast)
	if _, err := kadm.NewClient(n.Client()).DeleteTopics(within(t, 20*time.Second), "ballast"); err != nil {
		t.Fatalf("delete a topic while the disk is low: %v", err)
	}
	awaitWrites(t, n, "kept", &kept)
	checkNumbered(t, n, "kept", kept)
	n.Stop()
	n.Restart()
	checkNumbered(t, n, "kept", kept)
}

func freeBytes(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// TestDiskTaken has a stranger take all that is left, the reserve too, from an
// idle node: it lives and serves reads. Killed, it says why it cannot start; with
// space again it has everything acknowledged.
func TestDiskTaken(t *testing.T) {
	disk := node.SmallDisk(t, smallDisk)
	n := smallNode(t, disk)
	makeTopic(t, n, "kept", 1)
	kept, err := writeTo(t, n, "kept", 200)
	if err != nil {
		t.Fatal(err)
	}
	// What is under way ends first: a flush that meets the full disk ends the node.
	free, quiet := freeBytes(t, disk), 0
	await(t, 10*time.Second, "the disk is left alone", func() bool {
		now := freeBytes(t, disk)
		quiet++
		if now != free {
			free, quiet = now, 0
		}
		return quiet == 25
	})
	node.TakeAll(t, disk)
	await(t, 5*time.Second, "the reserve is given back", func() bool {
		_, err := os.Stat(filepath.Join(n.O.Dir, "RESERVE"))
		return os.IsNotExist(err)
	})
	node.TakeAll(t, disk) // and takes the reserve too
	if more, err := writeOne(t, n, "kept", kept); !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("write to a full disk: %d acknowledged, %v, want KAFKA_STORAGE_ERROR", more, err)
	}
	checkNumbered(t, n, "kept", kept)
	n.Kill()
	// Files that were removed while open gave their space back with the process:
	// with enough of it the broker starts, else it says what it lacks.
	if err := n.TryRestart(); err == nil {
		n.Kill()
	} else if text := said(t, n); !strings.Contains(text, "no space left on device") {
		t.Errorf("the broker did not say why it does not start:\n%s", text[max(0, len(text)-3000):])
	}
	node.GiveBack(t, disk)
	n.Restart()
	checkNumbered(t, n, "kept", kept)
	awaitWrites(t, n, "kept", &kept)
}

// TestDiskTakenUnderLoad is TestDiskTaken while records are written. The node
// lives if nothing that it must write meets the full disk, else it ends by name;
// without its guard it always does.
func TestDiskTakenUnderLoad(t *testing.T) {
	for name, args := range map[string][]string{
		"guarded": nil, "unguarded": {"--set", "low_space_guard=0", "--set", "low_space_reserve=0"},
	} {
		t.Run(name, func(t *testing.T) {
			disk := node.SmallDisk(t, smallDisk)
			n := smallNode(t, disk, args...)
			makeTopic(t, n, "kept", 1)
			acked := make(chan int)
			go func() {
				kept, _ := writeTo(t, n, "kept", smallDisk/(64<<10)) // it ends by an error, as it should
				acked <- kept
			}()
			await(t, 10*time.Second, "some records are there", func() bool { return freeBytes(t, disk) < smallDisk*3/4 })
			node.TakeAll(t, disk)
			node.TakeAll(t, disk) // the reserve
			kept := <-acked
			if args != nil {
				await(t, 5*time.Second, "the node ends", func() bool { return ended(n) })
			}
			checkEnd(t, n)
			t.Logf("%d acknowledged; ended: %v, %v", kept, ended(n), n.Status())
			node.GiveBack(t, disk)
			if ended(n) {
				n.Restart()
			}
			checkNumbered(t, n, "kept", kept)
			more := kept
			awaitWrites(t, n, "kept", &more)
		})
	}
}

// checkEnd checks that a node which has ended has said why.
func checkEnd(t *testing.T, n *node.Node) {
	t.Helper()
	text := said(t, n)
	if ended(n) && !(strings.Contains(text, "storage failed, the node stops") && strings.Contains(text, "no space left on device")) {
		t.Errorf("the broker did not say why it ended:\n%s", text[max(0, len(text)-3000):])
	}
}
