// Package kafka is the Kafka front: connections, frames, dispatch, and one file
// per API key. It knows the protocol and keeps nothing that outlives a connection.
//
// A connection has two goroutines. The reader takes frames off the wire, decodes
// and dispatches them in order; a produce is started and its answer queued, all
// else is answered before the next frame is read. The writer sends the queued
// answers in the order of their requests.
//
// Owner: a conn belongs to its reader, what the queue carries to its writer.
// Invariants:
//   - Nothing is allocated from a length that a stranger sent: frames grow as
//     bytes arrive, and a message's arrays are measured before it is decoded.
//   - Bytes of requests and answers in flight stay within the node's budgets; a
//     slow or huge peer waits, or is dropped, and the others do not notice.
//   - Answers leave in the order of the requests. No produce is answered with
//     UNKNOWN_SERVER_ERROR, since clients would send it again.
//   - Errors of the rooms below become Kafka's codes in code.go and nowhere else.
//
// It never keeps state of topics, groups or producers, and never logs per request.
package kafka
