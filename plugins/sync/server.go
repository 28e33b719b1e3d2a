package sync

import (
	"context"
	"errors"
	"io"
	gosync "sync"
	"time"

	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/proto/pluginpb"
	"google.golang.org/grpc"
)

// underWayMax is how many batches of one stream run or wait for an instance;
// beyond it the stream is not read, and the broker's sends wait.
const underWayMax = 1024

// Host finds a session by its token, or fails with control.ErrSession.
type Host interface {
	Sync(token string) (Transformer, error)
}

// Serve answers the kind on a server.
func Serve(r grpc.ServiceRegistrar, h Host) { pluginpb.RegisterSyncServer(r, &server{host: h}) }

type server struct {
	pluginpb.UnimplementedSyncServer
	host Host
}

// Run implements the service.
func (s *server) Run(stream pluginpb.Sync_RunServer) error {
	transformer, err := s.host.Sync(control.TokenOf(stream.Context()))
	if err != nil {
		return control.ToStatus(err)
	}
	var sending gosync.Mutex
	var running gosync.WaitGroup
	defer running.Wait()
	places := make(chan struct{}, underWayMax)
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			answer := run(stream.Context(), transformer, r)
			sending.Lock()
			defer sending.Unlock()
			_ = stream.Send(answer) // the stream's end is seen by Recv
		})
	}
}

func run(ctx context.Context, t Transformer, r *pluginpb.SyncRequest) *pluginpb.SyncResponse {
	if r.GetTimeMaxNs() > 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(r.GetTimeMaxNs()))
		defer cancel()
		ctx = limited
	}
	b := Batch{Topic: r.GetTopic(), Partition: r.GetPartition(), Records: r.GetRecords()}
	copy(b.Digest[:], r.GetDigest())
	copy(b.TopicID[:], r.GetTopicId())
	result, err := t.Transform(ctx, b)
	if err != nil {
		return &pluginpb.SyncResponse{Id: r.GetId(), Refused: control.Refusal(err)}
	}
	answer := &pluginpb.SyncResponse{
		Id: r.GetId(), Unchanged: result.Unchanged, Records: result.Records, CpuNs: int64(result.CPU),
		RecordsIn: int32(result.RecordsIn), RecordsOut: int32(result.RecordsOut),
	}
	if f := result.Failure; f != nil {
		answer.Failure = &pluginpb.SyncFailure{Source: int32(f.Source), Kind: int32(f.Kind), Text: f.Text}
	}
	return answer
}
