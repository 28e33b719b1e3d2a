package millrace

// Written is one record that a transform wrote, as Try shows it.
type Written struct {
	Output    string // name of the output
	Partition int32  // -1 = not chosen
	Passed    bool   // the source record, unchanged
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Try runs fn on one record, as the host would, and returns what it wrote: for tests of a transform. The declared outputs are "out"
// unless others are named. Written records are copies, and those that passed show the source record's fields.
func Try(fn Transform, r Record, outputs ...string) ([]Written, error) {
	if len(outputs) == 0 {
		outputs = []string{"out"}
	}
	r.source = 0
	var w Writer
	w.reset(outputs)
	w.record = &r
	if err := fn(&r, &w); err != nil {
		return nil, err
	}
	return readOutput(w.finish(), &r, outputs), nil
}

func readOutput(frame []byte, r *Record, outputs []string) []Written {
	var written []Written
	for at := outputHeaderBytes; at < len(frame); {
		entry := frame[at:][:le.Uint32(frame[at:])]
		at += len(entry)
		w := Written{Output: outputs[le.Uint16(entry[8:])], Partition: int32(le.Uint32(entry[12:]))}
		if le.Uint16(entry[10:]) == flagPass {
			w.Passed, w.Key, w.Value, w.Headers = true, r.Key, r.Value, r.Headers()
		} else {
			w.readEntry(entry)
		}
		written = append(written, w)
	}
	return written
}

func (w *Written) readEntry(entry []byte) {
	body := entry[entryFixedBytes:]
	w.Key, body, _ = nullable(body, int32(le.Uint32(entry[20:])))
	w.Value, body, _ = nullable(body, int32(le.Uint32(entry[24:])))
	for range le.Uint32(entry[16:]) {
		var h Header
		h, body = nextHeader(body)
		w.Headers = append(w.Headers, h)
	}
}
