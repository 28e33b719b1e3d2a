// Package bundle writes a debug bundle: a zip of what who looks for a fault asks for first,
// of the cluster, of each node and of the machine that it is written on.
//
// Owner: who calls Write.
//
// # Invariants
//
//   - What cannot be had is a line of errors.txt, never a failure: a bundle is made where
//     things are broken.
//   - It holds no secret: settings that are marked so, or look so, and the environment of scripts
//     are hidden; no environment, command line, key, certificate or record of a process or
//     a topic is ever read.
//   - Each file is bounded.
package bundle
