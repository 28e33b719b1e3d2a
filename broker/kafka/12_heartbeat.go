package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/broker/group"
)

// Heartbeat (key 12), versions 0 to 4: keeps a member's session, and tells it of
// a rebalance.

func (s *Server) heartbeat(ctx context.Context, _ *request, m *kmsg.HeartbeatRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.HeartbeatResponse)
	answer.ErrorCode = groupCode(s.o.Groups.Heartbeat(ctx, m.Group, group.Heartbeat{
		Member: member(m.MemberID, m.InstanceID), Generation: m.Generation,
	}))
	return answer
}
