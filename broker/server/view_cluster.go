package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

// clusterView answers the admin API's questions about the whole cluster.
type clusterView struct {
	node    model.NodeID
	cluster *cluster.Cluster
	cores   *core.Set
	fetch   *fetch.Service
	space   *space
	faults  func() map[model.PartitionID]error
	damages *damages
	sidecar func() api.Sidecar
	stopped func(context.Context) []string // names of scripts
	reasons func(context.Context, []model.NodeID) map[model.PartitionID]string
	quorum  func(context.Context) (raft.Members, error) // the controller's group

	rebalancer *rebalancer
}

// Info implements admin.Cluster.
func (v *clusterView) Info(context.Context) (api.ClusterInfo, error) {
	m := v.cluster.Metadata()
	info := api.ClusterInfo{
		ID: m.ClusterID, Version: m.Version, Controller: m.Controller,
		Topics: len(m.Topics()), Scripts: len(m.Scripts()),
	}
	for _, n := range m.Nodes {
		info.Nodes = append(info.Nodes, nodeInfo(v.cluster, m, n))
	}
	for _, t := range m.Topics() {
		info.Partitions += len(t.Partitions)
	}
	return info, nil
}

func nodeInfo(c *cluster.Cluster, m *cluster.Metadata, n cluster.Node) api.NodeInfo {
	return api.NodeInfo{
		ID: n.ID, Host: n.Host, Port: n.Port, Rack: n.Rack, Admin: n.Admin,
		Controller: n.ID == m.Controller, Alive: c.Alive(n.ID), State: string(n.State), Advertised: advertised(n),
	}
}

// Health implements admin.Cluster.
func (v *clusterView) Health(ctx context.Context) (api.Health, error) {
	m := v.cluster.Metadata()
	h := api.Health{
		Controller: m.Controller, Voters: v.voters(ctx), Sidecar: v.sidecar().State, LowSpace: v.space.Check() != nil,
		NodesDown: []model.NodeID{}, Leaderless: []api.TopicPartition{}, UnderReplicated: []api.TopicPartition{}, UnderMinInsync: []api.TopicPartition{},
		Damaged: []api.TopicPartition{}, ScriptsStopped: append([]string{}, v.stopped(ctx)...), Problems: []string{},
	}
	for _, n := range m.Nodes {
		h.Nodes = append(h.Nodes, n.ID)
		if !v.cluster.Alive(n.ID) {
			h.NodesDown = append(h.NodesDown, n.ID)
		}
		if problem := unfitProblem(m, n, v.cluster.Unfit(n.ID)); problem != "" {
			h.NodesUnfit, h.Problems = append(h.NodesUnfit, n.ID), append(h.Problems, problem)
		}
	}
	faults := v.faults()
	for _, t := range m.Topics() {
		for _, p := range t.Partitions {
			id := t.PartitionID(p.Index)
			v.standing(&h, t, &p)
			problems := v.damaged(ctx, t, p)
			if p.Lost {
				problems = append(problems, fmt.Sprintf("%s-%d is lost: its only replica was on a disk that node %d does not have any more; delete the topic", t.Name, p.Index, p.Replicas[0]))
			}
			if err := faults[id]; err != nil {
				problems = append(problems, fmt.Sprintf("%s-%d was not started: %v", t.Name, p.Index, err))
			}
			if len(problems) > 0 {
				h.Damaged = append(h.Damaged, api.TopicPartition{Topic: t.Name, Partition: p.Index})
				h.Problems = append(h.Problems, problems...)
			}
		}
	}
	h.Problems = append(h.Problems, v.problems(h)...)
	h.Healthy = len(h.Problems) == 0
	return h, nil
}

const (
	// votersWait bounds the question who votes: without a majority nobody answers.
	votersWait = 2 * time.Second
	// groupWait is longer than an election takes, and groupPause lies between two questions.
	groupWait, groupPause = 5 * time.Second, 100 * time.Millisecond
)

// group asks who is in the controller's group, again while it elects.
func (v *clusterView) group(ctx context.Context) (m raft.Members, err error) {
	for {
		if m, err = v.quorum(ctx); !errors.Is(err, raft.ErrDropped) {
			return m, err
		}
		select {
		case <-ctx.Done():
			return m, err
		case <-time.After(groupPause):
		}
	}
}

func (v *clusterView) voters(ctx context.Context) []model.NodeID {
	ctx, cancel := context.WithTimeout(ctx, votersWait)
	defer cancel()
	nodes := []model.NodeID{}
	group, err := v.group(ctx)
	if err != nil {
		return nodes
	}
	for _, m := range group.Voters {
		nodes = append(nodes, m.Node)
	}
	slices.Sort(nodes)
	return nodes
}

