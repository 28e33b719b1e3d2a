package fetch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

var (
	// ErrNotLeader says that this node does not serve the partition: ask who leads.
	ErrNotLeader = errors.New("not the leader of the partition")
	// ErrUnknownPartition says that this node holds no such partition.
	ErrUnknownPartition = errors.New("unknown partition")
	// ErrOffsetOutOfRange says that the offset lies outside [log start, high watermark].
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrFencedEpoch says that the asker's leader epoch is older than the leader's.
	ErrFencedEpoch = errors.New("leader epoch of the request is too old")
	// ErrUnknownEpoch says that the asker knows a newer leader epoch: ask again.
	ErrUnknownEpoch = errors.New("leader epoch of the request is not known here yet")
	// ErrOffsetNotAvailable says that a replica has not applied the offset yet.
	ErrOffsetNotAvailable = errors.New("offset is not available here yet")
)

// PartitionAsk is one partition of a fetch.
type PartitionAsk struct {
	Partition model.PartitionID
	From      model.Offset
	// BytesMax bounds the partition's answer, but for a first batch larger than it.
	BytesMax int
	// CurrentEpoch is the leader epoch that the asker knows, or NoEpoch.
	CurrentEpoch model.LeaderEpoch
	// Bare asks for the partition's bounds alone, without records.
	Bare bool
	// Into, if not nil, lends its capacity to the answer's Records.
	Into []byte
}

// Ask is a fetch over any number of partitions.
type Ask struct {
	Partitions []PartitionAsk
	// The answer waits until BytesMin are there or WaitMax has passed; BytesMax
	// bounds it as a whole, but for a first batch larger than it.
	BytesMin, BytesMax int
	WaitMax            time.Duration
	// Committed is read_committed.
	Committed bool
	// Replicas lets replicas of this node answer that it does not lead, as far as they have
	// applied: an offset beyond is ErrOffsetNotAvailable with the bounds, which also waits.
	Replicas bool
}

// PartitionAnswer answers a PartitionAsk. Records are whole batches; the first
// may begin before the offset asked for.
type PartitionAnswer struct {
	Err                          error
	HighWatermark, LSO, LogStart model.Offset
	Aborted                      []partition.AbortedTxn
	Records                      []byte
}

// Log is what fetch asks of raft.
type Log interface {
	Barrier(ctx context.Context, shard model.ShardID) error
}

// Service serves the partitions of this node. Its methods may be called from
// any goroutine.
type Service struct {
	cores   *core.Set
	raft    Log
	corrupt func(h *core.Handle, err error)
	leaving atomic.Bool
	// followed is when a replica that does not serve was last asked, Unix nanoseconds.
	followed atomic.Int64
}

// New gives a Service over this node's partitions.
func New(cores *core.Set, raft Log) *Service {
	return &Service{cores: cores, raft: raft, corrupt: func(*core.Handle, error) {}}
}

// readerFor is how long who has read from a replica counts as its reader.
const readerFor = 10 * time.Second

// Leave says that the node is about to stop: replicas that it does not lead answer no
// more, also who waits already, so that their readers are told to go elsewhere. It tells
// whether there are any.
func (s *Service) Leave() (readers bool) {
	s.leaving.Store(true)
	return time.Now().UnixNano()-s.followed.Load() < int64(readerFor)
}

// OnCorrupt has f told of every read that met an ErrCorrupt, on the goroutine
// that read. It is called before the first Fetch.
func (s *Service) OnCorrupt(f func(h *core.Handle, err error)) { s.corrupt = f }

// failed gives err in this room's words, and tells of it when it is damage.
func (s *Service) failed(h *core.Handle, err error) error {
	if errors.Is(err, partition.ErrCorrupt) {
		s.corrupt(h, err)
	}
	return translate(err)
}

