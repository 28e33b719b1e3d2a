package group

import "time"

// Token names a request that waits for its Reply; 0 is nobody.
type Token uint64

// Event is what Step takes.
type Event interface{ event() }

// Protocol is a way of assignment that a member supports.
type Protocol struct {
	Name     string
	Metadata []byte
	// Topics is what Metadata subscribes to, where the caller could tell; nil is
	// unknown.
	Topics []string
}

// Member says who sends a request. InstanceID is "" for dynamic members.
type Member struct {
	ID, InstanceID string
}

// Join asks to be a member of the next generation; answered by JoinAnswer, maybe
// much later.
type Join struct {
	To     Token
	Member Member
	// NewID becomes the member's id if it has none; it must be fresh.
	NewID                string
	ClientID, ClientHost string
	ProtocolType         string
	Protocols            []Protocol // by preference
	SessionTimeout       time.Duration
	RebalanceTimeout     time.Duration
	// KnownIDRequired makes a new dynamic member join twice, so that one that gave
	// up waiting leaves no ghost (KIP-394).
	KnownIDRequired bool
	// CanSkipAssignment says that the client knows JoinAnswer.SkipAssignment.
	CanSkipAssignment bool
}

// Assignment is what the leader gives to a member.
type Assignment struct {
	MemberID string
	Bytes    []byte
}

// Sync asks for the member's assignment, the leader's carries all; answered by
// SyncAnswer, maybe later.
type Sync struct {
	To         Token
	Member     Member
	Generation int32
	// ProtocolType and Protocol must be the group's, unless they are "".
	ProtocolType, Protocol string
	Assignments            []Assignment
}

// Heartbeat keeps the session; answered by Status.
type Heartbeat struct {
	To         Token
	Member     Member
	Generation int32
}

// Leave removes members; answered by LeaveAnswer.
type Leave struct {
	To      Token
	Members []Member
}

// Commit stores offsets; answered by OffsetsAnswer once they are in the log.
type Commit struct {
	To         Token
	Member     Member
	Generation int32 // < 0 by consumers outside of the group protocol
	Offsets    []OffsetSet
}

// DeleteOffsets forgets offsets; answered by OffsetsAnswer.
type DeleteOffsets struct {
	To         Token
	Partitions []TopicPartition
}

// DeleteGroup forgets a group without members; answered by Status.
type DeleteGroup struct{ To Token }

// ForgetTopics drops the offsets of topics that were deleted.
type ForgetTopics struct{ Names map[string]struct{} }

// Expire forgets the offsets whose retention has passed, and then the group.
type Expire struct{}

// Tick is due at Deadline.
type Tick struct{}

// Written answers the oldest open Write. Err says that it is surely not in the
// log: when that is unknown, abandon the Group and load it again.
type Written struct {
	Seq uint64
	Err error
}

func (Join) event()          {}
func (Sync) event()          {}
func (Heartbeat) event()     {}
func (Leave) event()         {}
func (Commit) event()        {}
func (DeleteOffsets) event() {}
func (DeleteGroup) event()   {}
func (ForgetTopics) event()  {}
func (Expire) event()        {}
func (Tick) event()          {}
func (Written) event()       {}
