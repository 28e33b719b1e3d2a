package host

// #include "glue.h"
import "C"

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/sidecar/abi"
)

// The answers of Redpanda's functions.
const (
	answerNone     = -1 // no batch, no record, or no record to write for
	answerTooSmall = -2 // the buffer of a read
	answerBad      = -2 // the payload of a write
	answerRefused  = -3 // not a declared output, or too much output
)

// redpanda is a guest of Redpanda's ABI: a command that blocks in
// read_batch_header. A goroutine of its own, and with it a thread, runs it;
// whoever calls Run waits meanwhile, so that one of the two runs at a time.
type redpanda struct {
	*core
	outputs []string

	work   chan *Batch   // closed to end the guest
	done   chan *Fault   // nil after each batch; once more, with the reason, when it ends
	ended  chan struct{} // closed when the goroutine is gone
	dead   *Fault
	memory int64
	cpu    time.Duration

	// The rest is the guest's goroutine's, between work and done.
	batch    *Batch
	payloads [][]byte
	at       int // index of the record that was read last, -1 = none
	out      []abi.OutputRecord
	outBytes int
	frame    []byte
}

func newRedpanda(m *Module, s Setup) (Guest, error) {
	env := map[string]string{}
	if len(s.Inputs) > 0 {
		env["REDPANDA_INPUT_TOPIC"] = s.Inputs[0]
	}
	numbered(env, "REDPANDA_OUTPUT_TOPIC_", s.Outputs)
	g := &redpanda{
		core:    newCore(m, s, environment(s.Env, env)),
		outputs: s.Outputs,
		work:    make(chan *Batch),
		done:    make(chan *Fault),
		ended:   make(chan struct{}),
	}
	g.core.redpanda = g
	go g.main(m)
	if g.dead = <-g.done; g.dead != nil {
		g.Close()
		return nil, g.dead
	}
	return g, nil
}

// main runs the guest until it ends.
func (g *redpanda) main(m *Module) {
	defer close(g.ended)
	g.done <- g.command(m)
	g.core.close()
}

func (g *redpanda) command(m *Module) *Fault {
	if err := g.instantiate(m); err != nil {
		return err.(*Fault)
	}
	g.find(slotOnce, "_start")
	g.engine.enter()
	defer g.engine.leave()
	g.at = -1
	err := g.core.call(slotOnce)
	g.measure()
	if err == nil {
		return &Fault{Kind: control.FailureTrap, Source: g.at, Text: "its main function returned", Dead: true}
	}
	fault := err.(*Fault)
	fault.Source = g.at
	return fault
}

// Run implements Guest.
func (g *redpanda) Run(b *Batch) ([]byte, error) {
	if g.dead != nil {
		return nil, g.dead
	}
	g.work <- b
	if fault := <-g.done; fault != nil {
		g.dead = fault
		return nil, fault
	}
	return g.frame, nil
}

// MemoryBytes implements Guest.
func (g *redpanda) MemoryBytes() int64 { return g.memory }

// CPU implements Guest.
func (g *redpanda) CPU() time.Duration { return g.cpu }

// Close implements Guest.
func (g *redpanda) Close() {
	if g.dead == nil {
		close(g.work)
		<-g.done
	}
	<-g.ended
}

func (g *redpanda) measure() {
	g.memory, g.cpu = int64(g.c.size), time.Duration(g.c.cpu_spent)
}

// run answers the imports; it is on the guest's goroutine.
func (g *redpanda) run(id importID, a args) bool {
	switch id {
	case importReadHeader:
		return g.readHeader(a)
	case importReadRecord:
		return g.readRecord(a)
	case importWriteRecord:
		return g.write(a, 0)
	}
	output, ok := g.outputOf(a)
	if !ok {
		return g.end("gave write options outside of its memory")
	}
	if output < 0 {
		a.answer(int32(output))
		return true
	}
	return g.write(a, output)
}

// readHeader ends the batch before and waits for the next.
func (g *redpanda) readHeader(a args) bool {
	C.mr_lap(g.c)
	g.measure()
	if g.batch != nil {
		g.frame = abi.AppendOutput(g.frame[:0], g.out)
	}
	g.batch = nil
	g.engine.leave()
	g.done <- nil
	b, more := <-g.work
	g.engine.enter()
	if !more {
		return g.end("the host is done with it")
	}
	g.begin(b)
	C.mr_arm(g.c)
	return g.answerHeader(a)
}

