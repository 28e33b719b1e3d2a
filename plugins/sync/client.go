package sync

import (
	"context"
	"fmt"
	gosync "sync"
	"time"

	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/proto/pluginpb"
	"google.golang.org/grpc/codes"
)

// Client is a Transformer over a link: all transforms share one stream, which is
// opened when it is needed and again after it broke.
type Client struct {
	link *control.Link
	grpc pluginpb.SyncClient

	mu   gosync.Mutex
	line *line
}

// line is one stream. sending is held over Send, which waits when the other end
// does not read; mu guards the rest and is never held while waiting, so that
// answers are taken meanwhile.
type line struct {
	stream  pluginpb.Sync_RunClient
	sending gosync.Mutex

	mu      gosync.Mutex
	cancel  context.CancelFunc
	next    uint64
	waiting map[uint64]chan<- reply // nil once the stream is broken
	broken  error
}

type reply struct {
	answer *pluginpb.SyncResponse
	err    error
}

// NewClient makes a client.
func NewClient(l *control.Link) *Client {
	return &Client{link: l, grpc: pluginpb.NewSyncClient(l.Conn)}
}

// Transform implements Transformer. If ctx ends before the answer is here, its
// error is returned.
func (c *Client) Transform(ctx context.Context, b Batch) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	request := &pluginpb.SyncRequest{Digest: b.Digest[:], Topic: b.Topic, TopicId: b.TopicID[:], Partition: b.Partition, Records: b.Records}
	if end, ok := ctx.Deadline(); ok {
		request.TimeMaxNs = max(1, int64(time.Until(end)))
	}
	l, err := c.current()
	if err != nil {
		return Result{}, err
	}
	answer := make(chan reply, 1)
	id, err := l.send(request, answer)
	if err != nil {
		return Result{}, err
	}
	select {
	case r := <-answer:
		if r.err != nil {
			return Result{}, r.err
		}
		return resultFrom(r.answer)
	case <-ctx.Done():
		l.forget(id)
		return Result{}, ctx.Err()
	}
}

// current returns the stream, a new one if there is none that works.
func (c *Client) current() (*line, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.line != nil && c.line.works() {
		return c.line, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	outgoing, err := c.link.Outgoing(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	stream, err := c.grpc.Run(outgoing)
	if err != nil {
		cancel()
		return nil, control.FromStatus(err)
	}
	c.line = &line{stream: stream, cancel: cancel, waiting: map[uint64]chan<- reply{}}
	go c.line.receive()
	return c.line, nil
}

func (l *line) works() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken == nil
}

func (l *line) send(r *pluginpb.SyncRequest, answer chan<- reply) (uint64, error) {
	if err := l.register(r, answer); err != nil {
		return 0, err
	}
	l.sending.Lock()
	defer l.sending.Unlock()
	// An error of Send is io.EOF: receive learns the reason and tells all.
	_ = l.stream.Send(r)
	return r.Id, nil
}

func (l *line) register(r *pluginpb.SyncRequest, answer chan<- reply) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	l.next++
	r.Id = l.next
	l.waiting[r.Id] = answer
	return nil
}

func (l *line) forget(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, id)
}

// receive hands out answers until the stream ends.
func (l *line) receive() {
	defer l.cancel()
	for {
		r, err := l.stream.Recv()
		if err != nil {
			l.fail(control.FromStatus(err))
			return
		}
		l.mu.Lock()
		answer := l.waiting[r.GetId()]
		delete(l.waiting, r.GetId())
		l.mu.Unlock()
		if answer != nil {
			answer <- reply{answer: r}
		}
	}
}

func (l *line) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = fmt.Errorf("sync stream: %w", err)
	for _, answer := range l.waiting {
		answer <- reply{err: l.broken}
	}
	l.waiting = nil
}

func resultFrom(r *pluginpb.SyncResponse) (Result, error) {
	if refused := r.GetRefused(); refused != nil {
		return Result{}, control.FromCode(codes.Code(refused.GetCode()), refused.GetText())
	}
	result := Result{
		Unchanged: r.GetUnchanged(), Records: r.GetRecords(), CPU: time.Duration(r.GetCpuNs()),
		RecordsIn: int(r.GetRecordsIn()), RecordsOut: int(r.GetRecordsOut()),
	}
	if f := r.GetFailure(); f != nil {
		result.Failure = &Failure{Source: int(f.GetSource()), Kind: control.FailureKind(f.GetKind()), Text: f.GetText()}
	}
	return result, nil
}
