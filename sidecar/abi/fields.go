package abi

import "math"

// lengthOf is the length field of bytes that may be null.
func lengthOf(b []byte) uint32 {
	if b == nil {
		return math.MaxUint32
	}
	return uint32(len(b))
}

func align(size int) int { return (size + frameAlign - 1) &^ (frameAlign - 1) }

func pad(dst []byte, end int) []byte {
	for len(dst) < end {
		dst = append(dst, 0)
	}
	return dst
}

func appendHeaders(dst []byte, headers []Header) []byte {
	for i := range headers {
		dst = order.AppendUint32(dst, uint32(len(headers[i].Key)))
		dst = order.AppendUint32(dst, lengthOf(headers[i].Value))
		dst = append(dst, headers[i].Key...)
		dst = append(dst, headers[i].Value...)
	}
	return dst
}

// checkFrame checks what both frames begin with.
func checkFrame(frame []byte, headerBytes int, magic uint32) error {
	if len(frame) < headerBytes {
		return refuse(ErrTruncated, "%d bytes, the header has %d", len(frame), headerBytes)
	}
	if got := order.Uint32(frame); got != magic {
		return refuse(ErrMagic, "begins with %08x, want %08x", got, magic)
	}
	if got := order.Uint16(frame[4:]); got != Version {
		return refuse(ErrVersion, "%d, want %d", got, Version)
	}
	return nil
}

// sizeOf returns the checked size of the entry or record that rest begins with.
func sizeOf(rest []byte, fixedBytes int) (int, error) {
	if len(rest) < fixedBytes {
		return 0, refuse(ErrEntrySize, "%d bytes left, the fixed part has %d", len(rest), fixedBytes)
	}
	size := order.Uint32(rest)
	if size%frameAlign != 0 || size < uint32(fixedBytes) || uint64(size) > uint64(len(rest)) {
		return 0, refuse(ErrEntrySize, "%d, %d bytes left", size, len(rest))
	}
	return int(size), nil
}

// keyValue reads the lengths at that place of an entry whose fixed part has 32 bytes, and returns what follows the value.
func keyValue(entry []byte, at int, key, value *[]byte) ([]byte, error) {
	body := entry[recordFixedBytes:]
	var err error
	if *key, body, err = nullable(body, int32(order.Uint32(entry[at:]))); err != nil {
		return nil, refuse(err, "of the key")
	}
	if *value, body, err = nullable(body, int32(order.Uint32(entry[at+4:]))); err != nil {
		return nil, refuse(err, "of the value")
	}
	return body, nil
}

// nullable takes length bytes from body: nil for -1, an empty slice that is not nil for 0.
func nullable(body []byte, length int32) (taken, rest []byte, err error) {
	if length == -1 {
		return nil, body, nil
	}
	if length < -1 || int64(length) > int64(len(body)) {
		return nil, nil, refuse(ErrLength, "%d, %d bytes left", length, len(body))
	}
	return body[:length:length], body[length:], nil
}

// checkHeaders walks count headers and checks that nothing but padding follows.
func checkHeaders(body []byte, count int) error {
	if count < 0 || count > HeadersMax || count*headerFixedBytes > len(body) {
		return refuse(ErrHeaderCount, "%d in %d bytes", count, len(body))
	}
	for i := range count {
		if len(body) < headerFixedBytes {
			return refuse(ErrLength, "of header %d: %d bytes left", i, len(body))
		}
		key, value := int32(order.Uint32(body)), int32(order.Uint32(body[4:]))
		if key < 0 || value < -1 {
			return refuse(ErrLength, "of header %d: key %d, value %d", i, key, value)
		}
		size := headerFixedBytes + int64(key) + int64(max(value, 0))
		if size > int64(len(body)) {
			return refuse(ErrLength, "of header %d: %d bytes, %d left", i, size, len(body))
		}
		body = body[size:]
	}
	if len(body) >= frameAlign {
		return refuse(ErrPadding, "%d", len(body))
	}
	return nil
}

// decodeHeaders appends count headers of a body that checkHeaders has passed.
func decodeHeaders(dst []Header, body []byte, count int) []Header {
	for range count {
		key, value := order.Uint32(body), int32(order.Uint32(body[4:]))
		body = body[headerFixedBytes:]
		h := Header{Key: body[:key:key]}
		body = body[key:]
		if value >= 0 {
			h.Value = body[:value:value]
			body = body[value:]
		}
		dst = append(dst, h)
	}
	return dst
}
