package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// consumer is one run of `topic consume`.
type consumer struct {
	a          *app
	args       []string
	format     string
	offset     string
	group      string
	balancer   string
	partitions []int32
	num        int
	regex      bool
	metaOnly   bool
	pretty     bool
	control    bool
	committed  bool
	fetchWait  time.Duration
	fetchBytes int32
	rack       string
	write      func(*bufio.Writer, *kgo.FetchPartition, *kgo.Record) error
	printed    int
	span       span
	leaders    map[int32]bool // of the partitions that are consumed
	answers    answers
	until      map[partitionKey]int64 // offset at which a partition is done; nil: never
}

type partitionKey struct {
	topic     string
	partition int32
}

const formatHelp = `Formats (--format, -f): "json", or text with escapes
  \t \n \r \\ \xNN            tab, newline, ...
  %t %k %v  %T %K %V         topic, key, value; and their lengths
  %h{...} %H                 headers, with %k %v %K %V inside; and their number
  %p %o %e %d %i             partition, offset, leader epoch, timestamp, count of records
  %x %y  %[ %| %]            producer id, epoch; log start, last stable offset, high watermark
  %a{compression}            also timestamp-type, transactional-bit, control-bit; {...;number}
  %% %{ %}                   percent sign, braces
Text takes {hex}, {base64}, {base64raw}, {unpack[<bBhH>iIqQc.$]}; numbers take {ascii}, {hex8..hex64},
{big8..big64}, {little8..little64}, {byte}, {bool}; %d takes those, or {go[2006-01-02]}, {strftime[%F]}.`

func (a *app) topicConsume() *cobra.Command {
	k := &consumer{a: a}
	c := &cobra.Command{
		Use: "consume TOPIC...", Short: "Print records of topics", ValidArgsFunction: a.completeTopics,
		Long: "Print records of topics, oldest first within a partition.\n\n" + formatHelp + "\n\n" + offsetHelp,
		Example: `  millrace topic consume orders -n 10
  millrace topic consume orders -o -5:end -f '%p %o %d{go[15:04:05]} %k %v\n'
  millrace topic consume 'orders.*' --regex --group audit`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k.args = args
			return k.run(cmd.Context())
		},
	}
	f := c.Flags()
	f.StringVarP(&k.format, "format", "f", "json", "json, or a text format as above")
	f.StringVarP(&k.offset, "offset", "o", "start", "where to begin, and where to stop, as above")
	f.StringVarP(&k.group, "group", "g", "", "consume as a member of this group, and commit")
	f.StringVarP(&k.balancer, "balancer", "b", "cooperative-sticky", "group balancer: range, roundrobin, sticky, cooperative-sticky")
	f.Int32SliceVarP(&k.partitions, "partitions", "p", nil, "only these partitions, comma separated")
	f.IntVarP(&k.num, "num", "n", 0, "stop after so many records (0: do not)")
	f.BoolVarP(&k.regex, "regex", "r", false, "take the arguments as regular expressions over the whole name")
	f.BoolVar(&k.metaOnly, "meta-only", false, "leave keys' and values' text out of -f json")
	f.BoolVar(&k.pretty, "pretty-print", true, "spread each record of -f json over lines")
	f.BoolVar(&k.control, "print-control-records", false, "print control records too")
	f.BoolVar(&k.committed, "read-committed", false, "leave out records of aborted and open transactions")
	f.DurationVar(&k.fetchWait, "fetch-max-wait", time.Second, "how long the broker may wait for new records")
	f.Int32Var(&k.fetchBytes, "fetch-max-bytes", 1<<20, "most bytes of one answer")
	f.StringVar(&k.rack, "rack", "", "rack of this client")
	c.RegisterFlagCompletionFunc("group", a.completeGroups)
	return c
}

func (k *consumer) check() (span, error) {
	if k.group != "" && len(k.partitions) > 0 {
		return span{}, errors.New("--group and --partitions exclude each other: a group decides who gets which partition")
	}
	if k.num < 0 {
		return span{}, fmt.Errorf("--num %d: want a number from 0 on", k.num)
	}
	if k.fetchWait < 10*time.Millisecond || k.fetchBytes < 1 {
		return span{}, errors.New("--fetch-max-wait must be at least 10ms and --fetch-max-bytes at least 1")
	}
	var err error
	if k.write, err = recordWriter(k.format, k.pretty, k.metaOnly); err != nil {
		return span{}, err
	}
	s, err := parseSpan(k.offset, time.Now())
	if err == nil && k.group != "" && s.to.kind != unbounded {
		err = errors.New("--group takes no end in --offset; stop it with --num or an interrupt")
	}
	return s, err
}

