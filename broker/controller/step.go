package controller

import (
	"maps"

	"github.com/millrace-io/millrace/broker/model"
)

// Step applies a command. A refused one, or a dry run, changes nothing.
func (s *State) Step(c Command) Result {
	next := s.clone()
	next.version++
	result, changed := next.step(&c)
	if changed && result.Refused == nil {
		next.drain()
		*s = *next
	}
	result.Version = s.version
	return result
}

// step works on a clone; changed tells whether it is to be kept.
func (s *State) step(c *Command) (r Result, changed bool) {
	if no := s.early(c); no != nil {
		return refused(no)
	}
	switch {
	case c.RegisterNode != nil:
		return s.registerNode(c.RegisterNode)
	case c.CreateTopics != nil:
		return s.createTopics(c, c.CreateTopics)
	case c.DeleteTopics != nil:
		return s.deleteTopics(c, c.DeleteTopics)
	case c.CreatePartitions != nil:
		return s.createPartitions(c, c.CreatePartitions)
	case c.SetTopicConfigs != nil:
		return s.setTopicConfigs(c.SetTopicConfigs)
	case c.SetClusterConfigs != nil:
		return s.setClusterConfigs(c.SetClusterConfigs)
	case c.AllocateProducers != nil:
		return s.allocateProducers(c.AllocateProducers)
	case c.DeployScript != nil:
		return s.deployScript(c, c.DeployScript)
	case c.PauseScript != nil:
		return s.pauseScript(c, c.PauseScript)
	case c.SeekScript != nil:
		return s.seekScript(c, c.SeekScript)
	case c.RemoveScript != nil:
		return s.removeScript(c, c.RemoveScript)
	case c.DropScript != nil:
		return s.dropScript(c.DropScript)
	case c.ReassignPartitions != nil:
		return s.reassignPartitions(c.ReassignPartitions)
	case c.Moved != nil:
		return s.moved(c.Moved)
	case c.DecommissionNode != nil:
		return s.decommissionNode(c.DecommissionNode)
	case c.RecommissionNode != nil:
		return s.recommissionNode(c.RecommissionNode)
	case c.SetMaintenance != nil:
		return s.setMaintenance(c.SetMaintenance)
	case c.JoinNode != nil:
		return s.joinNode(c.JoinNode)
	case c.RemoveNode != nil:
		return s.removeNode(c.RemoveNode)
	case c.RenewReplica != nil:
		return s.renewReplica(c.RenewReplica)
	case c.ActivateFeatures != nil:
		return s.activateFeatures(c.ActivateFeatures)
	case c.ForgetLost != nil:
		return s.forgetLost(c.ForgetLost)
	}
	return Result{Refused: refuse(ErrCommand, "it asks nothing that this build knows")}, false
}

// refused is the answer of a command that changes nothing.
func refused(r *Refusal) (Result, bool) { return Result{Refused: r}, false }

func (s *State) allocateProducers(c *AllocateProducers) (Result, bool) {
	if c.Count < 1 || c.Count > producersPerCommandMax {
		return refused(refuse(ErrCommand, "%d producer ids asked, 1 to %d may be", c.Count, producersPerCommandMax))
	}
	r := Result{FirstID: s.next.Producer, Count: c.Count}
	s.next.Producer += model.ProducerID(c.Count)
	return r, true
}

func (s *State) setTopicConfigs(c *SetTopicConfigs) (Result, bool) {
	t, ok := s.topics[c.ID]
	if !ok {
		return refused(refuse(ErrUnknownTopic, "id %s", c.ID))
	}
	if t.Revision != c.Revision {
		return refused(refuse(ErrConflict, "topic %q is at revision %d, not %d", t.Name, t.Revision, c.Revision))
	}
	n := *t
	n.Overrides = changed(t.Overrides, c.Set, c.Delete)
	if maps.Equal(n.Overrides, t.Overrides) {
		return Result{Topics: []TopicResult{{Topic: t}}}, false
	}
	s.put(&n)
	return Result{Topics: []TopicResult{{Topic: &n}}}, true
}

func (s *State) setClusterConfigs(c *SetClusterConfigs) (Result, bool) {
	if s.configRevision != c.Revision {
		return refused(refuse(ErrConflict, "cluster configs are at revision %d, not %d", s.configRevision, c.Revision))
	}
	if c.Node == model.NoNode {
		n := changed(s.clusterConfigs, c.Set, c.Delete)
		if maps.Equal(n, s.clusterConfigs) {
			return Result{}, false
		}
		s.clusterConfigs = n
	} else {
		if _, ok := s.nodes[c.Node]; !ok {
			return refused(refuse(ErrInvalidNode, "node %d is not registered", c.Node))
		}
		n := changed(s.nodeConfigs[c.Node], c.Set, c.Delete)
		if maps.Equal(n, s.nodeConfigs[c.Node]) {
			return Result{}, false
		}
		s.nodeConfigs[c.Node] = n
		if len(n) == 0 {
			delete(s.nodeConfigs, c.Node)
		}
	}
	s.configRevision = s.version
	return Result{}, true
}

// changed gives a new map: old with set put in and remove taken out; nil when
// nothing is left.
func changed(old, set map[string]string, remove []string) map[string]string {
	n := maps.Clone(old)
	if n == nil {
		n = map[string]string{}
	}
	maps.Copy(n, set)
	for _, name := range remove {
		delete(n, name)
	}
	if len(n) == 0 {
		return nil
	}
	return n
}
