package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// bound is one end of what is consumed.
type bound struct {
	kind boundKind
	n    int64 // offset, count or ms since 1970
}

type boundKind uint8

const (
	unbounded boundKind = iota // as a start: the oldest; as an end: for ever
	atStart
	atEnd
	atOffset
	afterStart // n after the oldest
	beforeEnd  // n before the end
	atTime     // the first record at or after n
)

// span is what --offset asks for: [from, to).
type span struct{ from, to bound }

const offsetHelp = `Offsets (--offset, -o):
  start         from the oldest record (default)
  end           only what comes from now on
  47  47:       from offset 47
  +10           from 10 after the oldest
  -10           from 10 before the end
  :end          until the present end, then stop
  :47  12:47    until, or between, offsets; the second is not included
  @T  @T:  @:T  @T1:T2   from, until, between points in time
A point in time is 13 digits (ms since 1970), 9 or 10 digits (seconds), 2022-02-14,
2022-02-14T10:00:00Z, or a duration: -48h, -1m are before now; 90s, as T2, is after T1. T2 may be "end".`

// parseSpan reads --offset.
func parseSpan(text string, now time.Time) (span, error) {
	if rest, isTime := strings.CutPrefix(text, "@"); isTime {
		return parseTimeSpan(rest, now)
	}
	from, to, ranged := strings.Cut(text, ":")
	var s span
	var err error
	if from != "" || !ranged {
		if s.from, err = parseFrom(from); err != nil {
			return span{}, err
		}
	}
	if ranged && to != "" {
		if s.to, err = parseTo(to); err != nil {
			return span{}, err
		}
	} else if ranged && from == "" {
		return span{}, fmt.Errorf("offset %q: nothing stands beside the colon", text)
	}
	if s.from.kind == atOffset && s.to.kind == atOffset && s.from.n > s.to.n {
		return span{}, fmt.Errorf("offset %q: it ends before it begins", text)
	}
	return s, nil
}

func parseFrom(text string) (bound, error) {
	switch {
	case text == "start" || text == "oldest":
		return bound{kind: atStart}, nil
	case text == "end" || text == "newest":
		return bound{kind: atEnd}, nil
	case strings.HasPrefix(text, "+"):
		return count(afterStart, text[1:], text)
	case strings.HasPrefix(text, "-"):
		return count(beforeEnd, text[1:], text)
	}
	return count(atOffset, text, text)
}

func parseTo(text string) (bound, error) {
	if text == "end" {
		return bound{kind: atEnd}, nil
	}
	return count(atOffset, text, text)
}

func count(kind boundKind, digits, text string) (bound, error) {
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return bound{}, fmt.Errorf("offset %q: want start, end, N, +N, -N, FROM:TO or @TIME; `millrace topic consume --help` explains them", text)
	}
	return bound{kind: kind, n: int64(n)}, nil
}

// parseTimeSpan reads what follows @.
func parseTimeSpan(text string, now time.Time) (span, error) {
	first, second, err := splitTimes(text)
	if err != nil {
		return span{}, err
	}
	var s span
	base := now
	if first != "" {
		at, err := parseTime(first, now)
		if err != nil {
			return span{}, err
		}
		s.from = bound{kind: atTime, n: at.UnixMilli()}
		if !strings.HasPrefix(first, "-") {
			base = at
		}
		if d, err := time.ParseDuration(second); err == nil && d > 0 {
			base = at // "@-48h:24h": 24 h after T1
		}
	}
	switch second {
	case "":
	case "end":
		s.to = bound{kind: atEnd}
	default:
		at, err := parseTime(second, base)
		if err != nil {
			return span{}, err
		}
		s.to = bound{kind: atTime, n: at.UnixMilli()}
	}
	if s.from.kind == atTime && s.to.kind == atTime && s.from.n > s.to.n {
		return span{}, fmt.Errorf("offset @%s: it ends before it begins", text)
	}
	return s, nil
}

// splitTimes cuts T1:T2 at the colon that leaves two points in time, since
// RFC 3339 has colons of its own.
func splitTimes(text string) (first, second string, err error) {
	if text == "" || text == ":" {
		return "", "", errors.New("offset @: no time given")
	}
	if _, err := parseTime(text, time.Unix(0, 0)); err == nil {
		return text, "", nil
	}
	for i := 0; i < len(text); i++ {
		if text[i] != ':' {
			continue
		}
		first, second = text[:i], text[i+1:]
		if isTime(first) && (isTime(second) || second == "end") {
			return first, second, nil
		}
	}
	return "", "", fmt.Errorf("offset @%s: want @TIME, @TIME:TIME or @:TIME; `millrace topic consume --help` lists the forms of TIME", text)
}

func isTime(text string) bool {
	_, err := parseTime(text, time.Unix(0, 0))
	return text == "" || err == nil
}

// parseTime reads a point in time; durations count from base.
func parseTime(text string, base time.Time) (time.Time, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		switch len(text) {
		case 13:
			return time.UnixMilli(n).UTC(), nil
		case 9, 10:
			return time.Unix(n, 0).UTC(), nil
		case 19:
			return time.Unix(0, n).UTC(), nil
		}
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), nil
		}
	}
	if d, err := time.ParseDuration(strings.TrimSuffix(text, "r")); err == nil { // 1hr, as rpk's help writes
		return base.Add(d).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%q is no point in time: want ms or s since 1970, 2006-01-02, 2006-01-02T15:04:05Z, or a duration such as -48h", text)
}
