package millrace

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unsafe"
)

// Record is one record of an input. Its bytes belong to the frame: they are good until the function returns, and must not be
// changed; copy what is kept. Key and Value are nil when null, and not nil when empty.
type Record struct {
	Topic     string // the input's name
	Partition int32
	Offset    int64
	Timestamp int64 // ms since 1970, -1 = none
	Key       []byte
	Value     []byte

	source      uint32
	seed        uint64
	headers     []byte // raw
	headerCount int
	list        []Header // backing of Headers, used again
}

// Header is one header of a record. Value is nil when null.
type Header struct {
	Key   string
	Value []byte
}

// Time returns the timestamp as a time in UTC.
func (r *Record) Time() time.Time { return time.UnixMilli(r.Timestamp).UTC() }

// Headers returns the record's headers, which are good until the function returns. A record made by hand has those of SetHeaders.
func (r *Record) Headers() []Header {
	if len(r.list) == r.headerCount {
		return r.list
	}
	r.list = r.list[:0]
	for raw := r.headers; len(r.list) < r.headerCount; {
		var h Header
		h, raw = nextHeader(raw)
		r.list = append(r.list, h)
	}
	return r.list
}

// SetHeaders gives a record made by hand, for a test, its headers.
func (r *Record) SetHeaders(headers ...Header) {
	r.list, r.headers, r.headerCount = headers, nil, len(headers)
}

// Header returns the value of the first header of that name, and whether there is one.
func (r *Record) Header(name string) ([]byte, bool) {
	for _, h := range r.Headers() {
		if h.Key == name {
			return h.Value, true
		}
	}
	return nil, false
}

// ErrNull is what JSON answers for a record without a value.
var ErrNull = errors.New("the value is null")

// JSON decodes the value into v, as encoding/json does. A null value is ErrNull.
func (r *Record) JSON(v any) error {
	if r.Value == nil {
		return ErrNull
	}
	if err := json.Unmarshal(r.Value, v); err != nil {
		return fmt.Errorf("value: %w", err)
	}
	return nil
}

// nextHeader takes one header of a list that the decoder has checked. The name shares the frame's bytes.
func nextHeader(raw []byte) (Header, []byte) {
	keySize, valueSize := int(le.Uint32(raw)), int32(le.Uint32(raw[4:]))
	raw = raw[headerFixedBytes:]
	h := Header{Key: unsafe.String(unsafe.SliceData(raw), keySize)}
	raw = raw[keySize:]
	if valueSize >= 0 {
		h.Value, raw = raw[:valueSize:valueSize], raw[valueSize:]
	}
	return h, raw
}
