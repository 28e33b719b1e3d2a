package api

import (
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

// ModuleBytesMax is the largest module that is deployed. Every node keeps the
// modules of all scripts in memory while it compiles and loads them.
const ModuleBytesMax = 32 << 20

// ManifestBytesMax bounds a manifest: a page of YAML, with room for env.
const ManifestBytesMax = 256 << 10

// DeployAsk asks for a script to be deployed, or deployed anew under its name.
type DeployAsk struct {
	Name     string
	Manifest []byte // YAML as package sdk/manifest reads it, flags of the CLI merged in
	Module   []byte // WebAssembly, at most ModuleBytesMax; the callee owns it
	// Start is a position (end, start, @time, +n, -n) asked for in so many
	// words. Empty: the manifest's at the first deployment; a redeploy goes on
	// where the script stands.
	Start        string
	AllowMissing bool // inputs may not exist yet
	Wait         bool // answer when it runs wherever it has to, not when it is decided
}

// DeployAnswer says what was decided; with Wait, what runs.
type DeployAnswer struct {
	Name       string           `json:"name"`
	ID         model.ScriptID   `json:"id"`
	Activation model.Activation `json:"activation" doc:"Number of this deployment, ascending over the cluster"`
	Digest     model.Digest     `json:"digest" doc:"SHA-256 of module and manifest, hexadecimal"`
	Mode       string           `json:"mode" doc:"async or sync"`
	Redeployed bool             `json:"redeployed" doc:"Whether the name was known: source offsets are kept unless a start was asked for"`
	Inputs     []string         `json:"inputs"`
	Outputs    []string         `json:"outputs,omitempty" doc:"Child topics, the dead letter topic included"`
	Created    []string         `json:"created,omitempty" doc:"Child topics that this deployment made"`
	Starts     []StartOffset    `json:"starts,omitempty" doc:"Where every partition of every input begins; partitions added later begin at 0"`
	Running    bool             `json:"running" doc:"Whether it was seen running on every node that has to run it"`
	Warnings   []string         `json:"warnings,omitempty"`
}

// StartOffset is where a script begins in one partition of an input.
type StartOffset struct {
	Topic     string       `json:"topic"`
	Partition int32        `json:"partition"`
	Offset    model.Offset `json:"offset" doc:"The first record that the script is given"`
}

// SeekAsk moves a script, in all partitions or in one.
type SeekAsk struct {
	Name      string `json:"-"`
	To        string `json:"to" doc:"end, start, @time, +n, -n, or an offset together with a topic and a partition"`
	Topic     string `json:"topic,omitempty" doc:"Only this input"`
	Partition *int32 `json:"partition,omitempty" doc:"Only this partition of the topic"`
}

// SeekAnswer says where the script goes on.
type SeekAnswer struct {
	Name       string           `json:"name"`
	Activation model.Activation `json:"activation"`
	Starts     []StartOffset    `json:"starts"`
}

// The states of a script, of a fiber and of a node's copy.
const (
	StateRunning  = "running"  // it takes records, or waits for them
	StatePaused   = "paused"   // by an operator
	StateStarting = "starting" // deployed; not yet everywhere
	StateStopped  = "stopped"  // by its policy or a broken module: LastError says why
	StateRemoving = "removing"
	StateMissing  = "missing" // an input that does not exist yet
	StateUnknown  = "unknown" // of a node's copy: the node is down or does not answer
)

// ScriptStatus is all that is known of a script: what was deployed, and what
// runs of it where.
type ScriptStatus struct {
	Name        string            `json:"name"`
	ID          model.ScriptID    `json:"id"`
	Description string            `json:"description,omitempty"`
	Activation  model.Activation  `json:"activation"`
	Digest      model.Digest      `json:"digest"`
	Mode        string            `json:"mode" doc:"async or sync"`
	Inputs      []string          `json:"inputs"`
	Outputs     []string          `json:"outputs,omitempty"`
	OnError     string            `json:"on_error,omitempty" doc:"Policy for records that fail, as the manifest has it"`
	Env         map[string]string `json:"env,omitempty"`
	State       string            `json:"state" doc:"running, paused, starting, stopped, removing or missing"`
	Reason      string            `json:"reason,omitempty" doc:"Why it is in that state, when there is more to say"`
	Paused      bool              `json:"paused"`
	Created     time.Time         `json:"created"`
	Updated     time.Time         `json:"updated"`
	Nodes       []ScriptNode      `json:"nodes" doc:"What each node has loaded, those that are down included"`
	Partitions  []ScriptPartition `json:"partitions" doc:"One row for each partition of each input; none of a sync script"`
	LastError   *ScriptError      `json:"last_error,omitempty" doc:"Of a sync script: why it last refused a batch, or let it pass unchanged"`
	ScriptCounts
}

// ScriptCounts are a script's counters since its node's start, summed over
// what they are shown for.
type ScriptCounts struct {
	RecordsIn      int64   `json:"records_in"`
	RecordsOut     int64   `json:"records_out"`
	RecordsFailed  int64   `json:"records_failed" doc:"Records whose last try failed"`
	RecordsDropped int64   `json:"records_dropped" doc:"Records that the script answered with nothing"`
	CPUSeconds     float64 `json:"cpu_seconds"`
}

// ScriptNode is what one node runs of a script.
type ScriptNode struct {
	Node   model.NodeID `json:"node"`
	Digest model.Digest `json:"digest" doc:"What runs there; differs from the script's while a deployment spreads"`
	State  string       `json:"state" doc:"running, starting, stopped, or unknown where the node is down or does not answer"`
	Reason string       `json:"reason,omitempty"`
}

// ScriptPartition is how a script stands in one partition of an input.
type ScriptPartition struct {
	Topic        string       `json:"topic"`
	Partition    int32        `json:"partition"`
	Node         model.NodeID `json:"node" doc:"Where its fiber runs; -1 while nowhere"`
	SourceOffset model.Offset `json:"source_offset" doc:"The next record to take; the smallest over the children"`
	EndOffset    model.Offset `json:"end_offset" doc:"End of what can be taken: the last stable offset"`
	LagRecords   int64        `json:"lag_records"`
	LagMs        int64        `json:"lag_ms" doc:"Age of the first record not yet taken; 0 when there is none"`
	GapRecords   int64        `json:"gap_records,omitempty" doc:"Offsets that the parent had trimmed before the script took them"`
	State        string       `json:"state"`
	LastError    *ScriptError `json:"last_error,omitempty"`
	ScriptCounts
}

// ScriptError is the last thing that went wrong in a partition, or of a sync
// script anywhere.
type ScriptError struct {
	Text   string       `json:"text"`
	Offset model.Offset `json:"offset" doc:"The record that failed; -1 when no single one did"`
	Time   time.Time    `json:"time"`
}

// LogsAsk asks for what a script printed.
type LogsAsk struct {
	Name   string
	Since  time.Time // zero: all that is kept
	Tail   int       // the last so many lines; below 0: all that is kept
	Follow bool      // go on until the context ends
}

// LogLine is one line that a script printed, or that the sidecar said of it.
type LogLine struct {
	Time   time.Time    `json:"time"`
	Node   model.NodeID `json:"node"`
	Script string       `json:"script"`
	Level  string       `json:"level" doc:"debug, info, warn or error"`
	Text   string       `json:"text"`
}
