package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/move"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/raft"
)

const (
	topicsDir  = "topics"
	removedDir = "removed"
	// startsAtOnce is how many replicas are opened at a time: each waits for a sync of
	// names, which the file system does for all who wait.
	startsAtOnce = 64
	// retryEvery is when a replica that could not be started is tried again.
	retryEvery = 5 * time.Second
	// removedKeep is how long directories that no topic owns are set aside.
	removedKeep = 7 * 24 * time.Hour
)

// replicas makes this node hold the partitions that the cluster's metadata says
// it holds. Its fields are owned by run.
type replicas struct {
	node    model.NodeID
	dir     string
	fs      disk.FS
	memory  *block.Memory
	past    *block.Cache
	cluster *cluster.Cluster
	cores   *core.Set
	raft    *raft.Host
	produce *produce.Service
	log     *slog.Logger
	// revision is the topic revision that each running replica was configured from.
	revision map[model.PartitionID]uint64
	faults   *faults
	damages  *damages
	spawn    func(func(context.Context))
	// busy tells whether somebody else works on a replica now.
	busy func(model.PartitionID) bool
	// settled is closed once every partition of the first snapshot was started.
	settled chan struct{}
	once    sync.Once
	// seats say which replicas this node is to run.
	seats *move.Seats
}

func (r *replicas) run(ctx context.Context) {
	changed, cancel := r.cluster.Watch()
	defer cancel()
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	for left := false; ; {
		for r.reconcile(ctx, left) {
			left = false
		}
		r.once.Do(func() { close(r.settled) })
		left = false
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-r.seats.News():
		case <-retry.C:
			left = true
		}
	}
}

// reconcile starts what is missing, stops what is gone and configures the rest; with left,
// it starts those again that have left too early. again tells that replicas have made way
// for others of this node.
func (r *replicas) reconcile(ctx context.Context, left bool) (again bool) {
	m := r.cluster.Metadata()
	if left {
		r.endLeft(ctx, m)
	}
	var missing []start
	for _, t := range m.Topics() {
		for _, p := range t.Partitions {
			seat, ok := r.seats.Seat(&p)
			if !ok {
				continue
			}
			id := t.PartitionID(p.Index)
			h, running := r.cores.Handle(id)
			switch {
			case !running:
				missing = append(missing, start{topic: t, place: p, id: id, birth: seat.Birth})
			case r.revision[id] != t.Revision:
				c := t.Config
				h.SetConfig(&c)
				r.revision[id] = t.Revision
			}
		}
	}
	r.startAll(ctx, missing)
	return r.stopGone(ctx, m)
}

// endLeft ends replicas that have stopped by themselves, since they heard that they are out
// of their groups, and that this node is still to run: those who are left may not know it
// for good, and wait for their votes. They are to be started again.
func (r *replicas) endLeft(ctx context.Context, m *cluster.Metadata) {
	var left []*core.Handle
	r.cores.Handles(func(h *core.Handle) bool {
		if p, ok := m.Partition(h.ID); ok && r.seats.Runs(&p) && !r.raft.Running(h.Shard) {
			left = append(left, h)
		}
		return true
	})
	for _, h := range left {
		if ctx.Err() != nil || r.busy(h.ID) {
			continue
		}
		if err := r.end(h); err != nil {
			r.log.Error("replica that has left its group not ended", "topic", h.Topic, "partition", h.ID.Index, "err", err)
			continue
		}
		r.log.Info("replica has left its group, whose move is not over: it is started again", "topic", h.Topic, "partition", h.ID.Index)
	}
}

// start is a replica that is to be started.
type start struct {
	topic *cluster.Topic
	place cluster.Partition
	id    model.PartitionID
	birth model.Birth
	err   error
}

func (r *replicas) startAll(ctx context.Context, missing []start) {
	seats := make(chan struct{}, startsAtOnce)
	var wg sync.WaitGroup
	for i := range missing {
		if ctx.Err() != nil {
			break
		}
		seats <- struct{}{}
		wg.Add(1)
		go func() {
			defer wg.Done()
			missing[i].err = r.start(ctx, &missing[i])
			<-seats
		}()
	}
	wg.Wait()
	for _, s := range missing {
		if s.err == nil {
			r.revision[s.id] = s.topic.Revision
			r.faults.set(s.id, nil)
			continue
		}
		if ctx.Err() != nil {
			continue // the stop's doing, not the partition's
		}
		if r.faults.set(s.id, s.err) {
			r.log.Error("partition not started", "topic", s.topic.Name, "partition", s.id.Index, "err", s.err)
		}
		r.renew(&s)
	}
}

// start opens a partition and joins its Raft group. The partition is verified by
// Open before the library may ask for it: what it would panic on never starts.
func (r *replicas) start(ctx context.Context, s *start) error {
	config := s.topic.Config
	if err := r.makeWay(s); err != nil {
		return err
	}
	h, err := r.cores.Open(partition.Options{
		FS: r.fs, Dir: r.partitionDir(s.id), ID: s.id,
		Config: core.PartitionConfig(&config), Log: r.log, Memory: r.memory, Past: r.past, Breathe: r.cores.Breathe,
	}, s.place.Shard, s.topic.Name)
	if err != nil {
		return err
	}
	h.SetConfig(&config)
	r.damages.forget(s.id)
	if err := r.join(ctx, s, h); err != nil {
		return errors.Join(err, r.raft.Stop(s.place.Shard), r.cores.Drop(h))
	}
	return nil
}

