// Package coordinator hosts the consumer groups of this node: a loop per led
// partition of __consumer_offsets, each with the group.Group machines whose
// names hash to it.
//
// Owner: a loop owns its groups, timers and open writes; nobody else touches
// them. Service's methods hand the loop an event and wait for the answer, and
// may be called from any goroutine.
//
// Invariants:
//   - What a group answers left only after the write it rests on was
//     acknowledged; records are in Kafka's own formats (see codec.go), so that
//     any tool that reads __consumer_offsets reads ours.
//   - A loop's memory is its partition's log up to the acknowledged writes. When
//     the outcome of a write is unknown, everything in memory is dropped, who
//     waits is told to try again, and the log is read anew, behind a barrier
//     record that proves that nothing older is still on its way.
//   - A partition answers ErrLoading until it has read its log to the end as of
//     its leadership, and ErrNotCoordinator once it has lost it.
//   - Records of one loop enter the log in the order in which its groups asked.
//
// It never looks inside of a client's request, never decides what a group does,
// and never checks whether the topics of committed offsets exist.
package coordinator
