package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"
)

// fileBytesMax bounds a config file: a wrong path may name anything.
const fileBytesMax = 1 << 20

// Sources are where a node's settings come from. Later ones win: defaults, the
// mode's defaults, File, Env, Flags, Set.
type Sources struct {
	File  string            // YAML; empty: none
	Env   []string          // "NAME=value", as os.Environ gives; only MILLRACE_* is looked at
	Flags map[string]string // flags that were given, by row name or flag name
	Set   []string          // "name=value" of --set, node and cluster settings
}

// layer is what one source says, by setting name.
type layer struct {
	from   string
	values map[string]string
}

// Load resolves a node's settings. An error names the source, and of a file the
// line; it wraps ErrUnknown or ErrInvalid.
func Load(s Sources) (Node, error) {
	n := Node{Static: map[string]string{}, Given: map[string]Given{}}
	file, err := readFile(s.File)
	if err != nil {
		return Node{}, err
	}
	env, warnings, err := readEnv(s.Env)
	if err != nil {
		return Node{}, err
	}
	flags, err := readFlags(s.Flags)
	if err != nil {
		return Node{}, err
	}
	set, err := readSet(s.Set)
	if err != nil {
		return Node{}, err
	}
	n.Warnings = warnings
	layers := []layer{{"file", file}, {"environment", env}, {"flag", flags}, {"set", set}}
	if err := n.resolve(layers); err != nil {
		return Node{}, err
	}
	return n, n.finish()
}

// resolve merges the layers, each checked already, and fills n.
func (n *Node) resolve(layers []layer) error {
	mode := Mode(table().byName[ScopeNode]["mode"].Default)
	for _, l := range layers {
		if m, ok := l.values["mode"]; ok {
			mode = Mode(m)
		}
	}
	layers = append([]layer{{"mode", modeDefaults(mode)}}, layers...)
	merged := koanf.New("\x00") // no delimiter: names keep their dots
	for _, l := range layers {
		if err := merged.Load(l, nil); err != nil {
			return fmt.Errorf("merge settings of %s: %w", l.from, err)
		}
		for name, text := range l.values {
			n.Given[name] = Given{Value: text, From: l.from}
		}
	}
	for _, r := range Rows(ScopeNode) {
		text := r.Default
		if merged.Exists(r.Name) {
			text = merged.String(r.Name)
		}
		v, err := r.parse(text)
		if err != nil {
			return err
		}
		r.node(n, v)
	}
	for _, r := range Rows(ScopeCluster) {
		if merged.Exists(r.Name) {
			n.Static[r.Name] = merged.String(r.Name)
		}
	}
	return nil
}

// Read makes a layer a provider of koanf.
func (l layer) Read() (map[string]any, error) {
	m := make(map[string]any, len(l.values))
	for name, text := range l.values {
		m[name] = text
	}
	return m, nil
}

// ReadBytes is not used: a layer is parsed already.
func (l layer) ReadBytes() ([]byte, error) { return nil, errors.ErrUnsupported }

// finish checks what only the whole can tell, and makes paths absolute.
func (n *Node) finish() (err error) {
	if err := n.finishListeners(); err != nil {
		return err
	}
	if sum := n.CachePercent + n.WritePercent + n.RequestPercent + n.ResponsePercent; sum > 90 {
		return fmt.Errorf("%w: cache_percent, write_percent, request_percent and response_percent are %d %% together, at most 90 may be", ErrInvalid, sum)
	}
	if some := n.RPCCert + n.RPCKey + n.RPCCA; some != "" && (n.RPCCert == "" || n.RPCKey == "" || n.RPCCA == "") {
		return fmt.Errorf("%w: rpc_tls_cert, rpc_tls_key and rpc_tls_ca go together", ErrInvalid)
	}
	if err := n.finishSeeds(); err != nil {
		return err
	}
	for _, path := range []*string{&n.DataDir, &n.SidecarCache, &n.SidecarBin, &n.RPCCert, &n.RPCKey, &n.RPCCA} {
		// A bare name of an executable is looked up in PATH.
		if *path == "" || path == &n.SidecarBin && !strings.Contains(*path, "/") {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return fmt.Errorf("make path absolute: %w", err)
		}
	}
	if n.DataDir == "" {
		return fmt.Errorf("%w of data_dir: it is empty", ErrInvalid)
	}
	if n.SidecarCache == "" {
		n.SidecarCache = filepath.Join(n.DataDir, "sidecar")
	}
	if path, ok := strings.CutPrefix(n.Sidecar, sidecarUnix); ok {
		if path, err = filepath.Abs(path); err != nil {
			return fmt.Errorf("make path absolute: %w", err)
		}
		n.Sidecar = sidecarUnix + path
	}
	return nil
}

// checkStart checks a setting given at start: of node or cluster scope.
func checkStart(name, text string) error {
	for _, scope := range []Scope{ScopeNode, ScopeCluster} {
		if r, ok := table().byName[scope][name]; ok {
			_, err := r.parse(text)
			return err
		}
	}
	if r, ok := table().byName[ScopeTopic][name]; ok && r.Cluster != "" {
		return fmt.Errorf("%w %q: it belongs to a topic; the default of all topics is %q", ErrUnknown, name, r.Cluster)
	}
	return fmt.Errorf("%w %q%s", ErrUnknown, name, hint(name, ScopeNode, ScopeCluster))
}

