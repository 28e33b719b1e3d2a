// Package script is the scripts of the cluster on this node: it deploys them,
// keeps their modules in the topic __scripts, supervises the sidecar and keeps
// it loaded, runs sync scripts in the produce path, and finishes removals.
//
// The controller's state is the truth about what is deployed; __scripts holds
// the bytes; each child partition's log holds how far it is.
//
// Owners: Store owns what was read of __scripts, Supervisor the link to the
// sidecar, Table the snapshot that produce reads, Service steers. All are safe
// from any goroutine.
//
// Invariants:
//   - A module reaches a sidecar only after its bytes gave its digest again.
//   - A topic with a sync script takes no produce while that script's digest
//     does not run here, whatever its policy.
//   - A name's records leave __scripts only after every child has taken the
//     removal, an old digest's only after every child has left its activation.
//
// It never moves a record of a topic other than __scripts, and never decides
// where a child stands.
package script
