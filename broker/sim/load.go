package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/record"
)

// The topics: events are written to and read, and grow; parents are what the script
// reads, and children what it writes; passing comes and goes.
const (
	eventsTopic, parentsTopic, childrenTopic, passingTopic = "events", "parents", "children", "passing"
	// eventsMax is how many partitions events grows to.
	eventsMax = 4
)

// load is what clients do. Owned by the driver.
type load struct {
	ended     bool // nothing new is begun
	made      bool // the topics are there
	producers []*producer
	consumers []*consumer
	commits   commits
	script    copier
	members   membership
	ops       []*op
	passing   bool // an op on topics is under way
}

// op is a client's request that takes its time. done runs on the driver.
type op struct {
	finished chan struct{}
	node     *node
	done     func()
	lost     func() // instead of done, when the node is gone before it has answered
}

// async has a client ask a node something, and returns once it waits for an answer, or has
// it. Its goroutine ends with the node.
func (w *World) async(n *node, f func()) *op {
	o := &op{finished: make(chan struct{}), node: n, done: func() {}, lost: func() {}}
	n.work.Go(func() {
		f()
		close(o.finished)
	})
	w.load.ops = append(w.load.ops, o)
	w.o.Still()
	return o
}

// patience is how long a client waits for an answer.
const patience = 5 * time.Second

// makeTopics goes on until the topics are there and the load is made of them.
func (w *World) makeTopics() {
	var results []cluster.TopicResult
	for range settleSteps {
		if n := w.nodes[0]; len(w.load.ops) == 0 && w.entered() {
			w.async(n, func() {
				ctx, cancel := context.WithTimeout(n.ctx, patience)
				defer cancel()
				results, _ = n.cluster.CreateTopics(ctx, []cluster.CreateTopic{
					{Name: eventsTopic, Partitions: 2, Replication: nodesMax},
					{Name: parentsTopic, Partitions: 2, Replication: nodesMax},
					{Name: childrenTopic, Partitions: 2, Replication: nodesMax},
				}, false)
				_, _ = n.groups.Find(ctx, groupName) // makes its topic; nobody leads it yet
			})
		}
		w.once()
		w.load.made = w.knows(childrenTopic) && w.knows(cluster.TopicOffsets)
		if w.load.made {
			break
		}
	}
	must(w.load.made, "the topics are not made: %v", results)
	for i := range 4 {
		topic, index := eventsTopic, int32(i%2)
		if i >= 2 {
			topic = parentsTopic
		}
		w.load.producers = append(w.load.producers, &producer{name: fmt.Sprint("numbered-", i), epochs: epochs{}, id: model.ProducerID(1000 + i), topic: topic, index: index})
	}
	w.load.producers = append(w.load.producers,
		&producer{name: "plain-0", id: -1, epochs: epochs{}, topic: eventsTopic, index: 0},
		&producer{name: "plain-1", id: -1, epochs: epochs{}, topic: parentsTopic, index: 1},
		&producer{name: "passing", id: -1, epochs: epochs{}, topic: passingTopic, index: 0},
	)
	w.load.members.init()
	for range 2 {
		w.load.consumers = append(w.load.consumers, &consumer{epochs: epochs{}, at: map[model.PartitionID]model.Offset{}})
	}
}

// entered tells whether all nodes have: a topic made before has fewer replicas.
func (w *World) entered() bool {
	for _, n := range w.nodes {
		if n == nil || !n.entered.Load() {
			return false
		}
	}
	return true
}

// knows tells whether node 0 has heard of a topic.
func (w *World) knows(topic string) bool {
	_, ok := w.nodes[0].cluster.Metadata().Topic(topic)
	return ok
}

// stepLoad has one client do something.
func (w *World) stepLoad() {
	if !w.load.made {
		return
	}
	switch k := w.dice.IntN(20); {
	case k < 12:
		w.send(w.load.producers[w.dice.IntN(len(w.load.producers))])
	case k < 16:
		w.consume(w.load.consumers[w.dice.IntN(len(w.load.consumers))])
	case k < 17:
		w.latest()
	case k < 18:
		w.commit()
	case k < 19:
		w.committed()
	default:
		if n := w.pick(); n != nil {
			w.announce(n, true)
		}
	}
}

// poll takes the answers that have come.
func (w *World) poll() {
	for _, p := range w.load.producers {
		w.take(p)
	}
	ops := w.load.ops
	w.load.ops = nil
	for _, o := range ops {
		select {
		case <-o.finished:
			if w.nodes[o.node.id] == o.node { // else its answer was never heard
				o.done()
				continue
			}
			o.lost()
		default:
			w.load.ops = append(w.load.ops, o)
		}
	}
}

// epochs are the newest leader epochs that a client has heard of: as Kafka's clients do,
// it does not believe a node that knows an older one.
type epochs map[model.PartitionID]model.LeaderEpoch

