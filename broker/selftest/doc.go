// Package selftest measures what a node's disk and its network to others can do, for who
// asks why a cluster is slow: raw writes and reads beside the node's own, and calls that
// carry nothing.
//
// Owner: a Runner has at most one run; its goroutine is the server's, its status behind
// its lock.
//
// # Invariants
//
//   - A run ends by itself: each test has a duration, at most DurationMax.
//   - It writes to one scratch file of at most ScratchBytesMax, which it removes, also
//     after a failure; one that a crash left goes when the Runner is made. It does not
//     begin where the disk has no room for it.
//   - It measures what clients wait for, and disturbs it meanwhile.
//
// # Bodies of calls
//
// The first byte says what is asked: 1 start, then an api.SelfTestRun in JSON; 2 status,
// answered by an api.SelfTestNode in JSON; 3 stop; 4 carry: u32, little endian, how many bytes
// the answer shall have, at most CarryBytesMax, then as many of no meaning as the caller
// likes.
package selftest
