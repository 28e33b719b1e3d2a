// Package millrace is the guest library for transforms written in Go: a function from a record to any number of records, run by
// Millrace beside the broker.
//
//	package main
//
//	import millrace "github.com/millrace-io/millrace/sdk/go"
//
//	func init() { millrace.Run(transform) }
//
//	func main() {}
//
//	func transform(r *millrace.Record, out *millrace.Writer) error {
//		if !bytes.Contains(r.Value, []byte("urgent")) {
//			return nil // dropped
//		}
//		return out.Pass()
//	}
//
// Build it with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o transform.wasm .
//
// A transform must be a function of its record and the environment. Records of one partition arrive in order, but batches may be cut
// anywhere and may meet several instances: variables outside of the function are a cache, never state. Time is the record's, random
// numbers come from Rand; there are no files and no network.
//
// On any other GOOS the package compiles without its exports, so that transforms are tested by `go test` with Try.
package millrace
