package host

// #include "glue.h"
// #include <stdlib.h>
import "C"

import (
	"fmt"
	"maps"
	"runtime/cgo"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/sidecar/abi"
)

// startCPUMax bounds what a guest may compute before its first batch: a large
// bundle of JavaScript takes some 100 ms to load.
const startCPUMax = 10 * time.Second

// Setup is what an instance is given once.
type Setup struct {
	Name           string
	Env            map[string]string // the user's
	Inputs         []string
	Outputs        []string
	MemoryBytesMax int64
	// Log takes the guest's lines, on the goroutine that runs the guest. The
	// text is at most abi.LogLineBytesMax long.
	Log func(level abi.Level, text string)
}

// Batch is what a guest runs on.
type Batch struct {
	Input     uint16
	Partition int32
	Seed      uint64
	Records   []abi.Record  // at least one; offsets ascend
	Tails     [][]byte      // the records as AppendTail writes them; nil = not at hand
	CPUMax    time.Duration // of the guest's own computing
	WallEnd   time.Time     // zero = none
}

// Guest is an instance of a module.
type Guest interface {
	// Run gives the guest one batch and returns its output frame, unchecked
	// but for its bounds and valid until the next call. An error is a *Fault.
	Run(b *Batch) ([]byte, error)
	// MemoryBytes is the size of its memory now.
	MemoryBytes() int64
	// CPU is what it has spent so far, its start included.
	CPU() time.Duration
	// Close frees it. It must not run.
	Close()
}

// New makes a guest and starts it. An error that is the guest's own is a *Fault.
func (m *Module) New(s Setup) (Guest, error) {
	if m.ABI == ABIMillrace {
		return newMillrace(m, s)
	}
	return newRedpanda(m, s)
}

// core is what guests of both ABIs share: the instance and its WASI.
type core struct {
	c      *C.mr_guest
	handle cgo.Handle
	engine *Engine
	log    func(abi.Level, string)
	wasi   wasi

	redpanda *redpanda // nil for other guests
	exit     string    // why an import ended the guest
}

func newCore(m *Module, s Setup, env []string) *core {
	g := &core{engine: m.engine, log: s.Log}
	if g.log == nil {
		g.log = func(abi.Level, string) {}
	}
	g.wasi = newWASI(s.Name, env)
	g.handle = cgo.NewHandle(g)
	g.c = C.mr_guest_new(m.engine.raw(), C.uintptr_t(g.handle), C.int64_t(s.MemoryBytesMax))
	return g
}

func (g *core) close() {
	C.mr_guest_delete(g.c)
	g.c = nil
	g.handle.Delete()
}

func (g *core) instantiate(m *Module) error {
	g.limit(startCPUMax, time.Time{})
	g.engine.enter()
	defer g.engine.leave()
	if C.mr_guest_instantiate(g.c, m.pre) != 0 {
		return g.fault()
	}
	return nil
}

// limit sets how long the calls that follow may take.
func (g *core) limit(cpuMax time.Duration, wallEnd time.Time) {
	g.c.cpu_max = C.int64_t(cpuMax)
	g.c.wall_end = 0
	if !wallEnd.IsZero() {
		g.c.wall_end = C.mr_monotonic() + C.int64_t(time.Until(wallEnd))
	}
}

// slot names a function that was found in a guest.
type slot C.int

const (
	slotAlloc   slot = C.SLOT_ALLOC
	slotProcess slot = C.SLOT_PROCESS
	slotError   slot = C.SLOT_ERROR
	slotOnce    slot = C.SLOT_ONCE // for functions that are called only at the start
)

// find looks up an exported function. Its type must have been checked.
func (g *core) find(s slot, name string) bool {
	return bool(C.mr_guest_func(g.c, cstring(name), C.size_t(len(name)), C.int(s)))
}

// call runs an exported function with i32 arguments. Its result is in raw.
func (g *core) call(s slot, args ...uint32) error {
	for i, a := range args {
		*(*uint32)(unsafe.Pointer(&g.c.raw[i])) = a
	}
	if C.mr_call(g.c, C.int(s)) != 0 {
		return g.fault()
	}
	return nil
}

func (g *core) result32() uint32 { return *(*uint32)(unsafe.Pointer(&g.c.raw[0])) }
func (g *core) result64() int64  { return *(*int64)(unsafe.Pointer(&g.c.raw[0])) }

// memory is the guest's, until it runs again.
func (g *core) memory() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(g.c.data)), int(g.c.size))
}

// at returns n bytes of the guest's memory; false if they are not there.
func (g *core) at(ptr, n uint32) ([]byte, bool) {
	memory := g.memory()
	if uint64(ptr)+uint64(n) > uint64(len(memory)) {
		return nil, false
	}
	return memory[ptr : uint64(ptr)+uint64(n)], true
}

// fault tells why the last call failed.
func (g *core) fault() *Fault {
	f := &Fault{Kind: control.FailureTrap, Source: abi.WholeBatch, Dead: true}
	text := g.cause()
	switch {
	case g.c.expired == C.EXPIRED_CPU:
		f.Kind, text = control.FailureDeadline, fmt.Sprintf("ran for more than %v", time.Duration(g.c.cpu_max))
	case g.c.expired == C.EXPIRED_WALL:
		f.Kind, text = control.FailureDeadline, "did not end before the deadline"
	case g.exit != "":
		text = g.exit
	}
	if said := g.wasi.complaint(); said != "" {
		text += ": " + said
	}
	f.Text = text
	return f
}

// trapTexts say what the engine's trap codes mean, in order.
var trapTexts = [...]string{
	"call stack exhausted", "out of bounds memory access", "misaligned memory access", "out of bounds table access",
	"call of a null table entry", "indirect call of another type", "integer overflow", "integer division by zero",
	"invalid conversion to integer", "unreachable instruction executed",
}

// cause is what ended the last call, without the guest's backtrace.
func (g *core) cause() string {
	if code := int(g.c.trap_code); code >= 0 && code < len(trapTexts) {
		return trapTexts[code]
	}
	text := strings.TrimSpace(C.GoString(g.c.error))
	if i := strings.LastIndex(text, "Caused by:"); i >= 0 {
		text = text[i+len("Caused by:"):]
	}
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// MemoryBytes implements Guest.
func (g *core) MemoryBytes() int64 { return int64(g.c.size) }

// CPU implements Guest.
func (g *core) CPU() time.Duration { return time.Duration(g.c.cpu_spent) }

// environment is the user's and the names of the script and its topics.
func environment(user map[string]string, fixed map[string]string) []string {
	all := maps.Clone(fixed)
	for name, value := range user {
		if _, taken := all[name]; !taken {
			all[name] = value
		}
	}
	list := make([]string, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		list = append(list, name+"="+all[name])
	}
	return list
}

func numbered(env map[string]string, prefix string, names []string) {
	for i, name := range names {
		env[prefix+strconv.Itoa(i)] = name
	}
}
