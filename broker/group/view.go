package group

// View is a group as tools see it. It shares no state with the group but bytes
// that nobody changes.
type View struct {
	ID                     string
	State                  State
	Generation             int32
	ProtocolType, Protocol string
	Leader                 string
	Members                []MemberView
}

// MemberView is a member of a View. Metadata and Assignment are there while the
// group is stable.
type MemberView struct {
	ID, InstanceID       string
	ClientID, ClientHost string
	Metadata, Assignment []byte
}

// Summary gives the group as it is now, without its members.
func (g *Group) Summary() View {
	v := View{
		ID: g.id, State: g.state, Generation: g.generation,
		ProtocolType: g.protocolType, Leader: g.leader,
	}
	if g.deleting {
		v.State = Dead
	}
	if g.state == Stable {
		v.Protocol = g.protocol
	}
	return v
}

// View gives the group as it is now.
func (g *Group) View() View {
	v := g.Summary()
	for _, m := range g.members {
		x := MemberView{ID: m.id, InstanceID: m.instanceID, ClientID: m.clientID, ClientHost: m.clientHost}
		if g.state == Stable {
			x.Metadata, x.Assignment = m.metadata(g.protocol), m.assignment
		}
		v.Members = append(v.Members, x)
	}
	return v
}
