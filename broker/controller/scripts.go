package controller

import (
	"slices"
	"strings"

	"github.com/millrace-io/millrace/broker/model"
)

const (
	// scriptsMax bounds the cluster's scripts: each costs an instance per core.
	scriptsMax = 1000
	// syncPerTopicMax bounds what one produce waits for.
	syncPerTopicMax = 4
	// boundTopicsMax bounds one script's inputs, and its outputs.
	boundTopicsMax = 64
	// scriptNameMax leaves room for "<input>.<name>.dlq" in a topic's name.
	scriptNameMax = 64
)

func (s *State) deployScript(c *Command, ask *DeployScript) (Result, bool) {
	n := cloneScript(&ask.Script)
	old := s.scripts[n.Name]
	if no := s.checkDeploy(n, old, ask.Expect); no != nil {
		return refused(no)
	}
	n.Activation, n.Updated, n.Created = s.activation(), c.At, c.At
	n.Removing, n.Fault = false, ""
	if old == nil {
		n.ID, n.Keep = s.next.Script, false
		s.next.Script++
	} else {
		n.ID, n.Created, n.Paused = old.ID, old.Created, old.Paused
	}
	n.KeepFrom = n.Activation
	if n.Keep {
		n.KeepFrom, n.Starts = old.KeepFrom, s.carryStarts(old, n)
	}
	s.scripts[n.Name] = n
	if path := s.cycle(n.Name); path != "" {
		return refused(refuse(ErrCycle, "%s", path))
	}
	for i := range n.Outputs {
		n.Outputs[i].Partitions = 0
	}
	n = s.fit(c, n)
	if n.Fault != "" {
		return refused(refuse(ErrInvalidScript, "%s", n.Fault))
	}
	// The outputs made now may be missing inputs of other scripts.
	again := s.refit(c)
	return Result{Script: s.scripts[n.Name], Reactivated: again}, !ask.DryRun
}

func cloneScript(s *Script) *Script {
	n := *s
	n.Inputs = slices.Clone(s.Inputs)
	n.Outputs = slices.Clone(s.Outputs)
	n.Starts = slices.Clone(s.Starts)
	return &n
}

// activation takes the next one.
func (s *State) activation() model.Activation {
	a := s.next.Activation
	s.next.Activation++
	return a
}

// carryStarts gives the starts of a redeploy that keeps offsets: old's for the
// inputs it had, so that a start that not every child took yet is not lost, the
// new ones for inputs that are new.
func (s *State) carryStarts(old, n *Script) []Start {
	known := map[model.TopicID]bool{}
	for _, name := range old.Inputs {
		if t, ok := s.names[name]; ok {
			known[t.ID] = true
		}
	}
	starts := slices.Clone(old.Starts)
	for _, st := range n.Starts {
		if !known[st.Parent.Topic] {
			starts = append(starts, st)
		}
	}
	return starts
}

// checkDeploy refuses what is wrong before any topic is looked at for size.
func (s *State) checkDeploy(n, old *Script, expect model.Activation) *Refusal {
	if err := checkScriptName(n.Name); err != nil {
		return err
	}
	switch {
	case old != nil && old.Removing:
		return refuse(ErrScriptRemoving, "%q", n.Name)
	case old == nil && expect != 0:
		return refuse(ErrConflict, "script %q is not deployed, activation %d was expected", n.Name, expect)
	case old != nil && old.Activation != expect:
		return refuse(ErrConflict, "script %q is at activation %d, %d was expected", n.Name, old.Activation, expect)
	case old == nil && len(s.scripts) >= scriptsMax:
		return refuse(ErrTooManyScripts, "%d are deployed, the limit is %d", len(s.scripts), scriptsMax)
	case n.Mode != ModeAsync && n.Mode != ModeSync:
		return refuse(ErrInvalidScript, "%q: mode %q is neither async nor sync", n.Name, n.Mode)
	case old != nil && old.Mode != n.Mode:
		return refuse(ErrInvalidScript, "%q is deployed as %s: remove it before it becomes %s", n.Name, old.Mode, n.Mode)
	case n.Digest == model.Digest{}:
		return refuse(ErrInvalidScript, "%q has no digest", n.Name)
	}
	if no := s.checkInputs(n); no != nil {
		return no
	}
	if n.Mode == ModeSync {
		return s.checkSync(n)
	}
	return s.checkOutputs(n)
}

// checkScriptName applies the rule of topic names, with a shorter limit: a
// script's name ends topic names.
func checkScriptName(name string) *Refusal {
	if err := model.CheckTopicName(name); err != nil {
		return refuse(ErrInvalidScript, "its name: %v", err)
	}
	if len(name) > scriptNameMax {
		return refuse(ErrInvalidScript, "its name has %d characters, the limit is %d", len(name), scriptNameMax)
	}
	return nil
}

func (s *State) checkInputs(n *Script) *Refusal {
	if len(n.Inputs) < 1 || len(n.Inputs) > boundTopicsMax {
		return refuse(ErrInvalidScript, "%q has %d inputs, 1 to %d may be", n.Name, len(n.Inputs), boundTopicsMax)
	}
	for i, name := range n.Inputs {
		if err := model.CheckTopicName(name); err != nil {
			return refuse(ErrInvalidScript, "%q: input %d: %v", n.Name, i, err)
		}
		if slices.Contains(n.Inputs[:i], name) {
			return refuse(ErrInvalidScript, "%q names input %q twice", n.Name, name)
		}
		t, ok := s.names[name]
		switch {
		case !ok && !n.AllowMissing:
			return refuse(ErrUnknownTopic, "input %q of script %q does not exist; create it, or deploy with --allow-missing", name, n.Name)
		case ok && t.Internal && n.Mode == ModeSync:
			return refuse(ErrInternalTopic, "%q cannot have the sync script %q", name, n.Name)
		}
	}
	return nil
}

