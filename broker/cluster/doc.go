// Package cluster is the cluster as one thing: an immutable snapshot of its
// metadata behind an atomic pointer, who leads each partition, and the
// mutations, each proposed to the controller's shard.
//
// Owner: StateMachine owns the controller's state and publishes a new Metadata
// after each command; its methods are called on one goroutine (raft's apply).
// Everything else is safe from any goroutine.
//
// Invariants: a Metadata and all it points to never change; a mutation that
// returns nil is visible in this node's Metadata; config rows are checked
// before a proposal, never in apply.
//
// It never starts or stops a replica (server reconciles, from Metadata and
// Watch), and never asks another node for anything but a proposal.
package cluster
