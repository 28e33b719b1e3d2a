package millrace

import (
	"fmt"
	"math/rand/v2"
	"os"
)

// Level is the severity of a log line.
type Level int32

// The levels of Log.
const (
	Debug Level = 0
	Info  Level = 1
	Warn  Level = 2
	Error Level = 3
)

// Log writes a line to the script's log (`millrace wasm logs`). Lines beyond 8 KiB are cut. A line costs about as much as ten
// records: log what is rare.
func Log(level Level, format string, args ...any) { logLine(level, fmt.Sprintf(format, args...)) }

// Env returns a variable of the manifest's env, "" if it is not set.
func Env(name string) string { return os.Getenv(name) }

// Rand returns the record's own random numbers: the same record gives the same numbers whenever it is processed, so results do not
// depend on how batches are cut. Every call begins them anew. They are not for secrets.
func Rand(r *Record) *rand.Rand { return rand.New(newSource(r.seed, r.Offset)) }

// source is docs/ABI.md section 6.
type source struct{ state uint64 }

const gamma = 0x9E3779B97F4A7C15

func newSource(seed uint64, offset int64) *source {
	return &source{state: mix((seed ^ uint64(offset)) + gamma)}
}

// Uint64 returns the next number.
func (s *source) Uint64() uint64 {
	s.state += gamma
	return mix(s.state)
}

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}
