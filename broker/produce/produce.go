package produce

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
	"github.com/millrace-io/millrace/broker/script"
)

var (
	// ErrNotLeader says that the batch is surely not written: ask who leads.
	ErrNotLeader = errors.New("not the leader of the partition; nothing was written")
	// ErrUnknownPartition says that this node holds no such partition.
	ErrUnknownPartition = errors.New("unknown partition")
	// ErrTimedOut says that the outcome is unknown: the batch may yet be written.
	ErrTimedOut = errors.New("write timed out; its outcome is unknown")
	// ErrTooLarge says that the batch exceeds the topic's max.message.bytes.
	ErrTooLarge = errors.New("batch is larger than max.message.bytes")
	// ErrInvalidRecord says that a batch is not what the protocol or topic demands.
	ErrInvalidRecord = errors.New("invalid record")
	// ErrInvalidTimestamp says that a timestamp is outside the topic's limits.
	ErrInvalidTimestamp = errors.New("timestamp out of range")
	// ErrStorage says that the disk is low on space; try again once there is some.
	ErrStorage = errors.New("too little free disk space to accept writes")
	// ErrScriptUnavailable and ErrScriptFailed are package script's.
	ErrScriptUnavailable = script.ErrScriptUnavailable
	ErrScriptFailed      = script.ErrScriptFailed
)

// Ask is one partition's part of a produce request.
type Ask struct {
	Partition model.PartitionID
	// Records is one record batch; produce owns it from Start on.
	Records []byte
	// Timeout bounds the wait for the log; at least 400 ms are granted.
	Timeout time.Duration
	// Internal marks a write of the broker itself, which no script sees.
	Internal bool
	// All: the client wants all replicas' word, acks=all. It has a majority's anyway.
	All bool
}

// RecordError names a record that made its batch be refused.
type RecordError struct {
	Index int32
	Text  string
}

// Result is what became of an Ask.
type Result struct {
	// Base is the offset of the batch's first record.
	Base model.Offset
	// AppendTime is in ms since the epoch under LogAppendTime, else -1.
	AppendTime int64
	LogStart   model.Offset
	Err        error
	// RecordErrors may accompany ErrInvalidRecord.
	RecordErrors []RecordError
}

// Pending is an Ask whose outcome is awaited.
type Pending struct {
	done   chan struct{}
	result Result // written before done is closed
}

// Done is closed when Result is there.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Result waits for the outcome.
func (p *Pending) Result() Result {
	<-p.done
	return p.result
}

func (p *Pending) resolve(r Result) {
	p.result = r
	close(p.done)
}

func resolved(r Result) *Pending {
	p := &Pending{done: make(chan struct{})}
	p.resolve(r)
	return p
}

func refused(err error) Result {
	return Result{Base: model.NoOffset, AppendTime: -1, LogStart: model.NoOffset, Err: err}
}

// Scripts runs the sync scripts of a topic; package script implements it.
type Scripts interface {
	// Bound tells whether the topic has any, so that others pay nothing.
	Bound(topic model.TopicID) bool
	// Transform gives the batch that is to be written instead. It returns an error
	// that wraps ErrScriptUnavailable or ErrScriptFailed when it must be refused.
	Transform(ctx context.Context, topic model.TopicID, partition int32, batch []byte) ([]byte, error)
}

// Log is what produce asks of raft.
type Log interface {
	Propose(shard model.ShardID, cmd []byte, timeout time.Duration) (*raft.Proposal, error)
	Barrier(ctx context.Context, shard model.ShardID) error
}

// Options wires a Service.
type Options struct {
	Cores   *core.Set
	Raft    Log
	Scripts Scripts
	// Space tells whether writes may be accepted; nil or ErrStorage with a text.
	Space func() error
	// Replicas keeps count of who is in sync; nil: nobody does.
	Replicas Replicas
	// Committed is told how long each command took from its proposal to its
	// application: the log's sync lies in between. It must not block; nil: nobody.
	Committed func(time.Duration)
	// Now is the clock that LogAppendTime and timestamp limits go by.
	Now func() time.Time
}

// Service accepts writes for the partitions of this node. Its methods may be
// called from any goroutine.
type Service struct {
	o     Options
	lanes sync.Map // *core.Handle -> *lane
}

// New gives a Service over o.
func New(o Options) *Service {
	if o.Committed == nil {
		o.Committed = func(time.Duration) {}
	}
	return &Service{o: o}
}

// UseScripts gives the service its scripts; call it before the first Start.
func (s *Service) UseScripts(x Scripts) { s.o.Scripts = x }

// Start checks ask and queues it. It does not wait for the log.
func (s *Service) Start(ask Ask) *Pending {
	h, ok := s.o.Cores.Handle(ask.Partition)
	if !ok {
		return resolved(refused(ErrUnknownPartition))
	}
	w, bad := s.accept(h, ask)
	if w == nil {
		id := sequencedOf(ask.Records)
		if !id.valid {
			return resolved(bad)
		}
		w = &write{Pending: Pending{done: make(chan struct{})}, id: id, refusal: &bad}
	}
	s.lane(h).push(w)
	return &w.Pending
}

// accept gives the write that ask becomes, or the refusal.
func (s *Service) accept(h *core.Handle, ask Ask) (*write, Result) {
	epoch, serving := h.Serving()
	if !serving {
		return nil, refused(ErrNotLeader)
	}
	if err := s.o.Space(); err != nil {
		return nil, refused(err)
	}
	if ask.All {
		if err := s.enough(h); err != nil {
			return nil, refused(err)
		}
	}
	w, bad := s.check(h, ask)
	if w != nil {
		w.epoch = epoch
	}
	return w, bad
}

func (s *Service) lane(h *core.Handle) *lane {
	if l, ok := s.lanes.Load(h); ok {
		return l.(*lane)
	}
	l, _ := s.lanes.LoadOrStore(h, &lane{service: s, handle: h})
	return l.(*lane)
}

// Forget drops what is kept for a partition that has left this node.
func (s *Service) Forget(h *core.Handle) { s.lanes.Delete(h) }
