package group

import (
	"cmp"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

// Effect is what Step wants done.
type Effect interface{ effect() }

// Reply answers the request To; Answer is one of the types below.
type Reply struct {
	To     Token
	Answer Answer
}

// Write appends records to the group's partition, all or none, and is answered
// by Written with the same Seq.
type Write struct {
	Seq     uint64
	Records []Record
}

func (Reply) effect() {}
func (Write) effect() {}

// Answer is what a Reply carries.
type Answer interface{ answer() }

// JoinMember is a member as its leader sees it.
type JoinMember struct {
	ID, InstanceID string
	Metadata       []byte
}

// JoinAnswer answers Join.
type JoinAnswer struct {
	Err                    error
	Generation             int32 // -1 with an error
	ProtocolType, Protocol string
	LeaderID, MemberID     string
	SkipAssignment         bool
	Members                []JoinMember // for the leader alone
}

// SyncAnswer answers Sync.
type SyncAnswer struct {
	Err                    error
	ProtocolType, Protocol string
	Assignment             []byte
}

// Status answers what has no content.
type Status struct{ Err error }

// LeaveAnswer answers Leave: Err for all, or Members, one for each asked.
type LeaveAnswer struct {
	Err     error
	Members []error
}

// OffsetsAnswer answers Commit and DeleteOffsets: Err for all, or Partitions,
// one for each asked.
type OffsetsAnswer struct {
	Err        error
	Partitions []error
}

func (JoinAnswer) answer()    {}
func (SyncAnswer) answer()    {}
func (Status) answer()        {}
func (LeaveAnswer) answer()   {}
func (OffsetsAnswer) answer() {}

// TopicPartition names a partition as clients do.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// Compare orders by topic, then partition.
func (p TopicPartition) Compare(q TopicPartition) int {
	return cmp.Or(cmp.Compare(p.Topic, q.Topic), cmp.Compare(p.Partition, q.Partition))
}

// Offset is a committed offset.
type Offset struct {
	Offset   model.Offset
	Epoch    model.LeaderEpoch
	Metadata string
	// Committed and Expires are in ms since the epoch; Expires 0 means that the
	// group's retention decides.
	Committed, Expires int64
}

// Record is a change of the group as the log keeps it.
type Record interface{ record() }

// OffsetSet stores an offset.
type OffsetSet struct {
	TopicPartition
	Offset Offset
}

// OffsetDrop is an offset's tombstone.
type OffsetDrop struct{ TopicPartition }

// MetadataSet stores the group's generation.
type MetadataSet struct {
	ProtocolType, Protocol string
	Generation             int32
	Leader                 string
	StateTime              int64 // ms since the epoch
	Members                []MemberSet
}

// MemberSet is a member of a MetadataSet.
type MemberSet struct {
	ID, InstanceID       string
	ClientID, ClientHost string
	RebalanceTimeout     time.Duration
	SessionTimeout       time.Duration
	Subscription         []byte
	Topics               []string // as in Protocol; not stored
	Assignment           []byte
}

// MetadataDrop is the group's tombstone.
type MetadataDrop struct{}

func (OffsetSet) record()    {}
func (OffsetDrop) record()   {}
func (MetadataSet) record()  {}
func (MetadataDrop) record() {}
