package partition

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/millrace-io/millrace/broker/model"
)

// decoder takes fields off bytes; after the first failure it gives zeroes.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
	d.b = nil
}

func (d *decoder) take(n uint64, what string) []byte {
	if d.err != nil || n > uint64(len(d.b)) {
		d.fail("%s: %d bytes wanted, %d left", what, n, len(d.b))
		return nil
	}
	field := d.b[:n:n]
	d.b = d.b[n:]
	return field
}

func (d *decoder) byte() byte {
	if f := d.take(1, "byte"); f != nil {
		return f[0]
	}
	return 0
}

func (d *decoder) bool() bool {
	v := d.byte()
	if v > 1 {
		d.fail("flag %d", v)
	}
	return v == 1
}

func (d *decoder) u32() uint32 {
	if f := d.take(4, "uint32"); f != nil {
		return binary.LittleEndian.Uint32(f)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if f := d.take(8, "uint64"); f != nil {
		return binary.LittleEndian.Uint64(f)
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("varint")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("varint")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) i32() int32 {
	v := d.varint()
	if v < math.MinInt32 || v > math.MaxInt32 {
		d.fail("%d is not an int32", v)
	}
	return int32(v)
}

func (d *decoder) offset() model.Offset { return model.Offset(d.varint()) }

// count reads how many elements of at least sizeMin bytes follow; no more than
// the bytes left can hold.
func (d *decoder) count(sizeMin int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/sizeMin) {
		d.fail("%d elements in %d bytes", n, len(d.b))
		return 0
	}
	return int(n)
}

func (d *decoder) batches() [][]byte {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	batches := make([][]byte, 0, n)
	for range n {
		batches = append(batches, d.take(d.uvarint(), "batch"))
	}
	return batches
}

func (d *decoder) offsets() []model.Offset {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	offsets := make([]model.Offset, 0, n)
	for range n {
		offsets = append(offsets, d.offset())
	}
	return offsets
}

func (d *decoder) key() (k model.SourceKey) {
	k.Script = model.ScriptID(d.uvarint())
	copy(k.Parent.Topic[:], d.take(uint64(len(k.Parent.Topic)), "topic id"))
	k.Parent.Index = d.i32()
	return k
}
