package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"slices"
	"testing"

	pb "github.com/lni/dragonboat/v4/raftpb"
	"pgregory.net/rapid"
)

// frameOf makes a whole frame of h, whose sums it fills in, and its body.
func frameOf(h header, body []byte) []byte {
	h.metaSum = crc32.Checksum(body[:h.meta], castagnoli)
	h.dataSum = crc32.Checksum(body[h.meta:], castagnoli)
	return append(sealed(h), body...)
}

// fill gives every exported field below v a value of its own, so that one that is
// forgotten, or put in another's place, is seen. A kind of field that this does
// not know fails the test: so does a field that dragonboat adds.
func fill(t testing.TB, v reflect.Value, next *uint64) {
	t.Helper()
	*next++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32:
		v.SetInt(int64(*next))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(*next)
	case reflect.String:
		v.SetString(fmt.Sprint("text ", *next))
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(fmt.Append(nil, "bytes ", *next))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(t, v.Index(i), next)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key, next)
		fill(t, value, next)
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), next)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(t, v.Field(i), next)
			}
		}
	default:
		t.Fatalf("a field of type %v: teach this test and the codec", v.Type())
	}
}

// sent gives what becomes of a batch or a chunk on its way.
func sent(t testing.TB, v any, source string) any {
	t.Helper()
	b := frame(t, func(w *writer) error {
		if c, ok := v.(pb.Chunk); ok {
			return w.chunk(c)
		}
		b := v.(pb.MessageBatch)
		return w.messages(&b)
	})
	got, err := decodeFrame(reading(b), source)
	if err != nil {
		t.Fatalf("%+v does not come back: %v", v, err)
	}
	return got
}

// TestEveryField sends a batch and a chunk with every field set.
func TestEveryField(t *testing.T) {
	var next uint64
	var b pb.MessageBatch
	var c pb.Chunk
	fill(t, reflect.ValueOf(&b).Elem(), &next)
	fill(t, reflect.ValueOf(&c).Elem(), &next)
	if got := sent(t, b, b.SourceAddress); !reflect.DeepEqual(got, b) {
		t.Errorf("a batch is sent as\n%+v and comes as\n%+v", b, got)
	}
	if got := sent(t, c, ""); !reflect.DeepEqual(got, c) {
		t.Errorf("a chunk is sent as\n%+v and comes as\n%+v", c, got)
	}
}

// TestEachField sends messages with one field set: none may depend on another, as
// the snapshot's would on the test for an empty one.
func TestEachField(t *testing.T) {
	var each func(v reflect.Value, name string, check func(name string))
	each = func(v reflect.Value, name string, check func(string)) {
		for i := range v.NumField() {
			f, field := v.Field(i), v.Type().Field(i)
			if !field.IsExported() {
				continue
			}
			if f.Kind() == reflect.Struct {
				each(f, name+"."+field.Name, check)
				continue
			}
			was := reflect.New(f.Type()).Elem()
			was.Set(f)
			var next uint64
			fill(t, f, &next)
			check(name + "." + field.Name)
			f.Set(was)
		}
	}
	m := &pb.Message{To: 1}
	each(reflect.ValueOf(m).Elem(), "Message", func(name string) {
		got := sent(t, pb.MessageBatch{Requests: []pb.Message{*m}}, "").(pb.MessageBatch).Requests[0]
		if !reflect.DeepEqual(got, *m) {
			t.Errorf("with %s alone: sent\n%+v, got\n%+v", name, *m, got)
		}
	})
}

func drawBatch(t *rapid.T) pb.MessageBatch {
	word := rapid.OneOf(rapid.Uint64(), rapid.Just(uint64(0)), rapid.Uint64Range(0, 300))
	long := rapid.SampledFrom([]int{0, 1, 100, 1 << 10, sharedBytesMax, sharedBytesMax + 1})
	b := pb.MessageBatch{DeploymentId: word.Draw(t, "deployment"), BinVer: rapid.Uint32().Draw(t, "version"),
		SourceAddress: rapid.SampledFrom([]string{"", "a"}).Draw(t, "source"), Requests: []pb.Message{}}
	for range rapid.IntRange(0, 5).Draw(t, "messages") {
		m := pb.Message{Type: pb.MessageType(rapid.Int32().Draw(t, "type")), To: max(1, word.Draw(t, "to")), From: word.Draw(t, "from"),
			ShardID: word.Draw(t, "shard"), Term: word.Draw(t, "term"), LogTerm: word.Draw(t, "log term"), LogIndex: word.Draw(t, "log index"),
			Commit: word.Draw(t, "commit"), Reject: rapid.Bool().Draw(t, "reject"), Hint: word.Draw(t, "hint"), HintHigh: word.Draw(t, "hint high")}
		for range rapid.IntRange(0, 4).Draw(t, "entries") {
			e := pb.Entry{Type: pb.EntryType(rapid.Int32().Draw(t, "entry type")), Term: word.Draw(t, "entry term"), Index: word.Draw(t, "index"),
				Key: word.Draw(t, "key"), ClientID: word.Draw(t, "client"), SeriesID: word.Draw(t, "series"), RespondedTo: word.Draw(t, "responded")}
			if n := long.Draw(t, "length"); n > 0 {
				e.Cmd = bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, n)
			}
			m.Entries = append(m.Entries, e)
		}
		b.Requests = append(b.Requests, m)
	}
	return b
}

