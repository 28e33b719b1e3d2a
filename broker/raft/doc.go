// Package raft is the only room that knows dragonboat. It owns the NodeHost:
// it starts and stops the replicas of this node, proposes commands, hands
// applied entries up to a StateMachine and reports who leads. It also carries
// calls from node to node, whose methods rooms above give a meaning.
//
// Invariants:
//   - A replica's StateMachine is called by one goroutine at a time, in log
//     order, and never before its Open.
//   - A proposal's outcome is one of three: applied, dropped (surely not in the
//     log), unknown (it may be, or come to be). Nothing here proposes twice.
//   - A replica that lacks what the log has forgotten is sent a note, not files: its
//     StateMachine takes them from a peer while the library waits.
//   - No StateMachine returns an error for what can be handled: dragonboat ends
//     the process on any.
//
// It never looks into a command and never decides what a leader may serve.
package raft
