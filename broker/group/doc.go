// Package group is one classic consumer group as a state machine: members and
// their generations, the offsets the group committed, and when both expire.
//
// Owner: whoever holds a *Group (the coordinator's loop of the partition of
// __consumer_offsets that the group hashes to). A Group has no goroutine, lock,
// clock, randomness or I/O: Step takes an event and the time and gives effects,
// Deadline says when a Tick is due, member ids are chosen by the caller.
//
// Invariants:
//   - Committed offsets in memory are those of the acknowledged writes, in the
//     order of the log: Apply and Step(Written) change them, nothing else does.
//   - Writes are answered in the order in which Step asked for them.
//   - The generation never goes down, and no member learns an assignment before
//     it is in the log.
//   - Every request is answered exactly once, unless the Group is abandoned.
//   - Effects follow from events and times alone: never from map order.
//
// It never decodes a Kafka message and never knows which topics exist.
package group
