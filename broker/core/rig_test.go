package core

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/record"
)

// rig is one loop stepped by hand: nothing happens but what a test does.
type rig struct {
	t     *testing.T
	set   *Set
	c     *Core
	fs    disk.FS
	log   *handLog
	h     *Handle
	index uint64
	leads []Leadership
	fatal []error
	now   time.Time
}

// handLog keeps what is proposed until a test takes it.
type handLog struct {
	proposed  chan []byte
	verdicts  chan error // one for each proposal; empty: applied
	snapshots chan uint64
	forget    chan error
}

func (l *handLog) Propose(_ model.ShardID, cmd []byte, _ time.Duration) (func() error, error) {
	l.proposed <- cmd
	return func() error {
		select {
		case err := <-l.verdicts:
			return err
		default:
			return nil
		}
	}, nil
}

func (l *handLog) Snapshot(_ context.Context, _ model.ShardID, through uint64) error {
	l.snapshots <- through
	return <-l.forget
}

type deaf struct{}

func (deaf) Flushed(time.Duration, error) {}
func (deaf) Applied(int, int)             {}

func newHandLog() *handLog {
	return &handLog{
		proposed: make(chan []byte, 16), verdicts: make(chan error, 16),
		snapshots: make(chan uint64, 16), forget: make(chan error),
	}
}

func rigOptions(l Log) Options {
	return Options{
		Cores: 1, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Raft: l,
		Leadership: func(Leadership) {}, Fatal: func(error) {}, Observe: deaf{},
		FlushDelay: time.Second, FlushBytes: 4 << 20, CacheBytes: 1 << 20, WriteBytes: 1 << 20,
		SnapshotBytes: 1 << 30, SnapshotEntries: 1 << 30, HousekeepEvery: time.Minute,
		ProducerExpiry: func() time.Duration { return 0 },
	}
}

const rigShard model.ShardID = 100

// newRig opens a partition of topic "t" on a loop that change has configured.
func newRig(t *testing.T, topic config.Topic, change func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, fs: disk.NewMemory(), log: newHandLog(), now: time.Now()}
	o := rigOptions(r.log)
	o.Leadership = func(l Leadership) { r.leads = append(r.leads, l) }
	o.Fatal = func(err error) { r.fatal = append(r.fatal, err) }
	if change != nil {
		change(&o)
	}
	r.set = newSet(o)
	r.c = r.set.cores[0]
	r.h = r.open(rigShard, topic)
	return r
}

// faultyRig has a disk that can fail and be damaged.
func faultyRig(t *testing.T, topic config.Topic) (*rig, *disk.Faulty, *disk.Memory) {
	t.Helper()
	r := &rig{t: t, log: newHandLog(), now: time.Now()}
	memory := disk.NewMemory()
	faulty := disk.NewFaulty(memory)
	r.fs = faulty
	o := rigOptions(r.log)
	o.Fatal = func(err error) { r.fatal = append(r.fatal, err) }
	r.set = newSet(o)
	r.c = r.set.cores[0]
	r.h = r.open(rigShard, topic)
	return r, faulty, memory
}

func (r *rig) open(shard model.ShardID, topic config.Topic) *Handle {
	r.t.Helper()
	id := model.PartitionID{Topic: model.TopicID{byte(shard)}}
	h, err := r.set.Open(partition.Options{
		FS: r.fs, Dir: filepath.Join("/", id.String()), ID: id, Config: PartitionConfig(&topic),
	}, shard, "t")
	if err != nil {
		r.t.Fatal(err)
	}
	h.SetConfig(&topic)
	r.drain()
	return h
}

// drain takes every event that has been sent.
func (r *rig) drain() {
	for {
		select {
		case e := <-r.c.in:
			r.c.Step(e)
		default:
			return
		}
	}
}

func (r *rig) replica() *replica { return r.c.replicas[rigShard] }

// take gives the next job of a queue; nil for none.
func take(q *jobQueue) *job {
	q.mu.Lock()
	empty := len(q.jobs) == 0
	q.mu.Unlock()
	if empty {
		return nil
	}
	j, _ := q.pop()
	return &j
}

// finish runs a job and hands it back to the loop.
func (r *rig) finish(j *job) error {
	r.t.Helper()
	if j == nil {
		r.t.Fatal("there is no job")
	}
	err := j.run()
	r.c.Step(&jobDone{j: *j, err: err})
	return err
}

// later moves the clock and ticks.
func (r *rig) later(d time.Duration) {
	r.now = r.now.Add(d)
	r.c.Tick(r.now)
}

// apply hands commands to the loop as raft does and tells whether it answered.
func (r *rig) apply(cmds ...partition.Command) bool {
	r.t.Helper()
	e := &applyEvent{shard: rigShard, reply: make(chan error, 1)}
	for i := range cmds {
		r.index++
		e.entries = append(e.entries, partition.Entry{Index: r.index, Cmd: cmds[i].Append(nil)})
	}
	r.c.Step(e)
	select {
	case err := <-e.reply:
		if err != nil {
			r.t.Fatal(err)
		}
		return true
	default:
		return false
	}
}

// lead makes this node the serving leader under an epoch.
func (r *rig) lead(epoch model.LeaderEpoch) {
	r.t.Helper()
	r.h.Lead(true, epoch)
	r.drain()
	<-r.log.proposed
	r.apply(partition.Command{Kind: partition.KindLead, Epoch: epoch})
}

func (r *rig) serving() model.LeaderEpoch {
	e, _ := r.h.Serving()
	return e
}

// produce is a command with one batch of a record per value, which is its key too.
func produce(epoch model.LeaderEpoch, spec record.Spec, values ...string) partition.Command {
	var b record.Builder
	b.Reset(spec)
	for _, v := range values {
		must(b.Add(spec.BaseTimestamp, []byte(v), []byte(v), nil))
	}
	_, batch, err := b.Build(nil)
	must(err)
	return partition.Command{Kind: partition.KindProduce, Epoch: epoch, Batches: [][]byte{batch}}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func plain(epoch model.LeaderEpoch, values ...string) partition.Command {
	return produce(epoch, record.Plain(record.None), values...)
}

// read asks for a partition from an offset, parking w.
func (r *rig) read(from model.Offset, committed bool, w *Waiter) Read {
	read := Read{Handle: r.h, Ask: partition.ReadAsk{From: from, BytesMax: 1 << 20, Committed: committed}}
	e := &readEvent{reads: []*Read{&read}, waiter: w, reply: make(chan struct{}, 1)}
	r.c.Step(e)
	<-e.reply
	if read.Answer != nil {
		read.Answer.Release()
	}
	return read
}

func ready(w *Waiter) bool {
	select {
	case <-w.Ready():
		return true
	default:
		return false
	}
}

var errLost = errors.New("proposal lost")
