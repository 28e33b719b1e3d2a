// Package transform tests async and sync scripts on whole brokers that are
// killed: real processes, real guests, real clients. It plays scenes under load
// (World), reads everything back and recomputes every child and every dead
// letter from the parents (World.Judge, by pacemaker/check).
//
// The short form runs with every `make test`; test/soak plays the same scenes
// for as long as one likes.
//
// Owner: the test that calls New. It never looks into a broker: what it knows it
// was told by the Kafka API and the admin API.
package transform
