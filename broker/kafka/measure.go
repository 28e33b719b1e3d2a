package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The codec allocates an array from the length that a message announces, up to
// a hundred and more bytes for each byte of the frame. So a body is walked
// first, by a shape that is learnt from the codec itself, and what its decoded
// form will take is known before anything is allocated.

const (
	// decodedBytesMax bounds one decoded request, its records excepted.
	decodedBytesMax = 32 << 20
	// decodedBytesFree is what a request may take without asking the budget.
	decodedBytesFree = 32 << 10
)

var (
	// errShape says that a body's lengths do not agree with its bytes.
	errShape = errors.New("lengths in the request exceed its bytes")
	// errDecodedSize says that a request's decoded form would be too large.
	errDecodedSize = errors.New("request would take too much memory")
)

// wireKind is how a field lies on the wire.
type wireKind uint8

const (
	wireFixed  wireKind = iota + 1 // size bytes
	wireString                     // length and bytes, which are copied
	wireBytes                      // length and bytes, which stay in the frame
	wireArray                      // count and elements
	wireStruct                     // fields
	wireMaybe                      // a presence byte, then fields
)

// shape is a type as one version of a message has it. It never changes.
type shape struct {
	kind     wireKind
	size     int // wireFixed: bytes on the wire
	memory   int // bytes of an element of an array of it, decoded
	flexible bool
	elem     *shape   // of an array
	fields   []*shape // of a struct, in wire order
}

// shapes caches what was learnt, by key and version.
var shapes sync.Map // of [2]int16 to *shape

func shapeOf(key, version int16) *shape {
	id := [2]int16{key, version}
	if s, ok := shapes.Load(id); ok {
		return s.(*shape)
	}
	s := learn(key, version)
	shapes.Store(id, s)
	return s
}

// measure gives the bytes that a body takes when decoded, strings included.
func (s *shape) measure(body []byte) (int, error) {
	w := walker{left: body}
	if err := w.walk(s); err != nil {
		return 0, err
	}
	return w.memory, nil
}

// walker reads over a body. Owned by one call.
type walker struct {
	left   []byte
	memory int
}

func (w *walker) walk(s *shape) error {
	switch s.kind {
	case wireFixed:
		return w.skip(s.size)
	case wireString, wireBytes:
		n, err := w.length(s)
		if err != nil || n <= 0 {
			return err
		}
		if s.kind == wireString {
			w.memory += n
		}
		return w.skip(n)
	case wireArray:
		return w.walkArray(s)
	case wireMaybe:
		if len(w.left) == 0 {
			return errShape
		}
		null := int8(w.left[0]) < 0
		w.left = w.left[1:]
		if null {
			return nil
		}
	}
	for _, f := range s.fields {
		if err := w.walk(f); err != nil {
			return err
		}
	}
	if !s.flexible {
		return nil
	}
	return w.tags()
}

func (w *walker) walkArray(s *shape) error {
	n, err := w.length(s)
	if err != nil || n <= 0 {
		return err
	}
	if n > len(w.left) { // no element is smaller than a byte
		return fmt.Errorf("%w: array of %d", errShape, n)
	}
	if w.memory += n * s.elem.memory; w.memory > decodedBytesMax {
		return fmt.Errorf("%w: more than %d bytes", errDecodedSize, decodedBytesMax)
	}
	if s.elem.kind == wireFixed {
		return w.skip(n * s.elem.size)
	}
	for range n {
		if err := w.walk(s.elem); err != nil {
			return err
		}
	}
	return nil
}

// length reads the length of a string, of bytes or of an array; -1 is null.
func (w *walker) length(s *shape) (int, error) {
	switch {
	case s.flexible:
		v, rest, err := uvarint(w.left)
		if err != nil {
			return 0, errShape
		}
		w.left = rest
		return int(v) - 1, nil
	case s.kind == wireString:
		if len(w.left) < 2 {
			return 0, errShape
		}
		n := int(int16(binary.BigEndian.Uint16(w.left)))
		w.left = w.left[2:]
		return n, nil
	}
	if len(w.left) < 4 {
		return 0, errShape
	}
	n := int(int32(binary.BigEndian.Uint32(w.left)))
	w.left = w.left[4:]
	return n, nil
}

func (w *walker) skip(n int) error {
	if n > len(w.left) {
		return fmt.Errorf("%w: %d bytes wanted, %d left", errShape, n, len(w.left))
	}
	w.left = w.left[n:]
	return nil
}

// tagMemory is what the codec takes to keep an unknown tagged field, about.
const tagMemory = 128

func (w *walker) tags() error {
	n, rest, err := uvarint(w.left)
	if err != nil {
		return errShape
	}
	w.left = rest
	for range n {
		if _, w.left, err = uvarint(w.left); err != nil {
			return errShape
		}
		size, rest, err := uvarint(w.left)
		if err != nil || uint64(size) > uint64(len(rest)) {
			return errShape
		}
		// A known tag may hold arrays: no request served here has one, so that its
		// bytes bound it.
		w.left = rest[size:]
		if w.memory += tagMemory + int(size); w.memory > decodedBytesMax {
			return errDecodedSize
		}
	}
	return nil
}

