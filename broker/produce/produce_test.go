package produce_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/raft"
	"github.com/millrace-io/millrace/broker/record"
)

// TestOutcomes: what a client is told of each fate, and what is then in the log.
func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		fate    raft.Fate
		err     error
		written int
	}{
		{raft.Taken, nil, 1},
		{raft.Dropped, produce.ErrNotLeader, 0},
		{raft.Busy, nil, 1}, // was surely not taken: tried again
		{raft.Lost, produce.ErrTimedOut, 0},
		{raft.Late, produce.ErrTimedOut, 0},
		{raft.Deaf, nil, 1}, // the outcome is known here whatever raft says
	} {
		r := newRig(t, topicOf())
		r.fates(c.fate)
		if got := r.write(batch("a")); !errors.Is(got.Err, c.err) || c.err != nil && got.Base != model.NoOffset {
			t.Errorf("fate %d: %+v, want %v", c.fate, got, c.err)
		}
		if got := len(r.values()); got != c.written {
			t.Errorf("fate %d: %d records, want %d", c.fate, got, c.written)
		}
	}
}

// TestNotServing: nothing is taken before lead{epoch}, after the loss of
// leadership, or for a strange partition.
func TestNotServing(t *testing.T) {
	r := newRig(t, topicOf())
	was, _ := r.h.Serving()
	strange := r.service.Start(produce.Ask{Partition: model.PartitionID{}, Records: batch("a")}).Result()
	if !errors.Is(strange.Err, produce.ErrUnknownPartition) {
		t.Errorf("strange partition: %v", strange.Err)
	}
	r.raft.Elect(shard, 5)
	for l := range r.served {
		if !l.Serving && l.Epoch == was {
			break
		}
	}
	if got := r.write(batch("a")); !errors.Is(got.Err, produce.ErrNotLeader) {
		t.Errorf("deposed: %v", got.Err)
	}
	if _, err := r.service.Source(t.Context(), id, model.SourceKey{}); !errors.Is(err, produce.ErrNotLeader) {
		t.Errorf("source of a deposed leader: %v", err)
	}
}

// TestGhost: a write whose outcome was unknown, and that comes true later, meets
// its retry; under a newer leader it is dropped.
func TestGhost(t *testing.T) {
	for _, deposed := range []bool{false, true} {
		r := newRig(t, topicOf())
		r.fates(raft.Late)
		if got := r.write(numbered(7, 0, 0, "a")); !errors.Is(got.Err, produce.ErrTimedOut) {
			t.Fatal(got.Err)
		}
		if deposed {
			r.elect()
		}
		if got := r.write(numbered(7, 0, 0, "a")); got.Err != nil || got.Base != 0 {
			t.Fatalf("the retry: %+v", got)
		}
		if r.raft.Release(shard) != 1 {
			t.Fatal("there is no ghost")
		}
		if got := r.write(numbered(7, 0, 1, "b")); got.Err != nil || got.Base != 1 {
			t.Errorf("after the ghost: %+v", got)
		}
		if got := r.values(); len(got) != 2 {
			t.Errorf("deposed %v: %v, want a and b once", deposed, got)
		}
	}
}

// TestDeposedMeanwhile: who waits for a leader that was cut off is told so when that
// makes way, however long he would have waited; his retry is taken elsewhere, or here
// later.
func TestDeposedMeanwhile(t *testing.T) {
	r := newRig(t, topicOf())
	asked := make(chan struct{}, 1)
	r.raft.Decide(func(_ model.ShardID, cmd []byte) raft.Fate {
		if c, err := partition.Decode(cmd); err != nil || c.Kind != partition.KindProduce {
			return raft.Taken
		}
		asked <- struct{}{}
		return raft.Silent
	})
	p := r.start(numbered(7, 0, 0, "a"))
	<-asked
	for r.raft.Elect(shard, 1); ; {
		if _, serving := r.h.Serving(); !serving {
			break
		}
		<-r.served
	}
	if got := p.Result(); !errors.Is(got.Err, produce.ErrTimedOut) || !errors.Is(got.Err, core.ErrDeposed) {
		t.Errorf("deposed while it waited: %v", got.Err)
	}
	r.raft.Decide(nil)
	r.elect()
	if got := r.write(numbered(7, 0, 0, "a")); got.Err != nil || got.Base != 0 {
		t.Errorf("the retry: %+v", got)
	}
}

