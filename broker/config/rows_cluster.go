package config

import (
	"slices"
	"time"
)

// The values of replica.selector.class: Kafka's own classes.
const (
	selectorLeader = "org.apache.kafka.common.replica.LeaderSelector"
	selectorRack   = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
)

// clusterRows declares the cluster scope, but for the rows that topic rows
// fall back to: clusterDefaults makes those.
func clusterRows() []Row {
	rows := []Row{
		{Name: "auto.create.topics.enable", Kind: KindBool, Default: "true",
			Doc:     "Whether a client's first use of a topic creates it.",
			cluster: func(c *Cluster, v value) { c.AutoCreateTopics = v.flag }},
		{Name: "delete.topic.enable", Kind: KindBool, Default: "true",
			Doc:     "Whether clients may delete topics.",
			cluster: func(c *Cluster, v value) { c.DeleteTopics = v.flag }},
		{Name: "num.partitions", Kind: KindInt, Default: "1", Min: "1", Max: "65536",
			Doc:     "Partitions of a topic that is created without a count.",
			cluster: func(c *Cluster, v value) { c.Partitions = clampInt32(v.n) }},
		{Name: "default.replication.factor", Kind: KindInt, Default: "1", Min: "1", Max: "32767",
			Doc:     "Replicas of a topic that is created without a count.",
			cluster: func(c *Cluster, v value) { c.Replication = int16(v.n) }},
		{Name: "millrace.topic.partitions.max", Kind: KindInt, Default: "10000", Min: "1", Max: "65536",
			Doc:     "Partitions that one topic may have.",
			cluster: func(c *Cluster, v value) { c.TopicPartitionsMax = clampInt32(v.n) }},
		{Name: "replica.lag.time.max.ms", Kind: KindMillis, Default: "10000", Min: "5000",
			Doc:     "How long ago the leader may have had what a replica in sync lacks, in milliseconds. Leaders look every second.",
			cluster: func(c *Cluster, v value) { c.ReplicaLag = v.millis() }},
		{Name: "producer.id.expiration.ms", Kind: KindMillis, Default: "86400000", Min: "1",
			Doc:     "How long a partition remembers an idle producer's sequences, in milliseconds.",
			cluster: func(c *Cluster, v value) { c.ProducerIDExpiry = v.millis() }},
		{Name: "fetch.max.bytes", Kind: KindInt, Default: "57671680", Min: "1024",
			Doc:     "Most bytes of records in one answer to a fetch. A first batch larger than it is still whole.",
			cluster: func(c *Cluster, v value) { c.FetchBytesMax = int(v.n) }},
		{Name: "max.incremental.fetch.session.cache.slots", Kind: KindInt, Default: "1000", Min: "0",
			Doc:     "Fetch sessions that one node keeps; beyond it a client fetches without one.",
			cluster: func(c *Cluster, v value) { c.FetchSessionsMax = int(v.n) }},
		{Name: "replica.selector.class", Kind: KindString, Default: selectorLeader, Values: []string{selectorLeader, selectorRack},
			Doc:     "Where consumers read: LeaderSelector is the leader of a partition, RackAwareReplicaSelector a replica whose node has the rack that the consumer names (client.rack), if one is in sync.",
			cluster: func(c *Cluster, v value) { c.RackAware = v.text == selectorRack }},
		{Name: "log.retention.check.interval.ms", Kind: KindMillis, Default: "300000", Min: "1",
			Doc:     "How often a leader looks for segments beyond retention, in milliseconds.",
			cluster: func(c *Cluster, v value) { c.RetentionCheck = v.millis() }},
		{Name: "follower.replication.throttled.rate", Kind: KindLong, Default: longMax, Min: "0",
			Doc:     "Bytes a second that a node takes from others for replicas that lack what Raft's log has forgotten, moved ones among them, if that is less than its recovery_rate; 0 stops it. May be set for one broker.",
			cluster: func(c *Cluster, v value) { c.FollowerRate = v.n }},
		{Name: "leader.replication.throttled.rate", Kind: KindLong, Default: longMax, Min: "0", Inert: true,
			Doc:     "Accepted for Kafka's tools: what is moved is throttled where it is taken, by follower.replication.throttled.rate.",
			cluster: func(*Cluster, value) {}},
		{Name: "replica.alter.log.dirs.io.max.bytes.per.second", Kind: KindLong, Default: longMax, Min: "0", Inert: true,
			Doc:     "Accepted for Kafka's tools, which take it back after each reassignment: a node has one data directory.",
			cluster: func(*Cluster, value) {}},
		{Name: "log.cleaner.enable", Kind: KindBool, Default: "true",
			Doc:     "Whether compacted topics are compacted.",
			cluster: func(c *Cluster, v value) { c.Compaction = v.flag }},
		{Name: "log.cleaner.backoff.ms", Kind: KindMillis, Default: "15000", Min: "0",
			Doc:     "How often a node looks for logs to compact, in milliseconds.",
			cluster: func(c *Cluster, v value) { c.CompactionCheck = v.millis() }},
		{Name: "millrace.features.auto.activate", Kind: KindBool, Default: "true",
			Doc:     "Whether what a newer version brings is used by itself once all nodes run it. From then on none can go back.",
			cluster: func(c *Cluster, v value) { c.FeaturesAuto = v.flag }},
	}
	return slices.Concat(rows, leaderRows(), groupRows(), scriptRows(), balanceRows())
}

