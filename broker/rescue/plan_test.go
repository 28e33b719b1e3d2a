package rescue

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

// group is what a node holds of shard 100: "term.index/commit voters;learners", and
// " was voters" where others were decided, " taken" where its files were. A member is node
// or node.birth.
func group(t *testing.T, text string) raft.Group {
	t.Helper()
	g := raft.Group{Shard: 100}
	text, g.Taken = strings.CutSuffix(text, " taken")
	var members, was string
	text, was, _ = strings.Cut(text, " was ")
	if _, err := fmt.Sscanf(text, "%d.%d/%d %s", &g.LastTerm, &g.LastIndex, &g.Commit, &members); err != nil {
		t.Fatal(err)
	}
	g.Term = g.LastTerm
	read := func(text string) raft.Members {
		voters, learners, _ := strings.Cut(text, ";")
		return raft.Members{Voters: memberList(t, voters), Learners: memberList(t, learners)}
	}
	g.Members = read(members)
	if g.Decided = g.Members; was != "" {
		g.Decided = read(was)
	}
	return g
}

func memberList(t *testing.T, text string) (all []raft.Member) {
	t.Helper()
	for _, m := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		all = append(all, member(t, m))
	}
	return all
}

func member(t *testing.T, text string) (m raft.Member) {
	t.Helper()
	node, birth, born := strings.Cut(text, ".")
	if _, err := fmt.Sscan(node, &m.Node); err != nil {
		t.Fatal(err)
	}
	if born {
		if _, err := fmt.Sscan(birth, &m.Birth); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// reports reads what each node says: "NODE[.BIRTH]: group", or "NODE: damaged".
func reports(t *testing.T, lost []model.NodeID, texts ...string) (all []*Report) {
	t.Helper()
	for _, text := range texts {
		who, holds, _ := strings.Cut(text, ": ")
		self := member(t, who)
		r := &Report{Node: self.Node, Cluster: "c", Founders: []model.NodeID{0, 1, 2}, Given: lost, Lost: lost}
		if holds == "damaged" {
			r.Groups = []raft.Group{{Shard: 100, Birth: self.Birth, Damaged: "a torn file"}}
		} else if holds != "" {
			g := group(t, holds)
			g.Birth = self.Birth
			r.Groups = []raft.Group{g}
		}
		all = append(all, r)
	}
	return all
}

// TestDecide: who goes on with a group, by what those who are left hold. Every node decides
// the same.
func TestDecide(t *testing.T) {
	for name, c := range map[string]struct {
		lost []model.NodeID
		hold []string
		want string
	}{
		"one of three":           {[]model.NodeID{1, 2}, []string{"0: 3.10/8 0,1,2"}, "goes on by 0 in 10003, stay [{0 0}] gone [{1 0} {2 0}], 2 undecided"},
		"two of three":           {[]model.NodeID{2}, []string{"0: 3.10/8 0,1,2", "1: 3.9/8 0,1,2"}, "keeps its majority"},
		"the longer of two":      {[]model.NodeID{2, 3, 4}, []string{"0: 3.10/8 0,1,2,3,4", "1: 3.11/8 0,1,2,3,4"}, "goes on by 1 in 10003, stay [{0 0} {1 0}] gone [{2 0} {3 0} {4 0}], 3 undecided"},
		"the later of two":       {[]model.NodeID{2, 3, 4}, []string{"0: 4.10/8 0,1,2,3,4", "1: 3.11/8 0,1,2,3,4"}, "goes on by 0 in 10004, stay [{0 0} {1 0}] gone [{2 0} {3 0} {4 0}], 2 undecided"},
		"the lower of equal":     {[]model.NodeID{2, 3, 4}, []string{"1: 3.10/8 0,1,2,3,4", "0: 3.10/8 0,1,2,3,4"}, "goes on by 0 in 10003, stay [{0 0} {1 0}] gone [{2 0} {3 0} {4 0}], 2 undecided"},
		"an older birth":         {[]model.NodeID{1, 2}, []string{"0.1: 3.10/10 0.2,1,2"}, "is lost: no replica that is left is a member of the group"},
		"nobody of it":           {[]model.NodeID{1, 2}, []string{"0: 3.10/10 1,2"}, "is lost: no replica that is left is a member of the group"},
		"damaged":                {[]model.NodeID{1, 2}, []string{"0: damaged"}, "is lost: the log of node 0 is damaged: a torn file"},
		"one of two is damaged":  {[]model.NodeID{2}, []string{"0: 3.10/10 0,1,2", "1: damaged"}, "goes on by 0 in 10003, stay [{0 0}] gone [{1 0} {2 0}], 0 undecided: the log of node 1 is damaged: a torn file"},
		"a learner":              {[]model.NodeID{1, 2}, []string{"0.1: 3.10/10 1,2;0.1"}, "goes on by 0 in 10003, stay [{0 1}] gone [{1 0} {2 0}], 0 undecided: node 0 was about to become a member, and may lack what it was not sent yet"},
		"a voter before learner": {[]model.NodeID{2, 3}, []string{"0: 3.10/10 0,2,3;1.1", "1.1: 3.12/12 0,2,3;1.1"}, "goes on by 0 in 10003, stay [{0 0} {1 1}] gone [{2 0} {3 0}], 0 undecided"},
		"a learner to be":        {[]model.NodeID{1, 2}, []string{"0: 3.10/10 0,1,2;3.1", "3: "}, "goes on by 0 in 10003, stay [{0 0} {3 1}] gone [{1 0} {2 0}], 0 undecided"},
		"files taken, others":    {[]model.NodeID{2, 3, 4}, []string{"0: 3.10/8 0,1,2,3,4", "1: 3.9/8 0,1,2,3,4 taken"}, "goes on by 0 in 10003, stay [{0 0}] gone [{1 0} {2 0} {3 0} {4 0}], 2 undecided"},
		"files taken, own":       {[]model.NodeID{2, 3, 4}, []string{"0: 3.10/10 0,1,2,3,4 taken", "1: 3.9/8 0,1,2,3,4"}, "goes on by 0 in 10003, stay [{0 0}] gone [{1 0} {2 0} {3 0} {4 0}], 0 undecided"},
		"files taken, enough":    {[]model.NodeID{2}, []string{"0: 3.10/10 0,1,2 taken", "1: 3.9/8 0,1,2"}, "keeps its majority"},
		// Undecided changes of members count where they are, and where they are not.
		"undecided, fewer": {[]model.NodeID{1, 2}, []string{"0: 3.10/8 0 was 0,1"}, "goes on by 0 in 10003, stay [{0 0}] gone [], 2 undecided"},
		"undecided, more":  {[]model.NodeID{1, 2}, []string{"0: 3.10/8 0,1 was 0"}, "goes on by 0 in 10003, stay [{0 0}] gone [{1 0}], 2 undecided"},
		"of others only":   {[]model.NodeID{1, 2}, []string{"0: 3.10/8 0"}, "keeps its majority"},
	} {
		t.Run(name, func(t *testing.T) {
			all := reports(t, c.lost, c.hold...)
			for i, own := range all {
				p, err := Make(own, slices.Delete(slices.Clone(all), i, i+1))
				if errors.Is(err, ErrUnreported) {
					t.Fatal(err)
				}
				if err != nil || len(p.Groups) != 1 {
					t.Fatalf("%+v, %v", p, err)
				}
				if got := text(&p.Groups[0]); got != c.want {
					t.Errorf("node %d decides %q, want %q", own.Node, got, c.want)
				}
			}
		})
	}
}

func text(d *Decision) string {
	s := string(d.Fate)
	if d.Fate == GoesOn {
		s += fmt.Sprintf(" by %d in %d, stay %v gone %v, %d undecided", d.By, d.Term, d.Stay, d.Gone, d.Undecided)
	}
	if d.Why != "" {
		s += ": " + d.Why
	}
	return s
}

// TestDead: a replica that is there and that its group goes on without is to come back; those
// of lost nodes are not, nor is one of the controller, whose members nobody moves.
func TestDead(t *testing.T) {
	all := reports(t, []model.NodeID{2}, "0: 3.10/10 0,1.4,2", "1.4: damaged")
	p, err := Make(all[0], all[1:])
	if got := fmt.Sprint(p.Dead()); err != nil || got != "[{100 {1 4}}]" {
		t.Errorf("%s, %v", got, err)
	}
	for _, r := range all {
		r.Groups[0].Shard = raft.ControllerShard
	}
	if p, err := Make(all[0], all[1:]); err != nil || len(p.Dead()) != 0 || p.Count(GoesOn) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestTermIsHigherThanAll: also than that of a replica whose log is shorter.
func TestTermIsHigherThanAll(t *testing.T) {
	all := reports(t, []model.NodeID{2, 3, 4}, "0: 3.10/8 0,1,2,3,4", "1: 3.9/8 0,1,2,3,4")
	all[1].Groups[0].Term = 17
	p, err := Make(all[0], all[1:])
	if err != nil || p.Groups[0].By != 0 || p.Groups[0].Term != 17+termsLeapt {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestRefusesReports: nothing is decided on reports that are not whole, or not of one rescue.
func TestRefusesReports(t *testing.T) {
	lost := []model.NodeID{2}
	for name, c := range map[string]struct {
		change func(all []*Report) []*Report
		want   error
		say    string
	}{
		"a node is silent":       {func(all []*Report) []*Report { return all[:1] }, ErrUnreported, "node 1"},
		"another cluster":        {func(all []*Report) []*Report { all[1].Cluster = "d"; return all }, ErrReport, "cluster d"},
		"twice the same":         {func(all []*Report) []*Report { return append(all, all[1]) }, ErrReport, "node 1 has reported already"},
		"other nodes given up":   {func(all []*Report) []*Report { all[1].Lost = nil; return all }, ErrReport, "name the same"},
		"this one is given up":   {func(all []*Report) []*Report { all[0].Lost = []model.NodeID{0}; return all }, ErrReport, "this one"},
		"a given up one reports": {func(all []*Report) []*Report { return append(all, reports(t, lost, "2: ")...) }, ErrReport, "given up, and has reported"},
		"an unknown is given up": {func(all []*Report) []*Report { all[0].Given = []model.NodeID{2, 9}; return all }, ErrUnknownNode, "node 9"},
		"a member is silent": {func(all []*Report) []*Report {
			all[1].Groups = []raft.Group{group(t, "1.1/1 0,1,2,7")}
			return all
		}, ErrUnreported, "node 7"},
	} {
		t.Run(name, func(t *testing.T) {
			all := c.change(reports(t, lost, "0: 3.10/8 0,1,2", "1: 3.10/8 0,1,2"))
			if _, err := Make(all[0], all[1:]); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.say) {
				t.Errorf("%v, want %v with %q", err, c.want, c.say)
			}
		})
	}
}

// TestReportFile: what is written is read; what a newer build has written is refused.
func TestReportFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.json")
	r := reports(t, []model.NodeID{2}, "0.4: 3.10/8 0.4,1,2;3")[0]
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	back, err := ReadReport(path)
	if err != nil || fmt.Sprintf("%+v", back) != fmt.Sprintf("%+v", r) {
		t.Errorf("%+v, %v", back, err)
	}
}
