// Package abi is the guest contract "millrace 1" in words and constants: it encodes the input frames that the host gives to a
// guest, and checks and decodes the output and error frames that a guest answers.
//
// The layout is docs/ABI.md, byte by byte. The vectors in testdata/vectors are run here, by sdk/go and by sdk/js: a change of
// the layout that one side does not follow fails a test.
//
// Owner: nobody; all is values and functions without state. Invariants: whatever bytes a guest answers, decoding neither
// panics nor allocates in proportion to a length the guest wrote, and an Entry that DecodeOutput returned needs no further
// check of bounds. It never imports an engine, and never retains a frame: decoded keys, values and headers alias it.
package abi
