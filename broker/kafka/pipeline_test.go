package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// batchOf gives a record batch of one record, made by the codec of the clients.
func batchOf(value []byte) []byte {
	r := kmsg.Record{Value: value}
	body := r.AppendTo(nil) // its length is still 0
	r.Length = int32(len(body) - 1)
	body = r.AppendTo(nil)
	b := kmsg.RecordBatch{
		Magic: 2, Length: int32(49 + len(body)), ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: 1, Records: body, PartitionLeaderEpoch: -1,
	}
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], record.Batch(raw).Checksum())
	return raw
}

func produceRequest(topic string, acks int16, partition int32, values ...[]byte) *kmsg.ProduceRequest {
	m := kmsg.NewPtrProduceRequest()
	m.SetVersion(9)
	m.Acks, m.TimeoutMillis = acks, 1000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	for _, v := range values {
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = partition, batchOf(v)
		t.Partitions = append(t.Partitions, p)
	}
	m.Topics = append(m.Topics, t)
	return m
}

// TestAnswersKeepTheOrderOfRequests: produces whose log does not answer, and a
// metadata request behind them that could be answered at once.
func TestAnswersKeepTheOrderOfRequests(t *testing.T) {
	hold := make(chan struct{})
	n := newFakeNode(t, nil)
	n.topic(t, "a", 1)
	n.log.hold = hold
	w := dialWire(t, n.addr)
	var all []byte
	const produces = 300 // more than a connection queues
	for i := range produces {
		all = append(all, frameOf(produceRequest("a", -1, 0, []byte("x")), int32(i))...)
	}
	metadata := kmsg.NewPtrMetadataRequest()
	metadata.SetVersion(9)
	all = append(all, frameOf(metadata, produces)...)
	w.write(all)
	if err := w.nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.nc.Read(make([]byte, 1)); err == nil {
		t.Fatal("an answer came before its log answered")
	}
	close(hold)
	for i := range produces {
		r := w.read(produceRequest("a", -1, 0), int32(i)).(*kmsg.ProduceResponse)
		if p := r.Topics[0].Partitions[0]; p.ErrorCode != 0 || p.BaseOffset != int64(i) {
			t.Fatalf("produce %d: %+v", i, p)
		}
	}
	w.read(metadata, produces)
}

func TestAcks(t *testing.T) {
	n := newFakeNode(t, nil)
	n.topic(t, "a", 1)
	for acks, want := range map[int16]int16{-1: 0, 1: 0, 2: codeInvalidRequiredAcks, -2: codeInvalidRequiredAcks} {
		r := dialWire(t, n.addr).ask(produceRequest("a", acks, 0, []byte("x")), 9).(*kmsg.ProduceResponse)
		if got := r.Topics[0].Partitions[0].ErrorCode; got != want {
			t.Errorf("acks=%d: code %d, want %d", acks, got, want)
		}
	}
	// acks=0 is not answered: what is asked next is.
	w := dialWire(t, n.addr)
	w.write(frameOf(produceRequest("a", 0, 0, []byte("x")), 1))
	m := kmsg.NewPtrMetadataRequest()
	w.ask(m, 9)
	// A failure closes the connection.
	w.write(frameOf(produceRequest("missing", 0, 0, []byte("x")), 1))
	w.closed()
}

