package peer

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/script"
)

// whole sets every field under v to something else than its zero, so that one that is
// added is known to travel too.
func whole(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		whole(v.Elem())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1000, 5).UTC()))
			return
		}
		for i := range v.NumField() {
			whole(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		whole(v.Index(0))
	case reflect.Array:
		for i := range v.Len() {
			whole(v.Index(i))
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(9)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	default:
		panic(fmt.Sprintf("a report has a %s", v.Type()))
	}
}

// What a node tells of its scripts arrives whole.
func TestReports(t *testing.T) {
	r := newRig(t)
	whole(reflect.ValueOf(&r.own[1].report).Elem())
	got, err := r.far.Report(t.Context(), 1, script.ReportAsk{Scripts: []model.ScriptID{7, 8}})
	if err != nil || !reflect.DeepEqual(got, r.own[1].report) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, r.own[1].report)
	}
	if taken := r.own[1].taken(); len(taken) != 1 || taken[0] != "report [7 8]" {
		t.Errorf("asked %q", taken)
	}
	r.own[1].lines = script.Lines{Left: 3, Lines: []api.LogLine{{Time: time.Unix(1000, 5).UTC(), Node: 1, Script: "scrub", Level: "info", Text: "hello"}}}
	ask := script.LinesAsk{Script: "scrub", Since: time.Unix(900, 0).UTC(), Tail: 9}
	lines, err := r.far.Lines(t.Context(), 1, ask)
	if err != nil || !reflect.DeepEqual(lines, r.own[1].lines) {
		t.Errorf("got %+v, %v", lines, err)
	}
	if taken := r.own[1].taken(); len(taken) != 1 || taken[0] != fmt.Sprintf("lines %+v", ask) {
		t.Errorf("asked %q", taken)
	}
	r.own[1].err = errors.New("the sidecar is down")
	if _, err := r.far.Lines(t.Context(), 1, ask); err == nil || !strings.Contains(err.Error(), "node 1: the sidecar is down") {
		t.Errorf("an error: %v", err)
	}
}

// A node that says nothing is told apart, and its partitions are not named.
func TestNoReport(t *testing.T) {
	r := newRig(t)
	r.led.scripts = nil
	if _, err := r.far.Report(t.Context(), 1, script.ReportAsk{}); !errors.Is(err, ErrUnreached) || !strings.Contains(err.Error(), "no scripts") {
		t.Errorf("of a node without: %v", err)
	}
	for _, failed := range []error{errReset, &Refusal{Code: 2, Text: "node 1 is starting"}} {
		r.do = func([]byte, func() ([]byte, error)) ([]byte, error) { return nil, failed }
		_, report := r.far.Report(t.Context(), 1, script.ReportAsk{})
		_, lines := r.far.Lines(t.Context(), 1, script.LinesAsk{})
		for _, err := range []error{report, lines} {
			if !errors.Is(err, ErrUnreached) || !errors.Is(err, failed) || strings.Contains(err.Error(), "/0") {
				t.Errorf("%v", err)
			}
		}
	}
}
