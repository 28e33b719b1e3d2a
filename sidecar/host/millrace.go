package host

import (
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/sidecar/abi"
)

// millrace is a guest of "millrace 1".
type millrace struct {
	*core
	writer abi.InputWriter
	frame  []byte // of the input, its capacity is used again
}

func newMillrace(m *Module, s Setup) (Guest, error) {
	env := map[string]string{abi.EnvScript: s.Name}
	numbered(env, abi.EnvInput, s.Inputs)
	numbered(env, abi.EnvOutput, s.Outputs)
	g := &millrace{core: newCore(m, s, environment(s.Env, env))}
	if err := g.start(m); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// start follows docs/ABI.md, "Order of calls".
func (g *millrace) start(m *Module) error {
	if err := g.instantiate(m); err != nil {
		return err
	}
	g.engine.enter()
	defer g.engine.leave()
	if g.find(slotOnce, abi.ExportInitialize) {
		if err := g.call(slotOnce); err != nil {
			return err
		}
	}
	g.findAll()
	g.find(slotOnce, abi.ExportABI)
	if err := g.call(slotOnce); err != nil {
		return err
	}
	if v := g.result32(); v != abi.Version {
		return garbage(fmt.Errorf("%s answers %d, only %d is known", abi.ExportABI, v, abi.Version))
	}
	if m.script == nil {
		return nil
	}
	return g.feed(abi.ExportLoad, m.script)
}

// findAll finds what is called again and again; the exports were checked.
func (g *core) findAll() {
	g.find(slotAlloc, abi.ExportAlloc)
	g.find(slotProcess, abi.ExportProcess)
	g.find(slotError, abi.ExportError)
}

// feed hands the guest bytes by one of its exports (ptr, len) -> 0 or -1.
func (g *core) feed(export string, bytes []byte) error {
	if !g.find(slotOnce, export) {
		return garbage(fmt.Errorf("no export %s", export))
	}
	ptr, err := g.give(bytes)
	if err != nil {
		return err
	}
	if err := g.call(slotOnce, ptr, uint32(len(bytes))); err != nil {
		return err
	}
	if g.result32() == 0 {
		return nil
	}
	f := g.ask(0)
	f.Dead = true
	return f
}

// give copies bytes into a buffer of the guest.
func (g *core) give(bytes []byte) (uint32, error) {
	if err := g.call(slotAlloc, uint32(len(bytes))); err != nil {
		return 0, err
	}
	ptr := g.result32()
	if ptr == 0 {
		return 0, &Fault{Kind: control.FailureTrap, Source: abi.WholeBatch, Dead: true,
			Text: fmt.Sprintf("has no memory for %d bytes of input (its memory has %d)", len(bytes), g.c.size)}
	}
	if ptr%abi.GuestPointerAlign != 0 {
		return 0, garbage(fmt.Errorf("%s answers %d, not a multiple of %d", abi.ExportAlloc, ptr, abi.GuestPointerAlign))
	}
	dst, ok := g.at(ptr, uint32(len(bytes)))
	if !ok {
		return 0, garbage(fmt.Errorf("%w: %s answers %d", abi.ErrBounds, abi.ExportAlloc, ptr))
	}
	copy(dst, bytes)
	return ptr, nil
}

// Run implements Guest.
func (g *millrace) Run(b *Batch) ([]byte, error) {
	if err := g.encode(b); err != nil {
		return nil, err
	}
	g.wasi.begin(b.Seed, b.Records[0].Offset, b.Records[0].Timestamp)
	g.wasi.said = g.wasi.said[:0]
	g.limit(b.CPUMax, b.WallEnd)
	g.engine.enter()
	defer g.engine.leave()
	ptr, err := g.give(g.frame)
	if err != nil {
		return nil, err
	}
	if err := g.call(slotProcess, ptr, uint32(len(g.frame))); err != nil {
		return nil, err
	}
	answer := abi.Range(g.result64())
	if answer == abi.RangeFailed {
		return nil, g.ask(len(b.Records))
	}
	output, err := answer.Slice(g.memory())
	if err != nil {
		return nil, garbage(err)
	}
	return output, nil
}

func (g *millrace) encode(b *Batch) error {
	g.writer.Begin(g.frame[:0], abi.BatchHeader{
		Topic: b.Input, Partition: b.Partition, BaseOffset: b.Records[0].Offset, Seed: b.Seed,
	})
	for i := range b.Records {
		if err := g.writer.Append(&b.Records[i]); err != nil {
			g.frame = g.writer.Finish()
			source := i
			if i > 0 && errors.Is(err, abi.ErrRecord) {
				source = abi.WholeBatch // alone it may fit
			}
			return &Fault{Kind: control.FailureSize, Source: source, Text: err.Error()}
		}
	}
	g.frame = g.writer.Finish()
	return nil
}

// ask fetches the guest's own error.
func (g *core) ask(sources int) *Fault {
	if err := g.call(slotError); err != nil {
		return g.fault()
	}
	frame, err := abi.Range(g.result64()).Slice(g.memory())
	if err != nil {
		return garbage(err)
	}
	f := abi.DecodeFailure(frame, sources)
	return &Fault{Kind: control.FailureError, Source: f.Source, Text: f.Text}
}

// Close implements Guest.
func (g *millrace) Close() { g.close() }
