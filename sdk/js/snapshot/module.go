package snapshot

import (
	"errors"
	"fmt"
	"math"
)

// ErrModule is the cause of an error about bytes that are not a WebAssembly module as this package understands it.
var ErrModule = errors.New("not a usable WebAssembly module")

// The sections of a module, by the binary format's numbers.
const (
	sectionCustom    = 0
	sectionImport    = 2
	sectionMemory    = 5
	sectionGlobal    = 6
	sectionExport    = 7
	sectionStart     = 8
	sectionData      = 11
	sectionDataCount = 12
)

var moduleHead = []byte("\x00asm\x01\x00\x00\x00")

// section is one section; body aliases the module.
type section struct {
	id   byte
	body []byte
}

// split reads a module's list of sections.
func split(module []byte) ([]section, error) {
	if len(module) < len(moduleHead) || string(module[:len(moduleHead)]) != string(moduleHead) {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrModule)
	}
	r := reader{rest: module[len(moduleHead):]}
	var list []section
	for len(r.rest) > 0 && r.err == nil {
		id := r.byte()
		list = append(list, section{id, r.take(r.u32())})
	}
	return list, r.wrong("sections")
}

// join is split's reverse.
func join(list []section) []byte {
	module := append([]byte(nil), moduleHead...)
	for _, s := range list {
		module = append(module, s.id)
		module = appendU32(module, uint32(len(s.body)))
		module = append(module, s.body...)
	}
	return module
}

// reader walks bytes; after its first error it answers zeros.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail() {
	r.rest, r.err = nil, ErrModule
}

func (r *reader) wrong(what string) error {
	if r.err != nil {
		return fmt.Errorf("%w: its %s cannot be read", r.err, what)
	}
	return nil
}

func (r *reader) byte() byte {
	if len(r.rest) == 0 {
		r.fail()
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// u64 reads an unsigned LEB128 number of at most that many bits.
func (r *reader) u64(bits uint) uint64 {
	var v uint64
	for shift := uint(0); shift < bits; shift += 7 {
		b := r.byte()
		v |= uint64(b&0x7F) << shift
		if b < 0x80 {
			return v
		}
	}
	r.fail()
	return 0
}

func (r *reader) u32() uint32 {
	v := r.u64(35)
	if v > math.MaxUint32 {
		r.fail()
	}
	return uint32(v)
}

// skipLEB passes a LEB128 number of either sign.
func (r *reader) skipLEB() {
	for r.err == nil && r.byte() >= 0x80 {
	}
}

func (r *reader) name() string { return string(r.take(r.u32())) }

// count reads the length of a vector; each item has at least one byte, which bounds what is allocated from it.
func (r *reader) count() uint32 {
	n := r.u32()
	if uint64(n) > uint64(len(r.rest)) {
		r.fail()
		return 0
	}
	return n
}

func appendU32(dst []byte, v uint32) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// appendS64 appends a signed LEB128 number.
func appendS64(dst []byte, v int64) []byte {
	for {
		b := byte(v & 0x7F)
		v >>= 7
		if (v == 0 && b&0x40 == 0) || (v == -1 && b&0x40 != 0) {
			return append(dst, b)
		}
		dst = append(dst, b|0x80)
	}
}

func appendName(dst []byte, name string) []byte {
	return append(appendU32(dst, uint32(len(name))), name...)
}
