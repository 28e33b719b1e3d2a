package api

import "github.com/millrace-io/millrace/broker/model"

// Maintenance is how far a node is from leading nothing.
type Maintenance struct {
	Node       model.NodeID           `json:"node"`
	Enabled    bool                   `json:"enabled"`
	Alive      bool                   `json:"alive"`
	Finished   bool                   `json:"finished" doc:"It is in maintenance and leads nothing that another node could lead"`
	Controller bool                   `json:"controller" doc:"It leads the controller"`
	Partitions []MaintenancePartition `json:"partitions" doc:"Those that it leads"`
}

// MaintenancePartition is a partition that a node leads.
type MaintenancePartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Stays     bool   `json:"stays" doc:"It has no other replica"`
	Reason    string `json:"reason,omitempty" doc:"Why a node in maintenance leads it still"`
}
