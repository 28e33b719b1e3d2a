// Package soak plays the scenes of test/transform for as long as one likes, by
// `make soak`: build tag soak. MILLRACE_SOAK says for how long (a duration, ten
// minutes if unset), MILLRACE_SEED which history (an odd one with small
// files, which roll and go all the time), MILLRACE_FAULT what is killed in every
// round (broker, sidecar, both; unset: drawn, with rounds of no fault). With
// -artifacts data directories and brokers' logs are kept.
//
// Owner: its test. It holds nothing that the short form does not have too.
package soak
