package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestCreateTopicsDefaults leaves the counts to the cluster, which Kafka takes
// in every version: kafkajs asks so in version 3.
func TestCreateTopicsDefaults(t *testing.T) {
	n := newFakeNode(t, nil)
	w := dialWire(t, n.addr)
	for v := int16(2); v <= 7; v++ {
		m := kmsg.NewPtrCreateTopicsRequest()
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "defaults", -1, -1
		m.Topics, m.ValidateOnly = append(m.Topics, topic), true
		got := w.ask(m, v).(*kmsg.CreateTopicsResponse).Topics[0]
		if got.ErrorCode != 0 {
			t.Errorf("version %d: code %d (%v), want none", v, got.ErrorCode, got.ErrorMessage)
		}
		if v >= 5 && (got.NumPartitions < 1 || got.ReplicationFactor < 1) {
			t.Errorf("version %d: %d partitions, %d replicas", v, got.NumPartitions, got.ReplicationFactor)
		}
	}
}
