package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/sdk/manifest"
)

// project is a script's manifest and source, as files and flags have them.
type project struct {
	dir    string // where the manifest is, or would be
	path   string // the manifest's file, as shown to the user
	text   []byte // YAML, with the flags merged in
	m      *manifest.Manifest
	source string // main.js, main.ts, main.go or a module
}

// overrides are the flags that win over the manifest.
type overrides struct {
	manifest string
	name     string
	mode     string
	inputs   []string
	outputs  []string
	env      []string
	onError  string

	dropped []string // keys of the manifest that have no meaning in the mode of --mode
}

func (o *overrides) flags(f *pflag.FlagSet) {
	f.StringVar(&o.manifest, "manifest", "", "manifest (default transform.yaml beside FILE)")
	f.StringVar(&o.name, "name", "", "the script's name")
	f.StringVar(&o.mode, "mode", "", "async (child topics) or sync (in the path of every append)")
	f.StringSliceVar(&o.inputs, "input", nil, "input topics, comma separated (repeatable)")
	f.StringSliceVar(&o.outputs, "output", nil, "output topics, comma separated (default INPUT.NAME)")
	f.StringArrayVar(&o.env, "env", nil, "variable for the script, NAME=value (repeatable)")
	f.StringVar(&o.onError, "on-error", "", "what to do with a record that fails: [RETRIES,]skip, dlq or stop")
}

// load reads the project of FILE, or of the working directory when file is "".
func (o *overrides) load(file string) (*project, error) {
	p := &project{dir: ".", source: file}
	if file != "" {
		st, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s does not exist; name a script's file, or make a project with `millrace wasm generate NAME`", file)
		}
		if err != nil {
			return nil, err
		}
		if p.dir = filepath.Dir(file); st.IsDir() {
			p.dir, p.source = file, ""
		}
	}
	if p.path = o.manifest; p.path == "" {
		p.path = filepath.Join(p.dir, manifest.FileName)
	} else if file == "" {
		p.dir = filepath.Dir(p.path)
	}
	text, err := readSmall(p.path, api.ManifestBytesMax)
	switch {
	case errors.Is(err, fs.ErrNotExist) && o.manifest == "" && file != "":
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s does not exist; go to a project's directory, name a FILE, or make a project with `millrace wasm generate NAME`", p.path)
	case err != nil:
		return nil, err
	}
	if _, err := manifest.Parse(p.path, text); err != nil { // with the lines of the file as it is
		return nil, err
	}
	if p.text, err = o.merge(text); err != nil {
		return nil, err
	}
	if p.m, err = manifest.Parse(p.path, p.text); err != nil {
		return nil, err
	}
	return p, p.findSource()
}

func readSmall(path string, max int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > max {
		return nil, fmt.Errorf("%s has %d bytes, the limit is %d", path, st.Size(), max)
	}
	return os.ReadFile(path)
}

