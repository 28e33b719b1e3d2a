package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
	"github.com/millrace-io/millrace/broker/rescue"
)

var (
	// ErrNothingLost says that no group needs a rescue: nothing was changed. Start the nodes.
	ErrNothingLost = errors.New("every group that this node has a replica of has a majority without the lost nodes, or cannot go on at all")
	// ErrHalfRecovered says that a rescue was begun and not ended. Run the command again.
	ErrHalfRecovered = errors.New("a recovery from a lost majority was begun in this data directory and has not ended")
	// ErrGivenUp says that the rest of the cluster goes on without this node, for ever.
	ErrGivenUp = errors.New("this node was given up")
)

// lostNode is a node that was given up, and when.
type lostNode struct {
	Node model.NodeID `json:"node"`
	At   time.Time    `json:"at"`
}

// lost are the nodes that were given up.
func (id identity) lost() (nodes []model.NodeID) {
	for _, l := range id.Lost {
		nodes = append(nodes, l.Node)
	}
	return nodes
}

// allLost are those that are given up now, and before, ascending.
func (id identity) allLost(now []model.NodeID) []model.NodeID {
	all := slices.Concat(now, id.lost())
	slices.Sort(all)
	return slices.Compact(all)
}

// withoutLost gives the nodes that were not given up.
func (id identity) withoutLost(nodes []model.NodeID) []model.NodeID {
	lost := id.lost()
	return slices.DeleteFunc(slices.Clone(nodes), func(n model.NodeID) bool { return slices.Contains(lost, n) })
}

// givenUp tells whether who greets so goes on without this node.
func (id identity) givenUp(g greeting) error {
	for _, l := range g.Lost {
		if l.Node == id.Node && (id.Cluster == g.Cluster || !id.Formed) {
			return fmt.Errorf("%w: node %d of cluster %s goes on without node %d since %s, by `millrace cluster recover-lost-majority`; start a new node with an empty --data-dir and another id",
				ErrGivenUp, g.Node, g.Cluster, l.Node, l.At.Format(time.RFC3339))
		}
	}
	return nil
}

const (
	recoveryFile   = "recovery.json"
	recoveryFormat = 1
)

// recovery is what recovery.json holds from the beginning of a rescue until the cluster's
// metadata has no word of the lost nodes any more. A node starts only once it is Done.
type recovery struct {
	Format int            `json:"format"`
	Lost   []model.NodeID `json:"lost"`
	At     time.Time      `json:"at"`
	// BeginEmpty: partitions of which nothing is left begin anew.
	BeginEmpty bool `json:"begin_empty,omitempty"`
	// Dead are replicas of nodes that are left which their groups go on without.
	Dead []controller.DeadSeat `json:"dead,omitempty"`
	Done bool                  `json:"done"`
}

// readRecovery gives nil where there is none.
func readRecovery(dataDir string) (*recovery, error) {
	path := filepath.Join(dataDir, recoveryFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var r recovery
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", path, err)
	case r.Format > recoveryFormat:
		return nil, fmt.Errorf("%w: %s has format %d, this build reads up to %d", ErrNewerFormat, path, r.Format, recoveryFormat)
	}
	return &r, nil
}

// write makes r durable.
func (r recovery) write(dataDir string) error {
	r.Format = recoveryFormat
	return writeJSON(dataDir, recoveryFile, r)
}

// checkRecovery refuses a directory whose rescue has not ended: of its groups some may go
// on, and others wait for the lost.
func checkRecovery(dataDir string) error {
	r, err := readRecovery(dataDir)
	if err == nil && r != nil && !r.Done {
		err = fmt.Errorf("%w: of nodes %v, at %s; run `millrace cluster recover-lost-majority --data-dir %s` again as it was run then",
			ErrHalfRecovered, r.Lost, r.At.Format(time.RFC3339), dataDir)
	}
	return err
}

// forgetLost has the cluster's metadata forget the nodes that a rescue before this start has
// given up. It is tried until it is done.
func (s *Server) forgetLost(ctx context.Context) error {
	r, err := readRecovery(s.n.DataDir)
	if err != nil || r == nil {
		return err
	}
	for {
		try, cancel := context.WithTimeout(ctx, registerWait)
		found, err := s.cluster.ForgetLost(try, controller.ForgetLost{Nodes: r.Lost, BeginEmpty: r.BeginEmpty, Dead: r.Dead})
		cancel()
		if err == nil {
			s.tellForgotten(r, found)
			break
		}
		if ctx.Err() != nil || errors.Is(err, raft.ErrStopped) || errors.Is(err, controller.ErrInvalidNode) {
			return fmt.Errorf("forget lost nodes %v: %w", r.Lost, err)
		}
		s.log.Warn("lost nodes not forgotten yet", "nodes", r.Lost, "err", err)
		if !pause(ctx, registerPause) {
			return ctx.Err()
		}
	}
	fs := disk.OS{}
	return errors.Join(fs.Remove(filepath.Join(s.n.DataDir, recoveryFile)), fs.SyncDir(s.n.DataDir))
}

// forgottenTold is how many partitions are named: whoever wants to know all asks for the
// cluster's health.
const forgottenTold = 100

func (s *Server) tellForgotten(r *recovery, found controller.Forgotten) {
	s.log.Warn("nodes were given up after a majority was lost; records that only they had are gone",
		"nodes", r.Lost, "fewer_replicas", len(found.Fewer), "begun_anew", len(found.Begun), "lost", len(found.Lost))
	m := s.cluster.Metadata()
	tell := func(what string, all []model.PartitionID) {
		for _, id := range all[:min(len(all), forgottenTold)] {
			name := id.Topic.String()
			if t, ok := m.TopicByID(id.Topic); ok {
				name = t.Name
			}
			s.log.Error(what, "topic", name, "partition", id.Index)
		}
	}
	tell("every replica of a partition is lost, it begins anew, empty", found.Begun)
	tell("every replica of a partition is lost, it has no leader any more", found.Lost)
}

