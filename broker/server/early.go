package server

import (
	"context"
	"errors"
	"net"
	"os"
	"time"
)

// turnAway closes what clients connect to while this node starts beside others. Its port
// is taken from the beginning, and the kernel would let clients in to wait for answers
// until the node has caught up: seconds in which another would have served them. Where a
// node is alone they may wait.
func (s *Server) turnAway(_ context.Context, id identity) error {
	l, ok := s.listeners["kafka"].(*net.TCPListener)
	if !ok || len(id.members()) == 1 {
		return nil
	}
	ended := make(chan struct{})
	s.work.Go(func() {
		defer close(ended)
		for {
			c, err := l.AcceptTCP()
			switch {
			case err == nil:
				// Reset, as if nobody listened: some clients take a clean end before any
				// answer for a broker that wants TLS, and give their records up.
				_ = c.SetLinger(0)
				_ = c.Close()
			case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
				return
			case !pause(s.ctx, turnAwayAgain):
				return
			}
		}
	})
	s.letIn = func() error {
		if err := l.SetDeadline(time.Now()); err != nil {
			return err
		}
		<-ended
		return l.SetDeadline(time.Time{})
	}
	return nil
}

// turnAwayAgain is the pause after a connection could not be taken.
const turnAwayAgain = 10 * time.Millisecond
