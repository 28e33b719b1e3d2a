package load

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// A pacer sleeps until records are due. The runtime's timers wake an idle process
// up to a millisecond late, which sends two records at once where one each half
// millisecond is meant: it sleeps in the kernel instead, on a thread of its own.
type pacer struct{}

// newPacer binds the calling goroutine to a thread until close. Without exact
// timers (another system's kernel) the default slack of 50 us stays.
func newPacer() pacer {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	return pacer{}
}

func (pacer) until(t time.Time) {
	for {
		d := time.Until(t)
		if d <= 0 {
			return
		}
		ts := unix.NsecToTimespec(d.Nanoseconds())
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &ts, nil) // interrupted: the loop asks again
	}
}

func (pacer) close() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // the default again
	runtime.UnlockOSThread()
}
