package fetch_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/record"
)

// rig is partitions on real loops; a test applies to them as raft would.
type rig struct {
	t       *testing.T
	cores   *core.Set
	service *fetch.Service
	handles []*core.Handle
	index   uint64
	served  chan core.Leadership
	barrier error
	// meanwhile, if set, is what a barrier waits for.
	meanwhile func()
}

// Barrier implements fetch.Log.
func (r *rig) Barrier(context.Context, model.ShardID) error {
	if r.meanwhile != nil {
		r.meanwhile()
	}
	return r.barrier
}

// quiet is a raft for loops that accepts what they propose; a test applies it.
type quiet struct{}

func (quiet) Propose(model.ShardID, []byte, time.Duration) (func() error, error) {
	return func() error { return nil }, nil
}
func (quiet) Snapshot(context.Context, model.ShardID, uint64) error { return nil }

type deaf struct{}

func (deaf) Flushed(time.Duration, error) {}
func (deaf) Applied(int, int)             {}

// newRig serves n partitions under epoch 1, on two loops.
func newRig(t *testing.T, n int, cacheBytes int64) *rig {
	t.Helper()
	r := &rig{t: t, served: make(chan core.Leadership, 100)}
	r.cores = core.New(core.Options{
		Cores: 2, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Raft: quiet{}, Observe: deaf{},
		Leadership: func(l core.Leadership) { r.served <- l },
		Fatal:      func(err error) { t.Error(err) },
		FlushDelay: time.Minute, FlushBytes: 1 << 30, WriteBytes: 1 << 20, CacheBytes: cacheBytes,
		SnapshotBytes: 1 << 30, SnapshotEntries: 1 << 30, HousekeepEvery: time.Hour,
		ProducerExpiry: func() time.Duration { return 0 },
	})
	r.service = fetch.New(r.cores, r)
	fs, topic := disk.NewMemory(), config.Topic{SegmentBytes: 4000}
	for i := range n {
		id := model.PartitionID{Topic: model.TopicID{1}, Index: int32(i)}
		h, err := r.cores.Open(partition.Options{FS: fs, Dir: path.Join("/", id.String()), ID: id, Config: core.PartitionConfig(&topic)}, model.ShardID(100+i), "t")
		if err != nil {
			t.Fatal(err)
		}
		h.SetConfig(&topic)
		r.handles = append(r.handles, h)
		r.lead(i, 1)
	}
	return r
}

func (r *rig) close() {
	if err := r.cores.Close(); err != nil {
		r.t.Error(err)
	}
}

func (r *rig) lead(i int, epoch model.LeaderEpoch) {
	r.handles[i].Lead(true, epoch)
	r.apply(i, partition.Command{Kind: partition.KindLead, Epoch: epoch})
	if e, ok := r.handles[i].Serving(); !ok || e != epoch {
		r.t.Fatalf("serves %d, %v", e, ok)
	}
}

func (r *rig) apply(i int, c partition.Command) {
	r.index++
	if err := r.handles[i].Apply([]partition.Entry{{Index: r.index, Cmd: c.Append(nil)}}); err != nil {
		r.t.Error(err)
	}
}

func (r *rig) append(i int, batches ...[]byte) {
	e, _ := r.handles[i].Serving()
	r.apply(i, partition.Command{Kind: partition.KindProduce, Epoch: e, Batches: batches})
}

// ask fetches the given partitions from offset 0 on.
func (r *rig) ask(partitions ...int) fetch.Ask {
	a := fetch.Ask{BytesMin: 1, BytesMax: 1 << 20}
	for _, i := range partitions {
		a.Partitions = append(a.Partitions, fetch.PartitionAsk{Partition: r.handles[i].ID, BytesMax: 1 << 20, CurrentEpoch: model.NoEpoch})
	}
	return a
}

func batch(values ...string) []byte { return build(record.Plain(record.None), values...) }

func build(s record.Spec, values ...string) []byte {
	var b record.Builder
	b.Reset(s)
	for _, v := range values {
		if err := b.Add(s.BaseTimestamp, nil, []byte(v), nil); err != nil {
			panic(err)
		}
	}
	_, built, err := b.Build(nil)
	if err != nil {
		panic(err)
	}
	return built
}

