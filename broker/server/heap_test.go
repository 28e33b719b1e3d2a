package server

import "testing"

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 800, 10 << 20: 800, 16 << 20: 800, 32 << 20: 400, 64 << 20: 200, 128 << 20: 100, 8 << 30: 100,
	} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d bytes live: %d, want %d", live, got, want)
		}
	}
}
