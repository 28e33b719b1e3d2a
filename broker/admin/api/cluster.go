package api

import "github.com/millrace-io/millrace/broker/model"

// NodeInfo is one broker.
type NodeInfo struct {
	ID         model.NodeID      `json:"id"`
	Host       string            `json:"host"`
	Port       int32             `json:"port"`
	Rack       string            `json:"rack,omitempty"`
	Admin      string            `json:"admin,omitempty" doc:"HOST:PORT of its admin API"`
	Controller bool              `json:"controller"`
	Alive      bool              `json:"alive"`
	State      string            `json:"state,omitempty" doc:"decommissioning or maintenance; nothing while it is active"`
	Advertised map[string]string `json:"advertised,omitempty" doc:"HOST:PORT that Kafka clients are told, by name of the listener they came in by; host and port are of the one without a name, or the first"`
}

// Decommission is how far a node is from holding nothing.
type Decommission struct {
	Node       model.NodeID            `json:"node"`
	State      string                  `json:"state" doc:"active, maintenance, decommissioning, leaving or removed"`
	Alive      bool                    `json:"alive"`
	Finished   bool                    `json:"finished" doc:"It holds nothing any more and has no vote: it is no part of the cluster"`
	Partitions []DecommissionPartition `json:"partitions" doc:"Those that it still holds"`
}

// DecommissionPartition is a partition that has not left the node yet.
type DecommissionPartition struct {
	Topic     string         `json:"topic"`
	Partition int32          `json:"partition"`
	Leader    model.NodeID   `json:"leader" doc:"-1 while none serves"`
	Replicas  []model.NodeID `json:"replicas"`
	MovesTo   []model.NodeID `json:"moves_to"`
	Reason    string         `json:"reason" doc:"Why it is still there"`
	Next      string         `json:"next" doc:"What is done next"`
}

// Move is a partition that is on its way to other nodes.
type Move struct {
	Topic     string         `json:"topic"`
	Partition int32          `json:"partition"`
	Leader    model.NodeID   `json:"leader" doc:"-1 while none serves"`
	Replicas  []model.NodeID `json:"replicas" doc:"All nodes that hold it, or are about to"`
	Adding    []model.NodeID `json:"adding"`
	Removing  []model.NodeID `json:"removing"`
	Reason    string         `json:"reason" doc:"Why it is not over"`
}

// Node is the broker that answers, with what only itself knows.
type Node struct {
	NodeInfo
	Version       string            `json:"version"`
	Cores         int               `json:"cores"`
	MemoryBytes   int64             `json:"memory_bytes" doc:"The limit of --memory; 0 when there is none"`
	DataDir       string            `json:"data_dir"`
	DiskFreeBytes int64             `json:"disk_free_bytes"`
	Sidecar       Sidecar           `json:"sidecar"`
	UptimeSeconds float64           `json:"uptime_seconds"`
	Listeners     map[string]string `json:"listeners" doc:"Listener name to the HOST:PORT it really has; Kafka listeners with a name are kafka.NAME"`
}

// Sidecar is the state of the sidecar beside a broker.
type Sidecar struct {
	State  string   `json:"state" doc:"up, down or off"`
	Build  string   `json:"build,omitempty"`
	Engine string   `json:"engine,omitempty"`
	BootID string   `json:"boot_id,omitempty"`
	Walls  []string `json:"walls,omitempty" doc:"Walls that stand around it, and what this machine lacks"`
	Reason string   `json:"reason,omitempty" doc:"Why it is down"`
}

// ClusterInfo is the cluster in one page.
type ClusterInfo struct {
	ID         string       `json:"id"`
	Version    uint64       `json:"metadata_version"`
	Controller model.NodeID `json:"controller" doc:"-1 while there is none"`
	Nodes      []NodeInfo   `json:"nodes"`
	Topics     int          `json:"topics"`
	Partitions int          `json:"partitions"`
	Scripts    int          `json:"scripts"`
}

// Health says whether the cluster serves everything it has.
type Health struct {
	Healthy         bool             `json:"healthy"`
	Controller      model.NodeID     `json:"controller"`
	Voters          []model.NodeID   `json:"controller_voters" doc:"Nodes that vote on the cluster's metadata; empty while no majority of them answers"`
	Nodes           []model.NodeID   `json:"nodes"`
	NodesDown       []model.NodeID   `json:"nodes_down"`
	NodesUnfit      []model.NodeID   `json:"nodes_unfit,omitempty" doc:"Those that should not lead: their disk is slow, or they cannot run the scripts there are"`
	Leaderless      []TopicPartition `json:"leaderless_partitions"`
	UnderReplicated []TopicPartition `json:"under_replicated_partitions" doc:"Partitions with replicas that are not in sync"`
	UnderMinInsync  []TopicPartition `json:"under_min_insync_partitions" doc:"Partitions with fewer replicas in sync than min.insync.replicas: writes with acks=all are refused"`
	Damaged         []TopicPartition `json:"damaged_partitions" doc:"Partitions with ranges that cannot be read"`
	ScriptsStopped  []string         `json:"scripts_stopped"`
	Sidecar         string           `json:"sidecar" doc:"up, down or off, on the node that answers"`
	LowSpace        bool             `json:"low_space" doc:"Writes are refused until space is freed"`
	Problems        []string         `json:"problems" doc:"Each a sentence that says what to do next"`
}

// TopicPartition names a partition as people do.
type TopicPartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
}

// PartitionInfo is where a partition is and how much it holds.
type PartitionInfo struct {
	Topic         string            `json:"topic"`
	TopicID       model.TopicID     `json:"topic_id"`
	Partition     int32             `json:"partition"`
	Internal      bool              `json:"internal"`
	Shard         model.ShardID     `json:"shard"`
	Core          model.CoreID      `json:"core" doc:"Event loop on the node that answers; -1 when it has no replica"`
	Leader        model.NodeID      `json:"leader" doc:"-1 while none serves"`
	Epoch         model.LeaderEpoch `json:"epoch"`
	Replicas      []model.NodeID    `json:"replicas"`
	InSync        []model.NodeID    `json:"in_sync_replicas"`
	LogStart      model.Offset      `json:"log_start_offset" doc:"-1 when the node that answers does not know, as for the next three"`
	HighWatermark model.Offset      `json:"high_watermark"`
	LSO           model.Offset      `json:"last_stable_offset"`
	SizeBytes     int64             `json:"size_bytes"`
	Segments      int               `json:"segments"`
}

// Ready is the answer of /v1/status/ready.
type Ready struct {
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty" doc:"What is waited for"`
}
