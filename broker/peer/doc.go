// Package peer gives the doors of scripts' rooms for any partition: by the verbs
// of this node where it serves the partition, else by a call to the node that
// leads it. It also asks other nodes how scripts stand there.
//
// Service is package script's Log and Nodes, and the pacemaker's Children. Its Answer
// is the other end: it asks this node's own verbs, and never passes a call on, so that
// two nodes that take each other for the leader answer, and do not turn in
// circles. Nothing is tried twice here: callers have their own ways to wait.
//
// # What errors mean
//
// An error of the other node's verb comes back as one that errors.Is finds the
// same sentinels in: codes.go lists those that travel. Any other error is a text.
//
//   - A peer that refuses a call has done nothing: that is produce's and fetch's
//     ErrNotLeader, and another try is right.
//   - A call without an answer, or with one that cannot be read, may have been
//     executed, may yet be, or may not: a write's outcome is then unknown,
//     produce.ErrTimedOut; a read is ErrNotLeader, asked again at no cost.
//   - ErrUnknownPartition says that the cluster has no such partition, never only
//     that a node has none of its replicas: that is ErrNotLeader. Who is told that
//     a child is gone goes on without it.
//
// Exactly once does not rest on any of this. It rests on the compare-and-set in
// the child: an append whose answer was lost, and one that arrives long after,
// find the child at their From or change nothing.
//
// # Wire
//
// A call is one body, and so is its answer:
//
//	u8   version, 1
//	u8   verb: 1 append, 2 read, 3 offset, 4 activate, 5 source, 6 append source,
//	     7 report, 8 lines; with the highest bit set in the answer. A verb that is
//	     not known is refused
//	u32  length of the header, little endian
//	     the header: JSON, of ask or reply in wire.go; a field that is not known
//	     there is damage: a new one needs a new version, or comes with a new verb
//	     record batches, back to back; the header has the length of each
//
// A body holds at most Options.BodyBytesMax. Nothing is allocated for a length
// that the body does not hold.
//
// # Owner
//
// Service has no state. It writes and reads no log itself, knows no node's
// address, and never decides who leads.
package peer
