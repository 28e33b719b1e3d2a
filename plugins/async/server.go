package async

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/proto/pluginpb"
	"google.golang.org/grpc"
)

// Host finds a session by its token, or fails with control.ErrSession.
type Host interface {
	Async(token string) (Opener, error)
}

// Serve answers the kind on a server.
func Serve(r grpc.ServiceRegistrar, h Host) { pluginpb.RegisterAsyncServer(r, &server{host: h}) }

type server struct {
	pluginpb.UnimplementedAsyncServer
	host Host
}

// Fiber implements the service: the stream's life is the fiber's.
func (s *server) Fiber(stream pluginpb.Async_FiberServer) error {
	opener, err := s.host.Async(control.TokenOf(stream.Context()))
	if err != nil {
		return control.ToStatus(err)
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetOpen() == nil {
		return control.ToStatus(fmt.Errorf("%w: a fiber's first message does not open it", control.ErrRequest))
	}
	fiber, err := opener.Open(stream.Context(), specFrom(first.GetOpen()))
	if err != nil {
		return stream.Send(&pluginpb.FiberResponse{Refused: control.Refusal(err)})
	}
	defer fiber.Close()
	if err := stream.Send(&pluginpb.FiberResponse{Opened: true}); err != nil {
		return err
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(transform(stream.Context(), fiber, r.GetBatch())); err != nil {
			return err
		}
	}
}

func specFrom(o *pluginpb.FiberOpen) FiberSpec {
	s := FiberSpec{
		Script: model.ScriptID(o.GetScript()), Activation: model.Activation(o.GetActivation()), Topic: o.GetTopic(),
		Input: int(o.GetInput()), Retries: int(o.GetRetries()), Parent: model.PartitionID{Index: o.GetPartition()},
	}
	copy(s.Digest[:], o.GetDigest())
	copy(s.Parent.Topic[:], o.GetTopicId())
	for _, out := range o.GetOutputs() {
		s.Outputs = append(s.Outputs, Output{Partitions: out.GetPartitions(), Routing: Routing(out.GetRouting()), Codec: Codec(out.GetCodec())})
	}
	return s
}

func transform(ctx context.Context, f Fiber, b *pluginpb.AsyncBatch) *pluginpb.FiberResponse {
	batch := Batch{From: model.Offset(b.GetFrom()), To: model.Offset(b.GetTo()), Records: b.GetRecords()}
	for _, offset := range b.GetAvoid() {
		batch.Avoid = append(batch.Avoid, model.Offset(offset))
	}
	r, err := f.Transform(ctx, batch)
	if err != nil {
		return &pluginpb.FiberResponse{Refused: control.Refusal(err)}
	}
	answer := &pluginpb.FiberResponse{
		RecordsIn: r.RecordsIn, RecordsOut: r.RecordsOut, RecordsDropped: r.RecordsDropped, CpuNs: int64(r.CPU),
	}
	for _, o := range r.Outputs {
		answer.Outputs = append(answer.Outputs, &pluginpb.OutputBatches{Output: int32(o.Output), Partition: o.Partition, Batches: o.Batches})
	}
	for _, bad := range r.Failed {
		answer.Failed = append(answer.Failed, &pluginpb.FailedRecord{Offset: int64(bad.Offset), Kind: int32(bad.Kind), Text: bad.Text})
	}
	return answer
}