func (k *consumer) run(ctx context.Context) error {
	s, err := k.check()
	if err != nil {
		return err
	}
	k.span = s
	k.answers.reset()
	opts := []kgo.Opt{
		kgo.FetchMaxWait(k.fetchWait), kgo.FetchMaxBytes(k.fetchBytes), kgo.Rack(k.rack), kgo.WithHooks(&k.answers),
	}
	if k.control {
		opts = append(opts, kgo.KeepControlRecords())
	}
	if k.committed {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if k.group != "" {
		return k.runGroup(ctx, opts, s)
	}
	return k.runDirect(ctx, opts, s)
}

func (k *consumer) runDirect(ctx context.Context, opts []kgo.Opt, s span) error {
	cl, err := k.a.kafka(ctx, opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	from, err := k.plan(ctx, kadm.NewClient(cl), s)
	if err != nil {
		return err
	}
	if k.until != nil && len(k.until) == 0 {
		return nil // nothing lies in the range
	}
	cl.AddConsumePartitions(from)
	return k.loop(ctx, cl, nil)
}

// plan resolves the span to an offset for every partition.
func (k *consumer) plan(ctx context.Context, adm *kadm.Client, s span) (map[string]map[int32]kgo.Offset, error) {
	found, err := k.a.topics(ctx, adm, k.args, k.regex)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errors.New("no topic matches; `millrace topic list` shows what there is")
	}
	r, err := newResolver(ctx, adm, topicNames(found), s)
	if err != nil {
		return nil, err
	}
	if s.to.kind != unbounded {
		k.until = map[partitionKey]int64{}
	}
	out := map[string]map[int32]kgo.Offset{}
	k.leaders = map[int32]bool{}
	for _, t := range found {
		for _, p := range t.Partitions.Sorted() {
			if len(k.partitions) > 0 && !slices.Contains(k.partitions, p.Partition) {
				continue
			}
			key := partitionKey{t.Topic, p.Partition}
			from, err := r.at(s.from, key)
			if err != nil {
				return nil, err
			}
			if k.until != nil {
				to, err := r.at(s.to, key)
				if err != nil {
					return nil, err
				}
				if to = min(to, r.end(key)); s.to.kind == atOffset {
					to = s.to.n // may lie in the future: waited for
				}
				if from >= to {
					continue
				}
				k.until[key] = to
			}
			if out[t.Topic] == nil {
				out[t.Topic] = map[int32]kgo.Offset{}
			}
			out[t.Topic][p.Partition] = kgo.NewOffset().At(from)
			k.leaders[p.Leader] = true
		}
	}
	if len(out) == 0 && k.until == nil {
		return nil, fmt.Errorf("none of the topics has a partition among %v", k.partitions)
	}
	return out, nil
}

func (k *consumer) runGroup(ctx context.Context, opts []kgo.Opt, s span) error {
	reset, err := groupReset(s.from)
	if err != nil {
		return err
	}
	balancer, found := map[string]kgo.GroupBalancer{
		"range": kgo.RangeBalancer(), "roundrobin": kgo.RoundRobinBalancer(),
		"sticky": kgo.StickyBalancer(), "cooperative-sticky": kgo.CooperativeStickyBalancer(),
	}[k.balancer]
	if !found {
		return fmt.Errorf("--balancer %q: want range, roundrobin, sticky or cooperative-sticky", k.balancer)
	}
	topics := k.args
	if k.regex {
		opts = append(opts, kgo.ConsumeRegex())
		topics = nil
		for _, e := range k.args {
			if _, err := matcher([]string{e}); err != nil {
				return err
			}
			topics = append(topics, "^(?:"+e+")$")
		}
	}
	opts = append(opts, kgo.ConsumeTopics(topics...), kgo.ConsumerGroup(k.group), kgo.Balancers(balancer),
		kgo.ConsumeResetOffset(reset), kgo.AutoCommitMarks(), kgo.BlockRebalanceOnPoll())
	cl, err := k.a.kafka(ctx, opts...)
	if err != nil {
		return err
	}
	defer func() { cl.AllowRebalance(); cl.Close() }()
	err = k.loop(ctx, cl, func(r *kgo.Record) { cl.MarkCommitRecords(r) })
	// What was printed is committed, after an interrupt too.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if e := cl.CommitMarkedOffsets(last); e != nil {
		err = errors.Join(err, fmt.Errorf("commit of group %q: %w", k.group, e))
	}
	return err
}

