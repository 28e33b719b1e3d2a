package core

import (
	"testing"
	"time"
)

// TestAgeClock moves the wall clock by an hour, on and back, as monotonic time goes on by
// seconds.
func TestAgeClock(t *testing.T) {
	wall := time.UnixMilli(1_000_000_000)
	c := ageClock{told: wall}
	pass := func(by, long time.Duration) (behind time.Duration) {
		wall = wall.Add(by)
		for range long / time.Second {
			wall = wall.Add(time.Second)
			behind = wall.Sub(c.step(wall, time.Second))
		}
		return behind
	}
	for _, x := range []struct {
		what         string
		by, long     time.Duration
		behind, than time.Duration
	}{
		{"it goes with the wall clock", 0, time.Hour, 0, 0},
		{"a jump ahead counts for nothing at once", time.Hour, time.Second, 59 * time.Minute, time.Hour},
		{"and is taken in slowly", 0, time.Hour, 53 * time.Minute, 55 * time.Minute},
		{"until nothing is left", 0, 9 * time.Hour, 0, 0},
		{"a jump back counts at once", -time.Hour, time.Second, 0, 0},
		{"and being set right is a jump ahead", time.Hour, time.Second, 59 * time.Minute, time.Hour},
		{"which may be taken back", -time.Hour, time.Second, 0, 0},
	} {
		if got := pass(x.by, x.long); got < x.behind || got > x.than {
			t.Errorf("%s: it is %s behind, not %s to %s", x.what, got, x.behind, x.than)
		}
	}
}

// TestAgeClockBegins: it begins with the wall clock, and one that has no monotonic
// reading is believed.
func TestAgeClockBegins(t *testing.T) {
	var c ageClock
	for _, at := range []int64{1_000_000_000, 1_000_000_500, 1_003_600_000, 1_000_000_000} {
		now := time.UnixMilli(at)
		if got := c.at(now); !got.Equal(now) {
			t.Errorf("at %s it says %s", now, got)
		}
	}
}
