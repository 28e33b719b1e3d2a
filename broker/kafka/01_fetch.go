package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fetch (key 1), versions 4 to 18, with sessions (from 7, KIP-227), topic ids
// (from 13) and the new leader beside NOT_LEADER (from 16, KIP-951). The first
// batch of the first partition that has any always comes whole (KIP-74). From 11 on
// replicas answer too, and a leader may name a nearer one (preferred.go). One that has
// not come as far as the offset has nothing, and after a second of that is
// OFFSET_NOT_AVAILABLE.
//
// An answer's memory is taken from the node's budget before it is read, and
// given back when the client has taken it. When the budget is short answers
// become smaller: a client that does not read holds little, and the others get
// on.

const (
	keyFetch int16 = 1
	// answerBytesMin may be read for any fetch, whatever the budget.
	answerBytesMin = 64 << 10
	// answerShare is the part of the budget that one answer may take at most.
	answerShare = 16
	// answerFreeShare is the part of what is left that one answer may take.
	answerFreeShare = 4
	// answerCopies is how often an answer is in memory until it is encoded: as read,
	// and as sent. The first is given back then.
	answerCopies = 2
	// answerReserve is the part of the budget that is kept for first batches larger
	// than answerBytesMin.
	answerReserve = 4
	// pressureWait is how long a fetch waits for the budget before it answers
	// without records.
	pressureWait = 500 * time.Millisecond
	// fetchWaitMax bounds how long a fetch may wait for records.
	fetchWaitMax = 5 * time.Minute
)

// fetching is one fetch request under way; owned by its connection's reader.
type fetching struct {
	server *Server
	r      *request
	m      *kmsg.FetchRequest
	turn   *fetch.Turn
	errs   []error // of the turn's partitions that cannot be asked for
	ask    fetch.Ask
	index  []int // of ask's partitions in the turn's
	// elsewhere is where the turn's partitions should rather be read; NoNode is here.
	elsewhere []model.NodeID
}

func (s *Server) fetch(ctx context.Context, r *request, m *kmsg.FetchRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.FetchResponse)
	turn, err := s.sessions.Begin(sessionAsk(m))
	if err != nil {
		answer.ErrorCode = code(err)
		return answer
	}
	f := &fetching{server: s, r: r, m: m, turn: turn}
	f.resolve()
	found := f.fetch(ctx)
	f.answer(answer, found)
	return answer
}

// sessionAsk gives the session's part of a request.
func sessionAsk(m *kmsg.FetchRequest) fetch.SessionAsk {
	ask := fetch.SessionAsk{ID: m.SessionID, Epoch: m.SessionEpoch, ByID: m.Version >= 13}
	if m.Version < 7 {
		ask.ID, ask.Epoch = 0, fetch.SessionFinal
	}
	for i := range m.Topics {
		t := &m.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			ask.Partitions = append(ask.Partitions, fetch.SessionPartition{
				Key:  fetch.SessionKey{Topic: fetch.SessionTopic{Name: t.Topic, ID: t.TopicID}, Index: p.Partition},
				From: model.Offset(p.FetchOffset), BytesMax: int(p.PartitionMaxBytes),
				CurrentEpoch: currentEpoch(m.Version, 9, p.CurrentLeaderEpoch),
			})
		}
	}
	for i := range m.ForgottenTopics {
		t := &m.ForgottenTopics[i]
		for _, p := range t.Partitions {
			ask.Forgotten = append(ask.Forgotten, fetch.SessionKey{Topic: fetch.SessionTopic{Name: t.Topic, ID: t.TopicID}, Index: p})
		}
	}
	return ask
}

