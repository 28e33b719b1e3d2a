package pacemaker

import (
	"slices"

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
// resolved to topics. It never changes once handed out.
type Spec struct {
	Script     model.ScriptID     `json:"script"`
	Name       string             `json:"name"`
	Activation model.Activation   `json:"activation"`
	Digest     model.Digest       `json:"digest"`
	Inputs     []Input            `json:"inputs"`
	Outputs    []Output           `json:"outputs"` // the guest's, in the manifest's order, then the dead letters
	ByKey      bool               `json:"by_key,omitempty"`
	Codec      async.Codec        `json:"codec,omitempty"`
	OnError    OnError            `json:"on_error"`
	Retries    int                `json:"retries,omitempty"`
	Paused     bool               `json:"-"`
	Keep       bool               `json:"-"` // children go on where they stand
	Starts     []controller.Start `json:"-"`
	Updated    int64              `json:"-"` // changes with every deploy, seek, pause and resume
	Fault      string             `json:"-"` // why it cannot run as it is bound

	whole *Spec // what forTopic was asked of
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

// startOf is where the activation begins in parent, unless children keep.
func (s *Spec) startOf(parent model.PartitionID) model.Offset {
	for _, st := range s.Starts {
		if st.Parent == parent {
			return st.Offset
		}
	}
	return 0
}

// forTopic gives the spec as a fiber of that input needs it: with the outputs
// that are for it, guest's first.
func (s *Spec) forTopic(topic string) *Spec {
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

// inputOf finds an input by its topic's name; -1 for none.
func (s *Spec) inputOf(topic string) int {
	return slices.IndexFunc(s.Inputs, func(in Input) bool { return in.Topic == topic })
}

// children lists the partitions that a fiber of parent partition index writes
// to; dead letters come last.
func (s *Spec) children(index int32) []child {
	var all []child
	for i, o := range s.Outputs {
		if !s.ByKey || o.DLQ {
			all = append(all, child{id: model.PartitionID{Topic: o.ID, Index: index}, output: i, dlq: o.DLQ, topic: o.Topic})
			continue
		}
		for p := range o.Partitions {
			all = append(all, child{id: model.PartitionID{Topic: o.ID, Index: p}, output: i, topic: o.Topic})
		}
	}
	return all
}

// child is a child partition and where it stands.
type child struct {
	id       model.PartitionID
	topic    string
	output   int // in the spec's outputs
	dlq      bool
	at       model.Offset // its source offset
	verdicts []model.Offset
}

// fiberSpec is the spec as the sidecar needs it.
func (s *Spec) fiberSpec(parent model.PartitionID, input int) async.FiberSpec {
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
