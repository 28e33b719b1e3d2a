package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/group"
	"github.com/millrace-io/millrace/broker/model"
)

const (
	// inboxEvents is how many requests wait for a loop; beyond it askers wait.
	inboxEvents = 1024
	// turnEvents is how many requests share one write at most, so that answers to
	// writes and timers get their turn.
	turnEvents = 256
	// tickMin is the least time between two ticks of a group.
	tickMin = time.Millisecond
	// groupsMax bounds the groups of one partition: clients invent names at will.
	groupsMax = 100_000
)

// event is a message to a loop.
type event interface{ step(l *loop) }

// loop hosts the groups of one partition. Fields below run are owned by it.
type loop struct {
	service *Service
	id      model.PartitionID
	epoch   model.LeaderEpoch
	log     *slog.Logger
	in      chan event
	ctx     context.Context // ends with the leadership
	cancel  context.CancelFunc
	done    chan struct{} // closed when run has ended
	loading atomic.Bool   // written by run
	// barrier batches the reads that must not be stale.
	barrier barrier

	// What follows is owned by run.
	now     time.Time // of this turn
	groups  map[string]*hosted
	timers  timers
	waiting map[group.Token]chan reply
	token   group.Token
	writer  writer
	settled uint64 // revision of the settings in options
	options group.Options
	expires time.Time // when offsets are looked through next
}

// reply answers a request: with a group's answer, or why there is none.
type reply struct {
	answer group.Answer
	err    error
}

// start makes the loop of a partition; it begins once before, if any, has ended.
func (s *Service) start(e Leadership, before *loop) *loop {
	l := &loop{
		service: s, id: e.Partition, epoch: e.Epoch,
		log:  s.log.With("partition", e.Partition.Index, "epoch", e.Epoch),
		in:   make(chan event, inboxEvents),
		done: make(chan struct{}),
	}
	l.ctx, l.cancel = context.WithCancel(s.ctx)
	l.barrier = barrier{log: s.o.Log, id: e.Partition, ctx: l.ctx}
	l.loading.Store(true)
	s.served.Go(func() {
		if before != nil {
			<-before.done
		}
		l.run()
	})
	return l
}

func (l *loop) run() {
	defer close(l.done)
	defer l.cancel()
	if !l.load(false) {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		l.writer.flush(l)
		timer.Reset(l.nextDue())
		in := l.in
		if l.writer.full() {
			in = nil // who asks waits until the log has caught up
		}
		select {
		case e := <-in:
			l.turn(e)
		case <-l.writer.head():
			l.now = l.service.o.Now()
			if !l.writer.land(l) && !l.reload() {
				return
			}
		case <-timer.C:
			l.tick()
		case <-l.ctx.Done():
			l.abandon(ErrNotCoordinator)
			return
		}
	}
}

// turn takes e and what waits behind it: their records share a write.
func (l *loop) turn(e event) {
	l.now = l.service.o.Now()
	l.configure()
	e.step(l)
	for range turnEvents {
		select {
		case e := <-l.in:
			e.step(l)
		default:
			return
		}
	}
}

func (l *loop) nextDue() time.Duration {
	next := l.expires
	if due, ok := l.timers.next(); ok && due.Before(next) {
		next = due
	}
	return max(0, next.Sub(l.service.o.Now()))
}

// tick does what is due. Requests that are here already go first: a heartbeat
// must not come too late because the loop was busy.
func (l *loop) tick() {
	l.now = l.service.o.Now()
	l.configure()
	for range len(l.in) {
		e := <-l.in
		e.step(l)
	}
	for len(l.timers) > 0 && !l.now.Before(l.timers[0].due) {
		h := l.timers[0]
		l.step(h, group.Tick{})
		if !h.due.IsZero() && !h.due.After(l.now) {
			l.timers.set(h, l.now.Add(tickMin)) // at most one step a turn
		}
	}
	if !l.now.Before(l.expires) {
		l.stepAll(group.Expire{})
		l.scheduleExpiry()
	}
}

// stepAll gives e to every group, in an order that does not change.
func (l *loop) stepAll(e group.Event) {
	for _, id := range slices.Sorted(maps.Keys(l.groups)) {
		l.step(l.groups[id], e)
	}
}

func (l *loop) scheduleExpiry() {
	l.expires = l.now.Add(l.service.o.Cluster.Metadata().Cluster.OffsetsExpiryCheck)
}

// configure takes over settings that have changed.
func (l *loop) configure() {
	m := l.service.o.Cluster.Metadata()
	if m.ConfigRevision == l.settled && l.options != (group.Options{}) {
		return
	}
	l.settled = m.ConfigRevision
	l.options = groupOptions(&m.Cluster)
}

func groupOptions(c *config.Cluster) group.Options {
	return group.Options{
		InitialDelay: c.GroupRebalanceDelay,
		SessionMin:   c.GroupSessionMin, SessionMax: c.GroupSessionMax,
		MembersMax: c.GroupMembersMax, MetadataBytesMax: c.OffsetMetadataBytes,
		Retention: c.OffsetsRetention,
	}
}

// step gives e to a group and does what follows from it.
func (l *loop) step(h *hosted, e group.Event) {
	for _, effect := range h.group.Step(e, l.now) {
		switch x := effect.(type) {
		case group.Reply:
			l.answer(x.To, reply{answer: x.Answer})
		case group.Write:
			l.writer.add(l, h, x)
		}
	}
	if h.group.Blank() {
		l.timers.set(h, time.Time{})
		delete(l.groups, h.group.ID())
		return
	}
	l.timers.set(h, h.group.Deadline())
}

func (l *loop) answer(to group.Token, r reply) {
	if c, ok := l.waiting[to]; ok {
		c <- r // has room for one
		delete(l.waiting, to)
	}
}

// host gives the group of a name, making it if it is not there.
func (l *loop) host(id string) (*hosted, error) {
	if h, ok := l.groups[id]; ok {
		return h, nil
	}
	if len(l.groups) >= groupsMax {
		return nil, errGroupsMax
	}
	h := &hosted{group: group.New(id, &l.options)}
	l.groups[id] = h
	return h, nil
}

// errGroupsMax says that the partition holds groupsMax groups.
var errGroupsMax = errors.Join(ErrUnavailable, errors.New("too many groups in one partition of __consumer_offsets"))

// abandon answers all who wait with err and forgets everything.
func (l *loop) abandon(err error) {
	for to := range l.waiting {
		l.answer(to, reply{err: err})
	}
	l.groups, l.timers = nil, nil
	l.writer.reset()
}

// reload begins anew from the log, after a write whose outcome is unknown. It
// returns false when the leadership has ended.
func (l *loop) reload() bool {
	l.loading.Store(true)
	l.abandon(ErrUnavailable)
	return l.load(true)
}
