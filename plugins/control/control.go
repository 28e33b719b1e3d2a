package control

import (
	"context"
	"errors"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

// Protocol is the version of all three kinds; both sides must have the same.
const Protocol = 1

// ModuleBytesMax is the largest module that is loaded or checked, in bytes.
// Scripts are stored in a topic and held in memory on each broker.
const ModuleBytesMax = 32 << 20

// Control governs a sidecar. All errors wrap one of this package's sentinels,
// or the context's error.
type Control interface {
	// Hello opens this node's session, dropping the instances and fibers of
	// an earlier one of the same node. It fails with ErrOtherNode if the
	// sidecar serves another node and ErrProtocol if versions differ.
	Hello(ctx context.Context, s Session) (Hello, error)
	// Load makes m ready to run, compiling it unless the cache has it. To
	// load a digest again changes nothing. It fails with ErrModule when the
	// module or its manifest cannot be run, saying why in words for its author.
	Load(ctx context.Context, m Module) (Report, error)
	// Check does what Load does and keeps nothing; the digest may be zero.
	Check(ctx context.Context, m Module) (Report, error)
	// Unload forgets a script: its fibers end, its instances are dropped. An
	// unknown digest is no error.
	Unload(ctx context.Context, digest model.Digest) error
	// Inspect tells what is loaded, in order of name, then digest.
	Inspect(ctx context.Context) ([]ScriptState, error)
	// Health answers nil when the sidecar is able to work.
	Health(ctx context.Context) error
	// Logs streams guests' log lines until ctx ends: first those still held
	// after ask.After, then new ones.
	Logs(ctx context.Context, ask LogAsk) (LogStream, error)
}

// Session names the broker that opens it.
type Session struct {
	Cluster string
	Node    model.NodeID
	Boot    string // new at each start of the broker
}

// Hello is what a sidecar says of itself.
type Hello struct {
	Protocol int
	Build    string // the sidecar's version
	Engine   string // the WebAssembly engine's name and version
	Boot     string // new at each start of the sidecar
	Limits   Limits
	Walls    []Wall
}

// Limits are a sidecar's, so that a deployment can be refused before it is made.
type Limits struct {
	ModuleBytesMax   int64
	MemoryBytesMax   int64 // of all guests together
	InstanceBytesMax int64 // of one guest's memory
	BatchTimeMax     time.Duration
	Workers          int // guests that run at one time
}

// Wall is one of the sidecar's own confinements. Text says why it is down.
type Wall struct {
	Name string
	Up   bool
	Text string
}

// Mode is how a script is bound to its topics.
type Mode string

// The modes of scripts.
const (
	Async Mode = "async"
	Sync  Mode = "sync"
)

// Module is a script as a sidecar needs it: code and the manifest's essentials.
type Module struct {
	Digest         model.Digest // of module and manifest; names the script in all later calls
	Name           string
	Mode           Mode
	Wasm           []byte // shared, never written; at most ModuleBytesMax
	Inputs         []string
	Outputs        []string // topic names; without the DLQ, which no guest writes
	Env            map[string]string
	MemoryBytesMax int64         // of one instance; 0 = the sidecar's default
	BatchTimeMax   time.Duration // of one call of the guest; 0 = the sidecar's default
}

// Report tells how a module was taken.
type Report struct {
	ABI         string // "millrace 1", "redpanda 1" or "redpanda 2"
	Cached      bool   // no compilation was needed
	CompileTime time.Duration
	MemoryBytes int64 // that an instance has at its start
	Imports     []string
}

// ScriptState is what a sidecar knows of a loaded script. Counts are since the
// sidecar loaded it.
type ScriptState struct {
	Digest           model.Digest
	Name             string
	Mode             Mode
	ABI              string
	Instances        int
	Fibers           int
	MemoryBytes      int64
	CPU              time.Duration
	RecordsIn        int64
	RecordsOut       int64
	RecordsFailed    int64
	InstancesDropped int64 // after a trap, a deadline or garbage
	LastError        string
	Parked           []string // fibers without memory: "topic/partition: reason"
}

// LogAsk chooses log lines.
type LogAsk struct {
	After  uint64 // only lines with a greater Seq; 0 = all that are held
	Script string // only of the script with this name; empty = all
}

// LogLine is one line that a guest logged.
type LogLine struct {
	Seq    uint64 // ascending within one Boot of the sidecar
	Time   time.Time
	Script string
	Digest model.Digest
	Level  string // debug, info, warn, error
	Text   string
	Lost   uint64 // lines before this one that were dropped, by the rate limit or by the ring
}

// LogStream gives log lines. It is for one goroutine.
type LogStream interface {
	// Next waits for a line. After the stream's context ended it returns
	// that context's error.
	Next() (LogLine, error)
}

// FailureKind classes what went wrong when a guest was given records.
type FailureKind int32

// The kinds of failures.
const (
	FailureError    FailureKind = iota // the script's own error
	FailureTrap                        // the guest trapped
	FailureDeadline                    // the guest ran longer than it may
	FailureGarbage                     // the guest's output was not a valid frame
	FailureKey                         // a sync script changed a key
	FailureSize                        // a record is larger than a frame may be
)

var failureNames = [...]string{"error", "trap", "deadline", "garbage", "key changed", "size"}

// String gives the kind's name.
func (k FailureKind) String() string {
	if k < 0 || int(k) >= len(failureNames) {
		return "unknown"
	}
	return failureNames[k]
}

// What a sidecar refuses; nothing was run.
var (
	// ErrDown: there is no sidecar at the other end. Attach or launch again.
	ErrDown = errors.New("the sidecar is down")
	// ErrSession: the session was replaced, or never opened. Say Hello.
	ErrSession = errors.New("no such session")
	// ErrOtherNode: the sidecar serves another node. Give this one its own.
	ErrOtherNode = errors.New("the sidecar serves another node")
	// ErrProtocol: broker and sidecar are of different versions. Upgrade one.
	ErrProtocol = errors.New("the sidecar speaks another protocol")
	// ErrModule: the module cannot be run; its author must change it.
	ErrModule = errors.New("module refused")
	// ErrUnknownScript: the digest is not loaded. Load it.
	ErrUnknownScript = errors.New("script is not loaded")
	// ErrMemory: the guests' total memory is used up. Park and try later.
	ErrMemory = errors.New("the sidecar's memory for guests is used up")
	// ErrRequest: the request makes no sense; the caller is wrong.
	ErrRequest = errors.New("bad request to the sidecar")
)
