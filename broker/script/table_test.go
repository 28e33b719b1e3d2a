package script

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/plugins/control"
	plugsync "github.com/millrace-io/millrace/plugins/sync"
)

func batchOf(t *testing.T, values ...string) []byte {
	t.Helper()
	spec := record.Plain(record.None)
	spec.ProducerID, spec.ProducerEpoch, spec.BaseSequence = 4, 1, 7
	var b record.Builder
	b.Reset(spec)
	for _, v := range values {
		if err := b.Add(1, []byte("k"), []byte(v), nil); err != nil {
			t.Fatal(err)
		}
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// mark is a sync script that puts its name behind every value.
func mark(t *testing.T, name string, batch []byte) []byte {
	t.Helper()
	var reader record.Reader
	var rec record.Record
	var b record.Builder
	b.Reset(record.SpecOf(record.Batch(batch)))
	if err := reader.Reset(batch, 1<<20); err != nil {
		t.Fatal(err)
	}
	for reader.Next(&rec) {
		if err := b.AddAt(rec.OffsetDelta, rec.Timestamp, rec.Key, append(bytes.Clone(rec.Value), name...), nil); err != nil {
			t.Fatal(err)
		}
	}
	b.SetLastOffsetDelta(record.Batch(batch).LastOffsetDelta())
	_, out, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func valueOf(t *testing.T, batch []byte) string {
	t.Helper()
	var reader record.Reader
	var rec record.Record
	if err := reader.Reset(batch, 1<<20); err != nil || !reader.Next(&rec) {
		t.Fatal("no record")
	}
	return string(rec.Value)
}

// syncRoom has two sync scripts, a and b, on the topic orders.
func syncRoom(t *testing.T, policy string) (*room, *cluster.Topic) {
	r := newRoom(t)
	orders := r.topic("orders", 1)
	names := map[string]string{}
	for _, name := range []string{"b", "a"} {
		a := r.mustDeploy("name: "+name+"\nmode: sync\ninputs: [orders]\nsync: {policy: "+policy+", budget: 1s}\n", []byte(name), nil)
		names[a.Digest.String()] = name
	}
	r.side.sync.Do = func(_ context.Context, b plugsync.Batch) (plugsync.Result, error) {
		return plugsync.Result{Records: mark(t, names[b.Digest.String()], b.Records), RecordsIn: 1, RecordsOut: 1}, nil
	}
	topic, _ := r.c.Metadata().Topic("orders")
	_ = orders
	return r, topic
}

func TestSyncChain(t *testing.T) {
	r, orders := syncRoom(t, "fail")
	scripts, ready := r.Table().For(orders.ID)
	if !ready || len(scripts) != 2 || scripts[0].Name != "a" {
		t.Fatalf("scripts %+v, ready %t", scripts, ready)
	}
	out, err := r.Table().Transform(t.Context(), orders.ID, 0, batchOf(t, "v"))
	if err != nil || valueOf(t, out) != "vab" {
		t.Errorf("transformed to %q, %v", valueOf(t, out), err)
	}
	other := r.topic("plain", 1)
	if r.Table().Bound(other.ID) {
		t.Error("a topic without scripts is bound")
	}
	if err := r.Pause(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if out, err = r.Table().Transform(t.Context(), orders.ID, 0, batchOf(t, "v")); err != nil || valueOf(t, out) != "vb" {
		t.Errorf("with a paused: %q, %v", valueOf(t, out), err)
	}
}

func TestSyncFailures(t *testing.T) {
	failure := func(kind control.FailureKind) func(context.Context, plugsync.Batch) (plugsync.Result, error) {
		return func(context.Context, plugsync.Batch) (plugsync.Result, error) {
			return plugsync.Result{Failure: &plugsync.Failure{Source: 0, Kind: kind, Text: "no"}}, nil
		}
	}
	for _, c := range []struct {
		name, policy string
		do           func(context.Context, plugsync.Batch) (plugsync.Result, error)
		want         error
	}{
		{"an error refuses", "fail", failure(control.FailureError), ErrScriptFailed},
		{"an error passes", "pass", failure(control.FailureError), nil},
		{"a changed key refuses under pass too", "pass", failure(control.FailureKey), ErrScriptFailed},
		{"garbage refuses", "fail", func(_ context.Context, b plugsync.Batch) (plugsync.Result, error) {
			return plugsync.Result{Records: batchOf(t, "1", "2")}, nil // one offset more
		}, ErrScriptFailed},
		{"garbage passes", "pass", func(_ context.Context, b plugsync.Batch) (plugsync.Result, error) {
			return plugsync.Result{Records: []byte("x")}, nil
		}, nil},
		{"a late answer refuses", "fail", func(ctx context.Context, b plugsync.Batch) (plugsync.Result, error) {
			<-ctx.Done()
			return plugsync.Result{}, ctx.Err()
		}, ErrScriptFailed},
		{"not loaded is to be tried again, under pass too", "pass", func(context.Context, plugsync.Batch) (plugsync.Result, error) {
			return plugsync.Result{}, control.ErrUnknownScript
		}, ErrScriptUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, orders := syncRoom(t, c.policy)
			r.side.sync.Do = c.do
			out, err := r.Table().Transform(t.Context(), orders.ID, 0, batchOf(t, "v"))
			if !errors.Is(err, c.want) || c.want == nil && (err != nil || valueOf(t, out) != "v") {
				t.Errorf("got %v, want %v", err, c.want)
			}
			st, err := r.Describe(t.Context(), "a")
			if told := st.LastError != nil && strings.Contains(st.LastError.Text, "orders-0"); err != nil || told == (c.want == ErrScriptUnavailable) {
				t.Errorf("described with the error %+v, %v", st.LastError, err)
			}
		})
	}
}

func TestSyncWaitsForTheSidecar(t *testing.T) {
	r, orders := syncRoom(t, "pass")
	r.side.die()
	r.await("it is down", func() bool { _, ready := r.Table().For(orders.ID); return !ready })
	_, err := r.Table().Transform(t.Context(), orders.ID, 0, batchOf(t, "v"))
	if !errors.Is(err, ErrScriptUnavailable) || !strings.Contains(err.Error(), "down") {
		t.Errorf("without a sidecar: %v", err)
	}
	r.side.control.Revive()
	r.await("it runs again", func() bool { _, ready := r.Table().For(orders.ID); return ready })
}
