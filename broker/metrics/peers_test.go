package metrics

import (
	"errors"
	"testing"
	"time"
)

func TestPeers(t *testing.T) {
	r := New()
	calls := NewCalls(r)
	calls.Called("leaders", time.Millisecond, nil)
	calls.Called("leaders", time.Millisecond, errors.New("refused"))
	Peers(r, func() []PeerSample {
		return []PeerSample{{Node: "1", SentBytes: 10, ReceivedBytes: 20, SentMessages: 3, ReceivedMessages: 4, LostMessages: 5, Connections: 2}}
	})
	Pulls(r, func() PullSample {
		return PullSample{TakenBytes: 1, GivenBytes: 2, Failures: 3, WaitedSeconds: 4, UnderWay: 5, Leases: 6}
	})
	wantLines(t, scrape(t, r),
		`millrace_rpc_call_latency_seconds_count{method="leaders"} 2`,
		`millrace_rpc_call_errors_total{method="leaders"} 1`,
		`millrace_rpc_sent_bytes_total{node="1"} 10`,
		`millrace_rpc_received_bytes_total{node="1"} 20`,
		`millrace_rpc_sent_messages_total{node="1"} 3`,
		`millrace_rpc_received_messages_total{node="1"} 4`,
		`millrace_rpc_lost_messages_total{node="1"} 5`,
		`millrace_rpc_open_connections{node="1"} 2`,
		`millrace_pull_taken_bytes_total 1`,
		`millrace_pull_given_bytes_total 2`,
		`millrace_pull_failed_events_total 3`,
		`millrace_pull_rate_wait_seconds_total 4`,
		`millrace_pull_taking_replicas 5`,
		`millrace_pull_giving_replicas 6`,
	)
}
