package engine

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
	plugsync "github.com/millrace-io/millrace/plugins/sync"
	"github.com/millrace-io/millrace/sdk/js/snapshot"
)

// engineFile is the JavaScript engine, when it is built.
const engineFile = "../../build/js-engine/millrace-js.wasm"

// scripts of the benchmarks in JavaScript, by name.
var jsScripts = map[string]string{
	"identity": `(r) => r`,
	"filter":   `(r) => r.value.includes("urgent") ? r : null`,
	"json":     `(r) => { const v = r.json(); v.email = "***"; return { value: JSON.stringify(v) }; }`,
}

// jsModule packs a script with the engine, or skips.
func jsModule(b *testing.B, e *Engine, code string) []byte {
	wasm, err := os.ReadFile(engineFile)
	if err != nil {
		b.Skip("the JavaScript engine is not built: run sdk/js/engine/build.sh")
	}
	image, err := e.host.Snapshot(wasm, []byte("var __millrace_main = { default: "+code+" };"), 256<<20)
	if err != nil {
		b.Fatal(err)
	}
	globals := map[string]snapshot.Global{}
	for name, value := range image.Globals {
		globals[name] = snapshot.Global(value)
	}
	module, err := snapshot.Rewrite(wasm, image.Memory, globals)
	if err != nil {
		b.Fatal(err)
	}
	return module
}

// benchInput makes a MiB of JSON records of about that size, one in four urgent.
func benchInput(b *testing.B, size int) (batch []byte, n int) {
	n = min(8000, (1<<20)/size)
	values := make([]string, n)
	for i := range values {
		head := fmt.Sprintf(`k%d={"id":%d,"kind":"%s","email":"ann@example.com","pad":"`, i, i, []string{"urgent", "normal", "normal", "normal"}[i%4])
		values[i] = head + strings.Repeat("x", max(0, size-len(head))) + `"}`
	}
	return batchOf(b, 0, record.None, values...), n
}

// BenchmarkAsync is the whole of a sidecar's work on a range: decode, guest,
// checks, build. It reports records a second of one core.
func BenchmarkAsync(b *testing.B) {
	for _, size := range []int{100, 1024} {
		for name, module := range benchModules() {
			b.Run(fmt.Sprintf("%s/%dB", name, size), func(b *testing.B) {
				e := newEngine(b, Options{})
				f := fiberOf(b, open(b, e), module(b, e), nil)
				batch, n := benchInput(b, size)
				ask := async.Batch{From: 0, To: model.Offset(n), Records: batch}
				var guest time.Duration
				b.ReportAllocs()
				for b.Loop() {
					r, err := f.Transform(context.Background(), ask)
					if err != nil || len(r.Failed) > 0 {
						b.Fatal(err, r.Failed)
					}
					guest += r.CPU
				}
				records := float64(b.N) * float64(n)
				b.ReportMetric(records/b.Elapsed().Seconds(), "records/s")
				b.ReportMetric(records/guest.Seconds(), "guest-records/s")
			})
		}
	}
}

func benchModules() map[string]func(*testing.B, *Engine) control.Module {
	modules := map[string]func(*testing.B, *Engine) control.Module{
		"go/identity": func(b *testing.B, _ *Engine) control.Module { return module(b, "keep", control.Async) },
		"go/filter":   func(b *testing.B, _ *Engine) control.Module { return module(b, "filter", control.Async) },
		"go/json":     func(b *testing.B, _ *Engine) control.Module { return module(b, "json", control.Async) },
	}
	for name, code := range jsScripts {
		modules["js/"+name] = func(b *testing.B, e *Engine) control.Module {
			m := module(b, "js"+name, control.Async)
			m.Wasm, m.Env = jsModule(b, e, code), nil
			return m
		}
	}
	return modules
}

// BenchmarkSync is one produce batch of ten records of 1 KiB.
func BenchmarkSync(b *testing.B) {
	s := open(b, newEngine(b, Options{}))
	m := module(b, "json", control.Sync)
	load(b, s, m)
	values := make([]string, 10)
	for i := range values {
		values[i] = fmt.Sprintf(`k={"id":%d,"email":"ann@example.com","pad":"%s"}`, i, strings.Repeat("x", 960))
	}
	ask := plugsync.Batch{Digest: m.Digest, Topic: "in", Records: batchOf(b, 0, record.None, values...)}
	b.ReportAllocs()
	for b.Loop() {
		if r, err := s.Transform(context.Background(), ask); err != nil || r.Failure != nil {
			b.Fatal(r.Failure, err)
		}
	}
}