func (g *redpanda) begin(b *Batch) {
	g.batch, g.at = b, -1
	g.out, g.outBytes = g.out[:0], 0
	g.payloads = b.Tails
	if b.Tails == nil {
		for i := range b.Records {
			r := &b.Records[i]
			g.payloads = append(g.payloads, AppendTail(nil, r.Key, r.Value, r.Headers))
		}
	}
	g.wasi.begin(b.Seed, b.Records[0].Offset, b.Records[0].Timestamp)
	g.wasi.said = g.wasi.said[:0]
	g.limit(b.CPUMax, b.WallEnd)
}

func (g *redpanda) answerHeader(a args) bool {
	records := g.batch.Records
	first, last := &records[0], &records[len(records)-1]
	newest, largest := first.Timestamp, 0
	for i := range records {
		newest, largest = max(newest, records[i].Timestamp), max(largest, len(g.payloads[i]))
	}
	ok := g.put(a.u32(0), 8, uint64(first.Offset)) && // base offset
		g.put(a.u32(1), 4, uint64(len(records))) &&
		g.put(a.u32(2), 4, 0) && // partition leader epoch
		g.put(a.u32(3), 2, 0) && // attributes: not compressed, create time
		g.put(a.u32(4), 4, uint64(last.Offset-first.Offset)) &&
		g.put(a.u32(5), 8, uint64(first.Timestamp)) &&
		g.put(a.u32(6), 8, uint64(newest)) &&
		g.put(a.u32(7), 8, ^uint64(0)) && // producer id: none
		g.put(a.u32(8), 2, ^uint64(0)) &&
		g.put(a.u32(9), 4, ^uint64(0))
	a.answer(int32(largest))
	return ok
}

// readRecord is read_next_record(attributes*, timestamp*, offset*, buf, len).
func (g *redpanda) readRecord(a args) bool {
	if g.batch == nil || g.at+1 >= len(g.payloads) {
		a.answer(answerNone)
		return true
	}
	payload := g.payloads[g.at+1]
	if int64(len(payload)) > int64(int32(a.u32(4))) {
		a.answer(answerTooSmall)
		return true
	}
	dst, ok := g.core.at(a.u32(3), uint32(len(payload)))
	if !ok {
		return g.end("read a record to outside of its memory")
	}
	g.at++
	r := &g.batch.Records[g.at]
	g.wasi.begin(g.batch.Seed, r.Offset, r.Timestamp)
	copy(dst, payload)
	ok = g.put(a.u32(0), 1, 0) && g.put(a.u32(1), 8, uint64(r.Timestamp)) && g.put(a.u32(2), 8, uint64(r.Offset))
	a.answer(int32(len(payload)))
	return ok
}

// put stores the low bytes of value; false ends the guest.
func (g *redpanda) put(ptr, size uint32, value uint64) bool {
	dst, ok := g.core.at(ptr, size)
	if !ok {
		return g.end("gave a pointer outside of its memory")
	}
	for i := range dst {
		dst[i] = byte(value >> (8 * i))
	}
	return true
}

// outputOf reads write options: nothing, or byte 1 and a topic's name.
func (g *redpanda) outputOf(a args) (output int, ok bool) {
	options, ok := g.core.at(a.u32(2), a.u32(3))
	if !ok {
		return 0, false
	}
	if len(options) == 0 {
		return 0, true
	}
	length, n := binary.Varint(options[1:])
	if options[0] != 1 || n <= 0 || length != int64(len(options)-1-n) {
		return answerBad, true
	}
	name := string(options[1+n:])
	if i := slices.Index(g.outputs, name); i >= 0 {
		return i, true
	}
	return answerRefused, true
}

// write takes a record for an output. Its source is the record read last.
func (g *redpanda) write(a args, output int) bool {
	payload, ok := g.core.at(a.u32(0), a.u32(1))
	if !ok {
		return g.end("wrote a record from outside of its memory")
	}
	switch {
	case g.batch == nil || g.at < 0:
		a.answer(answerNone)
		return true
	case g.outBytes+len(payload) > redpandaOutBytesMax || len(g.out) >= abi.EntriesMax:
		a.answer(answerRefused)
		return true
	}
	key, value, headers, ok := ParseTail(nil, slices.Clone(payload))
	if !ok {
		a.answer(answerBad)
		return true
	}
	g.out = append(g.out, abi.OutputRecord{
		Source: uint32(g.at), Output: uint16(output), Partition: abi.NoPartition, Key: key, Value: value, Headers: headers,
	})
	g.outBytes += len(payload)
	a.answer(int32(len(payload)))
	return true
}

// redpandaOutBytesMax bounds the payloads of one batch, so that their frame,
// which has some 40 bytes more for each, stays below abi.FrameBytesMax.
const redpandaOutBytesMax = abi.FrameBytesMax / 2
