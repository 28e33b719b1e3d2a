package kafka

import (
	"bytes"
	"context"
	"errors"
	"net"

	"github.com/millrace-io/millrace/broker/coordinator"
	"github.com/millrace-io/millrace/broker/group"
	"github.com/millrace-io/millrace/broker/model"
)

// Groups is what the group APIs ask of broker/coordinator. Errors come in the
// answers; a method waits as long as its group does, or until ctx ends.
type Groups interface {
	Find(ctx context.Context, id string) (model.NodeID, error)
	Join(ctx context.Context, id string, e group.Join) group.JoinAnswer
	Sync(ctx context.Context, id string, e group.Sync) group.SyncAnswer
	Heartbeat(ctx context.Context, id string, e group.Heartbeat) error
	Leave(ctx context.Context, id string, members []group.Member) group.LeaveAnswer
	Commit(ctx context.Context, id string, e group.Commit) group.OffsetsAnswer
	Fetch(ctx context.Context, id string, ask coordinator.FetchAsk) ([]group.OffsetSet, error)
	DeleteOffsets(ctx context.Context, id string, partitions []group.TopicPartition) group.OffsetsAnswer
	DeleteGroup(ctx context.Context, id string) error
	Describe(ctx context.Context, id string) (group.View, error)
	List(ctx context.Context) ([]coordinator.Listed, error)
}

var _ Groups = (*coordinator.Service)(nil)

// groupRows are the rows of consumer groups: offsets and membership.
func groupRows() []row {
	return []row{
		on(2, 10, (*Server).offsetCommit),
		on(1, 10, (*Server).offsetFetch),
		on(0, 6, (*Server).findCoordinator),
		on(0, 9, (*Server).joinGroup),
		on(0, 4, (*Server).heartbeat),
		on(0, 5, (*Server).leaveGroup),
		on(0, 5, (*Server).syncGroup),
		on(0, 6, (*Server).describeGroups),
		on(0, 5, (*Server).listGroups),
		on(0, 2, (*Server).deleteGroups),
		on(0, 0, (*Server).offsetDelete),
	}
}

// Kafka's error codes of groups.
const (
	codeOffsetMetadataTooLarge  int16 = 12
	codeCoordinatorLoading      int16 = 14
	codeCoordinatorNotAvailable int16 = 15
	codeNotCoordinator          int16 = 16
	codeIllegalGeneration       int16 = 22
	codeInconsistentProtocol    int16 = 23
	codeInvalidGroupID          int16 = 24
	codeUnknownMemberID         int16 = 25
	codeInvalidSessionTimeout   int16 = 26
	codeRebalanceInProgress     int16 = 27
	codeInvalidCommitOffsetSize int16 = 28
	codeNonEmptyGroup           int16 = 68
	codeGroupIDNotFound         int16 = 69
	codeMemberIDRequired        int16 = 79
	codeGroupMaxSizeReached     int16 = 81
	codeFencedInstanceID        int16 = 82
	codeGroupSubscribedToTopic  int16 = 86
)

// groupCodes translate the sentinels of group and coordinator, first match first.
var groupCodes = []struct {
	err  error
	code int16
}{
	{coordinator.ErrLoading, codeCoordinatorLoading},
	{coordinator.ErrUnavailable, codeCoordinatorNotAvailable},
	{coordinator.ErrNotCoordinator, codeNotCoordinator},
	{coordinator.ErrInvalidGroup, codeInvalidGroupID},
	{group.ErrUnknownMember, codeUnknownMemberID},
	{group.ErrFencedInstance, codeFencedInstanceID},
	{group.ErrIllegalGeneration, codeIllegalGeneration},
	{group.ErrRebalanceInProgress, codeRebalanceInProgress},
	{group.ErrInconsistentProtocol, codeInconsistentProtocol},
	{group.ErrMemberIDRequired, codeMemberIDRequired},
	{group.ErrSessionTimeout, codeInvalidSessionTimeout},
	{group.ErrFull, codeGroupMaxSizeReached},
	{group.ErrGone, codeCoordinatorNotAvailable},
	{group.ErrNotFound, codeGroupIDNotFound},
	{group.ErrNotEmpty, codeNonEmptyGroup},
	{group.ErrSubscribed, codeGroupSubscribedToTopic},
	{group.ErrMetadataTooLarge, codeOffsetMetadataTooLarge},
}

// groupCode gives Kafka's code of an error of a group.
func groupCode(err error) int16 {
	for i := range groupCodes {
		if errors.Is(err, groupCodes[i].err) {
			return groupCodes[i].code
		}
	}
	return code(err)
}

// commitCode is groupCode for offsets, where what is too large has its own code.
func commitCode(err error) int16 {
	if errors.Is(err, coordinator.ErrRecordTooLarge) {
		return codeInvalidCommitOffsetSize
	}
	return groupCode(err)
}

// member says who sends a request; instance ids that are empty are none.
func member(id string, instance *string) group.Member {
	m := group.Member{ID: id}
	if instance != nil {
		m.InstanceID = *instance
	}
	return m
}

// owned copies what outlives the request's frame; null becomes empty.
func owned(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return bytes.Clone(b)
}

// nullable gives s for fields in which nothing is null.
func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// clientHost is the peer's address as Kafka's tools know it.
func (r *request) clientHost() string {
	if r.conn == nil {
		return "/"
	}
	host, _, err := net.SplitHostPort(r.conn.nc.RemoteAddr().String())
	if err != nil {
		return "/" + r.conn.nc.RemoteAddr().String()
	}
	return "/" + host
}
