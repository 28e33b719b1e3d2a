package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/broker/group"
)

// LeaveGroup (key 13), versions 0 to 5: takes the sender out of the group, from
// version 3 on any number of members, with an error each. A static member may be
// named by its instance id alone.

func (s *Server) leaveGroup(ctx context.Context, _ *request, m *kmsg.LeaveGroupRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.LeaveGroupResponse)
	if m.Version < 3 {
		a := s.o.Groups.Leave(ctx, m.Group, []group.Member{{ID: m.MemberID}})
		if a.Err == nil {
			a.Err = a.Members[0]
		}
		answer.ErrorCode = groupCode(a.Err)
		return answer
	}
	members := make([]group.Member, 0, len(m.Members))
	for _, x := range m.Members {
		members = append(members, member(x.MemberID, x.InstanceID))
	}
	a := s.o.Groups.Leave(ctx, m.Group, members)
	if answer.ErrorCode = groupCode(a.Err); a.Err != nil {
		return answer
	}
	answer.Members = make([]kmsg.LeaveGroupResponseMember, 0, len(members))
	for i, err := range a.Members {
		x := kmsg.NewLeaveGroupResponseMember()
		x.MemberID, x.InstanceID = m.Members[i].MemberID, m.Members[i].InstanceID
		x.ErrorCode = groupCode(err)
		answer.Members = append(answer.Members, x)
	}
	return answer
}
