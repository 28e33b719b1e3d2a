package coordinator

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/broker/group"
	"github.com/millrace-io/millrace/broker/model"
)

// Versions of the records in __consumer_offsets. A key's version says what it is.
const (
	keyOffsetOld = 0
	keyOffset    = 1
	keyGroup     = 2

	valueOffsetExpiring = 1 // the last with an expiry time of its own
	valueOffset         = 3
	valueGroup          = 3
)

// encode gives r's key and value; a nil value is a tombstone.
func encode(groupID string, r group.Record) (key, value []byte) {
	switch r := r.(type) {
	case group.OffsetSet:
		return offsetKey(groupID, r.TopicPartition), offsetValue(r.Offset)
	case group.OffsetDrop:
		return offsetKey(groupID, r.TopicPartition), nil
	case group.MetadataSet:
		return groupKey(groupID), groupValue(r)
	}
	_, drop := r.(group.MetadataDrop)
	must(drop, "record of type %T has no form", r)
	return groupKey(groupID), nil
}

func offsetKey(groupID string, p group.TopicPartition) []byte {
	k := kmsg.OffsetCommitKey{Version: keyOffset, Group: groupID, Topic: p.Topic, Partition: p.Partition}
	return k.AppendTo(nil)
}

func groupKey(groupID string) []byte {
	k := kmsg.GroupMetadataKey{Version: keyGroup, Group: groupID}
	return k.AppendTo(nil)
}

func offsetValue(o group.Offset) []byte {
	v := kmsg.NewOffsetCommitValue()
	v.Version = valueOffset
	if o.Expires != 0 {
		v.Version, v.ExpireTimestamp = valueOffsetExpiring, o.Expires
	}
	v.Offset, v.LeaderEpoch = int64(o.Offset), int32(o.Epoch)
	v.Metadata, v.CommitTimestamp = o.Metadata, o.Committed
	return v.AppendTo(nil)
}

func groupValue(r group.MetadataSet) []byte {
	v := kmsg.NewGroupMetadataValue()
	v.Version = valueGroup
	v.ProtocolType, v.Generation = r.ProtocolType, r.Generation
	v.Protocol, v.Leader = optional(r.Protocol), optional(r.Leader)
	v.CurrentStateTimestamp = r.StateTime
	v.Members = make([]kmsg.GroupMetadataValueMember, 0, len(r.Members))
	for _, m := range r.Members {
		x := kmsg.NewGroupMetadataValueMember()
		x.MemberID, x.InstanceID = m.ID, optional(m.InstanceID)
		x.ClientID, x.ClientHost = m.ClientID, m.ClientHost
		x.RebalanceTimeoutMillis = int32(m.RebalanceTimeout.Milliseconds())
		x.SessionTimeoutMillis = int32(m.SessionTimeout.Milliseconds())
		x.Subscription, x.Assignment = m.Subscription, m.Assignment
		v.Members = append(v.Members, x)
	}
	return v.AppendTo(nil)
}

// decode reads a record. A nil record is one of a kind that this broker does not
// keep, to be passed over.
func decode(key, value []byte) (groupID string, r group.Record, err error) {
	if len(key) < 2 {
		return "", nil, fmt.Errorf("%w: key of %d bytes", errMalformed, len(key))
	}
	switch version := int16(binary.BigEndian.Uint16(key)); version {
	case keyOffsetOld, keyOffset:
		return decodeOffset(key, value)
	case keyGroup:
		return decodeGroup(key, value)
	}
	return "", nil, nil
}

func decodeOffset(key, value []byte) (string, group.Record, error) {
	var k kmsg.OffsetCommitKey
	if err := k.ReadFrom(key); err != nil {
		return "", nil, fmt.Errorf("%w: key of an offset: %w", errMalformed, err)
	}
	p := group.TopicPartition{Topic: k.Topic, Partition: k.Partition}
	if value == nil {
		return k.Group, group.OffsetDrop{TopicPartition: p}, nil
	}
	v := kmsg.NewOffsetCommitValue()
	if err := v.ReadFrom(value); err != nil {
		return "", nil, fmt.Errorf("%w: offset of group %q for %s-%d: %w", errMalformed, k.Group, k.Topic, k.Partition, err)
	}
	o := group.Offset{
		Offset: model.Offset(v.Offset), Epoch: model.LeaderEpoch(v.LeaderEpoch),
		Metadata: v.Metadata, Committed: v.CommitTimestamp,
	}
	if v.Version < valueOffset {
		o.Epoch = model.NoEpoch
	}
	if v.Version == valueOffsetExpiring && v.ExpireTimestamp > 0 {
		o.Expires = v.ExpireTimestamp
	}
	return k.Group, group.OffsetSet{TopicPartition: p, Offset: o}, nil
}

func decodeGroup(key, value []byte) (string, group.Record, error) {
	var k kmsg.GroupMetadataKey
	if err := k.ReadFrom(key); err != nil {
		return "", nil, fmt.Errorf("%w: key of a group: %w", errMalformed, err)
	}
	if value == nil {
		return k.Group, group.MetadataDrop{}, nil
	}
	v := kmsg.NewGroupMetadataValue()
	if err := v.ReadFrom(value); err != nil {
		return "", nil, fmt.Errorf("%w: group %q: %w", errMalformed, k.Group, err)
	}
	r := group.MetadataSet{
		ProtocolType: v.ProtocolType, Protocol: deref(v.Protocol), Generation: v.Generation,
		Leader: deref(v.Leader), StateTime: v.CurrentStateTimestamp,
	}
	for _, m := range v.Members {
		x := group.MemberSet{
			ID: m.MemberID, InstanceID: deref(m.InstanceID), ClientID: m.ClientID, ClientHost: m.ClientHost,
			RebalanceTimeout: time.Duration(m.RebalanceTimeoutMillis) * time.Millisecond,
			SessionTimeout:   time.Duration(m.SessionTimeoutMillis) * time.Millisecond,
			// Cloned: value lies in a buffer that is used again.
			Subscription: bytes.Clone(m.Subscription), Assignment: bytes.Clone(m.Assignment),
			Topics: Topics(v.ProtocolType, m.Subscription),
		}
		if x.RebalanceTimeout < 0 { // before version 1
			x.RebalanceTimeout = x.SessionTimeout
		}
		r.Members = append(r.Members, x)
	}
	return k.Group, r, nil
}

// topicsBytesMax bounds the metadata that Topics reads: the decoder trusts its
// counts as far as there are bytes, which a stranger could make it pay for.
const topicsBytesMax = 256 << 10

// Topics reads what a consumer's metadata subscribes to; nil when that cannot be
// told.
func Topics(protocolType string, metadata []byte) []string {
	if protocolType != group.ConsumerProtocol || len(metadata) > topicsBytesMax {
		return nil
	}
	m := kmsg.NewConsumerMemberMetadata()
	if m.ReadFrom(metadata) != nil {
		return nil
	}
	return append([]string{}, m.Topics...)
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
