package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// DefaultPort is where the admin API listens unless told otherwise.
const DefaultPort = 9644

const (
	headerWaitMax = 10 * time.Second // a client that is slower with its headers is not one
	idleMax       = 2 * time.Minute
	headerBytes   = 64 << 10
)

// Options is what a Server needs. All doors are required; Metrics may be nil.
type Options struct {
	Cluster Cluster
	Node    Node
	Configs Configs
	Scripts Scripts
	Operate Operate
	Metrics http.Handler // served at /metrics
	Log     *slog.Logger // nil: slog.Default
	Version string       // of the build, for the OpenAPI document
	// Remote takes changes from other machines too. Until the admin API knows
	// a login, whoever reaches it may then deploy code.
	Remote bool
}

// Server is the admin front. Its methods may be called from any goroutine.
type Server struct {
	o       Options
	log     *slog.Logger
	api     huma.API
	handler http.Handler
	http    *http.Server
	stop    context.CancelFunc // ends requests that would last, such as logs -f
	deploys chan struct{}      // a place for each deployment under way
}

// New builds the front; it listens to nothing until Serve.
func New(o Options) (*Server, error) {
	if o.Cluster == nil || o.Node == nil || o.Configs == nil || o.Scripts == nil || o.Operate == nil {
		return nil, errors.New("admin: Cluster, Node, Configs, Scripts and Operate are required")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	base, stop := context.WithCancel(context.Background())
	s := &Server{o: o, log: o.Log, stop: stop, deploys: make(chan struct{}, deploysMax)}
	mux := http.NewServeMux()
	s.api = newAPI(mux, o.Version)
	s.routeNode()
	s.routeCluster()
	s.routeDrain()
	s.routeMaintenance()
	s.routeBalance()
	s.routeConfig()
	s.routeScripts()
	s.routeFeatures()
	s.routeSelfTest()
	s.routePlain(mux)
	s.handler = s.guard(mux)
	s.http = &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerWaitMax,
		IdleTimeout:       idleMax,
		MaxHeaderBytes:    headerBytes,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

func newAPI(mux *http.ServeMux, version string) huma.API {
	c := huma.DefaultConfig("Millrace admin API", version)
	c.Info.Description = "Scripts, settings, health and metrics of a Millrace broker. " +
		"Errors are application/problem+json whose detail says what was tried and what to do next."
	c.DocsPath = ""     // its pages load scripts from other servers; ours is in page.go
	c.CreateHooks = nil // no $schema fields in answers
	c.SchemasPath = ""
	return humago.New(mux, c)
}

// Handler is the whole front, for tests and for a server that shares a port.
func (s *Server) Handler() http.Handler { return s.handler }

// OpenAPI is the document that /openapi.json serves.
func (s *Server) OpenAPI() *huma.OpenAPI { return s.api.OpenAPI() }

// Serve answers connections of l until Close; it then returns nil.
func (s *Server) Serve(l net.Listener) error {
	if s.o.Remote && !isLoopback(l.Addr().String()) {
		s.log.Warn("admin api takes changes from other machines, without a login", "addr", l.Addr().String())
	}
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin api on %s: %w", l.Addr(), err)
	}
	return nil
}

// Close ends lasting requests, waits for the others until ctx ends, then cuts
// them off.
func (s *Server) Close(ctx context.Context) error {
	s.stop()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("drain admin api: %w", err), s.http.Close())
	}
	return nil
}
