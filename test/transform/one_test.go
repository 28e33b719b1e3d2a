package transform

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/pacemaker/check"
	"github.com/millrace-io/millrace/test/node"
)

// rig is one broker for tests of single scripts.
type rig struct {
	*World
	cl *kgo.Client
}

func newRig(t *testing.T, o node.Options) *rig {
	t.Helper()
	n := node.Start(t, o)
	return &rig{
		World: &World{T: t, Node: n, modules: Modules(t, n)},
		cl:    n.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.RecordDeliveryTimeout(0)),
	}
}

func (r *rig) topic(name string) {
	r.T.Helper()
	r.must("make topic "+name, ask(func(ctx context.Context) error {
		_, err := kadm.NewClient(r.cl).CreateTopic(ctx, 1, 1, nil, name)
		return err
	}))
}

// put deploys a guest under a manifest and waits until it runs.
func (r *rig) put(name, guest, manifest string) {
	r.T.Helper()
	r.must("deploy "+name, ask(func(ctx context.Context) error {
		_, err := r.admin().Deploy(ctx, api.DeployAsk{
			Name: name, Manifest: []byte("name: " + name + "\n" + manifest), Module: r.modules[guest], Wait: true,
		})
		return err
	}))
}

// write produces numbers [from, to) to partition 0.
func (r *rig) write(topic string, from, to int) {
	r.T.Helper()
	ctx, cancel := context.WithTimeout(r.T.Context(), healTime)
	defer cancel()
	var mu sync.Mutex
	var failed error
	for n := from; n < to; n++ {
		rec := &kgo.Record{Topic: topic, Key: []byte("k"), Value: fmt.Appendf(nil, "%d", n)}
		r.cl.Produce(ctx, rec, func(_ *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
			}
		})
	}
	r.must("write "+topic, r.cl.Flush(ctx))
	r.must("write "+topic, failed)
}

// await waits until a script's only partition is as wanted.
func (r *rig) await(name, what string, is func(api.ScriptPartition) bool) api.ScriptPartition {
	r.T.Helper()
	for deadline := time.Now().Add(healTime); ; pause(20 * time.Millisecond) {
		var last string
		err := ask(func(ctx context.Context) error {
			st, err := r.admin().Script(ctx, name)
			last = fmt.Sprintf("%+v", st)
			if err == nil && len(st.Partitions) == 1 && is(st.Partitions[0]) {
				last = ""
			}
			if last == "" {
				return nil
			}
			return err
		})
		if err == nil && last == "" {
			st, err := r.admin().Script(r.T.Context(), name)
			r.must("ask "+name, err)
			return st.Partitions[0]
		}
		if time.Now().After(deadline) {
			r.must("await "+name+": "+what, fmt.Errorf("%s, %w", last, err))
		}
	}
}

// took waits until a script has taken so many records.
func (r *rig) took(name string, records int) api.ScriptPartition {
	r.T.Helper()
	return r.await(name, fmt.Sprintf("took %d", records), func(p api.ScriptPartition) bool { return int(p.SourceOffset) >= records })
}

// all reads the only partition of a topic.
func (r *rig) all(topic string) []check.Record {
	r.T.Helper()
	read, err := r.readTopic(topic, 1)
	r.must("read "+topic, err)
	return read[0]
}

// plainAcks produces to a topic without scripts until stop is called, which
// gives how many were acknowledged and the longest wait of one.
func (r *rig) plainAcks(topic string) (stop func() (int, time.Duration)) {
	ctx, cancel := context.WithCancel(r.T.Context())
	r.T.Cleanup(cancel)
	var acks int
	var worst time.Duration
	var failed error
	done := make(chan struct{})
	cl := r.Node.Client(kgo.ProducerLinger(0))
	go func() {
		defer close(done)
		for ctx.Err() == nil && failed == nil {
			begun := time.Now()
			failed = cl.ProduceSync(context.WithoutCancel(ctx), &kgo.Record{Topic: topic, Value: []byte("plain")}).FirstErr()
			worst = max(worst, time.Since(begun))
			acks++
			pause(time.Millisecond)
		}
	}()
	return func() (int, time.Duration) {
		cancel()
		<-done
		r.must("write to a topic without scripts", failed)
		return acks, worst
	}
}
