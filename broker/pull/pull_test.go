package pull

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// inBubble runs a test on a clock of its own: backoffs and leases take no time.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

var errLink = errors.New("link is broken")

// TestTake takes a partition, from memory and from files, that goes on meanwhile.
func TestTake(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNet(t, 1, 60)
		w.nodes[1].flush()
		w.append(60)
		w.nodes[1].apply(w.log)
		pieces := 0
		w.before = func(_ model.NodeID, m Method) error {
			if pieces++; pieces == 5 {
				w.append(30)
				w.nodes[1].apply(w.log)
			}
			return nil
		}
		size := w.size()
		w.recover(uint64(len(w.log)))
		if w.bytes < size || w.bytes > size+size/100 || w.calls[MethodLease] != 1 || w.calls[MethodRelease] != 1 {
			t.Errorf("%d bytes of %d in %v calls", w.bytes, size, w.calls)
		}
	})
}

// TestNothingToTake: a replica that got there otherwise takes nothing, and removes
// what was staged.
func TestNothingToTake(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNet(t, 1, 10)
		n := w.nodes[taker]
		n.apply(w.log)
		check(t, n.fs.MkdirAll(n.o.Dir+".pull"))
		_, err := n.fs.Create(n.o.Dir + ".pull/00000000000000000000.log")
		check(t, err)
		w.recover(5)
		if len(w.calls) > 0 {
			t.Errorf("calls %v", w.calls)
		}
	})
}

// TestLeaseLost: with a fresh lease it goes on where it was, in the middle of a file.
func TestLeaseLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNet(t, 1, 120)
		pieces := 0
		w.before = func(_ model.NodeID, m Method) error {
			if pieces++; pieces == 7 {
				w.nodes[1].giver.Close()
				w.nodes[1].giver = w.nodes[1].newGiver() // as after a restart
				w.append(10)
				w.nodes[1].apply(w.log)
			}
			return nil
		}
		index := uint64(len(w.log))
		w.recover(index)
		if size := w.size(); w.bytes > size+size/100 || w.calls[MethodLease] != 2 {
			t.Errorf("%d bytes of %d in %v calls", w.bytes, size, w.calls)
		}
	})
}

// TestLinkBroken: with the link down for a moment the same lease goes on; for longer, another
// node gives what is missing, or the same when there is none.
func TestLinkBroken(t *testing.T) {
	for name, c := range map[string]struct {
		down    time.Duration
		givers  int
		want    int
		longest time.Duration // of all of it
	}{
		"short":          {backoffMin, 2, 1, 2 * silentMax},
		"long":           {leaseIdleMax, 2, 2, 3 * silentMax},
		"dead":           {time.Hour, 2, 2, 3 * silentMax},
		"nobody else is": {leaseIdleMax, 1, 2, leaseIdleMax + 2*backoffMax},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newNet(t, c.givers, 120)
				began, pieces, leases := time.Now(), 0, 0
				w.before = func(to model.NodeID, m Method) error {
					if m == MethodPiece {
						pieces++
					}
					if to == 1 && pieces >= 5 && time.Since(began) < c.down {
						return errLink
					}
					if m == MethodLease && int(to) <= c.givers {
						leases++
					}
					return nil
				}
				w.recover(uint64(len(w.log)))
				// It has waited for leases to end, too.
				if took := time.Since(began) - leaseIdleMax - time.Second; leases != c.want || took > c.longest {
					t.Errorf("%d leases, want %d, in %v", leases, c.want, took)
				}
				if size := w.size(); w.bytes > size+size/100 {
					t.Errorf("%d bytes of %d", w.bytes, size)
				}
			})
		})
	}
}

// TestCallLost: a call that finds no end is given up soon, and so is who should have answered; where all are
// slow they are given longer.
func TestCallLost(t *testing.T) {
	const slow = 3 * callTimeMin
	for name, c := range map[string]struct {
		givers  int
		slow    bool
		longest time.Duration // of all of it
	}{
		"silent": {2, false, callTimeMin + 2*silentMax},
		"slow":   {1, true, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newNet(t, c.givers, 20)
				began, pieces := time.Now(), 0
				w.before = func(to model.NodeID, m Method) error {
					if pieces++; to != 1 || pieces < 5 {
						return nil
					}
					if c.slow {
						w.takes = slow
						return nil
					}
					return errLost
				}
				w.recover(uint64(len(w.log)))
				if took := time.Since(began) - leaseIdleMax - time.Second; took > c.longest {
					t.Errorf("it took %v", took)
				}
				if size := w.size(); w.bytes > size+size/100 {
					t.Errorf("%d bytes of %d", w.bytes, size)
				}
			})
		})
	}
}