// TestProduceRefusals: what a client must be told of each, and never
// UNKNOWN_SERVER_ERROR.
func TestProduceRefusals(t *testing.T) {
	n := newFakeNode(t, nil)
	topic := n.topic(t, "a", 1)
	w := dialWire(t, n.addr)
	ask := func(v int16, m *kmsg.ProduceRequest) kmsg.ProduceResponseTopicPartition {
		t.Helper()
		r := w.ask(m, v).(*kmsg.ProduceResponse)
		return r.Topics[0].Partitions[0]
	}
	if got := ask(2, produceRequest("a", -1, 0, []byte("x"))); got.ErrorCode != codeUnsupportedVersion {
		t.Errorf("version 2: %+v", got)
	}
	if got := ask(9, produceRequest("no", -1, 0, []byte("x"))); got.ErrorCode != codeUnknownTopicOrPartition {
		t.Errorf("unknown topic: %+v", got)
	}
	if got := ask(9, produceRequest("a", -1, 7, []byte("x"))); got.ErrorCode != codeUnknownTopicOrPartition {
		t.Errorf("unknown partition: %+v", got)
	}
	byID := produceRequest("", -1, 0, []byte("x"))
	byID.Topics[0].TopicID = [16]byte{9}
	if got := ask(13, byID); got.ErrorCode != codeUnknownTopicID {
		t.Errorf("unknown id: %+v", got)
	}
	byID.Topics[0].TopicID = topic.ID
	if got := ask(13, byID); got.ErrorCode != 0 {
		t.Errorf("by id: %+v", got)
	}
	txn := produceRequest("a", -1, 0, []byte("x"))
	txn.TransactionID = kmsg.StringPtr("t")
	if got := ask(9, txn); got.ErrorCode != codeTransactionalIDDenied || got.ErrorMessage == nil {
		t.Errorf("transactional id: %+v", got)
	}
	inTxn := produceRequest("a", -1, 0, []byte("x"))
	inTxn.Topics[0].Partitions[0].Records[22] |= 1 << 4
	if got := ask(9, inTxn); got.ErrorCode != codeTransactionalIDDenied {
		t.Errorf("transactional batch: %+v", got)
	}
	if got := ask(9, produceRequest("a", -1, 0, nil)); got.ErrorCode != 0 {
		t.Errorf("after all that: %+v", got)
	}
	n.log.refuseWith(func(produce.Ask) error { return produce.ErrUnknownPartition })
	if got := ask(9, produceRequest("a", -1, 0, []byte("x"))); got.ErrorCode != codeNotLeaderOrFollower {
		t.Errorf("replica not started yet: %+v", got)
	}
	n.log.refuseWith(func(a produce.Ask) error {
		if a.All {
			return produce.ErrNotEnoughReplicas
		}
		return nil
	})
	for acks, want := range map[int16]int16{acksAll: codeNotEnoughReplicas, 1: 0} {
		if got := ask(9, produceRequest("a", acks, 0, []byte("x"))); got.ErrorCode != want {
			t.Errorf("too few replicas, acks %d: %+v", acks, got)
		}
	}
	n.log.refuseWith(func(produce.Ask) error { return context.DeadlineExceeded })
	if got := ask(9, produceRequest("a", -1, 0, []byte("x"))); got.ErrorCode != codeRequestTimedOut {
		t.Errorf("undeclared error: %+v", got)
	}
	n.log.refuseWith(func(produce.Ask) error { return produce.ErrNotLeader })
	n.Lead(leadershipOf(topic.PartitionID(0), 5))
	r := w.ask(byID, 13).(*kmsg.ProduceResponse)
	if p := r.Topics[0].Partitions[0]; p.ErrorCode != codeNotLeaderOrFollower || p.CurrentLeader.LeaderEpoch != 5 || len(r.Brokers) != 1 {
		t.Errorf("not leader: %+v", r)
	}
}

