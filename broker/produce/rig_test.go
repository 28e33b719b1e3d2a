package produce_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/raft"
	"github.com/millrace-io/millrace/broker/record"
)

const shard model.ShardID = 100

var id = model.PartitionID{Topic: model.TopicID{1}}

// rig is one partition on a real loop and disk in memory, behind a raft.Fake.
type rig struct {
	t       *testing.T
	raft    *raft.Fake
	cores   *core.Set
	h       *core.Handle
	service *produce.Service
	fetch   *fetch.Service
	scripts scripts
	full    atomic.Pointer[error]
	inSync  atomic.Int64 // replicas
	synced  atomic.Int64 // replicas that have what is applied
	served  chan core.Leadership
}

// scripts is what a test says they do; nil functions are no scripts.
type scripts struct {
	transform func(batch []byte) ([]byte, error)
}

func (s *scripts) Bound(model.TopicID) bool { return s.transform != nil }

func (s *scripts) Transform(_ context.Context, _ model.TopicID, _ int32, batch []byte) ([]byte, error) {
	return s.transform(batch)
}

// counted are as many replicas as a test says.
type counted struct{ *rig }

func (c counted) InSync(model.PartitionID) int { return int(c.inSync.Load()) }

func (c counted) Await(ctx context.Context, _ *core.Handle, _ uint64, count int) bool {
	for int(c.synced.Load()) < count {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// coreLog is what server makes of a Host.
type coreLog struct{ *raft.Fake }

func (l coreLog) Propose(s model.ShardID, cmd []byte, timeout time.Duration) (func() error, error) {
	p, err := l.Fake.Propose(s, cmd, timeout)
	if err != nil {
		return nil, err
	}
	return p.Failed, nil
}

type deaf struct{}

func (deaf) Flushed(time.Duration, error) {}
func (deaf) Applied(int, int)             {}

func topicOf() config.Topic {
	return config.Topic{
		MessageBytesMax: 1 << 20, Compression: "producer",
		TimestampBeforeMax: -1, TimestampAfterMax: -1,
	}
}

// newRig serves a topic of the given configuration under epoch 1.
func newRig(t *testing.T, topic config.Topic) *rig {
	t.Helper()
	r := &rig{t: t, raft: raft.NewFake(0, raft.NewDisk()), served: make(chan core.Leadership, 1000)}
	r.cores = core.New(core.Options{
		Cores: 1, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Raft: coreLog{r.raft}, Observe: deaf{},
		Leadership: func(l core.Leadership) { r.served <- l },
		Fatal:      func(err error) { t.Error(err) },
		FlushDelay: time.Minute, FlushBytes: 1 << 30, WriteBytes: 1 << 20, CacheBytes: 1 << 20,
		SnapshotBytes: 1 << 30, SnapshotEntries: 1 << 30, HousekeepEvery: time.Hour,
		ProducerExpiry: func() time.Duration { return 0 },
	})
	var err error
	r.h, err = r.cores.Open(partition.Options{FS: disk.NewMemory(), Dir: "/p", ID: id, Config: core.PartitionConfig(&topic)}, shard, "t")
	if err != nil {
		t.Fatal(err)
	}
	r.h.SetConfig(&topic)
	if err := r.raft.StartPartition(shard, nil, r.h); err != nil {
		t.Fatal(err)
	}
	r.service = produce.New(produce.Options{
		Cores: r.cores, Raft: r.raft, Scripts: &r.scripts, Now: time.Now,
		Replicas: counted{r},
		Space: func() error {
			if e := r.full.Load(); e != nil {
				return *e
			}
			return nil
		},
	})
	r.fetch = fetch.New(r.cores, r.raft)
	var followed sync.WaitGroup
	followed.Go(func() {
		for c := range r.raft.Changes() {
			r.h.Lead(c.Leader == 0, c.Term)
		}
	})
	t.Cleanup(func() {
		r.raft.Close()
		followed.Wait()
		if err := r.cores.Close(); err != nil {
			t.Error(err)
		}
	})
	r.elect()
	return r
}

// elect makes this node lead under a new epoch and waits until it serves.
func (r *rig) elect() {
	term := r.raft.Elect(shard, 0).Term
	r.await(core.Leadership{Partition: id, Epoch: term, Serving: true})
}

func (r *rig) await(want core.Leadership) {
	for l := range r.served {
		if l == want {
			return
		}
	}
}

// fates says what becomes of the commands that write, in their order; those after
// the last are taken.
func (r *rig) fates(fates ...raft.Fate) {
	var mu sync.Mutex
	r.raft.Decide(func(_ model.ShardID, cmd []byte) raft.Fate {
		mu.Lock()
		defer mu.Unlock()
		if c, err := partition.Decode(cmd); err != nil || c.Kind == partition.KindLead || len(fates) == 0 {
			return raft.Taken
		}
		next := fates[0]
		fates = fates[1:]
		return next
	})
}

func (r *rig) start(batch []byte) *produce.Pending {
	return r.service.Start(produce.Ask{Partition: id, Records: batch, Timeout: time.Second})
}

func (r *rig) write(batch []byte) produce.Result { return r.start(batch).Result() }

// values are what a reader finds, by offset.
func (r *rig) values() map[model.Offset]string {
	r.t.Helper()
	a := r.fetch.Fetch(context.Background(), fetch.Ask{
		Partitions: []fetch.PartitionAsk{{Partition: id, BytesMax: 1 << 30, CurrentEpoch: model.NoEpoch}}, BytesMax: 1 << 30,
	})[0]
	if a.Err != nil {
		r.t.Error(a.Err)
	}
	return decode(r.t, a.Records)
}

func decode(t *testing.T, records []byte) map[model.Offset]string {
	values := map[model.Offset]string{}
	var reader record.Reader
	for len(records) > 0 {
		b, rest, err := record.Next(records)
		if err == nil {
			err = errors.Join(b.Check(), reader.Reset(b, 1<<20))
		}
		if err != nil {
			t.Error(err)
			return values
		}
		var rec record.Record
		for reader.Next(&rec) {
			values[rec.Offset] = string(rec.Value)
		}
		records = rest
	}
	return values
}

// batch has a record per value, of no producer.
func batch(values ...string) []byte { return build(record.Plain(record.None), values...) }

// numbered is batch of an idempotent producer.
func numbered(producer model.ProducerID, epoch int16, sequence int32, values ...string) []byte {
	s := record.Plain(record.None)
	s.ProducerID, s.ProducerEpoch, s.BaseSequence = producer, epoch, sequence
	return build(s, values...)
}

func build(s record.Spec, values ...string) []byte {
	var b record.Builder
	b.Reset(s)
	for _, v := range values {
		if err := b.Add(s.BaseTimestamp, []byte("k"), []byte(v), nil); err != nil {
			panic(err)
		}
	}
	_, built, err := b.Build(nil)
	if err != nil {
		panic(err)
	}
	return built
}
