// Package model holds the words of Millrace as types, without behaviour: every
// room uses them, none owns them. See docs/ARCHITECTURE.md for the vocabulary.
package model

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
)

// Offset is a record's place in its partition's log. It is never a Raft index.
type Offset int64

// NoOffset says that there is no offset to give.
const NoOffset Offset = -1

// OffsetMax is larger than every offset a log can reach.
const OffsetMax Offset = math.MaxInt64

// LeaderEpoch is the Raft term under which a partition's leader proposes.
type LeaderEpoch int32

// NoEpoch says that a client or a batch names no leader epoch.
const NoEpoch LeaderEpoch = -1

// NodeID names a broker in the cluster; NoNode is nobody.
type NodeID int32

// NoNode is the leader of a partition that has none.
const NoNode NodeID = -1

// Birth tells a node's replicas of one partition apart, one after the other: those of
// its making have 0, each later one a number that no other of the partition has had.
type Birth uint32

// CoreID names one of this process's event loops, from 0.
type CoreID int

// ShardID names a Raft group. Elsewhere say partition.
type ShardID uint64

// TopicID is a topic's identity: a topic deleted and created again is another.
type TopicID [16]byte

// IsZero tells whether the id names no topic.
func (t TopicID) IsZero() bool { return t == TopicID{} }

// String gives the URL-safe base64 form that Kafka's tools print, 22 characters.
func (t TopicID) String() string { return base64.RawURLEncoding.EncodeToString(t[:]) }

// MarshalText gives String's form, so that JSON shows ids as Kafka's tools do.
func (t TopicID) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads String's form.
func (t *TopicID) UnmarshalText(b []byte) error {
	raw, err := base64.RawURLEncoding.DecodeString(string(b))
	if err != nil || len(raw) != len(t) {
		return fmt.Errorf("topic id %q: want 22 characters of URL-safe base64", b)
	}
	copy(t[:], raw)
	return nil
}

// PartitionID is a partition's identity.
type PartitionID struct {
	Topic TopicID
	Index int32
}

// String gives "<topic id>/<index>".
func (p PartitionID) String() string { return fmt.Sprintf("%s/%d", p.Topic, p.Index) }

// ProducerID names an idempotent or transactional producer; NoProducer is none.
type ProducerID int64

// NoProducer marks batches of producers that are not idempotent.
const NoProducer ProducerID = -1

// ScriptID is a script's identity: a script removed and deployed again under
// its name is another; a redeploy keeps it.
type ScriptID uint64

// Activation numbers every deploy, seek and removal of a script, cluster-wide
// and ascending. A child partition takes only appends of the one it knows.
type Activation uint64

// SourceKey names what a child partition has taken input from: one parent
// partition on behalf of one script.
type SourceKey struct {
	Script ScriptID
	Parent PartitionID
}

// Digest is the SHA-256 of a script's module and manifest.
type Digest [32]byte

// String gives 64 hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText gives String's form.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads String's form.
func (d *Digest) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	if err != nil || len(raw) != len(d) {
		return fmt.Errorf("digest %q: want 64 hexadecimal digits", b)
	}
	copy(d[:], raw)
	return nil
}

// TopicNameMax is the longest topic name, in bytes, as in Kafka.
const TopicNameMax = 249

// ErrTopicName is wrapped by every refusal of a topic name.
var ErrTopicName = errors.New("invalid topic name")

// CheckTopicName applies Kafka's rule: [a-zA-Z0-9._-]{1,249}, not "." or "..".
func CheckTopicName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrTopicName)
	case name == "." || name == "..":
		return fmt.Errorf("%w: it is %q", ErrTopicName, name)
	case len(name) > TopicNameMax:
		return fmt.Errorf("%w: it has %d characters, the limit is %d", ErrTopicName, len(name), TopicNameMax)
	}
	bad := strings.IndexFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
	})
	if bad >= 0 {
		return fmt.Errorf("%w %q: only ASCII letters, digits, '.', '_' and '-' are allowed", ErrTopicName, name)
	}
	return nil
}
