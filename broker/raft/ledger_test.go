package raft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

// ledger is a state machine that keeps what it was given, and what of it was synced.
type ledger struct {
	mu       sync.Mutex
	node     int
	birth    model.Birth
	of       *conform
	entries  [][]byte
	index    uint64
	indexes  []uint64 // of entries
	durable  uint64
	kept     int // of entries
	skip     uint64
	recovers int
}

func (l *ledger) Open(<-chan struct{}) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.index, nil
}

func (l *ledger) Apply(entries []Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		switch {
		case e.Index <= l.skip:
			continue
		case e.Index <= l.index:
			return fmt.Errorf("node %d is given entry %d after %d", l.node, e.Index, l.index)
		case len(e.Cmd) == 0:
			return fmt.Errorf("node %d is given an empty entry %d", l.node, e.Index)
		}
		l.index = e.Index
		l.entries, l.indexes = append(l.entries, bytes.Clone(e.Cmd)), append(l.indexes, e.Index)
	}
	return nil
}

func (l *ledger) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.durable, l.kept = l.index, len(l.entries)
	return nil
}

func (l *ledger) Close() error { return nil }

func (l *ledger) Note() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return binary.LittleEndian.AppendUint64([]byte{byte(l.node)}, l.index), nil
}

// Recover takes what another has that stands where the note says, or behind it.
func (l *ledger) Recover(note []byte, stop <-chan struct{}) error {
	said := binary.LittleEndian.Uint64(note[1:])
	for {
		for n := range conformNodes {
			from := l.of.ledger(n)
			if from == nil {
				continue
			}
			from.mu.Lock()
			entries, indexes, index := slices.Clone(from.entries), slices.Clone(from.indexes), from.index
			from.mu.Unlock()
			if n == l.node || index < said {
				continue
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.entries, l.indexes, l.index = entries, indexes, index
			l.skip, l.durable, l.kept = index, index, len(entries)
			l.recovers++
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-stop:
			return errors.New("stopped")
		}
	}
}

// seen is what it was given so far.
func (l *ledger) seen() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}
