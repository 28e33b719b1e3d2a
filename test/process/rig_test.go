package process

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/test/node"
)

// pollEvery is how often a test looks whether what it waits for has come.
const pollEvery = 20 * time.Millisecond

// await polls until ok, and fails the test at the limit.
func await(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	late := time.After(limit)
	for !ok() {
		select {
		case <-late:
			t.Fatalf("not within %v: %s", limit, what)
		case <-tick.C:
		}
	}
}

// within gives a context that ends with the test or at the limit.
func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// makeTopic makes a topic with settings given as name, value, name, value.
func makeTopic(t *testing.T, n *node.Node, name string, partitions int32, settings ...string) {
	t.Helper()
	configs := map[string]*string{}
	for i := 0; i < len(settings); i += 2 {
		configs[settings[i]] = &settings[i+1]
	}
	answer, err := kadm.NewClient(n.Client()).CreateTopic(within(t, 30*time.Second), partitions, 1, configs, name)
	if err = errors.Join(err, answer.Err); err != nil {
		t.Fatalf("make topic %s: %v", name, err)
	}
}

// plain gives a client whose records fail at once instead of being repeated,
// and may be given up after they were sent.
func plain(n *node.Node, opts ...kgo.Opt) *kgo.Client {
	return n.Client(append([]kgo.Opt{
		kgo.DisableIdempotentWrite(), kgo.RecordRetries(0), kgo.RecordDeliveryTimeout(5 * time.Second),
		kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, opts...)...)
}

// readPartition reads a partition from its start to its end, as far as the limit
// allows, and gives the first error of a fetch.
func readPartition(t *testing.T, n *node.Node, topic string, partition int32, from int64) ([]*kgo.Record, error) {
	t.Helper()
	ctx := within(t, 30*time.Second)
	cl := n.Client(kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(from)}}))
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	end, ok := ends.Lookup(topic, partition)
	if !ok || end.Err != nil {
		return nil, errors.Join(errors.New("no end offset"), end.Err)
	}
	var read []*kgo.Record
	for next := from; next < end.Offset; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return read, err
		}
		fs.EachRecord(func(r *kgo.Record) {
			read = append(read, r)
			next = r.Offset + 1
		})
	}
	return read, nil
}

// health asks the admin API.
func health(t *testing.T, n *node.Node) api.Health {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t, 10*time.Second), http.MethodGet, "http://"+n.Admin+"/v1/cluster/health", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var h api.Health
	if err := json.NewDecoder(answer.Body).Decode(&h); err != nil {
		t.Fatal(err)
	}
	return h
}

// said gives what the broker has written to stderr.
func said(t *testing.T, n *node.Node) string {
	t.Helper()
	b, err := os.ReadFile(n.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func ended(n *node.Node) bool {
	select {
	case <-n.Done():
		return true
	default:
		return false
	}
}
