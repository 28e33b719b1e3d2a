// Package metrics is the registry of what a node measures and the only importer
// of the Prometheus client: other rooms use its small types.
//
// A metric is named millrace_<room>_<noun>_<unit>[_total], checked when it is
// made. Label values are bounded: a Vec takes at most its limit of
// combinations, and counts what is beyond them under "other".
//
// Owner: the node's server makes one Registry and the sets (Kafka, Storage,
// Scripts...) and hands each room its own. Every method is safe from any
// goroutine; counting takes no lock and allocates nothing.
//
// It never asks the network, and never blocks a caller: what has to be asked
// for at a scrape is a Func or a Collect, which must answer from memory.
package metrics