func sizes(answers []fetch.PartitionAnswer) (n []int) {
	for _, a := range answers {
		n = append(n, len(a.Records))
	}
	return n
}

// TestWaits: when a fetch that finds too little is answered. Time is the bubble's.
func TestWaits(t *testing.T) {
	const wait = 500 * time.Millisecond
	one := len(batch("x"))
	once := func() []byte {
		s := record.Plain(record.None)
		s.ProducerID, s.ProducerEpoch, s.BaseSequence = 7, 0, 0
		return build(s, "x")
	}()
	for name, c := range map[string]struct {
		change func(*rig, *fetch.Ask)
		meant  func(*rig) // 100 ms later
		took   time.Duration
		bytes  int
		err    error
	}{
		"nothing comes":      {took: wait},
		"enough is there":    {change: func(r *rig, _ *fetch.Ask) { r.append(0, batch("x")) }, bytes: one},
		"it comes":           {meant: func(r *rig) { r.append(1, batch("x")) }, took: 100 * time.Millisecond, bytes: one},
		"too little comes":   {change: func(_ *rig, a *fetch.Ask) { a.BytesMin = one + 1 }, meant: func(r *rig) { r.append(1, batch("x")) }, took: wait, bytes: one},
		"both give enough":   {change: func(r *rig, a *fetch.Ask) { r.append(0, batch("x")); a.BytesMin = 2 * one }, meant: func(r *rig) { r.append(1, batch("x")) }, took: 100 * time.Millisecond, bytes: 2 * one},
		"a duplicate comes":  {change: func(r *rig, a *fetch.Ask) { r.append(0, once); a.BytesMin = 2 * one }, meant: func(r *rig) { r.append(0, once, once) }, took: wait, bytes: one},
		"partly duplicates":  {change: func(r *rig, a *fetch.Ask) { r.append(0, once); a.BytesMin = 3 * one }, meant: func(r *rig) { r.append(0, once, once, batch("x")) }, took: wait, bytes: 2 * one},
		"leadership is lost": {meant: func(r *rig) { r.handles[0].Lead(false, 2) }, took: 100 * time.Millisecond, err: fetch.ErrNotLeader},
		"an error":           {change: func(_ *rig, a *fetch.Ask) { a.Partitions[0].From = 9 }, err: fetch.ErrOffsetOutOfRange},
		"a strange one":      {change: func(_ *rig, a *fetch.Ask) { a.Partitions[0].Partition.Index = 9 }, err: fetch.ErrUnknownPartition},
		"a fenced one":       {change: func(_ *rig, a *fetch.Ask) { a.Partitions[0].CurrentEpoch = 0 }, err: fetch.ErrFencedEpoch},
		"a future one":       {change: func(_ *rig, a *fetch.Ask) { a.Partitions[0].CurrentEpoch = 2 }, err: fetch.ErrUnknownEpoch},
		"no time":            {change: func(_ *rig, a *fetch.Ask) { a.WaitMax = 0 }},
		"more than it may":   {change: func(r *rig, a *fetch.Ask) { r.append(0, batch("x")); a.BytesMin, a.BytesMax = 1<<20, one }, bytes: one},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 2, 1<<20)
				defer r.close()
				ask := r.ask(0, 1)
				ask.WaitMax = wait
				if c.change != nil {
					c.change(r, &ask)
				}
				if c.meant != nil {
					time.AfterFunc(100*time.Millisecond, func() { c.meant(r) })
				}
				began := time.Now()
				got := r.service.Fetch(t.Context(), ask)
				if took := time.Since(began); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				if !errors.Is(got[0].Err, c.err) || got[1].Err != nil {
					t.Errorf("%v and %v, want %v", got[0].Err, got[1].Err, c.err)
				}
				if n := len(got[0].Records) + len(got[1].Records); n != c.bytes {
					t.Errorf("%d bytes, want %d", n, c.bytes)
				}
			})
		})
	}
}

// TestGone: who asks no more does not wait.
func TestGone(t *testing.T) {
	r := newRig(t, 1, 1<<20)
	defer r.close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ask := r.ask(0)
	ask.WaitMax = time.Hour
	r.service.Fetch(ctx, ask)
}

