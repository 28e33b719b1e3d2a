package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/broker/group"
)

// SyncGroup (key 14), versions 0 to 5: the leader brings the assignments, all
// others wait for theirs. From version 5 on the sender must name the protocol it
// believes in.

func (s *Server) syncGroup(ctx context.Context, r *request, m *kmsg.SyncGroupRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.SyncGroupResponse)
	a := s.sync(ctx, m)
	answer.ErrorCode = groupCode(a.Err)
	answer.ProtocolType, answer.Protocol = nullable(a.ProtocolType), nullable(a.Protocol)
	answer.MemberAssignment = a.Assignment
	r.size = len(a.Assignment)
	return answer
}

func (s *Server) sync(ctx context.Context, m *kmsg.SyncGroupRequest) group.SyncAnswer {
	if m.Version >= 5 && (m.ProtocolType == nil || m.Protocol == nil) {
		return group.SyncAnswer{Err: fmt.Errorf("%w: the request names none", group.ErrInconsistentProtocol)}
	}
	e := group.Sync{
		Member: member(m.MemberID, m.InstanceID), Generation: m.Generation,
		ProtocolType: orEmpty(m.ProtocolType), Protocol: orEmpty(m.Protocol),
		Assignments: make([]group.Assignment, 0, len(m.GroupAssignment)),
	}
	for _, x := range m.GroupAssignment {
		e.Assignments = append(e.Assignments, group.Assignment{MemberID: x.MemberID, Bytes: owned(x.MemberAssignment)})
	}
	return s.o.Groups.Sync(ctx, m.Group, e)
}
