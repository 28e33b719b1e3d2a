package millrace

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The layout of docs/ABI.md, "millrace 1". The vectors of sidecar/abi hold it to the host's side.
const (
	abiVersion        = 1
	inputMagic        = 0x3149524D
	outputMagic       = 0x314F524D
	inputHeaderBytes  = 40
	recordFixedBytes  = 32
	outputHeaderBytes = 16
	entryPassBytes    = 16
	entryFixedBytes   = 32
	headerFixedBytes  = 8
	flagPass          = 1
	frameBytesMax     = 64 << 20
	errorTextBytesMax = 16 << 10
)

var le = binary.LittleEndian

var errFrame = errors.New("bad input frame")

// batch walks an input frame.
type batch struct {
	rest      []byte
	topic     uint16
	partition int32
	count     uint32
	seed      uint64
}

func openBatch(frame []byte) (batch, error) {
	if len(frame) < inputHeaderBytes || le.Uint32(frame) != inputMagic {
		return batch{}, fmt.Errorf("%w: %d bytes without its magic", errFrame, len(frame))
	}
	if v := le.Uint16(frame[4:]); v != abiVersion {
		return batch{}, fmt.Errorf("%w: ABI version %d, want %d", errFrame, v, abiVersion)
	}
	if size := le.Uint32(frame[32:]); uint64(size) != uint64(len(frame)) || le.Uint32(frame[36:]) != 0 {
		return batch{}, fmt.Errorf("%w: size %d, has %d", errFrame, size, len(frame))
	}
	return batch{
		rest:      frame[inputHeaderBytes:],
		topic:     le.Uint16(frame[6:]),
		partition: int32(le.Uint32(frame[8:])),
		count:     le.Uint32(frame[12:]),
		seed:      le.Uint64(frame[24:]),
	}, nil
}

// close checks that nothing follows the last record.
func (b *batch) close() error {
	if len(b.rest) != 0 {
		return fmt.Errorf("%w: %d bytes after the last record", errFrame, len(b.rest))
	}
	return nil
}

// next reads one record into r, in place.
func (b *batch) next(r *Record) error {
	if len(b.rest) < recordFixedBytes {
		return fmt.Errorf("%w: %d bytes left for a record", errFrame, len(b.rest))
	}
	size := le.Uint32(b.rest)
	if size%8 != 0 || size < recordFixedBytes || uint64(size) > uint64(len(b.rest)) {
		return fmt.Errorf("%w: record of %d bytes, %d left", errFrame, size, len(b.rest))
	}
	fixed := b.rest[:size:size]
	b.rest = b.rest[size:]
	r.headerCount = int(le.Uint32(fixed[4:]))
	r.Offset = int64(le.Uint64(fixed[8:]))
	r.Timestamp = int64(le.Uint64(fixed[16:]))
	r.Partition, r.seed = b.partition, b.seed
	body, ok := fixed[recordFixedBytes:], true
	if r.Key, body, ok = nullable(body, int32(le.Uint32(fixed[24:]))); !ok {
		return fmt.Errorf("%w: key beyond its record", errFrame)
	}
	if r.Value, body, ok = nullable(body, int32(le.Uint32(fixed[28:]))); !ok {
		return fmt.Errorf("%w: value beyond its record", errFrame)
	}
	r.headers, r.list = body, r.list[:0]
	return r.checkHeaders()
}

func nullable(body []byte, size int32) (taken, rest []byte, ok bool) {
	if size == -1 {
		return nil, body, true
	}
	if size < 0 || int(size) > len(body) {
		return nil, nil, false
	}
	return body[:size:size], body[size:], true
}

// checkHeaders bounds the walk once, so that Headers needs no check.
func (r *Record) checkHeaders() error {
	raw := r.headers
	for range r.headerCount {
		if len(raw) < headerFixedBytes {
			return fmt.Errorf("%w: more headers than room", errFrame)
		}
		key, value := int32(le.Uint32(raw)), int32(le.Uint32(raw[4:]))
		size := headerFixedBytes + int64(key) + int64(max(value, 0))
		if key < 0 || value < -1 || size > int64(len(raw)) {
			return fmt.Errorf("%w: header beyond its record", errFrame)
		}
		raw = raw[size:]
	}
	if len(raw) >= 8 {
		return fmt.Errorf("%w: %d bytes left over in a record", errFrame, len(raw))
	}
	r.headers = r.headers[:len(r.headers)-len(raw)]
	return nil
}
