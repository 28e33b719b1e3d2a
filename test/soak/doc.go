// Package soak plays the scenes of test/transform for as long as one likes, by
// `make soak`: build tag soak. MILLRACE_SOAK says for how long (a duration, ten
// minutes if unset), MILLRACE_SEED which history.
//
// Owner: its test. It holds nothing that the short form does not have too.
package soak
