package cluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
)

// BenchmarkCreateTopic measures one creation in a cluster of 5,000 topics:
// encoding, step, and the new metadata.
func BenchmarkCreateTopic(b *testing.B) {
	l := &log{}
	c := New(Options{Proposer: l, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	l.machine = c.StateMachine()
	ctx := context.Background()
	if _, err := c.RegisterNode(ctx, Node{Host: "h"}, "bench"); err != nil {
		b.Fatal(err)
	}
	var asks []CreateTopic
	for i := range 5000 {
		asks = append(asks, CreateTopic{Name: fmt.Sprint("topic-", i), Partitions: 2, Replication: 1})
	}
	if _, err := c.CreateTopics(ctx, asks, false); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r, err := c.CreateTopics(ctx, []CreateTopic{{Name: fmt.Sprint("more-", i), Partitions: 2, Replication: 1}}, false)
		if err != nil || r[0].Err != nil {
			b.Fatal(err, r)
		}
	}
}
