// Command guest is what the engine's tests run: DO in its environment says what
// it does to a record, or the record's own key does.
package main

import (
	"bytes"
	"fmt"
	"os"

	millrace "github.com/millrace-io/millrace/sdk/go"
)

func init() {
	if os.Getenv("DO") == "dontstart" {
		panic("told not to start")
	}
	millrace.Run(transform)
}

func main() {}

var (
	kept [][]byte
	seen int
)

func transform(r *millrace.Record, out *millrace.Writer) error {
	switch do := os.Getenv("DO"); do {
	case "mixed":
		return mixed(r, out)
	case "random":
		return out.Write(millrace.Output{Key: r.Key, Value: fmt.Appendf(nil, "%d", millrace.Rand(r).Uint64())})
	case "log":
		millrace.Log(millrace.Warn, "saw %s", r.Value)
		return nil
	case "state":
		seen++
		return out.WriteValue(fmt.Appendf(nil, "%d", seen))
	case "filter":
		if !bytes.Contains(r.Value, []byte("urgent")) {
			return nil
		}
		return out.Pass()
	case "json":
		var v map[string]any
		if err := r.JSON(&v); err != nil {
			return err
		}
		v["email"] = "***"
		return out.WriteJSON(v)
	case "keep":
		return out.Pass()
	default:
		if string(r.Key) == "bad" {
			return bad(do, out)
		}
		return out.Pass()
	}
}

func mixed(r *millrace.Record, out *millrace.Writer) error {
	switch string(r.Key) {
	case "drop":
		return nil
	case "both":
		if err := out.Pass(); err != nil {
			return err
		}
		return out.To("two").Pass()
	case "twice":
		if err := out.Pass(); err != nil {
			return err
		}
		return out.Pass()
	case "change":
		return out.WriteValue(append(r.Value, '!'))
	case "rekey":
		return out.Write(millrace.Output{Key: []byte("other"), Value: r.Value})
	case "hint":
		return out.Partition(3).Pass()
	}
	return out.Pass()
}

func bad(do string, out *millrace.Writer) error {
	switch do {
	case "panic":
		panic("told to panic")
	case "exit":
		os.Exit(3)
	case "loop":
		for {
		}
	case "grow":
		for {
			kept = append(kept, make([]byte, 1<<20))
		}
	case "badhint":
		return out.Partition(99).Pass()
	}
	return fmt.Errorf("told to fail")
}
