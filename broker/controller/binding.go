package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// inherited are the settings that a child topic takes from its parent: how
// long records live, and how large one may be.
var inherited = []string{"retention.ms", "retention.bytes", "max.message.bytes"}

// refit binds every async script anew after topics came or grew: outputs are
// made or grown, and a script whose routing counts changed takes a new
// activation. It repeats until nothing changes: an output made may be the input
// of another. It never refuses; what does not fit becomes the script's fault.
func (s *State) refit(c *Command) (reactivated []string) {
	for changed := true; changed; {
		changed = false
		for _, sc := range s.Scripts() {
			if sc.Mode != ModeAsync || sc.Removing || sc.Fault != "" {
				continue
			}
			n := s.fit(c, sc)
			if n == sc {
				continue
			}
			changed = true
			if n.Activation != sc.Activation && !slices.Contains(reactivated, n.Name) {
				reactivated = append(reactivated, n.Name)
			}
		}
	}
	return reactivated
}

// fit makes or grows sc's outputs for the inputs that exist and records the
// counts used for routing. It gives sc itself when nothing changed.
func (s *State) fit(c *Command, sc *Script) *Script {
	if sc.Mode != ModeAsync {
		return sc
	}
	count, parents := s.inputs(sc)
	if count == 0 {
		return sc // no input yet
	}
	n := cloneScript(sc)
	routed := false
	for i := range n.Outputs {
		o := &n.Outputs[i]
		t, fault := s.fitOutput(c, sc, o, count, parents)
		if fault != "" {
			n.Fault, n.Updated = fault, c.At
			s.scripts[n.Name] = n
			return n
		}
		// A count that is enough stays: only a new activation may change it.
		if have := int32(len(t.Partitions)); o.Partitions < count && o.Partitions < have {
			routed = routed || o.Partitions > 0
			o.Partitions = have
		}
	}
	if slices.EqualFunc(n.Outputs, sc.Outputs, func(a, b Output) bool { return a.Partitions == b.Partitions }) {
		return sc
	}
	if routed {
		n.Activation, n.Keep, n.Updated = s.activation(), true, c.At
	}
	s.scripts[n.Name] = n
	return n
}

// fitOutput gives the topic of output o with enough partitions, or why not.
func (s *State) fitOutput(c *Command, sc *Script, o *Output, count int32, parents []*Topic) (*Topic, string) {
	t, ok := s.names[o.Topic]
	switch {
	case !ok:
		return s.makeOutput(c, sc, o, count, parents)
	case int32(len(t.Partitions)) >= count:
		return t, ""
	case t.MadeFor == sc.ID:
		p := s.placer()
		return s.grow(t, p, count, p.beside(parents, int32(len(t.Partitions)), count)), ""
	case sc.ByKey:
		return t, ""
	}
	return nil, fmt.Sprintf("output topic %q of script %q has %d partitions, its inputs have up to %d: grow it first", o.Topic, sc.Name, len(t.Partitions), count)
}

// makeOutput creates a child topic with the first parent's replication and retention,
// each partition where that of a parent is.
func (s *State) makeOutput(c *Command, sc *Script, o *Output, count int32, parents []*Topic) (*Topic, string) {
	parent, overrides := parents[0], map[string]string{}
	for _, name := range inherited {
		if v, ok := parent.Overrides[name]; ok {
			overrides[name] = v
		}
	}
	maps.Copy(overrides, o.Overrides)
	if len(overrides) == 0 {
		overrides = nil
	}
	p := s.placer()
	t, no := s.createTopic(c, p, &NewTopic{Name: o.Topic, Assignments: p.beside(parents, 0, count), Overrides: overrides})
	if no != nil {
		return nil, fmt.Sprintf("output topic %q of script %q cannot be made: %s", o.Topic, sc.Name, no.Text)
	}
	made := *t
	made.MadeFor = sc.ID
	s.put(&made)
	return &made, ""
}

// inputs gives the inputs that exist, in their order, and the largest partition count
// of them, 0 for none.
func (s *State) inputs(sc *Script) (count int32, parents []*Topic) {
	for _, name := range sc.Inputs {
		if t, ok := s.names[name]; ok {
			parents = append(parents, t)
			count = max(count, int32(len(t.Partitions)))
		}
	}
	return count, parents
}

// unbind follows the deletion of t: scripts that write to it stop by name,
// starts in it are forgotten (a topic of that name made later starts at 0).
func (s *State) unbind(c *Command, t *Topic) {
	for _, sc := range s.Scripts() {
		n := cloneScript(sc)
		n.Starts = slices.DeleteFunc(n.Starts, func(st Start) bool { return st.Parent.Topic == t.ID })
		written := slices.IndexFunc(sc.Outputs, func(o Output) bool { return o.Topic == t.Name })
		if written >= 0 && !sc.Removing {
			n.Outputs[written].Partitions = 0
			if n.Fault == "" {
				n.Fault = fmt.Sprintf("output topic %q of script %q was deleted", t.Name, sc.Name)
			}
		}
		if written >= 0 || len(n.Starts) != len(sc.Starts) {
			n.Updated = c.At
			s.scripts[n.Name] = n
		}
	}
}

// faults gives every script's fault by name.
func (s *State) faults() map[string]string {
	f := make(map[string]string, len(s.scripts))
	for name, sc := range s.scripts {
		f[name] = sc.Fault
	}
	return f
}

// cycle looks for a way from an output of the script back to one of its inputs
// and gives it as "a -[s]-> b -[t]-> a", or "".
func (s *State) cycle(name string) string {
	sc := s.scripts[name]
	for _, input := range sc.Inputs {
		w := walk{from: s.readers(), goal: input, seen: map[string]bool{}}
		if path := w.through(sc, []string{input}); path != nil {
			return strings.Join(path, " ")
		}
	}
	return ""
}

// readers gives the async scripts that read each topic, by name.
func (s *State) readers() map[string][]*Script {
	r := map[string][]*Script{}
	for _, sc := range s.Scripts() {
		if sc.Mode != ModeAsync {
			continue
		}
		for _, input := range sc.Inputs {
			r[input] = append(r[input], sc)
		}
	}
	return r
}

// walk is one search for a cycle.
type walk struct {
	from map[string][]*Script
	goal string
	seen map[string]bool // topics
}

func (w *walk) through(sc *Script, path []string) []string {
	for _, o := range sc.Outputs {
		next := append(slices.Clone(path), "-["+sc.Name+"]->", o.Topic)
		if o.Topic == w.goal {
			return next
		}
		if w.seen[o.Topic] {
			continue
		}
		w.seen[o.Topic] = true
		for _, reader := range w.from[o.Topic] {
			if found := w.through(reader, next); found != nil {
				return found
			}
		}
	}
	return nil
}
