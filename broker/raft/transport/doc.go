// Package transport carries Raft's messages and snapshots between nodes: it is
// the transport that dragonboat is given in place of its own. On the same listener
// it carries calls, each a request of one node and the reply of another.
//
// Owner: a connection belongs to the goroutine that serves it. What is shared is
// the write half (a ping may come between two frames), the budgets and the count
// of connections. The sender's side calls SendMessageBatch of one connection from
// one goroutine; nothing relies on it. A connection for calls belongs to one call
// at a time; in between a pool has it, whose mu is held for no more than a look.
//
// A connection carries frames one way, from who dialed to who accepted. Messages,
// snapshots and calls have their own, so that a chunk never delays a heartbeat.
// Only hellos, pings, the answers to chunks and calls, and a reason to close come
// back.
//
// # A frame, byte by byte
//
// All integers are little endian, all checksums CRC-32C.
//
//	 0  2  magic, "Mr"
//	 2  1  version of the format, 1
//	 3  1  kind: 1 hello, 2 messages, 3 chunk, 4 taken, 5 ping, 6 refused, 7 call, 8 result
//	 4  4  m, length of meta
//	 8  4  d, length of data
//	12  4  checksum of meta
//	16  4  checksum of data
//	20  4  checksum of bytes 0 to 19
//	24  m  meta: what the kind says
//	 .  d  data: commands, a chunk of a snapshot, or a body; none in other kinds
//
// hello is the first frame, both ways, and is always of version 1:
//
//	0  1  lowest version the sender speaks
//	1  1  highest
//	2  1  what the connection is for: 1 messages, 2 a snapshot, 3 calls
//	3  1  n, then n bytes: the sender's name
//	.  1  n, then n bytes: the name it expects at the other end; none = any
//
// messages is a raftpb.MessageBatch; data is its commands, in order:
//
//	 0  8  deployment id
//	 8  4  version of dragonboat's messages
//	12  4  number of messages
//	16  4  number of entries in all of them
//	20  1  n, then n bytes: the source, the name that the sender's hello gave
//	 .     the messages
//
// A message:
//
//	 0  4  type
//	 4  1  flags: 1 reject, 2 a snapshot follows
//	 5  8  to, then from, shard, term, log term, log index, commit, hint, hint high: 8 each
//	77  4  number of entries
//	81     if flagged: u32 n, then n bytes, dragonboat's own encoding of its Snapshot
//	 .     the entries, 56 bytes each
//
// An entry:
//
//	 0  4  type
//	 4  8  term, then index, key, client id, series id, responded to: 8 each
//	52  4  length of its command in data
//
// chunk is dragonboat's own encoding of a raftpb.Chunk without its data, and that
// data. It is answered by taken, which is empty, once it is in the receiver's file.
//
// ping is empty. refused is up to 256 bytes of text: why the sender closes.
//
// call is a request; data is its body, of up to 66 MiB:
//
//	0  1  method
//
// result is the reply to the one call that the connection has under way; data is
// its body, of up to 66 MiB, and none with a status but 0:
//
//	0  1  status: 0 done, 1 failed, else a code that the methods give a meaning
//	1     with a status but 0: up to 1 KiB of text
//
// # What a call's end tells
//
// A result tells what the peer did. Where none comes there are two ends. If the
// frame of the call was not written to its end the peer cannot have read it whole:
// the call was not carried out, and the caller may call again. If it was, the call
// is broken: it may have been carried out, may be under way, or never begin, and
// only the method knows whether a second one does harm. Nothing here sends a call
// again but over a kept connection that turned out to be dead before the frame was
// written to its end.
//
// Who waits hears the peer's pings, and gives up on a silent one. Who answers hears
// the caller's: its context ends when the caller is gone or waits no longer, which
// a caller tells by closing the connection.
//
// # Invariants
//
//   - A command is never copied to be sent over plain TCP: it is an element of the
//     one writev of its frame. A received one lies in memory that nobody else
//     writes; it belongs to raft.
//   - Nothing is decoded before its checksum held, nothing allocated from a length
//     before its limit and budget held, and no more than a step ahead of what came.
//   - A connection that broke the format once is closed: there is no way back into
//     step. One for messages is dialed anew, Raft sends again.
//   - When Close has returned no goroutine of the transport runs.
//
// It never decides where a node lives, never keeps a message for later, never
// sends again what a peer may have, and never knows what a command or a call means.
package transport
