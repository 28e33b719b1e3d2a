package abi

import (
	"crypto/sha256"
	"encoding/binary"
)

// Version is the number that a guest's millrace_abi answers and that both frames carry.
const Version = 1

// The exports of a guest.
const (
	ExportMemory     = "memory"
	ExportInitialize = "_initialize"
	ExportABI        = "millrace_abi"
	ExportAlloc      = "millrace_alloc"
	ExportProcess    = "millrace_process"
	ExportError      = "millrace_error"
	ExportLoad       = "millrace_load"
	ExportSnapshot   = "millrace_snapshot"
)

// The imports of a guest.
const (
	ImportModule     = "millrace"
	ImportLog        = "log"
	ImportModuleWASI = "wasi_snapshot_preview1"
)

// ScriptSection names the custom section that carries the script of an engine module.
const ScriptSection = "millrace.js"

// Names in a guest's environment; EnvInput and EnvOutput are followed by the decimal index.
const (
	EnvPrefix = "MILLRACE_"
	EnvScript = "MILLRACE_SCRIPT"
	EnvInput  = "MILLRACE_INPUT_"
	EnvOutput = "MILLRACE_OUTPUT_"
)

// Level is the severity of a guest's log line.
type Level int32

// The levels of millrace.log; a host treats any other number as LevelInfo.
const (
	LevelDebug Level = 0
	LevelInfo  Level = 1
	LevelWarn  Level = 2
	LevelError Level = 3
)

// Limits that hold for every guest. A host may ask for less, see Limits.
const (
	FrameBytesMax     = 64 << 20 // whole frames are copied, both ways
	EntriesMax        = 1 << 20  // bounds the decode table of one batch
	HeadersMax        = 1 << 16  // per record; bounds a walk
	ErrorTextBytesMax = 16 << 10 // the text becomes a header of a dead letter
	LogLineBytesMax   = 8 << 10  // longer lines are cut
	GuestPointerAlign = 8        // of millrace_alloc's answer
)

const (
	inputMagic        = 0x3149524D // "MRI1"
	outputMagic       = 0x314F524D // "MRO1"
	inputHeaderBytes  = 40
	recordFixedBytes  = 32
	outputHeaderBytes = 16
	entryPassBytes    = 16
	entryFixedBytes   = 32
	headerFixedBytes  = 8
	frameAlign        = 8

	flagPass = 1 << 0
)

// NoPartition is the partition hint of an entry that leaves the choice to the host.
const NoPartition = -1

var order = binary.LittleEndian

// Header is one header of a record. A nil Value is null; Key is never null.
type Header struct {
	Key   []byte
	Value []byte
}

// Range is an answer of millrace_process or millrace_error.
type Range int64

// RangeFailed is the answer that means "ask millrace_error".
const RangeFailed Range = -1

// RangeOf packs an address and a length in bytes, as a guest does.
func RangeOf(ptr, length uint32) Range { return Range(uint64(ptr)<<32 | uint64(length)) }

// Slice returns the bytes of memory that r names, without copying. An empty range gives nil. It fails with ErrBounds, also
// for RangeFailed, which the caller should have told apart before.
func (r Range) Slice(memory []byte) ([]byte, error) {
	ptr, length := uint64(r)>>32, uint64(r)&0xFFFFFFFF
	if r == RangeFailed || ptr+length > uint64(len(memory)) {
		return nil, refuse(ErrBounds, "%d bytes at %d of a memory of %d", length, ptr, len(memory))
	}
	if length == 0 {
		return nil, nil
	}
	return memory[ptr : ptr+length : ptr+length], nil
}

// Seed returns the random seed of an input frame. It depends on the script, the input topic and the partition, never on how
// batches are cut.
func Seed(digest [32]byte, topicID [16]byte, partition int32) uint64 {
	text := make([]byte, 0, 80)
	text = append(text, "millrace 1 seed"...)
	text = append(text, digest[:]...)
	text = append(text, topicID[:]...)
	text = order.AppendUint32(text, uint32(partition))
	sum := sha256.Sum256(text)
	return order.Uint64(sum[:8])
}

// Rand is the generator of one record, as docs/ABI.md section 6 defines it. Guests have their own; this one is for tests and
// for the host's random_get.
type Rand struct{ state uint64 }

const randGamma = 0x9E3779B97F4A7C15

// NewRand returns the generator of the record at offset in a frame with that seed.
func NewRand(seed uint64, offset int64) *Rand {
	return &Rand{state: randMix((seed ^ uint64(offset)) + randGamma)}
}

// Uint64 returns the next number.
func (r *Rand) Uint64() uint64 {
	r.state += randGamma
	return randMix(r.state)
}

// Float64 returns the next number as a fraction in [0, 1).
func (r *Rand) Float64() float64 { return float64(r.Uint64()>>11) / (1 << 53) }

func randMix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}