// resolve finds the topics of the turn.
func (f *fetching) resolve() {
	f.errs = make([]error, len(f.turn.Partitions))
	f.elsewhere = make([]model.NodeID, len(f.turn.Partitions))
	f.ask = fetch.Ask{
		BytesMin: max(0, int(f.m.MinBytes)), Committed: f.m.IsolationLevel == isolationCommitted, Replicas: f.m.Version >= rackSince,
		BytesMax:   min(max(0, int(f.m.MaxBytes)), f.server.o.Cluster.Metadata().Cluster.FetchBytesMax),
		WaitMax:    min(max(0, time.Duration(f.m.MaxWaitMillis)*time.Millisecond), fetchWaitMax),
		Partitions: make([]fetch.PartitionAsk, 0, len(f.turn.Partitions)),
	}
	var last fetch.SessionTopic
	var topic *cluster.Topic
	var err error
	for i := range f.turn.Partitions {
		p := &f.turn.Partitions[i]
		f.elsewhere[i] = model.NoNode
		if topic == nil || p.Key.Topic != last {
			last = p.Key.Topic
			topic, err = f.server.topic(f.m.Version >= 13, last.Name, last.ID)
		}
		f.errs[i] = err
		var id model.PartitionID
		if err == nil {
			id, f.errs[i] = place(topic, p.Key.Index)
		}
		if f.errs[i] != nil {
			f.ask.WaitMax = 0
			continue
		}
		if f.elsewhere[i] = f.preferred(topic, p); f.elsewhere[i] != model.NoNode {
			f.ask.WaitMax = 0
		}
		f.ask.Partitions = append(f.ask.Partitions, fetch.PartitionAsk{
			Partition: id, From: p.From, BytesMax: max(0, p.BytesMax), CurrentEpoch: p.CurrentEpoch, Bare: f.elsewhere[i] != model.NoNode,
		})
		f.index = append(f.index, i)
	}
}

// fetch reads at once as much as the budget gives; when that is not enough for
// the client it waits for more, holding nothing meanwhile.
func (f *fetching) fetch(ctx context.Context) []fetch.PartitionAnswer {
	if len(f.ask.Partitions) == 0 {
		return nil
	}
	now := f.ask
	now.WaitMax = 0
	found, bytes, limited := f.read(ctx, now)
	if f.ask.WaitMax <= 0 || bytes >= f.ask.BytesMin || bytes > 0 && limited || failed(found) {
		return found
	}
	f.hold(0)
	later := f.ask
	later.BytesMin = min(later.BytesMin, int(f.server.responses.total/answerShare))
	later.BytesMax = min(later.BytesMax, max(answerBytesMin, later.BytesMin))
	found, _, _ = f.read(ctx, later)
	return found
}

// read fetches ask within the budget; limited tells that the budget, not the
// client, set the size. Its bytes are held by the request.
func (f *fetching) read(ctx context.Context, ask fetch.Ask) (found []fetch.PartitionAnswer, bytes int, limited bool) {
	pool := f.server.responses
	if ask.WaitMax == 0 {
		spare := pool.free() - pool.total/answerReserve
		want := min(pool.total/answerShare, spare/answerFreeShare, int64(ask.BytesMax))
		if want > answerBytesMin && pool.tryAcquire(answerCopies*want) {
			f.r.held = answerCopies * want
		}
		most := max(want, answerBytesMin)
		limited = int64(ask.BytesMax) > most
		ask.BytesMax = int(min(int64(ask.BytesMax), most))
	}
	found = f.server.o.Fetch.Fetch(ctx, ask)
	bytes = recordBytes(found)
	f.hold(answerCopies * int64(bytes))
	if f.r.held >= answerCopies*int64(bytes) || bytes <= answerBytesMin {
		return found, bytes, limited
	}
	for i := range found {
		found[i].Records = nil
	}
	return f.readLarge(ctx, ask, found, bytes)
}

// readLarge reads again what was larger than the budget allowed, once there is
// enough of it. Until then nothing is held, and waiting makes those give way
// that hold it and do not read. An answer without records lets the client ask
// again.
func (f *fetching) readLarge(ctx context.Context, ask fetch.Ask, empty []fetch.PartitionAnswer, want int) ([]fetch.PartitionAnswer, int, bool) {
	f.hold(0)
	wait, cancel := context.WithTimeout(ctx, pressureWait)
	n, err := f.server.responses.acquire(wait, answerCopies*int64(want))
	cancel()
	if err != nil {
		return empty, 0, true
	}
	f.r.held = n
	ask.WaitMax, ask.BytesMax = 0, want
	found := f.server.o.Fetch.Fetch(ctx, ask)
	bytes := recordBytes(found)
	f.hold(answerCopies * int64(bytes))
	return found, bytes, true
}

func recordBytes(found []fetch.PartitionAnswer) (bytes int) {
	for i := range found {
		bytes += len(found[i].Records)
	}
	return bytes
}

// hold makes the request's share of the budget n bytes, if there are as many.
func (f *fetching) hold(n int64) {
	switch pool := f.server.responses; {
	case n < f.r.held:
		pool.release(f.r.held - n)
		f.r.held = n
	case n > f.r.held && pool.tryAcquire(n-f.r.held):
		f.r.held = n
	}
}

