package kafka

import (
	"log/slog"
	"net"
	"sync"
	"time"
)

// complaintEvery is the shortest time between two lines about connections that
// misbehave: a client of a version that is not served comes back ten times a
// second for ever, and must not fill the disk with what is said of it.
const complaintEvery = time.Second

// complaints writes what strangers cause to the log, a line a second at most.
// Safe for use by every connection.
type complaints struct {
	log *slog.Logger
	now func() time.Time

	mu   sync.Mutex // guards the rest
	next time.Time  // when the next line may be written
	left int        // lines that were not written since the last one
}

// warn writes one line about a peer that came in by a listener, with how many were left out before it.
func (c *complaints) warn(message string, peer net.Addr, listener string, err error) {
	left, due := c.due()
	if !due {
		return
	}
	args := []any{"peer", peer.String(), "err", err}
	if listener != "" {
		args = append(args, "listener", listener)
	}
	if left > 0 {
		args = append(args, "left_out_before", left)
	}
	c.log.Warn(message, args...)
}

func (c *complaints) due() (left int, due bool) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Before(c.next) {
		c.left++
		return 0, false
	}
	left, c.left = c.left, 0
	c.next = now.Add(complaintEvery)
	return left, true
}
