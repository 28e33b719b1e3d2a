package cluster

import "github.com/millrace-io/millrace/broker/controller"

// Plan proposes what would put the cluster in balance, given what nodes say.
func (m *Metadata) Plan(w controller.Weights) controller.Plan {
	l := controller.Layout{Scripts: m.scripts}
	for i := range m.Nodes {
		l.Nodes = append(l.Nodes, &m.Nodes[i])
	}
	for _, t := range m.topics {
		l.Topics = append(l.Topics, t.record)
	}
	return l.Plan(w)
}
