package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/proto/pluginpb"
	"google.golang.org/grpc"
)

// Host is what a sidecar is made of: sessions, found by the token of each call.
type Host interface {
	// Open answers Hello with a token for the new session.
	Open(s Session) (Hello, string, error)
	// Control finds a session, or fails with ErrSession.
	Control(token string) (Control, error)
}

// Serve answers the kind on a server.
func Serve(r grpc.ServiceRegistrar, h Host) { pluginpb.RegisterControlServer(r, &server{host: h}) }

type server struct {
	pluginpb.UnimplementedControlServer
	host Host
}

// Hello implements the service.
func (s *server) Hello(_ context.Context, r *pluginpb.HelloRequest) (*pluginpb.HelloResponse, error) {
	if r.GetProtocol() != Protocol {
		return nil, ToStatus(fmt.Errorf("%w: it has %d, the broker %d", ErrProtocol, Protocol, r.GetProtocol()))
	}
	h, token, err := s.host.Open(Session{Cluster: r.GetCluster(), Node: model.NodeID(r.GetNode()), Boot: r.GetBoot()})
	if err != nil {
		return nil, ToStatus(err)
	}
	l := h.Limits
	answer := &pluginpb.HelloResponse{Protocol: int32(h.Protocol), Build: h.Build, Engine: h.Engine, Boot: h.Boot, Session: token, Limits: &pluginpb.Limits{
		ModuleBytesMax: l.ModuleBytesMax, MemoryBytesMax: l.MemoryBytesMax, InstanceBytesMax: l.InstanceBytesMax,
		BatchTimeMaxNs: int64(l.BatchTimeMax), Workers: int32(l.Workers),
	}}
	for _, w := range h.Walls {
		answer.Walls = append(answer.Walls, &pluginpb.Wall{Name: w.Name, Up: w.Up, Text: w.Text})
	}
	return answer, nil
}

// Load implements the service.
func (s *server) Load(stream pluginpb.Control_LoadServer) error {
	return s.take(stream.Context(), stream.Recv, stream.SendAndClose, Control.Load)
}

// Check implements the service.
func (s *server) Check(stream pluginpb.Control_CheckServer) error {
	return s.take(stream.Context(), stream.Recv, stream.SendAndClose, Control.Check)
}

func (s *server) take(ctx context.Context, recv func() (*pluginpb.ModuleChunk, error), answer func(*pluginpb.Report) error,
	use func(Control, context.Context, Module) (Report, error)) error {
	control, err := s.host.Control(TokenOf(ctx))
	if err != nil {
		return ToStatus(err)
	}
	m, err := receive(recv)
	if err != nil {
		return ToStatus(err)
	}
	r, err := use(control, ctx, m)
	if err != nil {
		return ToStatus(err)
	}
	return answer(&pluginpb.Report{Abi: r.ABI, Cached: r.Cached, CompileNs: int64(r.CompileTime), MemoryBytes: r.MemoryBytes, Imports: r.Imports})
}

// receive joins a module's chunks.
func receive(recv func() (*pluginpb.ModuleChunk, error)) (Module, error) {
	first, err := recv()
	if err != nil {
		return Module{}, fmt.Errorf("%w: no module: %w", ErrRequest, err)
	}
	h := first.GetHead()
	if h == nil || h.GetWasmBytes() < 0 || len(h.GetDigest()) != len(model.Digest{}) {
		return Module{}, fmt.Errorf("%w: the first message has no sound head", ErrRequest)
	}
	if h.GetWasmBytes() > ModuleBytesMax {
		return Module{}, fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrModule, h.GetWasmBytes(), ModuleBytesMax)
	}
	m := Module{
		Name: h.GetName(), Mode: Mode(h.GetMode()), Inputs: h.GetInputs(), Outputs: h.GetOutputs(), Env: h.GetEnv(),
		MemoryBytesMax: h.GetMemoryBytesMax(), BatchTimeMax: time.Duration(h.GetBatchTimeMaxNs()),
	}
	copy(m.Digest[:], h.GetDigest())
	for {
		chunk, err := recv()
		switch {
		case errors.Is(err, io.EOF) && int64(len(m.Wasm)) == h.GetWasmBytes():
			return m, nil
		case err != nil:
			return Module{}, fmt.Errorf("%w: module ends after %d of %d bytes: %w", ErrRequest, len(m.Wasm), h.GetWasmBytes(), err)
		case int64(len(m.Wasm)+len(chunk.GetWasm())) > h.GetWasmBytes():
			return Module{}, fmt.Errorf("%w: module has more than the %d bytes announced", ErrRequest, h.GetWasmBytes())
		}
		m.Wasm = append(m.Wasm, chunk.GetWasm()...)
	}
}

// Unload implements the service.
func (s *server) Unload(ctx context.Context, r *pluginpb.UnloadRequest) (*pluginpb.UnloadResponse, error) {
	control, err := s.host.Control(TokenOf(ctx))
	if err == nil {
		var digest model.Digest
		copy(digest[:], r.GetDigest())
		err = control.Unload(ctx, digest)
	}
	return &pluginpb.UnloadResponse{}, ToStatus(err)
}

// Inspect implements the service.
func (s *server) Inspect(ctx context.Context, _ *pluginpb.InspectRequest) (*pluginpb.InspectResponse, error) {
	control, err := s.host.Control(TokenOf(ctx))
	if err != nil {
		return nil, ToStatus(err)
	}
	states, err := control.Inspect(ctx)
	if err != nil {
		return nil, ToStatus(err)
	}
	answer := &pluginpb.InspectResponse{}
	for i := range states {
		state := &states[i]
		answer.Scripts = append(answer.Scripts, &pluginpb.ScriptState{
			Digest: state.Digest[:], Name: state.Name, Mode: string(state.Mode), Abi: state.ABI, Instances: int32(state.Instances),
			Fibers: int32(state.Fibers), MemoryBytes: state.MemoryBytes, CpuNs: int64(state.CPU), RecordsIn: state.RecordsIn,
			RecordsOut: state.RecordsOut, RecordsFailed: state.RecordsFailed, InstancesDropped: state.InstancesDropped,
			LastError: state.LastError, Parked: state.Parked,
		})
	}
	return answer, nil
}

// Health implements the service: who can answer is able to work.
func (s *server) Health(context.Context, *pluginpb.HealthRequest) (*pluginpb.HealthResponse, error) {
	return &pluginpb.HealthResponse{}, nil
}

// Logs implements the service.
func (s *server) Logs(r *pluginpb.LogsRequest, stream pluginpb.Control_LogsServer) error {
	control, err := s.host.Control(TokenOf(stream.Context()))
	if err != nil {
		return ToStatus(err)
	}
	logs, err := control.Logs(stream.Context(), LogAsk{After: r.GetAfter(), Script: r.GetScript()})
	if err != nil {
		return ToStatus(err)
	}
	for {
		line, err := logs.Next()
		if err != nil {
			return ToStatus(err)
		}
		err = stream.Send(&pluginpb.LogLine{
			Seq: line.Seq, TimeMs: line.Time.UnixMilli(), Script: line.Script, Digest: line.Digest[:], Level: line.Level, Text: line.Text, Lost: line.Lost,
		})
		if err != nil {
			return err
		}
	}
}
