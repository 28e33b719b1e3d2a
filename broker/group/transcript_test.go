package group

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

var rewrite = flag.Bool("rewrite", false, "write what was seen into testdata")

// TestTranscripts runs testdata/*.txt: blocks of commands, a line ----, and what
// they print, up to an empty line.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) { runTranscript(t, f) })
	}
}

func runTranscript(t *testing.T, file string) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := newScript()
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimSpace(string(raw)), "\n\n") {
		commands, want, _ := strings.Cut(block, "\n----\n")
		commands = strings.TrimSuffix(commands, "\n----")
		var got strings.Builder
		for line := range strings.SplitSeq(commands, "\n") {
			if !strings.HasPrefix(line, "#") {
				got.WriteString(s.run(t, line))
			}
		}
		seen := strings.TrimSpace(got.String())
		if seen != strings.TrimSpace(want) && !*rewrite {
			t.Errorf("%s block %d:\n%s\n---- want\n%s\n---- got\n%s", file, i+1, commands, want, seen)
		}
		fmt.Fprintf(&out, "%s\n----\n%s\n", commands, seen)
		if seen != "" {
			out.WriteString("\n")
		}
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(strings.TrimRight(out.String(), "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// script is a group driven by text, with a log of what was acknowledged.
type script struct {
	g     *Group
	o     Options
	now   time.Time
	token Token
	ids   map[string]int
	open  []Write
	log   []Record
	auto  bool
	out   strings.Builder
}

func newScript() *script {
	s := &script{
		now: time.UnixMilli(1_700_000_000_000).UTC(), ids: map[string]int{}, auto: true,
		o: Options{
			InitialDelay: 3 * time.Second, SessionMin: 6 * time.Second, SessionMax: 30 * time.Minute,
			MembersMax: 3, MetadataBytesMax: 10, Retention: 24 * time.Hour,
		},
	}
	s.g = New("g", &s.o)
	return s
}

type args map[string]string

func (a args) or(name, def string) string {
	if v, ok := a[name]; ok {
		return v
	}
	return def
}

func (a args) duration(name, def string) time.Duration {
	d, err := time.ParseDuration(a.or(name, def))
	if err != nil {
		panic(err)
	}
	return d
}

func (a args) gen() int32 {
	n, err := strconv.ParseInt(a.or("gen", "-1"), 10, 32)
	if err != nil {
		panic(err)
	}
	return int32(n)
}

func (a args) member() Member { return Member{ID: a["id"], InstanceID: a["instance"]} }

func (s *script) run(t *testing.T, line string) string {
	s.out.Reset()
	fields := strings.Fields(line)
	a := args{}
	for _, f := range fields[1:] {
		k, v, _ := strings.Cut(f, "=")
		a[k] = v
	}
	s.token++
	switch fields[0] {
	case "join":
		s.step(s.join(a))
	case "sync":
		s.step(Sync{To: s.token, Member: a.member(), Generation: a.gen(), Protocol: a["protocol"], Assignments: assignments(a["assign"])})
	case "heartbeat":
		s.step(Heartbeat{To: s.token, Member: a.member(), Generation: a.gen()})
	case "leave":
		var ms []Member
		for id := range strings.SplitSeq(a["ids"], ",") {
			ms = append(ms, Member{ID: id, InstanceID: a["instance"]})
		}
		s.step(Leave{To: s.token, Members: ms})
	case "commit":
		s.step(Commit{To: s.token, Member: a.member(), Generation: a.gen(), Offsets: s.offsets(a)})
	case "delete-offsets":
		var ps []TopicPartition
		for p := range strings.SplitSeq(a["of"], ",") {
			ps = append(ps, parsePartition(p))
		}
		s.step(DeleteOffsets{To: s.token, Partitions: ps})
	case "forget-topics":
		names := map[string]struct{}{}
		for n := range strings.SplitSeq(a["of"], ",") {
			names[n] = struct{}{}
		}
		s.step(ForgetTopics{Names: names})
	case "delete":
		s.step(DeleteGroup{To: s.token})
	case "expire":
		s.step(Expire{})
	case "advance":
		s.advance(a.duration("by", "0s"))
	case "auto":
		s.auto = a["ack"] == "on"
	case "ack":
		var err error
		if a["err"] != "" {
			err = errors.New(a["err"])
		}
		s.ack(err)
	case "state":
		s.state()
	case "reload":
		s.reload()
	default:
		t.Fatalf("unknown command %q", line)
	}
	return s.out.String()
}

func (s *script) join(a args) Join {
	client := a.or("client", "c")
	j := Join{
		To: s.token, Member: a.member(), ClientID: client, ClientHost: "/h",
		ProtocolType: a.or("type", "consumer"), SessionTimeout: a.duration("session", "10s"),
		RebalanceTimeout: a.duration("rebalance", "60s"),
	}
	_, j.KnownIDRequired = a["known"]
	_, j.CanSkipAssignment = a["skip"]
	if j.Member.ID == "" {
		s.ids[client]++
		j.NewID = fmt.Sprintf("%s-%d", client, s.ids[client])
	}
	for p := range strings.SplitSeq(a.or("protocols", "range:t"), ",") {
		name, topics, _ := strings.Cut(p, ":")
		j.Protocols = append(j.Protocols, Protocol{Name: name, Metadata: []byte(client + "/" + p), Topics: strings.Split(topics, "+")})
	}
	return j
}

func assignments(text string) (all []Assignment) {
	for x := range strings.SplitSeq(text, ",") {
		if id, what, ok := strings.Cut(x, ":"); ok {
			all = append(all, Assignment{MemberID: id, Bytes: []byte(what)})
		}
	}
	return all
}

func parsePartition(text string) TopicPartition {
	topic, n, _ := strings.Cut(text, "/")
	i, err := strconv.Atoi(n)
	if err != nil {
		panic(err)
	}
	return TopicPartition{topic, int32(i)}
}

func (s *script) offsets(a args) (all []OffsetSet) {
	for x := range strings.SplitSeq(a["of"], ",") {
		p, n, _ := strings.Cut(x, ":")
		offset, err := strconv.Atoi(n)
		if err != nil {
			panic(err)
		}
		o := Offset{Offset: model.Offset(offset), Epoch: -1, Metadata: a["meta"], Committed: s.now.UnixMilli()}
		if a["keep"] != "" {
			o.Expires = s.now.Add(a.duration("keep", "")).UnixMilli()
		}
		all = append(all, OffsetSet{parsePartition(p), o})
	}
	return all
}

func (s *script) step(e Event) {
	effects := append([]Effect{}, s.g.Step(e, s.now)...)
	for _, x := range effects {
		switch x := x.(type) {
		case Reply:
			fmt.Fprintf(&s.out, "#%d %s\n", x.To, answerText(x.Answer))
		case Write:
			for _, r := range x.Records {
				fmt.Fprintf(&s.out, "write %s\n", recordText(r))
			}
			s.open = append(s.open, x)
		}
	}
	if s.auto {
		for len(s.open) > 0 {
			s.ack(nil)
		}
	}
}

func (s *script) ack(err error) {
	if len(s.open) == 0 {
		s.out.WriteString("no write is open\n")
		return
	}
	w := s.open[0]
	s.open = s.open[1:]
	if err == nil {
		s.log = append(s.log, w.Records...)
	}
	s.step(Written{Seq: w.Seq, Err: err})
}

func (s *script) advance(d time.Duration) {
	end := s.now.Add(d)
	for {
		due := s.g.Deadline()
		if due.IsZero() || due.After(end) {
			break
		}
		if due.After(s.now) {
			s.now = due
		}
		s.step(Tick{})
	}
	s.now = end
}

func (s *script) state() {
	v := s.g.View()
	fmt.Fprintf(&s.out, "%s gen=%d leader=%s protocol=%s/%s\n", v.State, v.Generation, v.Leader, v.ProtocolType, v.Protocol)
	for _, m := range v.Members {
		fmt.Fprintf(&s.out, "  %s instance=%q assignment=%q\n", m.ID, m.InstanceID, m.Assignment)
	}
	for _, o := range s.g.Offsets() {
		fmt.Fprintf(&s.out, "  %s/%d=%d\n", o.Topic, o.Partition, o.Offset.Offset)
	}
}

// reload loads a new group from the log and says whether it is the same.
func (s *script) reload() {
	g := New("g", &s.o)
	for _, r := range s.log {
		g.Apply(r)
	}
	g.Loaded(s.now)
	same := reflect.DeepEqual(g.View(), s.g.View()) && reflect.DeepEqual(g.Offsets(), s.g.Offsets())
	fmt.Fprintf(&s.out, "same=%v\n", same)
	s.g, s.open = g, nil
}

func errText(err error) string {
	if err == nil {
		return "ok"
	}
	return err.Error()
}

func answerText(a Answer) string {
	switch a := a.(type) {
	case JoinAnswer:
		if a.Err != nil {
			return fmt.Sprintf("join id=%s: %v", a.MemberID, a.Err)
		}
		text := fmt.Sprintf("join gen=%d protocol=%s leader=%s id=%s", a.Generation, a.Protocol, a.LeaderID, a.MemberID)
		if a.SkipAssignment {
			text += " skip"
		}
		for _, m := range a.Members {
			text += fmt.Sprintf(" [%s %s]", m.ID, m.Metadata)
		}
		return text
	case SyncAnswer:
		return fmt.Sprintf("sync assignment=%q: %s", a.Assignment, errText(a.Err))
	case Status:
		return errText(a.Err)
	case LeaveAnswer:
		return errsText("leave", a.Err, a.Members)
	case OffsetsAnswer:
		return errsText("offsets", a.Err, a.Partitions)
	}
	return fmt.Sprintf("%+v", a)
}

func errsText(what string, err error, each []error) string {
	if err != nil {
		return what + ": " + err.Error()
	}
	texts := make([]string, len(each))
	for i, e := range each {
		texts[i] = errText(e)
	}
	return what + ": " + strings.Join(texts, "; ")
}

func recordText(r Record) string {
	switch r := r.(type) {
	case OffsetSet:
		return fmt.Sprintf("offset %s/%d=%d", r.Topic, r.Partition, r.Offset.Offset)
	case OffsetDrop:
		return fmt.Sprintf("no offset %s/%d", r.Topic, r.Partition)
	case MetadataSet:
		text := fmt.Sprintf("group gen=%d leader=%s protocol=%s", r.Generation, r.Leader, r.Protocol)
		for _, m := range r.Members {
			text += fmt.Sprintf(" [%s %q]", m.ID, m.Assignment)
		}
		return text
	}
	return "no group"
}
