package rescue

import "github.com/millrace-io/millrace/broker/model"

// Ask is what is to be done on a stopped node that is left.
type Ask struct {
	DataDir string
	// Lost are the nodes that are gone for ever, with their disks.
	Lost []model.NodeID
	// Reports are files that the other nodes that are left have written, ReportTo, if set,
	// is where this one's goes.
	Reports  []string
	ReportTo string
	// DryRun changes nothing. BeginEmpty has partitions of which nothing is left begin anew.
	DryRun, BeginEmpty bool
}

// Outcome is what a node that is left holds, and what becomes of it. Plan is nil while
// Unreported says whose report is missing.
type Outcome struct {
	Node    model.NodeID   `json:"node"`
	Cluster string         `json:"cluster"`
	Lost    []model.NodeID `json:"lost"`
	// Held counts the node's replicas; Done: they go on at its next start.
	Held       int    `json:"held"`
	Done       bool   `json:"done"`
	Unreported string `json:"unreported,omitempty"`
	Plan       *Plan  `json:"plan,omitempty"`
}
