// Package cluster holds the tests of several brokers as processes: how they form a
// cluster, and what is left when faults strike them. What each test writes is
// numbered, so that the judge knows every acknowledged record: one that is lost, twice,
// or out of its place ends the test.
//
// A fault strikes a scene, three brokers under a load (load_test.go), by what fault_test.go
// lists: processes, disks, clocks and networks. TestFaults has each strike once; the soak
// (build tag soak, `make soak`) has them strike for as long as one likes, drawn by a seed,
// while the partitions of another topic move. MILLRACE_SOAK says for how long (ten
// minutes if unset), MILLRACE_SEED which history, MILLRACE_FAULT what alone strikes,
// MILLRACE_GAPS what promises of time are multiplied by: 0 where the machine does other
// things at the same time. With -artifacts data directories and brokers' logs are kept.
package cluster
