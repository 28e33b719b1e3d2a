package sync

import (
	"context"
	"net"
	"time"

	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/proto/pluginpb"
)

// Host finds a session by its token, or fails with control.ErrSession.
type Host interface {
	Sync(token string) (Transformer, error)
}

// Serve answers one line, whose Preface was read, until either end closes it.
func Serve(conn net.Conn, h Host) {
	l := control.NewLine(conn)
	defer l.Close()
	var hello pluginpb.SyncHello
	if l.Receive(&hello) != nil {
		return
	}
	transformer, err := h.Sync(hello.GetSession())
	var welcome pluginpb.SyncWelcome
	if err != nil {
		welcome.Refused = control.Refusal(err)
	}
	if l.Send(&welcome) != nil || err != nil {
		return
	}
	for {
		var r pluginpb.SyncRequest
		if l.Receive(&r) != nil || l.Send(run(transformer, &r)) != nil {
			return
		}
	}
}

func run(t Transformer, r *pluginpb.SyncRequest) *pluginpb.SyncResponse {
	ctx := context.Background()
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
		return &pluginpb.SyncResponse{Refused: control.Refusal(err)}
	}
	answer := &pluginpb.SyncResponse{
		Unchanged: result.Unchanged, Records: result.Records, CpuNs: int64(result.CPU),
		RecordsIn: int32(result.RecordsIn), RecordsOut: int32(result.RecordsOut),
	}
	if f := result.Failure; f != nil {
		answer.Failure = &pluginpb.SyncFailure{Source: int32(f.Source), Kind: int32(f.Kind), Text: f.Text}
	}
	return answer
}
