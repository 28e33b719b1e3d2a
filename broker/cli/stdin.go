package cli

import (
	"context"
	"io"
)

// stdinChunk is how much is read ahead; a terminal gives a line.
const stdinChunk = 64 << 10

// stdin reads standard input until an interrupt: a read of a terminal would
// otherwise outlast it. It is used by one goroutine. What was read ahead when
// the context ended is lost.
type stdin struct {
	ctx  context.Context
	in   io.Reader
	left []byte
	err  error
	next chan stdinRead
}

type stdinRead struct {
	b   []byte
	err error
}

func (a *app) stdin(ctx context.Context) io.Reader {
	return &stdin{ctx: ctx, in: a.in, next: make(chan stdinRead, 1)}
}

// Read gives the context's error once that has ended.
func (s *stdin) Read(p []byte) (int, error) {
	for len(s.left) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		go func() {
			b := make([]byte, stdinChunk)
			n, err := s.in.Read(b)
			s.next <- stdinRead{b[:n], err} // buffered: never blocks, one read at a time
		}()
		select {
		case r := <-s.next:
			s.left, s.err = r.b, r.err
		case <-s.ctx.Done():
			s.err = s.ctx.Err()
		}
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

// lastLine gives the last line of a text the end that it may lack, so that a
// format by lines reads it as a record.
type lastLine struct {
	in   io.Reader
	last byte // of what was read; 0: nothing
}

func (l *lastLine) Read(p []byte) (int, error) {
	n, err := l.in.Read(p)
	if n > 0 {
		l.last = p[n-1]
		return n, nil // an error comes again
	}
	if err == io.EOF && l.last != 0 && l.last != '\n' && len(p) > 0 {
		l.last, p[0] = '\n', '\n'
		return 1, nil
	}
	return 0, err
}
