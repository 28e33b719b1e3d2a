// Package segment keeps one file of record batches and its sparse index.
//
// A segment file, "<base offset, 20 digits>.log", or ".<generation>.log" once it
// was compacted, is (integers of our own little endian):
//
//	 0  "millrseg"
//	 8  uint32 version, 1
//	12  int64  base offset
//	20  uint32 generation: how often it was compacted
//	24  uint32 0
//	28  uint32 CRC-32C of bytes 0-27
//	32  frames
//
// A frame is a uint32 CRC-32C of the batch's first 21 bytes, then the batch. What
// Kafka's own checksum leaves out (base offset, length, leader epoch, magic) is in
// those 21 bytes, so no byte of the file can change unnoticed.
//
// The index file, ".index" instead of ".log", lists every batch that begins an
// interval, with the largest timestamp before it; a checksum covers the file. An
// index is a hint: missing or damaged, it is rebuilt from the frames.
//
// # Memory and file
//
// Files are written and read past the page cache where the file system has direct
// I/O, through it where it has not, by the same code. Append copies to memory and
// nothing else: aligned chunks of at most 1 MiB, of which a View holds what it may
// read. A View's Flush writes what is not written yet, in whole pages and synced steps; the
// page that is not full is padded with zeroes and written again by the next Flush.
// What is written stays in memory until Shrink. So a segment is read from two
// places, memory from some position on and the file before it, and by everyone in
// pieces of both.
//
// A file that grows is longer than its segment: padding, and space set aside. Its
// segment is as long as the checkpoint says, and Open cuts it to that; the Flush
// after Seal gives it its exact length.
//
// Writing the last page again in place is safe: up to the length that was synced the
// old and the new page hold the same bytes, so it does not matter which of its
// sectors a power cut leaves old and which new. What is relied on is that a sector
// is written whole or not, as a file system's own appends do.
//
// Ownership: a Segment belongs to one loop. A View is a pinned segment as it was
// at one moment, and may be read on any goroutine; it keeps the file from being
// removed, and its memory from being used again, until it is released. One Flush of
// a segment runs at a time.
//
// Invariants: bytes below Meta.Length never change, in memory, in the file, and from
// one to the other. What is in memory is the end of the segment without a gap, and
// holds all that is not written. Batches ascend; in generation 0 each begins where
// the one before it ends. A batch is served only after both checksums and its place
// were checked; one that fails is named by ErrCorrupt, and read from the device anew
// by the next who asks.
//
// A segment's file may come from another node, as raw bytes of a View (ReadRaw) into an
// Incoming. Of generation 0 it is the same bytes on every node up to any length: each
// batch begins where the one before it ends, and what batches are is the log's. It is
// a segment once Verify has read all of it.
//
// The room writes and syncs nothing by itself, knows no producers and no clock.
package segment
