// Package rescue decides who goes on with the Raft groups that have lost their majority
// for ever, from what the nodes that are left hold. It is a function of their reports: each
// node decides for itself, and all decide alike.
//
// Invariants:
//   - Of a group one replica goes on at most: the one whose log is the longest by Raft's
//     measure, so that it has whatever anybody who is left knows to be decided.
//   - A group that has a majority without the lost nodes is left alone.
//   - Nothing is decided while a node that is not given up has not reported.
//
// It never touches a log: raft.StoppedLog does, and server has them meet.
package rescue