// Fetch answers every partition of ask, in its order. It waits as ask says, and
// not at all once a partition has an error.
func (s *Service) Fetch(ctx context.Context, ask Ask) []PartitionAnswer {
	f := fetching{service: s, ask: ask, answers: make([]PartitionAnswer, len(ask.Partitions))}
	f.find()
	// More than BytesMax never comes, however long one waits.
	need := min(ask.BytesMin, ask.BytesMax)
	if ask.WaitMax <= 0 || need <= 0 || f.failed {
		f.read(ctx, nil)
		f.load()
		return f.answers
	}
	timer := time.NewTimer(ask.WaitMax)
	defer timer.Stop()
	for !f.enough(ctx, need, timer.C) {
	}
	f.load()
	return f.answers
}

// enough reads, and waits for more if that yields less than need. It is false when
// so much has arrived since that another look may find enough: what arrives is
// counted in commands, of which part may be duplicates.
func (f *fetching) enough(ctx context.Context, need int, late <-chan time.Time) bool {
	w := core.NewWaiter(int64(need))
	defer w.Cancel()
	f.read(ctx, w)
	if f.bytes >= need || f.failed {
		return true
	}
	f.release() // segments are not pinned while one waits
	select {
	case <-w.Ready():
		if !w.Woken() {
			return false
		}
	case <-late:
	case <-ctx.Done():
	}
	f.read(ctx, nil)
	return true
}

// fetching is one Fetch under way; owned by its goroutine.
type fetching struct {
	service *Service
	ask     Ask
	answers []PartitionAnswer
	reads   []core.Read
	index   []int // of reads in answers
	bytes   int
	failed  bool
}

// find resolves partitions and fences epochs, before any loop is asked.
func (f *fetching) find() {
	f.reads = make([]core.Read, 0, len(f.ask.Partitions))
	for i, p := range f.ask.Partitions {
		h, err := f.service.leader(p.Partition, p.CurrentEpoch)
		replica := f.ask.Replicas && errors.Is(err, ErrNotLeader)
		if err != nil && !replica {
			f.fail(i, err)
			continue
		}
		if replica {
			f.service.followed.Store(time.Now().UnixNano())
		}
		read := core.Read{Handle: h, Replica: replica, Epoch: p.CurrentEpoch, Ask: partition.ReadAsk{
			From: p.From, BytesMax: min(p.BytesMax, f.ask.BytesMax), Committed: f.ask.Committed,
			MinOne: true,
		}}
		if p.Bare {
			read.Ask.BytesMax, read.Ask.MinOne = 0, false
		}
		f.reads = append(f.reads, read)
		f.index = append(f.index, i)
	}
}

func (f *fetching) fail(i int, err error) {
	f.failed = true
	f.answers[i] = PartitionAnswer{Err: err, HighWatermark: model.NoOffset, LSO: model.NoOffset, LogStart: model.NoOffset}
}

func (f *fetching) read(ctx context.Context, w *core.Waiter) {
	if len(f.reads) == 0 {
		return
	}
	if f.service.leaving.Load() {
		for i := range f.reads {
			f.reads[i].Replica = false
		}
	}
	f.service.cores.ReadAll(f.reads, w)
	f.bytes = 0
	for i := range f.reads {
		out := &f.answers[f.index[i]]
		*out = PartitionAnswer{HighWatermark: model.NoOffset, LSO: model.NoOffset, LogStart: model.NoOffset}
		if !f.reads[i].Replica && errors.Is(f.reads[i].Err, partition.ErrOffsetOutOfRange) {
			f.confirm(ctx, &f.reads[i])
		}
		if err := f.reads[i].Err; err != nil {
			out.Err = translate(err)
			if a := f.reads[i].Answer; a != nil {
				out.HighWatermark, out.LSO, out.LogStart = a.HighWatermark, a.LSO, a.LogStart
			}
			f.failed = f.failed || out.Err != ErrOffsetNotAvailable
			continue
		}
		f.bytes += f.reads[i].Answer.Bytes
	}
}

