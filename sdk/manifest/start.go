package manifest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// StartKind says how a script's first offset is found, in each partition of its inputs.
type StartKind string

// The kinds of start.
const (
	StartEnd   StartKind = "end"   // the moment of deployment
	StartStart StartKind = "start" // the oldest record
	StartTime  StartKind = "time"  // the first record at or after Value, in ms since 1970
	StartPlus  StartKind = "plus"  // Value records after the oldest
	StartMinus StartKind = "minus" // Value records before the end
)

// Start is where a script begins when it is deployed for the first time.
type Start struct {
	Kind  StartKind `json:"kind"`
	Value int64     `json:"value,omitempty"`
}

// ErrStart is the cause of an error about a start position; its text lists what is allowed.
var ErrStart = errors.New("start must be end, start, @TIME (RFC 3339 or ms since 1970), +N or -N")

// ParseStart reads a start position.
func ParseStart(text string) (Start, error) {
	switch {
	case text == "end":
		return Start{Kind: StartEnd}, nil
	case text == "start":
		return Start{Kind: StartStart}, nil
	case strings.HasPrefix(text, "@"):
		return parseStartTime(text[1:])
	case strings.HasPrefix(text, "+"), strings.HasPrefix(text, "-"):
		kind := StartPlus
		if text[0] == '-' {
			kind = StartMinus
		}
		n, err := strconv.ParseUint(text[1:], 10, 63)
		if err != nil {
			return Start{}, fmt.Errorf("%w, not %q", ErrStart, text)
		}
		return Start{Kind: kind, Value: int64(n)}, nil
	}
	return Start{}, fmt.Errorf("%w, not %q", ErrStart, text)
}

func parseStartTime(text string) (Start, error) {
	if ms, err := strconv.ParseUint(text, 10, 63); err == nil {
		return Start{Kind: StartTime, Value: int64(ms)}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02"} {
		if at, err := time.Parse(layout, text); err == nil && at.UnixMilli() >= 0 {
			return Start{Kind: StartTime, Value: at.UnixMilli()}, nil
		}
	}
	return Start{}, fmt.Errorf("%w, not \"@%s\"", ErrStart, text)
}

// String returns the form that ParseStart reads.
func (s Start) String() string {
	switch s.Kind {
	case StartTime:
		return "@" + strconv.FormatInt(s.Value, 10)
	case StartPlus:
		return "+" + strconv.FormatInt(s.Value, 10)
	case StartMinus:
		return "-" + strconv.FormatInt(s.Value, 10)
	}
	return string(s.Kind)
}

func (s Start) check() error {
	_, err := ParseStart(s.String())
	return err
}