func leaderRows() []Row {
	return []Row{
		{Name: "millrace.leader.disk.latency.max.ms", Kind: KindMillis, Default: "500", Min: "1", Max: "60000",
			Doc:     "A node that spends half of its time in writes to its Raft log that each take longer gives its leadership away, in milliseconds.",
			cluster: func(c *Cluster, v value) { c.LeaderDiskLatency = v.millis() }},
		{Name: "millrace.leader.sidecar.down.max.ms", Kind: KindMillis, Default: "30000", Min: "0", Max: "3600000",
			Doc:     "How long a node's sidecar may be down before the node gives away what has scripts, in milliseconds.",
			cluster: func(c *Cluster, v value) { c.LeaderSidecarDown = v.millis() }},
	}
}

func groupRows() []Row {
	return []Row{
		{Name: "offsets.topic.num.partitions", Kind: KindInt, Default: "16", Min: "1", Max: "10000",
			Doc:     "Partitions of __consumer_offsets. Read once, when that topic is made.",
			cluster: func(c *Cluster, v value) { c.OffsetsPartitions = clampInt32(v.n) }},
		{Name: "offsets.topic.replication.factor", Kind: KindInt, Default: "3", Min: "1", Max: "32767",
			Doc:     "Replicas of the internal topics, at most one per registered node when a topic is made; balance adds what is missing once there are nodes for all.",
			cluster: func(c *Cluster, v value) { c.OffsetsReplication = int16(v.n) }},
		{Name: "offsets.topic.segment.bytes", Kind: KindInt, Default: "104857600", Min: "1024",
			Doc:     "segment.bytes of __consumer_offsets, when it is made.",
			cluster: func(c *Cluster, v value) { c.OffsetsSegmentBytes = v.n }},
		{Name: "offsets.retention.minutes", Kind: KindInt, Default: "10080", Min: "1",
			Doc:     "How long the offsets of a group without members are kept, in minutes.",
			cluster: func(c *Cluster, v value) { c.OffsetsRetention = time.Duration(v.n) * time.Minute }},
		{Name: "offsets.retention.check.interval.ms", Kind: KindMillis, Default: "600000", Min: "1",
			Doc:     "How often a coordinator looks for offsets to expire, in milliseconds.",
			cluster: func(c *Cluster, v value) { c.OffsetsExpiryCheck = v.millis() }},
		{Name: "offset.metadata.max.bytes", Kind: KindInt, Default: "4096", Min: "0",
			Doc:     "Largest metadata text of a committed offset, in bytes.",
			cluster: func(c *Cluster, v value) { c.OffsetMetadataBytes = int(v.n) }},
		{Name: "offsets.commit.timeout.ms", Kind: KindMillis, Default: "5000", Min: "1",
			Doc:     "How long a commit waits for its write, in milliseconds.",
			cluster: func(c *Cluster, v value) { c.OffsetsCommitTime = v.millis() }},
		{Name: "group.initial.rebalance.delay.ms", Kind: KindMillis, Default: "3000", Min: "0",
			Doc:     "How long the first rebalance of an empty group waits for more members, in milliseconds.",
			cluster: func(c *Cluster, v value) { c.GroupRebalanceDelay = v.millis() }},
		{Name: "group.min.session.timeout.ms", Kind: KindMillis, Default: "6000", Min: "1",
			Doc:     "Least session timeout that a member may ask for, in milliseconds.",
			cluster: func(c *Cluster, v value) { c.GroupSessionMin = v.millis() }},
		{Name: "group.max.session.timeout.ms", Kind: KindMillis, Default: "1800000", Min: "1",
			Doc:     "Longest session timeout that a member may ask for, in milliseconds.",
			cluster: func(c *Cluster, v value) { c.GroupSessionMax = v.millis() }},
		{Name: "group.max.size", Kind: KindInt, Default: intMax, Min: "1",
			Doc:     "Members that a group may have.",
			cluster: func(c *Cluster, v value) { c.GroupMembersMax = int(v.n) }},
	}
}