// TestRoundTrip sends several batches over one reader and one writer, whose
// scratch memory must not show.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &buffer{}
		w, r := newWriter(c), newReader(c, readBufferBytes)
		var scratch batch
		var all, got []pb.MessageBatch
		for range rapid.IntRange(1, 4).Draw(t, "batches") {
			b := drawBatch(t)
			all = append(all, b)
			if err := w.messages(&b); err != nil {
				t.Fatal(err)
			}
			if err := r.next(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(scratch.decode(r.meta, "a"), scratch.read(r.take)); err != nil {
				t.Fatal(err)
			}
			kept := scratch.MessageBatch
			kept.Requests = append([]pb.Message{}, kept.Requests...) // as raft does
			got = append(got, kept)
			r.done()
			scratch.release()
		}
		if !reflect.DeepEqual(got, all) {
			t.Fatalf("sent\n%+v, got\n%+v", all, got)
		}
	})
}

// TestMemoryOfCommands: what shares memory with a command is bounded, and a write
// behind one, which raft never does, would not reach the next.
func TestMemoryOfCommands(t *testing.T) {
	for _, c := range []struct {
		bytes int
		takes []int
	}{
		{sharedBytesMax, []int{sharedBytesMax}},
		{2 * sharedBytesMax, []int{sharedBytesMax, sharedBytesMax, 0}},
	} {
		all := pb.MessageBatch{Requests: []pb.Message{{To: 1}, {To: 1}, {To: 1}}}
		for i := range 2 {
			all.Requests[i].Entries = []pb.Entry{{Cmd: make([]byte, c.bytes/4)}, {Cmd: make([]byte, c.bytes/4)}}
		}
		meta, err := appendBatch(nil, &all)
		if err != nil {
			t.Fatal(err)
		}
		var b batch
		var takes []int
		take := func(n int) ([]byte, error) {
			takes = append(takes, n)
			return make([]byte, n), nil
		}
		if err := errors.Join(b.decode(meta, ""), b.read(take)); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(takes, c.takes) {
			t.Errorf("commands of %d bytes lie in pieces of %d, want %d", c.bytes, takes, c.takes)
		}
		for _, e := range b.Requests[0].Entries {
			if len(e.Cmd) != c.bytes/4 || cap(e.Cmd) != len(e.Cmd) {
				t.Errorf("a command of %d bytes has %d and room for %d", c.bytes/4, len(e.Cmd), cap(e.Cmd))
			}
		}
		b.release()
		for _, m := range b.Requests[:cap(b.Requests)] {
			if m.Entries != nil {
				t.Error("a connection keeps entries that it has handed over")
			}
		}
	}
}

// TestBadBatches has metas that are whole and wrong.
func TestBadBatches(t *testing.T) {
	good, err := appendBatch(nil, &pb.MessageBatch{SourceAddress: "a", Requests: []pb.Message{
		{To: 1, Snapshot: pb.Snapshot{Index: 1}, Entries: []pb.Entry{{Index: 1, Cmd: []byte("x")}}}, {To: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	const message = batchFixedBytes + 2
	set := func(at int, v uint32) []byte {
		b := bytes.Clone(good)
		binary.LittleEndian.PutUint32(b[at:], v)
		return b
	}
	for name, c := range map[string]struct {
		meta []byte
		want error
	}{
		"empty":            {nil, ErrFrame},
		"no name":          {good[:batchFixedBytes], ErrFrame},
		"many messages":    {set(12, 1<<31), ErrFrame},
		"one more message": {set(12, 3), ErrFrame},
		"one less":         {set(12, 1), ErrFrame},
		"many entries":     {set(16, 1<<31), ErrFrame},
		"one more entry":   {set(16, 2), ErrFrame},
		"no entry":         {set(16, 0), ErrFrame},
		"its entries":      {set(message+77, 1<<30), ErrFrame},
		"to nobody":        {set(message+5, 0), ErrFrame},
		"flags":            {set(message+4, 1<<7|1<<8), ErrFrame},
		"snapshot":         {set(message+81, 1<<20), ErrFrame},
		"bad snapshot":     {set(message+85, 0xffffffff), ErrFrame},
		"behind the end":   {append(bytes.Clone(good), 0), ErrFrame},
		"cut":              {good[:len(good)-1], ErrFrame},
		"another's name":   {set(message-1, 'b'), ErrPeer},
	} {
		var b batch
		if err := b.decode(c.meta, "a"); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	var b batch
	if err := b.decode(good, "a"); err != nil || b.bytes != 1 || len(b.Requests) != 2 {
		t.Errorf("the good one: %v, %+v", err, b)
	}
}
