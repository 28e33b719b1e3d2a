package raft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft/transport"
)

// pulling is a counting machine that takes what others of its group have.
type pulling struct {
	*counting
	node      int
	of        *peers
	installed uint64
	kept      [][]byte      // the entries up to durable
	notes     chan []byte   // gets each note that it is to follow
	free      chan struct{} // it goes on once this is closed
}

func newPulling(p *peers, n int) *pulling {
	free := make(chan struct{})
	close(free)
	return &pulling{counting: &counting{}, node: n, of: p, notes: make(chan []byte, 10), free: free}
}

// Note is who has made it and what was applied there.
func (c *pulling) Note() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return binary.LittleEndian.AppendUint64([]byte{byte(c.node)}, c.index), nil
}

// Recover takes what the maker has by then, which is more than the note says.
func (c *pulling) Recover(note []byte, stop <-chan struct{}) error {
	c.notes <- note
	select {
	case <-c.free:
	case <-stop:
		return errors.New("stopped")
	}
	from := c.of.machines[note[0]]
	from.mu.Lock()
	entries, index := slices.Clone(from.entries), from.index
	from.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	must(index >= binary.LittleEndian.Uint64(note[1:]), "node %d stands at %d, its note says %x", note[0], index, note)
	c.entries, c.index, c.durable, c.installed = entries, index, index, index
	c.kept = entries
	return nil
}

func (c *pulling) Sync() error {
	c.mu.Lock()
	c.kept = slices.Clone(c.entries)
	c.mu.Unlock()
	return c.counting.Sync()
}

func (c *pulling) Apply(entries []Entry) error {
	for len(entries) > 0 && entries[0].Index <= c.installed {
		entries = entries[1:]
	}
	return c.counting.Apply(entries)
}

func (p *peers) setAddresses() {
	for _, h := range p.hosts {
		for m := range p.hosts {
			if h != nil {
				h.SetAddress(model.NodeID(m), peerAddress(m))
			}
		}
	}
}

func peerAddress(n int) string { return fmt.Sprintf("node-%d:1", n) }

func (p *peers) reopen(t *testing.T, n int) {
	t.Helper()
	p.open(t, n, peerAddress(n))
	p.setAddresses()
}

// forget makes nodes forget their logs but for the last few entries.
func (p *peers) forget(t *testing.T, nodes ...int) {
	t.Helper()
	for _, n := range nodes {
		m := p.machines[n]
		m.mu.Lock()
		through := m.index - 2
		m.mu.Unlock()
		if err := p.hosts[n].Snapshot(t.Context(), p.shard, through); err != nil {
			t.Fatal(err)
		}
		for first := uint64(0); first <= through; {
			l, err := p.hosts[n].hosts[hostOf(p.shard)].Load().GetLogReader(uint64(p.shard))
			if err != nil {
				t.Fatal(err)
			}
			if first, _ = l.GetRange(); first <= through {
				<-time.After(tickMilliseconds * time.Millisecond / 8)
			}
		}
	}
}

// behind gives a group of three whose last node is down, with the others' logs
// forgotten behind what it has.
func behind(t *testing.T, of model.ShardID) *peers {
	t.Helper()
	p := &peers{net: transport.NewMemory(), shard: of}
	for n := range p.hosts {
		p.dirs[n], p.pullers[n] = t.TempDir(), newPulling(p, n)
		p.machines[n] = p.pullers[n].counting
		p.open(t, n, peerAddress(n))
	}
	t.Cleanup(func() {
		for _, h := range p.hosts {
			h.Close()
		}
	})
	p.setAddresses()
	for n := range p.hosts {
		p.start(t, n)
	}
	p.propose(t, "together", 0, 1, 2)
	p.agreed(t)
	p.hosts[2].Close()
	for i := range 10 {
		p.propose(t, fmt.Sprint("without ", i), 0, 1)
	}
	for n := range 2 { // both have applied all of it
		if err := p.hosts[n].Barrier(t.Context(), p.shard); err != nil {
			t.Fatal(err)
		}
	}
	p.forget(t, 0, 1)
	return p
}

