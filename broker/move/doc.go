// Package move moves partitions: it makes their Raft groups what the controller's moves
// want, and says which replica of each a node is to run meanwhile. A Keeper does the same for
// the controller's own group, which follows the nodes.
//
// A move is a sequence of steps of the partition's leader, each of which follows from the
// move and from who is in the group now: strangers go, learners come, catch up and vote,
// those who leave go one by one, the group is settled, and the controller is told. Whoever
// leads next goes on from there.
//
// Owner: a Mover is its Run's; what its moves wait for is behind a lock. Seats are behind
// one too, and any goroutine may ask.
//
// # Invariants
//
//   - Members are asked before metadata: a stranger is one then, and never comes again.
//   - No learner votes before all who come have what the leader had a moment ago, and no
//     voter goes before a majority of those who are left has it. Nor are they the
//     partition's, those of before no more, before a majority of them has.
//   - A node has one replica in a group. The older one goes first.
//   - A replica that the metadata does not name runs until it is surely out.
//   - With one order of events there is one order of steps: ties go by partition.
//
// It starts no replica, touches no disk and calls no node itself: see Options and Replica.
package move
