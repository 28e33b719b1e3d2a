package core

import "time"

// ageClock is the time that ages are measured by: of records for retention, of what
// compaction waits for, of idle producers. It is the wall clock, but for a jump ahead,
// which would make everything old at once: that is taken in slowly. Too late costs space
// for a while, too early costs records. A clock that is wrong when the broker starts is
// not noticed.
type ageClock struct {
	asked time.Time // when it was asked last; zero: never
	told  time.Time // and what it said
}

// catchUp is the part of the time that passes by which the clock goes faster while it is
// behind: an hour is made up in ten.
const catchUp = 10

// at gives the time at now, as time.Now or a ticker tells it. It is asked in order.
func (c *ageClock) at(now time.Time) time.Time {
	if c.asked.IsZero() {
		c.asked, c.told = now, now.Round(0)
	}
	passed := max(0, now.Sub(c.asked)) // by the monotonic clock
	c.asked = now
	return c.step(now.Round(0), passed)
}

// step gives the time when the wall clock says so and so much has passed.
func (c *ageClock) step(wall time.Time, passed time.Duration) time.Time {
	c.told = c.told.Add(passed + passed/catchUp)
	if wall.Before(c.told) {
		c.told = wall
	}
	return c.told
}
