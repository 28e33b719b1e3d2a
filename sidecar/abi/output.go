package abi

import "bytes"

// Entry is one checked entry of an output frame. Key, Value and Headers alias the frame; they are unset when Pass.
type Entry struct {
	Source    uint32 // index of the source record in the batch
	Output    uint16 // which declared output
	Pass      bool   // the source record unchanged
	Partition int32  // hint, NoPartition = the host chooses
	Key       []byte // nil = null
	Value     []byte // nil = null

	headers     []byte
	headerCount int
}

// HeaderCount returns the number of headers of an entry that is not Pass.
func (e *Entry) HeaderCount() int { return e.headerCount }

// Headers appends the headers of an entry that is not Pass.
func (e *Entry) Headers(dst []Header) []Header {
	return decodeHeaders(dst, e.headers, e.headerCount)
}

// Limits are what an output frame is checked against.
type Limits struct {
	Sources    int // records in the batch
	Outputs    int // declared outputs
	BytesMax   int // of the frame; 0 = FrameBytesMax
	EntriesMax int // 0 = EntriesMax
}

// DecodeOutput checks a whole output frame and appends its entries to dst. An empty frame has no entries. Nothing of a frame
// with an error is returned: dst comes back as it was. The error wraps one of the sentinels of this package.
func DecodeOutput(dst []Entry, frame []byte, l Limits) ([]Entry, error) {
	if len(frame) == 0 {
		return dst, nil
	}
	count, err := checkOutputHeader(frame, l)
	if err != nil {
		return dst, err
	}
	decoded, rest, last := dst, frame[outputHeaderBytes:], uint32(0)
	for i := range count {
		var e Entry
		size, err := decodeEntry(rest, &e, l)
		if err != nil {
			return dst, refuse(err, "entry %d", i)
		}
		if e.Source < last {
			return dst, refuse(ErrOrder, "entry %d: source %d after %d", i, e.Source, last)
		}
		last = e.Source
		decoded, rest = append(decoded, e), rest[size:]
	}
	if len(rest) != 0 {
		return dst, refuse(ErrTrailing, "%d", len(rest))
	}
	return decoded, nil
}

func checkOutputHeader(frame []byte, l Limits) (count int, err error) {
	bytesMax, entriesMax := l.BytesMax, l.EntriesMax
	if bytesMax == 0 {
		bytesMax = FrameBytesMax
	}
	if entriesMax == 0 {
		entriesMax = EntriesMax
	}
	if len(frame) > bytesMax {
		return 0, refuse(ErrFrameBytes, "%d, limit %d", len(frame), bytesMax)
	}
	if err := checkFrame(frame, outputHeaderBytes, outputMagic); err != nil {
		return 0, err
	}
	if order.Uint16(frame[6:]) != 0 {
		return 0, refuse(ErrReserved, "in the header")
	}
	if size := order.Uint32(frame[8:]); uint64(size) != uint64(len(frame)) {
		return 0, refuse(ErrFrameSize, "says %d, has %d", size, len(frame))
	}
	entries := uint64(order.Uint32(frame[12:]))
	if entries > uint64(entriesMax) || entries*entryPassBytes > uint64(len(frame)-outputHeaderBytes) {
		return 0, refuse(ErrEntryCount, "%d in %d bytes, limit %d", entries, len(frame), entriesMax)
	}
	return int(entries), nil
}

func decodeEntry(rest []byte, e *Entry, l Limits) (int, error) {
	size, err := sizeOf(rest, entryPassBytes)
	if err != nil {
		return 0, err
	}
	entry := rest[:size]
	e.Source = order.Uint32(entry[4:])
	e.Output = order.Uint16(entry[8:])
	e.Partition = int32(order.Uint32(entry[12:]))
	flags := order.Uint16(entry[10:])
	e.Pass = flags&flagPass != 0
	switch {
	case uint64(e.Source) >= uint64(l.Sources):
		return 0, refuse(ErrSource, "%d of %d", e.Source, l.Sources)
	case int(e.Output) >= l.Outputs:
		return 0, refuse(ErrOutput, "%d of %d", e.Output, l.Outputs)
	case flags&^flagPass != 0:
		return 0, refuse(ErrFlags, "%#x", flags)
	case e.Partition < NoPartition:
		return 0, refuse(ErrPartition, "%d", e.Partition)
	case e.Pass && size != entryPassBytes:
		return 0, refuse(ErrEntrySize, "%d, an entry that passes has %d", size, entryPassBytes)
	case e.Pass:
		return size, nil
	}
	return size, decodeBody(entry, e)
}

