package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Counter counts up from the start of the process. nil counts nothing.
type Counter struct{ p prometheus.Counter }

// Add counts n, which is not negative.
func (c *Counter) Add(n float64) {
	if c != nil {
		c.p.Add(n)
	}
}

// Inc counts one.
func (c *Counter) Inc() { c.Add(1) }

// Gauge is a value that goes up and down. nil holds nothing.
type Gauge struct{ p prometheus.Gauge }

// Set makes v the value.
func (g *Gauge) Set(v float64) {
	if g != nil {
		g.p.Set(v)
	}
}

// Add changes the value by d.
func (g *Gauge) Add(d float64) {
	if g != nil {
		g.p.Add(d)
	}
}

// Histogram counts observations in buckets. nil counts nothing.
type Histogram struct{ p prometheus.Observer }

// Observe counts v, in the metric's unit.
func (h *Histogram) Observe(v float64) {
	if h != nil {
		h.p.Observe(v)
	}
}

// Since counts the seconds that took passed.
func (h *Histogram) Since(took time.Duration) { h.Observe(took.Seconds()) }

// Counter makes a counter; its name ends in _total.
func (r *Registry) Counter(o Opts) *Counter {
	p := prometheus.NewCounter(prometheus.CounterOpts{Name: o.name() + "_total", Help: o.Help})
	r.p.MustRegister(p)
	return &Counter{p}
}

// Gauge makes a gauge.
func (r *Registry) Gauge(o Opts) *Gauge {
	p := prometheus.NewGauge(prometheus.GaugeOpts{Name: o.name(), Help: o.Help})
	r.p.MustRegister(p)
	return &Gauge{p}
}

// Histogram makes a histogram of the given upper bounds.
func (r *Registry) Histogram(o Opts, bounds []float64) *Histogram {
	p := prometheus.NewHistogram(prometheus.HistogramOpts{Name: o.name(), Help: o.Help, Buckets: bounds})
	r.p.MustRegister(p)
	return &Histogram{p}
}

// GaugeFunc asks f at every scrape. f answers from memory.
func (r *Registry) GaugeFunc(o Opts, f func() float64) {
	r.p.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: o.name(), Help: o.Help}, f))
}

// CounterFunc asks f, which only grows, at every scrape.
func (r *Registry) CounterFunc(o Opts, f func() float64) {
	r.p.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: o.name() + "_total", Help: o.Help}, f))
}

// Latency are bounds in seconds for what a client waits for: 50 us to 30 s.
func Latency() []float64 {
	return []float64{50e-6, 100e-6, 200e-6, 300e-6, 500e-6, 750e-6, 1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 7.5e-3,
		10e-3, 15e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5, 10, 30}
}

// Sizes are bounds in bytes: 64 B to 64 MiB by powers of four.
func Sizes() []float64 { return prometheus.ExponentialBuckets(64, 4, 11) }

// Counts are bounds of small counts: 1 to 64 Ki by powers of four.
func Counts() []float64 { return prometheus.ExponentialBuckets(1, 4, 9) }
