package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/millrace-io/millrace/broker/admin/api"
)

const (
	// deploysMax bounds the modules in memory: each deployment holds up to
	// api.ModuleBytesMax until it is decided.
	deploysMax = 2
	// uploadTimeMax is how long a module may take to arrive.
	uploadTimeMax = 2 * time.Minute
	// partsMax is how many parts a deployment's form may have: the two we
	// read, and a few that a generous client adds.
	partsMax = 8
)

// deployAsk reads its own body, part by part: huma would spool it to disk.
type deployAsk struct {
	Name         string `path:"name" doc:"The script's name" maxLength:"249"`
	Start        string `query:"start" doc:"Position asked for (end, start, @time, +n, -n); empty: the manifest's, or where a known script stands"`
	AllowMissing bool   `query:"allow_missing" doc:"Inputs may not exist yet"`
	Wait         bool   `query:"wait" doc:"Answer when it runs wherever it has to"`

	manifest, module []byte
}

// Resolve reads the form; it is the first to touch the body.
func (d *deployAsk) Resolve(hc huma.Context) []error {
	if err := d.read(hc); err != nil {
		return []error{problem(err)}
	}
	return nil
}

func (d *deployAsk) read(hc huma.Context) error {
	if err := hc.SetReadDeadline(time.Now().Add(uploadTimeMax)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("limit the time of an upload: %w", err)
	}
	kind, params, err := mime.ParseMediaType(hc.Header("Content-Type"))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return fmt.Errorf("%w: want multipart/form-data with the parts manifest and module, got %q", api.ErrInvalid, hc.Header("Content-Type"))
	}
	form := multipart.NewReader(hc.BodyReader(), params["boundary"])
	for range partsMax {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return d.check()
		}
		if err != nil {
			return fmt.Errorf("%w: read the form: %v", api.ErrInvalid, err)
		}
		switch part.FormName() {
		case "manifest":
			d.manifest, err = readPart(part, "manifest", api.ManifestBytesMax)
		case "module":
			d.module, err = readPart(part, "module", api.ModuleBytesMax)
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: the form has more than %d parts", api.ErrInvalid, partsMax)
}

func (d *deployAsk) check() error {
	switch {
	case len(d.manifest) == 0:
		return fmt.Errorf("%w: the form has no part manifest", api.ErrInvalid)
	case len(d.module) == 0:
		return fmt.Errorf("%w: the form has no part module", api.ErrInvalid)
	}
	return nil
}

// readPart grows as bytes arrive, up to max.
func readPart(part io.Reader, name string, max int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(part, max+1))
	if err != nil {
		return nil, fmt.Errorf("%w: read part %s after %d bytes: %v", api.ErrInvalid, name, len(b), err)
	}
	if int64(len(b)) > max {
		return nil, fmt.Errorf("%w: the %s has more than %d bytes", api.ErrTooLarge, name, max)
	}
	return b, nil
}

func (s *Server) routeDeploy() {
	binary := &huma.Schema{Type: huma.TypeString, Format: "binary"}
	huma.Register(s.api, huma.Operation{
		OperationID: "deploy-script", Method: http.MethodPut, Path: "/v1/scripts/{name}", Tags: []string{"scripts"},
		Summary:     "Deploy a script, or deploy it anew under its name",
		Middlewares: huma.Middlewares{s.oneDeploy},
	}, func(ctx context.Context, ask *deployAsk) (*answer[api.DeployAnswer], error) {
		return ok(s.o.Scripts.Deploy(ctx, api.DeployAsk{
			Name: ask.Name, Manifest: ask.manifest, Module: ask.module,
			Start: ask.Start, AllowMissing: ask.AllowMissing, Wait: ask.Wait,
		}))
	})
	// Described only now: huma would read a body that it knows of by itself.
	s.api.OpenAPI().Paths["/v1/scripts/{name}"].Put.RequestBody = &huma.RequestBody{
		Required: true, Content: map[string]*huma.MediaType{
			"multipart/form-data": {Schema: &huma.Schema{
				Type: huma.TypeObject, Required: []string{"manifest", "module"},
				Properties: map[string]*huma.Schema{"manifest": binary, "module": binary},
			}},
		},
	}
}

// oneDeploy takes one of the deployments' places before the body is read.
func (s *Server) oneDeploy(hc huma.Context, next func(huma.Context)) {
	select {
	case s.deploys <- struct{}{}:
		defer func() { <-s.deploys }()
		next(hc)
	default:
		huma.WriteErr(s.api, hc, http.StatusServiceUnavailable,
			fmt.Sprintf("%d deployments are under way here; try again when one is done", deploysMax))
	}
}
