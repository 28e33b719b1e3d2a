// Package block keeps pieces of files in memory: aligned buffers outside the Go
// heap, and a bounded cache of blocks that were read past the file system's own.
//
// Whoever reads and writes directly has no page cache beneath: what is appended
// waits in Buffers until it is written, and what several readers want again is
// kept by Cache. Both count towards --memory, and neither is garbage: a gibibyte
// of them does not let the Go heap grow to five.
//
// Owner: the server makes one Memory and one Cache for all partitions; both may be
// used from any goroutine. A Buffer belongs to whoever holds it, and goes back with
// the last Release.
//
// Invariants:
//   - Nobody writes to a part of a Buffer that somebody else can read.
//   - A block is read once for all who ask for it at the same time, and never twice
//     at once.
//   - Cache holds at most its bound, blocks that are being read or were not yet
//     released excepted.
//
// It knows no format, checks no content and never writes.
package block
