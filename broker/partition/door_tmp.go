package partition

import (
	"time"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

// Under construction: the signatures are final, the bodies follow.

type Partition struct{}

func Open(o Options) (*Partition, error)                                            { panic("soon") }
func Destroy(fs disk.FS, dir string) error                                          { panic("soon") }
func (p *Partition) Configure(c Config)                                             {}
func (p *Partition) Apply(entries []Entry) ([]Outcome, error)                       { panic("soon") }
func (p *Partition) Applied() uint64                                                { return 0 }
func (p *Partition) CheckpointIndex() uint64                                        { return 0 }
func (p *Partition) CheckProduce(h record.Batch) (BatchOutcome, bool, error)        { panic("soon") }
func (p *Partition) LogStart() model.Offset                                         { return 0 }
func (p *Partition) HighWatermark() model.Offset                                    { return 0 }
func (p *Partition) LSO() model.Offset                                              { return 0 }
func (p *Partition) Epoch() model.LeaderEpoch                                       { return 0 }
func (p *Partition) Bytes() int64                                                   { return 0 }
func (p *Partition) SegmentCount() int                                              { return 0 }
func (p *Partition) Horizon() model.Offset                                          { return 0 }
func (p *Partition) Source(k model.SourceKey) SourceState                           { panic("soon") }
func (p *Partition) Sources() []SourceEntry                                         { return nil }
func (p *Partition) Producers() []ProducerState                                     { return nil }
func (p *Partition) Damage() []Damage                                               { return nil }
func (p *Partition) Read(a ReadAsk) (*ReadAnswer, error)                            { panic("soon") }
func (p *Partition) FindTime(ts int64) *TimeFinder                                  { panic("soon") }
func (p *Partition) EpochEnd(e model.LeaderEpoch) (model.LeaderEpoch, model.Offset) { return 0, 0 }
func (p *Partition) RetentionTarget(now time.Time) (model.Offset, bool)             { return 0, false }
func (p *Partition) HorizonTarget(now time.Time) (model.Offset, bool)               { return 0, false }
func (p *Partition) ExpiredProducers(before int64) []Expired                        { return nil }
func (p *Partition) Dirty() int64                                                   { return 0 }
func (p *Partition) FlushStart() *FlushJob                                          { return nil }
func (p *Partition) FlushDone(j *FlushJob, err error)                               {}
func (p *Partition) CompactStart(now time.Time) *CompactJob                         { return nil }
func (p *Partition) CompactDone(j *CompactJob, err error)                           {}
func (p *Partition) CacheBytes() int64                                              { return 0 }
func (p *Partition) CacheShrink(n int64)                                            {}
func (p *Partition) Close() error                                                   { return nil }
func (p *Partition) Abandon()                                                       {}

// SourceEntry is a source with what is known of it.
type SourceEntry struct {
	Key   model.SourceKey
	State SourceState
}

// ProducerState describes an idempotent producer.
type ProducerState struct {
	Producer         model.ProducerID
	Epoch            int16
	LastSequence     int32
	LastOffset       model.Offset
	LastTimestamp    int64
	TransactionStart model.Offset // NoOffset when none is open
}

// AbortedTxn is an aborted transaction's range.
type AbortedTxn struct {
	Producer    model.ProducerID
	First, Last model.Offset
}

// Damage is a range of offsets that cannot be read.
type Damage struct {
	File        string
	Pos         int64
	First, Last model.Offset
}

type ReadAsk struct {
	From      model.Offset
	BytesMax  int
	MinOne    bool
	Committed bool
}

type ReadAnswer struct {
	HighWatermark, LSO, LogStart model.Offset
	Aborted                      []AbortedTxn
	Bytes                        int
}

func (a *ReadAnswer) Load(dst []byte) ([]byte, error) { panic("soon") }
func (a *ReadAnswer) Release()                        {}

type TimeFinder struct{}

func (f *TimeFinder) Run() (offset model.Offset, timestamp int64, epoch model.LeaderEpoch, found bool, err error) {
	panic("soon")
}
func (f *TimeFinder) Release() {}

type FlushJob struct{}

func (j *FlushJob) Run() error { return nil }

type CompactJob struct{}

func (j *CompactJob) Run() error { return nil }
