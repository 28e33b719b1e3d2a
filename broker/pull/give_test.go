package pull

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

func ask(t *testing.T, g *Giver, from model.NodeID, m Method, body []byte) ([]byte, uint8) {
	t.Helper()
	b, err := g.Answer(t.Context(), from, m, body)
	if err != nil && codeOf(err) == 0 {
		t.Fatal(err)
	}
	return b, codeOf(err)
}

func leased(t *testing.T, g *Giver, from model.NodeID, shard model.ShardID) (granted, uint8) {
	t.Helper()
	b, code := ask(t, g, from, MethodLease, leaseAsk{shard: shard}.encode())
	if code != 0 {
		return granted{}, code
	}
	l, err := decodeGranted(b)
	check(t, err)
	return l, 0
}

func piece(t *testing.T, g *Giver, from model.NodeID, l granted, segment uint32) ([]byte, uint8) {
	t.Helper()
	return ask(t, g, from, MethodPiece, pieceAsk{lease: l.lease, segment: segment, n: 1000}.encode())
}

// TestLeases: a lease lives while it is used, is its holder's, and gives back what it
// held when it ends.
func TestLeases(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNet(t, 1, 40)
		n, g := w.nodes[1], w.nodes[1].giver
		l, code := leased(t, g, 4, testShard)
		if code != 0 || l.applied != uint64(len(w.log)) {
			t.Fatal(l, code)
		}
		for range 5 {
			<-time.After(leaseIdleMax - time.Second)
			if b, code := piece(t, g, 4, l, 1); code != 0 || len(b) != 1000 {
				t.Fatal(len(b), code)
			}
		}
		if _, code := piece(t, g, 5, l, 1); code != CodeGone {
			t.Errorf("another's lease: code %d", code)
		}
		if b, code := piece(t, g, 4, l, ofManifest); code != 0 || uint64(len(b)) != l.manifest {
			t.Errorf("manifest of %d bytes, want %d, code %d", len(b), l.manifest, code)
		}
		if _, code := piece(t, g, 4, l, 77); code != CodeDamaged {
			t.Errorf("a segment that is not there: code %d", code)
		}
		n.p.Abandon()
		if n.memory.Used() == 0 {
			t.Fatal("the lease holds no memory")
		}
		<-time.After(leaseIdleMax)
		synctest.Wait()
		if _, code := piece(t, g, 4, l, 1); code != CodeGone || n.memory.Used() != 0 {
			t.Errorf("after so long: code %d, %d bytes held", code, n.memory.Used())
		}
		if _, code := leased(t, g, 4, testShard); code != CodeUnknown {
			t.Errorf("lease of a closed partition: code %d", code)
		}
	})
}

// TestLeasesAreBounded: more than so many are refused, one of the same node gives its
// place up.
func TestLeasesAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNet(t, 1, 2)
		n, g := w.nodes[1], w.nodes[1].giver
		var all []granted
		for i := range leasesMax {
			l, code := leased(t, g, model.NodeID(i), testShard)
			if code != 0 {
				t.Fatal(code)
			}
			all = append(all, l)
		}
		if _, code := leased(t, g, leasesMax, testShard); code != CodeBusy {
			t.Errorf("one more: code %d", code)
		}
		if _, code := leased(t, g, 3, testShard); code != 0 {
			t.Errorf("one again: code %d", code)
		}
		if _, code := piece(t, g, 3, all[3], 0); code != CodeGone {
			t.Errorf("the one before it: code %d", code)
		}
		release := binary.LittleEndian.AppendUint64(nil, all[5].lease)
		for range 2 {
			if _, code := ask(t, g, 5, MethodRelease, release); code != 0 {
				t.Errorf("release: code %d", code)
			}
		}
		if _, code := leased(t, g, leasesMax, testShard); code != 0 {
			t.Errorf("with one released: code %d", code)
		}
		if _, code := leased(t, g, 3, testShard+1); code != CodeUnknown {
			t.Errorf("a strange shard: code %d", code)
		}
		g.Close()
		if _, code := leased(t, g, 1, testShard); code != CodeBusy {
			t.Errorf("closed: code %d", code)
		}
		n.p.Abandon()
		synctest.Wait()
		if n.memory.Used() != 0 {
			t.Errorf("%d bytes are held", n.memory.Used())
		}
	})
}

// slow exports when it may, and tells that it was asked.
type slow struct {
	*node
	asked, may chan struct{}
}

func (s slow) Export(ctx context.Context) (*partition.Export, error) {
	close(s.asked)
	<-s.may
	return s.node.Export(ctx)
}

// TestCloseDuringLease: a lease that is being made when the giver closes is none.
func TestCloseDuringLease(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newNode(t)
		s := slow{n, make(chan struct{}), make(chan struct{})}
		g := NewGiver(GiverOptions{Find: func(model.ShardID) (Exporter, bool) { return s, true }, Log: slog.New(slog.DiscardHandler)})
		done := make(chan uint8)
		go func() {
			_, err := g.Answer(t.Context(), 1, MethodLease, leaseAsk{shard: testShard}.encode())
			done <- codeOf(err)
		}()
		<-s.asked
		closed := make(chan struct{})
		go func() { g.Close(); close(closed) }()
		synctest.Wait()
		close(s.may)
		if code := <-done; code != CodeGone {
			t.Errorf("code %d", code)
		}
		<-closed
	})
}

// TestBodies: what is encoded is decoded, and nothing else.
func TestBodies(t *testing.T) {
	if n, err := decodeNote(Note(-3, 5, 1<<40)); err != nil || n != (note{-3, 5, 1 << 40}) {
		t.Error(n, err)
	}
	if a, err := decodeLeaseAsk(leaseAsk{5, 1 << 40}.encode()); err != nil || a != (leaseAsk{5, 1 << 40}) {
		t.Error(a, err)
	}
	if g, err := decodeGranted(granted{1, 2, 3, 4}.encode()); err != nil || g != (granted{1, 2, 3, 4}) {
		t.Error(g, err)
	}
	if a, err := decodePieceAsk(pieceAsk{1, 2, 3, 4}.encode()); err != nil || a != (pieceAsk{1, 2, 3, 4}) {
		t.Error(a, err)
	}
	g := newNode(t).giver
	for _, c := range []struct {
		m    Method
		body []byte
	}{
		{MethodLease, make([]byte, leaseAskSize-1)}, {MethodPiece, make([]byte, pieceAskSize+1)}, {MethodRelease, nil}, {0, nil},
		{MethodPiece, pieceAsk{n: PieceBytesMax + 1}.encode()}, {MethodPiece, pieceAsk{pos: 1 << 63}.encode()},
	} {
		if _, err := g.Answer(t.Context(), 1, c.m, c.body); codeOf(err) != CodeMalformed {
			t.Errorf("method %d, %x: %v", c.m, c.body, err)
		}
	}
	for _, b := range [][]byte{nil, make([]byte, noteSize), Note(1, 2, 3)[:20]} {
		if _, err := decodeNote(b); !errors.Is(err, errNote) {
			t.Errorf("note %x: %v", b, err)
		}
	}
	if _, err := decodeGranted(nil); err == nil {
		t.Error("an empty answer is taken")
	}
}
