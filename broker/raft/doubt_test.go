package raft

import (
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/model"
)

// overhear gives what of the messages that a node is told is wanted.
func (p *peers) overhear(n int, wanted func(m pb.Message) bool) <-chan pb.Message {
	heard := make(chan pb.Message, 100)
	e := p.hosts[n].ears[hostOf(p.shard)].Load()
	all := *e
	all.messages = func(b pb.MessageBatch) {
		for _, m := range b.Requests {
			if wanted(m) {
				select {
				case heard <- m:
				default:
				}
			}
		}
		e.messages(b)
	}
	p.hosts[n].ears[hostOf(p.shard)].Store(&all)
	return heard
}

// ask has a node be asked by another that misses the leader of a term and has so much more
// of the log.
func (p *peers) ask(t *testing.T, n, by int, led model.LeaderEpoch, more uint64) {
	t.Helper()
	r, err := p.hosts[n].hosts[hostOf(p.shard)].Load().GetLogReader(uint64(p.shard))
	if err != nil {
		t.Fatal(err)
	}
	_, last := r.GetRange()
	term, err := r.Term(last)
	if err != nil {
		t.Fatal(err)
	}
	p.hosts[n].hear(pb.MessageBatch{BinVer: raftio.TransportBinVersion, Requests: []pb.Message{{
		Type: pb.RequestPreVote, ShardID: uint64(p.shard), From: p.hosts[by].own(p.shard), To: p.hosts[n].own(p.shard),
		Term: uint64(led) + 1, LogIndex: last + more, LogTerm: term,
	}}})
}

// unasked is a candidate's message that stands without having asked.
func unasked(m pb.Message) bool { return m.Type == pb.RequestVote && m.Hint == m.From }

// doubted is a case of TestDoubt.
type doubted struct {
	more    uint64 // that the asker has of the log
	members int
	stands  bool
}

// longer is more than a log of these tests has.
const longer = 1000

// TestDoubt: who is asked whether a leader is missed, and misses him too, stands for election
// in the asker's place, if its log is as long and they are a majority. Else it answers later
// what it would not at once. While the leader speaks nothing comes of a question. On a machine so
// busy that others are elected meanwhile it is tried again.
func TestDoubt(t *testing.T) {
	for name, c := range map[string]doubted{
		"as long": {0, 3, true},
		"longer":  {longer, 3, false},
		"of five": {0, 5, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 5 {
				if c.tried(t) {
					return
				}
			}
			t.Error("others are elected, each time")
		})
	}
}

// tried has a node be asked while its leader speaks, and when he does not. It gives false where
// somebody was elected who had not to be.
func (c doubted) tried(t *testing.T) bool {
	p := united(t, shard)
	leader := p.propose(t, "together", 0, 1, 2)
	p.agreed(t)
	led, _ := p.hosts[leader].Leader(shard)
	asked, by := (leader+1)%3, (leader+2)%3
	for n := 3; n < c.members; n++ {
		p.hosts[asked].registry.Add(uint64(shard), replicaID(model.NodeID(n), 0), target(model.NodeID(n)))
	}
	stands := p.overhear(by, unasked)
	again := p.overhear(asked, func(m pb.Message) bool { return m.Type == pb.RequestPreVote && m.LogIndex >= longer })

	p.ask(t, asked, by, led.Term, c.more)
	<-time.After((looksMax + 1) * doubtTime)
	if now, _ := p.hosts[asked].Leader(shard); now != led || len(stands) > 0 {
		return false
	}
	for len(again) > 0 {
		<-again
	}

	p.apart(leader)
	p.ask(t, asked, by, led.Term, c.more)
	p.propose(t, "without him", asked, by)
	switch {
	case !c.stands && len(stands) > 0:
		t.Errorf("%+v stands", <-stands)
	case c.more > 0:
		return len(again) > 1 // it came, and came again before anybody was elected
	case !c.stands:
	case len(stands) == 0:
		return false
	default:
		if m := <-stands; m.From != p.hosts[asked].own(shard) || m.Term != uint64(led.Term)+1 {
			t.Errorf("stands: %+v", m)
		}
	}
	return true
}

// TestDoubtEnds: a leader's word ends a doubt, and so does time.
func TestDoubtEnds(t *testing.T) {
	const shard = 7
	var d doubts
	var k *doubt
	hear := func(m pb.Message) (begins bool) {
		m.ShardID = shard
		d.hear([]pb.Message{m}, func(_ pb.Message, begun *doubt) { k, begins = begun, true })
		return begins
	}
	looks := func(of *doubt, want int) {
		t.Helper()
		if asked, ok := d.look(shard, of); ok != (want > 0) || len(asked) != want {
			t.Errorf("%d asked, %t; want %d", len(asked), ok, want)
		}
	}
	question := func(from, term uint64) pb.Message { return pb.Message{Type: pb.RequestPreVote, From: from, Term: term} }
	if !hear(question(2, 5)) {
		t.Error("the first question begins no doubt")
	}
	first := k
	looks(first, 1)
	if hear(question(3, 5)) || hear(question(3, 5)) || hear(question(4, 4)) || hear(pb.Message{Type: pb.Heartbeat, Term: 3}) {
		t.Error("a doubt begins twice")
	}
	looks(first, 2)
	hear(pb.Message{Type: pb.Heartbeat, Term: 4})
	looks(first, 0)
	if !hear(question(2, 5)) {
		t.Error("a question after a leader's word begins no doubt")
	}
	looks(first, 0)
	if !hear(question(2, 6)) {
		t.Error("a question about the next leader begins no doubt")
	}
	for range looksMax {
		looks(k, 1)
	}
	looks(k, 0)
	if len(d.byID) > 0 || d.count.Load() > 0 {
		t.Errorf("%d doubts are left", len(d.byID))
	}
}