// TestStaleEpoch: a command that is applied under a newer leader than its
// proposer's was surely not written.
func TestStaleEpoch(t *testing.T) {
	r := newRig(t, topicOf())
	r.raft.Decide(func(_ model.ShardID, cmd []byte) raft.Fate {
		if c, err := partition.Decode(cmd); err == nil && c.Kind == partition.KindProduce {
			lead := partition.Command{Kind: partition.KindLead, Epoch: c.Epoch + 1}
			r.raft.Foreign(shard, lead.Append(nil))
		}
		return raft.Taken
	})
	if got := r.write(batch("a")); !errors.Is(got.Err, produce.ErrNotLeader) || errors.Is(got.Err, produce.ErrTimedOut) {
		t.Errorf("%v, want ErrNotLeader", got.Err)
	}
}

// TestCoalesce: writes that come while a command is on its way share the next, up
// to 1 MiB, in the order of Start; each has its own outcome.
func TestCoalesce(t *testing.T) {
	r := newRig(t, topicOf())
	var sizes []int
	held, entered := make(chan struct{}), make(chan struct{}, 100)
	r.raft.Decide(func(_ model.ShardID, cmd []byte) raft.Fate {
		entered <- struct{}{}
		<-held
		c, err := partition.Decode(cmd)
		if err != nil {
			t.Error(err)
		}
		size := 0
		for _, b := range c.Batches {
			size += len(b)
		}
		sizes = append(sizes, len(c.Batches)) // one command of a lane at a time
		if size > 1<<20 {
			t.Errorf("a command of %d bytes", size)
		}
		return raft.Taken
	})
	pending := []*produce.Pending{r.start(batch("first"))}
	<-entered
	big := strings.Repeat("x", 400<<10)
	for range 5 {
		pending = append(pending, r.start(batch(big)))
	}
	pending = append(pending, r.start(numbered(7, 0, 3, "a")), r.start(numbered(7, 0, 9, "gap")), r.start(batch("last")))
	close(held)
	for i, p := range pending[:7] {
		if got := p.Result(); got.Err != nil || got.Base != model.Offset(i) {
			t.Errorf("write %d: %+v", i, got)
		}
	}
	if got := pending[7].Result(); !errors.Is(got.Err, partition.ErrOutOfOrderSequence) || got.Base != model.NoOffset {
		t.Errorf("a gap: %+v", got)
	}
	if got := pending[8].Result(); got.Err != nil || got.Base != 7 {
		t.Errorf("behind a gap of another: %+v", got)
	}
	if want := []int{1, 2, 2, 4}; !slices.Equal(sizes, want) {
		t.Errorf("batches per command %v, want %v", sizes, want)
	}
}

// TestRefusedFirst: when the first of several writes in flight is refused, for
// whatever reason, those behind it are too; all come to be, in order and once,
// when the producer sends them again.
func TestRefusedFirst(t *testing.T) {
	lack := fmt.Errorf("%w: by the test", produce.ErrStorage)
	first := true
	for name, c := range map[string]struct {
		refuse, allow func(*rig)
		err           error
	}{
		"dropped": {refuse: func(r *rig) { r.fates(raft.Dropped) }, err: produce.ErrNotLeader},
		"unknown": {refuse: func(r *rig) { r.fates(raft.Lost) }, err: produce.ErrTimedOut},
		"ghost":   {refuse: func(r *rig) { r.fates(raft.Late) }, allow: func(r *rig) { r.raft.Release(shard) }, err: produce.ErrTimedOut},
		"script": {refuse: func(r *rig) {
			first = true
			r.scripts.transform = func(b []byte) ([]byte, error) {
				if first {
					first = false
					return nil, produce.ErrScriptFailed
				}
				return b, nil
			}
		}, err: produce.ErrScriptFailed},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, topicOf())
			c.refuse(r)
			if got := r.write(numbered(7, 0, 0, "a")); !errors.Is(got.Err, c.err) {
				t.Fatalf("first: %v, want %v", got.Err, c.err)
			}
			r.refusedBehind(t)
			if c.allow != nil {
				c.allow(r)
			}
			r.sentAgain(t)
		})
	}
	t.Run("space", func(t *testing.T) {
		r := newRig(t, topicOf())
		r.full.Store(&lack)
		if got := r.write(numbered(7, 0, 0, "a")); !errors.Is(got.Err, produce.ErrStorage) {
			t.Fatal(got.Err)
		}
		r.full.Store(nil)
		r.refusedBehind(t)
		r.sentAgain(t)
	})
	t.Run("too few replicas", func(t *testing.T) {
		topic := topicOf()
		topic.MinInsyncReplicas = 2
		r := newRig(t, topic)
		r.inSync.Store(1)
		a := produce.Ask{Partition: id, Records: numbered(7, 0, 0, "a"), All: true}
		if got := r.service.Start(a).Result(); !errors.Is(got.Err, produce.ErrNotEnoughReplicas) {
			t.Fatal(got.Err)
		}
		r.inSync.Store(2)
		r.synced.Store(2)
		r.refusedBehind(t)
		r.sentAgain(t)
	})
	t.Run("too large", func(t *testing.T) {
		topic := topicOf()
		topic.MessageBytesMax = 1000
		r := newRig(t, topic)
		if got := r.write(numbered(7, 0, 0, strings.Repeat("a", 2000))); !errors.Is(got.Err, produce.ErrTooLarge) {
			t.Fatal(got.Err)
		}
		r.refusedBehind(t)
		r.sentAgain(t)
	})
}

