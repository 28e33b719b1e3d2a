package cli

import (
	"fmt"
	"strings"
	"time"
)

// settings say whom to ask and how long to wait.
type settings struct {
	Brokers     []string
	Admin       []string
	DialTimeout time.Duration
	Timeout     time.Duration // of one request, beyond what the broker waits

	brokersFrom, adminFrom string // where they came from, for errors
}

const (
	defaultBroker = "127.0.0.1:9092"
	defaultAdmin  = "127.0.0.1:9644"
)

// option is one key of -X, of a profile's fields and of profile set.
type option struct {
	key, doc, example string
	set               func(*settings, string) error
}

func options() []option {
	duration := func(at func(*settings) *time.Duration) func(*settings, string) error {
		return func(s *settings, v string) error {
			d, err := time.ParseDuration(v)
			if err == nil && d <= 0 {
				err = fmt.Errorf("must be above 0")
			}
			*at(s) = d
			return err
		}
	}
	return []option{
		{"brokers", "Kafka addresses to ask first, comma separated.", "127.0.0.1:9092,localhost:9093",
			func(s *settings, v string) (err error) { s.Brokers, err = addresses(v); return err }},
		{"admin.hosts", "Admin API addresses, comma separated.", "127.0.0.1:9644",
			func(s *settings, v string) (err error) { s.Admin, err = addresses(v); return err }},
		{"globals.dial_timeout", "How long a connection may take to open.", "3s",
			duration(func(s *settings) *time.Duration { return &s.DialTimeout })},
		{"globals.request_timeout", "How long an answer may take.", "30s",
			duration(func(s *settings) *time.Duration { return &s.Timeout })},
	}
}

func optionHelp(long bool) string {
	var b strings.Builder
	for _, o := range options() {
		if long {
			fmt.Fprintf(&b, "%s=%s\n  %s\n\n", o.key, o.example, o.doc)
		} else {
			fmt.Fprintf(&b, "%s=%s\n", o.key, o.example)
		}
	}
	return b.String()
}

// apply sets one option by name.
func (s *settings) apply(key, value string) error {
	var keys []string
	for _, o := range options() {
		if o.key == key {
			if err := o.set(s, value); err != nil {
				return fmt.Errorf("%s=%s: %w; for example %s=%s", key, value, err, key, o.example)
			}
			return nil
		}
		keys = append(keys, o.key)
	}
	return fmt.Errorf("no option is called %q; there are %s", key, strings.Join(keys, ", "))
}

func addresses(list string) ([]string, error) {
	var out []string
	for a := range strings.SplitSeq(list, ",") {
		a = strings.TrimSpace(a)
		if a == "" || strings.ContainsAny(a, " /") && !strings.HasPrefix(a, "http://") && !strings.HasPrefix(a, "https://") {
			return nil, fmt.Errorf("%q is no address", a)
		}
		out = append(out, a)
	}
	return out, nil
}

// settings resolves flag > environment > profile > default.
func (a *app) settings() (settings, error) {
	s := settings{
		Brokers: []string{defaultBroker}, Admin: []string{defaultAdmin},
		DialTimeout: 3 * time.Second, Timeout: 30 * time.Second,
		brokersFrom: "the default", adminFrom: "the default",
	}
	steps := []func(*settings) error{a.fromProfile, a.fromEnvironment, a.fromFlags}
	for _, step := range steps {
		if err := step(&s); err != nil {
			return s, err
		}
	}
	return s, nil
}

// take applies an option and notes where it came from.
func (s *settings) take(key, value, from string) error {
	if err := s.apply(key, value); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	switch key {
	case "brokers":
		s.brokersFrom = from
	case "admin.hosts":
		s.adminFrom = from
	}
	return nil
}

func (a *app) fromEnvironment(s *settings) error {
	for _, v := range []struct{ name, key string }{{"MILLRACE_BROKERS", "brokers"}, {"MILLRACE_ADMIN", "admin.hosts"}} {
		if value := a.env(v.name); value != "" {
			if err := s.take(v.key, value, v.name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *app) fromFlags(s *settings) error {
	for _, o := range a.flags.opts {
		key, value, found := strings.Cut(o, "=")
		if !found {
			return fmt.Errorf("-X %s: want key=value; -X list names the keys", o)
		}
		if err := s.take(key, value, "-X"); err != nil {
			return err
		}
	}
	if len(a.flags.brokers) > 0 {
		return s.take("brokers", strings.Join(a.flags.brokers, ","), "--brokers")
	}
	return nil
}
