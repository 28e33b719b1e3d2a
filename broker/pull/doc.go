// Package pull takes a partition from another node, as files, and gives it: what a
// replica does that lacks what raft's log has forgotten.
//
// Raft tells such a replica a note: which node has made it, and the raft index that
// its partition had reached. The replica asks that node, or any other, for a lease: an
// Export pinned as of a later entry. It takes the manifest and the segments' files in
// pieces, checks every batch, and puts them in the place of its own.
//
// Owner: a Giver's leases are behind its lock, one goroutine at a time reads from a
// lease. A Taker's pulls share a pace and seats and nothing else; a pull belongs to the
// goroutine that called Recover.
//
// # Invariants
//
//   - Recover ends only by success or when it is stopped.
//   - Nothing comes to a partition that was not read back from its file and checked,
//     batch by batch, against the manifest.
//   - A file is kept from one lease to the next only if it must be the same: one of
//     generation 0, or one from the same node and boot. It is verified anew.
//   - A lease that nobody uses ends by itself: a node that died does not keep files. One that
//     brings nothing but errors for 0.3 s is given back, and another node asked.
//
// # Bodies
//
// Integers are little endian. A note is
//
//	0  uint8  version, 1
//	1  int32  node that has made it
//	5  uint64 shard
//	13 uint64 raft index
//
// and the calls are
//
//	lease    asks    uint64 shard, uint64 raft index at least
//	         answers uint64 lease, uint64 boot, uint64 raft index, uint64 manifest's length
//	piece    asks    uint64 lease, uint32 segment or 2^32-1 for the manifest, uint64 position, uint32 length
//	         answers bytes, fewer only at the end
//	release  asks    uint64 lease
//	         answers nothing
//
// A manifest is a checkpoint of package partition. What is refused has a code.
//
// It does not know who should have a partition, and looks into no batch.
package pull
