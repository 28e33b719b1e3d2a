package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/raft"
)

// TestProgress: how a follower is judged, second by second. Each step is what the
// leader's log and the follower's word are then ("-": it says nothing; "gone": nor does
// its node), and what is thought of it.
func TestProgress(t *testing.T) {
	for name, steps := range map[string]string{
		"silent from the beginning": `
			10 - in | 10 - in | 10 - in | 10 - in | 10 - in | 10 - out | 10 - out`,
		"always a little behind": `
			10 9 in | 20 19 in | 30 29 in | 40 39 in | 50 49 in | 60 59 in | 70 69 in | 80 79 in | 90 89 in`,
		"falls behind under load": `
			10 10 in | 20 11 in | 30 12 in | 40 13 in | 50 14 in | 60 15 in | 70 16 out | 80 17 out`,
		"stands still with nothing to do": `
			10 10 in | 10 10 in | 10 10 in | 10 10 in | 10 10 in | 10 10 in | 10 10 in | 10 10 in`,
		"silent with nothing to do": `
			10 10 in | 10 - in | 10 - in | 10 - in | 10 - in | 10 - in | 10 - out`,
		"dies, and is back before the limit, behind": `
			10 10 in | 20 gone out | 30 gone out | 40 - out | 40 25 out | 40 30 ready | 45 44 ready`,
		"dies, and is back with all": `
			10 10 in | 10 gone out | 10 10 ready`,
		"comes back slowly": `
			10 10 in | 20 gone out | 100 20 ready | 200 30 ready | 300 40 ready | 400 50 ready | 500 60 ready | 600 70 out |
			700 80 out | 710 700 out | 720 715 ready`,
		"leader is new, and it was out before": `
			10 - lags | 10 - out | 20 10 ready | 30 10 ready`,
	} {
		t.Run(name, func(t *testing.T) {
			const limit = 5 * time.Second
			now := time.Unix(100, 0)
			me := raft.Member{Node: 1, Birth: 2}
			var p progress
			for i, step := range strings.Split(steps, "|") {
				var last, match uint64
				var said, want string
				if _, err := fmt.Sscan(step, &last, &said, &want); err != nil {
					t.Fatal(step, err)
				}
				if i == 0 {
					p = progressOf(me, now, last, want == "lags")
				}
				now = now.Add(time.Second)
				other := raft.Follower{Member: raft.Member{Node: 1, Birth: 1}, Match: last, Answered: now} // removed since
				all := []raft.Follower{other}
				if n, _ := fmt.Sscan(said, &match); n == 1 {
					all = append(all, raft.Follower{Member: me, Match: match, Answered: now})
				}
				ready := p.look(now, last, all, said == "gone", limit)
				got := map[bool]string{true: "out", false: "in"}[p.out]
				if ready {
					got = "ready"
				}
				if got != strings.Replace(want, "lags", "out", 1) {
					t.Fatalf("step %d, %s: it is %s", i, strings.TrimSpace(step), got)
				}
			}
		})
	}
}
