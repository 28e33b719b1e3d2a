package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/metrics"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/script"
	"github.com/millrace-io/millrace/pacemaker"
	"github.com/millrace-io/millrace/plugins/control"
)

// scripts joins the rooms that run scripts: package script, the sidecar behind
// it, and the pacemaker.
type scripts struct {
	s       *Server
	service *script.Service
	pace    *pacemaker.Pacemaker
	cancel  context.CancelFunc
	done    chan struct{}
}

// scriptDoors reach the partitions that scripts read and write, and the other nodes.
type scriptDoors interface {
	script.Log
	script.Nodes
	pacemaker.Children
}

// newScripts builds the rooms over doors and puts sync scripts into the produce
// path; until run, topics with sync scripts refuse writes.
func newScripts(s *Server, doors scriptDoors) *scripts {
	x := &scripts{s: s, done: make(chan struct{})}
	x.service = script.New(script.Options{
		Node: s.n.ID, Cluster: s.cluster, Log: doors, Nodes: doors, Connect: s.connectSidecar(),
		Session: session(s.n), Logger: s.log,
	})
	s.produce.UseScripts(x.service.Table())
	nudge, _ := x.service.Sidecar().Watch() // for the life of the node
	x.pace = pacemaker.New(pacemaker.Options{
		Node: s.n.ID, Reader: s.fetch, Children: doors, Sidecar: x.service.Sidecar(), Nudge: nudge,
		View: script.View{Cluster: s.cluster, Log: s.log}, Plans: x.service.Store(), Journal: x.service.Journal(),
		Log: s.log,
	})
	x.service.UseFibers(x.pace)
	return x
}

// scriptsWait bounds how long a start waits for the scripts to be loaded; what
// is not loaded then goes on loading.
const (
	scriptsWait  = 15 * time.Second
	scriptsCheck = 10 * time.Millisecond
	// sidecarWait bounds the wait for a sidecar that does not come up: plain topics
	// are served without.
	sidecarWait = 2 * time.Second
)

// startScripts reads __scripts to its end, has the sidecar load what is deployed,
// then lets the pacemaker run.
func (s *Server) startScripts(ctx context.Context, _ identity) error {
	run, cancel := context.WithCancel(context.Background())
	x := s.scripts
	x.cancel = cancel
	go func() {
		defer close(x.done)
		paced := make(chan struct{})
		go func() {
			defer close(paced)
			x.pace.Run(run)
		}()
		x.service.Run(run)
		<-paced
	}()
	ctx, stop := context.WithTimeout(ctx, scriptsWait)
	defer stop()
	giveUp := time.Now().Add(sidecarWait)
	for {
		ok, reason := x.ready(time.Now().Before(giveUp))
		if ok {
			return nil
		}
		s.node.waitFor(reason)
		select {
		case <-time.After(scriptsCheck):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			s.log.Warn("ready before every script is loaded", "waiting_for", reason)
			return nil
		}
	}
}

// ready also awaits the sidecar's first life, if asked to: the ready line then
// says what is.
func (x *scripts) ready(awaitSidecar bool) (bool, string) {
	if st := x.service.Sidecar().State(); awaitSidecar && st.State == script.SidecarDown {
		return false, "the sidecar is not up: " + st.Reason
	}
	return x.service.Ready()
}

func (x *scripts) stop() {
	if x.cancel == nil {
		return
	}
	x.cancel()
	<-x.done
}

// lead is called on a loop.
func (x *scripts) lead(e core.Leadership) { x.pace.Lead(e) }

// sidecar describes the sidecar for people.
func (x *scripts) sidecar() api.Sidecar {
	st := x.service.Sidecar().State()
	return api.Sidecar{
		State: st.State, Reason: st.Reason, Build: st.Hello.Build, Engine: st.Hello.Engine, BootID: st.Hello.Boot,
		Walls: walls(st.Hello.Walls),
	}
}

func walls(ws []control.Wall) (lines []string) {
	for _, w := range ws {
		line := w.Name + ": up"
		if !w.Up {
			line = w.Name + ": down, " + w.Text
		}
		lines = append(lines, line)
	}
	return lines
}

