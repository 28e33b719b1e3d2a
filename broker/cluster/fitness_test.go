package cluster

import (
	"testing"
	"time"
)

// TestUnfit: a node says once that it should not lead, and once that it may again; it is
// believed as long as it is heard.
func TestUnfit(t *testing.T) {
	now := time.Unix(1, 0)
	a, b := announcer(1), New(Options{Node: 2, Now: func() time.Time { return now }})
	whole, _ := a.Announce(true)
	b.Hear(whole)
	if a.SetUnfit(0) || b.Unfit(1) != 0 || !b.MayLead(1, true, 0) || b.MayLead(3, false, 0) {
		t.Error("nothing was said, and something is heard")
	}
	for _, u := range []Unfit{UnfitScripts, UnfitDisk | UnfitScripts, UnfitDisk, 0} {
		if !a.SetUnfit(u) || a.SetUnfit(u) || a.Unfit(1) != u {
			t.Errorf("%d is no change, or one twice", u)
		}
		told, ok := a.Announce(false)
		if _, again := a.Announce(false); !ok || again {
			t.Errorf("%d is told %v, and again %v", u, ok, again)
		}
		heard, err := DecodeAnnouncement(told.Encode())
		if err != nil {
			t.Fatal(err)
		}
		b.Hear(heard)
		if b.Unfit(1) != u {
			t.Errorf("%d is heard as %d", u, b.Unfit(1))
		}
		for _, scripts := range []bool{false, true} {
			want := u&UnfitDisk == 0 && (!scripts || u == 0)
			if a.MayLead(1, scripts, time.Hour) != want || b.MayLead(1, scripts, 0) != want {
				t.Errorf("unfit by %d, it may lead with scripts %v: %v, %v", u, scripts, !want, !want)
			}
		}
		told.Unfit = 0
		if plain := told.Encode(); len(plain) != len(heard.Encode()) {
			t.Errorf("a build that knows no reasons reads %d bytes, not %d", len(plain), len(heard.Encode()))
		}
	}
	a.SetUnfit(UnfitDisk)
	told, _ := a.Announce(false)
	b.Hear(told)
	if now = now.Add(aliveFor); b.Unfit(1) != 0 || b.MayLead(1, false, 0) {
		t.Error("it was not heard for long")
	}
	a.Leave()
	a.SetUnfit(0)
	if a.MayLead(1, false, 0) {
		t.Error("it is about to stop, and may lead")
	}
}