func groupReset(b bound) (kgo.Offset, error) {
	o := kgo.NewOffset()
	switch b.kind {
	case atStart, unbounded:
		return o.AtStart(), nil
	case atEnd:
		return o.AtEnd(), nil
	case atTime:
		return o.AfterMilli(b.n), nil
	case atOffset:
		return o.At(b.n), nil
	case afterStart:
		return o.AtStart().Relative(b.n), nil
	case beforeEnd:
		return o.AtEnd().Relative(-b.n), nil
	}
	return o, errors.New("--offset has no meaning with --group")
}

// loop prints until all that was asked for is printed or ctx ends, which is
// how a user stops it and no error.
func (k *consumer) loop(ctx context.Context, cl *kgo.Client, mark func(*kgo.Record)) error {
	out := bufio.NewWriter(k.a.out)
	defer out.Flush()
	for {
		fetches, quiet := k.poll(ctx, cl)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return nil
		}
		if quiet {
			return nil
		}
		if err := fetchError(fetches); err != nil {
			return err
		}
		done, err := k.printAll(out, fetches, mark)
		if err == nil {
			err = out.Flush()
		}
		if mark != nil {
			cl.AllowRebalance()
		}
		if err != nil || done {
			return err
		}
	}
}

// quietMax ends a range whose partitions' leaders have changed meanwhile.
const quietMax = 30 * time.Second

// poll waits for records; quiet says that a range with an end holds no more.
// Records below it are there already, so what empty answers of all leaders do
// not bring are offsets without a record: compacted, dropped, control records.
func (k *consumer) poll(ctx context.Context, cl *kgo.Client) (f kgo.Fetches, quiet bool) {
	if k.until == nil || k.span.to.kind == atOffset { // an exact end may lie in the future
		return cl.PollFetches(ctx), false
	}
	k.answers.reset()
	for began := time.Now(); time.Since(began) < quietMax; {
		wait, cancel := context.WithTimeout(ctx, k.fetchWait)
		f = cl.PollFetches(wait)
		waited := wait.Err() != nil
		cancel()
		if !waited || f.NumRecords() > 0 || ctx.Err() != nil {
			return f, false
		}
		if k.answers.all(k.leaders) {
			return f, true
		}
	}
	return f, true
}

// answers counts the answers to fetches of each broker; a hook of the client.
type answers struct {
	mu sync.Mutex
	n  map[int32]int
}

const fetchKey = 1

// OnBrokerE2E counts an answer.
func (a *answers) OnBrokerE2E(broker kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if key == fetchKey && e.Err() == nil {
		a.n[broker.NodeID]++
	}
}

func (a *answers) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n = map[int32]int{}
}

// all says whether each broker has answered a fetch that began after reset: the
// first answer may be to one that began before.
func (a *answers) all(brokers map[int32]bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for b := range brokers {
		if a.n[b] < 2 {
			return false
		}
	}
	return true
}

func fetchError(f kgo.Fetches) error {
	var first error
	f.EachError(func(topic string, partition int32, err error) {
		if first == nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			first = fmt.Errorf("consume partition %d: %w", partition, explain("consume topic", topic, err))
		}
	})
	return first
}

func (k *consumer) printAll(out *bufio.Writer, fetches kgo.Fetches, mark func(*kgo.Record)) (done bool, err error) {
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		key := partitionKey{p.Topic, p.Partition}
		for _, r := range p.Records {
			if done || err != nil {
				return
			}
			to, open := k.until[key]
			if k.until != nil && !open {
				return
			}
			if open && r.Offset >= to {
				delete(k.until, key)
				done = len(k.until) == 0
				return
			}
			if err = k.write(out, &p.FetchPartition, r); err != nil {
				return
			}
			if mark != nil {
				mark(r)
			}
			k.printed++
			if open && r.Offset == to-1 {
				delete(k.until, key)
			}
			done = k.num > 0 && k.printed >= k.num || k.until != nil && len(k.until) == 0
		}
	})
	return done, err
}

// recordJSON is a record as rpk prints it.
type recordJSON struct {
	Topic     string       `json:"topic"`
	Key       *string      `json:"key,omitempty"`
	Value     *string      `json:"value,omitempty"`
	ValueSize *int         `json:"value_size,omitempty"`
	Headers   []headerJSON `json:"headers,omitempty"`
	Timestamp int64        `json:"timestamp"`
	Partition int32        `json:"partition"`
	Offset    int64        `json:"offset"`
}