// standing tells what a partition lacks: a leader, or replicas in sync. min.insync.replicas
// is for the writes of clients, which internal topics do not take.
func (v *clusterView) standing(h *api.Health, t *cluster.Topic, p *cluster.Partition) {
	id, name := t.PartitionID(p.Index), api.TopicPartition{Topic: t.Name, Partition: p.Index}
	if leader, _ := v.cluster.Reachable(id); leader == model.NoNode {
		h.Leaderless = append(h.Leaderless, name)
	}
	in := len(v.cluster.InSync(id, p.Replicas))
	if in < len(p.Replicas) || p.Lacks() {
		h.UnderReplicated = append(h.UnderReplicated, name)
	}
	if in < t.Config.MinInsyncReplicas && !t.Internal {
		h.UnderMinInsync = append(h.UnderMinInsync, name)
	}
}

// damaged says which ranges of a partition cannot be read.
func (v *clusterView) damaged(ctx context.Context, t *cluster.Topic, p cluster.Partition) (problems []string) {
	start := func() model.Offset {
		st, err := v.fetch.Describe(ctx, t.PartitionID(p.Index))
		if err != nil {
			return 0 // all that is known is told
		}
		return st.LogStart
	}
	for _, d := range v.damages.of(t.PartitionID(p.Index), start) {
		problems = append(problems, fmt.Sprintf("%s-%d: offsets %d to %d cannot be read: %s at byte %d: %s; readers must seek past them",
			t.Name, p.Index, d.First, d.Last, d.File, d.Pos, d.Reason))
	}
	return problems
}

func (v *clusterView) problems(h api.Health) (problems []string) {
	if h.Controller == model.NoNode {
		problems = append(problems, "the controller has no leader: topics and scripts cannot be changed; wait for an election")
	}
	if len(h.Voters) == 0 {
		problems = append(problems, "no majority of the nodes that vote on the cluster's metadata answers: bring them back")
	}
	if len(h.NodesDown) > 0 {
		problems = append(problems, fmt.Sprintf("nodes that are down: %v; see their logs", h.NodesDown))
	}
	if n := len(h.Leaderless); n > 0 {
		problems = append(problems, fmt.Sprintf("%d partitions have no leader: see /v1/partitions", n))
	}
	if n := len(h.UnderReplicated); n > 0 {
		problems = append(problems, fmt.Sprintf("%d partitions have replicas that are not in sync: see which nodes are down, or slow; they catch up by themselves", n))
	}
	if n := len(h.UnderMinInsync); n > 0 {
		problems = append(problems, fmt.Sprintf("%d partitions have fewer replicas in sync than min.insync.replicas and take no writes with acks=all: bring replicas back, or lower it", n))
	}
	if h.LowSpace {
		problems = append(problems, "the disk is low on space and writes are refused: free space or delete topics")
	}
	if h.Sidecar == "down" {
		problems = append(problems, "the sidecar is down: scripts do not run; see the broker's log")
	}
	if len(h.ScriptsStopped) > 0 {
		problems = append(problems, fmt.Sprintf("scripts that stopped: %s; `millrace wasm describe NAME` says why", strings.Join(h.ScriptsStopped, ", ")))
	}
	return problems
}

// Partitions implements admin.Cluster.
func (v *clusterView) Partitions(ctx context.Context, topic string, internal bool) ([]api.PartitionInfo, error) {
	m := v.cluster.Metadata()
	if _, ok := m.Topic(topic); topic != "" && !ok {
		return nil, fmt.Errorf("topic %q: %w", topic, api.ErrNotFound)
	}
	var infos []api.PartitionInfo
	for _, t := range m.Topics() {
		if topic == "" && t.Internal && !internal || topic != "" && t.Name != topic {
			continue
		}
		for _, p := range t.Partitions {
			infos = append(infos, v.partition(ctx, t, p))
		}
	}
	return infos, nil
}

func (v *clusterView) partition(ctx context.Context, t *cluster.Topic, p cluster.Partition) api.PartitionInfo {
	id := t.PartitionID(p.Index)
	leader, epoch := v.cluster.Reachable(id)
	info := api.PartitionInfo{
		Topic: t.Name, TopicID: t.ID, Partition: p.Index, Internal: t.Internal, Shard: p.Shard, Core: -1,
		Leader: leader, Epoch: epoch, Replicas: p.Holders(), InSync: v.cluster.InSync(id, p.Replicas),
		LogStart: model.NoOffset, HighWatermark: model.NoOffset, LSO: model.NoOffset,
	}
	st, err := v.fetch.Describe(ctx, id)
	if err != nil {
		return info // no replica here: what it would know stays -1
	}
	if h, ok := v.cores.Handle(id); ok {
		info.Core = h.Core()
	}
	info.LogStart, info.HighWatermark, info.LSO = st.LogStart, st.HighWatermark, st.LSO
	info.SizeBytes, info.Segments = st.Bytes, st.Segments
	return info
}
