package server

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// turnAway closes what clients connect to while this node starts beside others. Its ports
// are taken from the beginning, and the kernel would let clients in to wait for answers
// until the node has caught up: seconds in which another would have served them. Where a
// node is alone they may wait.
func (s *Server) turnAway(_ context.Context, id identity) error {
	if id.alone() {
		return nil
	}
	var listeners []*net.TCPListener
	var ended sync.WaitGroup
	for _, k := range s.n.Kafka {
		l, ok := s.listeners[kafkaKey(k.Name)].(*net.TCPListener)
		if !ok {
			continue
		}
		listeners = append(listeners, l)
		ended.Add(1)
		s.work.Go(func() {
			defer ended.Done()
			s.reset(l)
		})
	}
	s.letIn = func() (err error) {
		for _, l := range listeners {
			err = errors.Join(err, l.SetDeadline(time.Now()))
		}
		ended.Wait()
		for _, l := range listeners {
			err = errors.Join(err, l.SetDeadline(time.Time{}))
		}
		return err
	}
	return nil
}

// turnAwayAgain is the pause after a connection could not be taken.
const turnAwayAgain = 10 * time.Millisecond

// reset ends every connection until its listener has a deadline, or is closed, as if
// nobody listened: some clients take a clean end before any answer for a broker that wants
// TLS, and give their records up.
func (s *Server) reset(l *net.TCPListener) {
	for {
		c, err := l.AcceptTCP()
		switch {
		case err == nil:
			_ = c.SetLinger(0)
			_ = c.Close()
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
			return
		case !pause(s.ctx, turnAwayAgain):
			return
		}
	}
}
