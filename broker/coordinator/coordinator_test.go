package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/group"
	"github.com/millrace-io/millrace/broker/model"
)

func TestJavaHash(t *testing.T) {
	for s, want := range map[string]int32{
		"": 0, "a": 97, "hello": 99162322, "polygenelubricants": -1 << 31, "grüße": 98768023, "\U0001F600": 1772899,
	} {
		if got := javaHash(s); got != want {
			t.Errorf("hash of %q is %d, want %d", s, got, want)
		}
	}
	if got := Partition("polygenelubricants", 16); got != 0 {
		t.Errorf("the smallest hash goes to partition %d, want 0", got)
	}
	if got := Partition("hello", 50); got != 22 {
		t.Errorf("hello goes to partition %d, want 22", got)
	}
}

func TestFirstUseMakesTheTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		if err := n.commit("g", 0, 1); !errors.Is(err, ErrNotCoordinator) {
			t.Fatalf("commit before anybody coordinates: %v", err)
		}
		if _, err := n.service.Find(t.Context(), "g"); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("find without a leader: %v", err)
		}
		topic, ok := n.cluster.Metadata().Topic(cluster.TopicOffsets)
		if !ok || !topic.Internal || !topic.Config.Compact || topic.Config.Delete || len(topic.Partitions) != 16 {
			t.Fatalf("%s is %+v", cluster.TopicOffsets, topic)
		}
		n.serve()
		if id, err := n.service.Find(t.Context(), "g"); err != nil || id != 0 {
			t.Fatalf("find: node %d, %v", id, err)
		}
	})
}

func TestOffsetsSurviveLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.serve()
		for i := range int32(20) {
			if err := n.commit("g", i%7, model.Offset(100+i)); err != nil {
				t.Fatal(err)
			}
		}
		before := n.offsets("g")
		if len(before) != 7 {
			t.Fatalf("offsets: %v", before)
		}
		n.lead(false)
		if _, err := n.service.Fetch(t.Context(), "g", FetchAsk{}); !errors.Is(err, ErrNotCoordinator) {
			t.Fatalf("fetch without leadership: %v", err)
		}
		n.serve()
		if after := n.offsets("g"); !slices.Equal(before, after) {
			t.Fatalf("before %v, after %v", before, after)
		}
		all, err := n.service.CommittedOffsets(t.Context())
		if err != nil || len(all) != 7 || all[0].Group != "g" || all[6].Partition != 6 {
			t.Fatalf("exported: %v, %v", all, err)
		}
	})
}

func TestAnswersWaitForTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.serve()
		n.log.hold = make(chan struct{})
		done := make(chan error, 1)
		go func() { done <- n.commit("g", 0, 1) }()
		synctest.Wait()
		if len(done) > 0 || len(n.offsets("g")) > 0 {
			t.Fatal("an offset was answered or shown before its write was")
		}
		close(n.log.hold)
		if err := <-done; err != nil || len(n.offsets("g")) != 1 {
			t.Fatal(err, n.offsets("g"))
		}
	})
}

func TestLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.log.reading = make(chan struct{})
		n.serve()
		if err := n.commit("g", 0, 1); !errors.Is(err, ErrLoading) {
			t.Fatalf("commit: %v", err)
		}
		if err := n.service.Heartbeat(t.Context(), "g", group.Heartbeat{Member: group.Member{ID: "m"}}); err != nil {
			t.Fatalf("heartbeat: %v", err)
		}
		if _, err := n.service.List(t.Context()); !errors.Is(err, ErrLoading) {
			t.Fatalf("list: %v", err)
		}
		close(n.log.reading)
		synctest.Wait()
		if err := n.commit("g", 0, 1); err != nil {
			t.Fatal(err)
		}
	})
}

func TestUnknownOutcomeIsReadFromTheLog(t *testing.T) {
	for what, kept := range map[outcome]bool{unknownLost: false, unknownKept: true, unknownLate: true} {
		synctest.Test(t, func(t *testing.T) {
			n := newNode(t)
			n.serve()
			if err := n.commit("g", 0, 1); err != nil {
				t.Fatal(err)
			}
			n.log.next = func() outcome { n.log.next = nil; return what }
			if err := n.commit("g", 0, 2); !errors.Is(err, ErrUnavailable) {
				t.Fatalf("commit of unknown outcome: %v", err)
			}
			synctest.Wait()
			want := model.Offset(1)
			if kept {
				want = 2
			}
			if got := n.offsets("g"); len(got) != 1 || got[0].Offset.Offset != want {
				t.Fatalf("outcome %d: fetched %v, want %d", what, got, want)
			}
			if logged := n.log.replayed(t, n.partition("g"), "g"); !slices.Equal(logged, n.offsets("g")) {
				t.Fatalf("outcome %d: memory %v, log %v", what, n.offsets("g"), logged)
			}
		})
	}
}

func TestLogThatCannotBeReadIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.log.readErr = errors.New("corrupt")
		n.serve()
		pass(time.Minute)
		if err := n.commit("g", 0, 1); !errors.Is(err, ErrLoading) {
			t.Fatalf("commit: %v", err)
		}
		n.log.mu.Lock()
		n.log.readErr = nil
		n.log.mu.Unlock()
		pass(retryMax)
		synctest.Wait()
		if err := n.commit("g", 0, 1); err != nil {
			t.Fatal(err)
		}
	})
}

// join joins as a consumer would, with its id if it has one.
func (n *node) join(client, id, instance string) group.JoinAnswer {
	return n.service.Join(n.t.Context(), "g", group.Join{
		Member: group.Member{ID: id, InstanceID: instance}, ClientID: client, ClientHost: "/h", ProtocolType: "consumer",
		Protocols:      []group.Protocol{{Name: "range", Metadata: []byte{0, 0, 0, 0, 0, 1, 0, 1, 't', 0xff, 0xff, 0xff, 0xff}, Topics: []string{"t"}}},
		SessionTimeout: 10 * time.Second, RebalanceTimeout: time.Minute, KnownIDRequired: instance == "",
	})
}

func (n *node) joined(client, instance string) group.JoinAnswer {
	a := n.join(client, "", instance)
	if errors.Is(a.Err, group.ErrMemberIDRequired) {
		a = n.join(client, a.MemberID, instance)
	}
	return a
}

func TestGroupOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.serve()
		began := time.Now()
		answers := make(chan group.JoinAnswer, 2)
		for _, client := range []string{"a", "b"} {
			go func() { answers <- n.joined(client, "") }()
		}
		leader, other := <-answers, <-answers
		if len(leader.Members) == 0 {
			leader, other = other, leader
		}
		if leader.Err != nil || other.Err != nil || len(leader.Members) != 2 || leader.Generation != 1 || other.Generation != 1 {
			t.Fatalf("joined: %+v and %+v", leader, other)
		}
		if took := time.Since(began); took < 3*time.Second || took > 7*time.Second {
			t.Errorf("the first generation took %v", took)
		}
		synced := make(chan group.SyncAnswer, 1)
		go func() {
			synced <- n.service.Sync(t.Context(), "g", group.Sync{Member: group.Member{ID: other.MemberID}, Generation: 1})
		}()
		synctest.Wait()
		a := n.service.Sync(t.Context(), "g", group.Sync{Member: group.Member{ID: leader.MemberID}, Generation: 1, Assignments: []group.Assignment{
			{MemberID: leader.MemberID, Bytes: []byte("x")}, {MemberID: other.MemberID, Bytes: []byte("y")},
		}})
		if b := <-synced; a.Err != nil || b.Err != nil || string(a.Assignment) != "x" || string(b.Assignment) != "y" {
			t.Fatalf("synced: %+v and %+v", a, b)
		}
		before, err := n.service.Describe(t.Context(), "g")
		if err != nil || before.State != group.Stable || len(before.Members) != 2 {
			t.Fatalf("described: %+v, %v", before, err)
		}

		// Another leadership finds the group as it was, and sessions begin anew.
		n.serve()
		if after, err := n.service.Describe(t.Context(), "g"); err != nil || !reflect.DeepEqual(before, after) {
			t.Fatalf("before %+v, after %+v, %v", before, after, err)
		}
		pass(8 * time.Second)
		if err := n.beat(leader.MemberID, 1); err != nil {
			t.Fatal(err)
		}
		pass(4 * time.Second) // the other was silent for 12 s
		if err := n.beat(leader.MemberID, 1); !errors.Is(err, group.ErrRebalanceInProgress) {
			t.Fatalf("heartbeat after the other's session: %v", err)
		}
		if a := n.join("a", leader.MemberID, ""); a.Err != nil || a.Generation != 2 || len(a.Members) != 1 {
			t.Fatalf("joined again: %+v", a)
		}
		if err := n.service.DeleteGroup(t.Context(), "g"); !errors.Is(err, group.ErrNotEmpty) {
			t.Fatalf("delete: %v", err)
		}
		if l := n.service.Leave(t.Context(), "g", []group.Member{{ID: leader.MemberID}}); l.Err != nil || l.Members[0] != nil {
			t.Fatalf("leave: %+v", l)
		}
		synctest.Wait()
		if err := n.service.DeleteGroup(t.Context(), "g"); err != nil {
			t.Fatal(err)
		}
		if all, err := n.service.List(t.Context()); err != nil || len(all) != 0 {
			t.Fatalf("listed after the deletion: %v, %v", all, err)
		}
		n.serve()
		if all, err := n.service.List(t.Context()); err != nil || len(all) != 0 {
			t.Fatalf("listed after a load: %v, %v", all, err)
		}
	})
}

