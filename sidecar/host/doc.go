// Package host runs guests: it is the only room that knows wasmtime.
//
// An Engine compiles Modules (or takes them from its cache), a Module makes
// Guests, a Guest runs Batches. Two contracts are spoken, "millrace 1"
// (docs/ABI.md) and Redpanda's transform ABI; both answer in output frames of
// package abi. WASI is ours: a few stubs without files, network or clock.
//
// Owner: a Guest belongs to one goroutine at a time. A Module and the Engine may
// be used by all. Invariants: no serialized module is taken from anybody but our
// own cache, and only when its checksum agrees; what a guest answers is checked
// for bounds before a byte of it is read; a Guest that died is only closed. It
// never retries, and knows nothing of topics, scripts or fibers.
package host
