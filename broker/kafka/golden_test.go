package kafka

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func sprint(v any) string { return fmt.Sprint(v) }

// bytesOf reads hexadecimal with comments: "0003 # key".
func bytesOf(t *testing.T, text string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func framed(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// TestOldClients speaks the low versions byte by byte, as old libraries do,
// with nothing of the codec that the server uses.
func TestOldClients(t *testing.T) {
	n := newFakeNode(t, nil)
	n.topic(t, "a", 1)
	_, port := splitPort(t, n.addr)
	batch := batchOf([]byte("hello"))
	cases := []struct{ name, ask, want string }{
		{"ApiVersions v0 without client id", `
			0012 0000 00000001 ffff`, ""},
		{"Metadata v1 of one topic", `
			0003 0001 00000002 0004 74657374   # key, version, correlation, client id
			00000001 0001 61                   # topics`, `
			00000002
			00000001 00000000 0009 3132372e302e302e31 ` + fmt.Sprintf("%08x", port) + ` ffff # brokers
			00000000                           # controller
			00000001 0000 0001 61 00           # topic
			00000001 0000 00000000 00000000 00000001 00000000 00000001 00000000`},
		{"Metadata v0 of all topics", `
			0003 0000 00000003 0004 74657374
			00000000`, `
			00000003
			00000001 00000000 0009 3132372e302e302e31 ` + fmt.Sprintf("%08x", port) + `
			00000001 0000 0001 61
			00000001 0000 00000000 00000000 00000001 00000000 00000001 00000000`},
		{"Produce v3", `
			0000 0003 00000004 0004 74657374
			ffff ffff 000003e8                 # no transaction, acks all, timeout
			00000001 0001 61 00000001 00000000 ` + fmt.Sprintf("%08x", len(batch)) + hex.EncodeToString(batch), `
			00000004
			00000001 0001 61 00000001 00000000 0000 0000000000000000 ffffffffffffffff
			00000000`},
		{"Produce v2 has old records", `
			0000 0002 00000005 0004 74657374
			ffff 000003e8
			00000001 0001 61 00000001 00000000 00000000`, `
			00000005
			00000001 0001 61 00000001 00000000 0023 ffffffffffffffff ffffffffffffffff
			00000000`},
		{"ListOffsets v1", `
			0002 0001 00000006 0004 74657374
			ffffffff 00000001 0001 61 00000001 00000000 ffffffffffffffff`, `
			00000006
			00000001 0001 61 00000001 00000000 0000 ffffffffffffffff 0000000000000001`},
		{"Fetch v4", `
			0001 0004 00000007 0004 74657374
			ffffffff 00000000 00000001 00100000 00
			00000001 0001 61 00000001 00000000 0000000000000000 00100000`, `
			00000007
			00000000 00000001 0001 61 00000001
			00000000 0000 0000000000000001 0000000000000001 ffffffff
			` + fmt.Sprintf("%08x", len(batch)) + hex.EncodeToString(batch)},
		{"InitProducerId v0", `
			0016 0000 00000008 0004 74657374
			ffff 00000000`, ""},
	}
	w := dialWire(t, n.addr)
	for _, c := range cases {
		w.write(framed(bytesOf(t, c.ask)))
		correlation, rest := w.frame()
		got := append(binary.BigEndian.AppendUint32(nil, uint32(correlation)), rest...)
		if c.want == "" {
			continue // its content is tested elsewhere: here it only has to be answered
		}
		if want := bytesOf(t, c.want); !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %x\nwant %x", c.name, got, want)
		}
	}
}