// confirm reads once more what was out of range, as a leader for sure: one that does not
// know yet that it was deposed lacks what its successor has given to read, and would have
// a consumer start elsewhere.
func (f *fetching) confirm(ctx context.Context, read *core.Read) {
	if err := f.service.raft.Barrier(ctx, read.Handle.Shard); err != nil {
		read.Err = fmt.Errorf("%w: %w", ErrNotLeader, err)
		return
	}
	again := []core.Read{{Handle: read.Handle, Ask: read.Ask}}
	f.service.cores.ReadAll(again, nil)
	read.Answer, read.Err = again[0].Answer, again[0].Err
}

func (f *fetching) release() {
	for i := range f.reads {
		if a := f.reads[i].Answer; a != nil {
			a.Release()
			f.reads[i].Answer = nil
		}
	}
}

// load reads what the loops pointed at, as far as the whole answer's limit goes:
// the first partition with data always gets its first batch.
func (f *fetching) load() {
	left := f.ask.BytesMax
	sent := false
	for i := range f.reads {
		read := &f.reads[i]
		if sent && read.Err == nil && read.Answer.Bytes > left {
			f.readAgain(i, left)
		}
		a := read.Answer
		if a == nil || read.Err != nil {
			continue
		}
		out := &f.answers[f.index[i]]
		out.HighWatermark, out.LSO, out.LogStart = a.HighWatermark, a.LSO, a.LogStart
		if a.Bytes == 0 {
			a.Release()
			continue
		}
		out.Records, out.Err = a.Load(f.ask.Partitions[f.index[i]].Into[:0])
		out.Aborted = a.Aborted // exact only now
		if out.Err != nil {
			out.Err = f.service.failed(read.Handle, out.Err)
			if read.Replica && errors.Is(out.Err, partition.ErrCorrupt) {
				out.Err = ErrNotLeader // which has it whole, as far as is known here
			}
			continue
		}
		left -= len(out.Records)
		sent = sent || len(out.Records) > 0
	}
}

// readAgain asks for what fits into the rest of the answer: a partition that
// always holds more than that must not go without for ever.
func (f *fetching) readAgain(i, left int) {
	read := &f.reads[i]
	read.Answer.Release()
	read.Answer = nil
	read.Ask.BytesMax, read.Ask.MinOne = max(left, 0), false
	f.service.cores.ReadAll(f.reads[i:i+1], nil)
	if read.Err != nil {
		f.fail(f.index[i], translate(read.Err))
	}
}

// leader finds a partition that this node serves, and fences the asker's epoch. With
// ErrNotLeader it gives the replica that does not serve.
func (s *Service) leader(id model.PartitionID, current model.LeaderEpoch) (*core.Handle, error) {
	h, ok := s.cores.Handle(id)
	if !ok {
		return nil, ErrUnknownPartition
	}
	epoch, serving := h.Serving()
	switch {
	case !serving:
		return h, ErrNotLeader
	case current == model.NoEpoch:
	case current < epoch:
		return nil, ErrFencedEpoch
	case current > epoch:
		return nil, ErrUnknownEpoch
	}
	return h, nil
}

// translate puts errors of the rooms below into this room's words.
func translate(err error) error {
	switch {
	case errors.Is(err, core.ErrNotLeader), errors.Is(err, core.ErrClosed):
		return ErrNotLeader
	case errors.Is(err, core.ErrUnknownPartition):
		return ErrUnknownPartition
	case errors.Is(err, partition.ErrOffsetOutOfRange):
		return ErrOffsetOutOfRange
	case errors.Is(err, core.ErrBehind):
		return ErrOffsetNotAvailable
	case errors.Is(err, core.ErrFencedEpoch):
		return ErrFencedEpoch
	case errors.Is(err, core.ErrUnknownEpoch):
		return ErrUnknownEpoch
	}
	return err
}
