package config

import "math"

// The texts of Kafka's limits.
const (
	longMax = "9223372036854775807"
	intMax  = "2147483647"
)

// topicRows declares the topic scope: Kafka's names, types and defaults.
func topicRows() []Row {
	rows := []Row{
		{Name: "cleanup.policy", Kind: KindList, Default: "delete", Values: []string{"delete", "compact"}, Cluster: "log.cleanup.policy",
			Doc:   "What happens to old records: delete drops whole segments beyond retention, compact keeps the last record of each key. Both may be named.",
			topic: func(t *Topic, v value) { t.Delete, t.Compact = has(v.list, "delete"), has(v.list, "compact") }},
		{Name: "retention.ms", Kind: KindMillis, Default: "604800000", Min: "-1", Cluster: "log.retention.ms",
			Doc:   "How long a record is kept at least, in milliseconds; -1 for ever. Whole segments are dropped.",
			topic: func(t *Topic, v value) { t.RetentionTime = v.millis() }},
		{Name: "retention.bytes", Kind: KindLong, Default: "-1", Min: "-1", Cluster: "log.retention.bytes",
			Doc:   "Bytes that a partition keeps at least before old segments are dropped; -1 for no limit.",
			topic: func(t *Topic, v value) { t.RetentionBytes = v.n }},
		{Name: "max.message.bytes", Kind: KindInt, Default: "1048588", Min: "0", Cluster: "message.max.bytes",
			Doc:   "Largest record batch that is taken, in bytes as stored (compressed, if it is).",
			topic: func(t *Topic, v value) { t.MessageBytesMax = int(v.n) }},
		{Name: "compression.type", Kind: KindString, Default: "producer", Cluster: "compression.type",
			Values: []string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"},
			Doc:    "Codec of stored batches; producer keeps each batch as its producer sent it.",
			topic:  func(t *Topic, v value) { t.Compression = v.text }},
		{Name: "compression.gzip.level", Kind: KindInt, Default: "-1", Min: "-1", Max: "9", Cluster: "compression.gzip.level",
			Doc:   "Level when compression.type is gzip: 1 to 9, -1 for the codec's own default.",
			check: func(v value) string { return refuseIf(v.n == 0, "0 would not compress") },
			topic: func(t *Topic, v value) { t.CompressionLevel.Gzip = int(v.n) }},
		{Name: "compression.lz4.level", Kind: KindInt, Default: "9", Min: "1", Max: "17", Cluster: "compression.lz4.level",
			Doc:   "Level when compression.type is lz4.",
			topic: func(t *Topic, v value) { t.CompressionLevel.LZ4 = int(v.n) }},
		{Name: "compression.zstd.level", Kind: KindInt, Default: "3", Min: "-131072", Max: "22", Cluster: "compression.zstd.level",
			Doc:   "Level when compression.type is zstd.",
			topic: func(t *Topic, v value) { t.CompressionLevel.Zstd = int(v.n) }},
		{Name: "message.timestamp.type", Kind: KindString, Default: "CreateTime", Values: []string{"CreateTime", "LogAppendTime"}, Cluster: "log.message.timestamp.type",
			Doc:   "Whether a record's timestamp is its producer's or the time of its append.",
			topic: func(t *Topic, v value) { t.AppendTime = v.text == "LogAppendTime" }},
		{Name: "message.timestamp.before.max.ms", Kind: KindMillis, Default: longMax, Min: "0", Cluster: "log.message.timestamp.before.max.ms",
			Doc:   "How far a producer's timestamp may lie behind the broker's clock, in milliseconds. Not used with LogAppendTime.",
			topic: func(t *Topic, v value) { t.TimestampBeforeMax = v.millis() }},
		{Name: "message.timestamp.after.max.ms", Kind: KindMillis, Default: "3600000", Min: "0", Cluster: "log.message.timestamp.after.max.ms",
			Doc:   "How far a producer's timestamp may lie ahead of the broker's clock, in milliseconds. Not used with LogAppendTime.",
			topic: func(t *Topic, v value) { t.TimestampAfterMax = v.millis() }},
		{Name: "min.insync.replicas", Kind: KindInt, Default: "1", Min: "1", Cluster: "min.insync.replicas",
			Doc:   "Replicas, the leader included, that must be in sync for a produce with acks=all to be taken, and must have it to be acknowledged. A majority must whatever it is, and with acks=1 too.",
			topic: func(t *Topic, v value) { t.MinInsyncReplicas = int(v.n) }},
		{Name: "millrace.retain.for.scripts", Kind: KindBool, Default: "false", Cluster: "millrace.retain.for.scripts",
			Doc:   "Keep what an async script bound to this topic has not taken yet, beyond retention. A paused script then holds its parent.",
			topic: func(t *Topic, v value) { t.RetainForScripts = v.flag }},
	}
	return append(append(rows, compactionRows()...), segmentRows()...)
}

