package partition

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

var rewrite = flag.Bool("rewrite", false, "write what transcripts answer into their files")

// TestTranscripts plays testdata/*.txt: a command a block, "----", its answer.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { playFile(t, f) })
	}
}

func playFile(t *testing.T, name string) {
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	pl := &player{t: t, fs: disk.NewCrashing()}
	var out strings.Builder
	for _, block := range strings.Split(strings.TrimSpace(string(raw)), "\n\n") {
		ask, _, _ := strings.Cut(block, "\n----")
		var answer strings.Builder
		for _, line := range strings.Split(ask, "\n") {
			if line != "" && !strings.HasPrefix(line, "#") {
				answer.WriteString(pl.play(line))
			}
		}
		fmt.Fprintf(&out, "%s\n----\n%s\n", ask, answer.String())
	}
	got := strings.TrimSpace(out.String()) + "\n"
	if *rewrite {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != string(raw) {
		t.Errorf("%s plays\n%s\nrun with -rewrite if that is right", name, got)
	}
}

// player holds a partition and the raft log that it is replayed from.
type player struct {
	t      *testing.T
	fs     *disk.Crashing
	p      *Partition
	config Config
	log    []Entry
	epoch  model.LeaderEpoch
	token  uint64
	job    *CompactJob // started, not done
}

// words is a line cut into its verb, flags and name=value pairs.
type words struct {
	verb  string
	flags map[string]bool
	pairs [][2]string
}

func cut(line string) words {
	f := strings.Fields(line)
	w := words{verb: f[0], flags: map[string]bool{}}
	for _, x := range f[1:] {
		if k, v, ok := strings.Cut(x, "="); ok {
			w.pairs = append(w.pairs, [2]string{k, v})
		} else {
			w.flags[x] = true
		}
	}
	return w
}

func (w words) int(name string, otherwise int64) int64 {
	for _, p := range w.pairs {
		if p[0] == name {
			if p[1] == "max" {
				return int64(model.OffsetMax)
			}
			n, err := strconv.ParseInt(p[1], 10, 64)
			if err != nil {
				panic(err)
			}
			return n
		}
	}
	return otherwise
}

func (w words) offset(name string) model.Offset { return model.Offset(w.int(name, 0)) }

func (pl *player) play(line string) string {
	w := cut(line)
	if w.verb != "open" && pl.p == nil {
		return "nothing is open\n"
	}
	switch w.verb {
	case "open":
		return pl.open(w)
	case "crash":
		pl.fs = pl.fs.Crash(uint64(w.int("seed", 0)))
		return pl.reopen()
	case "reopen":
		if err := pl.p.Close(); err != nil {
			return fmt.Sprintln("close:", err)
		}
		return pl.reopen()
	case "flush":
		return pl.flush()
	case "compact":
		return pl.compact(w)
	case "corrupt":
		return pl.corrupt(w)
	case "read":
		return pl.read(w)
	case "state":
		return pl.state()
	case "files":
		return pl.files()
	case "check":
		o, known, err := pl.p.CheckProduce(record.Batch(pl.batch(w)))
		return fmt.Sprintf("known=%v base=%d err=%v\n", known, o.Base, err)
	case "time":
		o, ms, epoch, found, err := pl.p.FindTime(w.int("ms", 0)).Run()
		return fmt.Sprintf("offset=%d time=%d epoch=%d found=%v err=%v\n", o, ms, epoch, found, err)
	case "epochend":
		e, end := pl.p.EpochEnd(model.LeaderEpoch(w.int("of", 0)))
		return fmt.Sprintf("epoch=%d end=%d\n", e, end)
	case "retention":
		to, ok := pl.p.RetentionTarget(time.UnixMilli(w.int("now", 0)))
		return fmt.Sprintf("to=%d %v\n", to, ok)
	case "expired":
		return fmt.Sprintf("%+v\n", pl.p.ExpiredProducers(w.int("before", 0)))
	}
	return pl.apply(pl.command(w))
}

func (pl *player) open(w words) string {
	pl.config = Config{
		SegmentBytesMax: w.int("segment", 1<<20), IndexIntervalBytes: int(w.int("interval", 100)),
		CacheBytesMax: w.int("cache", -1), Compact: w.flags["compact"], Delete: w.flags["delete"],
		RetentionBytes: w.int("bytes", -1), RetentionTime: time.Duration(w.int("retain", -1)) * time.Millisecond,
		SegmentAgeMax: time.Duration(w.int("age", -1)) * time.Millisecond,
	}
	return pl.reopen()
}

// reopen opens and replays the log behind what was applied.
func (pl *player) reopen() string {
	p, err := Open(Options{FS: pl.fs, Dir: testDir, ID: testID, Config: pl.config})
	if err != nil {
		pl.p = nil
		return fmt.Sprintln(err)
	}
	pl.p = p
	s := fmt.Sprintf("applied=%d", p.Applied())
	if replay := pl.log[p.Applied():]; len(replay) > 0 {
		if _, err := p.Apply(replay); err != nil {
			return fmt.Sprintln(s, err)
		}
		s += fmt.Sprintf(" replayed=%d", len(replay))
	}
	for _, d := range p.Damage() {
		s += fmt.Sprintf(" damage=%s:%d[%d,%d]", d.File, d.Pos, d.First, d.Last)
	}
	return s + "\n"
}

func (pl *player) flush() string {
	j := pl.p.FlushStart()
	if j == nil {
		return "nothing\n"
	}
	err := j.Run()
	pl.p.FlushDone(j, err)
	return fmt.Sprintf("checkpoint=%d err=%v\n", pl.p.CheckpointIndex(), err)
}

func (pl *player) compact(w words) string {
	now := time.UnixMilli(w.int("now", 0))
	if !w.flags["done"] {
		pl.job = pl.p.CompactStart(now)
		if pl.job == nil {
			return "nothing\n"
		}
	}
	if w.flags["start"] {
		return ""
	}
	err := pl.job.Run()
	pl.p.CompactDone(pl.job, err)
	to, ok := pl.p.HorizonTarget(now)
	return fmt.Sprintf("cleaned=%d err=%v horizon target=%d %v\n", pl.p.cleaned, err, to, ok)
}

func (pl *player) corrupt(w words) string {
	var name string
	for f := range w.flags {
		name = f
	}
	if err := pl.fs.Corrupt(filepath.Join(testDir, name), w.int("at", 0), 0x20); err != nil {
		return fmt.Sprintln(err)
	}
	return ""
}

func (pl *player) files() string {
	var s strings.Builder
	for _, f := range pl.fs.Files(testDir) {
		info, err := pl.fs.Stat(f)
		if err != nil {
			pl.t.Fatal(err)
		}
		if strings.Contains(f, "checkpoint") {
			info.Size = 0 // its varints move
		}
		fmt.Fprintf(&s, "%s %d\n", filepath.Base(f), info.Size)
	}
	return s.String()
}

func (pl *player) read(w words) string {
	a, err := pl.p.Read(ReadAsk{From: w.offset("from"), BytesMax: int(w.int("max", 1<<20)), MinOne: true, Committed: w.flags["committed"]})
	if err != nil {
		return fmt.Sprintln(err)
	}
	b, err := a.Load(nil)
	s := fmt.Sprintf("log=%d hw=%d lso=%d", a.LogStart, a.HighWatermark, a.LSO)
	for _, t := range a.Aborted {
		s += fmt.Sprintf(" aborted=%d[%d,%d]", t.Producer, t.First, t.Last)
	}
	s += "\n"
	if err != nil {
		return s + fmt.Sprintln(err)
	}
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err == nil {
			err = batch.Check()
		}
		if err != nil {
			pl.t.Fatal(err)
		}
		s += fmt.Sprintf("  %d..%d epoch=%d", batch.BaseOffset(), batch.LastOffset(), batch.LeaderEpoch())
		if batch.Control() {
			kind, _ := record.ParseMarker(batch)
			s += fmt.Sprintf(" marker=%d", kind)
		}
		for _, r := range readBatch(pl.t, batch) {
			s += fmt.Sprintf(" %d:%s=%s", r.offset, r.key, r.value)
		}
		s += "\n"
		b = rest
	}
	return s
}

