// Package journal is the Raft log on disk: dragonboat's raftio.ILogDB for all
// partitions of a node, in one sequence of files. What is ready when the device
// falls free shares one write and one sync.
//
// # Files
//
// A file is "<sequence, 16 hex digits>.journal" and has a fixed size. It is written
// full of zeroes, or recycled, before it is used, so that an append changes no
// metadata: with O_DIRECT and O_DSYNC a write is durable when it returns. Where the
// file system has no direct I/O, a write and an fdatasync do. "spare-<n>" are files
// that wait to be used again.
//
// Integers are little endian. Byte 0 of a file begins a page of 4,096 bytes:
//
//	 0  "millrjnl"
//	 8  uint32 version, 1
//	12  uint32 CRC-32C of bytes 16-63, and of this page's version
//	16  uint64 file sequence, from 1
//	24  uint64 session: random, new at every Open
//	32  16 bytes journal id: random, made once
//	48  uint64 file size
//	56  uint64 0
//
// Blocks follow, each on a multiple of 4,096. A block is one write:
//
//	 0  uint32 CRC-32C of bytes 4-63, the table and the names, seeded by the session
//	 4  "mrjb"
//	 8  uint64 file sequence, uint64 block sequence: from 1, without gaps over files
//	24  uint32 position in the file, uint32 body bytes
//	32  uint32 items, uint32 names
//	40  uint32 end of the previous file's blocks, in a file's first block
//	44  uint32 flags: 1 seal
//	48  uint64 session, uint64 0
//	64  body: what the items own
//	..  table: items of 80 bytes
//	..  names: shard and replica of every item of the block before this one
//
// An item is one replica's share of a block:
//
//	 0  uint8 kind, uint8 flags, uint16 turn of the replica's last base, uint32 entries
//	 8  uint64 shard, replica, term, vote, commit
//	48  uint64 first: entries below it are forgotten; uint64 last: of its log
//	64  uint64 turn: counts the replica's items
//	72  uint32 position in the block, uint32 length of its share of the body
//
// Kinds: 1 update; 2 base, which restates bootstrap and snapshot; 3 keep, a base
// behind which nothing older of the replica counts; 4 remove. Flags say which blobs
// precede the entries: 1 bootstrap, 2 snapshot, 4 damage; 8: the snapshot came from
// a peer and replaces the log up to it; 16: the replica has a base, here or before.
//
// A blob is a uint32 checksum, a uint32 length and as many bytes. An entry is 64
// bytes and its command: uint32 checksum, uint32 length of the command, uint64 term,
// index, key, client, series, responded-to, uint32 type, uint32 flags (1: the command
// is nil). Both checksums are CRC-32C of what follows them, xor a number made of
// session and file sequence, so that what a recycled file held is never taken for new.
//
// # What makes it correct
//
//   - One write is under way at a time, so a block that has a successor was durable.
//     A bad block without one is a torn write that nobody was told of, and is
//     dropped; with one it is damage, and named. After a pause, and by Close, a seal
//     is written: an empty block, that the last one has a successor too.
//   - Every Open begins a new file. Where the last one's blocks end stands in the
//     new one's first block: a torn tail stays where it is and is never looked at again.
//   - An item restates its replica's whole hard state and where its log begins and
//     ends, and has a number, so the last item tells whether anything is missing.
//     Which replicas had their last item in an unreadable block, its successor names.
//   - Files are recycled oldest first, once no replica needs anything in them. A
//     replica that is idle is written again (keep); one with a long log is asked for
//     a snapshot (Options.Pinned).
//   - A commit index alone is not worth a sync: it goes with the next item.
//   - A failed write or sync is told to Options.Fatal, once, before anybody else
//     learns of it; nothing is acknowledged afterwards, nothing is tried again.
//
// Ownership: device guards the device and the current file: a caller that finds it free
// writes itself, else the writer goroutine does, with all there is by then. mu guards
// the open batch; a node's mu guards that replica, and is taken before mu. The
// trimmer owns the list of old files.
//
// The room never looks into a command and knows nothing of topics.
package journal
