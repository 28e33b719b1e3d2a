package raft

import (
	"errors"
	"io"
	"log/slog"
	"testing"
)

// What the library panics about on a full disk is told to fatal, and never returns;
// any other panic stays one.
func TestLibraryFails(t *testing.T) {
	told := make(chan error, 1)
	fatal := func(err error) { told <- err }
	onDeviceError.Store(&fatal)
	defer onDeviceError.Store(nil)
	l := lineLogger{log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	go l.Panicf("save snapshot failed: %s", "write x: no space left on device") // never returns: that is the contract
	if err := <-told; !errors.Is(err, ErrLibrary) {
		t.Errorf("told of %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a broken invariant did not panic")
		}
	}()
	l.Panicf("out of order")
}
