package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// FileName is the manifest's name in a project.
const FileName = "transform.yaml"

// Mode says where a script stands.
type Mode string

// The modes.
const (
	Async Mode = "async" // reads a topic, writes child topics
	Sync  Mode = "sync"  // in the path of every append to its topic
)

// Partitioning says which partition of an output a record goes to, unless the script gives a hint.
type Partitioning string

// The ways of partitioning.
const (
	Same  Partitioning = "same" // the number of its parent's partition
	ByKey Partitioning = "key"  // as Kafka's default partitioner does
)

// Then is what follows when a record has failed for the last time.
type Then string

// The policies of an async script.
const (
	Skip Then = "skip"
	DLQ  Then = "dlq"
	Stop Then = "stop"
)

// SyncPolicy is what follows when a sync script fails or is late.
type SyncPolicy string

// The policies of a sync script.
const (
	Fail SyncPolicy = "fail" // the producer gets an error
	Pass SyncPolicy = "pass" // the records are written as they came
)

// The languages that the CLI can build.
const (
	JavaScript = "javascript"
	Go         = "go"
)

// Limits of a manifest, each so that a mistake is met here and not in a running broker.
const (
	nameBytesMax  = 100 // "<input>.<name>.dlq" must still be a topic's name
	topicBytesMax = 249 // Kafka's
	topicsMax     = 64  // inputs, and outputs
	envMax        = 100
	envBytesMax   = 64 << 10 // of all names and values
	textBytesMax  = 4 << 10  // of the description
	retryMax      = 100

	memoryMin     = 16 << 20 // a plain Go module starts at 2.3 MiB and needs room for a batch
	memoryMax     = 2 << 30
	memoryDefault = 64 << 20

	batchTimeMin     = time.Millisecond
	batchTimeMax     = time.Minute
	batchTimeDefault = 5 * time.Second

	budgetMin     = 100 * time.Microsecond
	budgetMax     = time.Second // a producer waits for it
	budgetDefault = 20 * time.Millisecond

	retryDefault = 3
)

// OnError is the policy of an async script.
type OnError struct {
	Retry int  `json:"retry"` // attempts after the first
	Then  Then `json:"then"`
}

// SyncOptions are those of a sync script.
type SyncOptions struct {
	Budget time.Duration `json:"budget_ns"` // for one batch, waiting included
	Policy SyncPolicy    `json:"policy"`
}

// Limits bound one instance of the script.
type Limits struct {
	Memory    int64         `json:"memory_bytes"`
	BatchTime time.Duration `json:"batch_time_ns"`
}

// Manifest is a parsed transform.yaml with its defaults applied.
type Manifest struct {
	Name         string            `json:"name"`
	Description  string            `json:"description,omitempty"`
	Mode         Mode              `json:"mode"`
	Inputs       []string          `json:"inputs"`
	Outputs      []string          `json:"outputs,omitempty"` // empty = "<input>.<name>" for each input; see OutputsOf
	Language     string            `json:"language,omitempty"`
	Env          map[string]string `json:"env,omitempty"`
	Start        Start             `json:"start"`
	OnError      OnError           `json:"on_error"`
	Sync         SyncOptions       `json:"sync"`
	Limits       Limits            `json:"limits"`
	Partitioning Partitioning      `json:"partitioning"`
	Compression  string            `json:"compression"`

	source source // of Parse, for errors
}

// New returns a manifest with nothing but defaults.
func New() *Manifest {
	return &Manifest{
		Mode:         Async,
		Start:        Start{Kind: StartEnd},
		OnError:      OnError{Retry: retryDefault, Then: DLQ},
		Sync:         SyncOptions{Budget: budgetDefault, Policy: Fail},
		Limits:       Limits{Memory: memoryDefault, BatchTime: batchTimeDefault},
		Partitioning: Same,
		Compression:  "none",
	}
}

// OutputsOf returns the topics that records of that input may go to, by output index. Without declared outputs each input has one
// of its own, "<input>.<name>". A sync script has none: it writes to the topic it reads.
func (m *Manifest) OutputsOf(input string) []string {
	switch {
	case m.Mode == Sync:
		return nil
	case len(m.Outputs) > 0:
		return m.Outputs
	}
	return []string{input + "." + m.Name}
}

// OutputNames returns the names that the script knows its outputs by, in the order of the output index: the environment's
// MILLRACE_OUTPUT_0 and on. They are the topics' names, but for the one output of several inputs without declared outputs, which is
// called "*.<name>", and that of a sync script, which is called by its first input.
func (m *Manifest) OutputNames() []string {
	switch {
	case m.Mode == Sync && len(m.Inputs) > 0:
		return m.Inputs[:1]
	case len(m.Outputs) > 0:
		return m.Outputs
	case len(m.Inputs) == 1:
		return m.OutputsOf(m.Inputs[0])
	}
	return []string{"*." + m.Name}
}

// canonicalVersion begins the canonical form: another meaning of a field is another version.
const canonicalVersion = "millrace manifest 1\n"

// Canonical returns the manifest's one encoding: the same meaning gives the same bytes, whatever the file looked like. They are what
// the digest covers and what is stored.
func (m *Manifest) Canonical() []byte {
	text, err := json.Marshal(m) // sorts the keys of Env
	must(err == nil, "manifest: a value of strings and numbers does not encode: %v", err)
	return append([]byte(canonicalVersion), text...)
}

// ErrCanonical is the cause of an error about bytes that Canonical did not write: the stored script is damaged, or newer.
var ErrCanonical = errors.New("not a canonical manifest")

// Decode reads what Canonical wrote, and checks it.
func Decode(canonical []byte) (*Manifest, error) {
	if len(canonical) < len(canonicalVersion) || string(canonical[:len(canonicalVersion)]) != canonicalVersion {
		return nil, fmt.Errorf("%w: another version", ErrCanonical)
	}
	m := New()
	if err := json.Unmarshal(canonical[len(canonicalVersion):], m); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCanonical, err)
	}
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCanonical, err)
	}
	return m, nil
}

// must stops when an invariant of this package is broken.
func must(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf(format, args...))
	}
}
