package kafka

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

// TestComplaintsAreFew has a client come back ten times a second.
func TestComplaintsAreFew(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	c := complaints{log: slog.New(slog.NewTextHandler(&out, nil)), now: func() time.Time { return now }}
	for range 25 {
		c.warn("connection closed", &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 9}, "out", errors.New("version 3"))
		now = now.Add(complaintEvery / 10)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines, want 3:\n%s", len(lines), out.String())
	}
	if !strings.Contains(lines[0], "listener=out") || strings.Contains(lines[0], "left_out") || !strings.Contains(lines[1], "left_out_before=9") || !strings.Contains(lines[2], "left_out_before=9") {
		t.Errorf("what was left out is not counted:\n%s", out.String())
	}
}
