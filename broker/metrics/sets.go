package metrics

import "time"

// Limits of label combinations. A topic or script beyond them counts as other.
const (
	apisMax       = 200    // Kafka has fewer keys
	softwareMax   = 64     // client programs told apart
	scriptsMax    = 1000   // as many as may be deployed
	partitionsMax = 20_000 // samples per family and scrape
	groupsMax     = 50_000
)

// Kafka is what the Kafka front measures. It has the methods that the front asks for.
type Kafka struct {
	requests        *CounterVec
	latency         *HistogramVec
	bytesIn         *CounterVec
	bytesOut        *CounterVec
	connections     *Gauge
	refused         *Counter
	protocolErrors  *Counter
	clientsSoftware *CounterVec
}

// NewKafka makes the Kafka front's metrics.
func NewKafka(r *Registry) *Kafka {
	api := Bound{Labels: []string{"api"}, Max: apisMax}
	return &Kafka{
		requests:        r.CounterVec(Opts{"kafka", "answered", "requests", "Requests answered, by API."}, api),
		latency:         r.HistogramVec(Opts{"kafka", "request_latency", "seconds", "From a whole request received to its answer handed to the socket, by API."}, api, Latency()),
		bytesIn:         r.CounterVec(Opts{"kafka", "received", "bytes", "Bytes of requests, by API."}, api),
		bytesOut:        r.CounterVec(Opts{"kafka", "sent", "bytes", "Bytes of answers, by API."}, api),
		connections:     r.Gauge(Opts{"kafka", "open", "connections", "Open client connections."}),
		refused:         r.Counter(Opts{"kafka", "refused", "connections", "Connections closed because there were too many."}),
		protocolErrors:  r.Counter(Opts{"kafka", "protocol", "errors", "Connections closed for what their client sent."}),
		clientsSoftware: r.CounterVec(Opts{"kafka", "client_software", "connections", "Connections that introduced themselves, by client software."}, Bound{Labels: []string{"software"}, Max: softwareMax}),
	}
}

// Request counts one answered request.
func (k *Kafka) Request(api string, took time.Duration, bytesIn, bytesOut int) {
	k.requests.With(api).Inc()
	k.latency.With(api).Since(took)
	k.bytesIn.With(api).Add(float64(bytesIn))
	k.bytesOut.With(api).Add(float64(bytesOut))
}

// Connections sets how many are open.
func (k *Kafka) Connections(open int) { k.connections.Set(float64(open)) }

// Refused counts a connection over the limit.
func (k *Kafka) Refused() { k.refused.Inc() }

// ProtocolError counts a connection closed for what its client sent.
func (k *Kafka) ProtocolError() { k.protocolErrors.Inc() }

// Software counts a client that introduced itself.
func (k *Kafka) Software(name string) { k.clientsSoftware.With(name).Inc() }

// Storage is what the Raft log, the segments and the loops measure.
type Storage struct {
	segmentSync               *Histogram
	segmentErrors             *Counter
	commit                    *Histogram
	appliedEntries, appliedBy *Counter
	corrupt                   *CounterVec
	journalSync               *Histogram
}

// NewStorage makes the storage rooms' metrics.
func NewStorage(r *Registry) *Storage {
	return &Storage{
		segmentSync:    r.Histogram(Opts{"segment", "sync", "seconds", "Flushes of segments with their checkpoint, off the path of acknowledgement."}, Latency()),
		segmentErrors:  r.Counter(Opts{"segment", "sync", "errors", "Flushes of segments that failed; the node stops at the first."}),
		commit:         r.Histogram(Opts{"produce", "commit", "seconds", "From a proposal to its application: the Raft log's sync and the quorum lie in between."}, Latency()),
		appliedEntries: r.Counter(Opts{"core", "applied", "entries", "Log entries applied to partitions."}),
		appliedBy:      r.Counter(Opts{"core", "applied", "bytes", "Bytes of log entries applied to partitions."}),
		journalSync:    r.Histogram(Opts{"journal", "sync", "seconds", "Writes to the Raft log, each with its sync: what every acknowledgement waits for."}, Latency()),
		corrupt:        r.CounterVec(Opts{"segment", "corrupt", "errors", "Damage found when reading, by topic."}, Bound{Labels: []string{"topic"}, Max: scriptsMax}),
	}
}

// Flushed counts a flush of segments; it is core's Observer.
func (s *Storage) Flushed(took time.Duration, err error) {
	s.segmentSync.Since(took)
	if err != nil {
		s.segmentErrors.Inc()
	}
}

// Applied counts entries applied; it is core's Observer.
func (s *Storage) Applied(entries, bytes int) {
	s.appliedEntries.Add(float64(entries))
	s.appliedBy.Add(float64(bytes))
}

// Committed counts one proposal from its start to its application.
func (s *Storage) Committed(took time.Duration) { s.commit.Since(took) }

// Synced counts one write to the Raft log with its sync.
func (s *Storage) Synced(_ int, took time.Duration) { s.journalSync.Since(took) }

// Corrupt counts damage found in a topic.
func (s *Storage) Corrupt(topic string) { s.corrupt.With(topic).Inc() }

// JournalSample is the Raft log at a scrape. All but the last three only grow.
type JournalSample struct {
	Syncs, Seals, Bytes, Waits, Moved float64
	Files, FileBytes                  float64
	Direct                            bool
}

