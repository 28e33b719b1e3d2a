package coordinator

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/group"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

const (
	// readBytes is how much of the log is asked for at a time.
	readBytes = 4 << 20
	// inflatedMax bounds a batch of the log once decompressed; ours are not
	// compressed, but tools may have written others.
	inflatedMax = 64 << 20
	// retryMin and retryMax space the attempts to read a log that cannot be read.
	retryMin = 50 * time.Millisecond
	retryMax = 10 * time.Second
)

// load reads the partition's log into l.groups, trying until it succeeds or the
// leadership ends, which it reports as false. With fence, a barrier record goes
// first: once it is in the log, nothing that was started before it can follow.
func (l *loop) load(fence bool) bool {
	began := l.service.o.Now()
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		n, err := l.loadOnce(fence)
		if err == nil {
			level := slog.LevelInfo
			if n == 0 {
				level = slog.LevelDebug // most partitions, mostly
			}
			l.log.Log(l.ctx, level, "loaded groups", "groups", len(l.groups), "records", n, "took", l.now.Sub(began))
			l.loading.Store(false)
			return true
		}
		if l.ctx.Err() == nil {
			l.log.Error("cannot load groups, trying again", "err", err, "wait", wait)
		}
		select {
		case <-time.After(wait):
		case <-l.ctx.Done():
			return false
		}
	}
}

func (l *loop) loadOnce(fence bool) (records int, err error) {
	if fence {
		if err := l.fence(); err != nil {
			return 0, err
		}
	}
	l.now = l.service.o.Now()
	l.configure()
	l.timers, l.waiting = nil, map[group.Token]chan reply{}
	r := replay{log: l.service.o.Log, id: l.id, options: &l.options, groups: map[string]*group.Group{}}
	if err := r.run(l.ctx); err != nil {
		return 0, err
	}
	l.groups = make(map[string]*hosted, len(r.groups))
	l.now = l.service.o.Now()
	for _, id := range slices.Sorted(maps.Keys(r.groups)) { // those due at one moment keep this order
		g := r.groups[id]
		if g.Blank() {
			continue
		}
		g.Loaded(l.now)
		h := &hosted{group: g}
		l.groups[id] = h
		l.timers.set(h, g.Deadline())
	}
	l.scheduleExpiry()
	return r.records, nil
}

// fence appends a record that says nothing: the tombstone of an offset that
// cannot exist.
func (l *loop) fence() error {
	var b record.Builder
	b.Reset(record.Plain(record.None))
	key := offsetKey("", group.TopicPartition{Topic: "", Partition: -1})
	if err := b.Add(l.service.o.Now().UnixMilli(), key, nil, nil); err != nil {
		return err
	}
	batch, _, err := b.Build(nil)
	if err != nil {
		return err
	}
	a := l.service.o.Log.Append(l.id, batch, l.timeout())
	select {
	case <-a.Done():
	case <-l.ctx.Done():
		return l.ctx.Err()
	}
	if err := a.Err(); err != nil {
		return fmt.Errorf("append a barrier: %w", err)
	}
	return nil
}

// replay reads a log into groups; owned by who runs it.
type replay struct {
	log     Log
	id      model.PartitionID
	options *group.Options
	groups  map[string]*group.Group
	records int
	reader  record.Reader
}

// run reads from the log's start to its end as of the last read.
func (r *replay) run(ctx context.Context) error {
	next := model.NoOffset
	for {
		c, err := r.log.Read(ctx, r.id, next, readBytes)
		if err != nil {
			return fmt.Errorf("read the group log at %d: %w", next, err)
		}
		if next == model.NoOffset {
			next = c.Start
		}
		after, err := r.take(c.Records, next)
		if err != nil {
			return err
		}
		if after >= c.End {
			return nil
		}
		if after == next {
			return fmt.Errorf("read the group log at %d: nothing came, it ends at %d", next, c.End)
		}
		next = after
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// take applies the records from an offset on, and gives the offset after them.
func (r *replay) take(b []byte, from model.Offset) (model.Offset, error) {
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			return from, fmt.Errorf("group log at %d: %w", from, err)
		}
		b = rest
		if batch.NextOffset() <= from {
			continue
		}
		// Until there are transactions, control batches say nothing to groups.
		if !batch.Control() {
			if err := r.takeBatch(batch, from); err != nil {
				return from, err
			}
		}
		from = batch.NextOffset()
	}
	return from, nil
}

func (r *replay) takeBatch(batch record.Batch, from model.Offset) error {
	if err := r.reader.Reset(batch, inflatedMax); err != nil {
		return fmt.Errorf("group log at %d: %w", batch.BaseOffset(), err)
	}
	var rec record.Record
	for r.reader.Next(&rec) {
		if rec.Offset < from {
			continue
		}
		if err := r.apply(&rec); err != nil {
			return fmt.Errorf("group log at %d: %w", rec.Offset, err)
		}
	}
	return r.reader.Err()
}

func (r *replay) apply(rec *record.Record) error {
	id, x, err := decode(rec.Key, rec.Value)
	if err != nil || x == nil {
		return err
	}
	r.records++
	g := r.groups[id]
	if g == nil {
		if _, ok := x.(group.OffsetDrop); ok {
			return nil
		}
		g = group.New(id, r.options)
		r.groups[id] = g
	}
	g.Apply(x)
	return nil
}