// TestSlowReadersDoNotHoldMemory: connections that ask for much and read
// nothing. Another one still gets its records, at once when batches are of
// ordinary size, and what is held stays within the budget.
func TestSlowReadersDoNotHoldMemory(t *testing.T) {
	for name, size := range map[string]int{"small batches": 30 << 10, "large batches": 200 << 10} {
		t.Run(name, func(t *testing.T) {
			const budget = 4 << 20
			n := newFakeNode(t, func(o *Options) { o.Limits.ResponseBytes = budget })
			n.topic(t, "a", 1)
			good := dialWire(t, n.addr)
			value := bytes.Repeat([]byte("v"), size)
			for range 50 {
				good.ask(produceRequest("a", -1, 0, value), 9)
			}
			for range 60 {
				slowReader(t, n.addr)
			}
			empty := 0
			for range 20 {
				r := good.ask(fetchRequest("a", 0), 11).(*kmsg.FetchResponse)
				if len(r.Topics[0].Partitions[0].RecordBatches) == 0 {
					empty++
				}
				if used := n.server.responses.used.Load(); used > budget {
					t.Fatalf("%d bytes held, the budget is %d", used, budget)
				}
			}
			if most := map[bool]int{true: 0, false: 15}[size < answerBytesMin]; empty > most {
				t.Fatalf("%d of 20 answers without records, at most %d", empty, most)
			}
		})
	}
}

// slowReader asks for more than the buffers of the system take, and reads none.
func slowReader(t *testing.T, addr string) {
	w := dialWire(t, addr)
	_ = w.nc.(*net.TCPConn).SetReadBuffer(4 << 10)
	for range 40 {
		w.write(frameOf(fetchRequest("a", 0), 1))
	}
}

func fetchRequest(topic string, from int64) *kmsg.FetchRequest {
	m := kmsg.NewPtrFetchRequest()
	m.SetVersion(11)
	m.ReplicaID, m.MaxWaitMillis, m.MinBytes, m.MaxBytes = -1, 0, 1, 50<<20
	m.SessionEpoch = -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic = topic
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.PartitionMaxBytes = from, 1<<20
	t.Partitions = append(t.Partitions, p)
	m.Topics = append(m.Topics, t)
	return m
}

// TestAnnouncedFramesTakeNothing: frames that are announced and do not come hold
// no more than a step of the budget each.
func TestAnnouncedFramesTakeNothing(t *testing.T) {
	n := newFakeNode(t, func(o *Options) { o.Limits.RequestBytes = 64 << 20 })
	n.topic(t, "a", 1)
	for range 50 {
		w := dialWire(t, n.addr)
		m := kmsg.NewPtrMetadataRequest()
		w.ask(m, 9) // sensible once, so that large frames are taken
		w.write([]byte{1, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3})
	}
	good := dialWire(t, n.addr)
	for range 20 {
		r := good.ask(produceRequest("a", -1, 0, bytes.Repeat([]byte("v"), 700<<10)), 9).(*kmsg.ProduceResponse)
		if r.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatal("produce failed")
		}
	}
	if used := n.server.requests.step.used.Load() + n.server.requests.small.used.Load(); used > 50*frameStepBytes+1<<20 { // the last produce may not be settled yet
		t.Fatalf("%d bytes held by frames that did not come", used)
	}
	if used := n.server.requests.huge.used.Load(); used != 0 {
		t.Fatalf("%d bytes held by huge frames that did not come", used)
	}
}

// TestDribbledFramesHoldUpNobody: frames that come a byte at a time. Ordinary
// ones do not wait for them at all, large ones only until the slow give way.
func TestDribbledFramesHoldUpNobody(t *testing.T) {
	n := newFakeNode(t, func(o *Options) { o.Limits.RequestBytes = 16 << 20 })
	n.topic(t, "a", 1)
	for range 8 { // twice what the budget of such frames takes
		w := dialWire(t, n.addr)
		w.ask(kmsg.NewPtrMetadataRequest(), 9) // sensible once, so that large frames are taken
		w.write(append([]byte{0, 0x40, 0, 0, 0, 0, 0, 9}, make([]byte, frameStepBytes)...))
		go func() {
			for range time.Tick(50 * time.Millisecond) { // until the connection ends
				if _, err := w.nc.Write([]byte{0}); err != nil {
					return
				}
			}
		}()
	}
	eventually(t, n.server.requests.small.pressed)
	good := dialWire(t, n.addr)
	produce := func(size int) time.Duration {
		began := time.Now()
		r := good.ask(produceRequest("a", -1, 0, bytes.Repeat([]byte("v"), size)), 9).(*kmsg.ProduceResponse)
		if r.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatal("produce failed")
		}
		return time.Since(began)
	}
	for range 20 {
		if took := produce(1 << 10); took > stallMaxPressed {
			t.Fatalf("a frame of 1 KiB waited %v for larger ones", took)
		}
	}
	if took := produce(700 << 10); took > 4*stallMaxPressed {
		t.Errorf("a frame of 700 KiB waited %v", took)
	}
}

