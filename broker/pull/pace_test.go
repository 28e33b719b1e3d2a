package pull

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestThrottle: what passes keeps to the lower of the rates, and to a new one soon.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rate atomic.Int64
		p := pace{most: 1000, throttle: rate.Load}
		began := time.Now()
		pass := func(bytes int64, least, most time.Duration) {
			t.Helper()
			begin := time.Now()
			if err := p.turn(t.Context(), bytes); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took < least || took > most {
				t.Errorf("%d bytes, %v after the start, waited %v, want %v to %v", bytes, time.Since(began), took, least, most)
			}
		}
		time.AfterFunc(10*time.Second, func() { rate.Store(100) })
		pass(1000, 10*time.Second, 11*time.Second) // nothing passes before
		pass(1000, 10*time.Second, 10*time.Second+time.Millisecond)
		time.AfterFunc(time.Second, func() { rate.Store(1 << 40) })
		pass(1000, time.Second, 3*time.Second) // not the 10 that it would be
		pass(1000, time.Second, time.Second+time.Millisecond)
		<-time.After(time.Minute) // what did not pass is not saved
		pass(1000, 0, 0)
		pass(1000, time.Second, time.Second+time.Millisecond)
	})
}
