package group

import (
	"errors"
	"fmt"
)

// What a group answers instead of what was asked for.
var (
	// ErrUnknownMember says that the member is not (any longer) of the group: join
	// again without a member id.
	ErrUnknownMember = errors.New("unknown member id")
	// ErrFencedInstance says that another client took the static member's place.
	ErrFencedInstance = errors.New("another member has taken this group instance id")
	// ErrIllegalGeneration says that the member missed a rebalance: join again.
	ErrIllegalGeneration = errors.New("not the group's current generation")
	// ErrRebalanceInProgress says that the member should join again.
	ErrRebalanceInProgress = errors.New("the group is rebalancing")
	// ErrInconsistentProtocol says that no protocol suits all members.
	ErrInconsistentProtocol = errors.New("protocols do not match those of the group's members")
	// ErrMemberIDRequired comes with an id: join again with it.
	ErrMemberIDRequired = errors.New("join again with the given member id")
	// ErrSessionTimeout says that the session timeout is outside the limits.
	ErrSessionTimeout = errors.New("session timeout is outside the broker's limits")
	// ErrFull says that the group has as many members as are allowed.
	ErrFull = errors.New("the group has reached its maximum size")
	// ErrGone says that the group is being deleted: try again.
	ErrGone = errors.New("the group is being deleted")
	// ErrNotFound says that there is no such group.
	ErrNotFound = errors.New("no such group")
	// ErrNotEmpty says that the group has members: stop them first.
	ErrNotEmpty = errors.New("the group is not empty")
	// ErrSubscribed says that members of the group read the topic: stop them first.
	ErrSubscribed = errors.New("the group is subscribed to the topic")
	// ErrMetadataTooLarge says that a commit's metadata text is too long.
	ErrMetadataTooLarge = errors.New("offset metadata is too large")
)

// must stops the process: a broken invariant of the group is a bug, and going on
// could hand one partition to two members.
func must(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf("group: "+format, args...))
	}
}
