// Package partition is the log of one partition.
package partition
