package server

import (
	"testing"
	"time"
)

// drive judges every 250 ms for so long, with writes of a length one after the other and
// a pause between them, and gives how long it took to come to verdict want; -1: it never did.
func drive(p *pulse, now *time.Time, span, write, rest time.Duration, want bool) time.Duration {
	const limit = 500 * time.Millisecond
	began := *now
	next := began // the present write's begin
	for now.Sub(began) < span {
		*now = now.Add(fitnessEvery)
		for !next.Add(write).After(*now) {
			p.wrote(next.Add(write), write)
			next = next.Add(write + rest)
		}
		underWay := max(0, now.Sub(next))
		if p.judge(*now, underWay, limit) == want {
			return now.Sub(began)
		}
	}
	return -1
}

// TestPulse: what is called slow, and after what time; a stall alone is not, nor is what
// is slow now and then.
func TestPulse(t *testing.T) {
	for _, c := range []struct {
		name        string
		write, rest time.Duration
		slow        bool
		by          time.Duration
	}{
		{"quick", time.Millisecond, 10 * time.Millisecond, false, 0},
		{"as slow as it may be", 500 * time.Millisecond, time.Millisecond, false, 0},
		{"slow", 600 * time.Millisecond, time.Millisecond, true, 4 * time.Second},
		{"slow, with little to do", 600 * time.Millisecond, 300 * time.Millisecond, true, 6 * time.Second},
		{"slow now and then", 700 * time.Millisecond, 2 * time.Second, false, 0},
		{"stands still", time.Hour, 0, true, 3 * time.Second},
	} {
		now, p := time.Unix(100, 0), &pulse{}
		p.judge(now, 0, 500*time.Millisecond)
		took := drive(p, &now, time.Minute, c.write, c.rest, true)
		if (took >= 0) != c.slow || took > c.by {
			t.Errorf("%s: slow after %s; want %v by %s", c.name, took, c.slow, c.by)
		}
		if !c.slow {
			continue
		}
		if calm := drive(p, &now, time.Minute, time.Millisecond, 10*time.Millisecond, false); calm < pulseCalm-time.Second || calm > pulseCalm+time.Second {
			t.Errorf("%s: fit again %s after the last slow write; want %s", c.name, calm, pulseCalm)
		}
	}
}

// TestPulseOneStall: a device that stood still once, for less than is judged slow, and
// one whose write ended just as it was looked at: it counts once.
func TestPulseOneStall(t *testing.T) {
	now, p, limit := time.Unix(100, 0), &pulse{}, 500*time.Millisecond
	p.judge(now, 0, limit)
	const stall = pulseSlow - 500*time.Millisecond
	now = now.Add(stall)
	p.wrote(now, stall)
	if p.judge(now, stall, limit) {
		t.Error("the write under way and the one that has ended are the same")
	}
	now = now.Add(pulseSpan + time.Second)
	if n := len(p.slow); p.judge(now, 0, limit) || len(p.slow) != 0 || n != 1 {
		t.Errorf("%d slow writes are remembered, of 1", len(p.slow))
	}
}

// TestAbsence measures without a break.
func TestAbsence(t *testing.T) {
	now, a := time.Unix(100, 0), absence{}
	for i, want := range []time.Duration{0, time.Second, 2 * time.Second} {
		if got := a.of(now.Add(time.Duration(i)*time.Second), true); got != want {
			t.Errorf("away for %s; want %s", got, want)
		}
	}
	a.of(now.Add(3*time.Second), false)
	if got := a.of(now.Add(4*time.Second), true); got != 0 {
		t.Errorf("back and away again: %s", got)
	}
}