func compactionRows() []Row {
	return []Row{
		{Name: "delete.retention.ms", Kind: KindMillis, Default: "86400000", Min: "0", Cluster: "log.cleaner.delete.retention.ms",
			Doc:   "How long compaction keeps a tombstone, in milliseconds, so that readers from the start see the deletion.",
			topic: func(t *Topic, v value) { t.DeleteRetention = v.millis() }},
		{Name: "min.compaction.lag.ms", Kind: KindMillis, Default: "0", Min: "0", Cluster: "log.cleaner.min.compaction.lag.ms",
			Doc:   "How long a record stays out of compaction at least, in milliseconds.",
			topic: func(t *Topic, v value) { t.CompactionLagMin = v.millis() }},
		{Name: "max.compaction.lag.ms", Kind: KindMillis, Default: longMax, Min: "1", Cluster: "log.cleaner.max.compaction.lag.ms",
			Doc:   "How long a record stays out of compaction at most, in milliseconds.",
			topic: func(t *Topic, v value) { t.CompactionLagMax = v.millis() }},
		{Name: "min.cleanable.dirty.ratio", Kind: KindDouble, Default: "0.5", Min: "0", Max: "1", Cluster: "log.cleaner.min.cleanable.ratio",
			Doc:   "Share of a log's bytes that must be new since the last compaction for the next to begin.",
			topic: func(t *Topic, v value) { t.MinCleanableRatio = v.f }},
	}
}

