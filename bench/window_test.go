package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/millrace-io/millrace/bench/load"
)

func TestSyncsAreSummedOverLabels(t *testing.T) {
	text := ""
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }))
	defer front.Close()
	s := &side{admin: strings.TrimPrefix(front.URL, "http://")}
	for _, c := range []struct {
		text  string
		want  float64
		known bool
	}{
		{"", 0, false},
		{"# TYPE millrace_journal_syncs_total counter\nmillrace_journal_syncs_total_other 4\n", 0, false},
		{"millrace_journal_syncs_total 12\n", 12, true},
		{"millrace_journal_syncs_total{device=\"a } b\"} 1e3\nmillrace_journal_syncs_total{device=\"c\"} 5 1700000000\n", 1005, true},
	} {
		text = c.text
		if got, known := s.syncs(context.Background()); got != c.want || known != c.known {
			t.Errorf("%q: %v %t, want %v %t", c.text, got, known, c.want, c.known)
		}
	}
	if _, known := (&side{}).syncs(context.Background()); known {
		t.Error("a peer has no count")
	}
}

func TestRowsOfAWindow(t *testing.T) {
	tab := newTable([]string{"a", "b"})
	tab.latency("ack ", "a", load.Quantiles{P50: 1, P99: 2, P999: 3, Max: 4})
	tab.syncs("serial, ", "a", used{Syncs: 10, SyncsKnown: true}, 10)
	tab.syncs("serial, ", "b", used{Syncs: 10}, 10)
	tab.quiet("ack", "a", used{OtherCores: .25})
	tab.quiet("ack", "a", used{OtherCores: .75})
	var out strings.Builder
	tab.write(&out)
	for _, want := range []string{"ack max ms", "| 4.00  ", "serial, syncs per record", "| 1.00 ", "0.75 (0.25-0.75)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if tab.cell("serial, syncs per record", "b") != "-" {
		t.Error("syncs that nobody counted were shown")
	}
}

// TestBusyLoaderIsNotOthers: what this process uses in a window is the loader's,
// what its side uses is the side's, and both are part of the machine's.
func TestBusyLoaderIsNotOthers(t *testing.T) {
	own, err := load.OwnCPU()
	if err != nil {
		t.Fatal(err)
	}
	machine, err := load.MachineCPU()
	if err != nil {
		t.Fatal(err)
	}
	me, err := load.Measure(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if own <= 0 || me.CPUSeconds > own+1 || machine < own {
		t.Errorf("own %v, measured %v, machine %v CPU seconds", own, me.CPUSeconds, machine)
	}
}

func TestRepeatedOrdersAreOrders(t *testing.T) {
	repeated := repeatedOrders()
	kept := 0
	for i := range int64(64) {
		if string(repeated(i)) != string(order(i)) {
			t.Fatalf("order %d is %s", i, repeated(i))
		}
		if urgent(i) {
			kept++
		}
	}
	if kept*urgentEvery != 64 || string(repeated(16384)) != string(order(0)) {
		t.Errorf("%d of 64 are urgent; order 16384 is %s", kept, repeated(16384))
	}
}

func TestOnlyNamesMeasurements(t *testing.T) {
	if err := (options{only: "serial,many"}).check(); err != nil {
		t.Error(err)
	}
	if err := (options{only: "serial,latency"}).check(); err == nil || !strings.Contains(err.Error(), "latency") {
		t.Errorf("an unknown measurement: %v", err)
	}
}
