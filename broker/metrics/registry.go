package metrics

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Registry holds a node's metrics.
type Registry struct{ p *prometheus.Registry }

// New gives a registry with the Go runtime's and the process's own metrics.
func New() *Registry {
	r := &Registry{p: prometheus.NewRegistry()}
	r.p.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// scrapesMax is how many scrapes are answered at once; the next gets 503.
const scrapesMax = 4

// Handler serves the registry in Prometheus' text format.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.p, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesMax, Registry: r.p})
}

// Room names the part of the broker that measures.
type Room string

// units are what names may end with, before _total.
var units = []string{"seconds", "bytes", "records", "entries", "requests", "connections", "partitions", "batches", "errors", "offsets", "ratio", "info", "scripts", "fibers", "segments", "events", "state", "syncs", "files", "replicas", "messages"}

var word = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// Name builds millrace_<room>_<noun>_<unit>. An empty noun is left out. A name
// that breaks the rule is a broken invariant: names are constants.
func Name(room Room, noun, unit string) string {
	must(word.MatchString(string(room)) && (noun == "" || word.MatchString(noun)), "metric %s %s: want lower-case words", room, noun)
	must(slices.Contains(units, unit), "metric %s %s: unit %q is not one of %s", room, noun, unit, strings.Join(units, ", "))
	parts := slices.DeleteFunc([]string{"millrace", string(room), noun, unit}, func(s string) bool { return s == "" })
	return strings.Join(parts, "_")
}

// Opts describe a metric.
type Opts struct {
	Room Room
	Noun string
	Unit string
	Help string
}

func (o Opts) name() string { return Name(o.Room, o.Noun, o.Unit) }

func must(holds bool, format string, args ...any) {
	if !holds {
		panic("metrics: broken invariant: " + fmt.Sprintf(format, args...))
	}
}
