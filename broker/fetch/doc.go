// Package fetch is the verb: sessions, isolation, min bytes and max wait, and
// the reads that steer a client (offsets by time, epoch ends).
//
// A fetch asks every core that holds one of its partitions once; what is short
// of the wanted bytes parks a waiter there. The asking goroutine then loads the
// slices: a cold disk stalls a connection, never a core.
//
// Invariants:
//   - Nothing beyond the high watermark is served, and under read_committed
//     nothing beyond the last stable offset.
//   - Every batch's checksum is verified after it was read from a file.
//   - "Latest" passes a read barrier: a leader that was deposed without knowing
//     cannot answer it.
//
// It keeps no partition state and writes nothing.
package fetch