// served is a partition and the node that serves it, as far as a client knows.
type served struct {
	node  *node
	id    model.PartitionID
	epoch model.LeaderEpoch
}

// whom finds who serves a partition, as one of the nodes knows it.
func (w *World) whom(e epochs, topic string, index int32) (s served, ok bool) {
	asked := w.pick()
	if asked == nil {
		return s, false
	}
	t, known := asked.cluster.Metadata().Topic(topic)
	if !known || int(index) >= len(t.Partitions) {
		return s, false
	}
	s.id = t.PartitionID(index)
	leader, epoch := asked.cluster.Leader(s.id)
	if leader == model.NoNode || w.nodes[leader] == nil || epoch < e[s.id] {
		return s, false
	}
	e[s.id] = epoch
	s.node, s.epoch = w.nodes[leader], epoch
	return s, true
}

// producer writes numbered values to one partition: with an id it is an idempotent one,
// which repeats what it is not sure of, two batches in flight; else it repeats only what
// was surely not written.
type producer struct {
	name     string
	id       model.ProducerID
	topic    string
	index    int32
	epochs   epochs
	values   int
	sequence int32
	queue    []*sent // not acknowledged, in order
	at       *node   // where those in flight are
	draining bool    // one was refused: all that are in flight must be back before it is sent again
}

// sent is a batch.
type sent struct {
	first   int32 // sequence
	values  []string
	pending *produce.Pending
	place   model.PartitionID
	acked   bool // or given up: it is not sent again
}

const (
	inFlightMax = 2
	valuesMax   = 120 // of a producer
)

func (p *producer) inFlight() (n int) {
	for _, s := range p.queue {
		if s.pending != nil {
			n++
		}
	}
	return n
}

// send sends the next batch, or the first of those that were refused.
func (w *World) send(p *producer) {
	flying := p.inFlight()
	if p.draining && flying == 0 {
		p.draining = false
	}
	if p.draining || flying >= inFlightMax || p.id < 0 && flying > 0 {
		return
	}
	to, ok := w.whom(p.epochs, p.topic, p.index)
	if !ok || flying > 0 && to.node != p.at {
		return
	}
	n, id := to.node, to.id
	var next *sent
	for _, s := range p.queue {
		if s.pending == nil && !s.acked {
			next = s
			break
		}
	}
	if next == nil {
		if w.load.ended || p.values >= valuesMax {
			return
		}
		next = &sent{first: p.sequence}
		for range 1 + w.dice.IntN(3) {
			next.values = append(next.values, fmt.Sprintf("%s.%d", p.name, p.values))
			p.values++
		}
		p.sequence += int32(len(next.values))
		p.queue = append(p.queue, next)
	}
	p.at, next.place = n, id
	next.pending = n.produce.Start(produce.Ask{Partition: id, Records: p.batch(next), Timeout: time.Second})
	w.truth.sent(id, next.values)
	w.log("%d %s sends %v to node %d", w.step, p.name, next.values, n.id)
}

func (p *producer) batch(s *sent) []byte {
	spec := record.Plain(record.None)
	if p.id >= 0 {
		spec.ProducerID, spec.ProducerEpoch, spec.BaseSequence = p.id, 0, s.first
	}
	var b record.Builder
	b.Reset(spec)
	for _, v := range s.values {
		err := b.Add(time.Now().UnixMilli(), []byte("k"), []byte(v), nil)
		must(err == nil, "build a batch: %v", err)
	}
	_, batch, err := b.Build(nil)
	must(err == nil, "build a batch: %v", err)
	return batch
}

// take hears what became of a producer's batches.
func (w *World) take(p *producer) {
	for i, s := range p.queue {
		if s.pending == nil {
			continue
		}
		if w.nodes[p.at.id] != p.at { // the connection is gone, and the outcome unknown
			s.pending, s.acked, p.draining = nil, p.id < 0, true
			continue
		}
		select {
		case <-s.pending.Done():
			r := s.pending.Result()
			s.pending = nil
			w.log("%d %s hears of %v: %d, %v", w.step, p.name, s.values, r.Base, r.Err)
			w.heard(p, i, s, r)
		default:
		}
	}
	kept := p.queue[:0]
	for _, s := range p.queue {
		if !s.acked {
			kept = append(kept, s)
		}
	}
	p.queue = kept
}

