package kafka

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListGroups (key 16), versions 0 to 5: the groups that this node coordinates,
// from version 4 on by state, from 5 on by type. All groups are classic ones.

const groupTypeClassic = "classic"

func (s *Server) listGroups(ctx context.Context, r *request, m *kmsg.ListGroupsRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.ListGroupsResponse)
	all, err := s.o.Groups.List(ctx)
	answer.ErrorCode = groupCode(err)
	answer.Groups = []kmsg.ListGroupsResponseGroup{}
	if !names(m.TypesFilter, groupTypeClassic) {
		return answer
	}
	for _, g := range all {
		if !names(m.StatesFilter, g.State.String()) {
			continue
		}
		x := kmsg.NewListGroupsResponseGroup()
		x.Group, x.ProtocolType, x.GroupState, x.GroupType = g.ID, g.ProtocolType, g.State.String(), groupTypeClassic
		answer.Groups = append(answer.Groups, x)
	}
	r.size = 64 * len(answer.Groups)
	return answer
}

// names says that a filter lets name pass; an empty one lets all pass.
func names(filter []string, name string) bool {
	return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, name) })
}
