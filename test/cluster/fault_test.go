package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/test/node"
)

// scene is a cluster that faults strike, one after the other.
type scene struct {
	t      *testing.T
	c      *node.Cluster
	client *kgo.Client
	r      *rand.Rand
	// net is the nodes' network, if they have one of their own; else they talk by proxies.
	net *node.Net
	// small is the disk of the last node, if it has one of its own.
	small string
	// partitions and dir are of the topic that stays on all nodes.
	partitions int
	dir        string
	// leaders: who is struck leads something, always.
	leaders bool
	// hold returns when a fault has lasted long enough.
	hold func()
	// factor multiplies what a fault's promise allows; 0: nothing is judged by time.
	factor float64
}

// fault strikes a cluster, all of which runs again when it returns.
type fault struct {
	name string
	// promise is the row of RELIABILITY that it tries, gap how long acknowledgements may
	// then take; 0: as long as they like.
	promise string
	gap     time.Duration
	strike  func(s *scene)
}

// one gives a node, other another one than that. Every other time at least it leads
// something.
func (s *scene) one() int {
	p := s.r.IntN(s.partitions)
	if any := s.r.IntN(len(s.c.Nodes)); !s.leaders && s.r.IntN(2) == 0 {
		return any
	}
	topics, err := kadm.NewClient(s.client).ListTopics(s.t.Context(), topic)
	if err != nil {
		s.t.Fatal(err)
	}
	if leader := topics[topic].Partitions[int32(p)].Leader; leader >= 0 {
		return int(leader)
	}
	return p % len(s.c.Nodes)
}

func (s *scene) other(than int) int {
	return (than + 1 + s.r.IntN(len(s.c.Nodes)-1)) % len(s.c.Nodes)
}

// upTo waits for a part of a time.
func (s *scene) upTo(long time.Duration) { <-time.After(time.Duration(s.r.Int64N(int64(long)))) }

// killAll ends nodes at once, as far as one process can.
func (s *scene) killAll() {
	var killed sync.WaitGroup
	for _, n := range s.c.Nodes {
		killed.Go(n.Kill)
	}
	killed.Wait()
}

// nodeFaults strike processes, disks and clocks.
var nodeFaults = []fault{
	{"one killed", "R1", 5 * time.Second, func(s *scene) {
		n := s.one()
		s.c.Nodes[n].Kill()
		s.hold()
		s.c.Start(n)
	}},
	{"two killed, one after the other", "R2", 15 * time.Second, func(s *scene) {
		order := s.r.Perm(len(s.c.Nodes))[:2]
		for _, n := range order {
			s.c.Nodes[n].Kill()
			s.upTo(time.Second)
		}
		s.c.Start(order...)
	}},
	{"all killed at once", "R2", 15 * time.Second, func(s *scene) {
		s.killAll()
		s.c.Start()
	}},
	{"one restarts", "R13", 2 * time.Second, func(s *scene) {
		n := s.one()
		s.c.Nodes[n].Stop()
		s.c.Start(n)
	}},
	{"one stands still", "R9", 10 * time.Second, func(s *scene) {
		n := s.c.Nodes[s.one()]
		n.Signal(syscall.SIGSTOP)
		s.hold()
		n.Signal(syscall.SIGCONT)
	}},
	{"one disk is slow", "R9", 10 * time.Second, func(s *scene) {
		heal := s.c.Nodes[s.one()].SlowDisk(time.Duration(20+s.r.IntN(100)) * time.Millisecond)
		s.hold()
		heal()
	}},
	{"syncs of one fail", "R5", 5 * time.Second, syncsFail},
	{"one disk is full", "R6", 30 * time.Second, diskFull},
	{"bytes of one change", "R7", 5 * time.Second, bytesChange},
	{"one clock jumps", "R10", 2 * time.Second, func(s *scene) { s.clocks(s.c.Nodes[s.one()]) }},
	{"all clocks jump", "R10", 2 * time.Second, func(s *scene) { s.clocks(s.c.Nodes...) }},
}

// syncsFail has a node stop, which must not take longer than a second, and start again.
func syncsFail(s *scene) {
	n := s.one()
	broker := s.c.Nodes[n]
	before := len(broker.Log(1 << 30))
	detach := broker.FailSyncs()
	limit := patience
	if s.factor > 0 {
		limit = time.Duration(s.factor * float64(time.Second))
	}
	select {
	case <-broker.Done():
	case <-time.After(limit):
		s.t.Errorf("node %d runs %s after its syncs began to fail", n, limit)
		broker.Kill()
	}
	detach()
	if said := broker.Log(1 << 30)[before:]; !strings.Contains(said, "storage failed, the node stops") {
		s.t.Errorf("node %d did not say why it ends:\n%s", n, tail(said))
	}
	s.hold()
	s.c.Start(n)
}

