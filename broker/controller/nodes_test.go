package controller

import (
	"encoding/json"
	"testing"
)

// TestListeners: a record keeps them, is changed by them alone, and without them is what
// it was before there were any.
func TestListeners(t *testing.T) {
	n := Node{Level: LevelBuild, ID: 1, Host: "in", Port: 1, RPC: "r:1", Listeners: []Listener{{"in", "in", 1}, {"out", "out", 2}}}
	s := New()
	enter := func(n Node) (changed bool) {
		before := s.Version()
		c, err := Command{RegisterNode: &RegisterNode{Node: n, ClusterID: "x"}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		command, err := DecodeCommand(c)
		if err != nil {
			t.Fatal(err)
		}
		if r := s.Step(command); r.Refused != nil {
			t.Fatal(r.Refused)
		}
		return s.Version() != before
	}
	if !enter(n) || enter(n) {
		t.Error("entering the same again must change nothing, and the first time something")
	}
	var err error
	if s, err = Restore(s.Snapshot()); err != nil {
		t.Fatal(err)
	}
	if enter(n) {
		t.Error("a restored record is another one")
	}
	n.Listeners = []Listener{{"in", "in", 1}, {"out", "out", 3}}
	if !enter(n) {
		t.Error("another port of a listener is no change")
	}
	kept := s.Nodes()[0]
	for name, want := range map[string]Listener{"": {"", "in", 1}, "in": {"in", "in", 1}, "out": {"out", "out", 3}, "Out": {}} {
		if host, port, ok := kept.At(name); host != want.Host || port != want.Port || ok != (want.Host != "") {
			t.Errorf("at %q: %s %d %v", name, host, port, ok)
		}
	}
	if _, _, ok := (&Node{ID: 2, RPC: "r:1"}).At(""); ok {
		t.Error("a node whose listeners are off can be told")
	}
	plain, err := json.Marshal(Node{ID: 1, Host: "h", Port: 9092, RPC: "r:1"})
	if want := `{"id":1,"host":"h","port":9092,"rpc":"r:1"}`; err != nil || string(plain) != want {
		t.Errorf("%s, want %s", plain, want)
	}
}
