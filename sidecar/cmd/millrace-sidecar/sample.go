package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

// inputLine is a record as JSON. A key or value that is no string stands for its
// own JSON text; bytes that are no text are given in base64.
type inputLine struct {
	Topic       string                     `json:"topic"`
	Partition   int32                      `json:"partition"`
	Offset      *int64                     `json:"offset"`
	Timestamp   *int64                     `json:"timestamp"`
	Key         json.RawMessage            `json:"key"`
	Value       json.RawMessage            `json:"value"`
	KeyBase64   *string                    `json:"key_base64"`
	ValueBase64 *string                    `json:"value_base64"`
	Headers     map[string]json.RawMessage `json:"headers"`
}

// sample is a record of a trial.
type sample struct {
	Topic     string
	Partition int32
	Timestamp int64
	at        model.Offset
	tail      []byte
}

// trialTimestamp is that of records which give none: any, but always the same.
const trialTimestamp = 1_700_000_000_000

// readSamples reads one record a line. Records without an offset are counted per
// topic and partition.
func readSamples(in io.Reader) ([]sample, error) {
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, lineBytesMax)
	var samples []sample
	next := map[string]int64{}
	size := 0
	for n := 1; scanner.Scan(); n++ {
		text := bytes.TrimSpace(scanner.Bytes())
		if len(text) == 0 {
			continue
		}
		if size += len(text); size > trialBytesMax {
			return nil, fmt.Errorf("line %d: more than %d MiB of records", n, trialBytesMax>>20)
		}
		s, err := parseSample(text, next)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		samples = append(samples, s)
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	return samples, nil
}

func parseSample(text []byte, next map[string]int64) (sample, error) {
	var l inputLine
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&l); err != nil {
		return sample{}, fmt.Errorf("not a record as JSON, like {\"key\":\"1\",\"value\":{\"id\":1}}: %w", err)
	}
	key, err := bytesOf(l.Key, l.KeyBase64)
	if err != nil {
		return sample{}, fmt.Errorf("key: %w", err)
	}
	value, err := bytesOf(l.Value, l.ValueBase64)
	if err != nil {
		return sample{}, fmt.Errorf("value: %w", err)
	}
	var headers []record.HeaderField
	for _, name := range slices.Sorted(maps.Keys(l.Headers)) {
		header, err := bytesOf(l.Headers[name], nil)
		if err != nil {
			return sample{}, fmt.Errorf("header %s: %w", name, err)
		}
		headers = append(headers, record.HeaderField{Key: name, Value: header})
	}
	s := sample{Topic: l.Topic, Partition: max(l.Partition, 0), Timestamp: trialTimestamp, tail: record.AppendRecordTail(nil, key, value, headers)}
	if l.Timestamp != nil {
		s.Timestamp = *l.Timestamp
	}
	place := fmt.Sprintf("%s/%d", s.Topic, s.Partition)
	if l.Offset != nil {
		if *l.Offset < 0 {
			return sample{}, fmt.Errorf("offset %d is negative", *l.Offset)
		}
		next[place] = *l.Offset
	}
	s.at = model.Offset(next[place])
	next[place]++
	return s, nil
}

func bytesOf(raw json.RawMessage, base *string) ([]byte, error) {
	if base != nil {
		return base64.StdEncoding.DecodeString(*base)
	}
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	if raw[0] != '"' {
		return raw, nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, err
	}
	return []byte(text), nil
}

// outputLine is a record that came out, or one that failed.
type outputLine struct {
	Failed      string            `json:"failed,omitempty"` // the kind of failure; Offset is then the input's
	Error       string            `json:"error,omitempty"`
	Topic       string            `json:"topic"`
	Partition   int32             `json:"partition"`
	Offset      *int64            `json:"offset,omitempty"`
	Timestamp   int64             `json:"timestamp,omitempty"`
	Key         *string           `json:"key,omitempty"`
	KeyBase64   string            `json:"key_base64,omitempty"`
	Value       *string           `json:"value,omitempty"`
	ValueBase64 string            `json:"value_base64,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
}

func lineOf(topic string, partition int32, r *record.Record) outputLine {
	l := outputLine{Topic: topic, Partition: partition, Timestamp: r.Timestamp}
	l.Key, l.KeyBase64 = textOf(r.Key)
	l.Value, l.ValueBase64 = textOf(r.Value)
	for h := range r.Headers() {
		if l.Headers == nil {
			l.Headers = map[string]string{}
		}
		l.Headers[h.Key] = string(h.Value)
	}
	return l
}

func textOf(b []byte) (text *string, base string) {
	if b == nil {
		return nil, ""
	}
	if utf8.Valid(b) {
		s := string(b)
		return &s, ""
	}
	return nil, base64.StdEncoding.EncodeToString(b)
}
