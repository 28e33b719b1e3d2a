package metrics

import "time"

// peersMax bounds the nodes that are told apart; methodsMax the kinds of calls.
const peersMax, methodsMax = 256, 64

// PeerSample is what went between this node and another since the start.
type PeerSample struct {
	Node                           string // decimal
	SentBytes, ReceivedBytes       float64
	SentMessages, ReceivedMessages float64
	LostMessages                   float64
	Connections                    float64 // now
}

// Peers asks f at every scrape for node-to-node traffic.
func Peers(r *Registry, f func() []PeerSample) {
	fam := func(noun, unit, help string, total bool) Family {
		return Family{Opts: Opts{"rpc", noun, unit, help}, Labels: []string{"node"}, Total: total, Max: peersMax}
	}
	families := []Family{
		fam("sent", "bytes", "Bytes of frames sent to a node.", true),
		fam("received", "bytes", "Bytes of frames received from a node.", true),
		fam("sent", "messages", "Raft's messages sent to a node.", true),
		fam("received", "messages", "Raft's messages received from a node.", true),
		fam("lost", "messages", "Raft's messages to a node that were not sent since their connection was over.", true),
		fam("open", "connections", "Open connections with a node, both ways.", false),
	}
	r.Collect(families, func() [][]Sample {
		out := make([][]Sample, len(families))
		for _, p := range f() {
			l := []string{p.Node}
			for i, v := range []float64{p.SentBytes, p.ReceivedBytes, p.SentMessages, p.ReceivedMessages, p.LostMessages, p.Connections} {
				out[i] = append(out[i], Sample{l, v})
			}
		}
		return out
	})
}

// Calls measures what this node asks others for.
type Calls struct {
	latency *HistogramVec
	errors  *CounterVec
}

// NewCalls makes the metrics of calls between nodes.
func NewCalls(r *Registry) *Calls {
	by := Bound{Labels: []string{"method"}, Max: methodsMax}
	return &Calls{
		latency: r.HistogramVec(Opts{"rpc", "call_latency", "seconds", "From a call of another node to its answer, by method."}, by, Latency()),
		errors:  r.CounterVec(Opts{"rpc", "call", "errors", "Calls of other nodes that failed or were refused, by method."}, by),
	}
}

// Called counts one call.
func (c *Calls) Called(method string, took time.Duration, err error) {
	c.latency.With(method).Since(took)
	if err != nil {
		c.errors.With(method).Inc()
	}
}

// PullSample is what partitions' files were taken from other nodes, and given, since the
// start.
type PullSample struct {
	TakenBytes, GivenBytes float64
	Failures               float64
	WaitedSeconds          float64
	UnderWay, Leases       float64 // now
}

// Pulls asks f at every scrape.
func Pulls(r *Registry, f func() PullSample) {
	fam := func(noun, unit, help string, total bool) Family {
		return Family{Opts: Opts{"pull", noun, unit, help}, Total: total, Max: 1}
	}
	families := []Family{
		fam("taken", "bytes", "Bytes of partitions' files taken from other nodes.", true),
		fam("given", "bytes", "Bytes of partitions' files given to other nodes.", true),
		fam("failed", "events", "Tries to take a partition that ended with an error; they are repeated.", true),
		fam("rate_wait", "seconds", "Time that partitions being taken waited for recovery_rate, together.", true),
		fam("taking", "replicas", "Replicas whose files are being taken.", false),
		fam("giving", "replicas", "Replicas whose files are kept for other nodes that take them.", false),
	}
	r.Collect(families, func() [][]Sample {
		s := f()
		out := make([][]Sample, len(families))
		for i, v := range []float64{s.TakenBytes, s.GivenBytes, s.Failures, s.WaitedSeconds, s.UnderWay, s.Leases} {
			out[i] = []Sample{{nil, v}}
		}
		return out
	})
}
