package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/proto/pluginpb"
)

// chunkBytes is how much of a module travels in one message.
const chunkBytes = 1 << 20

// Client is a Control over a link.
type Client struct {
	link *Link
	grpc pluginpb.ControlClient
}

// NewClient makes a client.
func NewClient(l *Link) *Client { return &Client{link: l, grpc: pluginpb.NewControlClient(l.Conn)} }

// Hello implements Control. All clients on the link then use the new session.
func (c *Client) Hello(ctx context.Context, s Session) (Hello, error) {
	r, err := c.grpc.Hello(ctx, &pluginpb.HelloRequest{Protocol: Protocol, Cluster: s.Cluster, Node: int32(s.Node), Boot: s.Boot})
	if err != nil {
		return Hello{}, FromStatus(err)
	}
	if r.GetProtocol() != Protocol {
		return Hello{}, fmt.Errorf("%w: it has %d, the broker %d", ErrProtocol, r.GetProtocol(), Protocol)
	}
	token := r.GetSession()
	c.link.session.Store(&token)
	return helloFrom(r), nil
}

func helloFrom(r *pluginpb.HelloResponse) Hello {
	l := r.GetLimits()
	h := Hello{Protocol: int(r.GetProtocol()), Build: r.GetBuild(), Engine: r.GetEngine(), Boot: r.GetBoot(), Limits: Limits{
		ModuleBytesMax: l.GetModuleBytesMax(), MemoryBytesMax: l.GetMemoryBytesMax(), InstanceBytesMax: l.GetInstanceBytesMax(),
		BatchTimeMax: time.Duration(l.GetBatchTimeMaxNs()), Workers: int(l.GetWorkers()),
	}}
	for _, w := range r.GetWalls() {
		h.Walls = append(h.Walls, Wall{Name: w.GetName(), Up: w.GetUp(), Text: w.GetText()})
	}
	return h
}

// moduleStream is the sending side of Load and Check.
type moduleStream interface {
	Send(*pluginpb.ModuleChunk) error
	CloseAndRecv() (*pluginpb.Report, error)
}

// Load implements Control.
func (c *Client) Load(ctx context.Context, m Module) (Report, error) {
	ctx, err := c.link.Outgoing(ctx)
	if err != nil {
		return Report{}, err
	}
	stream, err := c.grpc.Load(ctx)
	if err != nil {
		return Report{}, FromStatus(err)
	}
	return send(stream, m)
}

// Check implements Control.
func (c *Client) Check(ctx context.Context, m Module) (Report, error) {
	ctx, err := c.link.Outgoing(ctx)
	if err != nil {
		return Report{}, err
	}
	stream, err := c.grpc.Check(ctx)
	if err != nil {
		return Report{}, FromStatus(err)
	}
	return send(stream, m)
}

func send(stream moduleStream, m Module) (Report, error) {
	err := stream.Send(&pluginpb.ModuleChunk{Head: &pluginpb.ModuleHead{
		Digest: m.Digest[:], Name: m.Name, Mode: string(m.Mode), Inputs: m.Inputs, Outputs: m.Outputs, Env: m.Env,
		MemoryBytesMax: m.MemoryBytesMax, BatchTimeMaxNs: int64(m.BatchTimeMax), WasmBytes: int64(len(m.Wasm)),
	}})
	for rest := m.Wasm; err == nil && len(rest) > 0; {
		n := min(len(rest), chunkBytes)
		err = stream.Send(&pluginpb.ModuleChunk{Wasm: rest[:n]})
		rest = rest[n:]
	}
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the answer says why
		return Report{}, FromStatus(err)
	}
	r, err := stream.CloseAndRecv()
	if err != nil {
		return Report{}, FromStatus(err)
	}
	return Report{ABI: r.GetAbi(), Cached: r.GetCached(), CompileTime: time.Duration(r.GetCompileNs()), MemoryBytes: r.GetMemoryBytes(), Imports: r.GetImports()}, nil
}

// Unload implements Control.
func (c *Client) Unload(ctx context.Context, digest model.Digest) error {
	ctx, err := c.link.Outgoing(ctx)
	if err != nil {
		return err
	}
	_, err = c.grpc.Unload(ctx, &pluginpb.UnloadRequest{Digest: digest[:]})
	return FromStatus(err)
}

// Inspect implements Control.
func (c *Client) Inspect(ctx context.Context) ([]ScriptState, error) {
	ctx, err := c.link.Outgoing(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.grpc.Inspect(ctx, &pluginpb.InspectRequest{})
	if err != nil {
		return nil, FromStatus(err)
	}
	states := make([]ScriptState, len(r.GetScripts()))
	for i, s := range r.GetScripts() {
		states[i] = ScriptState{
			Name: s.GetName(), Mode: Mode(s.GetMode()), ABI: s.GetAbi(), Instances: int(s.GetInstances()), Fibers: int(s.GetFibers()),
			MemoryBytes: s.GetMemoryBytes(), CPU: time.Duration(s.GetCpuNs()), RecordsIn: s.GetRecordsIn(), RecordsOut: s.GetRecordsOut(),
			RecordsFailed: s.GetRecordsFailed(), InstancesDropped: s.GetInstancesDropped(), LastError: s.GetLastError(), Parked: s.GetParked(),
		}
		copy(states[i].Digest[:], s.GetDigest())
	}
	return states, nil
}

// Health implements Control. It needs no session.
func (c *Client) Health(ctx context.Context) error {
	_, err := c.grpc.Health(ctx, &pluginpb.HealthRequest{})
	return FromStatus(err)
}

// Logs implements Control.
func (c *Client) Logs(ctx context.Context, ask LogAsk) (LogStream, error) {
	outgoing, err := c.link.Outgoing(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := c.grpc.Logs(outgoing, &pluginpb.LogsRequest{After: ask.After, Script: ask.Script})
	if err != nil {
		return nil, FromStatus(err)
	}
	return &clientLogs{ctx: ctx, stream: stream}, nil
}

type clientLogs struct {
	ctx    context.Context
	stream pluginpb.Control_LogsClient
}

// Next implements LogStream.
func (l *clientLogs) Next() (LogLine, error) {
	r, err := l.stream.Recv()
	if err != nil {
		if l.ctx.Err() != nil {
			return LogLine{}, l.ctx.Err()
		}
		return LogLine{}, FromStatus(err)
	}
	line := LogLine{Seq: r.GetSeq(), Time: time.UnixMilli(r.GetTimeMs()), Script: r.GetScript(), Level: r.GetLevel(), Text: r.GetText(), Lost: r.GetLost()}
	copy(line.Digest[:], r.GetDigest())
	return line, nil
}
