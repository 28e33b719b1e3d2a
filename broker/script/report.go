package script

import (
	"slices"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// ReportAsk asks a node how scripts stand there. As JSON it goes between nodes, and
// so do all types of this file.
type ReportAsk struct {
	Scripts []model.ScriptID `json:"scripts,omitempty"` // none: all
}

// Report is what a node tells of the scripts that it was asked for. It is a copy.
type Report struct {
	Version uint64 `json:"version"` // of the metadata that the node had, or a later one
	// Sidecar is up, down or off.
	Sidecar string         `json:"sidecar"`
	Scripts []ScriptReport `json:"scripts,omitempty"`
}

// ScriptReport is how a script stands on one node.
type ScriptReport struct {
	Script     model.ScriptID   `json:"script"`
	Activation model.Activation `json:"activation"` // the newest that the node has heard of
	// State is running where that activation's digest is loaded, starting where it is
	// not yet, stopped where it cannot be.
	State  string       `json:"state"`
	Reason string       `json:"reason,omitempty"`
	Digest model.Digest `json:"digest"` // what is loaded; zero unless running
	// InPath tells of a sync script that all its topics are served with it.
	InPath    bool             `json:"in_path,omitempty"`
	Counts    api.ScriptCounts `json:"counts"` // of a sync script
	LastError *api.ScriptError `json:"last_error,omitempty"`
	Fibers    []FiberState     `json:"fibers,omitempty"`
}

// Report tells how scripts stand on this node.
func (s *Service) Report(ask ReportAsk) Report {
	m := s.o.Cluster.Metadata()
	r := Report{Version: m.Version, Sidecar: s.sidecars.State().State}
	for _, sc := range m.Scripts() {
		if len(ask.Scripts) == 0 || slices.Contains(ask.Scripts, sc.ID) {
			r.Scripts = append(r.Scripts, s.reportOf(m, sc))
		}
	}
	return r
}

func (s *Service) reportOf(m *cluster.Metadata, sc *controller.Script) ScriptReport {
	r := ScriptReport{Script: sc.ID, Activation: sc.Activation, State: api.StateStarting}
	ok, why := s.sidecars.Running(sc.Digest)
	switch {
	case ok:
		r.Digest, r.State = sc.Digest, api.StateRunning
	case s.refused(sc.Digest):
		r.State, r.Reason = api.StateStopped, why
	default:
		r.Reason = why
	}
	if sc.Mode == controller.ModeSync {
		c := s.table.countsOf(sc.Digest)
		r.Counts, r.LastError, r.InPath = c.counts(), c.last.Load(), s.inPath(m, sc)
	} else {
		r.Fibers = s.fibers.Fibers(sc.ID)
	}
	return r
}

// inPath tells whether a sync script runs in all its topics here.
func (s *Service) inPath(m *cluster.Metadata, sc *controller.Script) bool {
	for _, in := range sc.Inputs {
		t, ok := m.Topic(in)
		if !ok {
			continue
		}
		if _, ready := s.table.For(t.ID); !ready && !sc.Paused {
			return false
		}
	}
	return true
}
