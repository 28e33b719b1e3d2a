package snapshot

import (
	"bytes"
	"errors"
	"testing"
)

// build makes a small module by hand: a memory of 1 page, one constant and one mutable global, a start function, exports and data.
func build(edit func(list []section) []section) []byte {
	exports := []byte{4}
	exports = append(appendName(exports, "memory"), 2, 0)
	exports = append(appendName(exports, "sp"), 3, 1)
	exports = append(appendName(exports, "_initialize"), 0, 0)
	exports = append(appendName(exports, "millrace_abi"), 0, 0)
	list := []section{
		{1, []byte{1, 0x60, 0, 0}},          // type () -> ()
		{3, []byte{1, 0}},                   // one function
		{sectionMemory, []byte{1, 1, 1, 4}}, // 1 to 4 pages
		{sectionGlobal, []byte{2, typeI32, 0, opI32, 7, opEnd, typeI32, 1, opI32, 8, opEnd}},
		{sectionExport, exports},
		{sectionStart, []byte{0}},
		{10, []byte{1, 2, 0, opEnd}}, // code
		{sectionData, []byte{1, 0, opI32, 16, opEnd, 3, 'o', 'l', 'd'}},
		{sectionCustom, append(appendName(nil, "note"), "kept"...)},
	}
	if edit != nil {
		list = edit(list)
	}
	return join(list)
}

func sectionsOf(t *testing.T, module []byte) map[byte][]byte {
	t.Helper()
	list, err := split(module)
	if err != nil {
		t.Fatal(err)
	}
	found := map[byte][]byte{}
	for _, s := range list {
		found[s.id] = s.body
	}
	return found
}

func TestRewrite(t *testing.T) {
	memory := make([]byte, 2*pageBytes)
	copy(memory[100:], "first")
	copy(memory[100+5+gapBytesMin-1:], "near") // one zero too few for a new segment
	copy(memory[70000:], "far")
	out, err := Rewrite(build(nil), memory, map[string]Global{"sp": 0xFFFFFFF0})
	if err != nil {
		t.Fatal(err)
	}
	got := sectionsOf(t, out)
	if want := []byte{1, 1, 2, 4}; !bytes.Equal(got[sectionMemory], want) {
		t.Errorf("memory % x, want % x", got[sectionMemory], want)
	}
	if want := []byte{2, typeI32, 0, opI32, 7, opEnd, typeI32, 1, opI32, 0x70, opEnd}; !bytes.Equal(got[sectionGlobal], want) {
		t.Errorf("globals % x, want % x", got[sectionGlobal], want)
	}
	if _, there := got[sectionStart]; there {
		t.Error("the start function is still there")
	}
	if exports := got[sectionExport]; exports[0] != 3 || bytes.Contains(exports, []byte("_initialize")) || !bytes.Contains(exports, []byte("millrace_abi")) {
		t.Errorf("exports %q", exports)
	}
	if string(got[sectionCustom][5:]) != "kept" {
		t.Error("a custom section is gone")
	}
	image := instantiate(t, got[sectionData], len(memory))
	if !bytes.Equal(image, memory) {
		t.Error("the data segments do not give the dump")
	}
	if got[sectionData][0] != 2 {
		t.Errorf("%d segments, want 2", got[sectionData][0])
	}
	again, _ := Rewrite(build(nil), memory, map[string]Global{"sp": 0xFFFFFFF0})
	if !bytes.Equal(out, again) {
		t.Error("two runs, two modules")
	}
}

// instantiate does what an engine does with data segments.
func instantiate(t *testing.T, body []byte, size int) []byte {
	t.Helper()
	memory := make([]byte, size)
	r := reader{rest: body}
	for range r.count() {
		if r.u32() != 0 || r.byte() != opI32 {
			t.Fatal("not an active segment")
		}
		var at int64
		for shift := 0; ; shift += 7 {
			b := r.byte()
			at |= int64(b&0x7F) << shift
			if b < 0x80 {
				if b&0x40 != 0 {
					at |= -1 << (shift + 7)
				}
				break
			}
		}
		if r.byte() != opEnd {
			t.Fatal("no end of the place")
		}
		copy(memory[uint32(at):], r.take(r.u32()))
	}
	if r.err != nil {
		t.Fatal(r.err)
	}
	return memory
}

func TestRewriteRefuses(t *testing.T) {
	page := make([]byte, pageBytes)
	sp := map[string]Global{"sp": 1}
	replace := func(id byte, body ...byte) func([]section) []section {
		return func(list []section) []section {
			for i := range list {
				if list[i].id == id {
					list[i].body = body
				}
			}
			return list
		}
	}
	for name, c := range map[string]struct {
		module  []byte
		memory  []byte
		globals map[string]Global
		want    error
	}{
		"not a module":           {[]byte("hello"), page, sp, ErrModule},
		"cut":                    {build(nil)[:40], page, sp, ErrModule},
		"half a page":            {build(nil), page[:100], sp, ErrMemory},
		"too few pages":          {build(nil), nil, sp, ErrMemory},
		"too many pages":         {build(nil), make([]byte, 5*pageBytes), sp, ErrMemory},
		"no value for a global":  {build(nil), page, nil, ErrGlobal},
		"global not exported":    {build(replace(sectionExport, 0)), page, sp, ErrGlobal},
		"passive data":           {build(replace(sectionData, 1, 1, 1, 'x')), page, sp, ErrPassive},
		"imported memory":        {build(func(l []section) []section { return append([]section{{sectionImport, []byte{1, 0, 0, 2, 0, 1}}}, l...) }), page, sp, ErrModule},
		"two memories":           {build(replace(sectionMemory, 2, 0, 1, 0, 1)), page, sp, ErrModule},
		"no memory":              {build(func(l []section) []section { return append(l[:2:2], l[3:]...) }), page, sp, ErrModule},
		"globals cut":            {build(replace(sectionGlobal, 2, typeI32, 1, opI32)), page, sp, ErrModule},
		"count of 4 GiB globals": {build(replace(sectionGlobal, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F)), page, sp, ErrModule},
	} {
		if _, err := Rewrite(c.module, c.memory, c.globals); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestScript(t *testing.T) {
	module := build(nil)
	if _, found, err := Script(module); found || err != nil {
		t.Errorf("a script in a module without one: %v", err)
	}
	for _, code := range []string{"first", "", "second"} { // each replaces the one before
		var err error
		if module, err = WithScript(module, []byte(code)); err != nil {
			t.Fatal(err)
		}
		got, found, err := Script(module)
		if string(got) != code || !found || err != nil {
			t.Errorf("got %q %v %v, want %q", got, found, err, code)
		}
	}
	list, _ := split(module)
	twice := join(append(list, list[len(list)-1]))
	if _, _, err := Script(twice); !errors.Is(err, ErrScripts) {
		t.Errorf("two scripts: %v", err)
	}
}

func FuzzRewrite(f *testing.F) {
	f.Add(build(nil))
	f.Fuzz(func(t *testing.T, module []byte) {
		_, _, _ = Script(module)
		if out, err := Rewrite(module, make([]byte, pageBytes), map[string]Global{"sp": 1}); err == nil {
			if _, err := split(out); err != nil {
				t.Fatal(err)
			}
		}
	})
}