func readFile(path string) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read config file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("read config file %s: %w", path, err)
	}
	if len(b) > fileBytesMax {
		return nil, fmt.Errorf("read config file %s: it has more than %d bytes", path, fileBytesMax)
	}
	return parseFile(path, b)
}

// parseFile reads a YAML mapping of settings; nested mappings join names by
// dots. Every refusal names the line.
func parseFile(path string, b []byte) (map[string]string, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("config file %s: %w", path, err)
	}
	values := map[string]string{}
	if len(doc.Content) == 0 {
		return values, nil // empty, or comments only
	}
	err := flatten("", doc.Content[0], func(name string, key, n *yaml.Node) error {
		text, err := scalarText(n)
		if err == nil {
			err = checkStart(name, text)
		}
		if _, twice := values[name]; err == nil && twice {
			err = fmt.Errorf("%w: %s is set twice", ErrInvalid, name)
		}
		if err != nil {
			return fmt.Errorf("config file %s, line %d: %w", path, key.Line, err)
		}
		values[name] = text
		return nil
	})
	if errors.Is(err, errNotMapping) {
		return nil, fmt.Errorf("config file %s: %w", path, err)
	}
	return values, err
}

var errNotMapping = fmt.Errorf("%w: want settings as name: value", ErrInvalid)

// depthMax bounds nesting; no name has more dots.
const depthMax = 16

// flatten calls leaf for every value of a mapping with its dotted name.
func flatten(prefix string, n *yaml.Node, leaf func(name string, key, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode || strings.Count(prefix, ".") > depthMax {
		return errNotMapping
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, v := n.Content[i], n.Content[i+1]
		name := prefix + key.Value
		if v.Kind == yaml.MappingNode {
			if err := flatten(name+".", v, leaf); err != nil {
				return err
			}
			continue
		}
		if err := leaf(name, key, v); err != nil {
			return err
		}
	}
	return nil
}

// scalarText gives a value as its rows read it; a sequence becomes a list.
func scalarText(n *yaml.Node) (string, error) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return "", nil
	case n.Kind == yaml.ScalarNode:
		return n.Value, nil
	case n.Kind == yaml.SequenceNode:
		var parts []string
		for _, e := range n.Content {
			if e.Kind != yaml.ScalarNode {
				return "", fmt.Errorf("%w: want a list of plain values", ErrInvalid)
			}
			parts = append(parts, e.Value)
		}
		return strings.Join(parts, ","), nil
	}
	return "", fmt.Errorf("%w: want a plain value", ErrInvalid)
}

// envOthers begin variables of the prefix that other parts of Millrace read.
var envOthers = []string{"MILLRACE_BROKERS", "MILLRACE_ADMIN", "MILLRACE_CONFIG", "MILLRACE_PROFILE", "MILLRACE_BOOT"}

// readEnv takes every MILLRACE_* variable that names a setting; others are
// warned of, since a typing error is as likely as another program's variable.
func readEnv(env []string) (values map[string]string, warnings []string, err error) {
	values = map[string]string{}
	names := map[string]string{}
	for _, scope := range []Scope{ScopeNode, ScopeCluster} {
		for _, r := range Rows(scope) {
			names[r.Env()] = r.Name
		}
	}
	for _, kv := range env {
		variable, text, _ := strings.Cut(kv, "=")
		other := func(begin string) bool { return strings.HasPrefix(variable, begin) }
		if !strings.HasPrefix(variable, EnvPrefix) || slices.ContainsFunc(envOthers, other) {
			continue
		}
		name, ok := names[variable]
		if !ok {
			warnings = append(warnings, "environment variable "+variable+" names no setting")
			continue
		}
		if err := checkStart(name, text); err != nil {
			return nil, nil, fmt.Errorf("environment variable %s: %w", variable, err)
		}
		values[name] = text
	}
	slices.Sort(warnings)
	return values, warnings, nil
}

func readFlags(flags map[string]string) (map[string]string, error) {
	values := map[string]string{}
	for _, flag := range slices.Sorted(maps.Keys(flags)) {
		name := strings.ReplaceAll(flag, "-", "_")
		r, ok := table().byName[ScopeNode][name]
		if !ok {
			return nil, fmt.Errorf("flag --%s: %w%s", flag, ErrUnknown, hint(name, ScopeNode))
		}
		if _, err := r.parse(flags[flag]); err != nil {
			return nil, fmt.Errorf("flag --%s: %w", flag, err)
		}
		values[name] = flags[flag]
	}
	return values, nil
}

func readSet(set []string) (map[string]string, error) {
	values := map[string]string{}
	for _, kv := range set {
		name, text, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, fmt.Errorf("--set %s: %w: want NAME=VALUE", kv, ErrInvalid)
		}
		name = strings.TrimSpace(name)
		if err := checkStart(name, text); err != nil {
			return nil, fmt.Errorf("--set %s: %w", name, err)
		}
		values[name] = text
	}
	return values, nil
}