func (pl *player) state() string {
	p := pl.p
	s := fmt.Sprintf("log=%d..%d lso=%d epoch=%d segments=%d horizon=%d applied=%d\n",
		p.LogStart(), p.HighWatermark(), p.LSO(), p.Epoch(), p.SegmentCount(), p.Horizon(), p.Applied())
	for _, pr := range p.Producers() {
		s += fmt.Sprintf("  producer %d epoch=%d sequence=%d offset=%d txn=%d\n", pr.Producer, pr.Epoch, pr.LastSequence, pr.LastOffset, pr.TransactionStart)
	}
	for _, e := range p.Sources() {
		s += fmt.Sprintf("  source %d activation=%d offset=%d gap=%d skipped=%v\n", e.Key.Script, e.State.Activation, e.State.Offset, e.State.Gap, e.State.Verdicts)
	}
	return s
}

// reserved are pairs that are not records.
var reserved = map[string]bool{"pid": true, "pe": true, "seq": true, "epoch": true, "script": true, "act": true,
	"from": true, "to": true, "gap": true, "last": true, "ms": true, "appended": true, "twice": true, "skip": true}

// batch makes a batch of the line's pairs: key=value, key=null for a tombstone,
// "_=_" leaves an offset out.
func (pl *player) batch(w words) []byte {
	spec := record.Plain(record.None)
	if pid := w.int("pid", -1); pid >= 0 {
		spec.ProducerID, spec.ProducerEpoch, spec.BaseSequence = model.ProducerID(pid), int16(w.int("pe", 0)), int32(w.int("seq", 0))
	}
	spec.Transactional = w.flags["txn"]
	spec.AppendTime = w.int("appended", record.NoTimestamp)
	var b record.Builder
	b.Reset(spec)
	delta := int32(0)
	ms := w.int("ms", 1000)
	for _, kv := range w.pairs {
		if reserved[kv[0]] {
			continue
		}
		if kv[0] != "_" {
			value := []byte(kv[1])
			if kv[1] == "null" {
				value = nil
			}
			if err := b.AddAt(delta, ms, []byte(kv[0]), value, nil); err != nil {
				pl.t.Fatal(err)
			}
		}
		delta++
	}
	if delta == 0 {
		return nil
	}
	b.SetLastOffsetDelta(delta - 1)
	_, batch, err := b.Build(nil)
	if err != nil {
		pl.t.Fatal(err)
	}
	return batch
}