func (s *State) checkSync(n *Script) *Refusal {
	if len(n.Outputs) > 0 {
		return refuse(ErrInvalidScript, "%q is sync and declares outputs: its output is its input", n.Name)
	}
	for _, input := range n.Inputs {
		var others []string
		for _, sc := range s.Scripts() {
			if sc.Mode == ModeSync && !sc.Removing && sc.Name != n.Name && slices.Contains(sc.Inputs, input) {
				others = append(others, sc.Name)
			}
		}
		if len(others) >= syncPerTopicMax {
			return refuse(ErrTooManyScripts, "topic %q has %d sync scripts already (%s), the limit is %d", input, len(others), strings.Join(others, ", "), syncPerTopicMax)
		}
	}
	return nil
}

func (s *State) checkOutputs(n *Script) *Refusal {
	if len(n.Outputs) < 1 || len(n.Outputs) > boundTopicsMax {
		return refuse(ErrInvalidScript, "%q has %d outputs, 1 to %d may be", n.Name, len(n.Outputs), boundTopicsMax)
	}
	for i, o := range n.Outputs {
		if err := model.CheckTopicName(o.Topic); err != nil {
			return refuse(ErrInvalidScript, "%q: output %d: %v", n.Name, i, err)
		}
		if slices.ContainsFunc(n.Outputs[:i], func(p Output) bool { return p.Topic == o.Topic }) {
			return refuse(ErrInvalidScript, "%q names output %q twice", n.Name, o.Topic)
		}
		if t, ok := s.names[o.Topic]; ok && t.Internal {
			return refuse(ErrInternalTopic, "%q cannot be an output of script %q", o.Topic, n.Name)
		}
	}
	return nil
}

// find gives a script that may be changed.
func (s *State) find(name string) (*Script, *Refusal) {
	sc, ok := s.scripts[name]
	if !ok {
		return nil, refuse(ErrUnknownScript, "%q", name)
	}
	if sc.Removing {
		return nil, refuse(ErrScriptRemoving, "%q", name)
	}
	return sc, nil
}

func (s *State) pauseScript(c *Command, ask *PauseScript) (Result, bool) {
	sc, no := s.find(ask.Name)
	if no != nil {
		return refused(no)
	}
	if sc.Paused == ask.Paused && sc.Fault == "" {
		return Result{Script: sc}, false
	}
	n := cloneScript(sc)
	n.Paused, n.Updated = ask.Paused, c.At
	if !ask.Paused && n.Fault != "" {
		// It may fit again: outputs recreated or grown by hand.
		n.Fault = ""
		if n = s.fit(c, n); n.Fault != "" {
			return refused(refuse(ErrInvalidScript, "%q cannot run: %s", n.Name, n.Fault))
		}
		if n.Activation == sc.Activation { // its outputs are others now
			n = cloneScript(n)
			n.Activation, n.Keep = s.activation(), true
		}
	}
	s.scripts[n.Name] = n
	return Result{Script: n, Reactivated: s.refit(c)}, true
}

func (s *State) seekScript(c *Command, ask *SeekScript) (Result, bool) {
	sc, no := s.find(ask.Name)
	if no != nil {
		return refused(no)
	}
	if sc.Mode == ModeSync {
		return refused(refuse(ErrInvalidScript, "%q is sync: it has no position", sc.Name))
	}
	if sc.Activation != ask.Expect {
		return refused(refuse(ErrConflict, "script %q is at activation %d, %d was expected", sc.Name, sc.Activation, ask.Expect))
	}
	n := cloneScript(sc)
	n.Activation, n.Updated = s.activation(), c.At
	n.Keep, n.KeepFrom, n.Starts = false, n.Activation, slices.Clone(ask.Starts)
	s.scripts[n.Name] = n
	return Result{Script: n}, true
}

func (s *State) removeScript(c *Command, ask *RemoveScript) (Result, bool) {
	sc, ok := s.scripts[ask.Name]
	if !ok {
		return refused(refuse(ErrUnknownScript, "%q", ask.Name))
	}
	if sc.Removing {
		return Result{Script: sc}, false // a repeat is told the removal that runs
	}
	n := cloneScript(sc)
	n.Activation, n.Updated, n.Removing = s.activation(), c.At, true
	s.scripts[n.Name] = n
	return Result{Script: n}, true
}

func (s *State) dropScript(ask *DropScript) (Result, bool) {
	sc, ok := s.scripts[ask.Name]
	switch {
	case !ok:
		return refused(refuse(ErrUnknownScript, "%q", ask.Name))
	case !sc.Removing || sc.Activation != ask.Activation:
		return refused(refuse(ErrConflict, "script %q is at activation %d (removing: %t), the removal %d was to end", ask.Name, sc.Activation, sc.Removing, ask.Activation))
	}
	delete(s.scripts, ask.Name)
	for _, t := range s.Topics() {
		if t.MadeFor == sc.ID { // it stays, as a topic like any other
			n := *t
			n.MadeFor = 0
			s.put(&n)
		}
	}
	return Result{Script: sc}, true
}
