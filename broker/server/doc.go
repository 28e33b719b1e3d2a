// Package server is the only wiring: it builds every room from the node's
// settings, starts them in order and stops them in the opposite one.
//
// Order of start: data directory (lock, identity, format) -> cores -> raft ->
// controller caught up -> replicas -> Kafka and admin listeners -> sidecar and
// scripts -> pacemaker -> ready. A plain topic serves as soon as its leader does.
//
// Invariants: a room is given what it needs from above as a small interface and
// never finds it by itself; what one room's events mean to another is said here
// and nowhere else.
package server
