package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/millrace-io/millrace/broker/admin/api"
)

type scriptAsk struct {
	Name string `path:"name" doc:"The script's name" maxLength:"249"`
}

type seekAsk struct {
	Name string `path:"name" maxLength:"249"`
	Body api.SeekAsk
}

type logsAsk struct {
	Name   string    `path:"name" maxLength:"249"`
	Since  time.Time `query:"since" doc:"Only lines after this moment"`
	Tail   int       `query:"tail" default:"-1" doc:"Only the last so many lines; below 0 all that are kept"`
	Follow bool      `query:"follow" doc:"Go on with new lines until the client leaves"`
}

func (s *Server) routeScripts() {
	huma.Register(s.api, huma.Operation{
		OperationID: "list-scripts", Method: http.MethodGet, Path: "/v1/scripts", Tags: []string{"scripts"},
		Summary: "What is deployed, against what runs on each node and partition",
	}, func(ctx context.Context, _ *struct{}) (*answer[[]api.ScriptStatus], error) {
		return ok(s.o.Scripts.List(ctx))
	})
	huma.Register(s.api, huma.Operation{
		OperationID: "get-script", Method: http.MethodGet, Path: "/v1/scripts/{name}", Tags: []string{"scripts"},
		Summary: "One script with its state, lag, counters and last errors",
	}, func(ctx context.Context, ask *scriptAsk) (*answer[api.ScriptStatus], error) {
		return ok(s.o.Scripts.Describe(ctx, ask.Name))
	})
	s.routeDeploy()
	s.steer("remove-script", http.MethodDelete, "/v1/scripts/{name}",
		"Remove a script; its child topics stay", s.o.Scripts.Remove)
	s.steer("pause-script", http.MethodPost, "/v1/scripts/{name}/pause",
		"Take no more records until resumed", s.o.Scripts.Pause)
	s.steer("resume-script", http.MethodPost, "/v1/scripts/{name}/resume",
		"Go on where it was paused or stopped", s.o.Scripts.Resume)
	huma.Register(s.api, huma.Operation{
		OperationID: "seek-script", Method: http.MethodPost, Path: "/v1/scripts/{name}/seek", Tags: []string{"scripts"},
		Summary: "Move a script to a position of its inputs",
	}, func(ctx context.Context, ask *seekAsk) (*answer[api.SeekAnswer], error) {
		ask.Body.Name = ask.Name
		return ok(s.o.Scripts.Seek(ctx, ask.Body))
	})
	huma.Register(s.api, huma.Operation{
		OperationID: "get-script-logs", Method: http.MethodGet, Path: "/v1/scripts/{name}/logs", Tags: []string{"scripts"},
		Summary:   "What a script printed, as one JSON object (LogLine) a line",
		Responses: map[string]*huma.Response{"200": {Description: "Lines", Content: map[string]*huma.MediaType{"application/x-ndjson": {}}}},
	}, s.logs)
}

// steer registers a verb that answers with nothing but whether it is done.
func (s *Server) steer(id, method, path, summary string, do func(context.Context, string) error) {
	huma.Register(s.api, huma.Operation{
		OperationID: id, Method: method, Path: path, Tags: []string{"scripts"},
		Summary: summary, DefaultStatus: http.StatusNoContent,
	}, func(ctx context.Context, ask *scriptAsk) (*struct{}, error) {
		return nil, problem(do(ctx, ask.Name))
	})
}

// logs streams lines as they come. The status is sent with the first line, so
// that a script which does not exist is still a 404.
func (s *Server) logs(ctx context.Context, ask *logsAsk) (*huma.StreamResponse, error) {
	if _, err := s.o.Scripts.Describe(ctx, ask.Name); err != nil {
		return nil, problem(err)
	}
	stream := func(hc huma.Context) {
		hc.SetHeader("Content-Type", "application/x-ndjson")
		hc.SetStatus(http.StatusOK)
		w := hc.BodyWriter()
		flush := func() {}
		if f, is := w.(http.Flusher); is {
			flush = f.Flush
		}
		flush()
		lines := json.NewEncoder(w)
		err := s.o.Scripts.Logs(hc.Context(), api.LogsAsk{
			Name: ask.Name, Since: ask.Since, Tail: ask.Tail, Follow: ask.Follow,
		}, func(l api.LogLine) error {
			if err := lines.Encode(l); err != nil {
				return err
			}
			flush()
			return nil
		})
		if err != nil && hc.Context().Err() == nil {
			lines.Encode(api.LogLine{Time: time.Now().UTC(), Node: -1, Script: ask.Name, Level: "error", Text: "log stream ends: " + err.Error()})
		}
	}
	return &huma.StreamResponse{Body: stream}, nil
}