func decodeBody(entry []byte, e *Entry) error {
	if len(entry) < entryFixedBytes {
		return refuse(ErrEntrySize, "%d, an entry with a record has at least %d", len(entry), entryFixedBytes)
	}
	if order.Uint32(entry[28:]) != 0 {
		return refuse(ErrReserved, "in an entry")
	}
	body, err := keyValue(entry, 20, &e.Key, &e.Value)
	if err != nil {
		return err
	}
	count := order.Uint32(entry[16:])
	if count > HeadersMax {
		return refuse(ErrHeaderCount, "%d, limit %d", count, HeadersMax)
	}
	if err := checkHeaders(body, int(count)); err != nil {
		return err
	}
	e.headers, e.headerCount = body, int(count)
	return nil
}

// CheckSync checks what holds for the entries of a sync script besides. key returns the key of a source record, nil for null.
func CheckSync(entries []Entry, key func(source int) []byte) error {
	for i := range entries {
		e := &entries[i]
		if i > 0 && entries[i-1].Source == e.Source {
			return refuse(ErrSyncFanOut, "record %d", e.Source)
		}
		if e.Output != 0 {
			return refuse(ErrSyncOutput, "record %d: output %d", e.Source, e.Output)
		}
		if e.Partition != NoPartition {
			return refuse(ErrSyncPartition, "record %d: partition %d", e.Source, e.Partition)
		}
		if e.Pass {
			continue
		}
		want := key(int(e.Source))
		if (want == nil) != (e.Key == nil) || !bytes.Equal(want, e.Key) {
			return refuse(ErrSyncKey, "record %d", e.Source)
		}
	}
	return nil
}

// OutputRecord is what a guest answers for one source record; for tests and tools that play a guest.
type OutputRecord struct {
	Source    uint32
	Output    uint16
	Pass      bool
	Partition int32
	Key       []byte
	Value     []byte
	Headers   []Header
}

// AppendOutput encodes an output frame as a guest does, unchecked.
func AppendOutput(dst []byte, entries []OutputRecord) []byte {
	start := len(dst)
	dst = order.AppendUint32(dst, outputMagic)
	dst = order.AppendUint32(dst, Version)
	dst = order.AppendUint32(dst, 0) // size, set below
	dst = order.AppendUint32(dst, uint32(len(entries)))
	for i := range entries {
		dst = appendEntry(dst, &entries[i])
	}
	order.PutUint32(dst[start+8:], uint32(len(dst)-start))
	return dst
}

func appendEntry(dst []byte, e *OutputRecord) []byte {
	at, flags := len(dst), uint16(0)
	if e.Pass {
		flags = flagPass
	}
	dst = order.AppendUint32(dst, entryPassBytes)
	dst = order.AppendUint32(dst, e.Source)
	dst = order.AppendUint16(dst, e.Output)
	dst = order.AppendUint16(dst, flags)
	dst = order.AppendUint32(dst, uint32(e.Partition))
	if e.Pass {
		return dst
	}
	dst = order.AppendUint32(dst, uint32(len(e.Headers)))
	dst = order.AppendUint32(dst, lengthOf(e.Key))
	dst = order.AppendUint32(dst, lengthOf(e.Value))
	dst = order.AppendUint32(dst, 0)
	dst = append(dst, e.Key...)
	dst = append(dst, e.Value...)
	dst = appendHeaders(dst, e.Headers)
	dst = pad(dst, at+align(len(dst)-at))
	order.PutUint32(dst[at:], uint32(len(dst)-at))
	return dst
}