func (r *rig) refusedBehind(t *testing.T) {
	t.Helper()
	for _, b := range [][]byte{numbered(7, 0, 1, "b"), numbered(7, 0, 2, "c")} {
		if got := r.write(b); !errors.Is(got.Err, partition.ErrOutOfOrderSequence) {
			t.Fatalf("behind it: %+v, want out of order", got)
		}
	}
	if got := r.write(numbered(8, 0, 1, "another's")); got.Err != nil {
		t.Fatalf("another producer: %v", got.Err)
	}
}

func (r *rig) sentAgain(t *testing.T) {
	t.Helper()
	for i, v := range []string{"a", "b", "c"} {
		if got := r.write(numbered(7, 0, int32(i), v)); got.Err != nil {
			t.Fatalf("%s again: %v", v, got.Err)
		}
	}
	var order []string
	got := r.values()
	for _, o := range slices.Sorted(maps.Keys(got)) {
		if got[o] != "another's" {
			order = append(order, got[o])
		}
	}
	if !slices.Equal(order, []string{"a", "b", "c"}) {
		t.Errorf("%v, want a, b, c", order)
	}
}

// TestRefusedHereWrittenElsewhere: a producer that was refused here, went on with another
// leader and comes back is not told that something is missing. One in front of which
// it still is, is.
func TestRefusedHereWrittenElsewhere(t *testing.T) {
	r := newRig(t, topicOf())
	elsewhere := produce.New(produce.Options{Cores: r.cores, Raft: r.raft, Space: func() error { return nil }, Now: time.Now})
	r.fates(raft.Dropped, raft.Dropped)
	r.write(numbered(7, 0, 0, "a"))
	r.write(numbered(8, 0, 0, "another's"))
	for i, v := range []string{"a", "b"} {
		if got := elsewhere.Start(produce.Ask{Partition: id, Records: numbered(7, 0, int32(i), v), Timeout: time.Second}).Result(); got.Err != nil {
			t.Fatalf("%s elsewhere: %v", v, got.Err)
		}
	}
	if got := r.write(numbered(8, 0, 1, "behind")); !errors.Is(got.Err, partition.ErrOutOfOrderSequence) {
		t.Errorf("behind what is missing: %+v", got)
	}
	if got := r.write(numbered(7, 0, 2, "c")); got.Err != nil || got.Base != 2 {
		t.Errorf("back here: %+v", got)
	}
}

// TestNewEpochCloses: a producer that gave a batch up begins anew.
func TestNewEpochCloses(t *testing.T) {
	r := newRig(t, topicOf())
	r.fates(raft.Dropped)
	r.write(numbered(7, 0, 5, "given up"))
	if got := r.write(numbered(7, 1, 0, "a")); got.Err != nil {
		t.Error(got.Err)
	}
	if got := r.write(numbered(7, 1, 1, "b")); got.Err != nil {
		t.Error(got.Err)
	}
}

