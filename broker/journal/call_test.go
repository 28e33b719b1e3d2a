package journal_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// call is one call of a log that changes it, as a value: it can be made on several
// logs, applied to the model, and printed.
type call interface {
	// on makes the call. Who waits for something of the log gives up when stopped
	// closes.
	on(db raftio.ILogDB, stopped <-chan struct{}) error
	// apply does to the model what the call does to a log.
	apply(m model)
	// nodes are those it changes.
	nodes() []raftio.NodeInfo
	String() string
}

// errStopped says that a log that has failed no longer answers, as it may.
var errStopped = errors.New("the log has stopped")

// saveState is SaveRaftState, by the worker of the updates' shards.
type saveState []pb.Update

func (c saveState) on(db raftio.ILogDB, _ <-chan struct{}) error {
	id := uint64(1)
	if len(c) > 0 {
		id = worker(c[0].ShardID)
	}
	return db.SaveRaftState(c, id)
}

func (c saveState) apply(m model) {
	for _, u := range c {
		m.make(nodeOf(u)).save(u)
	}
}

func (c saveState) nodes() []raftio.NodeInfo { return nodesOf(c) }

func (c saveState) String() string {
	var b strings.Builder
	b.WriteString("save")
	for _, u := range c {
		fmt.Fprintf(&b, " [%v", nodeOf(u))
		if !pb.IsEmptyState(u.State) {
			fmt.Fprintf(&b, " state %d/%d/%d", u.Term, u.Vote, u.Commit)
		}
		if !pb.IsEmptySnapshot(u.Snapshot) {
			fmt.Fprintf(&b, " install %d", u.Snapshot.Index)
		}
		if len(u.EntriesToSave) > 0 {
			fmt.Fprintf(&b, " entries %s, %d bytes", span(u.EntriesToSave), sizeOf(u.EntriesToSave))
		}
		b.WriteString("]")
	}
	return b.String()
}

// saveSnapshots is SaveSnapshots: of snapshots made here.
type saveSnapshots []pb.Update

func (c saveSnapshots) on(db raftio.ILogDB, _ <-chan struct{}) error { return db.SaveSnapshots(c) }

func (c saveSnapshots) apply(m model) {
	for _, u := range c {
		if r := m.make(nodeOf(u)); u.Snapshot.Index > r.snapshot.Index {
			r.snapshot = u.Snapshot
		}
	}
}

func (c saveSnapshots) nodes() []raftio.NodeInfo { return nodesOf(c) }

func (c saveSnapshots) String() string {
	var b strings.Builder
	b.WriteString("save snapshots")
	for _, u := range c {
		fmt.Fprintf(&b, " [%v %d]", nodeOf(u), u.Snapshot.Index)
	}
	return b.String()
}

func nodeOf(u pb.Update) raftio.NodeInfo { return raftio.GetNodeInfo(u.ShardID, u.ReplicaID) }

func nodesOf(updates []pb.Update) (nodes []raftio.NodeInfo) {
	for _, u := range updates {
		nodes = append(nodes, nodeOf(u))
	}
	return nodes
}

// saveBootstrap is SaveBootstrapInfo.
type saveBootstrap struct {
	node raftio.NodeInfo
	boot pb.Bootstrap
}

func (c saveBootstrap) on(db raftio.ILogDB, _ <-chan struct{}) error {
	return db.SaveBootstrapInfo(c.node.ShardID, c.node.ReplicaID, c.boot)
}

func (c saveBootstrap) apply(m model)            { m.make(c.node).boot = &c.boot }
func (c saveBootstrap) nodes() []raftio.NodeInfo { return []raftio.NodeInfo{c.node} }
func (c saveBootstrap) String() string           { return fmt.Sprintf("bootstrap %v", c.node) }

// removeTo is RemoveEntriesTo.
type removeTo struct {
	node  raftio.NodeInfo
	index uint64
}

func (c removeTo) on(db raftio.ILogDB, _ <-chan struct{}) error {
	return db.RemoveEntriesTo(c.node.ShardID, c.node.ReplicaID, c.index)
}

func (c removeTo) apply(m model)            { m.make(c.node).removeTo(c.index) }
func (c removeTo) nodes() []raftio.NodeInfo { return []raftio.NodeInfo{c.node} }
func (c removeTo) String() string           { return fmt.Sprintf("remove %v to %d", c.node, c.index) }

// compactTo is CompactEntriesTo, until it is done.
type compactTo struct {
	node  raftio.NodeInfo
	index uint64
}

func (c compactTo) on(db raftio.ILogDB, stopped <-chan struct{}) error {
	done, err := db.CompactEntriesTo(c.node.ShardID, c.node.ReplicaID, c.index)
	if err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-stopped:
		return errStopped
	}
}

func (c compactTo) apply(model)              {}
func (c compactTo) nodes() []raftio.NodeInfo { return nil }
func (c compactTo) String() string           { return fmt.Sprintf("compact %v to %d", c.node, c.index) }

// removeNode is RemoveNodeData.
type removeNode struct{ node raftio.NodeInfo }

func (c removeNode) on(db raftio.ILogDB, _ <-chan struct{}) error {
	return db.RemoveNodeData(c.node.ShardID, c.node.ReplicaID)
}

func (c removeNode) apply(m model)            { delete(m, c.node) }
func (c removeNode) nodes() []raftio.NodeInfo { return []raftio.NodeInfo{c.node} }
func (c removeNode) String() string           { return fmt.Sprintf("remove node %v", c.node) }

// importSnapshot is ImportSnapshot, as the repair tool calls it: on a log that is
// opened for it alone and closed at once.
type importSnapshot struct {
	node     raftio.NodeInfo
	snapshot pb.Snapshot
}

func (c importSnapshot) on(db raftio.ILogDB, _ <-chan struct{}) error {
	return db.ImportSnapshot(c.snapshot, c.node.ReplicaID)
}

func (c importSnapshot) apply(m model) {
	m[c.node] = &replica{
		boot:     &pb.Bootstrap{Join: true, Type: c.snapshot.Type},
		state:    pb.State{Term: c.snapshot.Term, Commit: c.snapshot.Index},
		snapshot: c.snapshot,
		base:     c.snapshot.Index,
	}
}

func (c importSnapshot) nodes() []raftio.NodeInfo { return []raftio.NodeInfo{c.node} }
func (c importSnapshot) String() string {
	return fmt.Sprintf("import %v at %d", c.node, c.snapshot.Index)
}
