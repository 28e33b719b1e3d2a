package sim

import (
	"strings"
	"testing"

	"github.com/millrace-io/millrace/broker/group"
	"github.com/millrace-io/millrace/broker/model"
)

// TestGroupCheckerFails: what members are told passes when it is right, and every way of
// being wrong is found.
func TestGroupCheckerFails(t *testing.T) {
	fresh := func() *groupTruth {
		k := &groupTruth{}
		k.init()
		ab := []group.JoinMember{{ID: "a"}, {ID: "b", InstanceID: "static"}}
		k.gives(4, ab, []group.Assignment{{MemberID: "a", Bytes: []byte{0, 1}}, {MemberID: "b", Bytes: []byte{2, 3}}})
		k.gives(5, ab, []group.Assignment{{MemberID: "a", Bytes: []byte{0, 1}}, {MemberID: "b", Bytes: []byte{1, 3}}})
		k.sent = [sharedPartitions]model.Offset{9, 9}
		return k
	}
	for name, c := range map[string]struct {
		told  func(k *groupTruth) []string
		wrong bool
	}{
		"each its own": {func(k *groupTruth) []string {
			return append(k.assigned(4, group.Member{ID: "a"}, []int32{0, 1}), k.assigned(4, group.Member{ID: "b", InstanceID: "static"}, []int32{2, 3})...)
		}, false},
		"told twice": {func(k *groupTruth) []string {
			return append(k.assigned(4, group.Member{ID: "a"}, []int32{0, 1}), k.assigned(4, group.Member{ID: "a"}, []int32{0, 1})...)
		}, false},
		"owned in another generation": {func(k *groupTruth) []string {
			return append(k.assigned(4, group.Member{ID: "a"}, []int32{0, 1}), k.assigned(5, group.Member{ID: "b", InstanceID: "static"}, []int32{1, 3})...)
		}, false},
		"another id of an instance": {func(k *groupTruth) []string {
			return append(k.assigned(4, group.Member{ID: "b", InstanceID: "static"}, []int32{2, 3}), k.assigned(4, group.Member{ID: "c", InstanceID: "static"}, []int32{2, 3})...)
		}, false},
		"owned twice": {func(k *groupTruth) []string {
			return append(k.assigned(5, group.Member{ID: "a"}, []int32{0, 1}), k.assigned(5, group.Member{ID: "b", InstanceID: "static"}, []int32{1, 3})...)
		}, true},
		"given to another": {func(k *groupTruth) []string { return k.assigned(4, group.Member{ID: "a"}, []int32{2, 3}) }, true},
		"of the generation before": {func(k *groupTruth) []string {
			return k.assigned(5, group.Member{ID: "b", InstanceID: "static"}, []int32{2, 3})
		}, true},
		"given by nobody": {func(k *groupTruth) []string { return k.assigned(6, group.Member{ID: "a"}, nil) }, true},
		"a commit":        {func(k *groupTruth) []string { return told(k.committed(5, 5, map[int32]model.Offset{0: 3})) }, false},
		"an old one that began before the new generation": {func(k *groupTruth) []string {
			k.assigned(5, group.Member{ID: "a"}, []int32{0, 1})
			return told(k.committed(4, 4, map[int32]model.Offset{0: 3}))
		}, false},
		"an old one":              {func(k *groupTruth) []string { return told(k.committed(4, 5, map[int32]model.Offset{0: 3})) }, true},
		"a position":              {func(k *groupTruth) []string { return told(k.position(0, 3, 3)) }, false},
		"ahead of what was acked": {func(k *groupTruth) []string { return told(k.position(0, 9, 3)) }, false},
		"backward":                {func(k *groupTruth) []string { return told(k.position(0, 2, 3)) }, true},
		"never sent":              {func(k *groupTruth) []string { return told(k.position(0, 10, 3)) }, true},
		"of another partition":    {func(k *groupTruth) []string { return told(k.position(2, 3, 0)) }, true},
	} {
		if faults := c.told(fresh()); (len(faults) > 0) != c.wrong {
			t.Errorf("%s: %q, wrong %v", name, faults, c.wrong)
		}
	}
}

func told(fault string) []string {
	if fault == "" {
		return nil
	}
	return []string{fault}
}

// TestSpoiltMembers plays seeds with clients that break the protocol, and expects the
// judge to say what they did.
func TestSpoiltMembers(t *testing.T) {
	for want, spoil := range map[string]func(*membership){
		"'s in generation ":        func(g *membership) { g.careless = true },
		"a commit in generation ":  func(g *membership) { g.borrowing = true },
		" was acknowledged before": func(g *membership) { g.blind = true },
	} {
		found := "" // one fault may follow from another: a borrowed commit also moves positions back
		for seed := uint64(0); seed < spoiltSeeds && !strings.Contains(found, want); seed++ {
			r := play(t, Options{Seed: seed, Steps: *stepsFlag, spoil: func(w *World) { spoil(&w.load.members) }})
			for _, f := range r.Faults {
				found += f.Error()
			}
		}
		if !strings.Contains(found, want) {
			t.Errorf("expected %q, found %q", want, found)
		}
	}
}

// spoiltSeeds is how many seeds a fault may take to be seen.
const spoiltSeeds = 24
