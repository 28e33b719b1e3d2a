package pacemaker

import (
	"fmt"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/script"
)

// The states of a fiber.
const (
	stateStarting = api.StateStarting // waits for something: the reason says what
	stateRunning  = api.StateRunning
	statePaused   = api.StatePaused
	stateStopped  = api.StateStopped
)

// Status is how a fiber stands.
type Status = script.FiberState

// ahead is a range that was read and not yet appended.
type ahead struct {
	first int64 // ms
	to    model.Offset
}

// status is a fiber's, behind a lock: others look at it at any time.
type status struct {
	mu     sync.Mutex
	now    func() time.Time
	s      Status
	waitTo []ahead
	steps  uint64 // counts what was appended
	begun  model.Activation
}

func (t *status) begin(now func() time.Time) {
	t.now = now
	t.s.State, t.s.Offset, t.s.End, t.s.Began, t.s.Updated = stateStarting, model.NoOffset, model.NoOffset, model.NoOffset, now()
}

func (t *status) change(do func(s *Status)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	do(&t.s)
	t.s.Updated = t.now()
}

// get gives a copy with the lag as it is now.
func (t *status) get() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.s
	if s.Offset >= 0 && s.End > s.Offset {
		s.LagRecords = int64(s.End - s.Offset)
		if len(t.waitTo) > 0 && t.waitTo[0].first >= 0 {
			s.LagMs = max(0, t.now().UnixMilli()-t.waitTo[0].first)
		}
	}
	return s
}

// progress changes with every append.
func (t *status) progress() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.steps
}

// starts says that the fiber finishes or begins plan, which is not taken yet.
func (t *status) starts(plan *Spec) {
	t.settled(stateStarting, fmt.Sprintf("the children have to take activation %d", plan.Activation))
}

// began says that this fiber made all children take an activation, at offset.
func (t *status) began(a model.Activation, offset model.Offset) {
	t.change(func(s *Status) { t.begun, s.Began = a, offset })
}

// applied says that all children have taken plan.
func (t *status) applied(plan *Spec, children []child) {
	t.change(func(s *Status) {
		if t.begun != plan.Activation {
			s.Began = model.NoOffset
		}
		s.Activation, s.Digest = plan.Activation, plan.Digest
		s.Offset = model.OffsetMax
		for _, c := range children {
			s.Offset = min(s.Offset, c.at)
		}
		s.End = max(s.End, s.Offset)
		t.waitTo = nil
	})
}

func (t *status) runs() {
	t.settled(stateRunning, "")
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waitTo = nil // the leg notes what it reads
}

// settled says what the fiber does, or that it rests.
func (t *status) settled(state, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.s.State != state || t.s.Reason != reason {
		t.s.State, t.s.Reason, t.s.Updated = state, reason, t.now()
	}
}

// waits says that the fiber cannot go on just now.
func (t *status) waits(reason string) {
	t.settled(stateStarting, reason)
}

// failed notes an error for people to see.
func (t *status) failed(text string, offset model.Offset) {
	t.change(func(s *Status) { s.LastError = &api.ScriptError{Text: text, Offset: offset, Time: t.now()} })
}

// sees notes the end of what can be taken.
func (t *status) sees(end model.Offset) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s.End = end
}

// end gives what sees noted.
func (t *status) end() model.Offset {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.s.End
}

// read notes a range on its way.
func (t *status) read(first int64, to model.Offset) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waitTo = append(t.waitTo, ahead{first: first, to: to})
}

// at notes how far all children are.
func (t *status) at(offset model.Offset) {
	t.change(func(s *Status) { t.reach(s, offset) })
}

func (t *status) reach(s *Status, offset model.Offset) {
	s.Offset, s.End = offset, max(s.End, offset)
	for len(t.waitTo) > 0 && t.waitTo[0].to <= offset {
		t.waitTo = t.waitTo[1:]
	}
	t.steps++
}

// took counts a piece that was appended.
func (t *status) took(p *piece, least model.Offset) {
	t.change(func(s *Status) {
		s.RecordsIn += p.in
		s.RecordsOut += p.out
		s.RecordsDropped += p.dropped
		s.RecordsFailed += int64(len(p.failed))
		s.CPUSeconds += p.cpu.Seconds()
		s.Gap += p.gap
		if n := len(p.failed); n > 0 {
			bad := p.failed[n-1]
			s.LastError = &api.ScriptError{Text: bad.Kind.String() + ": " + bad.Text, Offset: bad.Offset, Time: t.now()}
		}
		t.reach(s, least)
	})
}

// idleAt notes the parent's end while the fiber rests; ask: the age of the
// record at the given offset is not known yet.
func (t *status) idleAt(end model.Offset) (at model.Offset, ask bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if end != t.s.End {
		t.s.End, t.s.Updated = end, t.now()
	}
	return t.s.Offset, t.s.Offset >= 0 && end > t.s.Offset && len(t.waitTo) == 0
}

// idleFirst notes the age of what a resting fiber has to take next.
func (t *status) idleFirst(first int64, to model.Offset) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waitTo) == 0 {
		t.waitTo = append(t.waitTo, ahead{first: first, to: to})
	}
}
