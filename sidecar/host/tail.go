package host

import (
	"encoding/binary"

	"github.com/millrace-io/millrace/sidecar/abi"
)

// AppendTail writes what follows the offset delta in a Kafka record, which is
// also Redpanda's payload: key, value and headers, lengths as zig-zag varints,
// -1 = null.
func AppendTail(dst, key, value []byte, headers []abi.Header) []byte {
	dst = appendField(appendField(dst, key), value)
	dst = binary.AppendVarint(dst, int64(len(headers)))
	for _, h := range headers {
		dst = binary.AppendVarint(dst, int64(len(h.Key)))
		dst = appendField(append(dst, h.Key...), h.Value)
	}
	return dst
}

func appendField(dst, field []byte) []byte {
	if field == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(field))), field...)
}

// ParseTail reads all of what AppendTail wrote, appending the headers to dst.
// Key, value and headers alias tail.
func ParseTail(dst []abi.Header, tail []byte) (key, value []byte, headers []abi.Header, ok bool) {
	if key, tail, ok = cutField(tail); !ok {
		return nil, nil, dst, false
	}
	if value, tail, ok = cutField(tail); !ok {
		return nil, nil, dst, false
	}
	count, n := binary.Varint(tail)
	if n <= 0 || count < 0 || count > abi.HeadersMax || count > int64(len(tail)) {
		return nil, nil, dst, false
	}
	tail, headers = tail[n:], dst
	for range count {
		var h abi.Header
		if h.Key, tail, ok = cutField(tail); !ok || h.Key == nil {
			return nil, nil, dst, false
		}
		if h.Value, tail, ok = cutField(tail); !ok {
			return nil, nil, dst, false
		}
		headers = append(headers, h)
	}
	return key, value, headers, len(tail) == 0
}

func cutField(b []byte) (field, rest []byte, ok bool) {
	length, n := binary.Varint(b)
	if n <= 0 || length < -1 || length > int64(len(b)-n) {
		return nil, nil, false
	}
	if length == -1 {
		return nil, b[n:], true
	}
	end := n + int(length)
	return b[n:end:end], b[end:], true
}