// join starts the Raft replica of a partition that was opened.
func (r *replicas) join(ctx context.Context, s *start, h *core.Handle) error {
	if err := r.damages.opened(ctx, h); err != nil {
		return err
	}
	applied, err := h.Open(ctx.Done())
	if err != nil {
		return err
	}
	installed, err := h.Installed(ctx)
	if err != nil {
		return err
	}
	replica := move.Replica(&s.place, s.birth)
	replica.Installed = installed
	if err := r.raft.StartReplica(replica, h); err != nil {
		return err
	}
	return r.raft.CheckLog(s.place.Shard, applied, installed)
}

// partitionDir is named by ids: a topic's name never reaches the file system.
func (r *replicas) partitionDir(id model.PartitionID) string {
	return filepath.Join(r.dir, topicsDir, hex.EncodeToString(id.Topic[:]), strconv.Itoa(int(id.Index)))
}

func (r *replicas) stopGone(ctx context.Context, m *cluster.Metadata) (again bool) {
	var gone []*core.Handle
	reborn := map[model.PartitionID]bool{}
	r.cores.Handles(func(h *core.Handle) bool {
		p, ok := m.Partition(h.ID)
		if !ok || !r.seats.Runs(&p) {
			gone = append(gone, h)
			_, seated := r.seats.Seat(&p)
			reborn[h.ID] = ok && seated
		}
		return true
	})
	for _, h := range gone {
		if ctx.Err() != nil {
			return false // the next start finds what is left
		}
		if r.busy(h.ID) {
			continue // it ends soon, and the next look comes
		}
		if err := r.remove(h); err != nil {
			r.log.Error("partition not removed", "topic", h.Topic, "partition", h.ID.Index, "err", err)
			continue
		}
		if !reborn[h.ID] {
			r.seats.Forget(h.Shard)
		}
		again = again || reborn[h.ID]
	}
	return again
}

// end stops a replica. What it has written stays.
func (r *replicas) end(h *core.Handle) error {
	delete(r.revision, h.ID)
	r.damages.forget(h.ID)
	h.Lead(false, model.NoEpoch)
	if err := r.raft.Stop(h.Shard); err != nil {
		return err
	}
	if err := r.cores.Drop(h); err != nil {
		return err
	}
	r.produce.Forget(h)
	return nil
}

// remove ends a replica for good. The log goes first: a directory without a log
// is set aside at the next start, a log without its directory would not open.
func (r *replicas) remove(h *core.Handle) error {
	if err := r.end(h); err != nil {
		return err
	}
	if err := r.raft.Remove(h.Shard); err != nil {
		return err
	}
	dir := r.partitionDir(h.ID)
	if err := partition.Destroy(r.fs, dir); err != nil {
		return err
	}
	_ = r.fs.Remove(filepath.Dir(dir)) // the topic's, unless it has more partitions here
	return nil
}

// setAsideStrangers moves directories that no topic owns out of the way, and
// deletes those that have lain there for removedKeep. It runs once, after the
// controller has caught up and before any replica starts.
func (r *replicas) setAsideStrangers(now time.Time) error {
	aside := filepath.Join(r.dir, removedDir)
	if err := os.MkdirAll(aside, 0o750); err != nil {
		return err
	}
	m := r.cluster.Metadata()
	entries, err := os.ReadDir(filepath.Join(r.dir, topicsDir))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if owned(m, e.Name()) {
			continue
		}
		to := filepath.Join(aside, fmt.Sprintf("%s-%d", e.Name(), now.Unix()))
		if err := os.Rename(filepath.Join(r.dir, topicsDir, e.Name()), to); err != nil {
			return err
		}
		r.log.Warn("directory of no topic set aside", "dir", to)
	}
	if err := r.setAsideLeft(m, now); err != nil {
		return err
	}
	return purge(aside, now.Add(-removedKeep))
}

// removeStrangeLogs removes the Raft logs that a node left behind which was
// stopped, or killed, between the removal of a topic and that of its partitions.
func (r *replicas) removeStrangeLogs() error {
	owned := map[model.ShardID]bool{raft.ControllerShard: true}
	for _, t := range r.cluster.Metadata().Topics() {
		for _, p := range t.Partitions {
			owned[p.Shard] = r.seats.Runs(&p)
		}
	}
	strangers := slices.DeleteFunc(r.raft.Logs(), func(shard model.ShardID) bool { return owned[shard] })
	for _, shard := range strangers {
		if err := r.raft.Remove(shard); err != nil {
			return err
		}
	}
	if len(strangers) > 0 {
		r.log.Warn("raft logs of no topic removed", "shards", strangers)
	}
	return nil
}

func owned(m *cluster.Metadata, dir string) bool {
	raw, err := hex.DecodeString(dir)
	if err != nil || len(raw) != len(model.TopicID{}) {
		return false
	}
	_, ok := m.TopicByID(model.TopicID(raw))
	return ok
}

// purge deletes what was set aside before the given time. The name says when: a
// directory's own time is that of its last file.
func purge(dir string, before time.Time) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		at := e.Name()[strings.LastIndexByte(e.Name(), '-')+1:]
		if s, err := strconv.ParseInt(at, 10, 64); err == nil && time.Unix(s, 0).Before(before) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// faults are replicas that could not be started, with what is wrong with them.
// mu guards them: the reconciler writes, the admin API reads.
type faults struct {
	mu   sync.Mutex
	byID map[model.PartitionID]error
}

func newFaults() *faults { return &faults{byID: map[model.PartitionID]error{}} }

// set remembers err, or forgets with nil, and tells whether that is news.
func (f *faults) set(id model.PartitionID, err error) (news bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.byID[id]
	if err == nil {
		delete(f.byID, id)
		return old != nil
	}
	f.byID[id] = err
	return old == nil || old.Error() != err.Error()
}

func (f *faults) all() map[model.PartitionID]error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.byID)
}
