package pacemaker

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/plugins/async"
)

// Headers that a dead letter carries behind the record's own. Where a name
// occurs twice the last one counts: a letter may die again.
const (
	HeaderScript     = "millrace.script"
	HeaderScriptID   = "millrace.script.id"
	HeaderActivation = "millrace.activation"
	HeaderDigest     = "millrace.digest"
	HeaderError      = "millrace.error"
	HeaderTopic      = "millrace.topic" // of the parent
	HeaderTopicID    = "millrace.topic.id"
	HeaderPartition  = "millrace.partition"
	HeaderOffset     = "millrace.offset"
)

const (
	// inflatedMax bounds a parent's batch once inflated, in bytes.
	inflatedMax = 256 << 20
	// lettersBytesMax is where one batch of letters ends and the next begins.
	lettersBytesMax = 512 << 10
)

// letters makes batches of the failed records, ascending, of s.
func (l *leg) letters(s span, failed []async.FailedRecord) ([][]byte, error) {
	var (
		out     [][]byte
		builder record.Builder
		reader  record.Reader
		rec     record.Record
		next    int
	)
	builder.Reset(record.Plain(record.None))
	for rest := s.records; len(rest) > 0 && next < len(failed); {
		var b record.Batch
		var err error
		if b, rest, err = record.Next(rest); err != nil {
			return nil, err
		}
		if b.LastOffset() < failed[next].Offset || b.Control() {
			continue
		}
		if err := reader.Reset(b, inflatedMax); err != nil {
			return nil, err
		}
		for next < len(failed) && reader.Next(&rec) {
			if rec.Offset != failed[next].Offset {
				continue
			}
			if err := builder.Add(rec.Timestamp, rec.Key, rec.Value, l.letterHeaders(&rec, failed[next])); err != nil {
				return nil, err
			}
			next++
			if builder.Bytes() >= lettersBytesMax {
				if out, err = closeLetters(&builder, out); err != nil {
					return nil, err
				}
			}
		}
		if err := reader.Err(); err != nil {
			return nil, err
		}
	}
	if builder.Count() == 0 {
		return out, nil
	}
	return closeLetters(&builder, out)
}

func closeLetters(b *record.Builder, out [][]byte) ([][]byte, error) {
	_, batch, err := b.Build(nil)
	if err != nil {
		return nil, err
	}
	b.Reset(record.Plain(record.None))
	return append(out, batch), nil
}

func (l *leg) letterHeaders(rec *record.Record, bad async.FailedRecord) []record.HeaderField {
	var headers []record.HeaderField
	for h := range rec.Headers() {
		headers = append(headers, h)
	}
	parent := l.f.key.Parent
	add := func(key, value string) { headers = append(headers, record.HeaderField{Key: key, Value: []byte(value)}) }
	add(HeaderScript, l.plan.Name)
	add(HeaderScriptID, strconv.FormatUint(uint64(l.plan.Script), 10))
	add(HeaderActivation, strconv.FormatUint(uint64(l.plan.Activation), 10))
	add(HeaderDigest, l.plan.Digest.String())
	add(HeaderError, bad.Kind.String()+": "+bad.Text)
	add(HeaderTopic, l.f.topic)
	add(HeaderTopicID, parent.Topic.String())
	add(HeaderPartition, strconv.FormatInt(int64(parent.Index), 10))
	add(HeaderOffset, strconv.FormatInt(int64(bad.Offset), 10))
	return headers
}

// windowMin is how many of the newest dead letters are looked at first. The
// wanted ones were written last by this fiber; others write to the same log.
const windowMin = 256

// deadLetters gives the offsets in [from, until) that c holds letters of, for
// this fiber under plan's activation. It looks from the newest backwards until
// it meets an older letter of this fiber.
func (f *fiber) deadLetters(ctx context.Context, plan *Spec, c *child, from, until model.Offset) ([]model.Offset, error) {
	first, err := f.o.Children.Offset(ctx, c.ID, fetch.TimestampEarliest)
	if err != nil {
		return nil, fmt.Errorf("find the first dead letter: %w", err)
	}
	// Where somebody's transaction is open the letters go on behind its beginning.
	end, err := f.o.Children.Offset(ctx, c.ID, fetch.TimestampLatest)
	if err != nil {
		return nil, fmt.Errorf("find the last dead letters: %w", err)
	}
	for window := model.Offset(windowMin); ; window *= 8 {
		start := max(first, end-window)
		s := letterScan{key: f.key, activation: plan.Activation, from: from, until: until}
		if err := f.scanLetters(ctx, c, start, &s); err != nil {
			return nil, err
		}
		if s.older || start == first {
			return s.found, nil
		}
	}
}

// letterScan collects letters of one fiber.
type letterScan struct {
	key         model.SourceKey
	activation  model.Activation
	from, until model.Offset
	found       []model.Offset
	older       bool // one of this fiber's from before was met
}

// scanLetters shows s every letter of c from start on, whether others' transactions
// are open or not: a fiber's appends are none.
func (f *fiber) scanLetters(ctx context.Context, c *child, start model.Offset, s *letterScan) error {
	var reader record.Reader
	var rec record.Record
	for pos := start; ; {
		a, err := f.o.Children.Read(ctx, c.ID, pos, readBytesMax, 0)
		switch {
		case err != nil:
			return err
		case pos >= a.HighWatermark:
			return nil
		case len(a.Records) == 0:
			return fmt.Errorf("no dead letters at %d, the log goes on to %d", pos, a.HighWatermark)
		}
		for rest := a.Records; len(rest) > 0; {
			var b record.Batch
			if b, rest, err = record.Next(rest); err != nil {
				return err
			}
			if err := reader.Reset(b, inflatedMax); err != nil {
				return err
			}
			for reader.Next(&rec) {
				s.see(&rec)
			}
			if err := reader.Err(); err != nil {
				return err
			}
			pos = b.NextOffset()
		}
	}
}

// see judges one letter.
func (s *letterScan) see(rec *record.Record) {
	var script, activation, topic, part, offset []byte
	for h := range rec.Headers() {
		switch h.Key {
		case HeaderScriptID:
			script = h.Value
		case HeaderActivation:
			activation = h.Value
		case HeaderTopicID:
			topic = h.Value
		case HeaderPartition:
			part = h.Value
		case HeaderOffset:
			offset = h.Value
		}
	}
	at, err := strconv.ParseInt(string(offset), 10, 64)
	if err != nil || !equalNumber(script, uint64(s.key.Script)) || !bytes.Equal(topic, []byte(s.key.Parent.Topic.String())) ||
		!equalNumber(part, uint64(s.key.Parent.Index)) {
		return
	}
	switch o := model.Offset(at); {
	case !equalNumber(activation, uint64(s.activation)) || o < s.from:
		s.older = true
		s.found = s.found[:0] // what was met before it is older still
	case o < s.until:
		s.found = append(s.found, o)
	}
}

func equalNumber(b []byte, n uint64) bool { return string(b) == strconv.FormatUint(n, 10) }
