// Package cli is the millrace command: start, topic, group, cluster, wasm,
// profile, version, completion. Grammar, formats and exit codes follow rpk, so
// that hands and scripts which know it need no new habits.
//
// Owner: the process; a command lives for one run. Data goes to stdout, all
// else to stderr; a command that did not do all it was asked ends with a
// non-zero code, and its error says what was tried and what to do next. Topics,
// groups and records go through the Kafka API, which any broker of that
// protocol answers; scripts, settings and health through the admin API.
//
// It never keeps state but the profile file, and never guesses: which broker
// is asked follows flag, then environment, then profile, then 127.0.0.1.
package cli