func scriptRows() []Row {
	return []Row{
		{Name: "millrace.scripts.max", Kind: KindInt, Default: "200", Min: "0", Max: "1000",
			Doc:     "Scripts that may be deployed.",
			cluster: func(c *Cluster, v value) { c.ScriptsMax = int(v.n) }},
		{Name: "millrace.script.module.max.bytes", Kind: KindBytes, Default: "33554432", Min: "1024", Max: "33554432",
			Doc:     "Largest module that may be deployed, in bytes.",
			cluster: func(c *Cluster, v value) { c.ScriptModuleBytes = v.n }},
		{Name: "millrace.script.memory.max.bytes", Kind: KindBytes, Default: "268435456", Min: "1048576", Max: "4294967296",
			Doc:     "Most memory that a manifest may ask for one instance, in bytes.",
			cluster: func(c *Cluster, v value) { c.ScriptMemoryMax = v.n }},
		{Name: "millrace.script.memory.total.max.bytes", Kind: KindBytes, Default: "1073741824", Min: "1048576",
			Doc:     "Memory of all instances of one node together, in bytes; beyond it the newest fiber is parked.",
			cluster: func(c *Cluster, v value) { c.ScriptMemoryTotalMax = v.n }},
		{Name: "millrace.script.batch.max.ms", Kind: KindMillis, Default: "10000", Min: "1",
			Doc:     "Longest time that a manifest may ask for one batch, in milliseconds.",
			cluster: func(c *Cluster, v value) { c.ScriptBatchTime = v.millis() }},
		{Name: "millrace.script.sync.budget.max.ms", Kind: KindMillis, Default: "1000", Min: "1",
			Doc:     "Longest latency budget that a sync script's manifest may ask for, in milliseconds.",
			cluster: func(c *Cluster, v value) { c.ScriptSyncBudget = v.millis() }},
		{Name: "millrace.pacemaker.batch.bytes", Kind: KindBytes, Default: "1048576", Min: "1024", Max: "67108864",
			Doc:     "Bytes of parent records that a fiber hands to its script at once.",
			cluster: func(c *Cluster, v value) { c.PacemakerBatchBytes = int(v.n) }},
		{Name: "millrace.pacemaker.commit.interval.ms", Kind: KindMillis, Default: "1000", Min: "100",
			Doc:     "How often a fiber's progress is written to __pacemaker, in milliseconds. For inspection: children hold the truth.",
			cluster: func(c *Cluster, v value) { c.PacemakerCommit = v.millis() }},
	}
}
