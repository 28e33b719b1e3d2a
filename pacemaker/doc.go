// Package pacemaker runs async scripts: a fiber per running script and led
// parent partition reads committed records, has the sidecar transform them and
// appends what comes out to the child partitions.
//
// A fiber keeps no position. Each child partition holds, in its own log, the
// source offset up to which it has taken a parent partition for a script; an
// append names the source offset that it starts from and the one that it ends
// at, and the child takes it only if it stands at the first. So a retry, a
// second fiber during a change of leader, a lost answer and a crash all end in
// the same log: each record's outputs are in each child once, in order.
//
// Owner: Pacemaker owns the set of fibers; a fiber's goroutine owns its state,
// a leg's goroutine (the same one) owns the children's positions while it runs.
//
// Invariants:
//   - from of an append is the child's last to, never a record's offset.
//   - No child takes an activation before all children stand at one offset, if
//     there are several (the barrier), and none advances under an activation
//     before all have taken it.
//   - Where records may fail, one child takes every range before the others: the
//     dead letters, or the first output under the policy skip. Its log has the
//     last word on which records failed.
//   - What one child has taken is never decided again for another: there a
//     record that passed has to pass, one that failed is not run.
//
// It never assigns an offset, never talks to a Kafka client, and never runs a
// guest.
package pacemaker