// restarted gives node 2 a machine as it was when it was closed last: what was durable.
func (p *peers) restarted() *pulling {
	was := p.pullers[2]
	now := newPulling(p, 2)
	now.index, now.durable, now.installed = was.durable, was.durable, was.installed
	now.entries, now.kept = slices.Clone(was.kept), was.kept
	p.pullers[2], p.machines[2] = now, now.counting
	return now
}

// TestLaggard: a node that lacks what the others have forgotten is told where to take
// it from, and goes on with entries, some of which it took already.
func TestLaggard(t *testing.T) {
	for name, of := range map[string]model.ShardID{"first host": shard, "fourth host": 3*hostShards + shard} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := behind(t, of)
			m := p.restarted()
			m.free = make(chan struct{})
			p.reopen(t, 2)
			p.start(t, 2)
			note := <-m.notes
			p.propose(t, "meanwhile", 0, 1)
			close(m.free)
			p.propose(t, "together again", 0, 1, 2)
			p.agreed(t)
			if at := binary.LittleEndian.Uint64(note[1:]); m.installed < at || len(m.notes) > 0 {
				t.Errorf("installed %d after a note of %d, and %d more notes", m.installed, at, len(m.notes))
			}
			if err := p.hosts[2].CheckLog(of, m.index, m.installed); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLaggardStops: a node that is stopped while it follows a note follows it again
// when it is back, and not once more after that; one that then has lost what it took
// does not start.
func TestLaggardStops(t *testing.T) {
	t.Parallel()
	p := behind(t, shard)
	m := p.restarted()
	m.free = nil // never
	p.reopen(t, 2)
	p.start(t, 2)
	note := <-m.notes
	p.hosts[2].Close()

	m = p.restarted()
	p.reopen(t, 2)
	p.start(t, 2)
	if again := <-m.notes; !bytes.Equal(again, note) {
		t.Errorf("after the restart the note is %x, it was %x", again, note)
	}
	p.propose(t, "together again", 0, 1, 2)
	p.agreed(t)
	p.hosts[2].Close()

	m = p.restarted()
	p.reopen(t, 2)
	p.start(t, 2)
	if err := p.hosts[2].CheckLog(shard, m.durable, m.installed); err != nil {
		t.Error(err)
	}
	p.propose(t, "and again", 0, 1, 2)
	p.agreed(t)
	if len(m.notes) > 0 {
		t.Error("it was told a third time")
	}
	p.hosts[2].Close()

	p.reopen(t, 2)
	lost := newPulling(p, 2)
	if err := p.hosts[2].StartPartition(shard, []model.NodeID{0, 1, 2}, lost); !errors.Is(err, ErrMachineBehind) {
		t.Errorf("without what it took it starts: %v", err)
	}
}

// TestNoteFrame: a note comes back whole, and nothing else is taken for one.
func TestNoteFrame(t *testing.T) {
	for _, note := range [][]byte{{}, []byte("here"), bytes.Repeat([]byte("x"), noteBytesMax)} {
		b := frameNote(note)
		got, err := readNote(bytes.NewReader(append(slices.Clone(b), "behind"...)))
		if err != nil || !bytes.Equal(got, note) {
			t.Fatalf("%d bytes come back as %d, %v", len(note), len(got), err)
		}
		if file := slices.Concat(make([]byte, 1040), []byte(noteMagic), b, []byte("behind")); !findNote(file) || findNote(file[:len(file)-10]) {
			t.Error("a note is not found, or a part of one is")
		}
		for i := range b[:min(len(b), 100)] {
			bad := slices.Clone(b)
			bad[i] ^= 1
			if _, err := readNote(bytes.NewReader(bad)); !errors.Is(err, errNote) {
				t.Errorf("with byte %d changed: %v", i, err)
			}
			if _, err := readNote(bytes.NewReader(b[:i])); !errors.Is(err, errNote) {
				t.Errorf("cut at %d: %v", i, err)
			}
		}
	}
	if _, err := readNote(bytes.NewReader(frameNote(make([]byte, noteBytesMax+1)))); !errors.Is(err, errNote) {
		t.Errorf("too long a note: %v", err)
	}
}
