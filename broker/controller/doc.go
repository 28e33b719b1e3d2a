// Package controller is the state machine of everything cluster-wide: nodes,
// topics and their placement, config overrides, scripts and their activations,
// and the counters that ids come from.
//
// It is pure: Step(command) -> result. No goroutine, lock, clock, randomness or
// network; what depends on those (topic ids, times, the choice of start
// offsets) is decided by the proposer and travels in the command.
//
// Owner: whoever calls Step; broker/cluster does, on one goroutine per node.
// Invariants:
//   - The same commands give the same state, byte for byte (Snapshot).
//   - A command that is refused changes nothing.
//   - Records handed out (*Topic, *Script, *Node) are never changed: a change
//     replaces the record. They may cross goroutines.
//   - Ids (shards, producers, scripts, activations) only grow.
//
// It never validates against tables that differ between versions (config rows):
// that is the proposer's part, or an upgrade would split the replicas.
package controller
