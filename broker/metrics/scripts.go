package metrics

import "time"

// ScriptSample is one script on this node at a scrape: sums since the start of
// the process, and where it stands now.
type ScriptSample struct {
	Script, Mode                    string
	In, Out, Failed, Dropped, Retry float64 // records
	DLQ                             float64 // records
	CPU                             float64 // seconds
	LagRecords, LagSeconds          float64 // of its fibers on this node: sum and largest
	FibersRunning, FibersParked     float64
}

// Scripts asks f at every scrape for the scripts of this node.
func Scripts(r *Registry, f func() []ScriptSample) {
	labels := []string{"script", "mode"}
	total := func(noun, unit, help string) Family {
		return Family{Opts: Opts{"script", noun, unit, help}, Labels: labels, Total: true, Max: scriptsMax}
	}
	now := func(noun, unit, help string) Family {
		return Family{Opts: Opts{"script", noun, unit, help}, Labels: labels, Max: scriptsMax}
	}
	families := []Family{
		total("in", "records", "Records that the script was given."),
		total("out", "records", "Records that it gave."),
		total("failed", "errors", "Records that it failed on, after retries."),
		total("dropped", "records", "Records that it left out."),
		total("retried", "records", "Records that it was given once more after a failure."),
		total("dlq", "records", "Records written to its dead-letter topic."),
		total("cpu", "seconds", "CPU time that it took."),
		now("lag", "records", "Parent records that its fibers on this node have not taken yet."),
		now("lag", "seconds", "Age of the oldest parent record that a fiber on this node has not taken yet."),
		now("running", "fibers", "Its fibers that run on this node."),
		now("parked", "fibers", "Its fibers that stopped on this node, with a reason that describe shows."),
	}
	r.Collect(families, func() [][]Sample {
		out := make([][]Sample, len(families))
		for _, s := range f() {
			l := []string{s.Script, s.Mode}
			values := []float64{s.In, s.Out, s.Failed, s.Dropped, s.Retry, s.DLQ, s.CPU, s.LagRecords, s.LagSeconds, s.FibersRunning, s.FibersParked}
			for i, v := range values {
				out[i] = append(out[i], Sample{l, v})
			}
		}
		return out
	})
}

// ScriptTimes measures calls into scripts.
type ScriptTimes struct {
	sync, async *HistogramVec
	passed      *CounterVec
	up          *Gauge
	restarts    *Counter
}

// NewScriptTimes makes the metrics of calls into scripts and of the sidecar.
func NewScriptTimes(r *Registry) *ScriptTimes {
	by := Bound{Labels: []string{"script"}, Max: scriptsMax}
	return &ScriptTimes{
		sync:     r.HistogramVec(Opts{"script", "sync_call", "seconds", "Time that a sync script added to one batch."}, by, Latency()),
		async:    r.HistogramVec(Opts{"script", "async_call", "seconds", "Time of one call of an async script."}, by, Latency()),
		passed:   r.CounterVec(Opts{"script", "passed", "batches", "Batches that went through unchanged since the script missed its budget under the policy pass."}, by),
		up:       r.Gauge(Opts{"sidecar", "up", "state", "1 while the sidecar answers."}),
		restarts: r.Counter(Opts{"sidecar", "lost", "events", "Times that the sidecar was lost."}),
	}
}

// Sync counts one call of a sync script.
func (s *ScriptTimes) Sync(script string, took time.Duration) { s.sync.With(script).Since(took) }

// Async counts one call of an async script.
func (s *ScriptTimes) Async(script string, took time.Duration) { s.async.With(script).Since(took) }

// Passed counts a batch let through unchanged.
func (s *ScriptTimes) Passed(script string) { s.passed.With(script).Inc() }

// SidecarUp says whether the sidecar answers.
func (s *ScriptTimes) SidecarUp(up bool) { s.up.Set(truth(up)) }

// SidecarLost counts a loss.
func (s *ScriptTimes) SidecarLost() { s.restarts.Inc() }

// Forget drops the metrics of a script that is gone.
func (s *ScriptTimes) Forget(script string) {
	s.sync.Forget(script)
	s.async.Forget(script)
	s.passed.Forget(script)
}

// Build shows a node's version as a constant 1.
func Build(r *Registry, version, revision string) {
	r.Collect([]Family{{Opts: Opts{"build", "", "info", "The running build."}, Labels: []string{"version", "revision"}, Max: 1}},
		func() [][]Sample { return [][]Sample{{{Labels: []string{version, revision}, Value: 1}}} })
}
