package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/broker/admin"
	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/coordinator"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/kafka"
	"github.com/millrace-io/millrace/broker/metrics"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/move"
	"github.com/millrace-io/millrace/broker/peer"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/pull"
	"github.com/millrace-io/millrace/broker/raft"
	"github.com/millrace-io/millrace/broker/raft/transport"
)

// Server is one running node. Its fields are set while it starts and only read
// afterwards.
type Server struct {
	n       config.Node
	version string
	log     *slog.Logger
	lock    *os.File
	began   time.Time

	registry *metrics.Registry
	storage  *metrics.Storage
	space    *space
	damages  *damages
	memory   *block.Memory // of all segments
	past     *block.Cache
	lastSync atomic.Int64 // of the journal, Unix nanoseconds
	pulse    pulse        // of the journal's device
	cores    *core.Set
	raft     *raft.Host
	cluster  *cluster.Cluster
	produce  *produce.Service
	fetch    *fetch.Service
	groups   *coordinator.Service
	replicas *replicas
	mover    *move.Mover
	giver    *pull.Giver
	taker    *pull.Taker
	tests    tests
	kafka    *kafka.Server
	admin    *admin.Server
	node     *nodeView
	scripts  *scripts

	rebalancer *rebalancer

	// identity, shared, verbs, held and moves are for who answers other nodes, from when on there are;
	// led ticks when what is to be announced has changed.
	identity             atomic.Pointer[identity]
	shared               atomic.Pointer[cluster.Cluster]
	verbs                atomic.Pointer[peer.Service]
	held                 atomic.Pointer[replicas]
	moves                atomic.Pointer[move.Mover]
	led                  chan struct{}
	rpcListen, advertise string // of node-to-node traffic

	// repairing are partitions whose files are taken anew; repairMu guards it.
	repairMu  sync.Mutex
	repairing map[model.PartitionID]bool

	listeners map[string]net.Listener
	letIn     func() error // ends turnAway
	fatal     chan error
	// ctx ends when the node begins to stop; work is what runs under it.
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// Run runs a node until ctx ends, then drains and closes it. When it serves it
// writes one line to out.
func Run(ctx context.Context, n config.Node, version string, out io.Writer) error {
	if err := ctx.Err(); err != nil {
		return err // a signal that came before the new image would be lost on it
	}
	lock, err := Boot(n.DataDir)
	if err != nil {
		return err
	}
	s := newServer(n, version, newLogger(n), lock)
	for _, w := range n.Warnings {
		s.log.Warn(w)
	}
	err = s.start(ctx)
	if err == nil {
		fmt.Fprintln(out, s.readyLine())
		select {
		case <-ctx.Done():
		case err = <-s.fatal:
		}
	}
	if err != nil && s.isFatal(err) {
		return err // the disk is not to be trusted: nothing is flushed any more
	}
	return errors.Join(err, s.stop())
}

func newServer(n config.Node, version string, log *slog.Logger, lock *os.File) *Server {
	s := &Server{
		n: n, version: version, log: log, lock: lock, began: time.Now(),
		listeners: map[string]net.Listener{}, letIn: func() error { return nil }, fatal: make(chan error, 1), led: make(chan struct{}, 1),
		repairing: map[model.PartitionID]bool{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// errFatal marks what leaves no room for a clean end.
var errFatal = errors.New("node stopped")

func (s *Server) isFatal(err error) bool { return errors.Is(err, errFatal) }

// die is given to rooms that find a failed write or sync. The process ends by
// itself a moment later whatever else it is doing.
func (s *Server) die(err error) {
	s.log.Error("storage failed, the node stops", "err", err)
	select {
	case s.fatal <- fmt.Errorf("%w: %w", errFatal, err):
	default:
	}
	time.AfterFunc(dieAfter, func() { os.Exit(exitStorage) })
}

// end has the node stop, cleanly.
func (s *Server) end(err error) {
	select {
	case s.fatal <- err:
	default:
	}
}

const (
	// dieAfter is what a failed sync leaves the process: enough to say why.
	dieAfter    = 200 * time.Millisecond
	exitStorage = 3
)

func newLogger(n config.Node) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(n.LogLevel)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if n.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

// start builds the rooms from the bottom up. What it opened before an error is
// closed by stop.
func (s *Server) start(ctx context.Context) error {
	if err := s.identify(); err != nil {
		return err
	}
	if err := checkRecovery(s.n.DataDir); err != nil {
		return err
	}
	for _, step := range s.steps() {
		if err := step(ctx, *s.identity.Load()); err != nil {
			return err
		}
	}
	s.node.waitFor("")
	s.log.Info("ready", "node", s.n.ID, "kafka", s.address("kafka"), "admin", s.address("admin"), "took", time.Since(s.began))
	return nil
}

// identify learns who this node is, as far as its directory knows.
func (s *Server) identify() error {
	id, err := openIdentity(s.n.DataDir, s.n.ID, s.n.Seeds)
	if err == nil {
		s.n.ID = id.Node
		s.identity.Store(&id)
	}
	return err
}

// steps are what a start consists of, in order.
func (s *Server) steps() []func(context.Context, identity) error {
	return []func(context.Context, identity) error{
		s.listen, s.turnAway, s.join, s.startStorage, s.startController, s.startReplicas, s.startFronts, s.startScripts,
	}
}

// startStorage opens cores and raft; no replica runs yet.
func (s *Server) startStorage(_ context.Context, id identity) error {
	cores, memory := settle(s.n, s.log)
	s.registry = metrics.New()
	s.storage = metrics.NewStorage(s.registry)
	metrics.Build(s.registry, s.version, "")
	s.space = openSpace(s.n.DataDir, s.n.LowSpaceGuard, s.n.LowSpaceReserve, s.log)
	s.run(s.space.run)
	s.run(keepHeap)
	if err := s.openSegments(memory * int64(s.n.CachePercent) / 100 / pastShare); err != nil {
		return err
	}
	s.cores = core.New(core.Options{
		Cores: cores, Log: s.log, Leadership: s.lead, Fatal: s.die, Observe: s.storage,
		FlushDelay: s.n.Flush, FlushBytes: s.n.FlushBytes,
		CacheBytes:    memory * int64(s.n.CachePercent) / 100 * (pastShare - 1) / pastShare / int64(cores),
		WriteBytes:    memory * int64(s.n.WritePercent) / 100 / int64(cores),
		SnapshotBytes: s.n.SnapshotBytes, SnapshotEntries: uint64(s.n.SnapshotEntries),
		HousekeepEvery: s.n.HousekeepEvery,
		ProducerExpiry: func() time.Duration { return s.cluster.Metadata().Cluster.ProducerIDExpiry },
		Taken:          s.taken,
		Note:           s.note, Recover: s.recover,
	})
	s.startPulls()
	if err := s.openRaft(id, memory); err != nil {
		return err
	}
	metrics.Journal(s.registry, s.journalSample)
	s.cores.UseLog(coreLog{s.raft})
	s.openTests()
	s.produce = produce.New(produce.Options{Cores: s.cores, Raft: s.raft, Space: s.space.Check, Replicas: replicaCount{s}, Committed: s.storage.Committed, Now: time.Now})
	s.fetch = fetch.New(s.cores, s.raft)
	s.damages = newDamages(s.log, s.storage.Corrupt)
	s.fetch.OnCorrupt(s.damaged)
	s.node = &nodeView{
		node: s.n.ID, version: s.version, cores: cores, memory: memory, dataDir: s.n.DataDir, began: s.began,
		space: s.space, reason: "starting", listeners: s.addresses(),
	}
	return nil
}

// openRaft opens the Raft log, and the way to other nodes.
func (s *Server) openRaft(id identity, memory int64) error {
	raft.UseLogger(s.log, s.die)
	secured, err := s.peerTLS()
	if err != nil {
		return err
	}
	fileBytes, bytesMax := journalSizes(s.n, memory, s.space.Total())
	s.raft, err = raft.Open(raft.Options{
		Dir: s.path("raft"), Node: s.n.ID, Deployment: id.Deployment, Lost: id.lost(), Listen: s.rpcListen, Advertise: s.advertise, Log: s.log,
		TLS: secured, JournalFileBytes: fileBytes, JournalBytesMax: bytesMax,
		Fatal: s.die, Pinned: s.cores.Release, Synced: s.synced, Answer: s.answer, Called: s.called(),
	})
	if err != nil {
		return err
	}
	for _, seed := range s.n.Seeds {
		if seed.ID != s.n.ID && !slices.Contains(id.lost(), seed.ID) {
			s.raft.SetAddress(seed.ID, seed.Address)
		}
	}
	return nil
}

// peerTLS gives what secures node-to-node traffic; nil when no certificate is given.
func (s *Server) peerTLS() (transport.TLS, error) {
	if s.n.RPCCert == "" {
		return nil, nil
	}
	return transport.OpenFiles(s.n.RPCCert, s.n.RPCKey, s.n.RPCCA, s.log)
}

// The raft log's least file, and the shares of memory and disk that its files and
// the whole of it may take.
const (
	journalFileBytesMin           = 4 << 20
	journalFilesMin               = 4
	journalMemoryShare            = 16 // two files are read into memory at the start
	journalDiskShare, filesInDisk = 8, 64
)

// journalSizes fits the raft log's settings to the machine.
func journalSizes(n config.Node, memory, diskBytes int64) (fileBytes, bytesMax int64) {
	fileBytes = min(n.JournalFileBytes, memory/journalMemoryShare, diskBytes/filesInDisk)
	fileBytes = max(fileBytes, journalFileBytesMin) &^ (disk.DirectAlign - 1)
	bytesMax = max(min(n.JournalBytesMax, diskBytes/journalDiskShare), journalFilesMin*fileBytes)
	return fileBytes, bytesMax
}

// journalSample is what metrics show of the raft log.
func (s *Server) journalSample() metrics.JournalSample {
	j := s.raft.Journal()
	return metrics.JournalSample{
		Syncs: float64(j.Syncs), Seals: float64(j.Seals), Bytes: float64(j.Bytes), Waits: float64(j.Waits), Moved: float64(j.Moved),
		Files: float64(j.Files), FileBytes: float64(j.FileBytes), Direct: j.Direct,
	}
}

// pastShare is the part of cache_percent for blocks that were read, one in so many;
// the rest is for what is recent. Readers of 16 partitions at once need some 50 MiB to
// read ahead in: with a third of that they came to half the rate.
const pastShare = 2

// openSegments makes what all segments share, and says how they reach the device.
func (s *Server) openSegments(pastBytes int64) error {
	s.memory = block.NewMemory()
	s.past = block.NewCache(s.memory, pastBytes)
	s.past.Calm = s.calm
	direct, err := disk.HasDirect(disk.OS{}, s.n.DataDir)
	if err != nil {
		return err
	}
	if direct {
		s.log.Info("segments bypass the page cache")
	} else {
		s.log.Info("segments go through the page cache: the file system has no direct I/O", "dir", s.n.DataDir)
	}
	metrics.Segments(s.registry, metrics.SegmentMemory{Direct: direct, Used: s.memory.Used, Past: s.past.Counts})
	return nil
}

// calmAfter is how long after a write to the journal the next is expected.
const calmAfter = 100 * time.Millisecond

// synced is told of every write to the journal.
func (s *Server) synced(bytes int, took time.Duration) {
	now := time.Now()
	s.lastSync.Store(now.UnixNano())
	s.pulse.wrote(now, took)
	s.storage.Synced(bytes, took)
}

// calm tells that readers may have the device to themselves.
func (s *Server) calm() bool { return time.Now().UnixNano()-s.lastSync.Load() > int64(calmAfter) }

// rpcAddress picks a free port where none is given: the library wants to know it
// before it listens.
func (s *Server) rpcAddress() (string, error) {
	a := s.n.RPC
	if a.Port != 0 {
		return a.String(), nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort(a.Host, "0"))
	if err != nil {
		return "", fmt.Errorf("find a free port for node-to-node traffic: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// coreLog gives the loops what they need of raft.
type coreLog struct{ *raft.Host }

// Propose implements core.Log.
func (l coreLog) Propose(shard model.ShardID, cmd []byte, timeout time.Duration) (func() error, error) {
	p, err := l.Host.Propose(shard, cmd, timeout)
	if err != nil {
		return nil, err
	}
	return p.Failed, nil
}

// startController waits until this node has caught up with the cluster's
// metadata and stands in it under its present addresses.
func (s *Server) startController(ctx context.Context, id identity) error {
	s.node.waitFor("waiting for the controller")
	s.cluster = cluster.New(cluster.Options{Node: s.n.ID, Proposer: s.raft, Founders: id.Founders, Static: s.n.Static, Log: s.log, Fatal: s.die})
	s.node.cluster = s.cluster
	s.shared.Store(s.cluster)
	if lost := s.metadataLost(id); lost != nil && id.alone() {
		return lost
	} else if lost != nil {
		if err := s.renewController(ctx, id, lost); err != nil {
			return err
		}
		id = *s.identity.Load()
	}
	if err := s.meet(ctx, id); err != nil {
		return err
	}
	id = *s.identity.Load()
	if err := s.raft.StartController(id.replica(), s.cluster.StateMachine()); err != nil {
		return err
	}
	s.run(s.followLeaders)
	s.run(s.followNodes)
	if err := s.register(ctx, id); err != nil {
		return err
	}
	if err := s.forgetLost(ctx); err != nil {
		return err
	}
	s.run(s.keepQuorum)
	s.run(s.announce)
	s.run(s.balance)
	s.run(s.raiseLevel)
	return nil
}

// metadataLost tells what became of the log of the cluster's metadata.
func (s *Server) metadataLost(id identity) error {
	if id.Formed && !s.raft.HasLog(raft.ControllerShard) {
		return ErrMetadataLost
	}
	return s.raft.Damaged(raft.ControllerShard)
}

// followLeaders hands raft's leader changes to the loops.
func (s *Server) followLeaders(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c, ok := <-s.raft.Changes():
			if !ok {
				return
			}
			if c.Shard == raft.ControllerShard {
				s.cluster.SetController(c.Leader)
				continue
			}
			if h, ok := s.cores.HandleByShard(c.Shard); ok {
				h.Led(c.Leader != model.NoNode)
				h.Lead(c.Leader == s.n.ID, c.Term)
			}
		}
	}
}

// lead tells every room above of a change of this node's own leadership.
func (s *Server) lead(e core.Leadership) {
	s.cluster.Lead(e)
	s.tellLeaders()
	s.groups.Lead(coordinator.Leadership(e))
	s.scripts.lead(e)
}

func (s *Server) run(f func(context.Context)) {
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		f(s.ctx)
	}()
}

func (s *Server) path(name string) string { return s.n.DataDir + "/" + name }
