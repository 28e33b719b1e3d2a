package tidy

import (
	"slices"
	"strconv"
	"strings"
)

// rooms are the packages of the broker's process in the order of docs/ARCHITECTURE.md:
// a room imports those before it, and itself. A folder below a room belongs to
// it unless it stands here on its own.
var rooms = []string{
	// words
	"broker/model", "broker/record", "broker/config", "broker/metrics", "broker/disk", "broker/block",
	"broker/admin/api", // types only
	// the seams between broker and sidecar
	"plugins",
	// state machines
	"broker/segment", "broker/partition", "broker/controller", "broker/group", "broker/txn",
	// owners
	"broker/core", "broker/journal", "broker/raft", "broker/tiered", "broker/pull", "broker/rescue", "broker/selftest",
	// the cluster as one thing
	"broker/cluster", "broker/move", "broker/security", "broker/script",
	// verbs; the pacemaker fetches and produces; peer gives it other nodes' verbs
	"broker/produce", "broker/fetch", "broker/coordinator", "pacemaker", "broker/peer",
	// fronts
	"broker/kafka", "broker/proxy", "broker/registry", "broker/admin",
	// wiring and tools
	"broker/server", "broker/tuner", "broker/cli", "broker/cmd", "broker/tidy", "broker/sim",
}

// outside are the folders of ours that are not rooms of the broker, and what of
// ours each may import beside itself. proto and sdk may be imported by all.
var outside = map[string][]string{
	"proto":   {},
	"sdk":     {},
	"sidecar": {"plugins", "broker/model", "broker/record"},
}

// special are libraries that only some rooms may import. InTests opens them to
// every test.
var special = []struct {
	prefix  string
	rooms   []string
	inTests bool
}{
	{"github.com/lni/dragonboat", []string{"broker/raft", "broker/journal"}, false},
	{"github.com/bytecodealliance/wasmtime-go", []string{"sidecar/host"}, false},
	{"github.com/prometheus/", []string{"broker/metrics"}, false},
	{"github.com/hashicorp/go-plugin", []string{"plugins"}, false},
	{"github.com/twmb/franz-go", []string{"broker/kafka", "broker/coordinator", "broker/cli", "bench", "demo", "test"}, true},
	{"github.com/aws/", []string{"broker/tiered/store"}, false},
	{"cloud.google.com/", []string{"broker/tiered/store"}, false},
	{"github.com/Azure/", []string{"broker/tiered/store"}, false},
}

// Imports checks the ladder of rooms and the special importers.
func Imports(files []*File) (found []Violation) {
	for _, f := range files {
		for _, spec := range f.AST.Imports {
			target, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				continue
			}
			if why := refused(f, target); why != "" {
				found = append(found, f.at(spec.Pos(), "imports", "%s", why))
			}
		}
	}
	return found
}

// refused says why f may not import target, or "".
func refused(f *File, target string) string {
	for _, s := range special {
		if strings.HasPrefix(target, s.prefix) && !(s.inTests && f.Test) && !slices.ContainsFunc(s.rooms, func(r string) bool { return within(f.Dir, r) }) {
			return target + " belongs to " + strings.Join(s.rooms, ", ")
		}
	}
	ours, ok := strings.CutPrefix(target, module)
	if !ok || f.Test {
		return ""
	}
	if why := refusedOutside(f.Dir, ours); why != "" {
		return why
	}
	from, to := rank(f.Dir), rank(ours)
	if from < 0 || to < 0 || from >= to {
		return ""
	}
	return rooms[from] + " stands above " + rooms[to] + ": declare an interface and let server give it"
}

// refusedOutside checks folders that are not on the ladder, and imports of them.
func refusedOutside(dir, ours string) string {
	for home, allowed := range outside {
		if !within(dir, home) {
			continue
		}
		free := append([]string{home, "proto", "sdk"}, allowed...)
		if !slices.ContainsFunc(free, func(r string) bool { return within(ours, r) }) {
			return home + " may import of ours only " + strings.Join(free, ", ")
		}
	}
	if within(ours, "sidecar") && !within(ours, "sidecar/abi") && rank(dir) >= 0 {
		return "the sidecar is another process: reach it through plugins"
	}
	return ""
}

// rank gives a folder's place on the ladder, -1 for none; the longest match wins.
func rank(dir string) int {
	best := -1
	for i, r := range rooms {
		if within(dir, r) && (best < 0 || len(r) > len(rooms[best])) {
			best = i
		}
	}
	return best
}

// within tells whether dir is room or below it.
func within(dir, room string) bool { return dir == room || strings.HasPrefix(dir, room+"/") }