// TestScriptChanges: what a script makes of a batch is written, holes keep the
// client's offsets, and internal writes pass it by.
func TestScriptChanges(t *testing.T) {
	topic := topicOf()
	topic.AppendTime = true
	r := newRig(t, topic)
	r.scripts.transform = func(b []byte) ([]byte, error) {
		var reader record.Reader
		if err := reader.Reset(b, 1<<20); err != nil {
			return nil, err
		}
		spec := record.SpecOf(b)
		spec.AppendTime = record.NoTimestamp // a script that does not know of it
		var out record.Builder
		out.Reset(spec)
		var rec record.Record
		for reader.Next(&rec) {
			if rec.OffsetDelta == 1 {
				if err := out.AddTail(rec.OffsetDelta, rec.Timestamp, rec.Tail); err != nil {
					return nil, err
				}
			}
		}
		out.SetLastOffsetDelta(record.Batch(b).LastOffsetDelta())
		_, built, err := out.Build(nil)
		return built, err
	}
	before := time.Now().UnixMilli()
	got := r.write(batch("a", "b", "c"))
	if got.Err != nil || got.AppendTime < before {
		t.Fatalf("%+v", got)
	}
	if next := r.write(batch("x", "y")); next.Base != 3 {
		t.Errorf("next at %d, want 3", next.Base)
	}
	inside := r.service.Start(produce.Ask{Partition: id, Records: batch("as it is"), Internal: true}).Result()
	if want := map[model.Offset]string{1: "b", 4: "y", 5: "as it is"}; inside.Err != nil || !maps.Equal(r.values(), want) {
		t.Errorf("%v, want %v (%v)", r.values(), want, inside.Err)
	}
}

// TestAppendTime: a retry is told the time of the batch that is there.
func TestAppendTime(t *testing.T) {
	topic := topicOf()
	topic.AppendTime = true
	r := newRig(t, topic)
	first := r.write(numbered(7, 0, 0, "a"))
	for time.Now().UnixMilli() <= first.AppendTime {
	}
	again := r.write(numbered(7, 0, 0, "a"))
	if first.Err != nil || again.Err != nil || again.Base != first.Base || again.AppendTime != first.AppendTime {
		t.Errorf("%+v, again %+v", first, again)
	}
	key := model.SourceKey{Script: 1, Parent: id}
	if _, err := r.service.Activate(t.Context(), id, partition.Activate{Key: key, Activation: 1}); err != nil {
		t.Fatal(err)
	}
	mine := batch("from a fiber")
	as := bytes.Clone(mine)
	if _, err := r.service.AppendSource(t.Context(), id, partition.Source{Key: key, Activation: 1, Seen: 1, To: 1}, [][]byte{mine}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mine, as) {
		t.Error("a fiber's batch was written to")
	}
}

// TestChecks: what a leader refuses before anything is proposed.
func TestChecks(t *testing.T) {
	topic := topicOf()
	topic.Compact, topic.MessageBytesMax = true, 1000
	topic.TimestampAfterMax = time.Hour
	r := newRig(t, topic)
	keyless := func() []byte {
		var b record.Builder
		b.Reset(record.Plain(record.None))
		_ = b.Add(record.NoTimestamp, []byte("k"), nil, nil)
		_ = b.Add(record.NoTimestamp, nil, []byte("v"), nil)
		_, built, _ := b.Build(nil)
		return built
	}()
	future := record.Plain(record.None)
	future.BaseTimestamp = time.Now().Add(2 * time.Hour).UnixMilli()
	flipped := batch("a")
	flipped[len(flipped)-1] ^= 1
	control := record.Plain(record.None)
	control.Control = true
	for name, c := range map[string]struct {
		records []byte
		err     error
	}{
		"two batches": {append(batch("a"), batch("b")...), produce.ErrInvalidRecord},
		"too large":   {batch(strings.Repeat("x", 2000)), produce.ErrTooLarge},
		"no key":      {keyless, produce.ErrInvalidRecord},
		"future":      {build(future, "a"), produce.ErrInvalidTimestamp},
		"damaged":     {flipped, record.ErrCRC},
		"control":     {build(control, "a"), produce.ErrInvalidRecord},
		"short":       {batch("a")[:30], record.ErrShort},
		"empty":       {nil, record.ErrShort},
	} {
		got := r.write(c.records)
		if !errors.Is(got.Err, c.err) {
			t.Errorf("%s: %v, want %v", name, got.Err, c.err)
		}
		if name == "no key" && (len(got.RecordErrors) != 1 || got.RecordErrors[0].Index != 1) {
			t.Errorf("%s: %+v", name, got.RecordErrors)
		}
	}
	if got := r.values(); len(got) != 0 {
		t.Errorf("%v was written", got)
	}
}

