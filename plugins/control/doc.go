// Package control is the plugin kind that governs a sidecar: version, load,
// unload, check, inspect, health and logs.
//
// The door is Control. Client speaks it over gRPC, Serve answers it, and Fake
// plays a sidecar in memory. Owner: whoever holds the Control; its methods may
// be called from any goroutine. Invariants: a session is opened by Hello before
// anything else; a sidecar serves one node; a module reaches an engine only as
// WebAssembly, never in an engine's serialized form. This package never runs a
// guest and never touches records: those are the kinds sync and async.
package control
