package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Crowd is strangers who ask for much and take, or give, little. Who is turned
// away comes again a second later.
type Crowd struct {
	Readers    int    // ask for ReadBytes of Topic, from anywhere below End, and take sipBytes every sipEvery
	ReadBytes  int32  //
	Topic      string // of one partition
	End        int64  //
	Announcers int    // say that a frame of FrameBytes comes, and send dripBytes of it every sipEvery
	FrameBytes []int  // in turn
}

const (
	sipEvery   = 250 * time.Millisecond
	sipBytes   = 4 << 10
	dripBytes  = 16 << 10
	againAfter = time.Second
)

// Seen counts what a crowd met.
type Seen struct{ Connections, Taken, Answers atomic.Int64 }

// Start has the crowd come; stop has it leave.
func (c Crowd) Start(ctx context.Context, addr string) (seen *Seen, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	seen = &Seen{}
	var all sync.WaitGroup
	come := func(behave func(nc net.Conn)) {
		all.Go(func() {
			for ctx.Err() == nil {
				if nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr); err == nil {
					seen.Connections.Add(1)
					leave := context.AfterFunc(ctx, func() { _ = nc.Close() })
					behave(nc)
					leave()
					_ = nc.Close()
				}
				pause(ctx, againAfter)
			}
		})
	}
	for range c.Readers {
		come(func(nc net.Conn) { c.sip(ctx, nc, seen) })
	}
	for i := range c.Announcers {
		come(func(nc net.Conn) { drip(ctx, nc, c.FrameBytes[i%len(c.FrameBytes)]) })
	}
	return seen, func() { cancel(); all.Wait() }
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// sip fetches, one request at a time, and reads the answers slowly.
func (c Crowd) sip(ctx context.Context, nc net.Conn, seen *Seen) {
	slow := bufio.NewReaderSize(&slowly{ctx: ctx, Conn: nc, taken: &seen.Taken}, sipBytes)
	for i := int32(0); ; i++ {
		if _, err := nc.Write(c.fetch(i)); err != nil {
			return
		}
		var size [4]byte
		if _, err := io.ReadFull(slow, size[:]); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, slow, int64(binary.BigEndian.Uint32(size[:]))); err != nil {
			return
		}
		seen.Answers.Add(1)
	}
}

func (c Crowd) fetch(correlation int32) []byte {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MinBytes, req.MaxBytes = 4, -1, 1, c.ReadBytes
	p := kmsg.NewFetchRequestTopicPartition()
	p.PartitionMaxBytes, p.FetchOffset = c.ReadBytes, rand.Int64N(c.End)
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.Partitions = c.Topic, append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("slow")).AppendRequest(nil, req, correlation)
}

// slowly reads a sip at a time.
type slowly struct {
	net.Conn
	ctx   context.Context
	taken *atomic.Int64
}

func (s *slowly) Read(b []byte) (int, error) {
	pause(s.ctx, sipEvery)
	n, err := s.Conn.Read(b[:min(len(b), sipBytes)])
	s.taken.Add(int64(n))
	return n, err
}

// drip begins a produce of size bytes that takes for ever.
func drip(ctx context.Context, nc net.Conn, size int) {
	b := make([]byte, dripBytes)
	binary.BigEndian.PutUint32(b, uint32(size))
	binary.BigEndian.PutUint16(b[6:], 3) // version 3 of Produce, whose key is 0
	for ctx.Err() == nil {
		if _, err := nc.Write(b); err != nil {
			return
		}
		clear(b)
		pause(ctx, sipEvery)
	}
}
