// Package load is the benchmarks' load generator: the same Kafka client against
// whichever broker an address names, so that two brokers are measured alike.
//
// Latency is open loop: record i is due at start + i/rate and its latency runs
// from there, so that a stall counts for every record it delays.
package load
