package server

import (
	"context"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
)

// nodeView answers for this broker alone.
type nodeView struct {
	node      model.NodeID
	version   string
	cores     int
	memory    int64
	dataDir   string
	began     time.Time
	cluster   *cluster.Cluster
	space     *space
	sidecar   func() api.Sidecar
	listeners map[string]string

	mu     sync.Mutex
	reason string // what is waited for; empty when ready
}

// Node implements admin.Node.
func (v *nodeView) Node(context.Context) (api.Node, error) {
	m := v.cluster.Metadata()
	n := api.Node{
		NodeInfo: api.NodeInfo{ID: v.node, Alive: true},
		Version:  v.version, Cores: v.cores, MemoryBytes: v.memory, DataDir: v.dataDir,
		DiskFreeBytes: v.space.Free(), Sidecar: v.sidecar(), UptimeSeconds: time.Since(v.began).Seconds(),
		Listeners: v.listeners,
	}
	if known, ok := m.Node(v.node); ok {
		n.NodeInfo = nodeInfo(v.cluster, m, known)
	}
	return n, nil
}

// Ready implements admin.Node.
func (v *nodeView) Ready() api.Ready {
	v.mu.Lock()
	defer v.mu.Unlock()
	return api.Ready{Ready: v.reason == "", Reason: v.reason}
}

// waitFor says what the node is waiting for; empty: it is ready.
func (v *nodeView) waitFor(reason string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reason = reason
}
