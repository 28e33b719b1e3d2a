// Package produce is the verb: check -> sync transform -> propose -> offset.
//
// A partition that is being written to has a lane: one goroutine that takes what
// has queued up, runs the topic's sync scripts, proposes it as one command, and
// hands each asker its outcome. Order within a partition is the order of Start.
//
// Invariants:
//   - A batch is proposed at most once. What happened to a proposal that timed
//     out is unknown, and ErrTimedOut says so; nothing here tries again.
//   - What follows a refused batch of an idempotent producer is refused too, until
//     that one has come again: see gaps.
//   - Only apply judges sequences: up to five batches of a producer are in flight.
//   - Nothing is proposed under an epoch that this node does not serve under, nor under
//     another than the one that it was taken under.
//
// It keeps no state of a partition and never reads its log.
package produce