// TestBudgets: from memory and from disk, the first batch always comes, the whole
// never exceeds its limit otherwise, and what is left goes to the next partition.
func TestBudgets(t *testing.T) {
	one := len(batch(strings.Repeat("x", 900)))
	for name, cache := range map[string]int64{"memory": 1 << 20, "disk": 0} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3, cache)
			defer r.close()
			for i := range 3 {
				for range 10 {
					r.append(i, batch(strings.Repeat("x", 900)))
				}
			}
			for _, c := range []struct {
				first, all int
				want       [3]int
			}{
				{first: 1 << 20, all: 1 << 20, want: [3]int{10, 10, 10}},
				{first: 1, all: 1 << 20, want: [3]int{1, 10, 10}}, // one batch, however large
				{first: 2*one + 1, all: 5 * one, want: [3]int{2, 3, 0}},
				{first: one, all: 12*one + 5, want: [3]int{1, 10, 1}},
				{first: 1 << 20, all: 1, want: [3]int{1, 0, 0}},
			} {
				ask := r.ask(0, 1, 2)
				ask.Partitions[0].BytesMax, ask.BytesMax = c.first, c.all
				got := sizes(r.service.Fetch(t.Context(), ask))
				for i, n := range got {
					if n != c.want[i]*one {
						t.Errorf("first %d, all %d: %v bytes, want %v batches of %d", c.first, c.all, got, c.want, one)
						break
					}
				}
			}
		})
	}
}

// TestIsolation: nothing beyond the last stable offset for who reads committed.
func TestIsolation(t *testing.T) {
	r := newRig(t, 1, 1<<20)
	defer r.close()
	s := record.Plain(record.None)
	s.ProducerID, s.ProducerEpoch, s.BaseSequence, s.Transactional = 7, 0, 0, true
	r.append(0, batch("a"), build(s, "open"), batch("b"))
	ask := r.ask(0)
	all := r.service.Fetch(t.Context(), ask)[0]
	ask.Committed = true
	stable := r.service.Fetch(t.Context(), ask)[0]
	if one := len(batch("a")); len(stable.Records) != one || stable.LSO != 1 || stable.HighWatermark != 3 || len(all.Records) < 3*one {
		t.Errorf("committed %d bytes to %d of %d, plainly %d bytes", len(stable.Records), stable.LSO, stable.HighWatermark, len(all.Records))
	}
}

// TestListOffset answers times and every special timestamp.
func TestListOffset(t *testing.T) {
	r := newRig(t, 2, 1<<20)
	defer r.close()
	at := func(ms int64) []byte {
		s := record.Plain(record.None)
		s.BaseTimestamp = ms
		return build(s, "x")
	}
	txn := record.Plain(record.None)
	txn.ProducerID, txn.ProducerEpoch, txn.BaseSequence, txn.Transactional, txn.BaseTimestamp = 7, 0, 0, true, 2500
	r.append(0, at(1000), at(3000), at(2000), build(txn, "open"), at(500))
	r.apply(0, partition.Command{Kind: partition.KindTrim, Epoch: 1, LogStart: 1})
	none := fetch.ListAnswer{Offset: model.NoOffset, Timestamp: -1, Epoch: model.NoEpoch}
	for _, c := range []struct {
		timestamp int64
		committed bool
		want      fetch.ListAnswer
	}{
		{fetch.TimestampLatest, false, fetch.ListAnswer{Offset: 5, Timestamp: -1, Epoch: 1}},
		{fetch.TimestampLatest, true, fetch.ListAnswer{Offset: 3, Timestamp: -1, Epoch: 1}},
		{fetch.TimestampEarliest, false, fetch.ListAnswer{Offset: 1, Timestamp: -1, Epoch: 1}},
		{fetch.TimestampEarliestLocal, false, fetch.ListAnswer{Offset: 1, Timestamp: -1, Epoch: 1}},
		{fetch.TimestampLatestTiered, false, none},
		{fetch.TimestampMax, false, fetch.ListAnswer{Offset: 1, Timestamp: 3000, Epoch: 1}},
		{0, false, fetch.ListAnswer{Offset: 1, Timestamp: 3000, Epoch: 1}},
		{3000, true, fetch.ListAnswer{Offset: 1, Timestamp: 3000, Epoch: 1}},
		{3001, false, none},
	} {
		got, err := r.service.ListOffset(t.Context(), fetch.ListAsk{
			Partition: r.handles[0].ID, Timestamp: c.timestamp, Committed: c.committed, CurrentEpoch: 1,
		})
		if err != nil || got != c.want {
			t.Errorf("%d (committed %v): %+v, %v; want %+v", c.timestamp, c.committed, got, err, c.want)
		}
	}
	empty := fetch.ListAsk{Partition: r.handles[1].ID, Timestamp: fetch.TimestampMax, CurrentEpoch: model.NoEpoch}
	if got, err := r.service.ListOffset(t.Context(), empty); err != nil || got != none {
		t.Errorf("largest of nothing: %+v, %v", got, err)
	}
	// Young, but not stable yet: a consumer that reads committed cannot go there.
	r.append(1, build(txn, "open"))
	young := fetch.ListAsk{Partition: r.handles[1].ID, Timestamp: 1, Committed: true, CurrentEpoch: model.NoEpoch}
	if got, err := r.service.ListOffset(t.Context(), young); err != nil || got != none {
		t.Errorf("in an open transaction: %+v, %v", got, err)
	}
}