// TestHugeFrames: as large as the setting allows, and one byte more.
func TestHugeFrames(t *testing.T) {
	n := newFakeNode(t, func(o *Options) { o.Limits.FrameBytesMax = 4 << 20 })
	n.topic(t, "a", 1)
	w := dialWire(t, n.addr)
	w.ask(kmsg.NewPtrMetadataRequest(), 9)
	r := w.ask(produceRequest("a", -1, 0, bytes.Repeat([]byte("v"), 3<<20)), 9).(*kmsg.ProduceResponse)
	if r.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("%+v", r)
	}
	eventually(t, func() bool { return n.server.requests.used() == 0 })
	w.write([]byte{0, 0x40, 0, 1})
	w.closed()
}

// TestPeerLeavesDuringWait: a fetch that waits for minutes ends with its client.
func TestPeerLeavesDuringWait(t *testing.T) {
	n := newFakeNode(t, nil)
	n.topic(t, "a", 1)
	w := dialWire(t, n.addr)
	m := fetchRequest("a", 0)
	m.MaxWaitMillis = 250_000
	w.write(frameOf(m, 1))
	_ = w.nc.Close()
	deadline := time.After(20 * time.Second)
	for {
		n.server.mu.Lock()
		open := len(n.server.conns)
		n.server.mu.Unlock()
		if open == 0 {
			return
		}
		select {
		case <-deadline:
			t.Fatal("the connection is still served")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestConnectionsAreCapped: the one too many is closed, the others go on.
func TestConnectionsAreCapped(t *testing.T) {
	n := newFakeNode(t, func(o *Options) { o.Limits.ConnectionsMax = 2 })
	a, b := dialWire(t, n.addr), dialWire(t, n.addr)
	a.ask(kmsg.NewPtrMetadataRequest(), 9)
	b.ask(kmsg.NewPtrMetadataRequest(), 9)
	dialWire(t, n.addr).closed()
	a.ask(kmsg.NewPtrMetadataRequest(), 9)
}

// TestCloseAnswersWhatHasCome: a produce under way is answered, a waiting fetch
// ends, and both connections close.
func TestCloseAnswersWhatHasCome(t *testing.T) {
	hold := make(chan struct{})
	n := newFakeNode(t, nil)
	n.topic(t, "a", 1)
	n.log.hold = hold
	p, f := dialWire(t, n.addr), dialWire(t, n.addr)
	p.write(frameOf(produceRequest("a", -1, 0, []byte("x")), 1))
	wait := fetchRequest("a", 1)
	wait.MaxWaitMillis = 250_000
	f.write(frameOf(wait, 2))
	eventually(t, func() bool {
		n.log.mu.Lock()
		defer n.log.mu.Unlock()
		return len(n.log.asked) > 0 && len(n.log.partitions[firstPartition(n, "a")].batches) == 1
	})
	closed := make(chan error, 1)
	go func() { closed <- n.server.Close(context.Background()) }()
	f.read(wait, 2)
	f.closed()
	close(hold)
	p.read(produceRequest("a", -1, 0), 1)
	p.closed()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
}

func firstPartition(n *fakeNode, topic string) model.PartitionID {
	t, _ := n.Metadata().Topic(topic)
	return t.PartitionID(0)
}

// eventually waits for what another goroutine brings about.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-deadline:
			t.Fatal("it never happened")
		case <-time.After(time.Millisecond):
		}
	}
}