// merge writes the flags into the manifest's YAML.
func (o *overrides) merge(text []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	root := &yaml.Node{Kind: yaml.MappingNode}
	if len(doc.Content) > 0 && doc.Content[0].Kind == yaml.MappingNode {
		root = doc.Content[0]
	}
	set := func(key string, value any) error {
		var n yaml.Node
		if err := n.Encode(value); err != nil {
			return err
		}
		put(root, key, &n)
		return nil
	}
	var errs []error
	if o.name != "" {
		errs = append(errs, manifest.CheckName(o.name), set("name", o.name))
	}
	if o.mode != "" {
		if !slices.Contains([]string{"async", "sync"}, o.mode) {
			errs = append(errs, fmt.Errorf("--mode %q: want async or sync", o.mode))
		}
		o.switchMode(root)
		errs = append(errs, set("mode", o.mode))
	}
	for _, topic := range slices.Concat(o.inputs, o.outputs) {
		errs = append(errs, manifest.CheckTopic(topic))
	}
	if len(o.inputs) > 0 {
		errs = append(errs, set("inputs", o.inputs))
	}
	if len(o.outputs) > 0 {
		errs = append(errs, set("outputs", o.outputs))
	}
	if o.onError != "" {
		policy, err := parseOnError(o.onError)
		errs = append(errs, err, set("on_error", policy))
	}
	for _, kv := range o.env {
		k, v, found := strings.Cut(kv, "=")
		if !found || k == "" {
			errs = append(errs, fmt.Errorf("--env %s: want NAME=value", kv))
			continue
		}
		env := get(root, "env")
		if env == nil || env.Kind != yaml.MappingNode {
			env = &yaml.Node{Kind: yaml.MappingNode}
			put(root, "env", env)
		}
		put(env, k, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(root.Content) == 0 {
		return nil, nil
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	err := errors.Join(e.Encode(root), e.Close())
	return out.Bytes(), err
}

// switchMode takes out what the manifest says for the other mode, so that one
// project can be tried both ways. What was taken out is told.
func (o *overrides) switchMode(root *yaml.Node) {
	if n := get(root, "mode"); n != nil && n.Value == o.mode || n == nil && o.mode == "async" {
		return
	}
	other := []string{"sync"}
	if o.mode == "sync" {
		other = []string{"start", "on_error", "partitioning", "compression"}
	}
	for i := 0; i+1 < len(root.Content); {
		if key := root.Content[i].Value; slices.Contains(other, key) {
			o.dropped = append(o.dropped, key)
			root.Content = slices.Delete(root.Content, i, i+2)
			continue
		}
		i += 2
	}
}

func get(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func put(mapping *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			mapping.Content[i+1] = value
			return
		}
	}
	mapping.Content = append(mapping.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, value)
}

// parseOnError reads [RETRIES,]POLICY.
func parseOnError(text string) (any, error) {
	retries, then, found := strings.Cut(text, ",")
	if !found {
		retries, then = "", text
	}
	known := slices.Contains([]manifest.Then{manifest.Skip, manifest.DLQ, manifest.Stop}, manifest.Then(then))
	if known && !found {
		return text, nil
	}
	n, err := strconv.ParseUint(retries, 10, 16)
	if err != nil || !known {
		return nil, fmt.Errorf("--on-error %s: want [RETRIES,]skip, dlq or stop, for example 3,dlq", text)
	}
	return map[string]any{"retry": n, "then": then}, nil
}

// check judges the whole; what is missing is shown as the line to add.
func (p *project) check() error {
	err := p.m.Check()
	switch {
	case errors.Is(err, manifest.ErrNoInputs):
		return fmt.Errorf("%s names no input topic; add this line to it:\n\n  inputs: [TOPIC]\n\nor give --input TOPIC", p.path)
	case errors.Is(err, manifest.ErrNoName):
		return fmt.Errorf("%s names no script; add this line to it:\n\n  name: %s\n\nor give --name NAME", p.path, p.guessName())
	}
	return err
}

func (p *project) guessName() string {
	if abs, err := filepath.Abs(p.dir); err == nil && manifest.CheckName(filepath.Base(abs)) == nil {
		return filepath.Base(abs)
	}
	return "NAME"
}

// sources by language, in the order they are looked for.
var sources = map[string][]string{
	manifest.JavaScript: {"main.js", "main.ts", "main.mjs"},
	manifest.Go:         {"main.go"},
	"":                  {"main.js", "main.ts", "main.mjs", "main.go"},
}

// findSource decides what is built when no FILE was given.
func (p *project) findSource() error {
	if p.source != "" {
		if kind := sourceKind(p.source); kind == "" {
			return fmt.Errorf("%s: want a .js, .mjs, .ts, .go or .wasm file", p.source)
		}
		return nil
	}
	places := slices.Clone(sources[p.m.Language])
	if p.m.Name != "" {
		places = append(places, p.m.Name+".wasm")
	}
	for _, name := range places {
		path := filepath.Join(p.dir, name)
		if _, err := os.Stat(path); err == nil {
			p.source = path
			return nil
		}
	}
	return fmt.Errorf("%s holds none of %s; name the script's FILE", p.dir, strings.Join(places, ", "))
}

func sourceKind(path string) string {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".js", ".mjs", ".ts", ".mts":
		return manifest.JavaScript
	case ".go":
		return manifest.Go
	case ".wasm":
		return "wasm"
	}
	return ""
}
