package script

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/sdk/manifest"
)

const (
	// deployTimeout bounds a deployment that nobody else bounds.
	deployTimeout = 2 * time.Minute
	// steerTimeout bounds a seek, pause, resume or removal.
	steerTimeout = time.Minute
)

// Deploy checks a script, stores it and makes it run: see api.DeployAsk.
func (s *Service) Deploy(ctx context.Context, ask api.DeployAsk) (api.DeployAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, deployTimeout)
	defer cancel()
	answer, err := s.deploy(ctx, ask)
	return answer, explain(err)
}

func (s *Service) deploy(ctx context.Context, ask api.DeployAsk) (api.DeployAnswer, error) {
	man, err := readManifest(ask)
	if err != nil {
		return api.DeployAnswer{}, err
	}
	if err := s.checkModule(ctx, man, ask.Module); err != nil {
		return api.DeployAnswer{}, err
	}
	if _, err := s.settled(ctx, man.Name); err != nil {
		return api.DeployAnswer{}, err
	}
	done, redeployed, err := s.decide(ctx, ask, man)
	if err != nil {
		return api.DeployAnswer{}, err
	}
	answer := s.answerOf(done, redeployed)
	s.log.Info("script deployed", "script", man.Name, "activation", done.Activation, "digest", done.Digest, "mode", done.Mode)
	if !ask.Wait {
		return answer, nil
	}
	all, err := s.awaitRunning(ctx, done)
	if err != nil {
		return answer, err
	}
	answer.Running = true
	answer.Warnings = append(answer.Warnings, downWarnings(all)...)
	if starts := s.beganAt(done, all); len(starts) > 0 {
		answer.Starts = starts
	}
	return answer, nil
}

