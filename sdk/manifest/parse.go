package manifest

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// source remembers where keys stood in the file, for Check.
type source struct {
	file  string
	lines map[string]int
}

// fileBytesMax bounds what Parse looks at: a manifest is a page.
const fileBytesMax = 1 << 20

// Parse reads transform.yaml: file is its name, for errors, which look like "transform.yaml:7: unknown key ...". All that is wrong
// with single fields is told at once. The whole is not checked yet: flags may still change it, then call Check.
func Parse(file string, text []byte) (*Manifest, error) {
	m := New()
	m.source = source{file: file, lines: map[string]int{}}
	if len(text) > fileBytesMax {
		return nil, fmt.Errorf("%s: %d bytes, a manifest has at most %d", file, len(text), fileBytesMax)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 {
		return m, nil
	}
	p := parser{file: file, manifest: m}
	p.mapping(doc.Content[0], "", p.fields())
	return m, errors.Join(p.wrong...)
}

type parser struct {
	file     string
	manifest *Manifest
	wrong    []error
}

// field reads one value, and says what is wrong with it.
type field func(n *yaml.Node) error

func (p *parser) at(n *yaml.Node, format string, args ...any) {
	p.wrong = append(p.wrong, fmt.Errorf("%s:%d: %s", p.file, n.Line, fmt.Sprintf(format, args...)))
}

// fields is the file's grammar: every key that may stand at the top.
func (p *parser) fields() map[string]field {
	m := p.manifest
	return map[string]field{
		"name":         checked(&m.Name, CheckName),
		"description":  checked(&m.Description, checkDescription),
		"mode":         oneOf(&m.Mode, Async, Sync),
		"inputs":       topics(&m.Inputs),
		"outputs":      topics(&m.Outputs),
		"language":     oneOf(&m.Language, JavaScript, Go),
		"env":          p.env,
		"start":        func(n *yaml.Node) (err error) { m.Start, err = parseScalar(n, ParseStart); return err },
		"on_error":     p.onError,
		"partitioning": oneOf(&m.Partitioning, Same, ByKey),
		"compression":  oneOf(&m.Compression, compressions...),
		"sync": p.section("sync", map[string]field{
			"budget": duration(&m.Sync.Budget, budgetMin, budgetMax),
			"policy": oneOf(&m.Sync.Policy, Fail, Pass),
		}),
		"limits": p.section("limits", map[string]field{
			"memory":     func(n *yaml.Node) (err error) { m.Limits.Memory, err = parseScalar(n, ParseMemory); return err },
			"batch_time": duration(&m.Limits.BatchTime, batchTimeMin, batchTimeMax),
		}),
	}
}

var compressions = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// mapping reads each key of n by its field, and remembers its line.
func (p *parser) mapping(n *yaml.Node, prefix string, fields map[string]field) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	if n.Kind != yaml.MappingNode {
		p.at(n, "%s must be a list of \"key: value\" lines", cmpOr(strings.TrimSuffix(prefix, "."), "the manifest"))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path := prefix + key.Value
		if line, twice := p.manifest.source.lines[path]; twice {
			p.at(key, "%s stands on line %d already", path, line)
			continue
		}
		p.manifest.source.lines[path] = key.Line
		read, known := fields[key.Value]
		if !known {
			p.at(key, "unknown key %q%s", path, suggestion(key.Value, fields))
			continue
		}
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if err := read(value); err != nil {
			p.at(value, "%s: %v", path, err)
		}
	}
}

func cmpOr(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// suggestion names the key that was meant, if one is near, else all of them.
func suggestion(key string, fields map[string]field) string {
	known := make([]string, 0, len(fields))
	for name := range fields {
		known = append(known, name)
	}
	slices.Sort(known)
	for _, name := range known {
		if distance(key, name) <= 2 {
			return fmt.Sprintf(": did you mean %q?", name)
		}
	}
	return ": allowed are " + strings.Join(known, ", ")
}

// distance is the number of single letters to change, add or drop between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func (p *parser) section(name string, fields map[string]field) field {
	return func(n *yaml.Node) error {
		p.mapping(n, name+".", fields)
		return nil
	}
}

