package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/broker/coordinator"
	"github.com/millrace-io/millrace/broker/group"
)

// JoinGroup (key 11), versions 0 to 9: waits until the group's next generation
// has its members. Version 0 has no rebalance timeout of its own; from version 4
// on a new dynamic member is given its id first (KIP-394); 5 brings static
// members (KIP-345), 9 lets a returning static leader skip the assignment.

// protocolsMax bounds the protocols of a member; clients have a handful.
const protocolsMax = 128

func (s *Server) joinGroup(ctx context.Context, r *request, m *kmsg.JoinGroupRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.JoinGroupResponse)
	e := group.Join{
		Member:   member(m.MemberID, m.InstanceID),
		ClientID: r.clientID, ClientHost: r.clientHost(),
		ProtocolType:      m.ProtocolType,
		SessionTimeout:    time.Duration(m.SessionTimeoutMillis) * time.Millisecond,
		RebalanceTimeout:  time.Duration(m.RebalanceTimeoutMillis) * time.Millisecond,
		CanSkipAssignment: m.Version >= 9,
	}
	e.KnownIDRequired = m.Version >= 4 && e.Member.InstanceID == ""
	if m.Version == 0 {
		e.RebalanceTimeout = e.SessionTimeout
	}
	for _, p := range m.Protocols[:min(len(m.Protocols), protocolsMax)] {
		metadata := owned(p.Metadata)
		e.Protocols = append(e.Protocols, group.Protocol{
			Name: p.Name, Metadata: metadata, Topics: coordinator.Topics(m.ProtocolType, metadata),
		})
	}
	a := s.o.Groups.Join(ctx, m.Group, e)
	answer.ErrorCode = groupCode(a.Err)
	answer.Generation, answer.LeaderID, answer.MemberID = a.Generation, a.LeaderID, a.MemberID
	answer.ProtocolType, answer.Protocol = nullable(a.ProtocolType), nullable(a.Protocol)
	answer.SkipAssignment = a.SkipAssignment
	answer.Members = make([]kmsg.JoinGroupResponseMember, 0, len(a.Members))
	for _, x := range a.Members {
		j := kmsg.NewJoinGroupResponseMember()
		j.MemberID, j.InstanceID, j.ProtocolMetadata = x.ID, nullable(x.InstanceID), x.Metadata
		answer.Members = append(answer.Members, j)
		r.size += len(x.ID) + len(x.Metadata)
	}
	return answer
}
