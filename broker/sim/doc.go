// Package sim runs the rooms above raft on three nodes in one process, from a seed:
// partitions on disks in memory that crash, Raft groups that lose, delay and forward
// (raft.FakeNet), calls between nodes that get lost or are done late, time that only the
// simulation moves. Producers, consumers, committed offsets, the members of a group, an async script
// that is deployed, sought, paused and resumed, topics that come and go, and topics that do
// not keep everything (retention.ms, retention.bytes, DeleteRecords, compaction) are the load;
// replicas move meanwhile, a disk loses a partition's files or is lost as a whole, and its
// node comes back with new replicas; a checker that knows all that was acknowledged judges it. It is for tests and imported by
// no other room.
//
// What is gone is judged twice: when a loop finds it due or has cleaned a log, against what
// that replica held just before; and at the end, when all replicas are held against each
// other and against what clients were told.
//
// Owner: a World is driven by one goroutine, which does one thing at a time: an event of
// Raft, a call that arrives, a client's request, a flush, housekeeping of a partition, a
// crash, a moment that passes.
// After each it waits until every goroutine of every room is blocked (Options.Still:
// synctest.Wait), so that rooms run as they do in a broker, their loops and all, and yet
// nothing happens that the seed did not choose.
//
// # What replays
//
// The same seed gives the same trace, event by event, with what each replica was given
// and each client was told. TestReplay holds a few seeds to that, those among them that
// once took either of two ways; TestSoakReplay (of -tags soak) plays as many as one likes,
// and shows the first line that differs. It is not so by construction. What is drawn, and
// not by the seed, are the order of a select's cases, of timers that are due at one moment,
// and of a map; and where the runtime interrupts a goroutine that has run, or that the
// machine has kept from running, for 10 ms: then those that wait go first. Rooms keep to it
// by a few habits:
//
//   - a loop that may find two channels ready, and goes on otherwise by which it takes,
//     looks at them in an order of its own;
//   - goroutines of a node that want the same thing do not wait for the same moment, or it
//     does not matter who is first;
//   - what ends something, as a lost leadership does a fiber, ends it before anybody else
//     hears of it;
//   - nobody takes what is ready "by now" while another goroutine may still add to it.
//
// Between two events several goroutines may run, and the scheduler orders those: what
// they leave behind (proposals, calls) is sorted before the next event is drawn, and tests
// leave it one processor. The driver waits for what it has begun before it goes on.
// Numbers that rooms draw for themselves (tokens, leases, when a flush is due) are left out
// of the trace, and decide nothing here but which of two commands of one node, the same
// otherwise, is first.
//
// # What it leaves out
//
// dragonboat and the journal, whose contract the fake is held to by raft's TestConform;
// fronts and connections; the __scripts topic, scripts with several children, and parents
// that are trimmed, compacted or grow, which pacemaker's own tests play; moves to one replica
// alone; transactions. The controller's group has three votes and three nodes.
package sim
