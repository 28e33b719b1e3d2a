// Package engine holds what a sidecar runs: the session of its broker, the
// scripts that were loaded, their instances, and the fibers that are open. It
// implements the three kinds of package plugins on top of package host.
//
// Owner: an instance belongs to the goroutine that borrowed it from its
// script's pool (or to its fiber, for guests of Redpanda's ABI, which block a
// thread) and goes back when its batch is done; one that died is closed, never
// pooled. A script's counters are atomic; its pool, the session's tables and the
// memory account have a lock each, held over no call of a guest.
//
// Invariants: what a guest answers reaches a batch only through abi's checks;
// outputs keep the order of their sources; a record that fails is found by
// splitting its batch and leaves nothing behind; guests' memory stays below the
// limit, or the newest fiber is parked with a reason. It keeps no position and
// no record beyond a call.
package engine