// onError reads {retry, then}, or `then` alone.
func (p *parser) onError(n *yaml.Node) error {
	o := &p.manifest.OnError
	if n.Kind == yaml.ScalarNode {
		return oneOf(&o.Then, Skip, DLQ, Stop)(n)
	}
	p.mapping(n, "on_error.", map[string]field{
		"retry": func(n *yaml.Node) error {
			retry, err := strconv.Atoi(n.Value)
			if err != nil || retry < 0 || retry > retryMax {
				return fmt.Errorf("must be a number from 0 to %d", retryMax)
			}
			o.Retry = retry
			return nil
		},
		"then": oneOf(&o.Then, Skip, DLQ, Stop),
	})
	return nil
}

func (p *parser) env(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return errors.New("must be a list of \"NAME: value\" lines")
	}
	p.manifest.Env = map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if value.Kind != yaml.ScalarNode {
			p.at(value, "env.%s must be a text", key.Value)
			continue
		}
		text := value.Value
		if value.Tag == "!!null" {
			text = ""
		}
		if err := checkVariable(key.Value, text); err != nil {
			p.at(key, "env: %v", err)
			continue
		}
		p.manifest.Env[key.Value] = text
	}
	return nil
}

func parseScalar[V any](n *yaml.Node, parse func(string) (V, error)) (V, error) {
	if n.Kind != yaml.ScalarNode {
		var zero V
		return zero, errors.New("must be one value")
	}
	return parse(n.Value)
}

func checked(to *string, check func(string) error) field {
	return func(n *yaml.Node) error {
		text, err := parseScalar(n, func(s string) (string, error) { return s, check(s) })
		*to = text
		return err
	}
}

func oneOf[V ~string](to *V, allowed ...V) field {
	return func(n *yaml.Node) error {
		if n.Kind == yaml.ScalarNode && slices.Contains(allowed, V(n.Value)) {
			*to = V(n.Value)
			return nil
		}
		return fmt.Errorf("must be one of %q, not %q", allowed, n.Value)
	}
}

func duration(to *time.Duration, low, high time.Duration) field {
	return func(n *yaml.Node) error {
		d, err := time.ParseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil {
			return fmt.Errorf("must be a duration like %v, not %q", low*5, n.Value)
		}
		*to = d
		return checkDuration(d, low, high)
	}
}

// topics reads a list of topics, or one topic.
func topics(to *[]string) field {
	return func(n *yaml.Node) error {
		nodes := n.Content
		switch {
		case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
			nodes = nil
		case n.Kind == yaml.ScalarNode:
			nodes = []*yaml.Node{n}
		case n.Kind != yaml.SequenceNode:
			return errors.New("must be a list of topics")
		}
		var list []string
		for _, item := range nodes {
			if item.Kind != yaml.ScalarNode {
				return errors.New("must be a list of topics")
			}
			list = append(list, item.Value)
		}
		*to = list
		return checkTopics(list)
	}
}

var memoryText = regexp.MustCompile(`^([0-9]{1,12}) *(|B|K|KB|KiB|M|MB|MiB|G|GB|GiB)$`)

// ParseMemory reads a size in bytes: 67108864, 64M, 64MiB. K, M and G count in 1024s, with or without B or iB.
func ParseMemory(text string) (int64, error) {
	match := memoryText.FindStringSubmatch(strings.TrimSpace(text))
	if match == nil {
		return 0, fmt.Errorf("must be a size like 64MiB, not %q", text)
	}
	n, err := strconv.ParseInt(match[1], 10, 64)
	if err != nil {
		return 0, err
	}
	shift := 0
	if match[2] != "" {
		shift = map[byte]int{'B': 0, 'K': 10, 'M': 20, 'G': 30}[match[2][0]]
	}
	if n > memoryMax {
		return 0, checkMemory(n)
	}
	return n << shift, checkMemory(n << shift)
}
