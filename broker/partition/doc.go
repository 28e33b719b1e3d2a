// Package partition is the log of one partition as a state machine: entries of its
// raft log go in by Apply, segments of record batches and what is known of
// producers, transactions, sources and epochs come out.
//
// Owner: one loop (broker/core). Nothing here starts a goroutine, takes a lock,
// reads a clock or the network; the disk is reached through disk.FS alone. What
// may run elsewhere says so: ReadAnswer.Load, TimeFinder.Run, FlushJob.Run and
// CompactJob.Run and Export work on pinned views that nobody changes.
//
// # Durability
//
// Apply appends to memory; the raft log keeps every entry until a checkpoint covers
// it. A flush writes and syncs the segments, then replaces the checkpoint: raft index,
// log end, every segment's length. Readers are given what is not written from
// memory, and of what is written as much as the owner leaves there (CacheShrink).
// Open takes the newest checkpoint, cuts the last
// segment to it, removes files that it does not list, and gives its raft index;
// raft replays the rest. Trim and compaction drop files only once a checkpoint
// without them is on disk.
//
// # Files, in the partition's directory
//
//	checkpoint.0, checkpoint.1   two copies of the same (integers little endian):
//	                             "millrchk", uint32 version 4, uint32
//	                             length, body (checkpoint.go), uint32 CRC-32C of all before it
//	<base>[.<generation>].log    see package segment
//	<base>[.<generation>].index
//	*.new                        not finished; removed by Open
//
// # From another node
//
// An Export is a partition as of one entry: its checkpoint, which is the manifest of
// its segments, and their bytes. A Stage collects them beside the partition's own
// directory, in <directory>.pull, checks every batch, and makes them a partition whose
// checkpoint says that it was installed at that entry. Swap renames the old directory
// to <directory>.old and the new one in its place; a power cut between leaves the old
// one to Open. Replicas may cut the log into segments differently, but a segment of
// generation 0 is a function of the log, its first offset and its length: such files
// are kept, or shared with the partition's own, whoever gave the rest.
//
// # Invariants
//
//   - Apply is a function of the entries alone. Config decides where segments end
//     and which superseded records are gone, never an outcome.
//   - An entry's Cmd is never written to: a batch's header is copied to be numbered.
//   - The high watermark is the log end: what is applied is committed.
//   - A source moves by compare-and-set only, in the entry that appends its batches.
//   - An offset, once given, names the same record for ever.
//   - Stored bytes are checked before they are served; damage is named by ErrCorrupt
//     and does not keep other ranges from being served.
package partition
