package engine

import (
	"encoding/binary"

	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/sidecar/abi"
)

// route chooses the child's partition for a record: the guest's hint, else what
// the output says. A hint must have been checked.
func route(o async.Output, parent, hint int32, key []byte) int32 {
	switch {
	case hint != abi.NoPartition:
		return hint
	case o.Routing == async.RouteKey && key != nil:
		return int32(murmur2(key)&0x7fffffff) % o.Partitions
	}
	return parent % o.Partitions
}

// murmur2 is the hash of Kafka's default partitioner: MurmurHash2, 32 bits,
// with Kafka's seed.
func murmur2(data []byte) uint32 {
	const (
		seed  = 0x9747b28c
		mix   = 0x5bd1e995
		shift = 24
	)
	h := seed ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := binary.LittleEndian.Uint32(data) * mix
		k = (k ^ k>>shift) * mix
		h = h*mix ^ k
	}
	for i := len(data) - 1; i >= 0; i-- {
		h ^= uint32(data[i]) << (8 * i)
		if i == 0 {
			h *= mix
		}
	}
	h = (h ^ h>>13) * mix
	return h ^ h>>15
}