// stopped names the scripts that stopped: by their policy, for a child that was
// deleted, or because their module cannot run.
func (x *scripts) stopped(ctx context.Context) []string {
	all, err := x.service.List(ctx)
	if err != nil {
		x.s.log.Debug("scripts not listed", "err", err)
	}
	var names []string
	for _, st := range all {
		if st.State == api.StateStopped {
			names = append(names, st.Name)
		}
	}
	return names
}

// samples sums what this node's fibers and sync scripts did, for a scrape.
func (x *scripts) samples() []metrics.ScriptSample {
	all := x.service.ListHere()
	samples := make([]metrics.ScriptSample, 0, len(all))
	for _, st := range all {
		sample := metrics.ScriptSample{
			Script: st.Name, Mode: st.Mode, In: float64(st.RecordsIn), Out: float64(st.RecordsOut),
			Failed: float64(st.RecordsFailed), Dropped: float64(st.RecordsDropped), CPU: st.CPUSeconds,
		}
		for _, p := range st.Partitions {
			sample.LagRecords += float64(p.LagRecords)
			sample.LagSeconds = max(sample.LagSeconds, float64(p.LagMs)/1e3)
			switch p.State {
			case api.StateRunning:
				sample.FibersRunning++
			case api.StateStopped:
				sample.FibersParked++
			}
		}
		samples = append(samples, sample)
	}
	return samples
}

// taken tells how far every async script bound to a parent partition has taken
// it, for topics that keep what their scripts have not. A fiber that is not
// there yet has taken nothing that is known.
func (s *Server) taken(id model.PartitionID) (model.Offset, bool) {
	m := s.cluster.Metadata()
	topic, ok := m.TopicByID(id.Topic)
	if !ok {
		return 0, false
	}
	least, bound := model.OffsetMax, false
	for _, sc := range m.Scripts() {
		if sc.Mode != controller.ModeAsync || sc.Removing || !contains(sc.Inputs, topic.Name) {
			continue
		}
		bound = true
		offset := model.Offset(0)
		for _, f := range s.scripts.pace.Fibers(sc.ID) {
			if f.Parent == id && f.Offset >= 0 {
				offset = f.Offset
			}
		}
		least = min(least, offset)
	}
	return least, bound
}

func contains(all []string, one string) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}

// scriptLog is the doors to the partitions that this node serves: it gives package
// script, which lies below the verbs, what it needs of them, and fibers produce's own.
type scriptLog struct {
	*produce.Service
	fetch *fetch.Service
}

// internalTimeout bounds a write to an internal topic.
const internalTimeout = 10 * time.Second

// Append implements script.Log.
func (l scriptLog) Append(ctx context.Context, id model.PartitionID, batch []byte) (model.Offset, error) {
	p := l.Start(produce.Ask{Partition: id, Records: batch, Timeout: internalTimeout, Internal: true})
	select {
	case <-p.Done():
		r := p.Result()
		return r.Base, r.Err
	case <-ctx.Done():
		return model.NoOffset, fmt.Errorf("append: %w: %w", produce.ErrTimedOut, ctx.Err())
	}
}

// Read implements script.Log.
func (l scriptLog) Read(ctx context.Context, id model.PartitionID, from model.Offset, bytesMax int, wait time.Duration) (script.ReadAnswer, error) {
	a := l.fetch.Fetch(ctx, fetch.Ask{
		Partitions: []fetch.PartitionAsk{{Partition: id, From: from, BytesMax: bytesMax, CurrentEpoch: model.NoEpoch}},
		BytesMin:   1, BytesMax: bytesMax, WaitMax: wait,
	})[0]
	return script.ReadAnswer{LogStart: a.LogStart, HighWatermark: a.HighWatermark, Records: a.Records}, a.Err
}

// Offset implements script.Log.
func (l scriptLog) Offset(ctx context.Context, id model.PartitionID, timestamp int64) (model.Offset, error) {
	a, err := l.fetch.ListOffset(ctx, fetch.ListAsk{Partition: id, Timestamp: timestamp, Committed: true, CurrentEpoch: model.NoEpoch})
	return a.Offset, err
}

// Activate implements script.Log.
func (l scriptLog) Activate(ctx context.Context, id model.PartitionID, a partition.Activate) (partition.SourceState, error) {
	return l.Service.Activate(ctx, id, a)
}

// Source implements script.Log.
func (l scriptLog) Source(ctx context.Context, id model.PartitionID, key model.SourceKey) (partition.SourceState, error) {
	return l.Service.Source(ctx, id, key)
}
