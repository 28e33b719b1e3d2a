package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrNoBroker: no address took a connection; nothing was asked of anybody.
var ErrNoBroker = errors.New("no broker reachable")

// kafka opens a client once one of the brokers takes a connection, so that a
// wrong address is told at once and by name, not as a timeout.
func (a *app) kafka(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	if err := reach(ctx, s); err != nil {
		return nil, err
	}
	a.logf("brokers %s (from %s)", strings.Join(s.Brokers, ","), s.brokersFrom)
	base := []kgo.Opt{
		kgo.SeedBrokers(s.Brokers...),
		kgo.ClientID("millrace-cli"),
		kgo.DialTimeout(s.DialTimeout),
		kgo.RequestTimeoutOverhead(s.Timeout),
		kgo.RetryTimeout(s.Timeout),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}
	if a.flags.verbose {
		base = append(base, kgo.WithLogger(kgo.BasicLogger(a.err, kgo.LogLevelInfo, nil)))
	}
	cl, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("open a Kafka client: %w", err)
	}
	return cl, nil
}

func (a *app) kadm(ctx context.Context) (*kadm.Client, error) {
	cl, err := a.kafka(ctx)
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(cl), nil
}

func reach(ctx context.Context, s settings) error {
	d := net.Dialer{Timeout: s.DialTimeout}
	var tried []string
	for _, addr := range s.Brokers {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			addr = net.JoinHostPort(strings.Trim(addr, "[]"), "9092")
		}
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		tried = append(tried, fmt.Sprintf("%s (%v)", addr, rootCause(err)))
	}
	return fmt.Errorf("%w: tried %s, from %s; start one with `millrace start`, or name one with --brokers HOST:PORT, MILLRACE_BROKERS=HOST:PORT or `millrace profile create NAME --set brokers=HOST:PORT`",
		ErrNoBroker, strings.Join(tried, ", "), s.brokersFrom)
}

func rootCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// explain turns an error of the Kafka protocol about a topic or group into one
// that says what to do next.
func explain(what, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return fmt.Errorf("topic %q does not exist; `millrace topic list` shows those that do, `millrace topic create %s` makes it", name, name)
	case errors.Is(err, kerr.TopicAlreadyExists):
		return fmt.Errorf("topic %q exists; `millrace topic describe %s` shows it", name, name)
	case errors.Is(err, kerr.InvalidRecord):
		return fmt.Errorf("%s %q: %w (if the topic has a sync script, `millrace wasm describe` of it says why)", what, name, err)
	case errors.Is(err, kerr.GroupIDNotFound):
		return fmt.Errorf("group %q does not exist; `millrace group list` shows those that do", name)
	case errors.Is(err, kerr.NonEmptyGroup):
		return fmt.Errorf("group %q has members; stop its consumers first", name)
	}
	return fmt.Errorf("%s %q: %w", what, name, err)
}

// status is a cell of a STATUS column.
func status(err error, message string) string {
	var ke *kerr.Error
	switch {
	case err == nil:
		return "OK"
	case errors.As(err, &ke) && message != "":
		return ke.Message + ": " + message
	case errors.As(err, &ke):
		return ke.Message + ": " + ke.Description
	}
	return err.Error()
}

// matcher tells which names any of the expressions matches as a whole.
func matcher(expressions []string) (func(string) bool, error) {
	var res []*regexp.Regexp
	for _, e := range expressions {
		re, err := regexp.Compile("^(?:" + e + ")$")
		if err != nil {
			return nil, fmt.Errorf("expression %q: %w", e, err)
		}
		res = append(res, re)
	}
	return func(name string) bool {
		return slices.ContainsFunc(res, func(re *regexp.Regexp) bool { return re.MatchString(name) })
	}, nil
}

// topics resolves names or expressions to topics that exist, sorted. A name
// that does not exist is an error; expressions match no internal topics.
func (a *app) topics(ctx context.Context, cl *kadm.Client, args []string, regex bool) ([]kadm.TopicDetail, error) {
	if !regex {
		found, err := cl.ListTopics(ctx, args...)
		if err != nil {
			return nil, fmt.Errorf("list topics: %w", err)
		}
		for _, t := range found.Sorted() {
			if t.Err != nil {
				return nil, explain("describe topic", t.Topic, t.Err)
			}
		}
		return found.Sorted(), nil
	}
	match, err := matcher(args)
	if err != nil {
		return nil, err
	}
	all, err := cl.ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	var out []kadm.TopicDetail
	for _, t := range all.Sorted() {
		if match(t.Topic) {
			out = append(out, t)
		}
	}
	return out, nil
}

func topicNames(ts []kadm.TopicDetail) (names []string) {
	for _, t := range ts {
		names = append(names, t.Topic)
	}
	return names
}

// completeTopics offers the topics of the broker, if it answers soon.
func (a *app) completeTopics(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	cl, err := a.kadm(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer cl.Close()
	all, err := cl.ListTopics(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return all.Names(), cobra.ShellCompDirectiveNoFileComp
}

// completeGroups likewise.
func (a *app) completeGroups(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	cl, err := a.kadm(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer cl.Close()
	all, err := cl.ListGroups(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return all.Groups(), cobra.ShellCompDirectiveNoFileComp
}
