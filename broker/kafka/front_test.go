package kafka

import (
	"net"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func splitPort(t testing.TB, addr string) (string, int32) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return host, int32(n)
}

func client(t *testing.T, n *fakeNode, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(n.addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestClientProducesAndConsumes is a real client's whole way: auto-creation,
// idempotent produces, fetch sessions by topic id.
func TestClientProducesAndConsumes(t *testing.T) {
	n := newFakeNode(t, nil)
	c := client(t, n, kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("words"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	const count = 500
	for i := range count {
		c.Produce(t.Context(), kgo.StringRecord(strconv.Itoa(i)), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := client(t, n, kgo.ConsumeTopics("words"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for next := 0; next < count; {
		fetches := r.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			if want := strconv.Itoa(next); string(record.Value) != want || record.Offset != int64(next) {
				t.Fatalf("offset %d holds %q, want %q", record.Offset, record.Value, want)
			}
			next++
		})
	}
	if sessions, _ := n.server.sessions.Len(); sessions != 1 {
		t.Errorf("%d sessions, want 1", sessions)
	}
}

// TestEveryVersionIsAnswered asks every key in every version, with an empty and
// with a random request.
func TestEveryVersionIsAnswered(t *testing.T) {
	n := newFakeNode(t, nil)
	n.topic(t, "a", 1)
	w := dialWire(t, n.addr)
	for _, row := range coreRows() {
		for v := row.min; v <= row.max; v++ {
			m := newRequest(row.key, v)
			setDefaultRequest(m)
			if p, ok := m.(*kmsg.ProduceRequest); ok {
				p.Acks = -1
			}
			w.ask(m, v)
		}
	}
}

// BenchmarkProduce is a client that waits for each answer, over loopback, to a
// log that answers at once: what the front itself costs.
func BenchmarkProduce(b *testing.B) {
	n := newFakeNode(b, nil)
	n.topic(b, "a", 1)
	w := dialWire(b, n.addr)
	m := produceRequest("a", -1, 0, make([]byte, 1024))
	frame := frameOf(m, 1)
	b.ReportAllocs()
	for b.Loop() {
		w.write(frame)
		w.frame()
	}
}
