package config

import (
	"net"
	"strconv"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

// Mode says how careful the defaults are.
type Mode string

// The modes. Dev accepts what prod warns of or refuses at start: a memory
// too small, no advertised address, a wildcard listener.
const (
	ModeDev  Mode = "dev"
	ModeProd Mode = "prod"
)

// Address is a listener's HOST:PORT. Port 0 asks for a free one.
type Address struct {
	Host string
	Port int
	Off  bool
}

// String gives the form that the flag takes.
func (a Address) String() string {
	switch {
	case a.Off:
		return "off"
	case a == Address{}:
		return ""
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(a.Port))
}

// SidecarOff and SidecarChild are Node.Sidecar's words; else it is unix:PATH.
const (
	SidecarOff   = "off"
	SidecarChild = "child"
)

// Node holds the resolved settings of one node.
type Node struct {
	ID      model.NodeID
	Rack    string
	DataDir string
	Mode    Mode

	SMP             int   // cores; 0: what the machine has
	Memory          int64 // bytes the process may use; 0: what the machine has, less ReserveMemory
	ReserveMemory   int64 // bytes left to others; < 0: max(1.5 GB, 7 %) as the machine allows
	Overprovisioned bool  // shares its cores: no pinning, no busy polling
	Check           bool  // refuse to start on a machine that fails the checks

	Kafka, RPC, Admin, Proxy, Registry Address
	AdvertiseKafka, AdvertiseRPC       Address // zero: the address listened on

	Sidecar      string // SidecarChild, SidecarOff or unix:PATH
	SidecarBin   string // empty: beside the executable, else in PATH
	SidecarCache string // empty: <data-dir>/sidecar
	LogLevel     string
	LogFormat    string

	Flush           time.Duration // longest that written segments wait for their sync
	FlushBytes      int64         // unsynced bytes of a partition that start one earlier
	SnapshotBytes   int64         // log bytes of a partition that make a snapshot due
	SnapshotEntries int64
	HousekeepEvery  time.Duration // how often retention and compaction look
	CacheShare      int           // per cent of memory for recent batches
	JournalShare    int           // per cent of memory for the Raft log's tables
	RequestShare    int           // per cent of memory for requests in flight
	ResponseShare   int           // per cent of memory for responses in flight

	ConnectionsMax          int
	ConnectionIdle          time.Duration
	FrameBytesMax           int // of one request
	FrameBytesMaxBeforeAuth int
	LowSpaceGuard           int64 // bytes free below which writes are refused
	LowSpaceReserve         int64 // bytes of the reserve file
	ShutdownMax             time.Duration

	Static map[string]string // settings of cluster scope given to this node; overrides of the cluster win
	Origin map[string]string // per node row: default, file, environment, flag or set
}
