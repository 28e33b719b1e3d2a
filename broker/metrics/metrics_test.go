package metrics

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// scrape gives the exposition's lines of our metrics.
func scrape(t *testing.T, r *Registry) string {
	t.Helper()
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	b, err := io.ReadAll(w.Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("scrape: %d %v %s", w.Code, err, b)
	}
	var ours []string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "millrace_") {
			ours = append(ours, line)
		}
	}
	return strings.Join(ours, "")
}

func wantLines(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains("\n"+got, "\n"+w+"\n") {
			t.Errorf("no line %q in:\n%s", w, got)
		}
	}
}

func TestSets(t *testing.T) {
	r := New()
	k, s, c := NewKafka(r), NewStorage(r), NewScriptTimes(r)
	Build(r, "1.2", "abc")
	k.Request("Produce", 2*time.Millisecond, 100, 50)
	k.Request("Produce", 3*time.Millisecond, 100, 50)
	k.Connections(4)
	k.Software("kgo")
	k.Refused()
	k.ProtocolError()
	s.Flushed(time.Millisecond, errors.New("EIO"))
	s.Applied(3, 300)
	s.Committed(time.Millisecond)
	s.Corrupt("orders")
	c.Sync("scrub", time.Millisecond)
	c.Async("scrub", time.Millisecond)
	c.Passed("scrub")
	c.SidecarUp(true)
	c.SidecarLost()
	wantLines(t, scrape(t, r),
		`millrace_build_info{revision="abc",version="1.2"} 1`,
		`millrace_kafka_answered_requests_total{api="Produce"} 2`,
		`millrace_kafka_request_latency_seconds_bucket{api="Produce",le="0.002"} 1`,
		`millrace_kafka_request_latency_seconds_count{api="Produce"} 2`,
		`millrace_kafka_received_bytes_total{api="Produce"} 200`,
		`millrace_kafka_open_connections 4`,
		`millrace_segment_sync_errors_total 1`,
		`millrace_core_applied_entries_total 3`,
		`millrace_segment_corrupt_errors_total{topic="orders"} 1`,
		`millrace_script_sync_call_seconds_count{script="scrub"} 1`,
		`millrace_sidecar_up_state 1`,
		`millrace_sidecar_lost_events_total 1`,
	)
	c.Forget("scrub")
	if got := scrape(t, r); strings.Contains(got, "scrub") {
		t.Errorf("a script that is gone is still there:\n%s", got)
	}
}

func TestCollected(t *testing.T) {
	r := New()
	Groups(r, func() []GroupSample {
		return []GroupSample{{Group: "g", Topic: "t", Partition: "0", Offset: 5, Lag: 3}, {Group: "g", Topic: "t", Partition: "1", Offset: 7, Lag: -1},
			{Group: "g", Topic: "t", Partition: "0", Offset: 9}, {Group: "bad \xff", Topic: "t", Partition: "0"}}
	})
	Partitions(r, func() []PartitionSample {
		return []PartitionSample{{Topic: "t", Partition: "0", LogStart: 1, High: 9, Bytes: 77, Leader: true}}
	})
	Scripts(r, func() []ScriptSample {
		return []ScriptSample{{Script: "s", Mode: "async", In: 10, Out: 7, Failed: 1, Dropped: 2, CPU: 0.5, LagRecords: 4, LagSeconds: 0.25, FibersRunning: 2}}
	})
	got := scrape(t, r)
	wantLines(t, got,
		`millrace_group_committed_offsets{group="g",partition="0",topic="t"} 5`,
		`millrace_group_lag_records{group="g",partition="0",topic="t"} 3`,
		`millrace_group_committed_offsets{group="g",partition="1",topic="t"} 7`,
		`millrace_group_committed_offsets{group="bad ?",partition="0",topic="t"} 0`,
		`millrace_partition_high_watermark_offsets{partition="0",topic="t"} 9`,
		`millrace_partition_leader_state{partition="0",topic="t"} 1`,
		`millrace_script_in_records_total{mode="async",script="s"} 10`,
		`millrace_script_cpu_seconds_total{mode="async",script="s"} 0.5`,
		`millrace_script_lag_records{mode="async",script="s"} 4`,
		`millrace_script_lag_seconds{mode="async",script="s"} 0.25`,
		`millrace_script_running_fibers{mode="async",script="s"} 2`,
	)
	if strings.Contains(got, `millrace_group_lag_records{group="g",partition="1"`) {
		t.Errorf("a lag that is not known is shown:\n%s", got)
	}
}

func TestLabelsAreBounded(t *testing.T) {
	r := New()
	v := r.CounterVec(Opts{"test", "bounded", "events", "x"}, Bound{Labels: []string{"a", "b"}, Max: 3})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 100 {
				v.With(fmt.Sprint(i), "x").Inc()
			}
		})
	}
	wg.Wait()
	got := scrape(t, r)
	if n := strings.Count(got, "millrace_test_bounded_events_total{"); n != 4 {
		t.Fatalf("%d combinations:\n%s", n, got)
	}
	wantLines(t, got, `millrace_test_bounded_events_total{a="other",b="other"} 388`)
	first := strings.Split(strings.Split(got, `a="`)[1], `"`)[0]
	v.Forget(first, "x")
	v.With("new", "x").Inc()
	wantLines(t, scrape(t, r), `millrace_test_bounded_events_total{a="new",b="x"} 1`)
}

func TestNilCountsNothing(t *testing.T) {
	var c *Counter
	var g *Gauge
	var h *Histogram
	var v *CounterVec
	c.Inc()
	g.Set(1)
	h.Since(time.Second)
	v.With("a").Inc()
}

func TestNamesAreChecked(t *testing.T) {
	if got := Name("segment", "sync", "seconds"); got != "millrace_segment_sync_seconds" {
		t.Error(got)
	}
	for _, bad := range [][3]string{{"Segment", "x", "bytes"}, {"segment", "x-y", "bytes"}, {"segment", "x", "ms"}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v is taken", bad)
				}
			}()
			Name(Room(bad[0]), bad[1], bad[2])
		}()
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	r := New()
	k := NewKafka(r)
	k.Request("Fetch", time.Millisecond, 1, 1)
	if n := testing.AllocsPerRun(100, func() { k.Request("Fetch", time.Millisecond, 1, 1) }); n > 0 {
		t.Errorf("%v allocations a request", n)
	}
}
