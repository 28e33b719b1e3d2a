package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteGroups (key 42), versions 0 to 2: forgets groups without members, and
// their offsets.

func (s *Server) deleteGroups(ctx context.Context, _ *request, m *kmsg.DeleteGroupsRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.DeleteGroupsResponse)
	answer.Groups = make([]kmsg.DeleteGroupsResponseGroup, len(m.Groups))
	parallel(len(m.Groups), func(i int) {
		answer.Groups[i].Default()
		answer.Groups[i].Group = m.Groups[i]
		answer.Groups[i].ErrorCode = groupCode(s.o.Groups.DeleteGroup(ctx, m.Groups[i]))
	})
	return answer
}