func readManifest(ask api.DeployAsk) (*manifest.Manifest, error) {
	switch {
	case len(ask.Manifest) > api.ManifestBytesMax:
		return nil, fmt.Errorf("%w: the manifest has %d bytes, the limit is %d", api.ErrTooLarge, len(ask.Manifest), api.ManifestBytesMax)
	case len(ask.Module) > moduleBytesMax:
		return nil, fmt.Errorf("%w: the module has %d bytes, the limit is %d", api.ErrTooLarge, len(ask.Module), moduleBytesMax)
	case len(ask.Module) == 0:
		return nil, fmt.Errorf("%w: there is no module", api.ErrInvalid)
	}
	man, err := manifest.Parse(manifest.FileName, ask.Manifest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	if ask.Name != "" {
		man.Name = ask.Name
	}
	if err := man.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	return man, nil
}

// checkModule has the sidecar compile the module, and holds the manifest's
// limits against the sidecar's.
func (s *Service) checkModule(ctx context.Context, man *manifest.Manifest, wasm []byte) error {
	l, err := s.sidecars.current()
	if err != nil {
		return fmt.Errorf("check the module: %w", err)
	}
	limits := l.hello.Limits
	switch {
	case limits.ModuleBytesMax > 0 && int64(len(wasm)) > limits.ModuleBytesMax:
		return fmt.Errorf("%w: the module has %d bytes, the sidecar takes %d", api.ErrTooLarge, len(wasm), limits.ModuleBytesMax)
	case limits.InstanceBytesMax > 0 && man.Limits.Memory > limits.InstanceBytesMax:
		return fmt.Errorf("%w: limits.memory is %d bytes, the sidecar gives an instance at most %d", api.ErrInvalid, man.Limits.Memory, limits.InstanceBytesMax)
	case limits.BatchTimeMax > 0 && man.Limits.BatchTime > limits.BatchTimeMax:
		return fmt.Errorf("%w: limits.batch_time is %s, the sidecar gives at most %s", api.ErrInvalid, man.Limits.BatchTime, limits.BatchTimeMax)
	}
	if _, err := l.Control.Check(ctx, moduleFrom(man, DigestOf(man.Canonical(), wasm), wasm)); err != nil {
		return fmt.Errorf("check the module: %w", err)
	}
	return nil
}

// settled waits until __scripts was read; it gives the script as deployed now,
// nil for none.
func (s *Service) settled(ctx context.Context, name string) (*controller.Script, error) {
	select {
	case <-s.store.AtEnd():
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %s is being read", api.ErrUnavailable, cluster.TopicScripts)
	}
	old, _ := s.o.Cluster.Metadata().Script(name)
	return old, nil
}

// decide stores the module and has the controller take the deployment.
func (s *Service) decide(ctx context.Context, ask api.DeployAsk, man *manifest.Manifest) (*controller.Script, bool, error) {
	s.deploys.Lock()
	defer s.deploys.Unlock()
	m := s.o.Cluster.Metadata()
	next := controller.Script{
		Name: man.Name, Mode: controller.Mode(man.Mode), Inputs: man.Inputs, Manifest: man.Canonical(),
		ByKey: man.Partitioning == manifest.ByKey, AllowMissing: ask.AllowMissing,
	}
	next.Digest = DigestOf(next.Manifest, ask.Module)
	if man.Mode == manifest.Async {
		next.Outputs = outputsOf(man)
	}
	old, redeployed := m.Script(man.Name)
	expect, now := model.Activation(0), model.Digest{}
	if redeployed {
		expect, now = old.Activation, old.Digest
	}
	if err := s.start(ctx, m, &next, old, ask.Start, man); err != nil {
		return nil, false, err
	}
	// The controller's own checks first: what it refuses needs no bytes stored.
	if _, err := s.o.Cluster.DeployScript(ctx, cluster.Deploy{Script: next, Expect: expect, ValidateOnly: true}); err != nil {
		return nil, false, fmt.Errorf("deploy script %q: %w", man.Name, err)
	}
	stored, err := s.store.put(ctx, man.Name, next.Manifest, ask.Module, now)
	if err != nil {
		return nil, false, fmt.Errorf("store script %q: %w", man.Name, err)
	}
	done, err := s.o.Cluster.DeployScript(ctx, cluster.Deploy{Script: next, Expect: expect})
	if err != nil {
		return nil, false, fmt.Errorf("deploy script %q: %w", man.Name, err)
	}
	if err := s.store.point(ctx, stored); err != nil {
		s.log.Warn("record of a name not written; it will be", "script", man.Name, "err", err)
	}
	s.tidySoon()
	return done.Script, redeployed, nil
}

// start fills in where next begins. A redeploy goes on where the script stands,
// unless a start was asked for; inputs that it did not have begin as the
// manifest says.
func (s *Service) start(ctx context.Context, m *cluster.Metadata, next, old *controller.Script, text string, man *manifest.Manifest) error {
	if next.Mode != controller.ModeAsync {
		return nil
	}
	at, inputs := man.Start, next.Inputs
	if text != "" {
		var err error
		if at, err = manifest.ParseStart(text); err != nil {
			return fmt.Errorf("%w: %w", api.ErrInvalid, err)
		}
	} else if old != nil {
		next.Keep = true
		inputs = slices.DeleteFunc(slices.Clone(inputs), func(in string) bool { return slices.Contains(old.Inputs, in) })
	}
	var err error
	next.Starts, err = s.resolveStarts(ctx, m, inputs, at)
	return err
}

func (s *Service) answerOf(sc *controller.Script, redeployed bool) api.DeployAnswer {
	m := s.o.Cluster.Metadata()
	a := api.DeployAnswer{
		Name: sc.Name, ID: sc.ID, Activation: sc.Activation, Digest: sc.Digest, Mode: string(sc.Mode),
		Redeployed: redeployed, Inputs: sc.Inputs,
	}
	for _, o := range sc.Outputs {
		a.Outputs = append(a.Outputs, o.Topic)
		if t, ok := m.Topic(o.Topic); ok && t.MadeFor == sc.ID && !redeployed {
			a.Created = append(a.Created, o.Topic)
		}
	}
	if !sc.Keep {
		a.Starts = startsOf(m, sc.Starts)
	}
	for _, in := range sc.Inputs {
		if _, ok := m.Topic(in); !ok {
			a.Warnings = append(a.Warnings, fmt.Sprintf("input %q does not exist yet: the script starts when it does", in))
		}
	}
	if sc.Paused {
		a.Warnings = append(a.Warnings, "the script is paused: resume it")
	}
	return a
}

// awaitRunning waits until a script runs wherever it has to: a sync one is in
// the path of its topics on every node that is alive, an async one is loaded there
// and its children have taken its activation. It gives what the nodes told then.
func (s *Service) awaitRunning(ctx context.Context, sc *controller.Script) (all []told, err error) {
	reason := ""
	err = every(ctx, s.pace(), fmt.Sprintf("script %q runs", sc.Name), func() (bool, error) {
		now, ok := s.o.Cluster.Metadata().Script(sc.Name)
		if !ok || now.Activation != sc.Activation {
			return false, fmt.Errorf("%w: script %q was changed by somebody else meanwhile", api.ErrConflict, sc.Name)
		}
		if now.Fault != "" {
			return false, fmt.Errorf("%w: script %q cannot run: %s", api.ErrInvalid, sc.Name, now.Fault)
		}
		all = s.ask(ctx, sc.ID)
		nodes, why, err := missing(now, all)
		if err != nil || len(nodes) > 0 {
			reason = why
			return false, err
		}
		if sc.Mode == controller.ModeSync {
			return true, nil
		}
		var left []string
		left, reason = s.notTaken(now, all)
		return len(left) == 0, nil
	})
	if err != nil && reason != "" && errors.Is(err, api.ErrTimedOut) {
		return all, fmt.Errorf("%w: %s", err, reason)
	}
	return all, err
}

func (s *Service) refused(d model.Digest) bool {
	l, err := s.sidecars.current()
	if err != nil {
		return false
	}
	_, err = s.sidecars.isLoaded(l, d)
	return errors.Is(err, control.ErrModule)
}

// notTaken lists the parent partitions whose children have not all taken a
// script's activation, as "topic-partition", with the reason of one of them. That
// children have taken it stays true, whoever told.
func (s *Service) notTaken(sc *controller.Script, all []told) (left []string, reason string) {
	taken := map[model.PartitionID]bool{}
	for i := range all {
		r, _ := all[i].of(sc.ID)
		if r == nil {
			continue
		}
		for _, f := range r.Fibers {
			taken[f.Parent] = taken[f.Parent] || f.Activation == sc.Activation
			if f.Activation != sc.Activation && f.Reason != "" {
				reason = f.Reason
			}
		}
	}
	m := s.o.Cluster.Metadata()
	for _, in := range sc.Inputs {
		t, ok := m.Topic(in)
		if !ok {
			continue
		}
		for _, p := range t.Partitions {
			if !taken[t.PartitionID(p.Index)] {
				left = append(left, fmt.Sprintf("%s-%d", in, p.Index))
			}
		}
	}
	return left, reason
}

// awaitTaken waits until all children have taken a script's activation.
func (s *Service) awaitTaken(ctx context.Context, sc *controller.Script) error {
	left, reason := []string(nil), ""
	err := every(ctx, s.pace(), "all children have taken the activation", func() (bool, error) {
		left, reason = s.notTaken(sc, s.ask(ctx, sc.ID))
		return len(left) == 0, nil
	})
	if err != nil && len(left) > 0 {
		shown := left[:min(len(left), 5)]
		return fmt.Errorf("%w; missing for %s (of %d) %s", err, strings.Join(shown, ", "), len(left), reason)
	}
	return err
}

// beganAt tells where each fiber of an activation began.
func (s *Service) beganAt(sc *controller.Script, all []told) []api.StartOffset {
	var starts []api.StartOffset
	for _, f := range s.fibersOf(sc.ID, all) {
		if f.Activation == sc.Activation && f.Began >= 0 {
			starts = append(starts, api.StartOffset{Topic: f.Topic, Partition: f.Parent.Index, Offset: f.Began})
		}
	}
	slices.SortFunc(starts, func(a, b api.StartOffset) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return starts
}
