package core

import (
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// expiredMax bounds a command that forgets producers to about 20 KiB; the next look
// takes more.
const expiredMax = 1000

// idlers are the producers of a partition whose newest record is old, and since when the
// loop has seen each of them write nothing. Records have the time that their writers say:
// who writes what is years old is not idle, and must not be forgotten meanwhile, or what
// it sends again is written twice.
type idlers map[model.ProducerID]stand

// stand is where a producer's newest record lies, and when that was first seen.
type stand struct {
	last  model.Offset
	since time.Time
}

// due gives those of old that have written nothing for as long as expiry, by now, and
// looks at the others again next time.
func (s *idlers) due(old []partition.Expired, now time.Time, expiry time.Duration) []partition.Expired {
	seen := make(idlers, len(old))
	var due []partition.Expired
	for _, e := range old {
		at, known := (*s)[e.Producer]
		if !known || at.last != e.LastOffset {
			at = stand{e.LastOffset, now}
		}
		seen[e.Producer] = at
		if now.Sub(at.since) >= expiry && len(due) < expiredMax {
			due = append(due, e)
		}
	}
	*s = seen
	return due
}
