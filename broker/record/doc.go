// Package record reads and writes Kafka's record batches, format version 2.
//
// A Batch is a view over bytes that somebody else owns; reading one allocates
// nothing per record. The layout (big endian, as on the wire):
//
//	 0  int64  base offset            outside the checksum
//	 8  int32  length of what follows
//	12  int32  leader epoch           outside the checksum
//	16  int8   magic, 2
//	17  uint32 CRC-32C of everything from 21 on
//	21  int16  attributes             codec 0-2, log append time 3, transactional 4, control 5, delete horizon 6
//	23  int32  last offset delta
//	27  int64  base timestamp         milliseconds
//	35  int64  max timestamp
//	43  int64  producer id            -1 none
//	51  int16  producer epoch
//	53  int32  base sequence
//	57  int32  record count
//	61         records, compressed as a whole by the codec
//
// Invariants: bytes behind offset 21 of a batch never change once its checksum
// is set, so those who number a batch copy its header (WithOffset) and share the
// rest. Every length that comes from outside is compared with the bytes that are
// there before anything is allocated, and inflation has a limit.
//
// The room never numbers batches, keeps none, and knows no topic.
package record
