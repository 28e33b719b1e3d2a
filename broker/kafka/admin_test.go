package kafka

import (
	"testing"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func createRequest(names ...string) *kmsg.CreateTopicsRequest {
	m := kmsg.NewPtrCreateTopicsRequest()
	m.TimeoutMillis = 5000
	for _, n := range names {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = n, 2, 1
		m.Topics = append(m.Topics, t)
	}
	return m
}

func TestCreateTopics(t *testing.T) {
	n := newFakeNode(t, nil)
	w := dialWire(t, n.addr)
	create := func(v int16, m *kmsg.CreateTopicsRequest) kmsg.CreateTopicsResponseTopic {
		t.Helper()
		return w.ask(m, v).(*kmsg.CreateTopicsResponse).Topics[0]
	}
	dry := createRequest("a")
	dry.ValidateOnly = true
	if got := create(7, dry); got.ErrorCode != 0 || got.TopicID != [16]byte{} || got.NumPartitions != 2 {
		t.Errorf("validate only: %+v", got)
	}
	if _, ok := n.Metadata().Topic("a"); ok {
		t.Error("validate only created a topic")
	}
	if got := create(7, createRequest("a")); got.ErrorCode != 0 || got.TopicID == [16]byte{} || got.ReplicationFactor != 1 || len(got.Configs) < 20 {
		t.Errorf("create: %+v", got)
	}
	if got := create(2, createRequest("a")); got.ErrorCode != codeTopicAlreadyExists {
		t.Errorf("again: %+v", got)
	}
	cases := map[string]struct {
		change func(*kmsg.CreateTopicsRequestTopic)
		want   int16
	}{
		"bad name":       {func(t *kmsg.CreateTopicsRequestTopic) { t.Topic = "a b" }, codeInvalidTopic},
		"internal":       {func(t *kmsg.CreateTopicsRequestTopic) { t.Topic = "__scripts" }, codeInvalidTopic},
		"no partitions":  {func(t *kmsg.CreateTopicsRequestTopic) { t.NumPartitions = 0 }, codeInvalidPartitions},
		"replication":    {func(t *kmsg.CreateTopicsRequestTopic) { t.ReplicationFactor = 3 }, codeInvalidReplicationFactor},
		"unknown config": {func(t *kmsg.CreateTopicsRequestTopic) { withConfig(t, "no.such", "1") }, codeInvalidConfig},
		"bad value":      {func(t *kmsg.CreateTopicsRequestTopic) { withConfig(t, "retention.ms", "soon") }, codeInvalidConfig},
		"both": {func(t *kmsg.CreateTopicsRequestTopic) {
			t.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Partition: 0, Replicas: []int32{0}}}
		}, codeInvalidRequest},
		"unknown node": {func(t *kmsg.CreateTopicsRequestTopic) {
			t.NumPartitions, t.ReplicationFactor = -1, -1
			t.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Partition: 0, Replicas: []int32{5}}}
		}, codeInvalidReplicaAssignment},
	}
	for name, c := range cases {
		m := createRequest("b")
		c.change(&m.Topics[0])
		if got := create(7, m); got.ErrorCode != c.want || got.ErrorMessage == nil {
			t.Errorf("%s: %+v, want code %d", name, got, c.want)
		}
	}
	old := createRequest("b") // as kafkajs sends it
	old.Topics[0].NumPartitions, old.Topics[0].ReplicationFactor = -1, -1
	if got := create(3, old); got.ErrorCode != 0 {
		t.Errorf("defaults in version 3: %+v", got)
	}
	if got := create(7, createRequest("c", "c")); got.ErrorCode != codeInvalidRequest {
		t.Errorf("named twice: %+v", got)
	}
}

func withConfig(t *kmsg.CreateTopicsRequestTopic, name, value string) {
	c := kmsg.NewCreateTopicsRequestTopicConfig()
	c.Name, c.Value = name, &value
	t.Configs = append(t.Configs, c)
}

