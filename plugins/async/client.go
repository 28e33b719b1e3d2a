package async

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/proto/pluginpb"
	"google.golang.org/grpc/codes"
)

// Client is an Opener over a link: a stream per fiber.
type Client struct {
	link *control.Link
	grpc pluginpb.AsyncClient
}

// NewClient makes a client.
func NewClient(l *control.Link) *Client {
	return &Client{link: l, grpc: pluginpb.NewAsyncClient(l.Conn)}
}

// errClosed is what calls of a closed fiber get.
var errClosed = fmt.Errorf("%w: the fiber was closed", control.ErrSession)

// Open implements Opener.
func (c *Client) Open(ctx context.Context, spec FiberSpec) (Fiber, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(context.Background())
	outgoing, err := c.link.Outgoing(life)
	if err != nil {
		cancel()
		return nil, err
	}
	stream, err := c.grpc.Fiber(outgoing)
	if err != nil {
		cancel()
		return nil, control.FromStatus(err)
	}
	f := &clientFiber{stream: stream, cancel: cancel}
	answer, err := f.send(&pluginpb.FiberRequest{Open: openFrom(spec)})
	if err != nil {
		cancel()
		return nil, err
	}
	go f.receive()
	if _, err := f.wait(ctx, answer); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func openFrom(s FiberSpec) *pluginpb.FiberOpen {
	open := &pluginpb.FiberOpen{
		Digest: s.Digest[:], Script: uint64(s.Script), Topic: s.Topic, TopicId: s.Parent.Topic[:], Partition: s.Parent.Index,
		Input: int32(s.Input), Activation: uint64(s.Activation), Retries: int32(s.Retries),
	}
	for _, o := range s.Outputs {
		open.Outputs = append(open.Outputs, &pluginpb.FiberOutput{Partitions: o.Partitions, Routing: int32(o.Routing), Codec: int32(o.Codec)})
	}
	return open
}

// clientFiber implements Fiber. Answers come in the order of the requests, so
// waiting is a queue. sending is held over Send, which waits when the other end
// does not read; mu guards the queue and is never held while waiting.
type clientFiber struct {
	stream  pluginpb.Async_FiberClient
	cancel  context.CancelFunc
	sending sync.Mutex

	mu      sync.Mutex
	waiting []chan<- reply
	broken  error
}

type reply struct {
	answer *pluginpb.FiberResponse
	err    error
}

// Transform implements Fiber.
func (f *clientFiber) Transform(ctx context.Context, b Batch) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	request := &pluginpb.AsyncBatch{From: int64(b.From), To: int64(b.To), Records: b.Records, Avoid: make([]int64, len(b.Avoid))}
	for i, offset := range b.Avoid {
		request.Avoid[i] = int64(offset)
	}
	answer, err := f.send(&pluginpb.FiberRequest{Batch: request})
	if err != nil {
		return Result{}, err
	}
	r, err := f.wait(ctx, answer)
	if err != nil {
		return Result{}, err
	}
	return resultFrom(r), nil
}

func (f *clientFiber) send(r *pluginpb.FiberRequest) (<-chan reply, error) {
	f.sending.Lock()
	defer f.sending.Unlock()
	answer, err := f.queue()
	if err != nil {
		return nil, err
	}
	_ = f.stream.Send(r) // an error is io.EOF: receive learns the reason
	return answer, nil
}

func (f *clientFiber) queue() (<-chan reply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil {
		return nil, f.broken
	}
	answer := make(chan reply, 1)
	f.waiting = append(f.waiting, answer)
	return answer, nil
}

func (f *clientFiber) wait(ctx context.Context, answer <-chan reply) (*pluginpb.FiberResponse, error) {
	select {
	case r := <-answer:
		if r.err != nil {
			return nil, r.err
		}
		if refused := r.answer.GetRefused(); refused != nil {
			return nil, control.FromCode(codes.Code(refused.GetCode()), refused.GetText())
		}
		return r.answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *clientFiber) receive() {
	defer f.cancel()
	for {
		r, err := f.stream.Recv()
		if err != nil {
			reason := control.FromStatus(err)
			if errors.Is(reason, context.Canceled) { // not by Close, which says so first: the link is gone
				reason = control.ErrDown
			}
			f.fail(fmt.Errorf("fiber's stream: %w", reason))
			return
		}
		f.mu.Lock()
		var answer chan<- reply
		if len(f.waiting) > 0 {
			answer, f.waiting = f.waiting[0], f.waiting[1:]
		}
		f.mu.Unlock()
		if answer == nil {
			f.fail(fmt.Errorf("%w: it answered what was not asked", control.ErrDown))
			return
		}
		answer <- reply{answer: r}
	}
}

func (f *clientFiber) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken == nil {
		f.broken = err
	}
	for _, answer := range f.waiting {
		answer <- reply{err: f.broken}
	}
	f.waiting = nil
}

// Close implements Fiber.
func (f *clientFiber) Close() error {
	f.fail(errClosed)
	f.cancel()
	return nil
}

func resultFrom(r *pluginpb.FiberResponse) Result {
	result := Result{
		RecordsIn: r.GetRecordsIn(), RecordsOut: r.GetRecordsOut(), RecordsDropped: r.GetRecordsDropped(), CPU: time.Duration(r.GetCpuNs()),
	}
	for _, o := range r.GetOutputs() {
		result.Outputs = append(result.Outputs, OutputBatches{Output: int(o.GetOutput()), Partition: o.GetPartition(), Batches: o.GetBatches()})
	}
	for _, bad := range r.GetFailed() {
		result.Failed = append(result.Failed, FailedRecord{
			Offset: model.Offset(bad.GetOffset()), Kind: control.FailureKind(bad.GetKind()), Text: bad.GetText(),
		})
	}
	return result
}
