package produce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
)

var (
	// ErrNotEnoughReplicas says that fewer replicas are in sync than min.insync.replicas
	// asks for; nothing was written. Try again.
	ErrNotEnoughReplicas = errors.New("fewer replicas are in sync than min.insync.replicas")
	// ErrNotEnoughAfterAppend says that the batch is written, and stays, though fewer
	// replicas have it than min.insync.replicas asks for. Sent again it is written twice,
	// unless its producer is idempotent.
	ErrNotEnoughAfterAppend = errors.New("written to fewer replicas than min.insync.replicas")
)

// Replicas keeps count of a partition's replicas, the leader among them.
type Replicas interface {
	// InSync counts those in sync.
	InSync(model.PartitionID) int
	// Await returns true once so many have synced their log up to a raft index, and false
	// when ctx ends before, or this node no longer leads.
	Await(ctx context.Context, h *core.Handle, index uint64, count int) bool
}

// least is how many replicas a write of acks=all asks for: 1 is the leader alone.
func (s *Service) least(h *core.Handle) int {
	if s.o.Replicas == nil {
		return 1
	}
	return h.Config().MinInsyncReplicas
}

// enough refuses while fewer replicas are in sync than the topic asks for.
func (s *Service) enough(h *core.Handle) error {
	least := s.least(h)
	if least <= 1 {
		return nil
	}
	if n := s.o.Replicas.InSync(h.ID); n < least {
		return fmt.Errorf("%w: %d are, of at least %d", ErrNotEnoughReplicas, n, least)
	}
	return nil
}

// settleLook is how often it is looked whether a write can still come to be on as many
// replicas as it asks for.
const settleLook = 500 * time.Millisecond

// written is a write that the log has.
type written struct {
	*write
	r Result
}

// settle answers writes of acks=all that a majority has in its log up to index once as
// many replicas do as the topic asks for. A majority is most often all that was asked.
func (l *lane) settle(ws []written, index uint64, least int) {
	if l.service.o.Replicas.Await(ended, l.handle, index, least) {
		resolveAll(ws, nil)
		return
	}
	go l.await(ws, index, least)
}

// ended is for who does not wait.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

func (l *lane) await(ws []written, index uint64, least int) {
	for began := time.Now(); len(ws) > 0; {
		turn, over := context.WithTimeout(context.Background(), settleLook)
		there := l.service.o.Replicas.Await(turn, l.handle, index, least)
		over()
		_, serving := l.handle.Serving()
		n := l.service.o.Replicas.InSync(l.handle.ID)
		switch {
		case there:
			resolveAll(ws, nil)
			return
		case !serving || n < least:
			resolveAll(ws, fmt.Errorf("%w: %d are in sync, of at least %d", ErrNotEnoughAfterAppend, n, least))
			return
		}
		ws = slices.DeleteFunc(ws, func(w written) bool {
			late := time.Since(began) > max(w.timeout, timeoutMin)
			if late {
				w.resolve(refused(fmt.Errorf("%w: %d replicas are to have it, and fewer have", ErrTimedOut, least)))
			}
			return late
		})
	}
}

// resolveAll answers with err where it is not nil. They are in the log all the same: none
// of them leaves a gap.
func resolveAll(ws []written, err error) {
	for _, w := range ws {
		if err != nil {
			w.r = refused(err)
		}
		w.resolve(w.r)
	}
}
