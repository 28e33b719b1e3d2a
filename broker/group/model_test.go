package group

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace-io/millrace/broker/model"
)

// world drives a group as clients, a log and crashes do, and checks what must
// hold whatever happens.
type world struct {
	t    *rapid.T
	o    Options
	g    *Group
	now  time.Time
	log  []Record
	open []Write

	token   Token
	waiting map[Token]string // member id, or instance, who asked
	clients map[string]*client
	fresh   int
	last    int32                       // the largest generation in which somebody was assigned
	owners  map[int32]map[string]string // generation -> what is owned -> owner
	seen    int32                       // of this incarnation
}

// client is one consumer as it believes to be.
type client struct {
	name, instance string
	id             string
	generation     int32
	leads          []JoinMember
}

func (c *client) member() Member { return Member{ID: c.id, InstanceID: c.instance} }

// owner names who owns a partition; the ids of one static member are one owner.
func (c *client) owner() string {
	if c.instance != "" {
		return c.instance
	}
	return c.id
}

func newWorld(t *rapid.T) *world {
	w := &world{
		t: t, now: time.UnixMilli(1_700_000_000_000), waiting: map[Token]string{},
		clients: map[string]*client{}, owners: map[int32]map[string]string{},
		o: Options{
			InitialDelay: time.Second, SessionMin: time.Second, SessionMax: time.Hour,
			MembersMax: 4, MetadataBytesMax: 8, Retention: time.Hour,
		},
	}
	for i := range 5 {
		c := &client{name: fmt.Sprintf("c%d", i)}
		if i%2 == 1 {
			c.instance = fmt.Sprintf("i%d", i)
		}
		w.clients[c.name] = c
	}
	w.g = New("g", &w.o)
	return w
}

func (w *world) pick() *client {
	return w.clients[rapid.SampledFrom([]string{"c0", "c1", "c2", "c3", "c4"}).Draw(w.t, "client")]
}

func (w *world) ask(c *client) Token {
	w.token++
	w.waiting[w.token] = c.name
	return w.token
}

func (w *world) step(e Event) {
	effects := slices.Clone(w.g.Step(e, w.now))
	for _, x := range effects {
		switch x := x.(type) {
		case Write:
			w.open = append(w.open, x)
		case Reply:
			w.reply(x)
		}
	}
	v := w.g.View()
	if w.g.state == Dead {
		w.g = New("g", &w.o)
		w.seen, w.last = 0, 0
		clear(w.owners)
		return
	}
	if v.Generation < w.seen {
		w.t.Fatalf("generation went from %d to %d", w.seen, v.Generation)
	}
	w.seen = v.Generation
}

func (w *world) reply(r Reply) {
	name, ok := w.waiting[r.To]
	if !ok {
		w.t.Fatalf("request %d answered twice, or never asked: %+v", r.To, r.Answer)
	}
	delete(w.waiting, r.To)
	c := w.clients[name]
	switch a := r.Answer.(type) {
	case JoinAnswer:
		c.leads = nil
		switch {
		case errors.Is(a.Err, ErrMemberIDRequired):
			c.id = a.MemberID
		case a.Err != nil:
			c.id = ""
		default:
			c.id, c.generation, c.leads = a.MemberID, a.Generation, a.Members
			if a.SkipAssignment {
				c.leads = nil
			}
		}
	case SyncAnswer:
		if a.Err == nil {
			w.owns(c, string(a.Assignment))
		}
	}
}

// owns notes that c was told to read part in its generation.
func (w *world) owns(c *client, part string) {
	if part == "" {
		return
	}
	if c.generation < w.last {
		w.t.Fatalf("%s assigned in generation %d after %d", c.name, c.generation, w.last)
	}
	w.last = c.generation
	of := w.owners[c.generation]
	if of == nil {
		of = map[string]string{}
		w.owners[c.generation] = of
	}
	if other, ok := of[part]; ok && other != c.owner() {
		w.t.Fatalf("generation %d: %s is owned by %s and %s", c.generation, part, other, c.owner())
	}
	of[part] = c.owner()
}

func (w *world) join(*rapid.T) {
	c := w.pick()
	if c.instance != "" && rapid.Bool().Draw(w.t, "restart") {
		c.id = ""
	}
	w.fresh++
	w.step(Join{
		To: w.ask(c), Member: c.member(), NewID: fmt.Sprintf("%s-%d", c.name, w.fresh), ProtocolType: "consumer",
		Protocols:      []Protocol{{Name: rapid.SampledFrom([]string{"range", "rr"}).Draw(w.t, "protocol"), Topics: []string{"t"}}, {Name: "sticky", Topics: []string{"t"}}},
		SessionTimeout: 10 * time.Second, RebalanceTimeout: 20 * time.Second,
		KnownIDRequired: c.instance == "", CanSkipAssignment: true,
	})
}

