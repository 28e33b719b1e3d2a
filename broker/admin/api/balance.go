package api

import "github.com/millrace-io/millrace/broker/model"

// The states of the cluster's balance.
const (
	BalancePaused     = "paused"
	BalanceInProgress = "in_progress"
	BalanceWaiting    = "waiting"
	BalanceStalled    = "stalled"
	BalanceReady      = "ready"
)

// Balance is what the cluster's balance does, and would do.
type Balance struct {
	State    string           `json:"state" enum:"paused,in_progress,waiting,stalled,ready" doc:"paused: nothing is begun; in_progress: something moves, or is about to; waiting: see reason; stalled: something should be otherwise and cannot; ready: there is nothing to do"`
	Reason   string           `json:"reason,omitempty" doc:"What is waited for"`
	MovesMax int              `json:"moves_max" doc:"Partitions that may be under way at a time"`
	Nodes    []BalanceNode    `json:"nodes"`
	UnderWay []BalanceMove    `json:"under_way" doc:"What moves now, whoever asked for it"`
	Planned  []BalanceMove    `json:"planned" doc:"What is next, in order"`
	Bytes    int64            `json:"planned_bytes" doc:"What goes over the network for all that is planned"`
	Stuck    []BalanceProblem `json:"stuck"`
}

// BalanceNode is what one node has.
type BalanceNode struct {
	ID            model.NodeID `json:"id"`
	Rack          string       `json:"rack,omitempty"`
	State         string       `json:"state" doc:"active, down, gone, or what becomes of it"`
	SilentSeconds float64      `json:"silent_seconds,omitempty" doc:"How long the node that answers has not heard from it"`
	Replicas      int          `json:"replicas" doc:"That it has, or is to have"`
	Leaders       int          `json:"preferred_leaders" doc:"Partitions that it is preferred to lead"`
	DiskUsed      int64        `json:"disk_used_bytes" doc:"-1 when it does not say"`
	DiskTotal     int64        `json:"disk_total_bytes" doc:"-1 when it does not say"`
}

// BalanceMove is one partition's move.
type BalanceMove struct {
	Topic     string         `json:"topic"`
	Partition int32          `json:"partition"`
	From      []model.NodeID `json:"from"`
	To        []model.NodeID `json:"to"`
	Bytes     int64          `json:"bytes" doc:"That go over the network; -1 of what is under way"`
	Why       string         `json:"why"`
}

// BalanceProblem is what should be otherwise and cannot.
type BalanceProblem struct {
	Topic     string `json:"topic,omitempty" doc:"Nothing if it is of no partition"`
	Partition int32  `json:"partition"`
	Why       string `json:"why"`
}
