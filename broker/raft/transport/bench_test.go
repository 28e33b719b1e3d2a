package transport

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/config"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/test/port"
)

// BenchmarkCluster proposes 1 KiB to 16 shards of three nodes over loopback, on
// dragonboat's own transport and on this one, with logs in memory: what differs
// is the transport. Compare within one run only.
func BenchmarkCluster(b *testing.B) {
	for _, transport := range []string{"dragonboat", "millrace"} {
		for _, inFlight := range []int{1, 16} {
			b.Run(fmt.Sprintf("transport=%s/inflight=%d", transport, inFlight), func(b *testing.B) {
				var f config.TransportFactory
				if transport == "millrace" {
					f = NewFactory(Options{Log: quiet()})
				}
				benchmarkCluster(b, f, inFlight)
			})
		}
	}
}

const benchShards = 16

func benchmarkCluster(b *testing.B, f config.TransportFactory, inFlight int) {
	c := newCluster(b, clusterOptions{
		shards: benchShards, address: func(int) string { return freeAddress(b) }, rtt: 50,
		factory: func(int) config.TransportFactory { return f },
	})
	leaders := make([]int, benchShards+1)
	for s := uint64(1); s <= benchShards; s++ {
		leaders[s] = c.leader(b, s)
	}
	command := bytes.Repeat([]byte("x"), 1<<10)
	work := make(chan uint64)
	var proposers sync.WaitGroup
	for range benchShards * inFlight {
		proposers.Go(func() {
			for s := range work {
				if err := c.propose(leaders[s], s, command); err != nil {
					b.Error(err)
				}
			}
		})
	}
	before, r0, w0 := cpu(b), syscalls(b, "syscr"), syscalls(b, "syscw")
	b.ResetTimer()
	for i := range b.N {
		work <- uint64(i%benchShards) + 1
	}
	close(work)
	proposers.Wait()
	b.StopTimer()
	n := float64(b.N)
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/n, "cpu-ns/op")
	b.ReportMetric(float64(syscalls(b, "syscr")-r0)/n, "reads/op")
	b.ReportMetric(float64(syscalls(b, "syscw")-w0)/n, "writes/op")
}

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// syscalls counts this process's reads or writes, of sockets as of files.
func syscalls(b *testing.B, name string) int {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		b.Skip(err)
	}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		if v, ok := bytes.CutPrefix(s.Bytes(), []byte(name+": ")); ok {
			n, err := strconv.Atoi(string(v))
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Skip("no " + name)
	return 0
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// BenchmarkConnection sends batches of 16 messages with 1 KiB each over a loopback
// connection and waits for each, without Raft at either end.
func BenchmarkConnection(b *testing.B) {
	batch := pb.MessageBatch{SourceAddress: "a", BinVer: 210, DeploymentId: 1}
	for s := range uint64(16) {
		batch.Requests = append(batch.Requests, pb.Message{Type: pb.Replicate, To: 1, From: 2, ShardID: s, Term: 3, LogIndex: 4, LogTerm: 3, Commit: 4,
			Entries: []pb.Entry{{Term: 3, Index: 5, Type: pb.ApplicationEntry, Key: 1 << 60, ClientID: 1 << 61, Cmd: bytes.Repeat([]byte("x"), 1<<10)}}})
	}
	got := make(chan struct{}, 1)
	_, conn := pair(b, OS{}, func(pb.MessageBatch) { got <- struct{}{} })
	b.ReportAllocs()
	b.SetBytes(16 << 10)
	for b.Loop() {
		if err := conn.SendMessageBatch(batch); err != nil {
			b.Fatal(err)
		}
		<-got
	}
}

func freeAddress(t testing.TB) string { return port.Free(t, 1)[0] }