// RecoverLostMajority has a stopped node that is left go on, at its next start, with the
// groups that have lost their majority for ever, as far as its replicas are the ones that
// are to. It may be repeated after a failure. What only the lost nodes had is lost.
func RecoverLostMajority(o rescue.Ask, logger *slog.Logger) (*rescue.Outcome, error) {
	id, err := readIdentity(o.DataDir)
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(o.DataDir)
	if err != nil {
		return nil, fmt.Errorf("stop the node first: %w", err)
	}
	defer lock.Close()
	mark, err := readRecovery(o.DataDir)
	if err != nil {
		return nil, err
	}
	if len(o.Lost) == 0 {
		return nil, errors.New("no node is given up")
	}
	if all := id.allLost(o.Lost); mark != nil && !mark.Done && !slices.Equal(mark.Lost, all) {
		return nil, fmt.Errorf("%w: nodes %v were given up; end it before others are", ErrHalfRecovered, mark.Lost)
	}
	log, err := raft.OpenStopped(disk.OS{}, filepath.Join(o.DataDir, "raft"), id.Node, logger)
	if err != nil {
		return nil, err
	}
	done, err := recoverIn(log, id, mark, o)
	return done, errors.Join(err, log.Close())
}

func recoverIn(log *raft.StoppedLog, id identity, mark *recovery, o rescue.Ask) (*rescue.Outcome, error) {
	own, others, err := reports(log, id, o)
	if err != nil {
		return nil, err
	}
	if mark != nil { // some groups may have forgotten them already
		own.Given = nil
	}
	r := &rescue.Outcome{Node: id.Node, Cluster: id.Cluster, Lost: own.Lost, Held: len(own.Groups)}
	r.Plan, err = rescue.Make(own, others)
	if o.DryRun && errors.Is(err, rescue.ErrUnreported) {
		r.Unreported = err.Error()
		return r, nil
	}
	if err != nil || o.DryRun {
		return r, err
	}
	if r.Plan.Count(rescue.GoesOn) == 0 && mark == nil {
		return r, fmt.Errorf("%w; nothing was changed", ErrNothingLost)
	}
	now := recovery{Lost: own.Lost, BeginEmpty: o.BeginEmpty, At: time.Now().UTC().Truncate(time.Second)}
	if mark != nil { // a group that has gone on already tells of none
		now.Dead = mark.Dead
	}
	now.Dead = append(now.Dead, r.Plan.Dead()...)
	if err := now.write(o.DataDir); err != nil {
		return nil, err
	}
	if err := goOn(log, own, r.Plan); err != nil {
		return nil, err
	}
	for _, n := range own.Lost {
		if !slices.Contains(id.lost(), n) {
			id.Lost = append(id.Lost, lostNode{n, now.At})
		}
	}
	if _, err := writeIdentity(o.DataDir, id); err != nil {
		return nil, err
	}
	now.Done, r.Done = true, true
	return r, now.write(o.DataDir)
}

// reports gives what this node holds, and what others have written.
func reports(log *raft.StoppedLog, id identity, o rescue.Ask) (own *rescue.Report, others []*rescue.Report, err error) {
	own = &rescue.Report{Node: id.Node, Cluster: id.Cluster, Founders: id.Founders, Lost: id.allLost(o.Lost)}
	own.Given = slices.DeleteFunc(slices.Clone(o.Lost), func(n model.NodeID) bool { return slices.Contains(id.lost(), n) })
	if own.Groups, err = log.Groups(); err != nil {
		return nil, nil, err
	}
	if o.ReportTo != "" {
		if err := own.Write(o.ReportTo); err != nil {
			return nil, nil, err
		}
	}
	for _, path := range o.Reports {
		r, err := rescue.ReadReport(path)
		if err != nil {
			return nil, nil, err
		}
		others = append(others, r)
	}
	return own, others, nil
}

// goOn has this node's replicas go on that the plan names.
func goOn(log *raft.StoppedLog, own *rescue.Report, plan *rescue.Plan) error {
	held := map[model.ShardID]*raft.Group{}
	for i := range own.Groups {
		held[own.Groups[i].Shard] = &own.Groups[i]
	}
	for i := range plan.Groups {
		d := &plan.Groups[i]
		if d.Fate != rescue.GoesOn || d.By != own.Node {
			continue
		}
		if err := log.GoOn(held[d.Shard], d.Term, func(m raft.Member) bool { return slices.Contains(d.Stay, m) }); err != nil {
			return err
		}
	}
	return nil
}

// readIdentity gives that of a directory whose node has been part of its cluster.
func readIdentity(dataDir string) (id identity, err error) {
	path := filepath.Join(dataDir, identityFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return id, fmt.Errorf("%s is no node's data directory: it has no %s", dataDir, identityFile)
	}
	if err == nil {
		err = json.Unmarshal(b, &id)
	}
	switch {
	case err != nil:
		return id, fmt.Errorf("read identity %s: %w", path, err)
	case id.Format > formatVersion:
		return id, fmt.Errorf("%w: %s has format %d, this build reads up to %d; use the newer build", ErrNewerFormat, dataDir, id.Format, formatVersion)
	case !id.Formed:
		return id, fmt.Errorf("node %d of %s has never been part of its cluster: it holds nothing to go on with", id.Node, dataDir)
	}
	return id, nil
}
