// Package core is one event loop per core, and the partitions each owns.
//
// A Core owns every partition whose shard id modulo the number of cores is its
// own: nobody else touches a partition.Partition after Open. Others talk to it
// by events (apply, read, query, leader), each a value that its sender no longer
// changes; the loop answers on a channel that came with the event.
//
// Invariants:
//   - Entries of a shard are applied in log order, and their outcomes are handed
//     to the proposer before Apply returns to raft.
//   - A leader serves nothing before its own lead{epoch} was applied here.
//   - Nothing on a loop waits for the disk: flushes run as jobs on goroutines of
//     their own, compactions on another, reads of cold files by who asked.
//   - What is not written yet has a budget (Options.WriteBytes). Beyond it an Apply is
//     done and visible, but answered only when a flush has made room: raft's log
//     keeps the rest, and its proposers wait.
//   - A failed write or sync stops the node (Options.Fatal); nothing is retried,
//     and nobody who waits for the partition is told that all is well.
//   - A partition whose files are replaced leaves its loop meanwhile; its Handle stays,
//     and what raft tells it is made up for when it is back.
//   - Whoever waits for a loop also waits for its end: no reply is owed then.
//
// It never decodes a Kafka request and never proposes a client's batch.
package core
