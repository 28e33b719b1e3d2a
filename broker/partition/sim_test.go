package partition

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

var testID = model.PartitionID{Topic: model.TopicID{1, 2, 3}, Index: 4}

const testDir = "/data/p"

// wanted is a record that must be in the log.
type wanted struct {
	offset     model.Offset
	key, value string
	null       bool
	time       int64
}

// oracle is what the log must hold, computed from outcomes alone.
type oracle struct {
	records  []wanted
	sources  map[model.SourceKey]SourceState
	sequence map[model.ProducerID]int32
	logEnd   model.Offset
	logStart model.Offset
}

func (o oracle) clone() oracle {
	o.records = slices.Clone(o.records)
	o.sources, o.sequence = maps.Clone(o.sources), maps.Clone(o.sequence)
	return o
}

// world is a partition with the raft log that it is replayed from.
type world struct {
	t       testing.TB
	r       *rand.Rand
	fs      *disk.Crashing
	memory  *block.Memory
	pastMax int64
	config  Config
	p       *Partition
	log     []Entry // all entries, as raft keeps them; Index is position+1
	results []Outcome
	clock   int64
	flush   *FlushJob
	compact *CompactJob
	values  int
	oracle  oracle
}

// newWorld makes a world; odd seeds have a file system without direct I/O.
func newWorld(t testing.TB, seed uint64, c Config) *world {
	w := worldOf(t, rand.New(rand.NewPCG(seed, 7)), c)
	if seed%2 == 1 {
		w.fs.RefuseDirect()
	}
	return w
}

// worldOf makes a world whose every choice comes from r.
func worldOf(t testing.TB, r *rand.Rand, c Config) *world {
	w := &world{t: t, r: r, fs: disk.NewCrashing(), config: c, clock: 1_000_000}
	w.oracle.sources = map[model.SourceKey]SourceState{}
	w.oracle.sequence = map[model.ProducerID]int32{}
	return w
}

func (w *world) open() error {
	// A reboot leaves the memory to what it had in hand.
	w.memory = block.NewChecked()
	w.pastMax = 20_000 * w.r.Int64N(2)
	p, err := Open(Options{FS: w.fs, Dir: testDir, ID: testID, Config: w.config, Memory: w.memory, Past: block.NewCache(w.memory, w.pastMax)})
	if err != nil {
		return err
	}
	w.p = p
	return nil
}

// propose puts a command into the raft log and applies all that is not applied.
func (w *world) propose(c Command) error {
	w.log = append(w.log, Entry{Index: uint64(len(w.log) + 1), Cmd: c.Append(nil)})
	return w.catchUp()
}

// catchUp replays the log behind Applied, as raft does. An entry applied again must
// come to what it came to before.
func (w *world) catchUp() error {
	for w.p.Applied() < uint64(len(w.log)) {
		at := int(w.p.Applied())
		n := min(1+w.r.IntN(4), len(w.log)-at)
		outcomes, err := w.p.Apply(w.log[at : at+n])
		if err != nil {
			return err
		}
		for i, o := range outcomes {
			if at+i < len(w.results) {
				w.same(at+i, w.results[at+i], o)
				continue
			}
			w.results = append(w.results, o)
			w.learn(w.log[at+i].Cmd, o)
		}
	}
	return nil
}

func (w *world) same(i int, a, b Outcome) {
	w.t.Helper()
	if got, want := showOutcome(b), showOutcome(a); got != want {
		w.t.Fatalf("entry %d replayed: %s, was %s", i+1, got, want)
	}
}

func showOutcome(o Outcome) string {
	s := fmt.Sprintf("token=%d err=%v lead=%v log=%d..%d source=%+v", o.Token, o.Err, o.Lead, o.LogStart, o.LogEnd, o.Source)
	for _, b := range o.Batches {
		s += fmt.Sprintf(" [%d %d %v %v]", b.Base, b.AppendTime, b.Duplicate, b.Err)
	}
	return s
}