func segmentRows() []Row {
	return []Row{
		{Name: "segment.bytes", Kind: KindInt, Default: "1073741824", Min: "1024", Cluster: "log.segment.bytes",
			Doc:   "Size at which a segment is closed, in bytes. Retention and compaction touch closed segments only.",
			topic: func(t *Topic, v value) { t.SegmentBytes = v.n }},
		{Name: "segment.ms", Kind: KindMillis, Default: "604800000", Min: "1", Cluster: "log.roll.ms",
			Doc:   "Age at which a segment is closed, in milliseconds.",
			topic: func(t *Topic, v value) { t.SegmentTime = v.millis() }},
		{Name: "segment.jitter.ms", Kind: KindMillis, Default: "0", Min: "0", Cluster: "log.roll.jitter.ms",
			Doc:   "Random time taken off segment.ms, at most this many milliseconds, so that partitions do not roll at once.",
			topic: func(t *Topic, v value) { t.SegmentJitter = v.millis() }},
		{Name: "segment.index.bytes", Kind: KindInt, Default: "10485760", Min: "4", Cluster: "log.index.size.max.bytes", Inert: true,
			Doc:   "Largest offset index of a segment. Accepted and shown; an index here grows with its segment.",
			topic: func(t *Topic, v value) { t.SegmentIndexBytes = int(v.n) }},
		{Name: "index.interval.bytes", Kind: KindInt, Default: "4096", Min: "0", Cluster: "log.index.interval.bytes",
			Doc:   "Bytes of log between two index entries.",
			topic: func(t *Topic, v value) { t.IndexIntervalBytes = int(v.n) }},
		{Name: "file.delete.delay.ms", Kind: KindMillis, Default: "60000", Min: "0", Cluster: "log.segment.delete.delay.ms", Inert: true,
			Doc:   "Wait before a dropped segment's file is removed. Accepted and shown; a file here goes with its last reader.",
			topic: func(t *Topic, v value) { t.FileDeleteDelay = v.millis() }},
		{Name: "preallocate", Kind: KindBool, Default: "false", Cluster: "log.preallocate", Inert: true,
			Doc:   "Allocate a segment's file when it is made. Accepted and shown.",
			topic: func(t *Topic, v value) { t.Preallocate = v.flag }},
		{Name: "flush.messages", Kind: KindLong, Default: longMax, Min: "1", Cluster: "log.flush.interval.messages", Inert: true,
			Doc:   "Records between two forced syncs. Accepted and shown; here every acknowledged record is synced already.",
			topic: func(t *Topic, v value) { t.FlushMessages = v.n }},
		{Name: "flush.ms", Kind: KindMillis, Default: longMax, Min: "0", Cluster: "log.flush.interval.ms", Inert: true,
			Doc:   "Milliseconds between two forced syncs. Accepted and shown; here every acknowledged record is synced already.",
			topic: func(t *Topic, v value) { t.FlushTime = v.millis() }},
		{Name: "unclean.leader.election.enable", Kind: KindBool, Default: "false", Cluster: "unclean.leader.election.enable", Inert: true,
			Doc:   "Accepted and shown; Raft never elects a replica that lacks committed records.",
			topic: func(t *Topic, v value) { t.UncleanElection = v.flag }},
		{Name: "remote.storage.enable", Kind: KindBool, Default: "false",
			Doc:   "Keep closed segments in an object store.",
			check: func(v value) string { return refuseIf(v.flag, "this version has no tiered storage") },
			topic: func(t *Topic, v value) { t.RemoteStorage = v.flag }},
		{Name: "remote.log.copy.disable", Kind: KindBool, Default: "false", Inert: true,
			Doc:   "Copy no more segments to the object store. Accepted and shown; nothing is copied without remote.storage.enable.",
			topic: func(t *Topic, v value) {}},
		{Name: "remote.log.delete.on.disable", Kind: KindBool, Default: "false", Inert: true,
			Doc:   "Delete what is in the object store when remote.storage.enable is taken back. Accepted and shown; nothing is there without it.",
			topic: func(t *Topic, v value) {}},
		{Name: "local.retention.ms", Kind: KindMillis, Default: "-2", Min: "-2", Cluster: "log.local.retention.ms", Inert: true,
			Doc:   "How long segments stay on local disk once in the object store, in milliseconds; -2 as retention.ms.",
			topic: func(t *Topic, v value) { t.LocalRetentionTime = v.millis() }},
		{Name: "local.retention.bytes", Kind: KindLong, Default: "-2", Min: "-2", Cluster: "log.local.retention.bytes", Inert: true,
			Doc:   "Bytes that stay on local disk once in the object store; -2 as retention.bytes.",
			topic: func(t *Topic, v value) { t.LocalRetentionBytes = v.n }},
		{Name: "leader.replication.throttled.replicas", Kind: KindList, Inert: true,
			Doc:   "Accepted and shown.",
			topic: func(t *Topic, v value) {}},
		{Name: "follower.replication.throttled.replicas", Kind: KindList, Inert: true,
			Doc:   "Accepted and shown.",
			topic: func(t *Topic, v value) {}},
	}
}

func has(list []string, word string) bool {
	for _, w := range list {
		if w == word {
			return true
		}
	}
	return false
}

// refuseIf gives why when it holds, for Row.check.
func refuseIf(holds bool, why string) string {
	if holds {
		return why
	}
	return ""
}

// clampInt32 gives n as an int32.
func clampInt32(n int64) int32 { return int32(min(max(n, math.MinInt32), math.MaxInt32)) }