func TestDeleteTopics(t *testing.T) {
	n := newFakeNode(t, nil)
	w := dialWire(t, n.addr)
	n.topic(t, "a", 1)
	b := n.topic(t, "b", 1)
	m := kmsg.NewPtrDeleteTopicsRequest()
	m.TopicNames = []string{"a", "no"}
	r := w.ask(m, 5).(*kmsg.DeleteTopicsResponse)
	if r.Topics[0].ErrorCode != 0 || *r.Topics[0].Topic != "a" || r.Topics[1].ErrorCode != codeUnknownTopicOrPartition {
		t.Fatalf("%+v", r)
	}
	m = kmsg.NewPtrDeleteTopicsRequest()
	m.Topics = []kmsg.DeleteTopicsRequestTopic{{TopicID: b.ID}, {TopicID: [16]byte{1}}, {}}
	r = w.ask(m, 6).(*kmsg.DeleteTopicsResponse)
	if r.Topics[0].ErrorCode != 0 || *r.Topics[0].Topic != "b" || r.Topics[1].ErrorCode != codeUnknownTopicID || r.Topics[2].ErrorCode != codeInvalidRequest {
		t.Fatalf("%+v", r)
	}
	if len(n.Metadata().Topics()) != 0 {
		t.Fatal("topics are left")
	}
}

func TestCreatePartitions(t *testing.T) {
	n := newFakeNode(t, nil)
	w := dialWire(t, n.addr)
	n.topic(t, "a", 2)
	for _, c := range []struct {
		name  string
		count int32
		want  int16
	}{{"a", 2, codeInvalidPartitions}, {"a", 5, 0}, {"no", 5, codeUnknownTopicOrPartition}} {
		m := kmsg.NewPtrCreatePartitionsRequest()
		m.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: c.name, Count: c.count}}
		if r := w.ask(m, 3).(*kmsg.CreatePartitionsResponse); r.Topics[0].ErrorCode != c.want {
			t.Errorf("%+v: %+v", c, r)
		}
	}
	if topic, _ := n.Metadata().Topic("a"); len(topic.Partitions) != 5 {
		t.Errorf("%d partitions", len(topic.Partitions))
	}
}

// TestConfigs: set, read back with its source and synonyms, append, delete,
// replace, refuse.
func TestConfigs(t *testing.T) {
	n := newFakeNode(t, nil)
	w := dialWire(t, n.addr)
	n.topic(t, "a", 1)
	alter := func(kind kmsg.ConfigResourceType, resource, name string, op kmsg.IncrementalAlterConfigOp, value *string) int16 {
		t.Helper()
		m := kmsg.NewPtrIncrementalAlterConfigsRequest()
		m.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{
			ResourceType: kind, ResourceName: resource,
			Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: name, Op: op, Value: value}},
		}}
		return w.ask(m, 1).(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode
	}
	get := func(kind kmsg.ConfigResourceType, resource, name string) kmsg.DescribeConfigsResponseResourceConfig {
		t.Helper()
		m := kmsg.NewPtrDescribeConfigsRequest()
		m.IncludeSynonyms, m.IncludeDocumentation = true, true
		m.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: resource, ConfigNames: []string{name}}}
		r := w.ask(m, 4).(*kmsg.DescribeConfigsResponse).Resources[0]
		if len(r.Configs) != 1 {
			t.Fatalf("%s of %q: %+v", name, resource, r)
		}
		return r.Configs[0]
	}
	topic, broker, str := kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker, kmsg.StringPtr
	if got := alter(topic, "a", "retention.ms", kmsg.IncrementalAlterConfigOpSet, str("1000")); got != 0 {
		t.Fatal(got)
	}
	c := get(topic, "a", "retention.ms")
	if *c.Value != "1000" || c.Source != kmsg.ConfigSourceDynamicTopicConfig || c.ConfigType != kmsg.ConfigTypeLong ||
		c.Documentation == nil || len(c.ConfigSynonyms) < 2 {
		t.Errorf("%+v", c)
	}
	if got := alter(topic, "a", "cleanup.policy", kmsg.IncrementalAlterConfigOpAppend, str("compact")); got != 0 {
		t.Error(got)
	}
	if c := get(topic, "a", "cleanup.policy"); *c.Value != "delete,compact" {
		t.Errorf("%+v", c)
	}
	m := kmsg.NewPtrAlterConfigsRequest()
	m.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: topic, ResourceName: "a", Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: "segment.ms", Value: str("60000")}}}}
	if r := w.ask(m, 2).(*kmsg.AlterConfigsResponse); r.Resources[0].ErrorCode != 0 {
		t.Errorf("%+v", r)
	}
	if c := get(topic, "a", "retention.ms"); c.Source != kmsg.ConfigSourceDefaultConfig {
		t.Errorf("replaced, but %+v", c)
	}
	if got := alter(broker, "", "auto.create.topics.enable", kmsg.IncrementalAlterConfigOpSet, str("false")); got != 0 {
		t.Fatal(got)
	}
	if c := get(broker, "0", "auto.create.topics.enable"); *c.Value != "false" || c.Source != kmsg.ConfigSourceDynamicDefaultBrokerConfig {
		t.Errorf("%+v", c)
	}
	for name, got := range map[string]int16{
		"unknown setting": alter(topic, "a", "no.such", kmsg.IncrementalAlterConfigOpSet, str("1")),
		"bad value":       alter(topic, "a", "retention.ms", kmsg.IncrementalAlterConfigOpSet, str("x")),
		"append to none":  alter(topic, "a", "retention.ms", kmsg.IncrementalAlterConfigOpAppend, str("1")),
	} {
		if got != codeInvalidConfig {
			t.Errorf("%s: code %d", name, got)
		}
	}
	if got := alter(topic, "no", "retention.ms", kmsg.IncrementalAlterConfigOpSet, str("1")); got != codeUnknownTopicOrPartition {
		t.Errorf("unknown topic: code %d", got)
	}
	if got := alter(topic, "a", "retention.ms", kmsg.IncrementalAlterConfigOpSet, nil); got != codeInvalidRequest {
		t.Errorf("no value: code %d", got)
	}
	if got := alter(broker, "77", "auto.create.topics.enable", kmsg.IncrementalAlterConfigOpSet, str("true")); got != codeInvalidRequest {
		t.Errorf("unknown broker: code %d", got)
	}
}