// diskFull has a stranger take all of the last node's disk, twice: once the reserve has
// been given back. The node may end by it; with space again it starts.
func diskFull(s *scene) {
	if s.small == "" {
		s.t.Log("no node has a disk of its own: that needs root")
		return
	}
	n := len(s.c.Nodes) - 1
	broker := s.c.Nodes[n]
	node.TakeAll(s.t, s.small)
	select {
	case <-broker.Done():
	case <-time.After(time.Second):
		node.TakeAll(s.t, s.small)
		s.upTo(2 * time.Second)
	}
	node.GiveBack(s.t, s.small)
	select {
	case <-broker.Done():
		s.c.Start(n)
	case <-time.After(time.Second): // one that stops has done so by then
	}
}

// bytesChange changes a bit each of some segments of a node that has been killed: it may
// not serve them any more, and takes them anew. It is the same node each time, since what
// it has not repaired yet the others must have.
func bytesChange(s *scene) {
	n := 1
	broker := s.c.Nodes[n]
	broker.Kill()
	files, err := filepath.Glob(filepath.Join(broker.O.Dir, "topics", s.dir, "*", "*.log"))
	if err != nil {
		s.t.Fatal(err)
	}
	if len(files) == 0 {
		s.t.Log("nothing is flushed yet")
	}
	s.r.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	for _, name := range files[:(len(files)+2)/3] {
		s.changeBit(name)
	}
	s.hold()
	s.c.Start(n)
}

// journalChanges changes a bit of the Raft log of a node that has been killed.
func journalChanges(s *scene) {
	n := 1
	broker := s.c.Nodes[n]
	broker.Kill()
	files, err := filepath.Glob(filepath.Join(broker.O.Dir, "raft", "journal", "*.journal"))
	if err != nil || len(files) == 0 {
		s.t.Fatalf("%d files to change: %v", len(files), err)
	}
	s.changeBit(files[s.r.IntN(len(files))])
	s.hold()
	s.c.Start(n)
}

func (s *scene) changeBit(name string) {
	s.t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		s.t.Fatal(err)
	}
	at := s.r.IntN(max(1, len(b)))
	if len(b) > 0 {
		b[at] ^= 1 << s.r.IntN(8)
	}
	if err := os.WriteFile(name, b, 0o640); err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("a bit at %d of %d of %s", at, len(b), strings.TrimPrefix(name, s.c.Nodes[1].O.Dir))
}

// clocks moves the wall clocks of nodes by an hour on, an hour back, or the other way round, and sets them right.
func (s *scene) clocks(nodes ...*node.Node) {
	by := time.Hour
	if s.r.IntN(2) == 0 {
		by = -by
	}
	s.t.Logf("by %s, then by %s", by, -by)
	for _, by := range []time.Duration{by, -by, 0} {
		for _, n := range nodes {
			if err := n.JumpClock(by); errors.Is(err, node.ErrNoClock) {
				s.t.Log(err)
				return
			} else if err != nil {
				s.t.Fatal(err)
			}
		}
		<-time.After(5 * housekeepEvery)
	}
}

// housekeepEvery is how often brokers look for what retention lets go.
const housekeepEvery = 200 * time.Millisecond

// askedFor strike only where MILLRACE_FAULT names them: what they damage stays so. A replica
// whose part of the Raft log is damaged is not started; the others go on.
var askedFor = []fault{
	{"bytes of one journal change", "R7", 5 * time.Second, journalChanges},
}

// proxyFaults strike ways that lead through proxies.
var proxyFaults = []fault{
	{"one is deaf", "R8", 5 * time.Second, func(s *scene) {
		p := s.c.Proxies[s.one()]
		p.Cut()
		s.hold()
		p.Heal()
	}},
	{"the network flaps", "R8", 5 * time.Second, func(s *scene) {
		for range 20 {
			p := s.c.Proxies[s.one()]
			p.Cut()
			s.upTo(200 * time.Millisecond)
			p.Heal()
		}
	}},
	{"the way to one is long", "R9", 10 * time.Second, func(s *scene) {
		p := s.c.Proxies[s.one()]
		p.Slow(time.Duration(50+s.r.IntN(150)) * time.Millisecond)
		s.hold()
		p.Slow(0)
	}},
	{"one is killed while another is deaf", "R2", 15 * time.Second, func(s *scene) {
		order := s.r.Perm(len(s.c.Nodes))
		s.c.Proxies[order[0]].Cut()
		s.upTo(2 * time.Second)
		s.c.Nodes[order[1]].Kill()
		s.upTo(2 * time.Second)
		s.c.Proxies[order[0]].Heal()
		s.c.Start(order[1])
	}},
}

