package snapshot

import (
	"errors"
	"fmt"
	"slices"
)

// What Rewrite refuses.
var (
	// ErrMemory: the dump is not whole pages, or smaller than the engine's memory.
	ErrMemory = errors.New("memory dump does not fit the engine")
	// ErrGlobal: a mutable global that is not exported, so its value is not known, or one of a type that has no number.
	ErrGlobal = errors.New("mutable global cannot be kept")
	// ErrPassive: the engine copies data segments itself; they cannot be replaced.
	ErrPassive = errors.New("engine has passive data segments")
)

const pageBytes = 64 << 10

// dropped are the exports that have no meaning once the script is loaded.
var dropped = []string{"_initialize", "millrace_load", "millrace_snapshot"}

// Global is the value of a mutable global after the script was loaded, as the bits of its type: i32 and f32 in the lower 32.
type Global uint64

// Rewrite returns the engine with memory as its initial memory and globals as the initial values of its mutable globals, by the names
// they are exported under. memory is the engine's whole linear memory after millrace_snapshot. What would initialise it again (data
// segments, a start function, the exports that load) is dropped. The result is a function of the arguments alone.
func Rewrite(engine, memory []byte, globals map[string]Global) ([]byte, error) {
	list, err := split(engine)
	if err != nil {
		return nil, err
	}
	if len(memory)%pageBytes != 0 {
		return nil, fmt.Errorf("%w: %d bytes are not whole pages", ErrMemory, len(memory))
	}
	w := rewriter{memory: memory, globals: globals}
	for _, s := range list {
		if err := w.look(s); err != nil {
			return nil, err
		}
	}
	if !w.hasMemory {
		return nil, fmt.Errorf("%w: no memory of its own", ErrModule)
	}
	var out []section
	for _, s := range list {
		body, keep, err := w.rewrite(s)
		if err != nil {
			return nil, err
		}
		if keep {
			out = append(out, section{s.id, body})
		}
	}
	return join(w.insertData(out)), nil
}

type rewriter struct {
	memory  []byte
	globals map[string]Global

	importedGlobals uint32
	globalNames     map[uint32]string // by index, of exported globals
	hasMemory       bool
}

// look gathers what the rewriting of earlier sections must know of later ones.
func (w *rewriter) look(s section) error {
	switch s.id {
	case sectionImport:
		return w.lookImports(s.body)
	case sectionExport:
		return w.lookExports(s.body)
	case sectionMemory:
		w.hasMemory = true
	case sectionData:
		return lookData(s.body)
	}
	return nil
}

func (w *rewriter) lookImports(body []byte) error {
	r := reader{rest: body}
	for range r.count() {
		r.name()
		r.name()
		switch r.byte() {
		case 0: // function: its type
			r.u32()
		case 1: // table
			r.byte()
			skipLimits(&r)
		case 2: // memory
			return fmt.Errorf("%w: it imports its memory", ErrModule)
		case 3: // global
			r.take(2)
			w.importedGlobals++
		default:
			r.fail()
		}
	}
	return r.wrong("imports")
}

func skipLimits(r *reader) {
	flags := r.byte()
	r.u64(64)
	if flags&1 != 0 {
		r.u64(64)
	}
}

const exportGlobal = 3

func (w *rewriter) lookExports(body []byte) error {
	w.globalNames = map[uint32]string{}
	r := reader{rest: body}
	for range r.count() {
		name, kind, index := r.name(), r.byte(), r.u32()
		if kind == exportGlobal {
			w.globalNames[index] = name
		}
	}
	return r.wrong("exports")
}

// lookData refuses passive segments: code refers to them by number.
func lookData(body []byte) error {
	r := reader{rest: body}
	for range r.count() {
		flags := r.u32()
		if flags&1 != 0 {
			return ErrPassive
		}
		if flags == 2 {
			r.u32()
		}
		skipConst(&r)
		r.take(r.u32())
	}
	return r.wrong("data segments")
}

// rewrite returns the section's new body, or that it is dropped.
func (w *rewriter) rewrite(s section) (body []byte, keep bool, err error) {
	switch s.id {
	case sectionStart, sectionData, sectionDataCount:
		return nil, false, nil
	case sectionMemory:
		body, err = w.memorySection(s.body)
	case sectionGlobal:
		body, err = w.globalSection(s.body)
	case sectionExport:
		body, err = exportSection(s.body)
	default:
		body = s.body
	}
	return body, true, err
}

// memorySection raises the memory's least size to that of the dump.
func (w *rewriter) memorySection(body []byte) ([]byte, error) {
	r := reader{rest: body}
	count, flags := r.count(), r.byte()
	least, most := r.u32(), uint32(1<<16)
	if flags&1 != 0 {
		most = r.u32()
	}
	if err := r.wrong("memory"); err != nil {
		return nil, err
	}
	if count != 1 || flags > 1 {
		return nil, fmt.Errorf("%w: it must have one plain 32-bit memory", ErrModule)
	}
	pages := uint32(len(w.memory) / pageBytes)
	if pages < least || pages > most {
		return nil, fmt.Errorf("%w: %d pages, the engine has %d to %d", ErrMemory, pages, least, most)
	}
	out := appendU32([]byte{1, flags}, pages)
	if flags == 1 {
		out = appendU32(out, most)
	}
	return out, nil
}