func TestSecretsAreNotTold(t *testing.T) {
	row := &config.Row{Name: "pass", Secret: true, Kind: config.KindPassword}
	v := config.Value{Row: row, Value: "hunter2", Synonyms: []config.Synonym{{Name: "pass", Value: "hunter2"}}}
	m := kmsg.NewPtrDescribeConfigsRequest()
	m.IncludeSynonyms = true
	if c := setting(m, &v); c.Value != nil || c.ConfigSynonyms[0].Value != nil || !c.IsSensitive {
		t.Fatalf("%+v", c)
	}
}

// TestMetadata: all, by name, by id, auto-creation and its switch.
func TestMetadata(t *testing.T) {
	n := newFakeNode(t, nil)
	w := dialWire(t, n.addr)
	a := n.topic(t, "a", 3)
	all := w.ask(kmsg.NewPtrMetadataRequest(), 12).(*kmsg.MetadataResponse)
	if len(all.Topics) != 1 || len(all.Topics[0].Partitions) != 3 || len(all.Brokers) != 1 || *all.ClusterID != "test-cluster" {
		t.Fatalf("%+v", all)
	}
	ask := func(v int16, auto bool, topics ...kmsg.MetadataRequestTopic) []kmsg.MetadataResponseTopic {
		m := kmsg.NewPtrMetadataRequest()
		m.AllowAutoTopicCreation, m.Topics = auto, topics
		if topics == nil {
			m.Topics = []kmsg.MetadataRequestTopic{}
		}
		return w.ask(m, v).(*kmsg.MetadataResponse).Topics
	}
	name := func(s string) kmsg.MetadataRequestTopic { return kmsg.MetadataRequestTopic{Topic: &s} }
	if got := ask(4, false); len(got) != 0 {
		t.Errorf("none asked: %+v", got)
	}
	if got := ask(0, false); len(got) != 1 {
		t.Errorf("version 0, all: %+v", got)
	}
	if got := ask(12, false, kmsg.MetadataRequestTopic{TopicID: a.ID}, kmsg.MetadataRequestTopic{TopicID: [16]byte{1}}); *got[0].Topic != "a" || got[1].ErrorCode != codeUnknownTopicID {
		t.Errorf("by id: %+v", got)
	}
	if got := ask(9, false, name("b"), name("b")); len(got) != 1 || got[0].ErrorCode != codeUnknownTopicOrPartition {
		t.Errorf("no creation: %+v", got)
	}
	if got := ask(9, true, name("b"), name("x y"), name("__scripts")); got[0].ErrorCode != 0 || got[1].ErrorCode != codeInvalidTopic || got[2].ErrorCode != codeUnknownTopicOrPartition {
		t.Errorf("creation: %+v", got)
	}
	if got := ask(1, false, name("old")); got[0].ErrorCode != 0 {
		t.Errorf("old clients always create: %+v", got)
	}
}

