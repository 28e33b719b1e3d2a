// Command bench measures Millrace and a peer side by side, in one run, and
// prints a table. See docs/BENCHMARKS.md for the method and what came out.
//
//	bench -millrace bin/millrace [-peer "command that starts a Kafka broker"]
//
// The peer's command is started with the environment PEER_DIR (an empty
// directory) and PEER_PORT; it must stay in the foreground and serve Kafka on
// 127.0.0.1:PEER_PORT.
package main
