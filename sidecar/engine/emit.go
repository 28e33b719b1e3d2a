package engine

import (
	"fmt"
	"slices"

	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/sidecar/abi"
	"github.com/millrace-io/millrace/sidecar/host"
)

// outBytesMax bounds one answer, so that it passes the link: who fans out more
// must be asked for smaller ranges.
const outBytesMax = 64 << 20

// childBytesMax is where a child's batch is cut, in bytes before compression: well
// below async.BatchBytesMax, so that the builder's buffer is one it keeps.
const childBytesMax = async.BatchBytesMax * 3 / 4

// childrenMax bounds the buffers that an emitter keeps between ranges.
const childrenMax = 256

// emitter builds the batches of one range. It belongs to a fiber.
type emitter struct {
	outputs  []async.Output
	parent   int32
	children map[childID]*child
	order    []childID // of this range, as they were met
	bytes    int
	written  int64
	tail     []byte
	headers  []abi.Header
}

type childID struct {
	output    int
	partition int32
}

// child is one output partition's batches; open is the one being built.
type child struct {
	open    record.Builder
	begun   bool
	batches [][]byte
	met     bool // in this range
}

func newEmitter(outputs []async.Output, parent int32) *emitter {
	return &emitter{outputs: outputs, parent: parent, children: map[childID]*child{}}
}

func (e *emitter) reset() {
	if len(e.children) > childrenMax {
		clear(e.children)
	}
	for _, id := range e.order {
		if c := e.children[id]; c != nil {
			c.begun, c.batches, c.met = false, nil, false
		}
	}
	e.order, e.bytes, e.written = e.order[:0], 0, 0
}

// check finds the first entry whose hint is no partition of its output.
func (e *emitter) check(entries []abi.Entry) *host.Fault {
	for i := range entries {
		entry := &entries[i]
		if n := e.outputs[entry.Output].Partitions; entry.Partition >= n {
			return &host.Fault{Kind: control.FailureError, Source: int(entry.Source),
				Text: fmt.Sprintf("it chose partition %d of output %d, which has %d", entry.Partition, entry.Output, n)}
		}
	}
	return nil
}

// add writes entries, which were checked, for these sources.
func (e *emitter) add(entries []abi.Entry, records []abi.Record, tails [][]byte) error {
	for i := range entries {
		entry := &entries[i]
		source := &records[entry.Source]
		key, tail := source.Key, tails[entry.Source]
		if !entry.Pass {
			e.headers = entry.Headers(e.headers[:0])
			e.tail = host.AppendTail(e.tail[:0], entry.Key, entry.Value, e.headers)
			key, tail = entry.Key, e.tail
		}
		id := childID{int(entry.Output), route(e.outputs[entry.Output], e.parent, entry.Partition, key)}
		if err := e.write(id, source.Timestamp, tail); err != nil {
			return err
		}
	}
	return nil
}

// recordOverheadMax is what a record has besides its tail: length, attributes
// and the deltas of time and offset.
const recordOverheadMax = 5 + 1 + 10 + 5

func (e *emitter) write(id childID, timestamp int64, tail []byte) error {
	c := e.children[id]
	if c == nil {
		c = &child{}
		e.children[id] = c
	}
	if !c.met {
		c.met = true
		e.order = append(e.order, id)
	}
	if e.bytes += len(tail) + recordOverheadMax; e.bytes > outBytesMax {
		return fmt.Errorf("%w: the range has more than %d MiB of output; give a smaller one", control.ErrRequest, outBytesMax>>20)
	}
	if c.begun && record.HeaderSize+c.open.Bytes()+len(tail)+recordOverheadMax > childBytesMax {
		if err := c.finish(); err != nil {
			return err
		}
	}
	if !c.begun {
		c.open.Reset(record.Plain(record.Codec(e.outputs[id.output].Codec)))
		c.begun = true
	}
	e.written++
	return c.open.AddTail(int32(c.open.Count()), timestamp, tail)
}

func (c *child) finish() error {
	c.begun = false
	batch, _, err := c.open.Build(make([]byte, 0, record.HeaderSize+c.open.Bytes()))
	if err != nil {
		return fmt.Errorf("build a batch of %d records: %w", c.open.Count(), err)
	}
	c.batches = append(c.batches, batch)
	return nil
}

// result hands over what was built.
func (e *emitter) result() ([]async.OutputBatches, error) {
	slices.SortFunc(e.order, func(a, b childID) int {
		if a.output != b.output {
			return a.output - b.output
		}
		return int(a.partition - b.partition)
	})
	outputs := make([]async.OutputBatches, 0, len(e.order))
	for _, id := range e.order {
		c := e.children[id]
		if c.begun {
			if err := c.finish(); err != nil {
				return nil, err
			}
		}
		outputs = append(outputs, async.OutputBatches{Output: id.output, Partition: id.partition, Batches: c.batches})
	}
	return outputs, nil
}
