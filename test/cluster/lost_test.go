package cluster

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/test/node"
)

// TestLostMajority: two of three nodes are lost. The third, told so, goes on with all that
// was acknowledged, since it had all; one of the lost comes back with its disk and is refused.
func TestLostMajority(t *testing.T) {
	const partitions = 4
	c, w := three(t, partitions)
	w.stop(t)
	commit(t, c.Nodes[2], 7)
	left := c.Nodes[2]
	give := func(more ...string) (string, error) {
		return left.CLI(append([]string{"cluster", "recover-lost-majority", "--data-dir", left.O.Dir, "--lost", "0,1"}, more...)...)
	}
	refuses(t, "stop the node first", give, "--dry-run")
	c.Nodes[0].Stop() // who stops hands over to who has all
	c.Nodes[1].Stop()
	left.Kill()

	refuses(t, "--i-accept-data-loss", give)
	out, err := give("--dry-run")
	if err != nil || !strings.Contains(out, "nothing was changed") {
		t.Fatalf("%s%v", out, err)
	}
	if out, err = give("--i-accept-data-loss"); err != nil || !strings.Contains(out, "0 are lost") || !strings.Contains(out, "done. Start this node") {
		t.Fatalf("%s%v", out, err)
	}
	left.Restart()
	alone := &node.Cluster{T: t, Nodes: []*node.Node{left}}
	w.check(t, alone)
	if got := committed(t, left); got != 7 {
		t.Errorf("the group stands at %d, it had committed 7", got)
	}
	await(t, "all to be well", func() error {
		out, err := left.CLI("cluster", "health")
		if err == nil && !strings.Contains(out, "true") {
			return errorOf(out)
		}
		return err
	})
	goesOn(t, alone, w)

	if err := c.Nodes[0].TryRestart(); err == nil {
		t.Fatal("a node that was given up came back")
	}
	if log := c.Nodes[0].Log(4000); !strings.Contains(log, "this node was given up") {
		t.Errorf("its log does not say why it ended:\n%s", log)
	}
	if _, err := os.Stat(left.O.Dir + "/recovery.json"); !os.IsNotExist(err) {
		t.Errorf("the mark of the recovery is still there: %v", err)
	}
	left.Kill()
	left.Restart()
	if got := committed(t, left); got != 7 {
		t.Errorf("after a crash the group stands at %d", got)
	}
}

// refuses gives a command that must fail, and say why.
func refuses(t *testing.T, why string, give func(...string) (string, error), more ...string) {
	t.Helper()
	if out, err := give(more...); err == nil || !strings.Contains(err.Error(), why) {
		t.Fatalf("%s%v; want %q", out, err, why)
	}
}

// goesOn writes more, reads it by a group, and makes a topic.
func goesOn(t *testing.T, c *node.Cluster, w *writer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cl := c.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	total := 0
	for p := range w.acked {
		r := &kgo.Record{Topic: topic, Partition: int32(p), Value: []byte("behind")}
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if r.Offset != int64(w.acked[p]) {
			t.Errorf("partition %d goes on at %d, behind %d", p, r.Offset, w.acked[p])
		}
		total += w.acked[p] + 1
	}
	group := c.Client(kgo.ConsumerGroup("readers"), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for got := 0; got < total; {
		fetched := group.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			t.Fatalf("a group has read %d of %d: %v", got, total, err)
		}
		got += fetched.NumRecords()
	}
	if err := group.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
	group.Close()
	n := c.Nodes[0]
	if out, err := n.CLI("topic", "create", "afterwards", "-p", "2", "-r", "1"); err != nil {
		t.Fatalf("%s%v", out, err)
	}
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "afterwards", Partition: 1}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for p := range w.acked {
		if out, err := n.CLI("topic", "describe", topic, "-p"); err != nil || !strings.Contains(out, fmt.Sprintf("[%d]", n.O.ID)) || strings.Contains(out, "[0") {
			t.Errorf("partition %d: %s%v", p, out, err)
		}
	}
}

const committer = "committer"

// commit has a group commit an offset.
func commit(t *testing.T, n *node.Node, at int64) {
	t.Helper()
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 0, at, -1)
	await(t, "a commit", func() error {
		r, err := kadm.NewClient(n.Client()).CommitOffsets(t.Context(), committer, offsets)
		if err == nil {
			err = r.Error()
		}
		return err
	})
}

func committed(t *testing.T, n *node.Node) (at int64) {
	t.Helper()
	await(t, "what was committed", func() error {
		r, err := kadm.NewClient(n.Client()).FetchOffsets(t.Context(), committer)
		if err == nil {
			err = r.Error()
		}
		if o, ok := r.Lookup(topic, 0); err == nil && ok {
			at = o.At
		}
		return err
	})
	return at
}
