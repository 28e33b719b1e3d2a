// Package disk is the seam to the file system: an interface, the operating
// system's implementation, one in memory, one that loses power, one that fails.
//
// Whoever keeps bytes in files goes through FS, so that tests can take the power
// away at every write, sync and rename. The contract is what a careful POSIX file
// system gives, and no more: a file's bytes survive a power cut once its Sync has
// returned, and its name once SyncDir of its directory has; before that a write
// may be kept, lost, torn or kept without the one before it.
//
// The room never retries, caches nothing, and knows no format.
package disk
