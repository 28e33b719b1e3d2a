package cluster

import (
	"time"

	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// Unfit says why a node should not lead, as it says itself; 0: it may. Its values are
// flags of an announcement.
type Unfit uint8

const (
	// UnfitDisk: its disk is slow. It should lead nothing.
	UnfitDisk Unfit = 4
	// UnfitScripts: it runs no scripts. It should not lead a topic that has some.
	UnfitScripts Unfit = 8

	unfitAny = UnfitDisk | UnfitScripts
)

// standing is what a node says of its leading: whether it gives all away for good, and
// why it should not lead.
type standing struct {
	leaving bool
	unfit   Unfit
}

// SetUnfit says why this node should not lead. changed tells that the others are to hear
// of it.
func (c *Cluster) SetUnfit(u Unfit) (changed bool) {
	c.leaders.mu.Lock()
	defer c.leaders.mu.Unlock()
	changed = c.leaders.standing.unfit != u
	c.leaders.standing.unfit = u
	return changed
}

// Unfit tells why a node should not lead, as it said last; nothing of one that is not alive.
func (c *Cluster) Unfit(node model.NodeID) Unfit {
	c.leaders.mu.RLock()
	defer c.leaders.mu.RUnlock()
	if node == c.o.Node {
		return c.leaders.standing.unfit
	}
	if last, ok := c.leaders.heard[node]; ok && c.o.Now().Sub(last.at) < aliveFor {
		return last.unfit
	}
	return 0
}

// MayLead tells whether a node is to be left, or given, a partition: it is alive, not
// about to stop, not in maintenance, and fit for it, for so long. scripts: the topic has
// some. Of this node itself only the present counts.
func (c *Cluster) MayLead(node model.NodeID, scripts bool, since time.Duration) bool {
	if c.Metadata().InMaintenance(node) {
		return false
	}
	c.leaders.mu.RLock()
	defer c.leaders.mu.RUnlock()
	says := c.leaders.standing
	if node != c.o.Node {
		now, last := c.o.Now(), c.leaders.heard[node]
		if last.at.IsZero() || now.Sub(last.at) >= aliveFor || now.Sub(last.since) < since || now.Sub(last.changed) < since {
			return false
		}
		says = last.standing
	}
	return !says.leaving && says.unfit&UnfitDisk == 0 && (!scripts || says.unfit&UnfitScripts == 0)
}

// InMaintenance tells whether a node is to lead nothing.
func (m *Metadata) InMaintenance(node model.NodeID) bool {
	n, ok := m.Node(node)
	return ok && n.State == controller.NodeMaintenance
}

// Scripted gives the topics that have scripts, by name: what their leaders take goes
// through the sidecar.
func (m *Metadata) Scripted() map[string]bool {
	topics := map[string]bool{}
	for _, s := range m.scripts {
		if s.Removing {
			continue
		}
		for _, input := range s.Inputs {
			topics[input] = true
		}
	}
	return topics
}
