package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/broker/group"
)

// DescribeGroups (key 15), versions 0 to 6: state and members of groups. One
// that does not exist is Dead without an error, and from version 6 on
// GROUP_ID_NOT_FOUND.

// operationsGroup are Kafka's operation codes that make sense for a group.
const operationsGroup = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11

func (s *Server) describeGroups(ctx context.Context, _ *request, m *kmsg.DescribeGroupsRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.DescribeGroupsResponse)
	answer.Groups = make([]kmsg.DescribeGroupsResponseGroup, len(m.Groups))
	parallel(len(m.Groups), func(i int) {
		g := &answer.Groups[i]
		g.Default()
		g.Group = m.Groups[i]
		g.AuthorizedOperations = operations(m.IncludeAuthorizedOperations, operationsGroup)
		v, err := s.o.Groups.Describe(ctx, g.Group)
		switch {
		case errors.Is(err, group.ErrNotFound) && m.Version < 6:
			g.State = group.Dead.String()
		case errors.Is(err, group.ErrNotFound):
			g.State = group.Dead.String()
			g.ErrorCode, g.ErrorMessage = codeGroupIDNotFound, text(err)
		case err != nil:
			g.ErrorCode, g.ErrorMessage = groupCode(err), text(err)
		default:
			describeGroup(g, v)
		}
	})
	return answer
}

func describeGroup(g *kmsg.DescribeGroupsResponseGroup, v group.View) {
	g.State, g.ProtocolType, g.Protocol = v.State.String(), v.ProtocolType, v.Protocol
	g.Members = make([]kmsg.DescribeGroupsResponseGroupMember, 0, len(v.Members))
	for _, m := range v.Members {
		x := kmsg.NewDescribeGroupsResponseGroupMember()
		x.MemberID, x.InstanceID = m.ID, nullable(m.InstanceID)
		x.ClientID, x.ClientHost = m.ClientID, m.ClientHost
		x.ProtocolMetadata, x.MemberAssignment = m.Metadata, m.Assignment
		g.Members = append(g.Members, x)
	}
}
