package judge

import (
	"bytes"
	"fmt"
	"math/rand/v2"
)

// Record is what one producer wrote to a partition: its numbers count up from 0.
type Record struct {
	Partition, Producer, Number int
}

func (r Record) String() string {
	return fmt.Sprintf("%d of producer %d in partition %d", r.Number, r.Producer, r.Partition)
}

// fillMax is how many bytes a value has at most behind its numbers: blocks of a disk are
// crossed at every place.
const fillMax = 800

// Value is what is to be stored for r, as long as it likes: bytes that no compression
// makes shorter.
func (r Record) Value() []byte {
	b := fmt.Appendf(nil, "%d %d %d ", r.Partition, r.Producer, r.Number)
	random := rand.New(rand.NewPCG(uint64(r.Partition)<<32|uint64(r.Producer), uint64(r.Number)))
	for range random.IntN(fillMax) {
		b = append(b, byte(random.Uint32()))
	}
	return b
}

// parse gives the record that a value calls itself; whole is false where the rest of it
// is not that record's.
func parse(value []byte) (r Record, whole bool, err error) {
	if _, err = fmt.Fscanf(bytes.NewReader(value), "%d %d %d ", &r.Partition, &r.Producer, &r.Number); err != nil {
		return r, false, fmt.Errorf("%.40q is no record: %w", value, err)
	}
	return r, bytes.Equal(value, r.Value()), nil
}
