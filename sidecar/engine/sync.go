package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/plugins/control"
	plugsync "github.com/millrace-io/millrace/plugins/sync"
	"github.com/millrace-io/millrace/sidecar/abi"
	"github.com/millrace-io/millrace/sidecar/host"
)

// syncWork is what one sync batch needs; it is pooled per script by the runtime.
type syncWork struct {
	input   input
	entries []abi.Entry
	builder record.Builder
	tail    []byte
	headers []abi.Header
}

// Transform implements sync.Transformer.
func (s *Session) Transform(ctx context.Context, b plugsync.Batch) (plugsync.Result, error) {
	found, err := s.script(b.Digest)
	if err != nil {
		return plugsync.Result{}, err
	}
	index := slices.Index(found.Inputs, b.Topic)
	if found.Mode != control.Sync || index < 0 {
		return plugsync.Result{}, fmt.Errorf("%w: script %s (%s) is not bound to topic %q", control.ErrRequest, found.Name, found.Mode, b.Topic)
	}
	batch, rest, err := record.Next(b.Records)
	if err == nil {
		err = batch.CheckHeader()
	}
	if err != nil || len(rest) > 0 || batch.Control() {
		return plugsync.Result{}, fmt.Errorf("%w: want exactly one batch of records: %w", control.ErrRequest, errors.Join(err, errTrailing(len(rest))))
	}
	work, _ := found.works.Get().(*syncWork)
	if work == nil {
		work = &syncWork{}
	}
	defer found.works.Put(work)
	work.input.reset()
	if err := work.input.add(batch, func(record.Record) bool { return true }); err != nil {
		return plugsync.Result{}, err
	}
	if len(work.input.records) == 0 {
		return plugsync.Result{Unchanged: true}, nil
	}
	for i := range work.input.records { // offsets are not known yet
		work.input.records[i].Offset -= int64(batch.BaseOffset())
	}
	return found.sync(ctx, work, batch, &host.Batch{
		Input: uint16(index), Partition: b.Partition, Seed: seed(b.Digest, b.TopicID, b.Partition),
	})
}

func errTrailing(n int) error {
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d bytes follow the first batch", n)
}

// sync runs one batch within ctx's deadline.
func (s *script) sync(ctx context.Context, work *syncWork, batch record.Batch, b *host.Batch) (plugsync.Result, error) {
	l := &lease{script: s}
	defer l.done()
	i, err := l.get(ctx)
	if err != nil {
		return plugsync.Result{}, err
	}
	b.Records, b.Tails, b.CPUMax = work.input.records, work.input.tails, s.BatchTimeMax
	b.WallEnd, _ = ctx.Deadline()
	frame, cpu, fault := i.run(b)
	r := plugsync.Result{CPU: cpu, RecordsIn: len(b.Records)}
	s.in.Add(int64(len(b.Records)))
	if fault == nil {
		fault = work.decode(frame)
	}
	if fault != nil {
		if fault.Dead {
			l.drop(fault)
		}
		s.bad.Add(1)
		s.fail(fault.Error())
		r.Failure = &plugsync.Failure{Source: fault.Source, Kind: fault.Kind, Text: fault.Text}
		return r, nil
	}
	r.RecordsOut = len(work.entries)
	s.out.Add(int64(r.RecordsOut))
	if r.Unchanged = work.unchanged(); r.Unchanged {
		return r, nil
	}
	r.Records, err = work.build(batch)
	return r, err
}

// decode checks the guest's answer as a sync script's.
func (w *syncWork) decode(frame []byte) *host.Fault {
	records := w.input.records
	var err error
	if w.entries, err = abi.DecodeOutput(w.entries[:0], frame, abi.Limits{Sources: len(records), Outputs: 1}); err != nil {
		return host.Garbage(err)
	}
	key := func(source int) []byte { return records[source].Key }
	for i := range w.entries {
		if err := abi.CheckSync(w.entries[max(i-1, 0):i+1], key); err != nil {
			f := &host.Fault{Kind: control.FailureGarbage, Source: int(w.entries[i].Source), Text: err.Error()}
			if errors.Is(err, abi.ErrSyncKey) {
				f.Kind = control.FailureKey
			}
			return f
		}
	}
	return nil
}

func (w *syncWork) unchanged() bool {
	if len(w.entries) != len(w.input.records) {
		return false
	}
	return !slices.ContainsFunc(w.entries, func(e abi.Entry) bool { return !e.Pass })
}

// build makes the new batch: producer, sequence, deltas and last offset delta
// are the client's, so what was dropped leaves holes.
func (w *syncWork) build(batch record.Batch) ([]byte, error) {
	spec := record.SpecOf(batch)
	w.builder.Reset(spec)
	for i := range w.entries {
		e := &w.entries[i]
		source := &w.input.records[e.Source]
		tail := w.input.tails[e.Source]
		if !e.Pass {
			w.headers = e.Headers(w.headers[:0])
			w.tail = host.AppendTail(w.tail[:0], e.Key, e.Value, w.headers)
			tail = w.tail
		}
		if err := w.builder.AddTail(int32(source.Offset), source.Timestamp, tail); err != nil {
			return nil, fmt.Errorf("build the batch: %w", err)
		}
	}
	w.builder.SetLastOffsetDelta(batch.LastOffsetDelta())
	built, _, err := w.builder.Build(nil)
	if err != nil {
		return nil, fmt.Errorf("build the batch: %w", err)
	}
	return built, nil
}
