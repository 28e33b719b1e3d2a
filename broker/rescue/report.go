package rescue

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

// reportFormat is the newest format of a report that this build reads, and the one it writes.
const reportFormat = 1

// ErrReport says that a report is not of this rescue.
var ErrReport = errors.New("report does not fit")

// Report is what a node that is left holds. Others decide by it, so that the node must
// stay stopped from then on until all have decided.
type Report struct {
	Format  int          `json:"format"`
	Node    model.NodeID `json:"node"`
	Cluster string       `json:"cluster"`
	// Founders formed the cluster. Given are the nodes that are given up, Lost those and
	// the ones of earlier rescues, each ascending.
	Founders []model.NodeID `json:"founders"`
	Given    []model.NodeID `json:"given"`
	Lost     []model.NodeID `json:"lost"`
	Groups   []raft.Group   `json:"groups"`
}

// ReadReport reads the file that Write wrote on another node.
func ReadReport(path string) (*Report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read report %s: %w", path, err)
	}
	if r.Format < 1 || r.Format > reportFormat {
		return nil, fmt.Errorf("%w: %s has format %d, this build reads 1 to %d", ErrReport, path, r.Format, reportFormat)
	}
	return &r, nil
}

// Write makes the file.
func (r *Report) Write(path string) error {
	r.Format = reportFormat
	b, err := json.MarshalIndent(r, "", " ")
	if err == nil {
		err = os.WriteFile(path, append(b, '\n'), 0o640)
	}
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// check holds the reports of others against this node's.
func (r *Report) check(others []*Report) error {
	if slices.Contains(r.Lost, r.Node) {
		return fmt.Errorf("%w: node %d is this one, and cannot be given up here", ErrReport, r.Node)
	}
	seen := map[model.NodeID]bool{r.Node: true}
	for _, o := range others {
		switch {
		case o.Cluster != r.Cluster:
			return fmt.Errorf("%w: that of node %d is of cluster %s, this node is of %s", ErrReport, o.Node, o.Cluster, r.Cluster)
		case seen[o.Node]:
			return fmt.Errorf("%w: node %d has reported already", ErrReport, o.Node)
		case !slices.Equal(o.Lost, r.Lost):
			return fmt.Errorf("%w: that of node %d gives up nodes %v, here %v are: name the same on all", ErrReport, o.Node, o.Lost, r.Lost)
		}
		seen[o.Node] = true
	}
	known := map[model.NodeID]bool{}
	for _, o := range append(slices.Clone(others), r) {
		for _, n := range o.Founders {
			known[n] = true
		}
		for i := range o.Groups {
			for _, m := range everybody(&o.Groups[i]) {
				known[m.Node] = true
			}
		}
	}
	return r.complete(seen, known)
}
