package coordinator

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/millrace-io/millrace/broker/group"
)

// groupEvent is a request to one group.
type groupEvent struct {
	id    string
	make  func(to group.Token) group.Event
	reply chan reply // has room for one
}

func (e *groupEvent) step(l *loop) {
	h, err := l.host(e.id)
	if err != nil {
		e.reply <- reply{err: err}
		return
	}
	l.token++
	l.waiting[l.token] = e.reply
	l.step(h, e.make(l.token))
}

// ask has a group's loop step, and waits for the answer.
func (s *Service) ask(ctx context.Context, id string, f func(to group.Token) group.Event) (group.Answer, error) {
	l, err := s.loop(id)
	if err != nil {
		return nil, err
	}
	e := &groupEvent{id: id, make: f, reply: make(chan reply, 1)}
	if err := l.send(ctx, e); err != nil {
		return nil, err
	}
	r, err := await(ctx, l, e.reply)
	if err != nil {
		return nil, err
	}
	return r.answer, r.err
}

func (l *loop) send(ctx context.Context, e event) error {
	select {
	case l.in <- e:
		return nil
	case <-l.done:
		return ErrNotCoordinator
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

// await waits for the answer to an event that was sent.
func await[T any](ctx context.Context, l *loop, c <-chan T) (T, error) {
	var none T
	select {
	case r := <-c:
		return r, nil
	case <-l.done:
		select {
		case r := <-c: // it came before the end
			return r, nil
		default:
			return none, ErrNotCoordinator
		}
	case <-ctx.Done():
		return none, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

// newID gives a fresh member id, with a prefix that tells people whose it is.
func newID(prefix string) string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return prefix + "-" + hex.EncodeToString(b[:])
}

// Join makes e.Member part of the group's next generation; it waits for the
// others. To and NewID are set here.
func (s *Service) Join(ctx context.Context, id string, e group.Join) group.JoinAnswer {
	refuse := func(err error) group.JoinAnswer {
		return group.JoinAnswer{Err: err, Generation: -1, MemberID: e.Member.ID}
	}
	if id == "" {
		return refuse(ErrInvalidGroup)
	}
	e.NewID = s.o.NewID(cmp.Or(e.Member.InstanceID, e.ClientID))
	a, err := s.ask(ctx, id, func(to group.Token) group.Event { e.To = to; return e })
	if err != nil {
		return refuse(err)
	}
	return a.(group.JoinAnswer)
}

// Sync gives the member its assignment; it waits for the leader's.
func (s *Service) Sync(ctx context.Context, id string, e group.Sync) group.SyncAnswer {
	if id == "" {
		return group.SyncAnswer{Err: ErrInvalidGroup}
	}
	a, err := s.ask(ctx, id, func(to group.Token) group.Event { e.To = to; return e })
	if err != nil {
		return group.SyncAnswer{Err: err}
	}
	return a.(group.SyncAnswer)
}

// Heartbeat keeps the member's session. While the group is being loaded it is
// answered nil: a member cannot do anything about that.
func (s *Service) Heartbeat(ctx context.Context, id string, e group.Heartbeat) error {
	if id == "" {
		return ErrInvalidGroup
	}
	a, err := s.ask(ctx, id, func(to group.Token) group.Event { e.To = to; return e })
	switch {
	case errors.Is(err, ErrLoading):
		return nil
	case err != nil:
		return err
	}
	return a.(group.Status).Err
}

// Leave takes members out of the group.
func (s *Service) Leave(ctx context.Context, id string, members []group.Member) group.LeaveAnswer {
	if id == "" {
		return group.LeaveAnswer{Err: ErrInvalidGroup}
	}
	a, err := s.ask(ctx, id, func(to group.Token) group.Event { return group.Leave{To: to, Members: members} })
	if err != nil {
		return group.LeaveAnswer{Err: err}
	}
	return a.(group.LeaveAnswer)
}

// Commit stores offsets, and returns once they are safe.
func (s *Service) Commit(ctx context.Context, id string, e group.Commit) group.OffsetsAnswer {
	a, err := s.ask(ctx, id, func(to group.Token) group.Event { e.To = to; return e })
	if err != nil {
		return group.OffsetsAnswer{Err: err}
	}
	return a.(group.OffsetsAnswer)
}

// DeleteOffsets forgets committed offsets.
func (s *Service) DeleteOffsets(ctx context.Context, id string, partitions []group.TopicPartition) group.OffsetsAnswer {
	if id == "" {
		return group.OffsetsAnswer{Err: ErrInvalidGroup}
	}
	a, err := s.ask(ctx, id, func(to group.Token) group.Event {
		return group.DeleteOffsets{To: to, Partitions: partitions}
	})
	if err != nil {
		return group.OffsetsAnswer{Err: err}
	}
	return a.(group.OffsetsAnswer)
}

// DeleteGroup forgets a group that has no members.
func (s *Service) DeleteGroup(ctx context.Context, id string) error {
	a, err := s.ask(ctx, id, func(to group.Token) group.Event { return group.DeleteGroup{To: to} })
	if err != nil {
		return err
	}
	return a.(group.Status).Err
}

// FetchAsk asks for committed offsets: of Partitions, or of all for nil.
type FetchAsk struct {
	Partitions []group.TopicPartition
	// RequireStable asks that offsets be refused which an open transaction may
	// still replace. Until there are transactions every offset is stable.
	RequireStable bool
}

// Fetch gives committed offsets, in the order asked, those that are not there
// left out; all of them by topic and partition.
func (s *Service) Fetch(ctx context.Context, id string, ask FetchAsk) ([]group.OffsetSet, error) {
	return query(ctx, s, id, func(l *loop) []group.OffsetSet {
		h := l.groups[id]
		switch {
		case h == nil:
			return nil
		case ask.Partitions == nil:
			return h.group.Offsets()
		}
		found := make([]group.OffsetSet, 0, len(ask.Partitions))
		for _, p := range ask.Partitions {
			if o, ok := h.group.Fetch(p); ok {
				found = append(found, group.OffsetSet{TopicPartition: p, Offset: o})
			}
		}
		return found
	})
}

// Describe gives a group as it is, or group.ErrNotFound.
func (s *Service) Describe(ctx context.Context, id string) (group.View, error) {
	v, err := query(ctx, s, id, func(l *loop) *group.View {
		h := l.groups[id]
		if h == nil {
			return nil
		}
		v := h.group.View()
		return &v
	})
	switch {
	case err != nil:
		return group.View{}, err
	case v == nil:
		return group.View{}, fmt.Errorf("%w: %q", group.ErrNotFound, id)
	}
	return *v, nil
}

// queryEvent reads on a loop.
type queryEvent[T any] struct {
	read  func(*loop) T
	reply chan T // has room for one
}

func (e *queryEvent[T]) step(l *loop) { e.reply <- e.read(l) }

// query reads on the loop of a group, not behind what any node has acknowledged.
func query[T any](ctx context.Context, s *Service, id string, read func(*loop) T) (T, error) {
	var none T
	l, err := s.loop(id)
	if err != nil {
		return none, err
	}
	if err := l.barrier.wait(ctx); err != nil {
		return none, err
	}
	return queryLoop(ctx, l, read)
}

func queryLoop[T any](ctx context.Context, l *loop, read func(*loop) T) (T, error) {
	e := &queryEvent[T]{read: read, reply: make(chan T, 1)}
	if err := l.send(ctx, e); err != nil {
		var none T
		return none, err
	}
	return await(ctx, l, e.reply)
}

// Listed is a group of List.
type Listed struct {
	ID, ProtocolType string
	State            group.State
}

// List gives the groups coordinated here, by name. While any partition is being
// loaded it also gives ErrLoading.
func (s *Service) List(ctx context.Context) ([]Listed, error) {
	return gather(ctx, s, func(l *loop) []Listed {
		all := make([]Listed, 0, len(l.groups))
		for id, h := range l.groups {
			v := h.group.Summary()
			all = append(all, Listed{ID: id, ProtocolType: v.ProtocolType, State: v.State})
		}
		return all
	}, func(a, b Listed) int { return cmp.Compare(a.ID, b.ID) })
}

// Committed is a committed offset of CommittedOffsets.
type Committed struct {
	Group string
	group.TopicPartition
	Offset group.Offset
}

// CommittedOffsets gives every offset committed here, by group, topic and
// partition, for metrics and admin. Partitions being loaded are left out, and
// ErrLoading says so.
func (s *Service) CommittedOffsets(ctx context.Context) ([]Committed, error) {
	return gather(ctx, s, func(l *loop) []Committed {
		var all []Committed
		for id, h := range l.groups {
			for _, o := range h.group.Offsets() {
				all = append(all, Committed{Group: id, TopicPartition: o.TopicPartition, Offset: o.Offset})
			}
		}
		return all
	}, func(a, b Committed) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), a.Compare(b.TopicPartition))
	})
}

// gather reads on every loop of this node.
func gather[T any](ctx context.Context, s *Service, read func(*loop) []T, compare func(a, b T) int) ([]T, error) {
	s.mu.Lock()
	loops := make([]*loop, 0, len(s.loops))
	for _, l := range s.loops {
		loops = append(loops, l)
	}
	s.mu.Unlock()
	var all []T
	var loading error
	for _, l := range loops {
		if l.loading.Load() {
			loading = ErrLoading
			continue
		}
		some, err := queryLoop(ctx, l, read)
		switch {
		case ctx.Err() != nil:
			return nil, err
		case err != nil:
			continue // lost meanwhile: another node answers for it
		}
		all = append(all, some...)
	}
	slices.SortFunc(all, compare)
	return all, loading
}
