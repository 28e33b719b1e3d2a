// Package snapshot rewrites WebAssembly modules so that a script and the engine become one module: WithScript adds the script as a
// custom section, Rewrite replaces the engine's initial memory by one in which the script is loaded already (docs/ABI.md section 7).
//
// Owner: nobody; all is functions from bytes to bytes. Invariants: the output depends on the arguments alone; no code, type, import or
// table is touched. It never runs a module: who has an engine instantiates it, calls millrace_snapshot, and brings the memory here.
package snapshot
