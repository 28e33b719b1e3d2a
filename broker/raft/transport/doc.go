// Package transport carries Raft's messages and snapshots between nodes: it is
// the transport that dragonboat is given in place of its own.
//
// Owner: a connection belongs to the goroutine that serves it. What is shared is
// the write half (a ping may come between two frames), the budgets and the count
// of connections. The sender's side calls SendMessageBatch of one connection from
// one goroutine; nothing relies on it.
//
// A connection carries frames one way, from who dialed to who accepted. Messages
// and snapshots have their own, so that a chunk never delays a heartbeat. Only
// hellos, pings, the answers to chunks and a reason to close come back.
//
// # A frame, byte by byte
//
// All integers are little endian, all checksums CRC-32C.
//
//	 0  2  magic, "Mr"
//	 2  1  version of the format, 1
//	 3  1  kind: 1 hello, 2 messages, 3 chunk, 4 taken, 5 ping, 6 refused
//	 4  4  m, length of meta
//	 8  4  d, length of data
//	12  4  checksum of meta
//	16  4  checksum of data
//	20  4  checksum of bytes 0 to 19
//	24  m  meta: what the kind says
//	 .  d  data: commands, or a chunk of a snapshot; none in other kinds
//
// hello is the first frame, both ways, and is always of version 1:
//
//	0  1  lowest version the sender speaks
//	1  1  highest
//	2  1  what the connection is for: 1 messages, 2 a snapshot
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
// # Invariants
//
//   - A command is never copied to be sent over plain TCP: it is an element of the
//     one writev of its frame. A received one lies in memory that nobody else
//     writes; it belongs to raft.
//   - Nothing is decoded before its checksum held, nothing allocated from a length
//     before its limit and budget held, and no more than a step ahead of what came.
//   - A connection that broke the format once is closed: there is no way back into
//     step. dragonboat dials again, Raft sends again.
//   - When Close has returned no goroutine of the transport runs.
//
// It never decides where a node lives, never keeps a message for later, never
// retries, and never knows what a command means.
package transport