// TestDamage: a piece that changed on its way comes again; from another node if it
// always does.
func TestDamage(t *testing.T) {
	for name, always := range map[string]bool{"once": false, "always": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newNet(t, 2, 120)
				pieces, others := 0, 0
				w.after = func(to model.NodeID, body, answer []byte) {
					ask, err := decodePieceAsk(body)
					check(t, err)
					if ask.segment == ofManifest {
						return
					}
					if to == 2 {
						others++
					} else if pieces++; pieces == 4 || always && ask.segment == 1 {
						answer[len(answer)/2] ^= 1
					}
				}
				w.recover(uint64(len(w.log)))
				if always != (others > 0) {
					t.Errorf("%d pieces came from another node", others)
				}
			})
		})
	}
}

// TestStop: a stopped pull ends at once, and the next, after a restart, keeps the files
// that are whole.
func TestStop(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNet(t, 1, 120)
		stop := make(chan struct{})
		pieces := 0
		w.before = func(_ model.NodeID, m Method) error {
			if pieces++; pieces == 8 {
				close(stop)
				synctest.Wait() // for who watches it
			}
			return nil
		}
		index := uint64(len(w.log))
		if err := w.taker(-1).Recover(w.nodes[taker], Note(1, testShard, index), stop); !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
		w.before = nil
		w.nodes[taker].open() // as it is after a restart
		w.bytes = 0
		w.recover(index)
		if size := w.size(); w.bytes > size-2<<20 {
			t.Errorf("%d bytes of %d came the second time", w.bytes, size)
		}
		w.before = func(model.NodeID, Method) error { return errLink }
		stop = make(chan struct{})
		time.AfterFunc(time.Minute, func() { close(stop) })
		if err := w.taker(-1).Recover(w.nodes[taker], Note(1, testShard, index+1), stop); !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
	})
}

// TestStopBeforeReplace: a pull that is stopped while it gives its lease back leaves the
// partition as it is.
func TestStopBeforeReplace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNet(t, 1, 20)
		w.nodes[taker].broken = errLink // what Replace would end with
		stop := make(chan struct{})
		w.before = func(_ model.NodeID, m Method) error {
			if m == MethodRelease {
				close(stop)
				synctest.Wait() // for who watches it
			}
			return nil
		}
		if err := w.taker(-1).Recover(w.nodes[taker], Note(1, testShard, uint64(len(w.log))), stop); !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
	})
}

// TestOwnSegments: what the replica has itself does not come, unless it is damaged.
func TestOwnSegments(t *testing.T) {
	for name, damaged := range map[string]bool{"sound": false, "damaged": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newNet(t, 1, 120)
				n := w.nodes[taker]
				n.apply(w.log)
				n.flush()
				first := n.fs.Files(n.o.Dir)[2]
				if !strings.HasSuffix(first, ".log") {
					first = strings.TrimSuffix(first, ".index") + ".log"
				}
				if damaged {
					check(t, n.fs.Corrupt(first, 5000, 1))
				}
				w.append(60)
				w.nodes[1].apply(w.log)
				w.recover(uint64(len(w.log)))
				size := w.size()
				if damaged && (w.bytes < size/3+2<<20 || w.bytes > size/3+7<<20) || !damaged && w.bytes > size/3+3<<20 {
					t.Errorf("%d bytes of %d came", w.bytes, size)
				}
				n.p.Abandon()
				n.open()
				w.same(uint64(len(w.log)))
			})
		})
	}
}

// TestBehind waits for a node that has got as far as the note says.
func TestBehind(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNet(t, 2, 20)
		w.append(1)
		time.AfterFunc(10*time.Second, func() { w.nodes[2].apply(w.log) })
		began := time.Now()
		check(t, w.taker(-1).Recover(w.nodes[taker], Note(1, testShard, uint64(len(w.log))), nil))
		took := time.Since(began)
		w.same(uint64(len(w.log)))
		if took < 10*time.Second || took > 20*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestPace: pulls together take no more than they may.
func TestPace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNet(t, 1, 120)
		began := time.Now()
		index := uint64(len(w.log))
		pulls := w.taker(1 << 20)
		check(t, pulls.Recover(w.nodes[taker], Note(1, testShard, index), nil))
		took, want := time.Since(began).Seconds(), float64(w.size())/(1<<20)
		w.same(index)
		if took < want-1 || took > want+1 {
			t.Errorf("%d bytes took %.1f s", w.size(), took)
		}
		if c := pulls.Counts(); c.Bytes != int64(w.bytes) || c.Failures != 0 || c.UnderWay != 0 || c.Waited.Seconds() < took-1 {
			t.Errorf("it counts %+v, %d bytes came", c, w.bytes)
		}
	})
}

// TestDiskFull: a file that could not be written comes anew once there is room.
func TestDiskFull(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNet(t, 1, 60)
		n := w.nodes[taker]
		n.fs.SetCapacity(1 << 20)
		time.AfterFunc(5*time.Second, func() { n.fs.SetCapacity(1 << 30) })
		w.recover(uint64(len(w.log)))
	})
}

