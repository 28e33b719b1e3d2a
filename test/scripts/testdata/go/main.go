// Command go is the Go guest of the fault tests. The variable ROLE says what it
// does, VERSION marks what it writes: "VERSION:OFFSET:VALUE" for a record whose
// value is a number. testdata/js does the same, test/transform recomputes it.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	millrace "github.com/millrace-io/millrace/sdk/go"
)

func init() { millrace.Run(transform) }

func main() {}

// kept keeps what the guest that allocates for ever took.
var kept [][]byte

func transform(r *millrace.Record, out *millrace.Writer) error {
	n, err := strconv.ParseUint(string(r.Value), 10, 32)
	if err != nil {
		return err
	}
	h := hash(uint32(n))
	switch role := os.Getenv("ROLE"); role {
	case "pass":
		return out.Pass()
	case "filter":
		if h%1000 == 0 {
			return write(r, out, "", r.Key)
		}
		return nil
	case "fan":
		return fan(r, out, h)
	case "rekey":
		return write(r, out, "", fmt.Appendf(nil, "r%d", h%23))
	case "late":
		if h%400 == 0 {
			forever()
		}
		return write(r, out, "", r.Key)
	case "half": // of the records, for scripts in the path of an append
		if h%2 == 0 {
			return nil
		}
		return out.Pass()
	case "none":
		return nil
	default:
		return bad(role, n, out)
	}
}

func fan(r *millrace.Record, out *millrace.Writer, h uint32) error {
	second := os.Getenv("MILLRACE_OUTPUT_1")
	if err := write(r, out, "", r.Key); err != nil {
		return err
	}
	for range h % 3 {
		if err := write(r, out, second, r.Key); err != nil {
			return err
		}
	}
	return nil
}

// bad does what no guest should, for a record whose number is a multiple of
// 100,000, or for every one.
func bad(role string, n uint64, out *millrace.Writer) error {
	switch {
	case role == "throw" && n%100_000 == 99_999:
		return errors.New("one of 100,000")
	case role == "panic" && n%1000 == 999:
		panic("one of 1,000")
	case role == "loop":
		forever()
	case role == "allocate":
		for {
			kept = append(kept, make([]byte, 1<<20))
		}
	}
	return out.Pass()
}

func forever() {
	for i := 0; ; i++ {
		if i < 0 {
			return
		}
	}
}

func write(r *millrace.Record, out *millrace.Writer, output string, key []byte) error {
	if output != "" {
		out = out.To(output)
	}
	value := fmt.Appendf(nil, "%s:%d:%s", os.Getenv("VERSION"), r.Offset, r.Value)
	return out.Write(millrace.Output{Key: key, Value: value, Headers: r.Headers()})
}

// hash makes choices that are a function of the record.
func hash(n uint32) uint32 { return n * 2654435761 >> 8 }