// TestRecompress stores a batch with the topic's own codec; its records and its
// producer's numbers stay.
func TestRecompress(t *testing.T) {
	for _, codec := range []string{"uncompressed", "gzip", "snappy", "lz4", "zstd"} {
		topic := topicOf()
		topic.Compression = codec
		r := newRig(t, topic)
		s := record.Plain(record.Snappy)
		s.ProducerID, s.ProducerEpoch, s.BaseSequence = 7, 0, 0
		if got := r.write(build(s, "a", "b")); got.Err != nil {
			t.Fatal(codec, got.Err)
		}
		if got := r.write(build(s, "a", "b")); got.Err != nil || got.Base != 0 {
			t.Errorf("%s: the retry %+v", codec, got)
		}
		if want := map[model.Offset]string{0: "a", 1: "b"}; !maps.Equal(r.values(), want) {
			t.Errorf("%s: %v", codec, r.values())
		}
	}
}

// TestSourceErrors: what a fiber and a deployment are told of each fate.
func TestSourceErrors(t *testing.T) {
	key := model.SourceKey{Script: 1, Parent: id}
	for _, c := range []struct {
		fate raft.Fate
		err  error
	}{
		{raft.Taken, nil}, {raft.Dropped, produce.ErrNotLeader}, {raft.Lost, produce.ErrTimedOut}, {raft.Late, produce.ErrTimedOut},
	} {
		r := newRig(t, topicOf())
		r.fates(c.fate)
		_, err := r.service.Activate(t.Context(), id, partition.Activate{Key: key, Activation: 1})
		if !errors.Is(err, c.err) {
			t.Errorf("fate %d: activate %v, want %v", c.fate, err, c.err)
		}
		r.fates()
		if _, err := r.service.Activate(t.Context(), id, partition.Activate{Key: key, Activation: 1}); err != nil {
			t.Fatal(err)
		}
		r.fates(c.fate)
		src := partition.Source{Key: key, Activation: 1, Seen: 1, From: 0, To: 10}
		_, err = r.service.AppendSource(t.Context(), id, src, [][]byte{batch("out")})
		if !errors.Is(err, c.err) {
			t.Errorf("fate %d: append %v, want %v", c.fate, err, c.err)
		}
		r.raft.Release(shard)
		// Whatever became of it, the range comes to be once.
		st, err := r.service.Source(t.Context(), id, key)
		if err != nil {
			t.Fatal(err)
		}
		if st.Offset == 0 {
			if st, err = r.service.AppendSource(t.Context(), id, src, [][]byte{batch("out")}); err != nil {
				t.Fatal(err)
			}
		}
		again, err := r.service.AppendSource(t.Context(), id, src, [][]byte{batch("out")})
		if !errors.Is(err, partition.ErrSourceConflict) || again.Offset != 10 || st.Offset != 10 {
			t.Errorf("fate %d: a second append: %+v, %v", c.fate, again, err)
		}
		if got := r.values(); len(got) != 1 {
			t.Errorf("fate %d: %v", c.fate, got)
		}
	}
}

// TestTrim moves the log start, never past the end or back.
func TestTrim(t *testing.T) {
	r := newRig(t, topicOf())
	r.write(batch("a", "b", "c"))
	for _, c := range []struct {
		to, want model.Offset
		err      error
	}{
		{2, 2, nil}, {1, 2, nil}, {4, model.NoOffset, partition.ErrOffsetOutOfRange}, {-2, model.NoOffset, partition.ErrOffsetOutOfRange}, {model.OffsetMax, 3, nil},
	} {
		if got, err := r.service.Trim(t.Context(), id, c.to); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("trim to %d: %d, %v; want %d, %v", c.to, got, err, c.want, c.err)
		}
	}
}
