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

// SelfTestAsk says what to measure, on which nodes.
type SelfTestAsk struct {
	DiskMillis    int64          `json:"disk_duration_ms,omitempty" doc:"How long each disk test runs; 0: none" minimum:"0" maximum:"300000"`
	NetworkMillis int64          `json:"network_duration_ms,omitempty" doc:"How long each network test runs; 0: none" minimum:"0" maximum:"300000"`
	Nodes         []model.NodeID `json:"nodes,omitempty" doc:"The nodes that take part; none: all"`
}

// SelfTestRun is what one node is to run.
type SelfTestRun struct {
	ID            string         `json:"id"`
	DiskMillis    int64          `json:"disk_ms,omitempty"`
	NetworkMillis int64          `json:"network_ms,omitempty"`
	Peers         []model.NodeID `json:"peers,omitempty"`
}

// SelfTest is a run, or what is known of the last one.
type SelfTest struct {
	ID    string         `json:"id,omitempty" doc:"Of the run that was started"`
	Nodes []SelfTestNode `json:"nodes"`
}

// SelfTestNode is how a node's run stands.
type SelfTestNode struct {
	Node    model.NodeID     `json:"node"`
	ID      string           `json:"id,omitempty" doc:"Of its run"`
	State   string           `json:"state" doc:"idle, running, or unknown when it does not answer"`
	Test    string           `json:"test,omitempty" doc:"What runs now"`
	Results []SelfTestResult `json:"results"`
	Error   string           `json:"error,omitempty"`
}

// SelfTestResult is one measurement. A failed one may have counted something.
type SelfTestResult struct {
	Test           string        `json:"test" doc:"disk write, disk latency, disk read; network latency, network send, network receive"`
	Peer           *model.NodeID `json:"peer,omitempty" doc:"Of a network test: the other node"`
	RequestBytes   int64         `json:"request_bytes"`
	Requests       int64         `json:"requests"`
	Bytes          int64         `json:"bytes"`
	Millis         int64         `json:"took_ms"`
	P50            float64       `json:"p50_us"`
	P90            float64       `json:"p90_us"`
	P99            float64       `json:"p99_us"`
	Max            float64       `json:"max_us"`
	PerSecond      float64       `json:"requests_per_second"`
	BytesPerSecond float64       `json:"bytes_per_second"`
	Note           string        `json:"note,omitempty"`
	Error          string        `json:"error,omitempty"`
}
