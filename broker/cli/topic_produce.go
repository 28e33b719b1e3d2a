package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

// producer is one run of `topic produce`.
type producer struct {
	a           *app
	topic       string
	format      string
	output      string
	headers     []string
	key         string
	keyGiven    bool
	partition   int32
	acks        int
	compression string
	tombstone   bool
	create      bool
	timeout     time.Duration
	batchBytes  int32

	mu    sync.Mutex // over what promises write, on the client's goroutine
	first error
}

func (a *app) topicProduce() *cobra.Command {
	p := &producer{a: a}
	c := &cobra.Command{
		Use: "produce [TOPIC]", Short: "Produce records read from stdin", ValidArgsFunction: a.completeTopics,
		Long: `Produce records read from stdin: by default a line is a value.

Input formats (--format, -f) have the escapes of ` + "`topic consume --help`" + `: whenever the whole format was
matched a record is produced. Text between escapes is a delimiter and matched exactly; or a length
stands before what it measures:
  '%v\n'           a value a line (default)
  '%k %v\n'        key and value, parted by a space
  '%K{big16}%k%V{big32}%v'   key and value after their lengths
  '%t %p %k %v{json}\n'      topic and partition too (%p needs --partition 0); JSON values
  '%k %v{hex}\n' '%v{base64}\n' '%v{re#...?#}\n'   decoded; by an expression
  '%k %v %h{%k:%v }\n'       headers
The topic of the argument is used where the format reads none.`,
		Example: `  echo '{"id":7}' | millrace topic produce orders
  printf 'a 1\nb 2\n' | millrace topic produce orders -f '%k %v\n' -H source:shell -z zstd`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				p.topic = args[0]
			}
			p.keyGiven = cmd.Flags().Changed("key")
			return p.run(cmd.Context())
		},
	}
	f := c.Flags()
	f.StringVarP(&p.format, "format", "f", `%v\n`, "input format, as above")
	f.StringVarP(&p.output, "output-format", "o", `Produced to partition %p at offset %o with timestamp %d.\n`, "what to print of each record produced; see topic consume")
	f.StringArrayVarP(&p.headers, "header", "H", nil, "header key:value for each record (repeatable)")
	f.StringVarP(&p.key, "key", "k", "", "key for records whose key is not read")
	f.Int32VarP(&p.partition, "partition", "p", -1, "partition to produce to; from 0 on, %p is taken too")
	f.IntVar(&p.acks, "acks", -1, "-1: wait until it is safe; 0: do not wait; 1: as -1")
	f.StringVarP(&p.compression, "compression", "z", "snappy", "none, gzip, snappy, lz4 or zstd")
	f.BoolVarP(&p.tombstone, "tombstone", "Z", false, "produce empty values as tombstones")
	f.BoolVar(&p.create, "allow-auto-topic-creation", false, "let the broker create a topic that does not exist")
	f.DurationVar(&p.timeout, "delivery-timeout", 0, "longest time a record may take, at least 1s (0: no limit)")
	f.Int32Var(&p.batchBytes, "max-message-bytes", -1, "largest batch before compression")
	return c
}

func (p *producer) options() ([]kgo.Opt, error) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, found := codecs[p.compression]
	if !found {
		return nil, fmt.Errorf("--compression %q: want none, gzip, snappy, lz4 or zstd", p.compression)
	}
	opts := []kgo.Opt{kgo.ProducerBatchCompression(codec)}
	switch p.acks {
	case -1:
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()))
	case 0:
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	case 1:
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, fmt.Errorf("--acks %d: want -1, 0 or 1", p.acks)
	}
	if p.partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	if p.create {
		opts = append(opts, kgo.AllowAutoTopicCreation())
	}
	if p.timeout != 0 {
		if p.timeout < time.Second {
			return nil, fmt.Errorf("--delivery-timeout %s: want at least 1s", p.timeout)
		}
		opts = append(opts, kgo.RecordDeliveryTimeout(p.timeout))
	}
	if p.batchBytes >= 0 {
		opts = append(opts, kgo.ProducerBatchMaxBytes(p.batchBytes))
	}
	if p.topic != "" {
		opts = append(opts, kgo.DefaultProduceTopic(p.topic))
	}
	return opts, nil
}

