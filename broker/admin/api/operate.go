package api

import "github.com/millrace-io/millrace/broker/model"

// Features is what the cluster's nodes have in common, and what of it is used.
type Features struct {
	Active   int            `json:"active_level" doc:"What the cluster does; it never falls"`
	Common   int            `json:"common_level" doc:"What all nodes know, as far as they can be asked"`
	Build    int            `json:"build_level" doc:"What the node that answers knows"`
	Auto     bool           `json:"auto_activate" doc:"The active level follows the common one by itself"`
	Nodes    []NodeFeatures `json:"nodes"`
	Features []Feature      `json:"features"`
}

// NodeFeatures is what one node runs.
type NodeFeatures struct {
	Node    model.NodeID `json:"node"`
	Version string       `json:"version,omitempty"`
	Level   int          `json:"level" doc:"0 while it is not known"`
	Reason  string       `json:"reason,omitempty" doc:"Why it is not known"`
}

// Feature is a thing that a level brings.
type Feature struct {
	Name  string `json:"name"`
	Level int    `json:"level"`
	State string `json:"state" doc:"active; available, all nodes having it; or waiting for nodes"`
	Doc   string `json:"doc"`
}

// ActivateFeatures asks for a level.
type ActivateFeatures struct {
	Level int `json:"level,omitempty" doc:"0: the highest that all nodes have" minimum:"0"`
}
