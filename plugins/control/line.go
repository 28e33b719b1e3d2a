package control

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"google.golang.org/protobuf/proto"
)

const (
	// MessageBytesMax bounds a message: the largest input or output of a batch,
	// with room around it.
	MessageBytesMax = 256 << 20
	// lineBytesKept is the largest buffer that a line keeps for the next message.
	lineBytesKept = 1 << 20
	lineReadBytes = 16 << 10
)

// Line is a connection of its own beside gRPC's, on which one end asks and the
// other answers: whoever waits is woken by the kernel, with no goroutine between.
// A message is its length in 4 bytes, little endian, and its protobuf encoding.
// Only Close may be called while another call runs.
type Line struct {
	conn    net.Conn
	read    *bufio.Reader
	message []byte
}

// NewLine makes a line of a connection, which it then owns.
func NewLine(c net.Conn) *Line {
	return &Line{conn: c, read: bufio.NewReaderSize(c, lineReadBytes)}
}

// Send sends m; what the kernel has no room for waits for the other end to read.
func (l *Line) Send(m proto.Message) error {
	b, err := proto.MarshalOptions{}.MarshalAppend(append(l.message[:0], 0, 0, 0, 0), m)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	if len(b)-4 > MessageBytesMax {
		return fmt.Errorf("%w: a message has %d bytes, at most %d are sent", ErrRequest, len(b)-4, MessageBytesMax)
	}
	l.keep(b)
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4))
	_, err = l.conn.Write(b)
	return err
}

// Receive waits for the next message. io.EOF: the other end has closed the line.
func (l *Line) Receive(m proto.Message) error {
	var head [4]byte
	if _, err := io.ReadFull(l.read, head[:]); err != nil {
		return err
	}
	size := int(binary.LittleEndian.Uint32(head[:]))
	if size > MessageBytesMax {
		return fmt.Errorf("a message of %d bytes, at most %d are read", size, MessageBytesMax)
	}
	b := l.message[:0]
	if cap(b) < size {
		b = make([]byte, size)
	}
	b = b[:size]
	l.keep(b)
	if _, err := io.ReadFull(l.read, b); err != nil {
		return fmt.Errorf("within a message: %w", err)
	}
	return proto.Unmarshal(b, m)
}

func (l *Line) keep(b []byte) {
	if l.message = b; cap(b) > lineBytesKept {
		l.message = nil
	}
}

// Close ends the line and whatever call waits on it.
func (l *Line) Close() error { return l.conn.Close() }
