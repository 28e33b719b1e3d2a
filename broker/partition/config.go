package partition

import (
	"log/slog"
	"time"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
)

// Options says where a partition lives.
type Options struct {
	FS     disk.FS
	Dir    string // the partition's own; made when absent
	ID     model.PartitionID
	Config Config
	Log    *slog.Logger // nil is silent
	// Memory and Past are all partitions': what appended batches wait in, and what was
	// read of segments. nil is the Go heap, and keeps nothing.
	Memory *block.Memory
	Past   *block.Cache
	// Breathe is segment.Place's.
	Breathe func()
}

// Config is what is local to this replica: it never changes what Apply answers.
// Zero fields take the defaults below, but for Compact and Delete.
type Config struct {
	SegmentBytesMax int64
	// SegmentAgeMax rolls a segment by the age of its first record; <= 0 never.
	SegmentAgeMax time.Duration
	// RetentionTime and RetentionBytes bound a partition that has Delete; < 0 is no
	// bound, and so is a RetentionTime of 0.
	RetentionTime      time.Duration
	RetentionBytes     int64
	Compact, Delete    bool
	IndexIntervalBytes int
	// DeleteRetention is how long tombstones outlive the compaction that passed them.
	DeleteRetention time.Duration
	// CompactionLagMin keeps records from compaction that long; CompactionLagMax
	// (> 0) compacts what is older whatever the ratio.
	CompactionLagMin, CompactionLagMax time.Duration
	MinCleanableRatio                  float64
	// CacheBytesMax bounds the recent batches; with < 0 none are kept, nor anything in
	// memory that is on disk.
	CacheBytesMax int64
	// CompactionKeysMax bounds the memory for keys of one compaction, in bytes.
	CompactionKeysMax int64
	// InflatedMax bounds a batch's records when compaction or a search by time
	// inflates them, in bytes.
	InflatedMax int
}

const (
	defaultSegmentBytes   = 1 << 30
	defaultIndexInterval  = 4 << 10
	defaultCacheBytes     = 256 << 10
	defaultCompactionKeys = 32 << 20
	// defaultInflated is far above what produce takes: what was accepted once must
	// stay readable.
	defaultInflated = 512 << 20
	// segmentBytesLimit keeps positions within 32 bits.
	segmentBytesLimit = 2 << 30
)

func (c Config) withDefaults() Config {
	if c.SegmentBytesMax <= 0 {
		c.SegmentBytesMax = defaultSegmentBytes
	}
	c.SegmentBytesMax = min(c.SegmentBytesMax, segmentBytesLimit)
	if c.IndexIntervalBytes <= 0 {
		c.IndexIntervalBytes = defaultIndexInterval
	}
	if c.CacheBytesMax == 0 {
		c.CacheBytesMax = defaultCacheBytes
	}
	if c.CompactionKeysMax <= 0 {
		c.CompactionKeysMax = defaultCompactionKeys
	}
	if c.InflatedMax <= 0 {
		c.InflatedMax = defaultInflated
	}
	return c
}
