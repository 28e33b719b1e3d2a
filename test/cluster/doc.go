// Package cluster holds the tests of several brokers as processes: how they form a
// cluster, and what is left when some of them are killed. What each test writes is
// numbered, so that the judge knows every acknowledged record: one that is lost, twice,
// or out of its place ends the test.
package cluster