func (n *node) beat(id string, generation int32) error {
	return n.service.Heartbeat(n.t.Context(), "g", group.Heartbeat{Member: group.Member{ID: id}, Generation: generation})
}

func TestWaitingMembersHearOfLostLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.serve()
		done := make(chan group.JoinAnswer, 1)
		go func() { done <- n.joined("a", "i") }()
		synctest.Wait()
		n.lead(false)
		if a := <-done; !errors.Is(a.Err, ErrNotCoordinator) {
			t.Fatalf("join: %+v", a)
		}
		ctx, cancel := context.WithCancel(t.Context())
		n.serve()
		go func() {
			_, err := n.service.ask(ctx, "g", func(to group.Token) group.Event {
				return group.Join{To: to, NewID: "x", ProtocolType: "consumer", Protocols: []group.Protocol{{Name: "r"}}, SessionTimeout: 10 * time.Second}
			})
			done <- group.JoinAnswer{Err: err}
		}()
		synctest.Wait()
		cancel()
		if a := <-done; !errors.Is(a.Err, ErrUnavailable) {
			t.Fatalf("join of a client that left: %+v", a)
		}
	})
}

func TestDeletedTopicsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.serve()
		for _, name := range []string{"t", "u"} {
			if r, err := n.cluster.CreateTopics(t.Context(), []cluster.CreateTopic{{Name: name, Partitions: 1, Replication: 1}}, false); err != nil || r[0].Err != nil {
				t.Fatal(r, err)
			}
		}
		synctest.Wait()
		if err := n.commit("g", 0, 5); err != nil {
			t.Fatal(err)
		}
		if _, err := n.cluster.DeleteTopics(t.Context(), []cluster.TopicRef{{Name: "t"}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := n.offsets("g"); len(got) != 0 {
			t.Fatalf("offsets of a deleted topic: %v", got)
		}
		if logged := n.log.replayed(t, n.partition("g"), "g"); len(logged) != 0 {
			t.Fatalf("the log still has %v", logged)
		}
	})
}

func TestOffsetsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.serve()
		if err := n.commit("g", 0, 5); err != nil {
			t.Fatal(err)
		}
		retention := n.cluster.Metadata().Cluster.OffsetsRetention
		pass(retention - time.Minute)
		if got := n.offsets("g"); len(got) != 1 {
			t.Fatalf("before its time: %v", got)
		}
		pass(time.Minute + n.cluster.Metadata().Cluster.OffsetsExpiryCheck)
		synctest.Wait()
		if got := n.offsets("g"); len(got) != 0 {
			t.Fatalf("after its time: %v", got)
		}
		if all, _ := n.service.List(t.Context()); len(all) != 0 {
			t.Fatalf("the group is still there: %v", all)
		}
	})
}

// stuck is a cluster whose controller does not answer.
type stuck struct{ Cluster }

func (s stuck) CreateTopics(ctx context.Context, _ []cluster.CreateTopic, _ bool) ([]cluster.TopicResult, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestFindWaitsItsOwnTime: who asks while another has __consumer_offsets made waits no
// longer than he said himself.
func TestFindWaitsItsOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := New(Options{Log: n.log, Cluster: stuck{n.cluster}, Logger: slog.New(slog.DiscardHandler)})
		defer s.Close()
		began := time.Now()
		find := func(patience time.Duration) time.Duration {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if _, err := s.Find(ctx, "g"); !errors.Is(err, ErrUnavailable) {
				t.Errorf("found: %v", err)
			}
			return time.Since(began)
		}
		first := make(chan time.Duration)
		go func() { first <- find(time.Hour) }()
		synctest.Wait()
		if took := find(time.Second); took != time.Second {
			t.Errorf("the second waited %v, want 1s", took)
		}
		<-first
	})
}