func (w *world) sync(*rapid.T) {
	c := w.pick()
	e := Sync{Member: c.member(), Generation: c.generation}
	// The order of parts differs at every try: were two tries for one generation
	// to reach members, they would disagree.
	shift := rapid.IntRange(0, 3).Draw(w.t, "shift")
	for i, m := range c.leads {
		e.Assignments = append(e.Assignments, Assignment{MemberID: m.ID, Bytes: []byte{'a' + byte((i+shift)%8)}})
	}
	e.To = w.ask(c)
	w.step(e)
}

func (w *world) commit(*rapid.T) {
	c := w.pick()
	e := Commit{Member: c.member(), Generation: c.generation}
	if rapid.IntRange(0, 3).Draw(w.t, "simple") == 0 {
		e.Member, e.Generation = Member{}, -1
	}
	for range rapid.IntRange(1, 3).Draw(w.t, "n") {
		p := TopicPartition{"t", rapid.Int32Range(0, 2).Draw(w.t, "partition")}
		e.Offsets = append(e.Offsets, OffsetSet{p, Offset{
			Offset: model.Offset(rapid.IntRange(0, 1000).Draw(w.t, "offset")), Committed: w.now.UnixMilli(),
		}})
	}
	e.To = w.ask(c)
	w.step(e)
}

func (w *world) other(*rapid.T) {
	c := w.pick()
	switch rapid.IntRange(0, 9).Draw(w.t, "what") {
	case 0:
		w.step(Leave{To: w.ask(c), Members: []Member{c.member()}})
	case 1:
		w.step(DeleteOffsets{To: w.ask(c), Partitions: []TopicPartition{{"t", 0}, {"u", 1}}})
	case 2:
		w.step(DeleteGroup{To: w.ask(c)})
	case 3:
		w.step(Expire{})
	case 4:
		w.step(ForgetTopics{Names: map[string]struct{}{"t": {}}})
	default:
		w.step(Heartbeat{To: w.ask(c), Member: c.member(), Generation: c.generation})
	}
}

func (w *world) pass(*rapid.T) {
	end := w.now.Add(time.Duration(rapid.SampledFrom([]int{1, 2, 5, 15, 4000}).Draw(w.t, "seconds")) * time.Second)
	for n := 0; ; n++ {
		due := w.g.Deadline()
		if due.IsZero() || due.After(end) {
			break
		}
		if n > 10_000 {
			w.t.Fatalf("ticks do not move the deadline on from %v", due)
		}
		if due.After(w.now) {
			w.now = due
		}
		w.step(Tick{})
	}
	w.now = end
}

func (w *world) land(*rapid.T) {
	if len(w.open) == 0 {
		return
	}
	x := w.open[0]
	w.open = w.open[1:]
	if rapid.IntRange(0, 4).Draw(w.t, "refused") == 0 {
		w.step(Written{Seq: x.Seq, Err: errors.New("refused")})
		return
	}
	w.log = append(w.log, x.Records...)
	w.step(Written{Seq: x.Seq})
}

// crash loses the group and the answers of all who wait. Each write under way is
// in the log or is not, in order.
func (w *world) crash(*rapid.T) {
	if len(w.open) == 0 {
		w.settled()
	}
	for _, x := range w.open {
		if rapid.Bool().Draw(w.t, "written") {
			w.log = append(w.log, x.Records...)
		}
	}
	w.open = nil
	clear(w.waiting)
	w.g = w.replay()
	v := w.g.View()
	w.seen = v.Generation
	if v.Generation == 0 { // deleted by a write that had no answer
		w.last = 0
		clear(w.owners)
	}
	if v.Generation < w.last {
		w.t.Fatalf("loaded generation %d, members were assigned in %d", v.Generation, w.last)
	}
}

func (w *world) replay() *Group {
	g := New("g", &w.o)
	for _, r := range w.log {
		g.Apply(r)
	}
	g.Loaded(w.now)
	return g
}

// settled compares memory with the log when no write is under way.
func (w *world) settled() {
	g := w.replay()
	if !slices.Equal(g.Offsets(), w.g.Offsets()) {
		w.t.Fatalf("offsets: the log says %v, memory %v", g.Offsets(), w.g.Offsets())
	}
	v := w.g.View()
	if v.State == Stable && !reflect.DeepEqual(g.View(), v) {
		w.t.Fatalf("group: the log says %+v, memory %+v", g.View(), v)
	}
}

func (w *world) check(*rapid.T) {
	if len(w.open) == 0 {
		w.settled()
	}
	ids := slices.Sorted(maps.Keys(w.g.byID))
	if len(ids) != len(w.g.members) {
		w.t.Fatalf("members %d, by id %v", len(w.g.members), ids)
	}
	if len(w.g.members) > 0 && w.g.byID[w.g.leader] == nil {
		w.t.Fatalf("leader %q is no member of %v", w.g.leader, ids)
	}
	for _, m := range w.g.members {
		if m.instanceID != "" && w.g.static[m.instanceID] != m {
			w.t.Fatalf("static member %s is lost", m.id)
		}
	}
}

func TestGroupModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"join": w.join, "join again": w.join, "sync": w.sync, "sync again": w.sync,
			"commit": w.commit, "other": w.other, "pass": w.pass,
			"land": w.land, "land again": w.land, "land more": w.land, "crash": w.crash, "": w.check,
		})
	})
}
