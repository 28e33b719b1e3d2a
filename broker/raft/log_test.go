package raft

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
)

func TestDatabaseLines(t *testing.T) {
	for line, want := range map[string]bool{
		"background error: input/output error\n":                       true,
		"background error: pebble: corruption\n":                       true,
		"write /data/raft/000012.log: no space left on device":         true,
		"fdatasync: input/output error":                                true,
		"http: TLS handshake error from 127.0.0.1:1: EOF":              false,
		"compactions: L0->L6:1.0":                                      false,
		"read of a table met an input/output error and was repeated\n": false,
	} {
		if got := deadly(strings.TrimSpace(line)); got != want {
			t.Errorf("%q: deadly %v, want %v", line, got, want)
		}
	}
	told := make(chan error, 1)
	l := &databaseLines{log: slog.New(slog.NewTextHandler(io.Discard, nil)), fatal: func(err error) { told <- err }}
	if n, err := l.Write([]byte("harmless\n")); n != 9 || err != nil {
		t.Errorf("a harmless line: %d, %v", n, err)
	}
	go func() { // never returns: that is the contract
		_, _ = l.Write([]byte("background error: input/output error\n"))
		told <- nil
	}()
	if err := <-told; !errors.Is(err, ErrDatabase) {
		t.Errorf("told of %v", err)
	}
}
