package kafka

import (
	"bytes"
	"context"
	"crypto/rand"
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
	pieces := encode(a.r, response)
	a.response = nil
	if spare := a.r.held - int64(a.r.size); spare > 0 {
		w.pool.release(spare)
		a.r.held -= spare
	}
	if err := w.afford(a.r, int64(a.r.size)); err != nil {
		return err
	}
	w.bufs = append(w.bufs, pieces...)
	w.bytes += a.r.size
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

// encode gives the whole frame of a response, of r.size bytes.
func encode(r *request, response kmsg.Response) net.Buffers {
	m, ok := response.(*kmsg.FetchResponse)
	if !ok {
		b := encodeWhole(r, response)
		r.size = len(b)
		return net.Buffers{b}
	}
	records := takeRecords(m)
	r.size = fetchRoom * len(records)
	b := encodeWhole(r, response)
	r.size = len(b)
	return r.putRecords(b, records, m.IsFlexible())
}

// kmsg copies what it encodes, which is worth avoiding for records: while it encodes
// a fetch, a mark is in the place of those of a partition that has spliceMin bytes.
// It is random, so that nothing that a client can name is taken for it.
const (
	markBytes = 16
	spliceMin = 4 << 10
	// fetchRoom is about what a partition's answer has besides its records.
	fetchRoom = 128
)

var recordsMark = func() (mark [markBytes]byte) {
	_, _ = rand.Read(mark[:]) // it never fails
	return mark
}()

// takeRecords gives the records that marks now stand for, in order.
func takeRecords(m *kmsg.FetchResponse) (records [][]byte) {
	for i := range m.Topics {
		for j := range m.Topics[i].Partitions {
			p := &m.Topics[i].Partitions[j]
			if len(p.RecordBatches) >= spliceMin {
				records = append(records, p.RecordBatches)
				p.RecordBatches = recordsMark[:]
			}
		}
	}
	return records
}

// putRecords parts a frame where its marks are, with the records between. A mark and
// its length have room for the records' length.
func (r *request) putRecords(frame []byte, records [][]byte, flexible bool) net.Buffers {
	pieces := make(net.Buffers, 0, 2*len(records)+1)
	rest := frame
	for _, b := range records {
		mark := bytes.Index(rest, recordsMark[:])
		head := mark
		if flexible {
			head += binary.PutUvarint(rest[mark-1:], uint64(len(b)+1)) - 1
		} else {
			binary.BigEndian.PutUint32(rest[mark-4:], uint32(len(b)))
		}
		pieces = append(pieces, rest[:head], b)
		rest = rest[mark+markBytes:]
		r.size += head + len(b) - (mark + markBytes)
	}
	binary.BigEndian.PutUint32(frame, uint32(r.size-4))
	return append(pieces, rest)
}

func encodeWhole(r *request, response kmsg.Response) []byte {
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
