package sync

import (
	"context"
	"fmt"
	"net"
	gosync "sync"
	"time"

	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/proto/pluginpb"
	"google.golang.org/grpc/codes"
)

const (
	// linesMax bounds the batches under way; beyond it callers wait. A sidecar may
	// have 1,024 files open.
	linesMax = 512
	// linesIdleMax bounds the lines that wait for the next batch.
	linesIdleMax = 64
)

// Preface is what a client sends first, so that the sidecar knows the connection
// from one of gRPC's.
const Preface = "millrace-sync 1\n"

// Client is a Transformer over lines: each batch has one to itself until it is
// answered, and the caller itself waits for the answer.
type Client struct {
	link  *control.Link
	seats chan struct{}

	mu   gosync.Mutex
	idle []*line // the one used last comes last
}

// line is a connection of one session.
type line struct {
	*control.Line
	session string
}

// NewClient makes a client.
func NewClient(l *control.Link) *Client {
	return &Client{link: l, seats: make(chan struct{}, linesMax)}
}

// Transform implements Transformer. If ctx ends before the answer is here, its
// error is returned.
func (c *Client) Transform(ctx context.Context, b Batch) (Result, error) {
	select {
	case c.seats <- struct{}{}:
		defer func() { <-c.seats }()
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	l, err := c.take(ctx)
	if err != nil {
		return Result{}, err
	}
	answer, err := l.ask(ctx, b)
	if err != nil {
		l.Close()
		return Result{}, err
	}
	c.giveBack(l)
	return resultFrom(answer)
}

// take gives a line of the session of now: an idle one or a new one.
func (c *Client) take(ctx context.Context) (*line, error) {
	session, err := c.link.Session()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	for n := len(c.idle); n > 0; n = len(c.idle) {
		l := c.idle[n-1]
		c.idle = c.idle[:n-1]
		if l.session == session {
			c.mu.Unlock()
			return l, nil
		}
		l.Close()
	}
	c.mu.Unlock()
	return c.dial(ctx, session)
}

func (c *Client) giveBack(l *line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) == linesIdleMax {
		l.Close()
		return
	}
	c.idle = append(c.idle, l)
}

// dial makes a line and has the sidecar agree to the session.
func (c *Client) dial(ctx context.Context, session string) (*line, error) {
	conn, err := c.link.Dial(ctx)
	if err != nil {
		return nil, down(ctx, err)
	}
	l := &line{control.NewLine(conn), session}
	if err := l.hello(ctx, conn); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *line) hello(ctx context.Context, conn net.Conn) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	if _, err := conn.Write([]byte(Preface)); err != nil {
		return down(ctx, err)
	}
	if err := l.Send(&pluginpb.SyncHello{Session: l.session}); err != nil {
		return down(ctx, err)
	}
	var welcome pluginpb.SyncWelcome
	if err := l.Receive(&welcome); err != nil {
		return down(ctx, err)
	}
	if r := welcome.GetRefused(); r != nil {
		return control.FromCode(codes.Code(r.GetCode()), r.GetText())
	}
	return nil
}

// ask sends a batch and waits for what became of it. After an error the line is
// good for nothing: an answer may still come.
func (l *line) ask(ctx context.Context, b Batch) (*pluginpb.SyncResponse, error) {
	request := &pluginpb.SyncRequest{Digest: b.Digest[:], Topic: b.Topic, TopicId: b.TopicID[:], Partition: b.Partition, Records: b.Records}
	if end, ok := ctx.Deadline(); ok {
		request.TimeMaxNs = max(1, int64(time.Until(end)))
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	var answer pluginpb.SyncResponse
	err := l.Send(request)
	if err == nil {
		err = l.Receive(&answer)
	}
	if !stop() && err == nil { // the line is being closed
		err = ctx.Err()
	}
	if err != nil {
		return nil, down(ctx, err)
	}
	return &answer, nil
}

// down is what a broken line means to the caller: its own end, or the sidecar's.
func down(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("sync line: %w: %w", control.ErrDown, err)
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
