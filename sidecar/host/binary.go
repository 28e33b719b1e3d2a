package host

import (
	"bytes"
	"encoding/binary"
)

var wasmHead = []byte("\x00asm\x01\x00\x00\x00")

// checkBinary refuses all that is not a core WebAssembly module, an engine's
// serialized form above all.
func checkBinary(wasm []byte) error {
	switch {
	case len(wasm) < len(wasmHead) || !bytes.Equal(wasm[:4], wasmHead[:4]):
		return refuse("it is not WebAssembly (it does not begin with \\0asm)")
	case bytes.Equal(wasm[4:8], []byte{0x0d, 0, 1, 0}):
		return refuse("it is a WebAssembly component; build a core module (for Go GOOS=wasip1, for Rust wasm32-wasip1)")
	case !bytes.Equal(wasm[:8], wasmHead):
		return refuse("it is WebAssembly of version %d, only 1 is known", binary.LittleEndian.Uint32(wasm[4:]))
	}
	return nil
}

// customSections returns the contents of the custom sections with that name, as
// slices of wasm.
func customSections(wasm []byte, name string) ([][]byte, error) {
	var found [][]byte
	for rest := wasm[len(wasmHead):]; len(rest) > 0; {
		id := rest[0]
		size, n := binary.Uvarint(rest[1:])
		if n <= 0 || n > 5 || size > uint64(len(rest)-1-n) {
			return nil, refuse("its sections are damaged")
		}
		body := rest[1+n : 1+n+int(size)]
		rest = rest[1+n+int(size):]
		if id != 0 {
			continue
		}
		length, n := binary.Uvarint(body)
		if n <= 0 || length > uint64(len(body)-n) {
			return nil, refuse("the name of a custom section is damaged")
		}
		if string(body[n:n+int(length)]) == name {
			found = append(found, body[n+int(length):])
		}
	}
	return found, nil
}
