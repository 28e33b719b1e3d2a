package script

import (
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/async"
)

// OnError is what becomes of a record that failed all its tries.
type OnError string

// The policies.
const (
	Skip OnError = "skip" // its offset is noted in every child's log
	Dead OnError = "dlq"  // it goes to the dead letter topic
	Stop OnError = "stop" // the fiber stops before it
)

// Spec is an async script as its fibers need it: one activation, with names
// resolved to topics. It never changes once handed out. As JSON it is the plan
// of its activation in __scripts.
type Spec struct {
	Script     model.ScriptID     `json:"script"`
	Name       string             `json:"name"`
	Activation model.Activation   `json:"activation"`
	Digest     model.Digest       `json:"digest"`
	Inputs     []Input            `json:"inputs"`
	Outputs    []Output           `json:"outputs"`
	ByKey      bool               `json:"by_key,omitempty"`
	Codec      async.Codec        `json:"codec,omitempty"`
	OnError    OnError            `json:"on_error"`
	Retries    int                `json:"retries,omitempty"`
	Paused     bool               `json:"-"`
	KeepFrom   model.Activation   `json:"-"` // children of at least this activation go on where they stand
	Starts     []controller.Start `json:"-"` // for the others
	Updated    int64              `json:"-"` // changes with every deploy, seek, pause and resume
	Fault      string             `json:"-"` // why it cannot run as it is bound

	whole *Spec // what ForTopic was asked of
}

// Input is a parent topic; ID is zero while it does not exist.
type Input struct {
	Topic      string        `json:"topic"`
	ID         model.TopicID `json:"id"`
	Partitions int32         `json:"partitions"`
}

// Output is a child topic; ID is zero if it does not exist.
type Output struct {
	Topic      string        `json:"topic"`
	ID         model.TopicID `json:"id"`
	Partitions int32         `json:"partitions"` // that the activation routes over
	DLQ        bool          `json:"dlq,omitempty"`
	Input      string        `json:"input,omitempty"` // the only input that it is for; empty: all
}

// StartOf is where the activation begins in parent, unless children keep.
func (s *Spec) StartOf(parent model.PartitionID) model.Offset {
	for _, st := range s.Starts {
		if st.Parent == parent {
			return st.Offset
		}
	}
	return 0
}

// ForTopic gives the spec as a fiber of that input needs it: with the outputs
// that are for it, guest's first.
func (s *Spec) ForTopic(topic string) *Spec {
	own := *s
	own.whole, own.Outputs = s, nil
	for _, dlq := range []bool{false, true} {
		for _, o := range s.Outputs {
			if o.DLQ == dlq && (o.Input == "" || o.Input == topic) {
				own.Outputs = append(own.Outputs, o)
			}
		}
	}
	return &own
}

// Whole gives what ForTopic was asked of, or s itself.
func (s *Spec) Whole() *Spec {
	if s.whole == nil {
		return s
	}
	return s.whole
}

// InputOf finds an input by its topic's name; -1 for none.
func (s *Spec) InputOf(topic string) int {
	return slices.IndexFunc(s.Inputs, func(in Input) bool { return in.Topic == topic })
}

// Child is a partition that a fiber writes to.
type Child struct {
	ID     model.PartitionID
	Topic  string
	Output int // in the spec's outputs
	DLQ    bool
}

// Children lists the partitions that a fiber of parent partition index writes
// to, in order of output, then partition. s is of ForTopic.
func (s *Spec) Children(index int32) []Child {
	var all []Child
	for i, o := range s.Outputs {
		if !s.ByKey || o.DLQ {
			all = append(all, Child{ID: model.PartitionID{Topic: o.ID, Index: index}, Topic: o.Topic, Output: i, DLQ: o.DLQ})
			continue
		}
		for p := range o.Partitions {
			all = append(all, Child{ID: model.PartitionID{Topic: o.ID, Index: p}, Topic: o.Topic, Output: i})
		}
	}
	return all
}

// FiberSpec is s, of ForTopic, as the sidecar needs it.
func (s *Spec) FiberSpec(parent model.PartitionID, input int) async.FiberSpec {
	f := async.FiberSpec{
		Digest: s.Digest, Script: s.Script, Activation: s.Activation,
		Topic: s.Inputs[input].Topic, Parent: parent, Input: input, Retries: s.Retries,
	}
	for _, o := range s.Outputs {
		if o.DLQ {
			continue
		}
		out := async.Output{Partitions: o.Partitions, Routing: async.RouteKey, Codec: s.Codec}
		if !s.ByKey {
			// The parent's own index must survive the modulo, also where the parent
			// grew after this activation was planned.
			out.Routing, out.Partitions = async.RouteSame, max(o.Partitions, parent.Index+1)
		}
		f.Outputs = append(f.Outputs, out)
	}
	return f
}

// FiberState is how a fiber stands. It is a copy, and as JSON goes between nodes.
type FiberState struct {
	Script     model.ScriptID    `json:"script"`
	Name       string            `json:"name"`
	Activation model.Activation  `json:"activation"` // that all its children have taken; 0 before any
	Began      model.Offset      `json:"began"`      // where they began it; NoOffset when that was before this fiber
	Digest     model.Digest      `json:"digest"`
	Parent     model.PartitionID `json:"parent"`
	Topic      string            `json:"topic"`            // the parent's
	State      string            `json:"state"`            // one of api's states
	Reason     string            `json:"reason,omitempty"` // why it is in that state, when there is more to say
	Offset     model.Offset      `json:"offset"`
	End        model.Offset      `json:"end"` // of what can be taken, as last seen
	LagRecords int64             `json:"lag_records"`
	LagMs      int64             `json:"lag_ms"` // age of the first record not taken; 0 when there is none
	Gap        int64             `json:"gap"`    // offsets that the parent had trimmed before they were taken
	LastError  *api.ScriptError  `json:"last_error,omitempty"`
	Updated    time.Time         `json:"updated"`
	api.ScriptCounts
}
