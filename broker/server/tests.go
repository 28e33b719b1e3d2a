package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
	"github.com/millrace-io/millrace/broker/selftest"
)

// tests holds the self-test for who answers other nodes, from when on there is one.
type tests struct {
	runner atomic.Pointer[selftest.Runner]
}

func (s *Server) openTests() {
	s.tests.runner.Store(selftest.New(selftest.Options{
		Node: s.n.ID, FS: disk.OS{}, Dir: s.n.DataDir, Room: s.space.room, Run: s.run, Log: s.log,
		Call: func(ctx context.Context, node model.NodeID, body []byte) ([]byte, error) {
			return s.raft.Call(ctx, node, raft.MethodSelfTest, body)
		},
	}))
}

// room says why so many bytes more must not be written by what can do without.
func (s *space) room(bytes int64) error {
	if err := s.Check(); err != nil {
		return err
	}
	if free := s.Free(); free-bytes < s.guard+s.guard/8 {
		return fmt.Errorf("%d bytes free in %s: %d more would leave less than the %d that are kept free", free, s.dir, bytes, s.guard)
	}
	return nil
}

// answer answers raft.MethodSelfTest.
func (t *tests) answer(ctx context.Context, body []byte) ([]byte, error) {
	r := t.runner.Load()
	if r == nil {
		return nil, &raft.Refusal{Code: refusedStarting, Text: "the node is starting"}
	}
	return r.Answer(ctx, body)
}

// testWait bounds a question to one node about its self-test.
const testWait = 10 * time.Second

// askTests asks nodes side by side, and gives what each says or why it does not.
func (v operateView) askTests(ctx context.Context, nodes []model.NodeID, body func(model.NodeID) ([]byte, error)) []api.SelfTestNode {
	ctx, cancel := context.WithTimeout(ctx, testWait)
	defer cancel()
	all := make([]api.SelfTestNode, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			answer, err := v.askTest(ctx, n, body)
			if err != nil {
				answer = api.SelfTestNode{Node: n, State: "unknown", Results: []api.SelfTestResult{}, Error: err.Error()}
			}
			all[i] = answer
		})
	}
	wg.Wait()
	return all
}

// askTest has one node do what body says, and tell how it stands then.
func (v operateView) askTest(ctx context.Context, node model.NodeID, body func(model.NodeID) ([]byte, error)) (status api.SelfTestNode, err error) {
	call := func(b []byte) ([]byte, error) {
		if node == v.s.n.ID {
			return v.s.tests.answer(ctx, b)
		}
		answer, err := v.s.raft.Call(ctx, node, raft.MethodSelfTest, b)
		if r := (*raft.Refusal)(nil); errors.As(err, &r) {
			err = errors.New(r.Text) // the rest is for machines
		}
		return answer, err
	}
	b, err := body(node)
	if err == nil && b != nil {
		_, err = call(b)
	}
	if err != nil {
		return status, err
	}
	if b, err = call(selftest.StatusBody()); err != nil {
		return status, err
	}
	return status, json.Unmarshal(b, &status)
}

func (v operateView) nodes() (all []model.NodeID) {
	for _, n := range v.s.cluster.Metadata().Nodes {
		if n.Come() {
			all = append(all, n.ID)
		}
	}
	return all
}

// StartSelfTest implements admin.Operate. Of each pair the node of the lower id tests
// the network both ways.
func (v operateView) StartSelfTest(ctx context.Context, ask api.SelfTestAsk) (api.SelfTest, error) {
	limit := selftest.DurationMax.Milliseconds()
	known, nodes := v.nodes(), slices.Compact(slices.Sorted(slices.Values(ask.Nodes)))
	if len(nodes) == 0 {
		nodes = known
	}
	switch {
	case ask.DiskMillis < 0 || ask.DiskMillis > limit || ask.NetworkMillis < 0 || ask.NetworkMillis > limit:
		return api.SelfTest{}, fmt.Errorf("%w: a test lasts 0 to %d ms", api.ErrInvalid, limit)
	case ask.DiskMillis+ask.NetworkMillis == 0:
		return api.SelfTest{}, fmt.Errorf("%w: neither a disk nor a network test is asked for", api.ErrInvalid)
	}
	for _, n := range nodes {
		if !slices.Contains(known, n) {
			return api.SelfTest{}, fmt.Errorf("node %d: %w; `millrace cluster info` lists them", n, api.ErrNotFound)
		}
	}
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // never fails: see crypto/rand
	id := hex.EncodeToString(raw[:])
	started := v.askTests(ctx, nodes, func(n model.NodeID) ([]byte, error) {
		run := api.SelfTestRun{ID: id, DiskMillis: ask.DiskMillis, NetworkMillis: ask.NetworkMillis}
		for _, peer := range nodes {
			if peer > n {
				run.Peers = append(run.Peers, peer)
			}
		}
		return selftest.StartBody(run)
	})
	v.s.log.Info("self-test started", "id", id, "nodes", nodes, "disk_ms", ask.DiskMillis, "network_ms", ask.NetworkMillis)
	return api.SelfTest{ID: id, Nodes: started}, nil
}

// SelfTest implements admin.Operate.
func (v operateView) SelfTest(ctx context.Context) (api.SelfTest, error) {
	return api.SelfTest{Nodes: v.askTests(ctx, v.nodes(), func(model.NodeID) ([]byte, error) { return nil, nil })}, nil
}

// StopSelfTest implements admin.Operate.
func (v operateView) StopSelfTest(ctx context.Context) (api.SelfTest, error) {
	return api.SelfTest{Nodes: v.askTests(ctx, v.nodes(), func(model.NodeID) ([]byte, error) { return selftest.StopBody(), nil })}, nil
}
