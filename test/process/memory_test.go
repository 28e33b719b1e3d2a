package process

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/bench/load"
	"github.com/millrace-io/millrace/test/node"
)

// TestMemoryLimit holds 200 connections that ask for much and read little and
// 100 that announce frames of 100 MiB, under --memory 512M: the process stays
// below it, and a well-behaved client is served.
func TestMemoryLimit(t *testing.T) {
	const limit = 512 << 20
	n := node.Start(t, node.Options{Args: []string{"--memory", "512M"}})
	fill(t, n, "big", 256<<20)

	for range 100 {
		announce(t, n.Brokers, 100<<20)
	}
	for range 200 {
		slowReader(t, n.Brokers, "big")
	}
	cl := n.Client(kgo.ProducerLinger(0), kgo.AllowAutoTopicCreation())
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var took []time.Duration
	most := int64(0)
	for range 300 {
		began := time.Now()
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "well-behaved", Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatalf("a well-behaved client is not served: %v", err)
		}
		took = append(took, time.Since(began))
		u, err := load.Measure(n.Pid())
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, u.RSSBytes)
	}
	slices.Sort(took)
	t.Logf("RSS at most %d MiB, ack p50 %v p99 %v", most>>20, took[len(took)/2], took[len(took)*99/100])
	if most > limit {
		t.Errorf("RSS reached %d MiB, the limit is %d", most>>20, int64(limit)>>20)
	}
}

func fill(t *testing.T, n *node.Node, topic string, bytes int) {
	t.Helper()
	cl := n.Client(kgo.ProducerBatchCompression(kgo.NoCompression()))
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	v := make([]byte, 64<<10)
	_, _ = rand.Read(v) // never fails
	for range bytes / len(v) {
		cl.Produce(t.Context(), &kgo.Record{Topic: topic, Value: v}, nil)
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// announce opens a connection that says a large frame is coming and sends its
// first kilobyte.
func announce(t *testing.T, addr string, size uint32) {
	c := dial(t, addr)
	_, _ = c.Write(append(binary.BigEndian.AppendUint32(nil, size), make([]byte, 1024)...)) // it may be refused at once
}

// slowReader asks for a topic from its start, over and over, and never reads.
func slowReader(t *testing.T, addr, topic string) {
	t.Helper()
	c := dial(t, addr)
	req := kmsg.NewPtrFetchRequest()
	req.Version = 4
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = -1, 0, 1, 50<<20
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.PartitionMaxBytes = 50 << 20
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	f := kmsg.NewRequestFormatter(kmsg.FormatterClientID("slow"))
	for i := range int32(4) {
		if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(f.AppendRequest(nil, req, i)); err != nil {
			return // refused: that is a fine answer to it
		}
	}
}
