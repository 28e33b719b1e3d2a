// Package check recomputes what scripts should have written, from the parents'
// records, and compares it with what the children hold: nothing lost, nothing
// twice, in order.
//
// It is for tests: of the pacemaker in one process, and of whole brokers that
// are killed. It uses none of the code that it judges, and owns nothing.
package check

import (
	"bytes"
	"fmt"
	"strings"
)

// Header is a header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Record is a record of a parent or a child as a consumer reads it.
type Record struct {
	Offset     int64
	Timestamp  int64
	Key, Value []byte
	Headers    []Header
}

// Out is a record that a script gives.
type Out struct {
	Output     int   // which of Job.Outputs
	Partition  int32 // of the child; below 0: the parent's
	Key, Value []byte
	Headers    []Header
}

// Func is the script as a function of one record. ok false: the record fails,
// always.
type Func func(Record) (outs []Out, ok bool)

// Pass is a stretch of a parent that a script was given: a deployment and a
// seek begin one.
type Pass struct {
	From       int64
	To         int64 // where the next pass took over
	Activation int64 // that its dead letters carry
	Do         Func
}

// Parent is one partition of an input, with everything that was ever committed
// to it, and the passes over it in order.
type Parent struct {
	Topic     string
	Partition int32
	Records   []Record
	Passes    []Pass
}

// Letter says which record a dead letter was, and under which activation it
// failed.
type Letter struct {
	Topic      string
	Partition  int32
	Offset     int64
	Activation int64
}

// Policy is what becomes of records that fail.
type Policy int

// The policies.
const (
	Skip Policy = iota
	Dead
)

// Job is all that there is to judge.
type Job struct {
	Parents []Parent
	// Outputs holds the children's records: of each output, each partition.
	Outputs [][][]Record
	// Letters holds the dead letters' records of each partition, under Dead.
	Letters [][]Record
	Policy  Policy
	// Flaky: a record may also fail by chance; then it must have failed as a whole.
	Flaky bool
	// Origin says which parent partition a child's record came from.
	Origin func(Record) (topic string, partition int32, ok bool)
	// LetterOrigin says which record a dead letter was.
	LetterOrigin func(Record) (Letter, bool)
	// Gone tells that a record may be missing in any child: it was trimmed, or
	// compacted away, maybe between one child's turn and another's.
	Gone func(topic string, partition int32, offset int64) bool
}

// faultsMax is how many faults are told.
const faultsMax = 10

// Counts sums up a run.
type Counts struct {
	Records, Outs, Failed, Gone int
}

// Run compares. The error names every fault, up to a few.
func (j *Job) Run() (Counts, error) {
	r := run{job: j}
	r.split()
	for i := range j.Parents {
		r.parent(&j.Parents[i])
	}
	if len(r.faults) == 0 {
		return r.counts, nil
	}
	return r.counts, fmt.Errorf("%d faults: %s", r.count, strings.Join(r.faults, "; "))
}

type parentKey struct {
	topic     string
	partition int32
}

type childKey struct {
	output    int // -1: dead letters
	partition int32
}

// run is one comparison.
type run struct {
	job    *Job
	queues map[parentKey]map[childKey][]Record // what each child took from each parent
	counts Counts
	faults []string
	count  int
}

func (r *run) fault(format string, args ...any) {
	r.count++
	if len(r.faults) < faultsMax {
		r.faults = append(r.faults, fmt.Sprintf(format, args...))
	}
}

// split sorts the children's records by the parent that they came from.
func (r *run) split() {
	r.queues = map[parentKey]map[childKey][]Record{}
	for _, p := range r.job.Parents {
		r.queues[parentKey{p.Topic, p.Partition}] = map[childKey][]Record{}
	}
	put := func(topic string, partition int32, ok bool, c childKey, rec Record) {
		q, known := r.queues[parentKey{topic, partition}]
		if !ok || !known {
			r.fault("output %d partition %d offset %d: of no known parent", c.output, c.partition, rec.Offset)
			return
		}
		q[c] = append(q[c], rec)
	}
	for o, partitions := range r.job.Outputs {
		for p, records := range partitions {
			for _, rec := range records {
				topic, partition, ok := r.job.Origin(rec)
				put(topic, partition, ok, childKey{o, int32(p)}, rec)
			}
		}
	}
	for p, records := range r.job.Letters {
		for _, rec := range records {
			l, ok := r.job.LetterOrigin(rec)
			put(l.Topic, l.Partition, ok, childKey{-1, int32(p)}, rec)
		}
	}
}

