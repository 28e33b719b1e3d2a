package config

import "time"

// Topic holds one topic's resolved settings. Times that Kafka states as "no
// limit" (-1) are negative; those beyond what a Duration holds, about 292
// years, are clamped to it.
type Topic struct {
	Delete  bool // cleanup.policy has delete
	Compact bool // cleanup.policy has compact

	RetentionTime       time.Duration // < 0: none
	RetentionBytes      int64         // per partition; < 0: none
	LocalRetentionTime  time.Duration // < 0: as RetentionTime
	LocalRetentionBytes int64         // < 0: as RetentionBytes
	RemoteStorage       bool

	SegmentBytes       int64
	SegmentTime        time.Duration
	SegmentJitter      time.Duration
	SegmentIndexBytes  int
	IndexIntervalBytes int
	Preallocate        bool
	FileDeleteDelay    time.Duration
	FlushMessages      int64
	FlushTime          time.Duration

	MessageBytesMax    int    // of one batch, as stored
	Compression        string // producer, uncompressed, gzip, snappy, lz4, zstd
	CompressionLevel   CompressionLevels
	AppendTime         bool          // message.timestamp.type is LogAppendTime
	TimestampBeforeMax time.Duration // how far behind the broker's clock
	TimestampAfterMax  time.Duration // how far ahead of it
	MinInsyncReplicas  int
	UncleanElection    bool
	DeleteRetention    time.Duration // of tombstones, after compaction
	CompactionLagMin   time.Duration
	CompactionLagMax   time.Duration
	MinCleanableRatio  float64
	RetainForScripts   bool // keep what a script bound to this topic has not taken
}

// CompressionLevels are the levels used when the broker itself compresses.
type CompressionLevels struct{ Gzip, LZ4, Zstd int }

// Cluster holds the resolved settings of cluster scope.
type Cluster struct {
	AutoCreateTopics   bool
	DeleteTopics       bool // clients may delete topics
	Partitions         int32
	Replication        int16
	TopicPartitionsMax int32 // of one topic
	FeaturesAuto       bool  // the feature level is raised without being asked

	OffsetsPartitions   int32
	OffsetsReplication  int16
	OffsetsRetention    time.Duration
	OffsetsExpiryCheck  time.Duration
	OffsetMetadataBytes int
	OffsetsSegmentBytes int64
	OffsetsCommitTime   time.Duration

	GroupRebalanceDelay time.Duration
	GroupSessionMin     time.Duration
	GroupSessionMax     time.Duration
	GroupMembersMax     int
	ProducerIDExpiry    time.Duration
	FetchBytesMax       int
	FetchSessionsMax    int
	RackAware           bool // leaders send consumers to replicas in their rack
	RetentionCheck      time.Duration
	FollowerRate        int64 // bytes a second that a node takes from others at most
	CompactionCheck     time.Duration
	Compaction          bool
	ReplicaLag          time.Duration // what a replica in sync may lack at most

	LeaderDiskLatency time.Duration // of one write, beyond which it is slow
	LeaderSidecarDown time.Duration // before what has scripts is given away

	Balance Balance

	ScriptMemoryMax      int64 // bytes, of one instance
	ScriptMemoryTotalMax int64 // bytes, of all instances of one node
	ScriptBatchTime      time.Duration
	ScriptModuleBytes    int64
	ScriptsMax           int
	ScriptSyncBudget     time.Duration
	PacemakerBatchBytes  int
	PacemakerCommit      time.Duration
}
