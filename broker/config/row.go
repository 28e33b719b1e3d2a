package config

import (
	"errors"
	"fmt"
	"strings"
)

// Scope says whom a setting belongs to.
type Scope uint8

// The scopes.
const (
	ScopeNode Scope = iota + 1
	ScopeCluster
	ScopeTopic
)

// String gives "node", "cluster" or "topic".
func (s Scope) String() string { return [...]string{"", "node", "cluster", "topic"}[s] }

// Kind is a value's type.
type Kind uint8

// The kinds. Millis and Bytes are integers with a unit; of a node row they
// also take forms like 10ms and 512M.
const (
	KindBool Kind = iota + 1
	KindInt
	KindLong
	KindDouble
	KindString
	KindList // comma-separated
	KindMillis
	KindBytes
	KindAddress   // HOST:PORT, port 0 = a free one, or off
	KindPassword  // never printed
	KindListeners // [NAME://]HOST:PORT, comma-separated, or off
)

// String names the kind in documentation.
func (k Kind) String() string {
	return [...]string{"", "bool", "int", "long", "double", "string", "list", "duration", "bytes", "address", "password", "listeners"}[k]
}

// KafkaType is the ConfigType code that DescribeConfigs answers.
func (k Kind) KafkaType() int8 {
	switch k {
	case KindBool:
		return 1
	case KindInt:
		return 3
	case KindLong, KindMillis, KindBytes:
		return 5
	case KindDouble:
		return 6
	case KindList, KindListeners:
		return 7
	case KindPassword:
		return 9
	}
	return 2
}

// Row declares one setting. Rows are never changed once built.
type Row struct {
	Name    string
	Scope   Scope
	Kind    Kind
	Default string
	Min     string // inclusive, in Default's form; empty: no limit
	Max     string
	Values  []string // the only values allowed; of a list, each element
	Doc     string
	Cluster string // topic scope: the cluster setting it defaults to
	Restart bool   // takes effect at the next start
	Secret  bool   // its value is never printed
	Inert   bool   // accepted and shown for compatibility; nothing here depends on it
	NoFlag  bool   // node scope: only in file, environment and --set
	Short   string // node scope: what the flag takes, for help
	// AutoValue is what "auto" stands for in a node row; nil: auto is no value.
	AutoValue *int64

	min, max float64
	limited  [2]bool
	check    func(value) string // why a value within the limits is refused, or ""
	topic    func(*Topic, value)
	cluster  func(*Cluster, value)
	node     func(*Node, value)
}

// Auto lets the node choose, where a row allows it.
const Auto = "auto"

// Flag is a node row's flag without dashes: data_dir is data-dir.
func (r *Row) Flag() string { return strings.ReplaceAll(r.Name, "_", "-") }

// EnvPrefix begins every environment variable that sets a row.
const EnvPrefix = "MILLRACE_"

// Env is the environment variable that sets the row at start.
func (r *Row) Env() string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(r.Name, ".", "_"))
}

// Refusals.
var (
	// ErrUnknown says that no such setting exists in that scope. Correct the name.
	ErrUnknown = errors.New("unknown setting")
	// ErrInvalid says that a setting cannot have that value. Correct the value.
	ErrInvalid = errors.New("invalid value")
)

// Hidden is printed in the place of a secret's value.
const Hidden = "[hidden]"

// Show gives value as it may be printed.
func (r *Row) Show(value string) string {
	if r.Secret && value != "" {
		return Hidden
	}
	return value
}

func (r *Row) refuse(value, why string) error {
	return fmt.Errorf("%w of %s: %q: %s", ErrInvalid, r.Name, r.Show(value), why)
}

// secretWords are what names of secrets have in them.
var secretWords = []string{"password", "passwd", "passphrase", "secret", "token", "credential", "private", "sasl", "access_key", "access.key"}

// LooksSecret tells whether a setting of this name had better not be printed, by whoever
// does not know the row: one of a newer build, or of a stranger.
func LooksSecret(name string) bool {
	name = strings.ToLower(name)
	for _, w := range secretWords {
		if strings.Contains(name, w) {
			return true
		}
	}
	return strings.HasSuffix(name, "_key") || strings.HasSuffix(name, ".key") || name == "key"
}
