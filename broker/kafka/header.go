package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// headerBytesMin is a request header without client id: key, version, correlation.
const headerBytesMin = 8

// clientIDBytesMax bounds the client id that is kept, for logs and quotas.
const clientIDBytesMax = 255

// errHeader says that a request's header cannot be read.
var errHeader = errors.New("malformed request header")

// header is the fixed part before every request.
type header struct {
	key         int16
	version     int16
	correlation int32
	clientID    string
}

// parseHeader reads the part that all header versions share.
func parseHeader(b []byte) (h header, rest []byte, err error) {
	if len(b) < headerBytesMin {
		return h, nil, fmt.Errorf("%w: %d bytes", errHeader, len(b))
	}
	h.key = int16(binary.BigEndian.Uint16(b))
	h.version = int16(binary.BigEndian.Uint16(b[2:]))
	h.correlation = int32(binary.BigEndian.Uint32(b[4:]))
	b = b[8:]
	if len(b) < 2 {
		return h, nil, fmt.Errorf("%w: no client id", errHeader)
	}
	n := int(int16(binary.BigEndian.Uint16(b)))
	b = b[2:]
	switch {
	case n == -1:
		return h, b, nil
	case n < 0 || n > len(b):
		return h, nil, fmt.Errorf("%w: client id of %d bytes", errHeader, n)
	}
	h.clientID = string(b[:min(n, clientIDBytesMax)])
	return h, b[n:], nil
}

// skipTags skips a section of tagged fields, as flexible headers end with.
func skipTags(b []byte) ([]byte, error) {
	count, b, err := uvarint(b)
	for ; err == nil && count > 0; count-- {
		var size uint32
		if _, b, err = uvarint(b); err != nil {
			break
		}
		if size, b, err = uvarint(b); err != nil {
			break
		}
		if uint64(size) > uint64(len(b)) {
			return nil, fmt.Errorf("%w: tagged field of %d bytes", errHeader, size)
		}
		b = b[size:]
	}
	return b, err
}

func uvarint(b []byte) (uint32, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 || v > 1<<32-1 {
		return 0, nil, fmt.Errorf("%w: bad varint", errHeader)
	}
	return uint32(v), b[n:], nil
}