// netFaults strike packets.
var netFaults = []fault{
	{"one hears nobody", "R8", 5 * time.Second, func(s *scene) { s.lose(node.In) }},
	{"nobody hears one", "R8", 5 * time.Second, func(s *scene) { s.lose(node.Out) }},
	{"one is cut off", "R8", 5 * time.Second, func(s *scene) { s.lose(node.Both) }},
	{"two do not reach each other", "R8", 5 * time.Second, func(s *scene) {
		n := s.one()
		s.net.Lose(node.Both, n, s.other(n))
		s.hold()
		s.net.Heal(n)
	}},
	{"one does not reach another", "R8", 5 * time.Second, func(s *scene) {
		n := s.one()
		s.net.Lose(node.Out, n, s.other(n))
		s.hold()
		s.net.Heal(n)
	}},
	{"a cable flaps", "R8", 5 * time.Second, func(s *scene) {
		n := s.one()
		for range 10 {
			s.net.Lose(node.Both, n, s.net.Others(n)...)
			s.upTo(500 * time.Millisecond)
			s.net.Heal(n)
			s.upTo(300 * time.Millisecond)
		}
	}},
	{"one is cut off and killed, and another too", "R2", 15 * time.Second, func(s *scene) {
		n := s.one()
		s.net.Lose(node.Both, n, s.net.Others(n)...)
		s.upTo(3 * time.Second)
		other := s.other(n)
		s.c.Nodes[n].Kill()
		s.c.Nodes[other].Kill()
		s.net.Heal(n)
		s.c.Start(n, other)
	}},
}

func (s *scene) lose(way node.Way) {
	n := s.one()
	s.net.Lose(way, n, s.net.Others(n)...)
	s.hold()
	s.net.Heal(n)
}

// smallDisk is the last node's, where it has one of its own: small enough to be filled, and more than a
// leg of minutes writes on a fast machine.
const smallDisk = 1 << 30

// retention is how long the faults' topic keeps records: less than clocks jump by.
const retention = 30 * time.Minute

// newScene starts three nodes, in a network of their own or with proxies.
func newScene(t *testing.T, seed uint64, netted bool, o node.Options) *scene {
	t.Helper()
	s := &scene{t: t, r: rand.New(rand.NewPCG(seed, 0))}
	o.Args = append([]string{"--set", "housekeep_every=" + housekeepEvery.String(), "--set", "scrub_period=5s", "--set", "low_space_guard=64M", "--set", "low_space_reserve=16M"}, o.Args...)
	if netted {
		s.c, s.net = node.NewNetCluster(t, 3, o)
	} else {
		s.c = node.NewCluster(t, 3, o)
	}
	if os.Geteuid() == 0 {
		s.small = node.SmallDisk(t, smallDisk)
		s.c.Nodes[2].O.Dir = filepath.Join(s.small, "data")
	}
	s.c.Start()
	return s
}

func (s *scene) createTopic(name string, partitions, replicas int) {
	s.t.Helper()
	if _, err := s.c.Nodes[0].CLI("topic", "create", name, "-p", fmt.Sprint(partitions), "-r", fmt.Sprint(replicas),
		"-c", fmt.Sprintf("retention.ms=%d", retention.Milliseconds()), "-c", "segment.bytes=262144"); err != nil {
		s.t.Fatal(err)
	}
}

// start makes the topic that stays on all nodes, and a load.
func (s *scene) start(partitions int) *load {
	s.t.Helper()
	s.createTopic(topic, partitions, 3)
	l := startLoad(s.t, s.c, topic, partitions, s.factor)
	l.more(s.t, 20)
	s.client, s.partitions = s.c.Client(prompt()...), partitions
	topics, err := kadm.NewClient(s.client).ListTopics(s.t.Context(), topic)
	if err != nil {
		s.t.Fatal(err)
	}
	id := topics[topic].ID
	s.dir = fmt.Sprintf("%x", id[:])
	return l
}

// strike has a fault strike, and waits until all partitions are written again, by each
// producer: what it waits for is not counted to the next fault.
func (s *scene) strike(f fault, l *load) {
	s.t.Helper()
	began := time.Now()
	l.period(f.name, f.gap)
	f.strike(s)
	over := time.Now()
	l.more(s.t, 1+s.r.IntN(50))
	await(s.t, "an acknowledgement for each producer", func() error {
		if oldest := l.history.Oldest(); oldest.Before(over) {
			return fmt.Errorf("one waits since %s", oldest.Format("15:04:05.000"))
		}
		return nil
	})
	gap, until := l.history.Longest()
	s.t.Logf("%s: %s (%s): %s, longest gap %s, for %s", began.Format("15:04:05.000"), f.name, f.promise,
		time.Since(began).Round(time.Millisecond), gap.Round(time.Millisecond), until)
}
