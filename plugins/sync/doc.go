// Package sync is the plugin kind in the produce path: one batch in, one batch
// out, by a deadline. (Import it under a name of your own, such as plugsync.)
//
// The door is Transformer. Client speaks it over lines, connections of their own
// beside gRPC's, Serve answers them, and Fake plays it in memory. Owner: whoever holds the Transformer; it may
// be called from any goroutine. Invariants: what comes back is a whole batch
// with the client's producer id, epoch, base sequence and lastOffsetDelta, kept
// records with their offset deltas and keys. It never assigns offsets and never
// adds a record.
package sync
