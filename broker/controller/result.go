package controller

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/broker/model"
)

// Refusals. They cross the log as a code and a text (Refusal) and come out
// wrapped around the sentinel again.
var (
	ErrTopicExists        = errors.New("topic exists")               // use it, or delete it first
	ErrUnknownTopic       = errors.New("unknown topic")              // create it, or refresh metadata
	ErrTopicName          = model.ErrTopicName                       // choose another name
	ErrInvalidPartitions  = errors.New("invalid partition count")    // ask for another count
	ErrInvalidReplication = errors.New("invalid replication")        // ask for at most the registered nodes
	ErrInvalidAssignment  = errors.New("invalid assignment")         // name registered nodes, each once a partition
	ErrInternalTopic      = errors.New("internal topic")             // not for clients to change
	ErrConflict           = errors.New("changed meanwhile")          // read again and repeat
	ErrInvalidScript      = errors.New("invalid script")             // correct the deployment
	ErrUnknownScript      = errors.New("unknown script")             // deploy it, or list what is there
	ErrScriptRemoving     = errors.New("script is being removed")    // wait until it is gone
	ErrCycle              = errors.New("scripts would form a cycle") // the text has the path
	ErrTooManyScripts     = errors.New("too many scripts")           // remove one
	ErrInvalidNode        = errors.New("invalid node")               // correct the node's id or address
	ErrNodeGone           = errors.New("node is gone")               // start it with an empty data directory
	ErrUnknownPartition   = errors.New("unknown partition")          // refresh metadata
	ErrUnchanged          = errors.New("already so")                 // nothing is to be done
	ErrNoReassignment     = errors.New("no reassignment under way")  // nothing is to be cancelled
	ErrFeatureLevel       = errors.New("feature level")              // raise the level, or start newer builds
	ErrOldBuild           = errors.New("build is too old")           // start a newer one
	ErrNodeState          = errors.New("node is in another state")   // the text says which; end it first
	ErrRefused            = errors.New("refused")                    // of a code this build does not know
)

// codes name the sentinels in results; a code is for ever.
var codes = []struct {
	code string
	err  error
}{
	{"topic_exists", ErrTopicExists}, {"unknown_topic", ErrUnknownTopic}, {"topic_name", ErrTopicName},
	{"partitions", ErrInvalidPartitions}, {"replication", ErrInvalidReplication}, {"assignment", ErrInvalidAssignment},
	{"internal_topic", ErrInternalTopic}, {"conflict", ErrConflict}, {"script", ErrInvalidScript},
	{"unknown_script", ErrUnknownScript}, {"script_removing", ErrScriptRemoving}, {"cycle", ErrCycle},
	{"too_many_scripts", ErrTooManyScripts}, {"node", ErrInvalidNode}, {"command", ErrCommand},
	{"unknown_partition", ErrUnknownPartition}, {"unchanged", ErrUnchanged}, {"no_reassignment", ErrNoReassignment},
	{"feature_level", ErrFeatureLevel}, {"old_build", ErrOldBuild}, {"node_gone", ErrNodeGone}, {"node_state", ErrNodeState},
}

// Refusal is an error as it travels in a result.
type Refusal struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Error gives the text.
func (r *Refusal) Error() string { return r.Text }

// Unwrap gives the sentinel, for errors.Is.
func (r *Refusal) Unwrap() error {
	for _, c := range codes {
		if c.code == r.Code {
			return c.err
		}
	}
	return ErrRefused
}

// refuse builds a refusal of sentinel; the text begins with the sentinel's.
func refuse(sentinel error, format string, args ...any) *Refusal {
	r := &Refusal{Text: sentinel.Error() + ": " + fmt.Sprintf(format, args...)}
	for _, c := range codes {
		if c.err == sentinel {
			r.Code = c.code
		}
	}
	must(r.Code != "", "refusal %q has no code", r.Text)
	return r
}

// Err gives the refusal as an error, nil for none.
func (r *Refusal) Err() error {
	if r == nil {
		return nil
	}
	return r
}

// Result answers one command.
type Result struct {
	Version     uint64            `json:"version"` // of the state after the command
	Refused     *Refusal          `json:"refused,omitempty"`
	ClusterID   string            `json:"cluster_id,omitempty"`
	Topics      []TopicResult     `json:"topics,omitempty"`     // in the command's order
	Partitions  []PartitionResult `json:"partitions,omitempty"` // in the command's order
	Script      *Script           `json:"script,omitempty"`
	Node        *NodeResult       `json:"node,omitempty"`
	FirstID     model.ProducerID  `json:"first_id,omitempty"`
	Count       int64             `json:"count,omitempty"`
	Reactivated []string          `json:"reactivated,omitempty"` // scripts that took a new activation as a side effect
	Forgotten   *Forgotten        `json:"forgotten,omitempty"`
}

// NodeResult is who a node that joins is.
type NodeResult struct {
	ID    model.NodeID `json:"id"`
	Birth model.Birth  `json:"birth"`
}

// TopicResult is the outcome for one topic of a command.
type TopicResult struct {
	Topic   *Topic   `json:"topic,omitempty"`
	Refused *Refusal `json:"refused,omitempty"`
}

// PartitionResult is the outcome for one partition of a command.
type PartitionResult struct {
	Partition *Partition `json:"partition,omitempty"`
	Refused   *Refusal   `json:"refused,omitempty"`
}

// Encode gives the bytes that travel back to the proposer.
func (r *Result) Encode() []byte {
	b, err := json.Marshal(r)
	must(err == nil, "a result cannot be encoded: %v", err)
	return b
}

// DecodeResult reads what Encode wrote.
func DecodeResult(b []byte) (Result, error) {
	var r Result
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("decode controller result: %w", err)
	}
	return r, nil
}

func must(holds bool, format string, args ...any) {
	if !holds {
		panic("controller: broken invariant: " + fmt.Sprintf(format, args...))
	}
}
