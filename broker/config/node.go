package config

import (
	"net"
	"strconv"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

// Mode says how careful the defaults are.
type Mode string

// The modes; their rows' docs say what they change.
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

// String gives the form that the flag takes; "" for the zero Address.
func (a Address) String() string {
	switch {
	case a.Off:
		return "off"
	case a == Address{}:
		return ""
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(a.Port))
}

// Node.Sidecar is one of the words, or sidecarUnix and an absolute path.
const (
	SidecarOff   = "off"
	SidecarChild = "child"
	sidecarUnix  = "unix:"
)

// Node holds one node's resolved settings. Paths are absolute.
type Node struct {
	ID              model.NodeID
	Rack            string
	DataDir         string
	Mode            Mode
	SMP             int   // 0: all cores that the process may use
	Memory          int64 // bytes; 0: what there is, less ReserveMemory
	ReserveMemory   int64 // bytes; -1: the larger of 1.5 GiB and 7 % of what there is
	Overprovisioned bool
	Check           bool
	LogLevel        string // debug, info, warn, error
	LogFormat       string // text, json

	RPC, Admin, Proxy, Registry Address
	AdvertiseRPC                Address    // zero: the address listened on
	Kafka                       []Listener // none: off
	AdvertiseKafka              []Listener // by name; see Advertised

	RPCCert, RPCKey, RPCCA string // files; all or none

	Seeds []Seed // by id; empty: a cluster of this node alone

	Sidecar       string
	SidecarBin    string // empty: beside the executable, else in PATH
	SidecarCache  string
	SidecarMemory int64 // bytes

	Flush            time.Duration // longest that written segments wait for their sync
	FlushBytes       int64         // unsynced bytes of a partition that start it earlier
	SnapshotBytes    int64         // Raft log bytes of a partition kept beyond its checkpoint
	SnapshotEntries  int64
	JournalFileBytes int64
	JournalBytesMax  int64
	ScrubPeriod      time.Duration // within which all is read and checked
	RecoveryRate     int64         // bytes a second taken from other nodes
	HousekeepEvery   time.Duration // how often retention and compaction look
	LowSpaceGuard    int64         // bytes free below which writes are refused
	LowSpaceReserve  int64         // bytes of the reserve file
	ShutdownMax      time.Duration

	CachePercent, WritePercent, RequestPercent, ResponsePercent int // of memory

	ConnectionsMax          int
	ConnectionIdle          time.Duration
	FrameBytesMax           int
	FrameBytesMaxBeforeAuth int

	Static   map[string]string // settings of cluster scope given to this node; overrides of the cluster win
	Given    map[string]Given  // every row or cluster setting that is not at its default, by name
	Warnings []string          // what was odd but not wrong; to be logged once
}

// Given is where a setting came from and what it said there.
type Given struct {
	Value string
	From  string // mode, file, environment, flag, set
}

// Describe gives every node setting as it holds.
func (n *Node) Describe() []Value {
	given := map[string]string{}
	for name, g := range n.Given {
		given[name] = g.Value
	}
	var values []Value
	for _, r := range Rows(ScopeNode) {
		v := Value{Row: r}
		v.look(r.Name, Layer{SourceStatic, given})
		values = append(values, v.ended())
	}
	return values
}
