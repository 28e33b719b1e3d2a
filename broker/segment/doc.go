// Package segment keeps one file of record batches and its index. See below.
package segment
