package sim

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/millrace-io/millrace/broker/group"
	"github.com/millrace-io/millrace/broker/model"
)

// groupTruth is what the members of a group have been told, by all nodes. Owned by the
// driver.
type groupTruth struct {
	newest int32 // generation that somebody has an assignment of
	owners map[owned]string
	// given are the assignments that leaders have sent. A generation that no log has seen
	// is lost with its coordinator, and its number given again: there may be more than one.
	given map[owner][]string
	// sent is the highest offset that was to be committed, acked that which was; by
	// partition.
	sent, acked [sharedPartitions]model.Offset
}

type owned struct{ generation, partition int32 }

// owner is a member in a generation, by what stays the same of it: see nameOf.
type owner struct {
	generation int32
	name       string
}

// nameOf is a member's id, or the instance of a static one, whose id changes within a
// generation.
func nameOf(id, instance string) string { return cmp.Or(instance, id) }

func (t *groupTruth) init() {
	t.owners, t.given, t.newest = map[owned]string{}, map[owner][]string{}, -1
}

// gives notes what a leader asks its coordinator to hand out.
func (t *groupTruth) gives(generation int32, members []group.JoinMember, all []group.Assignment) {
	for i, a := range all {
		o := owner{generation, nameOf(a.MemberID, members[i].InstanceID)}
		t.given[o] = append(t.given[o], string(a.Bytes))
	}
}

// assigned holds what a member is told to own against what all others are.
func (t *groupTruth) assigned(generation int32, who group.Member, partitions []int32) (faults []string) {
	var as []byte
	id := nameOf(who.ID, who.InstanceID)
	for _, p := range partitions {
		as = append(as, byte(p))
		o := owned{generation, p}
		if other := t.owners[o]; other != "" && other != id {
			faults = append(faults, fmt.Sprintf("partition %d is %s's in generation %d, and %s's", p, other, generation, id))
		}
		t.owners[o] = id
	}
	if !slices.Contains(t.given[owner{generation, id}], string(as)) {
		faults = append(faults, fmt.Sprintf("no leader of generation %d has given %v to %s", generation, partitions, id))
	}
	t.newest = max(t.newest, generation)
	return faults
}

// committed holds the acknowledgement of a commit against newest, the newest generation
// that anybody had an assignment of when it was sent.
func (t *groupTruth) committed(generation, newest int32, offsets map[int32]model.Offset) string {
	for p, at := range offsets {
		t.acked[p] = max(t.acked[p], at)
	}
	if generation < newest {
		return fmt.Sprintf("a commit in generation %d is taken; generation %d was there before it was sent", generation, newest)
	}
	return ""
}

// position holds a committed offset that was read against least, which was acknowledged
// before it was asked for.
func (t *groupTruth) position(p int32, at, least model.Offset) string {
	switch {
	case at < least:
		return fmt.Sprintf("partition %d is at %d, and %d was acknowledged before", p, at, least)
	case at > t.sent[p]:
		return fmt.Sprintf("partition %d is at %d, and nobody has committed more than %d", p, at, t.sent[p])
	}
	return ""
}
