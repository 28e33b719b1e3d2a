package metrics

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Other is the value of every label of the combination that counts what is
// beyond a Vec's limit.
const Other = "other"

// children gives out one child per combination of label values, at most max,
// and one more for the rest. Reading is without lock after the first use.
type children[T any] struct {
	labels int
	max    int
	make   func(values ...string) *T
	drop   func(values ...string)

	known sync.Map // joined values -> *T
	mu    sync.Mutex
	n     int // of known, without the one for the rest; guarded by mu
	rest  *T  // guarded by mu
}

// join makes a key of label values; 0xff is in no valid UTF-8.
func join(values []string) string { return strings.Join(values, "\xff") }

func (c *children[T]) with(values []string) *T {
	must(len(values) == c.labels, "a metric with %d labels is given %d values", c.labels, len(values))
	key := ""
	if len(values) == 1 {
		key = values[0]
	} else {
		key = join(values)
	}
	if t, ok := c.known.Load(key); ok {
		return t.(*T)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.known.Load(key); ok {
		return t.(*T)
	}
	if c.n >= c.max {
		if c.rest == nil {
			others := make([]string, c.labels)
			for i := range others {
				others[i] = Other
			}
			c.rest = c.make(others...)
		}
		return c.rest
	}
	t := c.make(valid(values)...)
	c.known.Store(strings.Clone(key), t)
	c.n++
	return t
}

// valid makes every value UTF-8: anything else would break the exposition.
func valid(values []string) []string {
	clean := make([]string, len(values))
	for i, v := range values {
		clean[i] = strings.ToValidUTF8(v, "?")
	}
	return clean
}

// forget drops a combination, so that its place is free.
func (c *children[T]) forget(values []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.known.LoadAndDelete(join(values)); ok {
		c.n--
		c.drop(valid(values)...)
	}
}

// CounterVec is a counter per combination of label values.
type CounterVec struct{ c children[Counter] }

// With gives the combination's counter. Keep it where it is counted often.
func (v *CounterVec) With(values ...string) *Counter {
	if v == nil {
		return nil
	}
	return v.c.with(values)
}

// Forget drops a combination: what it counted is gone.
func (v *CounterVec) Forget(values ...string) { v.c.forget(values) }

// GaugeVec is a gauge per combination of label values.
type GaugeVec struct{ c children[Gauge] }

// With gives the combination's gauge.
func (v *GaugeVec) With(values ...string) *Gauge {
	if v == nil {
		return nil
	}
	return v.c.with(values)
}

// Forget drops a combination.
func (v *GaugeVec) Forget(values ...string) { v.c.forget(values) }

// HistogramVec is a histogram per combination of label values.
type HistogramVec struct{ c children[Histogram] }

// With gives the combination's histogram.
func (v *HistogramVec) With(values ...string) *Histogram {
	if v == nil {
		return nil
	}
	return v.c.with(values)
}

// Forget drops a combination.
func (v *HistogramVec) Forget(values ...string) { v.c.forget(values) }

// Bound says which labels a Vec has, and how many combinations at most.
type Bound struct {
	Labels []string
	Max    int
}

// CounterVec makes a counter with labels.
func (r *Registry) CounterVec(o Opts, b Bound) *CounterVec {
	p := prometheus.NewCounterVec(prometheus.CounterOpts{Name: o.name() + "_total", Help: o.Help}, b.Labels)
	r.p.MustRegister(p)
	return &CounterVec{children[Counter]{labels: len(b.Labels), max: b.Max,
		make: func(values ...string) *Counter { return &Counter{p.WithLabelValues(values...)} },
		drop: func(values ...string) { p.DeleteLabelValues(values...) }}}
}

// GaugeVec makes a gauge with labels.
func (r *Registry) GaugeVec(o Opts, b Bound) *GaugeVec {
	p := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: o.name(), Help: o.Help}, b.Labels)
	r.p.MustRegister(p)
	return &GaugeVec{children[Gauge]{labels: len(b.Labels), max: b.Max,
		make: func(values ...string) *Gauge { return &Gauge{p.WithLabelValues(values...)} },
		drop: func(values ...string) { p.DeleteLabelValues(values...) }}}
}

// HistogramVec makes a histogram with labels.
func (r *Registry) HistogramVec(o Opts, b Bound, bounds []float64) *HistogramVec {
	p := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: o.name(), Help: o.Help, Buckets: bounds}, b.Labels)
	r.p.MustRegister(p)
	return &HistogramVec{children[Histogram]{labels: len(b.Labels), max: b.Max,
		make: func(values ...string) *Histogram { return &Histogram{p.WithLabelValues(values...)} },
		drop: func(values ...string) { p.DeleteLabelValues(values...) }}}
}
