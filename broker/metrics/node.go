package metrics

import (
	"maps"
	"slices"
)

// unfitMax bounds the reasons why a node should not lead.
const unfitMax = 16

// Unfit asks f at every scrape why this node should not lead, by reason: false ones do
// not hold now.
func Unfit(r *Registry, f func() map[string]bool) {
	family := Family{
		Opts:   Opts{"node", "unfit", "state", "1 where this node should not lead, by reason."},
		Labels: []string{"reason"}, Max: unfitMax,
	}
	r.Collect([]Family{family}, func() [][]Sample {
		reasons := f()
		var samples []Sample
		for _, name := range slices.Sorted(maps.Keys(reasons)) {
			samples = append(samples, Sample{[]string{name}, truth(reasons[name])})
		}
		return [][]Sample{samples}
	})
}