// flushMax is how long records that were read may take after an interrupt.
const flushMax = 10 * time.Second

func (p *producer) run(ctx context.Context) error {
	opts, err := p.options()
	if err != nil {
		return err
	}
	headers, err := parseHeaders(p.headers)
	if err != nil {
		return err
	}
	if p.topic == "" && !strings.Contains(p.format, "%t") {
		return errors.New("no topic: give one as the argument, or read it with %t in --format")
	}
	in, err := newRecordReader(p.a.stdin(ctx), p.format)
	if err != nil {
		return err
	}
	out, err := recordWriterPlain(p.output)
	if err != nil {
		return err
	}
	cl, err := p.a.kafka(ctx, opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	// An interrupt ends the input, not the records that were read.
	err = p.loop(context.WithoutCancel(ctx), cl, in, headers, out)
	last, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if ctx.Err() != nil {
		err = nil
		last, cancel = context.WithTimeout(last, flushMax)
		defer cancel()
	}
	if e := cl.Flush(last); err == nil {
		err = e
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first != nil {
		return p.first
	}
	return err
}

func (p *producer) loop(ctx context.Context, cl *kgo.Client, in recordReader, headers []kgo.RecordHeader, out func([]byte, *kgo.Record) []byte) error {
	for n := 1; ; n++ {
		r, err := in.ReadRecord()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("input record %d does not match --format %q: %w", n, p.format, err)
		}
		if err := p.finish(r, headers); err != nil {
			return fmt.Errorf("input record %d: %w", n, err)
		}
		cl.Produce(ctx, r, func(r *kgo.Record, err error) { p.produced(r, err, out) })
		p.mu.Lock()
		stop := p.first != nil
		p.mu.Unlock()
		if stop {
			return nil
		}
	}
}

// finish adds to a record what the flags say.
func (p *producer) finish(r *kgo.Record, headers []kgo.RecordHeader) error {
	if r.Topic == "" && p.topic == "" {
		return errors.New("the format read no topic, and none was given as the argument")
	}
	if p.keyGiven && r.Key == nil {
		r.Key = []byte(p.key)
	}
	if len(r.Value) == 0 {
		if r.Value = []byte{}; p.tombstone {
			r.Value = nil
		}
	}
	if p.partition >= 0 && !strings.Contains(p.format, "%p") {
		r.Partition = p.partition
	}
	r.Headers = append(r.Headers, headers...)
	return nil
}

func (p *producer) produced(r *kgo.Record, err error, out func([]byte, *kgo.Record) []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		_, err = p.a.out.Write(out(nil, r))
	} else {
		err = explain("produce to topic", r.Topic, err)
	}
	if err != nil && p.first == nil {
		p.first = err
	}
}

func parseHeaders(pairs []string) (out []kgo.RecordHeader, err error) {
	for _, kv := range pairs {
		k, v, found := strings.Cut(kv, ":")
		if !found {
			return nil, fmt.Errorf("--header %s: want key:value", kv)
		}
		out = append(out, kgo.RecordHeader{Key: k, Value: []byte(v)})
	}
	return out, nil
}

// recordReader reads records until io.EOF.
type recordReader interface {
	ReadRecord() (*kgo.Record, error)
}

func newRecordReader(in io.Reader, format string) (recordReader, error) {
	if strings.HasSuffix(format, `\n`) || strings.HasSuffix(format, "\n") {
		in = &lastLine{in: in}
	}
	r, err := kgo.NewRecordReader(in, format)
	if err != nil {
		return nil, fmt.Errorf("--format %q: %w; `millrace topic produce --help` explains formats", format, err)
	}
	return r, nil
}

func recordWriterPlain(format string) (func([]byte, *kgo.Record) []byte, error) {
	f, err := kgo.NewRecordFormatter(format)
	if err != nil {
		return nil, fmt.Errorf("--output-format %q: %w; `millrace topic consume --help` explains formats", format, err)
	}
	return f.AppendRecord, nil
}