func (w *World) heard(p *producer, i int, s *sent, r produce.Result) {
	switch {
	case r.Err == nil:
		s.acked = true
		w.truth.acked(w, s.place, r.Base, s.values)
		w.saw("acked")
	case errors.Is(r.Err, partition.ErrDuplicateSequence) && p.id >= 0:
		s.acked = true
		w.truth.there(s.place, s.values)
		w.saw("acked without an offset")
	case errors.Is(r.Err, produce.ErrTimedOut) && p.id < 0: // it may be there: it is not sent again
		s.acked = true
		w.saw("unknown")
	case errors.Is(r.Err, produce.ErrNotLeader), errors.Is(r.Err, produce.ErrTimedOut), errors.Is(r.Err, produce.ErrUnknownPartition):
		p.draining = true
		w.saw("refused")
	case errors.Is(r.Err, partition.ErrOutOfOrderSequence) && (i > 0 || p.draining):
		p.draining = true // the one before it was refused
		w.saw("out of order")
	default:
		w.broken("%s is told of %v: %v", p.name, s.values, r.Err)
	}
}

// consumer reads partitions from their beginnings on.
type consumer struct {
	epochs epochs
	at     map[model.PartitionID]model.Offset
}

// consume fetches from a partition where a consumer stands.
func (w *World) consume(c *consumer) {
	topic := []string{eventsTopic, parentsTopic, childrenTopic}[w.dice.IntN(3)]
	of, ok := w.whom(c.epochs, topic, int32(w.dice.IntN(2)))
	if !ok {
		return
	}
	n, id := of.node, of.id
	from := c.at[id]
	a := n.fetch.Fetch(n.ctx, fetch.Ask{
		Partitions: []fetch.PartitionAsk{{Partition: id, From: from, BytesMax: 4 << 10, CurrentEpoch: of.epoch}}, BytesMax: 4 << 10,
	})[0]
	switch {
	case errors.Is(a.Err, fetch.ErrNotLeader), errors.Is(a.Err, fetch.ErrUnknownPartition),
		errors.Is(a.Err, fetch.ErrFencedEpoch), errors.Is(a.Err, fetch.ErrUnknownEpoch):
		return
	case a.Err != nil && n.dead():
		return
	case a.Err != nil:
		w.broken("a consumer of %s at %d, which it was given up to, is told by node %d: %v", topic, from, n.id, a.Err)
		return
	}
	for _, r := range decode(a.Records) {
		if r.offset < from {
			continue
		}
		if r.offset != c.at[id] {
			w.broken("a consumer of %s is given %d after %d", topic, r.offset, c.at[id]-1)
		}
		c.at[id] = r.offset + 1
		w.truth.read(w, id, r.offset, r.value)
	}
	w.log("%d a consumer of %s reads %d to %d at node %d", w.step, topic, from, c.at[id], n.id)
	w.saw("read")
}

// latest asks for a partition's end, which must not lie before what was acknowledged.
func (w *World) latest() {
	of, ok := w.whom(epochs{}, eventsTopic, 0)
	if !ok {
		return
	}
	n, id := of.node, of.id
	least := w.truth.end(id)
	var answer fetch.ListAnswer
	var err error
	w.async(n, func() {
		ctx, cancel := context.WithTimeout(n.ctx, patience)
		defer cancel()
		answer, err = n.fetch.ListOffset(ctx, fetch.ListAsk{Partition: id, Timestamp: fetch.TimestampLatest, CurrentEpoch: model.NoEpoch})
	}).done = func() {
		w.log("%d the end of events is %d, %v", w.step, answer.Offset, err)
		if err == nil {
			w.saw("latest")
			if answer.Offset < least {
				w.broken("node %d says that events ends at %d; %d was acknowledged before it was asked", n.id, answer.Offset, least-1)
			}
		}
	}
}

// topicOp makes, deletes or grows a topic.
func (w *World) topicOp() {
	n := w.pick()
	if n == nil || w.load.passing || w.load.ended || !w.load.made || !n.entered.Load() {
		return
	}
	events, made := n.cluster.Metadata().Topic(eventsTopic)
	if !made { // it has entered before the topics were made, and not heard of them
		return
	}
	w.load.passing = true
	t, there := n.cluster.Metadata().Topic(passingTopic)
	grow := len(events.Partitions) < eventsMax && w.dice.IntN(3) == 0
	var err error
	o := w.async(n, func() {
		ctx, cancel := context.WithTimeout(n.ctx, patience)
		defer cancel()
		switch {
		case grow:
			_, err = n.cluster.CreatePartitions(ctx, cluster.CreatePartitions{Name: eventsTopic, Count: int32(len(events.Partitions) + 1)}, false)
		case there:
			_, err = n.cluster.DeleteTopics(ctx, []cluster.TopicRef{{ID: t.ID}})
		default:
			_, err = n.cluster.CreateTopics(ctx, []cluster.CreateTopic{{Name: passingTopic, Partitions: 1, Replication: nodesMax}}, false)
		}
	})
	o.lost = func() { w.load.passing = false }
	o.done = func() {
		w.load.passing = false
		w.log("%d topics changed: grown %v, deleted %v: %v", w.step, grow, there, err)
		w.saw("topics changed")
	}
}
