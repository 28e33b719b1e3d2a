package config

import (
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value is a parsed setting: the field that its row's Kind names is set.
type value struct {
	text      string // String, Password
	flag      bool
	n         int64 // Int, Long, Millis (in ms), Bytes
	f         float64
	list      []string
	addr      Address
	listeners []Listener
}

// millis gives a count of milliseconds as a Duration, clamped to what it holds.
func (v value) millis() time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond)
	switch {
	case v.n > most:
		return math.MaxInt64
	case v.n < -most:
		return math.MinInt64
	}
	return time.Duration(v.n) * time.Millisecond
}

// parse reads text as a value of r and checks r's limits.
func (r *Row) parse(text string) (value, error) {
	v, err := r.read(text)
	if err != nil {
		return value{}, err
	}
	return v, r.checkLimits(text, v)
}

func (r *Row) read(text string) (v value, err error) {
	trimmed := strings.TrimSpace(text)
	switch r.Kind {
	case KindBool:
		v.flag, err = strconv.ParseBool(strings.ToLower(trimmed))
		if err != nil || len(trimmed) < len("true") {
			return v, r.refuse(text, "want true or false")
		}
	case KindInt, KindLong:
		v.n, err = r.readInt(trimmed)
	case KindMillis:
		v.n, err = r.readMillis(trimmed)
	case KindBytes:
		v.n, err = r.readBytes(trimmed)
	case KindDouble:
		if v.f, err = strconv.ParseFloat(trimmed, 64); err != nil || math.IsNaN(v.f) || math.IsInf(v.f, 0) {
			return v, r.refuse(text, "want a number")
		}
	case KindList:
		v.list = splitList(trimmed)
	case KindAddress:
		v.addr, err = r.readAddress(trimmed)
	case KindListeners:
		v.listeners, err = r.readListeners(trimmed)
	default:
		v.text = text
	}
	return v, err
}

func (r *Row) readInt(text string) (int64, error) {
	if r.Scope == ScopeNode && text == Auto && r.AutoValue != nil {
		return *r.AutoValue, nil
	}
	bits := 64
	if r.Kind == KindInt {
		bits = 32
	}
	n, err := strconv.ParseInt(text, 10, bits)
	if err != nil {
		return 0, r.refuse(text, fmt.Sprintf("want a whole number of at most %d bits", bits))
	}
	return n, nil
}

// readMillis reads Kafka's plain count; node rows take Go's durations too.
func (r *Row) readMillis(text string) (int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	if r.Scope == ScopeNode {
		if d, err := time.ParseDuration(text); err == nil {
			return d.Milliseconds(), nil
		}
		return 0, r.refuse(text, "want a duration, like 500ms or 30s")
	}
	return 0, r.refuse(text, "want a whole number of milliseconds")
}

func (r *Row) readBytes(text string) (int64, error) {
	if r.Scope != ScopeNode {
		return r.readInt(text)
	}
	if text == Auto && r.AutoValue != nil {
		return *r.AutoValue, nil
	}
	n, err := ParseBytes(text)
	if err != nil {
		return 0, r.refuse(text, "want a size, like 512M or 1G")
	}
	return n, nil
}

// units are the factors of ParseBytes; a following "iB" or "B" is allowed.
var units = []struct {
	letter byte
	shift  uint
}{{'K', 10}, {'M', 20}, {'G', 30}, {'T', 40}}

// ParseBytes reads a size as Redpanda's flags take it: a whole number with K,
// M, G or T for powers of 1024; 512M, 1G, 64KiB, 0M, 1048576.
func ParseBytes(text string) (int64, error) {
	s := strings.ToUpper(strings.TrimSpace(text))
	s = strings.TrimSuffix(strings.TrimSuffix(s, "B"), "I")
	shift := uint(0)
	for _, u := range units {
		if strings.HasSuffix(s, string(u.letter)) {
			s, shift = s[:len(s)-1], u.shift
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%w: %q is not a size, like 512M or 1G", ErrInvalid, text)
	}
	return n << shift, nil
}

func (r *Row) readAddress(text string) (Address, error) {
	if text == "off" {
		return Address{Off: true}, nil
	}
	if text == "" && r.Default == "" {
		return Address{}, nil
	}
	host, portText, err := net.SplitHostPort(text)
	if err != nil {
		return Address{}, r.refuse(text, "want HOST:PORT or off")
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return Address{}, r.refuse(text, "want HOST:PORT with a port of 0 to 65535")
	}
	return Address{Host: host, Port: int(port)}, nil
}

// splitList splits at commas; an empty text is an empty list.
func splitList(text string) []string {
	if text == "" {
		return nil
	}
	parts := strings.Split(text, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func (r *Row) checkLimits(text string, v value) error {
	if len(r.Values) > 0 {
		given := v.list
		if r.Kind != KindList {
			given = []string{v.text}
		} else if len(given) == 0 {
			return r.refuse(text, "want at least one of "+strings.Join(r.Values, ", "))
		}
		for _, g := range given {
			if !slices.Contains(r.Values, g) {
				return r.refuse(text, "want "+strings.Join(r.Values, ", "))
			}
		}
	}
	n := v.f
	if r.Kind != KindDouble {
		n = float64(v.n)
	}
	if r.AutoValue != nil && text == Auto {
		return nil
	}
	if r.limited[0] && n < r.min {
		return r.refuse(text, "the least is "+r.Min)
	}
	if r.limited[1] && n > r.max {
		return r.refuse(text, "the most is "+r.Max)
	}
	if r.check != nil {
		if why := r.check(v); why != "" {
			return r.refuse(text, why)
		}
	}
	return nil
}
