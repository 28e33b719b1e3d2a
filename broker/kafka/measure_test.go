package kafka

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// everyRow gives all rows, the groups' too.
func everyRow() []row { return append(coreRows(), groupRows()...) }

// TestMeasureKnowsTheCodec: random messages of every key and version are walked
// to their last byte, and every cut of them is noticed.
func TestMeasureKnowsTheCodec(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, row := range everyRow() {
		for v := row.min; v <= row.max; v++ {
			s := shapeOf(row.key, v)
			for range 50 {
				m := randomRequest(rnd, row.key, v)
				b := m.AppendTo(nil)
				w := walker{left: b}
				if err := w.walk(s); err != nil || len(w.left) != 0 {
					t.Fatalf("%s v%d: %d of %d bytes left, %v", row.name, v, len(w.left), len(b), err)
				}
				if len(b) > 0 {
					if _, err := s.measure(b[:rnd.IntN(len(b))]); !errors.Is(err, errShape) {
						t.Fatalf("%s v%d cut: %v", row.name, v, err)
					}
				}
				if err := readMessage(newRequest(row.key, v), b); err != nil {
					t.Fatalf("%s v%d: %v", row.name, v, err)
				}
			}
		}
	}
}

func TestMeasureRefusesAnnouncedMemory(t *testing.T) {
	s := shapeOf(3, 1)
	b := append([]byte{0, 31, 255, 255}, make([]byte, 4<<20)...) // two million empty names
	if _, err := s.measure(b); !errors.Is(err, errDecodedSize) {
		t.Fatal(err)
	}
	if _, err := s.measure([]byte{0x7f, 255, 255, 255, 0}); !errors.Is(err, errShape) {
		t.Fatal(err)
	}
}

func newRequest(key, version int16) kmsg.Request {
	m := kmsg.RequestForKey(key)
	m.SetVersion(version)
	return m
}

func randomRequest(rnd *rand.Rand, key, version int16) kmsg.Request {
	m := kmsg.RequestForKey(key)
	v := reflect.ValueOf(m).Elem()
	setDefault(v)
	fill(rnd, v)
	m.SetVersion(version)
	return m
}

// fill sets fields at random, down to nested arrays.
func fill(rnd *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "UnknownTags" {
				fill(rnd, v.Field(i))
			}
		}
	case reflect.Slice:
		n := rnd.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			setDefault(v.Index(i))
			fill(rnd, v.Index(i))
		}
	case reflect.String:
		v.SetString("abcdefghij"[:rnd.IntN(10)])
	case reflect.Pointer:
		if rnd.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			setDefault(v.Elem())
			fill(rnd, v.Elem())
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rnd, v.Index(i))
		}
	default:
		if rnd.IntN(2) == 0 {
			change(v)
		}
	}
}

func setDefaultRequest(m kmsg.Request) {
	v := m.GetVersion()
	setDefault(reflect.ValueOf(m).Elem())
	m.SetVersion(v)
}