type headerJSON struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// recordWriter gives the function that writes one record.
func recordWriter(format string, pretty, metaOnly bool) (func(*bufio.Writer, *kgo.FetchPartition, *kgo.Record) error, error) {
	if format == "json" {
		indent := ""
		if pretty {
			indent = "  "
		}
		return func(w *bufio.Writer, _ *kgo.FetchPartition, r *kgo.Record) error {
			return writeJSON(w, newRecordJSON(r, metaOnly), indent)
		}, nil
	}
	f, err := kgo.NewRecordFormatter(format)
	if err != nil {
		return nil, fmt.Errorf("--format %q: %w; `millrace topic consume --help` explains formats", format, err)
	}
	var buf []byte
	return func(w *bufio.Writer, p *kgo.FetchPartition, r *kgo.Record) error {
		buf = f.AppendPartitionRecord(buf[:0], p, r)
		_, err := w.Write(buf)
		return err
	}, nil
}

func newRecordJSON(r *kgo.Record, metaOnly bool) recordJSON {
	text := func(b []byte) *string {
		if b == nil {
			return nil
		}
		s := string(b)
		return &s
	}
	j := recordJSON{Topic: r.Topic, Key: text(r.Key), Value: text(r.Value), Timestamp: r.Timestamp.UnixMilli(), Partition: r.Partition, Offset: r.Offset}
	if metaOnly {
		size := len(r.Value)
		j.Value, j.ValueSize = nil, &size
	}
	for _, h := range r.Headers {
		j.Headers = append(j.Headers, headerJSON{h.Key, string(h.Value)})
	}
	return j
}

// resolver turns bounds into offsets; it asks only for what the span needs.
type resolver struct {
	starts, ends kadm.ListedOffsets
	times        map[int64]kadm.ListedOffsets // by ms
}

func newResolver(ctx context.Context, adm *kadm.Client, topics []string, s span) (*resolver, error) {
	r := &resolver{times: map[int64]kadm.ListedOffsets{}}
	var err error
	if r.starts, err = electing(ctx, func() (kadm.ListedOffsets, error) { return adm.ListStartOffsets(ctx, topics...) }); err != nil {
		return nil, fmt.Errorf("list start offsets: %w", err)
	}
	if r.ends, err = electing(ctx, func() (kadm.ListedOffsets, error) { return adm.ListEndOffsets(ctx, topics...) }); err != nil {
		return nil, fmt.Errorf("list end offsets: %w", err)
	}
	for _, b := range []bound{s.from, s.to} {
		if b.kind != atTime {
			continue
		}
		if r.times[b.n], err = adm.ListOffsetsAfterMilli(ctx, b.n, topics...); err != nil {
			return nil, fmt.Errorf("list offsets at %s: %w", time.UnixMilli(b.n).UTC().Format(time.RFC3339), err)
		}
	}
	return r, nil
}

func (r *resolver) end(key partitionKey) int64 {
	o, _ := r.ends.Lookup(key.topic, key.partition)
	return o.Offset
}

// at gives the offset of a bound, within what the partition holds unless it is
// an exact one.
func (r *resolver) at(b bound, key partitionKey) (int64, error) {
	start, found := r.starts.Lookup(key.topic, key.partition)
	end, also := r.ends.Lookup(key.topic, key.partition)
	for _, o := range []kadm.ListedOffset{start, end} {
		if o.Err != nil {
			return 0, fmt.Errorf("offsets of %s/%d: %w", key.topic, key.partition, o.Err)
		}
	}
	if !found || !also {
		return 0, fmt.Errorf("offsets of %s/%d: the broker names none", key.topic, key.partition)
	}
	switch b.kind {
	case atEnd:
		return end.Offset, nil
	case atOffset:
		return b.n, nil
	case afterStart:
		return min(start.Offset+b.n, end.Offset), nil
	case beforeEnd:
		return max(end.Offset-b.n, start.Offset), nil
	case atTime:
		o, found := r.times[b.n].Lookup(key.topic, key.partition)
		if o.Err != nil {
			return 0, fmt.Errorf("offset of %s/%d by time: %w", key.topic, key.partition, o.Err)
		}
		if !found || o.Offset < 0 {
			return end.Offset, nil
		}
		return o.Offset, nil
	}
	return start.Offset, nil
}
