package fetch_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
)

var rewrite = flag.Bool("rewrite", false, "write the transcripts as they are now")

// TestSessionTranscript plays testdata/sessions.txt. A line is a fetch:
//
//	fetch <session|none|sN> <epoch> [ids] [+topic/index@from ...] [-topic/index ...]
//
// then, when it is taken, what was found (tell topic/index=high[!][*], * records,
// ! an error) and what of it the client is told. "later <duration>" moves time.
func TestSessionTranscript(t *testing.T) {
	const file = "testdata/sessions.txt"
	want, err := os.ReadFile(file)
	if err != nil && !*rewrite {
		t.Fatal(err)
	}
	p := &player{now: time.Unix(0, 0), ids: map[int32]string{}, names: map[string]int32{"none": 0, "unknown": -7}, high: map[string]string{}}
	p.sessions = fetch.NewSessions(fetch.SessionLimits{SessionsMax: 2, PartitionsMax: 6, Now: func() time.Time { return p.now }})
	var out strings.Builder
	for line := range strings.Lines(string(want)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "  ") {
			continue
		}
		fmt.Fprintln(&out, line)
		if line != "" && line[0] != '#' {
			p.play(&out, strings.Fields(line))
		}
	}
	if out.String() == string(want) {
		return
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("transcript differs (-rewrite to take it):\n%s", out.String())
}

// player plays one transcript.
type player struct {
	sessions *fetch.Sessions
	now      time.Time
	ids      map[int32]string // names of session ids, in order of appearance
	names    map[string]int32
	high     map[string]string // by partition, what is found there
}

func (p *player) play(out *strings.Builder, words []string) {
	switch words[0] {
	case "later":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			panic(err)
		}
		p.now = p.now.Add(d)
	case "found":
		for _, w := range words[1:] {
			k, v, _ := strings.Cut(w, "=")
			p.high[k] = v
		}
	case "fetch":
		p.fetch(out, words[1:])
	default:
		panic("unknown word " + words[0])
	}
}

func (p *player) fetch(out *strings.Builder, words []string) {
	ask := fetch.SessionAsk{ID: p.names[words[0]]}
	if _, err := fmt.Sscan(words[1], &ask.Epoch); err != nil {
		panic(err)
	}
	for _, w := range words[2:] {
		if w == "ids" {
			ask.ByID = true
			continue
		}
		name, from, _ := strings.Cut(w[1:], "@")
		key := fetch.SessionKey{}
		topic, index, _ := strings.Cut(name, "/")
		key.Topic.Name = topic
		_, _ = fmt.Sscan(index, &key.Index)
		if w[0] == '-' {
			ask.Forgotten = append(ask.Forgotten, key)
			continue
		}
		part := fetch.SessionPartition{Key: key}
		_, _ = fmt.Sscan(from, &part.From)
		ask.Partitions = append(ask.Partitions, part)
	}
	turn, err := p.sessions.Begin(ask)
	if err != nil {
		fmt.Fprintf(out, "  refused: %v\n", err)
		return
	}
	told := make([]fetch.Told, len(turn.Partitions))
	var asked []string
	for i, part := range turn.Partitions {
		name := fmt.Sprintf("%s/%d", part.Key.Topic.Name, part.Key.Index)
		asked = append(asked, fmt.Sprintf("%s@%d", name, part.From))
		told[i] = parseTold(p.high[name])
	}
	fmt.Fprintf(out, "  asks %s\n", strings.Join(asked, " "))
	var tells []string
	for i, yes := range turn.Answer(told) {
		if yes {
			tells = append(tells, asked[i])
		}
	}
	sessions, partitions := p.sessions.Len()
	fmt.Fprintf(out, "  session %s tells [%s]; %d sessions, %d partitions\n", p.name(turn.ID), strings.Join(tells, " "), sessions, partitions)
}

func (p *player) name(id int32) string {
	if id == 0 {
		return "none"
	}
	if p.ids[id] == "" {
		name := fmt.Sprintf("s%d", len(p.ids)+1)
		p.ids[id], p.names[name] = name, id
	}
	return p.ids[id]
}

func parseTold(s string) fetch.Told {
	var told fetch.Told
	told.Records = strings.Contains(s, "*")
	told.Failed = strings.Contains(s, "!")
	_, _ = fmt.Sscan(strings.Trim(s, "*!"), &told.High)
	return told
}

// FuzzSessions: whatever is asked, a turn has what the session was asked for,
// and the bounds hold.
func FuzzSessions(f *testing.F) {
	f.Add([]byte{0, 0, 1, 2, 1, 1, 3, 9, 2, 200, 7})
	f.Fuzz(func(t *testing.T, b []byte) {
		now := time.Unix(0, 0)
		s := fetch.NewSessions(fetch.SessionLimits{SessionsMax: 3, PartitionsMax: 8, Now: func() time.Time { return now }})
		var ids []int32
		epochs := map[int32]int32{}
		for len(b) >= 3 {
			kind, which, parts := b[0]%4, b[1], int(b[2]%6)
			b = b[3:]
			ask := fetch.SessionAsk{Epoch: int32(kind) - 1}
			if len(ids) > 0 {
				ask.ID = ids[int(which)%len(ids)]
			}
			if kind >= 2 {
				ask.Epoch = epochs[ask.ID]
			}
			for i := range parts {
				k := fetch.SessionKey{Index: int32(which) + int32(i)}
				if kind == 3 {
					ask.Forgotten = append(ask.Forgotten, k)
				} else {
					ask.Partitions = append(ask.Partitions, fetch.SessionPartition{Key: k, From: model.Offset(i)})
				}
			}
			now = now.Add(time.Duration(which) * time.Second)
			turn, err := s.Begin(ask)
			if err != nil {
				if !errors.Is(err, fetch.ErrSessionUnknown) && !errors.Is(err, fetch.ErrSessionEpoch) && !errors.Is(err, fetch.ErrSessionTopicIDs) {
					t.Fatal(err)
				}
				continue
			}
			if turn.ID != 0 {
				if !slices.Contains(ids, turn.ID) {
					ids = append(ids, turn.ID)
				}
				epochs[turn.ID]++
			}
			turn.Answer(make([]fetch.Told, len(turn.Partitions)))
			if sessions, partitions := s.Len(); sessions > 3 || partitions > 8 {
				t.Fatalf("%d sessions of %d partitions", sessions, partitions)
			}
		}
	})
}
