package transport

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"net"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// writer puts frames on a connection, one write each.
type writer struct {
	// turn holds a token while a frame is being written: a ping comes between two,
	// never into one. It is no mutex, on which the simulator's clock would wait.
	turn   chan struct{}
	conn   net.Conn
	counts *counts // nobody's before the peer is known
	// gather joins the pieces where the kernel does not: TLS would make a record
	// of each, the simulator a message.
	gather *bufio.Writer
	// buf holds header and meta, pieces the frame's parts: buf, then commands.
	// Both are scratch; send goes through pieces and forgets them.
	buf    []byte
	pieces [][]byte
	send   net.Buffers
}

func newWriter(conn net.Conn) *writer {
	w := &writer{conn: conn, turn: make(chan struct{}, 1), counts: &counts{}}
	if _, ok := conn.(*net.TCPConn); !ok {
		w.gather = bufio.NewWriterSize(conn, writeBufferBytes)
	}
	return w
}

// messages sends a batch. Its commands are on their way, or buffered by the
// kernel, when it returns; nothing here refers to them any more.
func (w *writer) messages(b *pb.MessageBatch) (err error) {
	w.turn <- struct{}{}
	defer w.yield()
	w.begin()
	if w.buf, err = appendBatch(w.buf, b); err != nil {
		return err
	}
	for i := range b.Requests {
		for j := range b.Requests[i].Entries {
			if cmd := b.Requests[i].Entries[j].Cmd; len(cmd) > 0 {
				w.pieces = append(w.pieces, cmd)
			}
		}
	}
	if err := w.end(kindMessages); err != nil {
		w.counts.lostMessages.Add(uint64(len(b.Requests)))
		return err
	}
	w.counts.sentMessages.Add(uint64(len(b.Requests)))
	return nil
}

// chunk sends a chunk of a snapshot; its data likewise.
func (w *writer) chunk(c pb.Chunk) error {
	data := c.Data
	c.Data = nil
	meta, err := c.Marshal()
	if err != nil {
		return fmt.Errorf("encode chunk %d of a snapshot of shard %d: %w", c.ChunkId, c.ShardID, err)
	}
	return w.frame(kindChunk, meta, data)
}

// small sends a frame without data.
func (w *writer) small(k kind, meta []byte) error { return w.frame(k, meta, nil) }

// frame sends a frame; an error says that the peer cannot have all of it.
func (w *writer) frame(k kind, meta, data []byte) error {
	w.turn <- struct{}{}
	defer w.yield()
	w.begin()
	w.buf = append(w.buf, meta...)
	if len(data) > 0 {
		w.pieces = append(w.pieces, data)
	}
	return w.end(k)
}

// refuse tells the peer why the connection ends.
func (w *writer) refuse(why error) error {
	text := []byte(why.Error())
	return w.small(kindRefused, text[:min(len(text), refusedBytesMax)])
}

// ping sends a ping, but not while a frame is on its way: that says as much.
func (w *writer) ping() error {
	select {
	case w.turn <- struct{}{}:
	default:
		return nil
	}
	defer w.yield()
	w.begin()
	return w.end(kindPing)
}

func (w *writer) yield() { <-w.turn }

// begin leaves room for the header, which is known last.
func (w *writer) begin() {
	w.buf = append(w.buf[:0], make([]byte, headerBytes)...)
	w.pieces = append(w.pieces[:0], nil)
}

// end completes the header and writes all pieces.
func (w *writer) end(k kind) error {
	h := header{kind: k, meta: len(w.buf) - headerBytes, metaSum: crc32.Checksum(w.buf[headerBytes:], castagnoli)}
	for _, p := range w.pieces[1:] {
		h.data += len(p)
		h.dataSum = crc32.Update(h.dataSum, castagnoli, p)
	}
	defer w.forget()
	if err := h.check(); err != nil {
		return err
	}
	h.put(w.buf)
	w.pieces[0] = w.buf
	if err := w.conn.SetWriteDeadline(time.Now().Add(frameTimeMax(h.meta + h.data))); err != nil {
		return err
	}
	if w.gather == nil {
		w.send = w.pieces
		if _, err := w.send.WriteTo(w.conn); err != nil {
			return err
		}
		w.counts.sentBytes.Add(uint64(headerBytes + h.meta + h.data))
		return nil
	}
	for _, p := range w.pieces {
		if _, err := w.gather.Write(p); err != nil {
			return err
		}
	}
	if err := w.gather.Flush(); err != nil {
		return err
	}
	w.counts.sentBytes.Add(uint64(headerBytes + h.meta + h.data))
	return nil
}

// forget lets go of commands, and of memory that only a rare frame needs.
func (w *writer) forget() {
	clear(w.pieces)
	w.send = nil
	if cap(w.buf) > scratchBytesMax {
		w.buf = nil
	}
	if cap(w.pieces) > scratchMessagesMax {
		w.pieces = nil
	}
}
