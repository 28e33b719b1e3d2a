package group

import "time"

// Apply takes a record of the log while the group is being loaded.
func (g *Group) Apply(r Record) { g.apply(r) }

func (g *Group) apply(r Record) {
	switch r := r.(type) {
	case OffsetSet:
		g.offsets[r.TopicPartition] = r.Offset
	case OffsetDrop:
		delete(g.offsets, r.TopicPartition)
	case MetadataSet:
		g.restore(r)
	case MetadataDrop:
		g.restore(MetadataSet{})
		g.stored = false
	}
}

// restore makes the group what r says; sessions begin with Loaded.
func (g *Group) restore(r MetadataSet) {
	g.stored = true
	g.protocolType, g.protocol = r.ProtocolType, r.Protocol
	g.generation, g.leader, g.since = r.Generation, r.Leader, r.StateTime
	g.members = nil
	clear(g.byID)
	clear(g.static)
	g.state = Empty
	for _, m := range r.Members {
		g.state = Stable
		x := &member{
			id: m.ID, instanceID: m.InstanceID, clientID: m.ClientID, clientHost: m.ClientHost,
			sessionTimeout: m.SessionTimeout, rebalanceTimeout: m.RebalanceTimeout,
			protocols:  []Protocol{{Name: r.Protocol, Metadata: m.Subscription, Topics: m.Topics}},
			assignment: m.Assignment, synced: true,
		}
		g.members = append(g.members, x)
		g.byID[x.id] = x
		if x.instanceID != "" {
			g.static[x.instanceID] = x
		}
	}
}

// Loaded begins the members' sessions after the last Apply.
func (g *Group) Loaded(now time.Time) {
	for _, m := range g.members {
		g.touch(m, now)
	}
}
