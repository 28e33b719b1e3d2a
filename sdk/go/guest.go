package millrace

import (
	"fmt"
	"os"
	"strconv"
)

// Transform is the user's function. It is called once for each record, in order, and answers through out. An error, or a panic, is
// that record's failure: the manifest's on_error says what follows, and what out took for this record is thrown away.
type Transform func(r *Record, out *Writer) error

// Run makes fn the module's transform. Call it once, from an init function: the module is a library, its main does not run.
func Run(fn Transform) {
	if guest.transform != nil {
		panic("millrace.Run is called twice")
	}
	guest.transform = fn
}

// runner is one instance's state. The host makes one call at a time.
type runner struct {
	transform Transform
	inputs    []string
	outputs   []string
	named     bool
	record    Record
	writer    Writer
	input     []byte
	failure   []byte
}

var guest runner

// names reads a numbered list of the environment, like MILLRACE_INPUT_0 and on.
func names(prefix string) []string {
	var list []string
	for {
		name, ok := os.LookupEnv(prefix + strconv.Itoa(len(list)))
		if !ok {
			return list
		}
		list = append(list, name)
	}
}

// process answers the output frame, or false after it has filled the error frame.
func (g *runner) process(frame []byte) (output []byte, ok bool) {
	if !g.named {
		g.inputs, g.outputs, g.named = names("MILLRACE_INPUT_"), names("MILLRACE_OUTPUT_"), true
	}
	if g.transform == nil {
		return nil, g.fail(-1, "no transform: call millrace.Run in an init function")
	}
	b, err := openBatch(frame)
	if err != nil {
		return nil, g.fail(-1, err.Error())
	}
	g.record.Topic = ""
	if int(b.topic) < len(g.inputs) {
		g.record.Topic = g.inputs[b.topic]
	}
	g.writer.reset(g.outputs)
	if err := g.run(&b); err != nil {
		return nil, g.fail(err.source, err.text)
	}
	return g.writer.finish(), true
}

// stopped is why a batch ended early: source -1 when it is no record's fault.
type stopped struct {
	source int32
	text   string
}

// run walks the batch. One recover serves all records: a deferred call for each would cost more than a filter does.
func (g *runner) run(b *batch) (stop *stopped) {
	source := int32(-1)
	defer func() {
		if cause := recover(); cause != nil {
			stop = &stopped{source, fmt.Sprintf("panic: %v", cause)}
		}
	}()
	g.writer.record = &g.record
	for i := range b.count {
		if err := b.next(&g.record); err != nil {
			return &stopped{-1, err.Error()}
		}
		g.record.source, source = i, int32(i)
		if err := g.transform(&g.record, &g.writer); err != nil {
			return &stopped{source, err.Error()}
		}
		source = -1
	}
	if err := b.close(); err != nil {
		return &stopped{-1, err.Error()}
	}
	return nil
}

func (g *runner) fail(source int32, text string) bool {
	if len(text) > errorTextBytesMax {
		text = text[:errorTextBytesMax]
	}
	g.failure = append(le.AppendUint32(g.failure[:0], uint32(source)), text...)
	return false
}
