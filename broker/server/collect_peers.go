package server

import (
	"strconv"
	"time"

	"github.com/millrace-io/millrace/broker/metrics"
	"github.com/millrace-io/millrace/broker/raft"
)

// called counts the calls that this node makes.
func (s *Server) called() func(m raft.Method, took time.Duration, err error) {
	calls := metrics.NewCalls(s.registry)
	return func(m raft.Method, took time.Duration, err error) { calls.Called(m.String(), took, err) }
}

func (s *Server) samplePeers() []metrics.PeerSample {
	var samples []metrics.PeerSample
	for _, p := range s.raft.Traffic() {
		samples = append(samples, metrics.PeerSample{
			Node: strconv.Itoa(int(p.Node)), SentBytes: float64(p.SentBytes), ReceivedBytes: float64(p.ReceivedBytes),
			SentMessages: float64(p.SentMessages), ReceivedMessages: float64(p.ReceivedMessages),
			LostMessages: float64(p.LostMessages), Connections: float64(p.Connections),
		})
	}
	return samples
}

func (s *Server) samplePulls() metrics.PullSample {
	taken := s.taker.Counts()
	given, leases := s.giver.Given()
	return metrics.PullSample{
		TakenBytes: float64(taken.Bytes), GivenBytes: float64(given), Failures: float64(taken.Failures),
		WaitedSeconds: taken.Waited.Seconds(), UnderWay: float64(taken.UnderWay), Leases: float64(leases),
	}
}
