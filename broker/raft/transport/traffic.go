package transport

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// Traffic counts what goes between this node and others. Several transports may share
// one; any goroutine may use it.
type Traffic struct{ peers sync.Map } // name -> *counts

// NewTraffic gives a Traffic that has counted nothing.
func NewTraffic() *Traffic { return &Traffic{} }

// counts are one peer's. A frame adds to them once, beside its write or read.
type counts struct {
	sentBytes, receivedBytes, sentMessages, receivedMessages, lostMessages atomic.Uint64
	connections                                                            atomic.Int64
}

// PeerTraffic is what went between this node and a peer, both ways, since the start.
type PeerTraffic struct {
	Name string // as in the peer's hello
	// Bytes are those of whole frames, above TLS.
	SentBytes, ReceivedBytes       uint64
	SentMessages, ReceivedMessages uint64 // of Raft
	// LostMessages could not be written: their connection was over.
	LostMessages uint64
	Connections  int64 // now
}

func (t *Traffic) of(peer string) *counts {
	if c, ok := t.peers.Load(peer); ok {
		return c.(*counts)
	}
	c, _ := t.peers.LoadOrStore(peer, &counts{})
	return c.(*counts)
}

// Peers gives the counts of every peer that was ever connected, by name.
func (t *Traffic) Peers() (all []PeerTraffic) {
	t.peers.Range(func(name, value any) bool {
		c := value.(*counts)
		all = append(all, PeerTraffic{
			Name: name.(string), SentBytes: c.sentBytes.Load(), ReceivedBytes: c.receivedBytes.Load(),
			SentMessages: c.sentMessages.Load(), ReceivedMessages: c.receivedMessages.Load(),
			LostMessages: c.lostMessages.Load(), Connections: c.connections.Load(),
		})
		return true
	})
	slices.SortFunc(all, func(a, b PeerTraffic) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
