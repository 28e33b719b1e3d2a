package transform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/pacemaker"
	"github.com/millrace-io/millrace/pacemaker/check"
)

// Judge reads everything back and compares it with what the parents say it has
// to be. The load must be quiet and the scripts settled.
func (w *World) Judge() {
	w.T.Helper()
	for _, s := range w.scripts {
		h, err := w.history(s)
		w.must("read "+s.Name+" back", err)
		job, err := h.job()
		if err != nil {
			w.T.Errorf("%s: %v", s.Name, err)
			continue
		}
		counts, err := job.Run()
		if err != nil {
			w.T.Errorf("%s: %v", s.Name, err)
		}
		w.T.Logf("%s: %d versions, %+v", s.Name, len(s.versions), counts)
		if counts.Records == 0 || (counts.Outs == 0 && s.Role != "none") {
			w.T.Errorf("%s: %+v: nothing was judged", s.Name, counts)
		}
	}
}

// history is all that there is to know about one scene.
type history struct {
	scene    *Scene
	versions []*version
	parents  map[tp][]check.Record // as acknowledged
	there    map[tp]map[int64]bool // offsets that a compacted parent still has
	outputs  [][][]check.Record
	letters  [][]check.Record
}

// history reads parents, children and dead letters.
func (w *World) history(s *script) (*history, error) {
	h := &history{scene: s.Scene, versions: s.versions, parents: map[tp][]check.Record{}, there: map[tp]map[int64]bool{}}
	for i, in := range s.Inputs {
		read, err := w.readTopic(in.Topic, s.load.counts[i].Load())
		if err != nil {
			return nil, err
		}
		for p, records := range read {
			at := tp{in.Topic, int32(p)}
			h.parents[at] = s.load.acked[at]
			if err := sameParent(s, at, records, h); err != nil {
				return nil, err
			}
		}
	}
	for _, topic := range s.outputs() {
		read, err := w.readTopic(topic, 0)
		if err != nil {
			return nil, err
		}
		h.outputs = append(h.outputs, read)
	}
	if topic := s.Scene.letters(); topic != "" {
		var err error
		if h.letters, err = w.readTopic(topic, 0); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// sameParent holds what a parent has against what was acknowledged: all of it,
// but for what was trimmed or compacted away, and nothing else.
func sameParent(s *script, at tp, read []check.Record, h *history) error {
	there := map[int64]bool{}
	acked := map[int64]check.Record{}
	for _, r := range h.parents[at] {
		acked[r.Offset] = r
	}
	for _, r := range read {
		there[r.Offset] = true
		if a, ok := acked[r.Offset]; !ok || !bytes.Equal(a.Value, r.Value) {
			return fmt.Errorf("%s-%d: offset %d holds %q, acknowledged was %q", at.topic, at.partition, r.Offset, r.Value, a.Value)
		}
	}
	if s.Compact {
		h.there[at] = there
		return nil
	}
	low := int64(0)
	if len(read) > 0 && s.Trim {
		low = read[0].Offset
	}
	for _, r := range h.parents[at] {
		if r.Offset >= low && !there[r.Offset] {
			return fmt.Errorf("%s-%d: record %q was acknowledged at offset %d and is gone", at.topic, at.partition, r.Value, r.Offset)
		}
	}
	return nil
}

// readTopic reads a whole topic; partitions 0: as many as it has.
func (w *World) readTopic(topic string, partitions int32) ([][]check.Record, error) {
	ctx, cancel := context.WithTimeout(w.T.Context(), healTime)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.Node.Brokers), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ends, starts, err := listed(ctx, cl, topic)
	if err != nil {
		return nil, err
	}
	if partitions > 0 && len(ends) != int(partitions) {
		return nil, fmt.Errorf("%s has %d partitions, want %d", topic, len(ends), partitions)
	}
	all, left, from := make([][]check.Record, len(ends)), map[int32]int64{}, map[int32]kgo.Offset{}
	for p, end := range ends {
		if end > starts[p] {
			left[p], from[p] = end, kgo.NewOffset().At(starts[p])
		}
	}
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("read %s, missing %v: %w", topic, left, err)
		}
		fetches.EachPartition(func(f kgo.FetchTopicPartition) {
			for _, r := range f.Records {
				all[f.Partition] = append(all[f.Partition], recordOf(r))
				if r.Offset+1 >= left[f.Partition] {
					delete(left, f.Partition)
				}
			}
		})
	}
	return all, nil
}

// job puts the passes together and gives the comparison to make.
func (h *history) job() (*check.Job, error) {
	job := &check.Job{
		Outputs: h.outputs, Letters: h.letters, Policy: check.Skip, Flaky: h.scene.Role == "late",
		Origin: origin, LetterOrigin: h.letterOrigin,
	}
	if h.scene.Role == "late" {
		job.Policy = check.Dead
	}
	if h.scene.Compact {
		job.Gone = func(topic string, partition int32, offset int64) bool { return !h.there[tp{topic, partition}][offset] }
	}
	marks, err := h.marks()
	if err != nil {
		return nil, err
	}
	for at, records := range h.parents {
		job.Parents = append(job.Parents, check.Parent{
			Topic: at.topic, Partition: at.partition, Records: records, Passes: h.passes(at, marks[at]),
		})
	}
	return job, nil
}

// mark is what a child's record or a dead letter says of itself.
type mark struct {
	version int
	offset  int64 // of the parent's record
	key     []byte
	landed  int32 // partition of the child; -1 for a dead letter
}