func TestDescribeTopicPartitionsPages(t *testing.T) {
	n := newFakeNode(t, nil)
	w := dialWire(t, n.addr)
	for _, name := range []string{"a", "b", "c"} {
		n.topic(t, name, 3)
	}
	m := kmsg.NewPtrDescribeTopicPartitionsRequest()
	m.ResponsePartitionLimit = 2
	var seen []string
	for range 10 {
		r := w.ask(m, 0).(*kmsg.DescribeTopicPartitionsResponse)
		for _, topic := range r.Topics {
			for _, p := range topic.Partitions {
				seen = append(seen, *topic.Topic+string(rune('0'+p.Partition)))
			}
		}
		if r.NextCursor == nil {
			break
		}
		m.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: r.NextCursor.Topic, Partition: r.NextCursor.Partition}
	}
	if want := "[a0 a1 a2 b0 b1 b2 c0 c1 c2]"; sprint(seen) != want {
		t.Fatalf("%v, want %s", seen, want)
	}
}

func TestRecordsAndOffsets(t *testing.T) {
	n := newFakeNode(t, nil)
	w := dialWire(t, n.addr)
	n.topic(t, "a", 1)
	for range 5 {
		w.ask(produceRequest("a", -1, 0, []byte("x")), 9)
	}
	list := func(v int16, ts int64) kmsg.ListOffsetsResponseTopicPartition {
		m := kmsg.NewPtrListOffsetsRequest()
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Timestamp = ts
		m.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "a", Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}}}
		return w.ask(m, v).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	}
	if got := list(1, -1); got.Offset != 5 {
		t.Errorf("latest: %+v", got)
	}
	if got := list(6, -3); got.ErrorCode != codeUnsupportedVersion {
		t.Errorf("max timestamp before version 7: %+v", got)
	}
	trim := kmsg.NewPtrDeleteRecordsRequest()
	trim.TimeoutMillis = 1000
	trim.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "a", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: 3}, {Partition: 4, Offset: 3}, {Offset: -2}}}}
	r := w.ask(trim, 2).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions
	if r[0].LowWatermark != 3 || r[1].ErrorCode != codeUnknownTopicOrPartition || r[2].ErrorCode != codeOffsetOutOfRange {
		t.Errorf("%+v", r)
	}
	if got := list(11, -2); got.Offset != 3 {
		t.Errorf("earliest: %+v", got)
	}
	f := w.ask(fetchRequest("a", 0), 11).(*kmsg.FetchResponse)
	if p := f.Topics[0].Partitions[0]; p.ErrorCode != codeOffsetOutOfRange {
		t.Errorf("fetch before the start: %+v", p)
	}
}

func TestInitProducerID(t *testing.T) {
	n := newFakeNode(t, nil)
	w := dialWire(t, n.addr)
	seen := map[int64]bool{}
	for range 1500 { // more than a block
		r := w.ask(kmsg.NewPtrInitProducerIDRequest(), 4).(*kmsg.InitProducerIDResponse)
		if r.ErrorCode != 0 || r.ProducerEpoch != 0 || seen[r.ProducerID] {
			t.Fatalf("%+v", r)
		}
		seen[r.ProducerID] = true
	}
	m := kmsg.NewPtrInitProducerIDRequest()
	m.TransactionalID = kmsg.StringPtr("t")
	if r := w.ask(m, 5).(*kmsg.InitProducerIDResponse); r.ErrorCode != codeTransactionalIDDenied {
		t.Fatalf("%+v", r)
	}
}

func TestDescribeCluster(t *testing.T) {
	n := newFakeNode(t, nil)
	w := dialWire(t, n.addr)
	m := kmsg.NewPtrDescribeClusterRequest()
	m.EndpointType = endpointBrokers
	if r := w.ask(m, 2).(*kmsg.DescribeClusterResponse); r.ErrorCode != 0 || len(r.Brokers) != 1 || r.ClusterID != "test-cluster" {
		t.Errorf("%+v", r)
	}
	m.EndpointType = endpointControllers
	if r := w.ask(m, 1).(*kmsg.DescribeClusterResponse); r.ErrorCode != codeMismatchedEndpoint {
		t.Errorf("%+v", r)
	}
}
