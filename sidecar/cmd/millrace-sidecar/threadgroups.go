package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// threadGroups sets the supplementary groups of the calling thread.
func threadGroups(groups []int) error {
	ids := make([]uint32, len(groups)+1) // never empty, for its address
	for i, g := range groups {
		ids[i] = uint32(g)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&ids[0])), 0)
	return asError("leave the groups", errno)
}
