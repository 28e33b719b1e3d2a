package abi

import (
	"fmt"
	"strings"
)

// WholeBatch is the source of a Failure that names no record.
const WholeBatch = -1

// Failure is a decoded error frame: the script's own error.
type Failure struct {
	Source int    // index of the record that failed, or WholeBatch
	Text   string // valid UTF-8, at most ErrorTextBytesMax bytes
}

// Error says which record of the batch failed and why.
func (f *Failure) Error() string {
	if f.Source == WholeBatch {
		return f.Text
	}
	return fmt.Sprintf("record %d of the batch: %s", f.Source, f.Text)
}

// DecodeFailure reads an error frame of a batch of that many sources. A bad frame becomes a failure of the whole batch that
// says so: a guest that fails wrongly has still failed.
func DecodeFailure(frame []byte, sources int) *Failure {
	if len(frame) < 4 {
		return &Failure{Source: WholeBatch, Text: fmt.Sprintf("the guest failed, with an error frame of %d bytes", len(frame))}
	}
	source, text := int32(order.Uint32(frame)), frame[4:]
	if len(text) > ErrorTextBytesMax {
		text = text[:ErrorTextBytesMax]
	}
	// An invalid sequence, also one that was cut, is dropped: a longer replacement would break the limit.
	f := &Failure{Source: int(source), Text: strings.ToValidUTF8(string(text), "")}
	if source < WholeBatch || int64(source) >= int64(sources) {
		f.Source = WholeBatch
		f.Text = fmt.Sprintf("the guest failed, naming record %d of %d: %s", source, sources, f.Text)
	}
	return f
}

// AppendFailure encodes an error frame as a guest does.
func AppendFailure(dst []byte, source int32, text string) []byte {
	return append(order.AppendUint32(dst, uint32(source)), text...)
}