// TestNoSpace takes nothing while there is no room, not even a manifest.
func TestNoSpace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNet(t, 1, 10)
		took, began := w.taker(-1), time.Now()
		took.o.Space = func() error {
			if time.Since(began) < 10*time.Second {
				return errLink
			}
			return nil
		}
		w.before = func(_ model.NodeID, m Method) error {
			if m == MethodPiece && time.Since(began) < 10*time.Second {
				t.Error("a piece is asked for")
			}
			return nil
		}
		index := uint64(len(w.log))
		check(t, took.Recover(w.nodes[taker], Note(1, testShard, index), nil))
		w.same(index)
	})
}

// TestReplaceFails: what has stopped the node ends the pull.
func TestReplaceFails(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNet(t, 1, 20)
		w.nodes[taker].broken = errLink
		if err := w.taker(-1).Recover(w.nodes[taker], Note(1, testShard, uint64(len(w.log))), nil); !errors.Is(err, errLink) {
			t.Fatal(err)
		}
		if err := w.taker(-1).Recover(w.nodes[taker], []byte{2}, nil); !errors.Is(err, errNote) {
			t.Fatal(err)
		}
	})
}

// compact rewrites a node's sealed segments.
func (n *node) compact() {
	n.t.Helper()
	n.flush()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.p.Configure(partition.Config{SegmentBytesMax: n.o.Config.SegmentBytesMax, CacheBytesMax: -1, Compact: true})
	j := n.p.CompactStart(time.Now())
	if j == nil {
		n.t.Fatal("nothing to compact")
	}
	err := j.Run()
	n.p.CompactDone(j, err)
	check(n.t, err)
}

// TestCompacted: files that one node alone has are kept while they come from its boot.
func TestCompacted(t *testing.T) {
	for name, restarts := range map[string]bool{"same boot": false, "another boot": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newNet(t, 1, 0)
				w.keys = 70 // most records stay: the compacted segments are large
				w.append(160)
				n := w.nodes[1]
				n.apply(w.log)
				n.compact()
				pieces := 0
				w.before = func(_ model.NodeID, m Method) error {
					if pieces++; pieces == 6 {
						boot := n.giver.boot
						n.giver.Close()
						n.giver = n.newGiver()
						if !restarts { // only the lease was lost
							n.giver.boot = boot
						}
					}
					return nil
				}
				check(t, w.taker(-1).Recover(w.nodes[taker], Note(1, testShard, uint64(len(w.log))), nil))
				if got, want := w.nodes[taker].content(), n.content(); !bytes.Equal(got, want) {
					t.Fatalf("it reads %d bytes, want %d, or others", len(got), len(want))
				}
				if again := w.bytes - w.size(); restarts != (again > 1<<20) {
					t.Errorf("%d bytes more than there are", again)
				}
			})
		})
	}
}

// TestCompactedElsewhere: a file that was whole comes anew from another node that has
// compacted it too. What of it has come by then is not taken for what was found sound before.
func TestCompactedElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNet(t, 2, 0)
		w.keys = 70 // most records stay: the compacted segments are large
		w.append(160)
		for _, n := range []model.NodeID{1, 2} {
			w.nodes[n].apply(w.log)
			w.nodes[n].compact()
		}
		pieces := map[model.NodeID]int{}
		w.before = func(to model.NodeID, m Method) error {
			if m != MethodPiece {
				return nil
			}
			if pieces[to]++; to == 1 && pieces[to] > 6 || to == 2 && pieces[to] == 2 { // the manifest is the first
				return errLink
			}
			return nil
		}
		check(t, w.taker(-1).Recover(w.nodes[taker], Note(1, testShard, uint64(len(w.log))), nil))
		if got, want := w.nodes[taker].content(), w.nodes[2].content(); !bytes.Equal(got, want) {
			t.Fatalf("it reads %d bytes, want %d, or others", len(got), len(want))
		}
		if pieces[1] < 7 || pieces[2] < 3 {
			t.Errorf("pieces %v", pieces)
		}
	})
}

// TestListedAgain: a file that was whole is gone once another node's list has not had it, and comes anew where it is
// wanted again.
func TestListedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNet(t, 2, 0)
		w.keys = 70
		w.append(160)
		w.nodes[1].apply(w.log)
		w.nodes[2].apply(w.log)
		w.nodes[2].compact()
		pieces := map[model.NodeID]int{}
		w.before = func(to model.NodeID, m Method) error {
			if m != MethodPiece {
				return nil
			}
			if pieces[to]++; to == 1 && pieces[1] > 6 && pieces[2] == 0 || to == 2 && pieces[2] > 1 { // the manifest is the first
				return errLink
			}
			return nil
		}
		check(t, w.taker(-1).Recover(w.nodes[taker], Note(1, testShard, uint64(len(w.log))), nil))
		if got, want := w.nodes[taker].content(), w.nodes[1].content(); !bytes.Equal(got, want) {
			t.Fatalf("it reads %d bytes, want %d, or others", len(got), len(want))
		}
		if pieces[1] < 9 || pieces[2] < 2 {
			t.Errorf("pieces %v", pieces)
		}
	})
}
