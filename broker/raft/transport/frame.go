package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// kind says what a frame holds.
type kind uint8

const (
	kindHello kind = 1 + iota
	kindMessages
	kindChunk
	kindTaken
	kindPing
	kindRefused
	kindCall
	kindResult
)

const (
	headerBytes      = 24
	magic0           = 'M'
	magic1           = 'r'
	version     byte = 1
)

// What is wrong with a frame. The connection is closed; dialing again is right.
var (
	// ErrMagic says that the other end speaks something else: look at the address.
	ErrMagic = errors.New("not a frame of ours")
	// ErrVersion says that the two nodes have no version in common: upgrade in
	// smaller steps.
	ErrVersion = errors.New("no common version")
	// ErrChecksum says that bytes were damaged on their way. Seen more than once
	// it is the network or a memory that wants a look.
	ErrChecksum = errors.New("bad checksum")
	// ErrLength says that a length is beyond its limit.
	ErrLength = errors.New("bad length")
	// ErrFrame says that a frame is not what its kind asks for, or comes out of turn.
	ErrFrame = errors.New("bad frame")
)

// castagnoli is the polynomial that processors have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the first 24 bytes of a frame.
type header struct {
	kind             kind
	meta, data       int
	metaSum, dataSum uint32
}

// put writes h into b, which is headerBytes long.
func (h header) put(b []byte) {
	b[0], b[1], b[2], b[3] = magic0, magic1, version, byte(h.kind)
	binary.LittleEndian.PutUint32(b[4:], uint32(h.meta))
	binary.LittleEndian.PutUint32(b[8:], uint32(h.data))
	binary.LittleEndian.PutUint32(b[12:], h.metaSum)
	binary.LittleEndian.PutUint32(b[16:], h.dataSum)
	binary.LittleEndian.PutUint32(b[20:], crc32.Checksum(b[:20], castagnoli))
}

// parseHeader reads what put writes. Magic and version come before the checksum:
// they hold their place in every version, the rest need not.
func parseHeader(b []byte) (header, error) {
	if b[0] != magic0 || b[1] != magic1 {
		return header{}, fmt.Errorf("%w: it begins with %x", ErrMagic, b[:2])
	}
	if b[2] != version {
		return header{}, fmt.Errorf("%w: a frame of version %d, this node speaks %d", ErrVersion, b[2], version)
	}
	if got, want := crc32.Checksum(b[:20], castagnoli), binary.LittleEndian.Uint32(b[20:]); got != want {
		return header{}, fmt.Errorf("%w: header %08x, it says %08x", ErrChecksum, got, want)
	}
	h := header{
		kind:    kind(b[3]),
		meta:    int(binary.LittleEndian.Uint32(b[4:])),
		data:    int(binary.LittleEndian.Uint32(b[8:])),
		metaSum: binary.LittleEndian.Uint32(b[12:]),
		dataSum: binary.LittleEndian.Uint32(b[16:]),
	}
	return h, h.check()
}

// frameLimits are the longest meta and data of each kind.
var frameLimits = map[kind]struct{ meta, data int }{
	kindHello:    {helloBytesMax, 0},
	kindMessages: {metaBytesMax, dataBytesMax},
	kindChunk:    {smallMetaBytesMax, chunkDataBytesMax},
	kindTaken:    {0, 0},
	kindPing:     {0, 0},
	kindRefused:  {refusedBytesMax, 0},
	kindCall:     {1, CallBytesMax},
	kindResult:   {1 + refusalBytesMax, CallBytesMax},
}

// check holds a header to the limits of its kind, on both sides.
func (h header) check() error {
	limit, ok := frameLimits[h.kind]
	switch {
	case !ok:
		return fmt.Errorf("%w: of unknown kind %d", ErrFrame, h.kind)
	case h.meta > limit.meta:
		return fmt.Errorf("%w: %d bytes of meta in a frame of kind %d, the limit is %d", ErrLength, h.meta, h.kind, limit.meta)
	case h.data > limit.data:
		return fmt.Errorf("%w: %d bytes of data in a frame of kind %d, the limit is %d", ErrLength, h.data, h.kind, limit.data)
	case h.data == 0 && h.dataSum != 0:
		return fmt.Errorf("%w: %08x of no data", ErrChecksum, h.dataSum)
	}
	return nil
}
