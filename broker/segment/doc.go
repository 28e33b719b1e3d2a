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
// Ownership: a Segment belongs to one loop. A View is a pinned segment as it was
// at one moment, and may be read on any goroutine; it keeps the file from being
// removed until it is released.
//
// Invariants: bytes below Meta.Length never change. Batches ascend; in generation
// 0 each begins where the one before it ends. A batch is served only after both
// checksums and its place were checked; one that fails is named by ErrCorrupt.
//
// The room syncs nothing by itself, knows no producers and no clock.
package segment