// The opcodes of a constant expression and the types of numbers.
const (
	opI32 = 0x41
	opI64 = 0x42
	opF32 = 0x43
	opF64 = 0x44
	opGet = 0x23
	opRef = 0xD2 // ref.func
	opNul = 0xD0 // ref.null
	opEnd = 0x0B

	typeI32 = 0x7F
	typeI64 = 0x7E
	typeF32 = 0x7D
	typeF64 = 0x7C
)

// skipConst passes a constant expression.
func skipConst(r *reader) {
	for r.err == nil {
		switch r.byte() {
		case opEnd:
			return
		case opI32, opI64, opGet, opRef, opNul:
			r.skipLEB()
		case opF32:
			r.take(4)
		case opF64:
			r.take(8)
		default:
			r.fail()
		}
	}
}

func (w *rewriter) globalSection(body []byte) ([]byte, error) {
	r := reader{rest: body}
	count := r.count()
	out := appendU32(nil, count)
	for i := range count {
		start := r.rest
		kind, mutable := r.byte(), r.byte()
		skipConst(&r)
		if r.err != nil {
			break
		}
		if mutable == 0 {
			out = append(out, start[:len(start)-len(r.rest)]...)
			continue
		}
		value, err := w.valueOf(w.importedGlobals + i)
		if err != nil {
			return nil, err
		}
		out = append(out, kind, mutable)
		if out, err = appendConst(out, kind, value); err != nil {
			return nil, err
		}
	}
	return out, r.wrong("globals")
}

func (w *rewriter) valueOf(index uint32) (Global, error) {
	name, exported := w.globalNames[index]
	if !exported {
		return 0, fmt.Errorf("%w: number %d is not exported", ErrGlobal, index)
	}
	value, given := w.globals[name]
	if !given {
		return 0, fmt.Errorf("%w: no value is given for %q", ErrGlobal, name)
	}
	return value, nil
}

func appendConst(out []byte, kind byte, value Global) ([]byte, error) {
	switch kind {
	case typeI32:
		out = appendS64(append(out, opI32), int64(int32(value)))
	case typeI64:
		out = appendS64(append(out, opI64), int64(value))
	case typeF32:
		out = append(out, opF32, byte(value), byte(value>>8), byte(value>>16), byte(value>>24))
	case typeF64:
		out = append(out, opF64)
		for shift := 0; shift < 64; shift += 8 {
			out = append(out, byte(value>>shift))
		}
	default:
		return nil, fmt.Errorf("%w: type %#x", ErrGlobal, kind)
	}
	return append(out, opEnd), nil
}

func exportSection(body []byte) ([]byte, error) {
	r := reader{rest: body}
	var kept []byte
	count := uint32(0)
	for range r.count() {
		start := r.rest
		name := r.name()
		r.byte()
		r.u32()
		if r.err != nil {
			break
		}
		if slices.Contains(dropped, name) {
			continue
		}
		kept = append(kept, start[:len(start)-len(r.rest)]...)
		count++
	}
	return append(appendU32(nil, count), kept...), r.wrong("exports")
}

// insertData puts the data section where the format wants it: behind the code, before custom sections at the end.
func (w *rewriter) insertData(list []section) []section {
	data := section{sectionData, dataSection(w.memory)}
	at := len(list)
	for at > 0 && list[at-1].id == sectionCustom {
		at--
	}
	return slices.Insert(list, at, data)
}

// gapBytesMin is the run of zeros that is worth a new segment: its header takes about 8 bytes, and many segments slow an
// instantiation more than some zeros do.
const gapBytesMin = 256

func dataSection(memory []byte) []byte {
	var segments []byte
	count := uint32(0)
	for at := 0; ; {
		for at < len(memory) && memory[at] == 0 {
			at++
		}
		if at == len(memory) {
			break
		}
		end := segmentEnd(memory, at)
		segments = append(segments, 0, opI32)
		segments = appendS64(segments, int64(int32(uint32(at))))
		segments = append(segments, opEnd)
		segments = appendU32(segments, uint32(end-at))
		segments = append(segments, memory[at:end]...)
		count++
		at = end
	}
	return append(appendU32(nil, count), segments...)
}

// segmentEnd returns the end of the bytes from at that are not followed by a long run of zeros.
func segmentEnd(memory []byte, at int) int {
	end, zeros := at, 0
	for i := at; i < len(memory) && zeros < gapBytesMin; i++ {
		if memory[i] == 0 {
			zeros++
			continue
		}
		end, zeros = i+1, 0
	}
	return end
}