// marks collects them by parent partition.
func (h *history) marks() (map[tp][]mark, error) {
	marks := map[tp][]mark{}
	for _, output := range h.outputs {
		for p, records := range output {
			for _, r := range records {
				topic, parent, ok := origin(r)
				m, err := markOf(r)
				if err != nil || !ok {
					return nil, fmt.Errorf("offset %d of partition %d of an output: %q of %s-%d: %w", r.Offset, p, r.Value, topic, parent, err)
				}
				m.landed = int32(p)
				marks[tp{topic, parent}] = append(marks[tp{topic, parent}], m)
			}
		}
	}
	for _, records := range h.letters {
		for _, r := range records {
			l, ok := h.letterOrigin(r)
			if !ok {
				return nil, fmt.Errorf("a dead letter at offset %d without its headers: %+v", r.Offset, r)
			}
			at := tp{l.Topic, l.Partition}
			marks[at] = append(marks[at], mark{version: int(l.Activation), offset: l.Offset, landed: -1})
		}
	}
	return marks, nil
}

func markOf(r check.Record) (m mark, err error) {
	parts := strings.SplitN(string(r.Value), ":", 3)
	if len(parts) != 3 {
		return m, fmt.Errorf("value %q is not VERSION:OFFSET:VALUE", r.Value)
	}
	if m.version, err = strconv.Atoi(parts[0]); err != nil {
		return m, err
	}
	m.offset, err = strconv.ParseInt(parts[1], 10, 64)
	m.key = r.Key
	return m, err
}

// passes says which stretches of a parent each version took. Where a version
// ended is read off the last thing that it wrote: what it took behind that left
// nothing, as it has to leave nothing under the next, which begins there.
func (h *history) passes(at tp, marks []mark) []check.Pass {
	var passes []check.Pass
	pos := int64(0)
	for i, v := range h.versions {
		if start, ok := v.starts[at]; ok {
			pos = start
		}
		end := pos
		for _, m := range marks {
			if m.version == v.number {
				end = max(end, m.offset+1)
			}
		}
		for _, gap := range v.gaps[at] {
			end = max(end, gap[1]) // it took the gap
		}
		routes := []int32{v.routes}
		if i+1 < len(h.versions) {
			routes = append(routes, h.versions[i+1].routes)
		} else {
			end = math.MaxInt64
		}
		passes = append(passes, h.stretches(at, v, check.Pass{From: pos, To: end}, routes, marks)...)
		pos = end
	}
	return passes
}

// stretches cuts a version's pass where the parent was trimmed, and where
// partitions were added.
func (h *history) stretches(at tp, v *version, whole check.Pass, routes []int32, marks []mark) []check.Pass {
	turn := whole.To // where the second routing begins
	if h.scene.ByKey && len(routes) > 1 && routes[0] != routes[1] {
		turn = whole.From
		for _, m := range marks {
			if m.version == v.number && m.landed != check.PartitionOf(m.key, routes[1]) {
				turn = max(turn, m.offset+1)
			}
		}
	}
	pos := whole.From
	var passes []check.Pass
	add := func(from, to int64, partitions int32) {
		if from < to {
			passes = append(passes, check.Pass{From: from, To: to, Activation: int64(v.number), Do: h.scene.do(v.number, partitions)})
		}
	}
	for _, gap := range v.gaps[at] {
		add(pos, gap[0], routes[0])
		pos = gap[1]
	}
	add(pos, max(pos, turn), routes[0])
	add(max(pos, turn), whole.To, routes[len(routes)-1])
	return passes
}

func origin(r check.Record) (string, int32, bool) {
	for _, h := range r.Headers {
		if h.Key == fromHeader {
			topic, rest, ok := strings.Cut(string(h.Value), "/")
			p, err := strconv.ParseInt(rest, 10, 32)
			return topic, int32(p), ok && err == nil
		}
	}
	return "", 0, false
}

// letterOrigin reads a dead letter's headers. In place of its activation it gives
// the version that the activation belongs to.
func (h *history) letterOrigin(r check.Record) (l check.Letter, ok bool) {
	l.Topic, l.Partition, ok = origin(r)
	found := 0
	for _, header := range r.Headers {
		n, err := strconv.ParseInt(string(header.Value), 10, 64)
		switch {
		case err != nil:
		case header.Key == pacemaker.HeaderOffset:
			l.Offset = n
			found++
		case header.Key == pacemaker.HeaderActivation:
			for _, v := range h.versions {
				if uint64(n) > v.after {
					l.Activation = int64(v.number)
				}
			}
			found++
		}
	}
	return l, ok && found == 2
}

// listed gives the bounds of all partitions of a topic, once all answer.
func listed(ctx context.Context, cl *kgo.Client, topic string) (ends, starts map[int32]int64, err error) {
	for {
		ends, starts, err = tryListed(ctx, cl, topic)
		if err == nil || ctx.Err() != nil {
			return ends, starts, err
		}
		pause(100 * time.Millisecond)
	}
}

func tryListed(ctx context.Context, cl *kgo.Client, topic string) (ends, starts map[int32]int64, err error) {
	a := kadm.NewClient(cl)
	first, err := a.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, nil, err
	}
	last, err := a.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, nil, err
	}
	ends, starts = map[int32]int64{}, map[int32]int64{}
	first.Each(func(o kadm.ListedOffset) { starts[o.Partition] = o.Offset })
	last.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends, starts, errors.Join(first.Error(), last.Error())
}