// Journal asks f at every scrape for the Raft log's state.
func Journal(r *Registry, f func() JournalSample) {
	fam := func(noun, unit, help string, total bool) Family {
		return Family{Opts: Opts{"journal", noun, unit, help}, Total: total, Max: 1}
	}
	families := []Family{
		fam("", "syncs", "Synced writes of the Raft log that somebody waited for.", true),
		fam("seal", "syncs", "Synced writes of the Raft log after a pause, which tell damage from a torn write.", true),
		fam("written", "bytes", "Bytes written to the Raft log.", true),
		fam("wait", "events", "Times that a write waited for the next file to be prepared.", true),
		fam("moved", "replicas", "Replicas written again to free an old file.", true),
		fam("", "files", "Files of the Raft log, spares included.", false),
		fam("size", "bytes", "Bytes of the Raft log's files.", false),
		fam("direct", "state", "1 where the Raft log is written past the page cache.", false),
	}
	r.Collect(families, func() [][]Sample {
		s := f()
		out := make([][]Sample, len(families))
		for i, v := range []float64{s.Syncs, s.Seals, s.Bytes, s.Waits, s.Moved, s.Files, s.FileBytes, truth(s.Direct)} {
			out[i] = []Sample{{nil, v}}
		}
		return out
	})
}

// SegmentMemory is what segments share, to be asked at every scrape.
type SegmentMemory struct {
	Direct bool                        // the page cache is bypassed
	Used   func() int64                // bytes
	Past   func() (hits, misses int64) // of blocks
}

// Segments makes the metrics of what segments share.
func Segments(r *Registry, m SegmentMemory) {
	r.Gauge(Opts{"segment", "direct_io", "state", "1 where segments bypass the page cache, 0 where the file system has no direct I/O."}).Set(truth(m.Direct))
	r.GaugeFunc(Opts{"segment", "memory", "bytes", "Memory of segments outside the Go heap: not written yet, written lately, read of the past."}, func() float64 { return float64(m.Used()) })
	r.CounterFunc(Opts{"segment", "past_found", "events", "Blocks of the past that were in memory when they were read."}, func() float64 { hits, _ := m.Past(); return float64(hits) })
	r.CounterFunc(Opts{"segment", "past_read", "events", "Blocks of the past that were read from the device."}, func() float64 { _, misses := m.Past(); return float64(misses) })
}

// PartitionSample is one partition at a scrape.
type PartitionSample struct {
	Topic          string
	Partition      string // decimal
	LogStart, High float64
	Bytes          float64
	Leader         bool
}

// Partitions asks f at every scrape for the partitions of this node.
func Partitions(r *Registry, f func() []PartitionSample) {
	labels := []string{"topic", "partition"}
	fam := func(noun, unit, help string) Family {
		return Family{Opts: Opts{"partition", noun, unit, help}, Labels: labels, Max: partitionsMax}
	}
	families := []Family{
		fam("log_start", "offsets", "Log start offset."), fam("high_watermark", "offsets", "High watermark: end of the committed log."),
		fam("size", "bytes", "Bytes of the partition's segments."), fam("leader", "state", "1 where this node serves as its leader."),
	}
	r.Collect(families, func() [][]Sample {
		out := make([][]Sample, len(families))
		for _, p := range f() {
			l := []string{p.Topic, p.Partition}
			for i, v := range []float64{p.LogStart, p.High, p.Bytes, truth(p.Leader)} {
				out[i] = append(out[i], Sample{l, v})
			}
		}
		return out
	})
}

// ReplicationSample counts partitions at a scrape.
type ReplicationSample struct{ UnderReplicated, UnderMinInsync, Offline float64 }

// Replication asks f at every scrape how the partitions of this node are replicated.
func Replication(r *Registry, f func() ReplicationSample) {
	fam := func(noun, help string) Family {
		return Family{Opts: Opts{"cluster", noun, "partitions", help}, Max: 1}
	}
	families := []Family{
		fam("under_replicated", "Partitions that this node leads and that have replicas which are not in sync."),
		fam("under_min_insync", "Partitions that this node leads with fewer replicas in sync than min.insync.replicas."),
		fam("offline", "Partitions that this node has a replica of and that nobody leads."),
	}
	r.Collect(families, func() [][]Sample {
		s := f()
		return [][]Sample{{{nil, s.UnderReplicated}}, {{nil, s.UnderMinInsync}}, {{nil, s.Offline}}}
	})
}

// GroupSample is one committed offset of a consumer group at a scrape.
type GroupSample struct {
	Group, Topic, Partition string
	Offset, Lag             float64
}

// Groups asks f at every scrape for the committed offsets of this node's
// groups. A Lag below 0 is not known and not shown.
func Groups(r *Registry, f func() []GroupSample) {
	labels := []string{"group", "topic", "partition"}
	families := []Family{
		{Opts: Opts{"group", "committed", "offsets", "Committed offset of a consumer group."}, Labels: labels, Max: groupsMax},
		{Opts: Opts{"group", "lag", "records", "Offsets between a consumer group's commit and the high watermark."}, Labels: labels, Max: groupsMax},
	}
	r.Collect(families, func() [][]Sample {
		out := make([][]Sample, len(families))
		for _, g := range f() {
			l := []string{g.Group, g.Topic, g.Partition}
			out[0] = append(out[0], Sample{l, g.Offset})
			if g.Lag >= 0 {
				out[1] = append(out[1], Sample{l, g.Lag})
			}
		}
		return out
	})
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
