package fetch_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/record"
)

// follow has another node lead partition i under epoch.
func (r *rig) follow(i int, epoch model.LeaderEpoch) {
	r.handles[i].Led(true)
	r.handles[i].Lead(false, epoch)
}

// replicate applies what another node has proposed under epoch.
func (r *rig) replicate(i int, epoch model.LeaderEpoch, batches ...[]byte) {
	r.apply(i, partition.Command{Kind: partition.KindProduce, Epoch: epoch, Batches: batches})
}

// TestReplicas: what a replica answers that another node leads. It has applied one
// record, and epoch 2.
func TestReplicas(t *testing.T) {
	const wait = 500 * time.Millisecond
	one := len(batch("x"))
	none := [3]model.Offset{model.NoOffset, model.NoOffset, model.NoOffset}
	for name, c := range map[string]struct {
		change func(*rig, *fetch.Ask)
		meant  func(*rig) // 100 ms later
		took   time.Duration
		bytes  int
		bounds [3]model.Offset // log start, last stable offset, high watermark
		err    error
	}{
		"what it has applied":  {bytes: one, bounds: [3]model.Offset{0, 1, 1}},
		"of the epoch it has":  {change: func(_ *rig, a *fetch.Ask) { a.Partitions[0].CurrentEpoch = 2 }, bytes: one, bounds: [3]model.Offset{0, 1, 1}},
		"of an older epoch":    {change: func(_ *rig, a *fetch.Ask) { a.Partitions[0].CurrentEpoch = 1 }, bounds: none, err: fetch.ErrFencedEpoch},
		"of a later epoch":     {change: func(_ *rig, a *fetch.Ask) { a.Partitions[0].CurrentEpoch = 3 }, bounds: none, err: fetch.ErrUnknownEpoch},
		"leaders only":         {change: func(_ *rig, a *fetch.Ask) { a.Replicas = false }, bounds: none, err: fetch.ErrNotLeader},
		"it hears no leader":   {change: func(r *rig, _ *fetch.Ask) { r.handles[0].Led(false) }, bounds: none, err: fetch.ErrNotLeader},
		"it begins to lead":    {change: func(r *rig, _ *fetch.Ask) { r.handles[0].Lead(true, 3) }, bounds: none, err: fetch.ErrNotLeader},
		"it leads":             {change: func(r *rig, _ *fetch.Ask) { r.lead(0, 3) }, bytes: one, bounds: [3]model.Offset{0, 1, 1}},
		"its end":              {change: func(_ *rig, a *fetch.Ask) { a.Partitions[0].From = 1 }, took: wait, bounds: [3]model.Offset{0, 1, 1}},
		"its end, and more":    {change: func(_ *rig, a *fetch.Ask) { a.Partitions[0].From = 1 }, meant: func(r *rig) { r.replicate(0, 2, batch("y")) }, took: 100 * time.Millisecond, bytes: one, bounds: [3]model.Offset{0, 2, 2}},
		"beyond its end":       {change: func(_ *rig, a *fetch.Ask) { a.Partitions[0].From = 3 }, took: wait, bounds: [3]model.Offset{0, 1, 1}, err: fetch.ErrOffsetNotAvailable},
		"without time":         {change: func(_ *rig, a *fetch.Ask) { a.Partitions[0].From, a.WaitMax = 3, 0 }, bounds: [3]model.Offset{0, 1, 1}, err: fetch.ErrOffsetNotAvailable},
		"until it is there":    {change: func(_ *rig, a *fetch.Ask) { a.Partitions[0].From = 3 }, meant: func(r *rig) { r.replicate(0, 2, batch("y"), batch("z"), batch("w")) }, took: 100 * time.Millisecond, bytes: one, bounds: [3]model.Offset{0, 4, 4}},
		"its end is there":     {change: func(_ *rig, a *fetch.Ask) { a.Partitions[0].From = 2 }, meant: func(r *rig) { r.replicate(0, 2, batch("y")) }, took: wait, bounds: [3]model.Offset{0, 2, 2}},
		"no leader meanwhile":  {change: func(_ *rig, a *fetch.Ask) { a.Partitions[0].From = 1 }, meant: func(r *rig) { r.handles[0].Led(false); r.handles[0].Lead(false, 2) }, took: 100 * time.Millisecond, bounds: none, err: fetch.ErrNotLeader},
		"behind, and fenced":   {change: func(_ *rig, a *fetch.Ask) { a.Partitions[0].From, a.Partitions[0].CurrentEpoch = 3, 1 }, bounds: none, err: fetch.ErrFencedEpoch},
		"it is leaving":        {change: func(r *rig, _ *fetch.Ask) { r.service.Leave() }, bounds: none, err: fetch.ErrNotLeader},
		"it leads, and leaves": {change: func(r *rig, _ *fetch.Ask) { r.lead(0, 3); r.service.Leave() }, bytes: one, bounds: [3]model.Offset{0, 1, 1}},
		"before its log start": {change: func(r *rig, _ *fetch.Ask) {
			r.apply(0, partition.Command{Kind: partition.KindTrim, Epoch: 2, LogStart: 1})
		}, bounds: [3]model.Offset{1, 1, 1}, err: fetch.ErrOffsetOutOfRange},
		"what is stable": {change: func(r *rig, a *fetch.Ask) {
			s := record.Plain(record.None)
			s.ProducerID, s.ProducerEpoch, s.BaseSequence, s.Transactional = 7, 0, 0, true
			r.replicate(0, 2, build(s, "open"), batch("y"))
			a.Committed = true
		}, bytes: one, bounds: [3]model.Offset{0, 1, 3}},
		"the bounds alone": {change: func(_ *rig, a *fetch.Ask) { a.Partitions[0].Bare, a.WaitMax = true, 0 }, bounds: [3]model.Offset{0, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 1, 1<<20)
				defer r.close()
				r.follow(0, 2)
				r.apply(0, partition.Command{Kind: partition.KindLead, Epoch: 2})
				r.replicate(0, 2, batch("x"))
				ask := r.ask(0)
				ask.WaitMax, ask.Replicas = wait, true
				if c.change != nil {
					c.change(r, &ask)
				}
				synctest.Wait() // the loop has heard of it
				if c.meant != nil {
					time.AfterFunc(100*time.Millisecond, func() { c.meant(r) })
				}
				began := time.Now()
				got := r.service.Fetch(t.Context(), ask)[0]
				if took := time.Since(began); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				if bounds := [3]model.Offset{got.LogStart, got.LSO, got.HighWatermark}; !errors.Is(got.Err, c.err) || got.Err != nil && c.err == nil || bounds != c.bounds {
					t.Errorf("%v, bounds %v, want %v, %v", got.Err, bounds, c.err, c.bounds)
				}
				if len(got.Records) != c.bytes {
					t.Errorf("%d bytes, want %d", len(got.Records), c.bytes)
				}
			})
		})
	}
}

// TestReplicaLeaves: who waits when the node stops is told that it is no place to be.
func TestReplicaLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, 1<<20)
		defer r.close()
		r.follow(0, 1)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		if r.service.Leave() {
			t.Error("nobody has read, and there are readers")
		}
		r.service = fetch.New(r.cores, r)
		time.AfterFunc(time.Second, func() {
			if !r.service.Leave() {
				t.Error("one reads, and there are no readers")
			}
			cancel()
		})
		ask := r.ask(0)
		ask.WaitMax, ask.Replicas = time.Minute, true
		if got := r.service.Fetch(ctx, ask)[0]; !errors.Is(got.Err, fetch.ErrNotLeader) {
			t.Errorf("%+v", got)
		}
	})
}