// parent walks the passes over one parent partition and takes off each queue
// what every record should have left there.
func (r *run) parent(p *Parent) {
	queues := r.queues[parentKey{p.Topic, p.Partition}]
	for _, pass := range p.Passes {
		for _, rec := range p.Records {
			if rec.Offset >= pass.From && rec.Offset < pass.To {
				r.counts.Records++
				r.record(p, queues, pass, rec)
			}
		}
	}
	for c, rest := range queues {
		if len(rest) > 0 {
			r.fault("%s-%d: output %d partition %d has %d records too many, the first at offset %d (%q)",
				p.Topic, p.Partition, c.output, c.partition, len(rest), rest[0].Offset, rest[0].Value)
		}
	}
}

// record takes off what one record should have left: its outputs, a dead
// letter, or nothing if it was skipped or is gone.
func (r *run) record(p *Parent, queues map[childKey][]Record, pass Pass, rec Record) {
	if r.letter(p, queues, pass, rec) {
		r.counts.Failed++
		return
	}
	outs, ok := pass.Do(rec)
	if r.job.Gone != nil && r.job.Gone(p.Topic, p.Partition, rec.Offset) {
		r.perhaps(p, queues, rec, outs)
		return
	}
	if !ok && r.job.Policy == Skip {
		r.counts.Failed++
		return
	}
	var missing string
	if ok {
		missing = r.outs(p, queues, rec, outs)
	} else {
		missing = "failed, and is not among the dead letters"
	}
	switch {
	case missing == "":
		r.counts.Outs += len(outs)
	case r.job.Flaky && r.job.Policy == Skip && ok:
		r.counts.Failed++
	default:
		r.fault("%s-%d: record %d: %s", p.Topic, p.Partition, rec.Offset, missing)
	}
}

// letter takes the record's dead letter off, if it is the next one.
func (r *run) letter(p *Parent, queues map[childKey][]Record, pass Pass, rec Record) bool {
	if r.job.Policy != Dead {
		return false
	}
	c := childKey{-1, p.Partition}
	q := queues[c]
	if len(q) == 0 {
		return false
	}
	if l, _ := r.job.LetterOrigin(q[0]); l.Offset != rec.Offset || l.Activation != pass.Activation {
		return false
	}
	if !bytes.Equal(q[0].Key, rec.Key) || !bytes.Equal(q[0].Value, rec.Value) || q[0].Timestamp != rec.Timestamp {
		r.fault("%s-%d: the dead letter of record %d is another record", p.Topic, p.Partition, rec.Offset)
	}
	queues[c] = q[1:]
	return true
}

// perhaps takes off what a record that may be gone left, child by child.
func (r *run) perhaps(p *Parent, queues map[childKey][]Record, rec Record, outs []Out) {
	r.counts.Gone++
	byChild := map[childKey][]Out{}
	for _, o := range outs {
		c := childKey{o.Output, o.Partition}
		byChild[c] = append(byChild[c], o)
	}
	for _, some := range byChild {
		r.outs(p, queues, rec, some)
	}
}

// outs takes a record's outputs off, all or none; it says what is missing.
func (r *run) outs(p *Parent, queues map[childKey][]Record, rec Record, outs []Out) (missing string) {
	used := map[childKey]int{}
	for i, o := range outs {
		c := childKey{o.Output, o.Partition}
		if o.Partition < 0 {
			c.partition = p.Partition
		}
		q := queues[c]
		if used[c] >= len(q) || !equal(q[used[c]], rec, o) {
			next := "nothing"
			if used[c] < len(q) {
				next = fmt.Sprintf("%q at offset %d", q[used[c]].Value, q[used[c]].Offset)
			}
			return fmt.Sprintf("its output %d of %d (%q) is not next in output %d partition %d: there is %s", i+1, len(outs), o.Value, c.output, c.partition, next)
		}
		used[c]++
	}
	for c, n := range used {
		queues[c] = queues[c][n:]
	}
	return ""
}

func equal(got, parent Record, want Out) bool {
	if got.Timestamp != parent.Timestamp || !same(got.Key, want.Key) || !same(got.Value, want.Value) || len(got.Headers) != len(want.Headers) {
		return false
	}
	for i, h := range want.Headers {
		if got.Headers[i].Key != h.Key || !same(got.Headers[i].Value, h.Value) {
			return false
		}
	}
	return true
}

// same tells null from empty.
func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// PartitionOf is Kafka's default partitioner: the murmur2 hash of a key that is
// not null.
func PartitionOf(key []byte, partitions int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % partitions
}

func murmur2(b []byte) uint32 {
	const m, seed = 0x5bd1e995, 0x9747b28c
	h := uint32(seed) ^ uint32(len(b))
	for len(b) >= 4 {
		k := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
		k *= m
		k ^= k >> 24
		k *= m
		h = h*m ^ k
		b = b[4:]
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(b[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
