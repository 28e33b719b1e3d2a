package script

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/sdk/manifest"
)

// View gives the async scripts of the cluster's metadata as specs.
type View struct {
	Cluster *cluster.Cluster
	Log     *slog.Logger
}

// Watch ticks after each change of the metadata.
func (v View) Watch() (changed <-chan struct{}, cancel func()) { return v.Cluster.Watch() }

// Specs gives those that shall run. One that cannot be read is left out, and
// said so in the log: it was deployed by a newer version.
func (v View) Specs() []*Spec {
	m := v.Cluster.Metadata()
	var specs []*Spec
	for _, s := range m.Scripts() {
		if s.Mode != controller.ModeAsync || s.Removing {
			continue
		}
		spec, err := specOf(m, s)
		if err != nil {
			v.Log.Error("script not run", "script", s.Name, "err", err)
			continue
		}
		specs = append(specs, spec)
	}
	return specs
}

var codecs = map[string]async.Codec{
	"": async.CodecNone, "none": async.CodecNone, "gzip": async.CodecGzip, "snappy": async.CodecSnappy,
	"lz4": async.CodecLZ4, "zstd": async.CodecZstd,
}

func specOf(m *cluster.Metadata, s *controller.Script) (*Spec, error) {
	man, err := manifest.Decode(s.Manifest)
	if err != nil {
		return nil, fmt.Errorf("read the manifest of script %q: %w", s.Name, err)
	}
	codec, ok := codecs[man.Compression]
	if !ok {
		return nil, fmt.Errorf("script %q: compression %q is not known here", s.Name, man.Compression)
	}
	spec := &Spec{
		Script: s.ID, Name: s.Name, Activation: s.Activation, Digest: s.Digest, ByKey: s.ByKey, Codec: codec,
		OnError: OnError(man.OnError.Then), Retries: man.OnError.Retry, Paused: s.Paused, KeepFrom: s.KeepFrom,
		Starts: s.Starts, Updated: s.Updated, Fault: s.Fault,
	}
	for _, name := range s.Inputs {
		in := Input{Topic: name}
		if t, ok := m.Topic(name); ok {
			in.ID, in.Partitions = t.ID, int32(len(t.Partitions))
		}
		spec.Inputs = append(spec.Inputs, in)
	}
	owners := ownersOf(man)
	for _, o := range s.Outputs {
		out := Output{Topic: o.Topic, Partitions: o.Partitions, DLQ: o.DLQ, Input: owners[o.Topic]}
		if t, ok := m.Topic(o.Topic); ok {
			out.ID = t.ID
		}
		spec.Outputs = append(spec.Outputs, out)
	}
	return spec, nil
}

// dlqSuffix ends the name of a dead letter topic.
const dlqSuffix = ".dlq"

// ownersOf maps an output to the only input that it is for: outputs that were
// not declared belong to one input each.
func ownersOf(m *manifest.Manifest) map[string]string {
	owners := map[string]string{}
	if len(m.Outputs) > 0 {
		return owners
	}
	for _, in := range m.Inputs {
		for _, out := range m.OutputsOf(in) {
			owners[out], owners[out+dlqSuffix] = in, in
		}
	}
	return owners
}

// outputsOf lists a manifest's child topics: the guest's, then dead letters.
// Declared outputs share the dead letters of the first.
func outputsOf(m *manifest.Manifest) []controller.Output {
	var guest, dead []controller.Output
	add := func(to *[]controller.Output, topic string, dlq bool) {
		if !slices.ContainsFunc(*to, func(o controller.Output) bool { return o.Topic == topic }) {
			*to = append(*to, controller.Output{Topic: topic, DLQ: dlq})
		}
	}
	for _, in := range m.Inputs {
		for i, out := range m.OutputsOf(in) {
			add(&guest, out, false)
			if i == 0 && m.OnError.Then == manifest.DLQ {
				add(&dead, out+dlqSuffix, true)
			}
		}
	}
	return append(guest, dead...)
}