func (pl *player) command(w words) Command {
	pl.token++
	c := Command{Epoch: model.LeaderEpoch(w.int("epoch", int64(pl.epoch))), Token: pl.token}
	k := model.SourceKey{Script: model.ScriptID(w.int("script", 1))}
	switch w.verb {
	case "lead":
		c.Kind = KindLead
		pl.epoch = max(pl.epoch, c.Epoch)
	case "produce", "source":
		c.Kind = KindProduce
		if b := pl.batch(w); b != nil {
			c.Batches = [][]byte{b}
		}
		if w.verb == "produce" {
			break
		}
		c.Kind = KindSource
		c.Source = Source{Key: k, Activation: model.Activation(w.int("act", 1)), Seen: model.Activation(w.int("seen", w.int("act", 1))), From: w.offset("from"), To: w.offset("to"), Gap: w.int("gap", 0)}
		if v := w.int("skip", -1); v >= 0 {
			c.Source.Verdicts = []model.Offset{model.Offset(v)}
		}
	case "garbage":
		c.Kind = KindProduce
		c.Batches = [][]byte{[]byte(strings.Repeat("x", 70))}
	case "activate":
		c.Kind = KindActivate
		c.Activate = Activate{Key: k, Activation: model.Activation(w.int("act", 1)), Offset: w.offset("from"), Keep: w.flags["keep"], Remove: w.flags["remove"], Announce: w.flags["announce"]}
	case "trim":
		c.Kind, c.LogStart = KindTrim, w.offset("to")
	case "horizon":
		c.Kind, c.Horizon = KindHorizon, w.offset("to")
	case "expire":
		c.Kind, c.Expired = KindExpire, []Expired{{model.ProducerID(w.int("pid", 0)), w.offset("last")}}
	case "marker":
		c.Kind = KindMarker
		kind := record.ControlAbort
		if w.flags["commit"] {
			kind = record.ControlCommit
		}
		b, err := record.AppendMarker(nil, record.Marker{Type: kind, Producer: model.ProducerID(w.int("pid", 0)), ProducerEpoch: int16(w.int("pe", 0)), Timestamp: 1000})
		if err != nil {
			pl.t.Fatal(err)
		}
		c.Batches = [][]byte{b}
	default:
		pl.t.Fatalf("unknown verb %q", w.verb)
	}
	return c
}

func (pl *player) apply(c Command) string {
	e := Entry{Index: uint64(len(pl.log) + 1), Cmd: c.Append(nil)}
	outcomes, err := pl.p.Apply([]Entry{e})
	if err != nil {
		return fmt.Sprintln("STOP:", err)
	}
	pl.log = append(pl.log, e)
	o := outcomes[0]
	s := fmt.Sprintf("log=%d..%d", o.LogStart, o.LogEnd)
	if o.Lead {
		s += " lead"
	}
	for _, b := range o.Batches {
		s += fmt.Sprintf(" base=%d", b.Base)
		if b.AppendTime >= 0 {
			s += fmt.Sprintf(" appended=%d", b.AppendTime)
		}
		if b.Duplicate {
			s += " duplicate"
		}
		if b.Err != nil {
			s += fmt.Sprintf(" err=%v", b.Err)
		}
	}
	if c.Kind == KindSource || c.Kind == KindActivate {
		s += fmt.Sprintf(" source={activation=%d offset=%d known=%v}", o.Source.Activation, o.Source.Offset, o.Source.Known)
	}
	if o.Err != nil {
		s += fmt.Sprintf(" err=%v", o.Err)
	}
	return s + "\n"
}