// learn updates the oracle by an entry's outcome.
func (w *world) learn(cmd []byte, o Outcome) {
	c, err := Decode(cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	m := &w.oracle
	if o.LogEnd < m.logEnd || o.LogStart < m.logStart {
		w.t.Fatalf("log went back: %d..%d after %d..%d", o.LogStart, o.LogEnd, m.logStart, m.logEnd)
	}
	for i, bo := range o.Batches {
		if bo.Err != nil || bo.Duplicate {
			continue
		}
		if bo.Base != m.logEnd {
			w.t.Fatalf("batch at %d, the log ended at %d", bo.Base, m.logEnd)
		}
		b := record.Batch(c.Batches[i])
		m.logEnd = bo.Base + model.Offset(b.LastOffsetDelta()) + 1
		for _, r := range readBatch(w.t, b) {
			r.offset += bo.Base
			m.records = append(m.records, r)
		}
		if b.ProducerID() >= 0 {
			m.sequence[b.ProducerID()] = b.LastSequence()
		}
	}
	if c.Kind == KindSource || c.Kind == KindActivate {
		m.sources[c.sourceKey()] = o.Source
	}
	m.logStart = o.LogStart
	if m.logEnd != o.LogEnd {
		w.t.Fatalf("log ends at %d, want %d", o.LogEnd, m.logEnd)
	}
}

// readBatch gives the records of a batch, numbered from its base offset.
func readBatch(t testing.TB, b record.Batch) []wanted {
	t.Helper()
	var r record.Reader
	if err := r.Reset(b, 1<<20); err != nil {
		t.Fatal(err)
	}
	var rec record.Record
	var all []wanted
	for r.Next(&rec) {
		if !b.Control() {
			all = append(all, wanted{rec.Offset, string(rec.Key), string(rec.Value), rec.Value == nil, rec.Timestamp})
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return all
}

// batch makes n records with fresh values; hole leaves an offset out.
func (w *world) batch(n int, hole bool, producer model.ProducerID, sequence int32) []byte {
	spec := record.Plain(record.Codec(w.r.IntN(5)))
	spec.BaseOffset = 0
	if producer >= 0 {
		spec.ProducerID, spec.ProducerEpoch, spec.BaseSequence = producer, 0, sequence
	}
	var b record.Builder
	b.Reset(spec)
	delta := int32(0)
	for range n {
		w.values++
		w.clock += int64(w.r.IntN(50))
		value := []byte(fmt.Sprintf("v%d-%s", w.values, string(make([]byte, w.r.IntN(60)))))
		if w.r.IntN(6) == 0 {
			value = nil
		}
		if hole && w.r.IntN(2) == 0 {
			delta++
		}
		key := []byte(fmt.Sprintf("k%d", w.r.IntN(12)))
		if err := b.AddAt(delta, w.clock, key, value, nil); err != nil {
			w.t.Fatal(err)
		}
		delta++
	}
	if hole {
		b.SetLastOffsetDelta(delta)
	}
	out, _, err := b.Build(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) epoch() model.LeaderEpoch { return max(w.p.Epoch(), 0) }

func key(i int) model.SourceKey {
	return model.SourceKey{Script: model.ScriptID(i + 1), Parent: model.PartitionID{Topic: model.TopicID{9}, Index: int32(i)}}
}

// step does one random thing. An error is the disk's.
func (w *world) step() error {
	if w.p.Epoch() < 0 {
		return w.propose(Command{Kind: KindLead, Epoch: 1})
	}
	switch w.r.IntN(17) {
	case 16:
		w.p.CacheShrink(w.r.Int64N(1 + w.p.CacheBytes()))
		return nil
	case 0:
		return w.propose(Command{Kind: KindLead, Epoch: w.epoch() + 1})
	case 1, 2, 3:
		c := Command{Kind: KindProduce, Epoch: w.epoch(), Token: w.r.Uint64()}
		for range 1 + w.r.IntN(3) {
			c.Batches = append(c.Batches, w.batch(1+w.r.IntN(4), w.r.IntN(4) == 0, model.NoProducer, 0))
		}
		return w.propose(c)
	case 4, 5:
		return w.produceIdempotent()
	case 6:
		k := key(w.r.IntN(2))
		at := w.p.Source(k)
		return w.propose(Command{Kind: KindActivate, Epoch: w.epoch(), Activate: Activate{
			Key: k, Activation: at.Activation + model.Activation(w.r.IntN(3)), Keep: at.Known, Remove: w.r.IntN(6) == 0, Announce: w.r.IntN(4) == 0,
		}})
	case 7, 8, 9:
		return w.appendSource()
	case 10:
		if w.r.IntN(3) > 0 {
			return nil
		}
		span := int(w.p.HighWatermark() - w.p.LogStart())
		to := w.p.LogStart() + model.Offset(w.r.IntN(span/2+1))
		return w.propose(Command{Kind: KindTrim, Epoch: w.epoch(), LogStart: to})
	case 11, 12:
		return w.flushStep()
	case 13:
		return w.compactStep()
	case 14:
		if to, ok := w.p.HorizonTarget(time.UnixMilli(w.clock)); ok {
			return w.propose(Command{Kind: KindHorizon, Epoch: w.epoch(), Horizon: to})
		}
		return nil
	default:
		return w.checkRead()
	}
}

func (w *world) produceIdempotent() error {
	id := model.ProducerID(w.r.IntN(3))
	next := int32(0)
	if last, ok := w.oracle.sequence[id]; ok {
		next = last + 1
	}
	n := 1 + w.r.IntN(3)
	raw := w.batch(n, false, id, next)
	c := Command{Kind: KindProduce, Epoch: w.epoch(), Batches: [][]byte{raw}}
	if w.r.IntN(3) == 0 {
		c.Batches = append(c.Batches, raw) // the same again: a retry in the same command
	}
	if err := w.propose(c); err != nil {
		return err
	}
	if w.r.IntN(3) == 0 { // and in another
		before := w.p.HighWatermark()
		if err := w.propose(Command{Kind: KindProduce, Epoch: w.epoch(), Batches: [][]byte{raw}}); err != nil {
			return err
		}
		if o := w.results[len(w.results)-1].Batches[0]; !o.Duplicate || o.Err != nil || w.p.HighWatermark() != before {
			w.t.Fatalf("retried batch: %+v", o)
		}
	}
	return nil
}

// appendSource is a fiber that sometimes believes to stand elsewhere.
func (w *world) appendSource() error {
	k := key(w.r.IntN(2))
	at := w.p.Source(k)
	if !at.Known {
		return nil
	}
	s := Source{Key: k, Activation: at.Activation, Seen: at.Announced, From: at.Offset}
	if w.r.IntN(8) == 0 {
		s.Seen = at.Activation
	}
	if w.r.IntN(4) == 0 {
		s.From -= model.Offset(w.r.IntN(3))
	}
	if w.r.IntN(8) == 0 && s.Activation > 0 {
		s.Activation--
	}
	s.To = s.From + 1 + model.Offset(w.r.IntN(5))
	c := Command{Kind: KindSource, Epoch: w.epoch(), Source: s}
	if w.r.IntN(3) > 0 {
		c.Batches = [][]byte{w.batch(1+w.r.IntN(3), false, model.NoProducer, 0)}
	}
	return w.propose(c)
}

// flushStep starts a flush, or runs and ends the one under way: appends come between.
func (w *world) flushStep() error {
	if w.flush == nil {
		w.flush = w.p.FlushStart()
		return nil
	}
	j := w.flush
	w.flush = nil
	err := j.Run()
	w.p.FlushDone(j, err)
	return err
}

func (w *world) compactStep() error {
	if w.compact == nil {
		w.compact = w.p.CompactStart(time.UnixMilli(w.clock))
		return nil
	}
	j := w.compact
	w.compact = nil
	err := j.Run()
	w.p.CompactDone(j, err)
	return err
}

// readAll reads everything from an offset on in small pieces.
func readAll(t testing.TB, p *Partition, from model.Offset, bytesMax int, committed bool) (all []wanted, err error) {
	t.Helper()
	for range 100_000 {
		a, err := p.Read(ReadAsk{From: from, BytesMax: bytesMax, MinOne: true, Committed: committed})
		if err != nil {
			return all, err
		}
		b, err := a.Load(nil)
		if err != nil {
			return all, err
		}
		if len(b) == 0 {
			return all, nil
		}
		for len(b) > 0 {
			batch, rest, err := record.Next(b)
			if err != nil {
				t.Fatal(err)
			}
			if err := batch.Check(); err != nil {
				t.Fatalf("served batch at %d: %v", batch.BaseOffset(), err)
			}
			for _, r := range readBatch(t, batch) {
				if r.offset >= from {
					all = append(all, r)
				}
			}
			from, b = batch.NextOffset(), rest
		}
	}
	t.Fatal("reading does not end")
	return nil, nil
}

func (w *world) checkRead() error {
	got, err := readAll(w.t, w.p, w.p.LogStart(), 1+w.r.IntN(2000), false)
	if errors.Is(err, disk.ErrPowerCut) {
		return err
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.compare(got)
	return nil
}

// compare checks what was read against the oracle. With compaction, superseded
// records may be gone, and a tombstone that is the last of its key.
func (w *world) compare(got []wanted) {
	w.t.Helper()
	want := slices.DeleteFunc(slices.Clone(w.oracle.records), func(r wanted) bool { return r.offset < w.oracle.logStart })
	if !w.config.Compact {
		if !slices.Equal(got, want) {
			w.t.Fatalf("read %d records, want %d\n%v\n%v", len(got), len(want), got, want)
		}
		return
	}
	newest := map[string]model.Offset{}
	for _, r := range want {
		newest[r.key] = r.offset
	}
	i := 0
	for _, r := range want {
		if i < len(got) && got[i] == r {
			i++
			continue
		}
		if newest[r.key] == r.offset && !(r.null && r.offset < w.p.Horizon()) {
			w.t.Fatalf("record %+v is lost (horizon %d)", r, w.p.Horizon())
		}
	}
	if i != len(got) {
		w.t.Fatalf("record %+v was never written, or is out of order", got[i])
	}
	w.resurrected(got, want)
}

// resurrected sees that no key is read with an older value than it has.
func (w *world) resurrected(got, want []wanted) {
	last, read := map[string]wanted{}, map[string]wanted{}
	for _, r := range want {
		last[r.key] = r
	}
	for _, r := range got {
		read[r.key] = r
	}
	for k, r := range read {
		if r != last[k] {
			w.t.Fatalf("key %s reads %+v, its last record is %+v", k, r, last[k])
		}
	}
}

// check compares everything with the oracle.
func (w *world) check() {
	w.t.Helper()
	if err := w.checkRead(); err != nil {
		w.t.Fatal(err)
	}
	for k, want := range w.oracle.sources {
		if got := w.p.Source(k); fmt.Sprint(got) != fmt.Sprint(want) {
			w.t.Fatalf("source %v: %+v, want %+v", k, got, want)
		}
	}
	for _, pr := range w.p.Producers() {
		if want := w.oracle.sequence[pr.Producer]; pr.LastSequence != want {
			w.t.Fatalf("producer %d: sequence %d, want %d", pr.Producer, pr.LastSequence, want)
		}
	}
	if len(w.p.Producers()) != len(w.oracle.sequence) || w.p.LogStart() != w.oracle.logStart || w.p.HighWatermark() != w.oracle.logEnd {
		w.t.Fatalf("partition %d..%d, want %d..%d", w.p.LogStart(), w.p.HighWatermark(), w.oracle.logStart, w.oracle.logEnd)
	}
	if err := checkSources(w.log, w.results); err != nil {
		w.t.Fatal(err)
	}
	if d := w.p.Damage(); len(d) > 0 {
		w.t.Fatalf("damage: %+v", d)
	}
}

// reboot opens what a power cut has left and replays the raft log.
func (w *world) reboot(seed uint64) {
	w.t.Helper()
	w.fs = w.fs.Crash(seed)
	w.flush, w.compact = nil, nil
	if err := w.open(); err != nil {
		w.t.Fatal(err)
	}
	if err := w.catchUp(); err != nil {
		w.t.Fatal(err)
	}
}

func smallConfig(compact bool) Config {
	return Config{SegmentBytesMax: 1500, IndexIntervalBytes: 200, RetentionBytes: -1, Compact: compact, CacheBytesMax: 700, Delete: true}
}
