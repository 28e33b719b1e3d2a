package coordinator

import (
	"container/heap"
	"time"

	"github.com/millrace-io/millrace/broker/group"
)

// hosted is a group on a loop, and its place among the timers.
type hosted struct {
	group *group.Group
	due   time.Time // of the group's Deadline; zero: not among the timers
	place int
}

// timers is a heap of hosted groups by due; owned by the loop.
type timers []*hosted

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due.Before(t[j].due) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].place, t[j].place = i, j
}

// Push is for container/heap.
func (t *timers) Push(x any) {
	h := x.(*hosted)
	h.place = len(*t)
	*t = append(*t, h)
}

// Pop is for container/heap.
func (t *timers) Pop() any {
	last := len(*t) - 1
	h := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	return h
}

// set moves h to due; the zero time takes it out.
func (t *timers) set(h *hosted, due time.Time) {
	was := h.due
	h.due = due
	switch {
	case due.Equal(was):
	case was.IsZero():
		heap.Push(t, h)
	case due.IsZero():
		heap.Remove(t, h.place)
	default:
		heap.Fix(t, h.place)
	}
}

// next gives when the first is due.
func (t timers) next() (time.Time, bool) {
	if len(t) == 0 {
		return time.Time{}, false
	}
	return t[0].due, true
}
