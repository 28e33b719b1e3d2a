package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Sample is one value of a Family.
type Sample struct {
	Labels []string // values, in the family's order
	Value  float64
}

// Family is a metric whose samples are asked for at every scrape: what has one
// value per partition, group or script costs nothing between two scrapes.
type Family struct {
	Opts
	Labels []string
	Total  bool // a counter: the values only grow
	Max    int  // samples given at most; the rest is left out
}

// Collect asks f for all families' samples at every scrape: f gives one list
// per family, in order. f answers from memory and may run on several
// goroutines at once.
func (r *Registry) Collect(families []Family, f func() [][]Sample) {
	c := &collector{f: f}
	for _, fam := range families {
		name, kind := fam.name(), prometheus.GaugeValue
		if fam.Total {
			name, kind = name+"_total", prometheus.CounterValue
		}
		c.families = append(c.families, described{Family: fam, kind: kind, desc: prometheus.NewDesc(name, fam.Help, fam.Labels, nil)})
	}
	r.p.MustRegister(c)
}

type described struct {
	Family
	kind prometheus.ValueType
	desc *prometheus.Desc
}

type collector struct {
	families []described
	f        func() [][]Sample
}

// Describe is part of prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for i := range c.families {
		out <- c.families[i].desc
	}
}

// Collect is part of prometheus.Collector. A combination given twice counts
// once, the first one: the client would refuse the whole scrape otherwise.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	lists := c.f()
	must(len(lists) == len(c.families), "%d families, %d lists of samples", len(c.families), len(lists))
	for i := range c.families {
		fam := &c.families[i]
		seen := map[string]bool{}
		for _, s := range lists[i] {
			key := join(s.Labels)
			if seen[key] || len(seen) >= fam.Max || len(s.Labels) != len(fam.Labels) {
				continue
			}
			seen[key] = true
			out <- prometheus.MustNewConstMetric(fam.desc, fam.kind, s.Value, valid(s.Labels)...)
		}
	}
}
