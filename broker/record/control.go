package record

import (
	"encoding/binary"
	"fmt"

	"github.com/millrace-io/millrace/broker/model"
)

// ControlType is what a control batch says about its producer's transaction.
type ControlType int16

const (
	// ControlAbort drops the transaction's records.
	ControlAbort ControlType = 0
	// ControlCommit makes the transaction's records readable.
	ControlCommit ControlType = 1
)

// controlInflatedMax bounds a control record; the ones Kafka writes have 10 bytes.
const controlInflatedMax = 4 << 10

// Marker names the transaction's end that AppendMarker writes.
type Marker struct {
	Type             ControlType
	Producer         model.ProducerID
	ProducerEpoch    int16
	CoordinatorEpoch int32
	Timestamp        int64 // milliseconds
}

// AppendMarker appends a control batch that ends a transaction.
func AppendMarker(dst []byte, m Marker) ([]byte, error) {
	spec := Plain(None)
	spec.ProducerID, spec.ProducerEpoch = m.Producer, m.ProducerEpoch
	spec.Transactional, spec.Control = true, true
	var b Builder
	b.Reset(spec)
	key := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(m.Type))
	value := binary.BigEndian.AppendUint32([]byte{0, 0}, uint32(m.CoordinatorEpoch))
	if err := b.Add(m.Timestamp, key, value, nil); err != nil {
		return dst, err
	}
	dst, _, err := b.Build(dst)
	return dst, err
}

// ParseMarker reads what a control batch says.
func ParseMarker(b Batch) (ControlType, error) {
	var r Reader
	if err := r.Reset(b, controlInflatedMax); err != nil {
		return 0, err
	}
	var rec Record
	if !b.Control() || !r.Next(&rec) || len(rec.Key) < 4 {
		return 0, fmt.Errorf("%w: not a control batch", ErrMalformed)
	}
	return ControlType(binary.BigEndian.Uint16(rec.Key[2:])), nil
}