// TestSteering: latest needs a barrier, and everything a leader that serves.
func TestSteering(t *testing.T) {
	r := newRig(t, 1, 1<<20)
	defer r.close()
	r.append(0, batch("a", "b"))
	r.lead(0, 4)
	r.append(0, batch("c"))
	id := r.handles[0].ID
	for wanted, want := range map[model.LeaderEpoch]struct {
		epoch model.LeaderEpoch
		end   model.Offset
	}{1: {1, 2}, 3: {1, 2}, 4: {4, 3}, 5: {model.NoEpoch, model.NoOffset}} {
		if e, end, err := r.service.EpochEnd(t.Context(), id, model.NoEpoch, wanted); err != nil || e != want.epoch || end != want.end {
			t.Errorf("epoch %d ends at %d of %d, %v; want %+v", wanted, end, e, err, want)
		}
	}
	r.barrier = errors.New("no majority")
	latest := fetch.ListAsk{Partition: id, Timestamp: fetch.TimestampLatest, CurrentEpoch: model.NoEpoch}
	if _, err := r.service.ListOffset(t.Context(), latest); !errors.Is(err, fetch.ErrNotLeader) {
		t.Errorf("latest without a barrier: %v", err)
	}
	if _, _, err := r.service.EpochEnd(t.Context(), id, model.NoEpoch, 4); !errors.Is(err, fetch.ErrNotLeader) {
		t.Errorf("the end of an epoch without a barrier: %v", err)
	}
	r.barrier = nil
	r.handles[0].Lead(false, 5)
	for l := range r.served {
		if !l.Serving && l.Epoch == 4 {
			break
		}
	}
	_, list := r.service.ListOffset(t.Context(), latest)
	_, _, end := r.service.EpochEnd(t.Context(), id, model.NoEpoch, 1)
	if !errors.Is(list, fetch.ErrNotLeader) || !errors.Is(end, fetch.ErrNotLeader) {
		t.Errorf("deposed: %v, %v", list, end)
	}
	if st, err := r.service.Describe(t.Context(), id); err != nil || st.Serving || st.HighWatermark != 3 {
		t.Errorf("described as %+v, %v", st, err)
	}
}

// TestOutOfRangeIsConfirmed: only who leads for sure says that an offset is out of range;
// what a majority has by then is read.
func TestOutOfRangeIsConfirmed(t *testing.T) {
	r := newRig(t, 1, 1<<20)
	defer r.close()
	ask := func() fetch.PartitionAnswer {
		a := r.ask(0)
		a.Partitions[0].From = 1
		return r.service.Fetch(t.Context(), a)[0]
	}
	r.barrier = errors.New("no majority")
	if a := ask(); !errors.Is(a.Err, fetch.ErrNotLeader) || errors.Is(a.Err, fetch.ErrOffsetOutOfRange) {
		t.Errorf("without a majority: %v", a.Err)
	}
	r.barrier = nil
	if a := ask(); !errors.Is(a.Err, fetch.ErrOffsetOutOfRange) {
		t.Errorf("with one: %v", a.Err)
	}
	r.meanwhile = func() { r.append(0, batch("x"), batch("y")) }
	if a := ask(); a.Err != nil || len(a.Records) != len(batch("y")) {
		t.Errorf("with one that has more: %d bytes, %v", len(a.Records), a.Err)
	}
}
