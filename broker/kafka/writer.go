package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// writer gathers encoded answers and writes them with one system call. Owned by
// the connection's writer, or by its reader while nothing is queued.
type writer struct {
	conn   net.Conn
	pool   *pool // of the answers it writes
	bufs   net.Buffers
	bytes  int
	broken bool
}

// errSilent says that a request that is not answered failed: the connection is
// closed, which is the only way to tell.
var errSilent = errors.New("produce without acknowledgement failed")

// send gathers and flushes one answer.
func (w *writer) send(a *answer) error {
	if err := w.gather(a); err != nil {
		return err
	}
	return w.flush()
}

// gather waits for an answer and encodes it.
func (w *writer) gather(a *answer) error {
	response := a.response
	if a.pending != nil {
		var err error
		if response, err = a.pending.response(); err != nil {
			return err
		}
		a.pending = nil
	}
	if w.broken || a.r.silent || response == nil {
		a.r.size = 0
		return nil
	}
	b := encode(a.r, response)
	a.response = nil
	a.r.size = len(b)
	if spare := a.r.held - int64(len(b)); spare > 0 {
		w.pool.release(spare)
		a.r.held -= spare
	}
	if err := w.afford(a.r, int64(len(b))); err != nil {
		return err
	}
	w.bufs = append(w.bufs, b)
	w.bytes += len(b)
	return nil
}

// afford takes the budget for a large answer besides those of fetches: metadata
// of very many partitions, for readers that may be slow.
func (w *writer) afford(r *request, bytes int64) error {
	if bytes <= answerBytesMin || r.key == keyFetch { // a fetch has what it may have
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), takeMaxPressed)
	defer cancel()
	n, err := w.pool.acquire(ctx, bytes)
	if err != nil {
		return errPressed
	}
	r.held = n
	return nil
}

// encode gives the whole frame of a response.
func encode(r *request, response kmsg.Response) []byte {
	b := make([]byte, 8, 64+r.size)
	binary.BigEndian.PutUint32(b[4:], uint32(r.correlation))
	if response.IsFlexible() && response.Key() != keyAPIVersions { // its clients do not know yet what is spoken
		b = append(b, 0)
	}
	b = response.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// flush writes what was gathered, giving up on a reader that takes nothing for
// stallMax, or is not done by takeMaxPressed when others wait for its bytes: its
// next answers will be small.
func (w *writer) flush() error {
	bufs := w.bufs
	w.bufs, w.bytes = nil, 0
	if w.broken || len(bufs) == 0 {
		return nil
	}
	start := time.Now()
	progress := start
	for len(bufs) > 0 {
		if err := w.conn.SetWriteDeadline(time.Now().Add(writePoll)); err != nil {
			return err
		}
		n, err := bufs.WriteTo(w.conn)
		if n > 0 {
			progress = time.Now()
		}
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case w.pool.pressed() && time.Since(start) > takeMaxPressed:
			return errPressed
		case time.Since(progress) > stallMax:
			return fmt.Errorf("write answer: %w", errStalled)
		}
	}
	return nil
}

// isReset tells a peer that vanished.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