// failed tells whether waiting is of no use. An offset that is not here yet may come.
func failed(found []fetch.PartitionAnswer) bool {
	for i := range found {
		if err := found[i].Err; err != nil && !errors.Is(err, fetch.ErrOffsetNotAvailable) {
			return true
		}
	}
	return false
}

// answer tells what was found, or, of a session, what of it is new.
func (f *fetching) answer(answer *kmsg.FetchResponse, found []fetch.PartitionAnswer) {
	all := make([]fetch.PartitionAnswer, len(f.turn.Partitions))
	for i, err := range f.errs {
		if err != nil {
			all[i] = fetch.PartitionAnswer{Err: err, HighWatermark: model.NoOffset, LSO: model.NoOffset, LogStart: model.NoOffset}
		}
	}
	for i, at := range f.index {
		all[at] = found[i]
		id := f.ask.Partitions[i].Partition
		behind := errors.Is(found[i].Err, fetch.ErrOffsetNotAvailable)
		if !f.r.conn.behind(id, behind, f.server.o.Now()) && behind {
			all[at].Err = nil
		}
		if all[at].Err != nil {
			f.elsewhere[at] = f.back(id, all[at].Err)
		}
	}
	told := make([]fetch.Told, len(all))
	for i := range all {
		told[i] = fetch.Told{High: all[i].HighWatermark, LogStart: all[i].LogStart, Records: len(all[i].Records) > 0, Failed: all[i].Err != nil, Elsewhere: f.elsewhere[i] != model.NoNode}
	}
	answer.SessionID = f.turn.ID
	for i, yes := range f.turn.Answer(told) {
		if yes {
			f.add(answer, f.turn.Partitions[i].Key, &all[i], f.elsewhere[i])
		}
	}
}

// add puts a partition into the answer, behind others of its topic.
func (f *fetching) add(answer *kmsg.FetchResponse, key fetch.SessionKey, found *fetch.PartitionAnswer, elsewhere model.NodeID) {
	last := len(answer.Topics) - 1
	if last < 0 || answer.Topics[last].Topic != key.Topic.Name || answer.Topics[last].TopicID != key.Topic.ID {
		t := kmsg.NewFetchResponseTopic()
		t.Topic, t.TopicID = key.Topic.Name, key.Topic.ID
		answer.Topics = append(answer.Topics, t)
		last++
	}
	p := kmsg.NewFetchResponseTopicPartition()
	p.Partition, p.ErrorCode = key.Index, code(found.Err)
	p.HighWatermark, p.LastStableOffset, p.LogStartOffset = int64(found.HighWatermark), int64(found.LSO), int64(found.LogStart)
	p.PreferredReadReplica = int32(elsewhere)
	p.RecordBatches = found.Records
	f.r.lent = append(f.r.lent, found.Records)
	if p.RecordBatches == nil {
		p.RecordBatches = []byte{} // old clients do not take null
	}
	f.r.size += len(p.RecordBatches) + 64
	if f.ask.Committed {
		p.AbortedTransactions = make([]kmsg.FetchResponseTopicPartitionAbortedTransaction, 0, len(found.Aborted))
		for _, a := range found.Aborted {
			t := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
			t.ProducerID, t.FirstOffset = int64(a.Producer), int64(a.First)
			p.AbortedTransactions = append(p.AbortedTransactions, t)
		}
	}
	if f.m.Version >= 16 && (p.ErrorCode == codeNotLeaderOrFollower || p.ErrorCode == codeFencedLeaderEpoch) {
		f.leader(answer, &p, key)
	}
	answer.Topics[last].Partitions = append(answer.Topics[last].Partitions, p)
}

// leader says who serves the partition now.
func (f *fetching) leader(answer *kmsg.FetchResponse, p *kmsg.FetchResponseTopicPartition, key fetch.SessionKey) {
	node, epoch := f.server.o.Cluster.Leader(model.PartitionID{Topic: key.Topic.ID, Index: key.Index})
	p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = int32(node), int32(epoch)
	n, ok := f.server.o.Cluster.Metadata().Node(node)
	if ok {
		n, ok = f.r.seen(n)
	}
	if !ok {
		return
	}
	for i := range answer.Brokers {
		if answer.Brokers[i].NodeID == int32(node) {
			return
		}
	}
	b := kmsg.NewFetchResponseBroker()
	b.NodeID, b.Host, b.Port, b.Rack = int32(n.ID), n.Host, n.Port, rack(n.Rack)
	answer.Brokers = append(answer.Brokers, b)
}