// learner finds out what of a message is on the wire in one version, by changing
// one field at a time and looking at the bytes.
type learner struct {
	message  kmsg.Request
	flexible bool
}

func learn(key, version int16) *shape {
	m := kmsg.RequestForKey(key)
	m.SetVersion(version)
	l := &learner{message: m, flexible: m.IsFlexible()}
	v := reflect.ValueOf(m).Elem()
	setDefault(v)
	m.SetVersion(version)
	return l.structure(v, wireStruct)
}

// structure learns the fields of a struct that is part of the message.
func (l *learner) structure(v reflect.Value, kind wireKind) *shape {
	s := &shape{kind: kind, memory: int(v.Type().Size()), flexible: l.flexible}
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name == "UnknownTags" || name == "Version" && v.Addr().Interface() == any(l.message) {
			continue
		}
		if f := l.field(v.Field(i)); f != nil {
			s.fields = append(s.fields, f)
		}
	}
	return s
}

// field learns one field; nil is one that is absent, or tagged.
func (l *learner) field(v reflect.Value) *shape {
	before := l.encode()
	old := reflect.ValueOf(v.Interface())
	defer v.Set(old)
	switch v.Kind() {
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte{1})
			return l.variable(before, wireBytes)
		}
		return l.array(v, before)
	case reflect.String:
		v.SetString("x")
		return l.variable(before, wireString)
	case reflect.Pointer:
		if v.Type().Elem().Kind() == reflect.String {
			x := "x"
			v.Set(reflect.ValueOf(&x))
			return l.variable(before, wireString)
		}
		v.Set(reflect.New(v.Type().Elem()))
		setDefault(v.Elem())
		if string(l.encode()) == string(before) {
			return nil
		}
		return l.structure(v.Elem(), wireMaybe)
	case reflect.Struct:
		return l.inline(v, before)
	}
	change(v)
	after := l.encode()
	if string(after) == string(before) || len(after) != len(before) {
		return nil
	}
	return &shape{kind: wireFixed, size: int(v.Type().Size()), memory: int(v.Type().Size())}
}

// variable tells a field of one byte more in the body from an absent one, and
// from a tagged one, which takes more.
func (l *learner) variable(before []byte, kind wireKind) *shape {
	if len(l.encode())-len(before) != 1 {
		return nil
	}
	return &shape{kind: kind, flexible: l.flexible, memory: 24} // at most a slice's header
}

func (l *learner) array(v reflect.Value, before []byte) *shape {
	grow := func(n int) int {
		s := reflect.MakeSlice(v.Type(), n, n)
		for i := range n {
			setDefault(s.Index(i))
		}
		v.Set(s)
		return len(l.encode())
	}
	none, two, one := grow(0), grow(2), grow(1)
	if one == none || one-none != two-one { // absent, or tagged
		return nil
	}
	s := &shape{kind: wireArray, flexible: l.flexible, memory: 24}
	e := v.Index(0)
	switch e.Kind() {
	case reflect.Struct:
		s.elem = l.structure(e, wireStruct)
	case reflect.String:
		s.elem = &shape{kind: wireString, flexible: l.flexible, memory: int(e.Type().Size())}
	case reflect.Slice:
		s.elem = &shape{kind: wireBytes, flexible: l.flexible, memory: int(e.Type().Size())}
	default:
		s.elem = &shape{kind: wireFixed, size: int(e.Type().Size()), memory: int(e.Type().Size())}
	}
	return s
}

// inline learns a struct that lies in the body of another. One that is tagged
// makes the message longer when anything in it changes.
func (l *learner) inline(v reflect.Value, before []byte) *shape {
	for i := range v.NumField() {
		f := v.Field(i)
		if k := f.Kind(); k < reflect.Bool || k > reflect.Float64 {
			continue
		}
		old := reflect.ValueOf(f.Interface())
		change(f)
		after := l.encode()
		f.Set(old)
		if len(after) != len(before) {
			return nil
		}
		if string(after) != string(before) {
			return l.structure(v, wireStruct)
		}
	}
	return nil
}

func (l *learner) encode() []byte { return l.message.AppendTo(nil) }

// change makes a fixed field's value another.
func change(v reflect.Value) {
	switch {
	case v.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	case v.CanInt():
		v.SetInt(v.Int() ^ 1)
	case v.CanUint():
		v.SetUint(v.Uint() ^ 1)
	case v.CanFloat():
		v.SetFloat(v.Float() + 1)
	case v.Kind() == reflect.Array:
		v.Index(0).SetUint(v.Index(0).Uint() ^ 1)
	default:
		must(false, "the codec has a field of kind %s that cannot be learnt", v.Kind())
	}
}

func setDefault(v reflect.Value) {
	if d, ok := v.Addr().Interface().(interface{ Default() }); ok {
		d.Default()
	}
}

func must(holds bool, format string, args ...any) {
	if !holds {
		panic("kafka: broken invariant: " + fmt.Sprintf(format, args...))
	}
}
