package server

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

const (
	identityFile = "identity.json"
	// formatVersion is the newest layout of a data directory that this build
	// reads. A new directory has formatFirst; formatLevels is of a cluster above the first
	// feature level, whose log an older build would not read as others do.
	formatVersion = formatLevels
	formatFirst   = 1
	formatLevels  = 2
)

var (
	// ErrForeignData says that the data directory belongs to another node.
	ErrForeignData = errors.New("data directory belongs to another node")
	// ErrNewerFormat says that a newer version of Millrace wrote the directory.
	ErrNewerFormat = errors.New("data directory has a newer format")
	// ErrHostname says that the machine was renamed: the Raft log's library ties
	// its directory to the host's name.
	ErrHostname = errors.New("host name differs from the one the data directory was written under")
	// ErrOtherSeeds says that --seeds names other nodes than at the directory's first
	// start.
	ErrOtherSeeds = errors.New("data directory belongs to a cluster of other seeds")
	// ErrMetadataLost says that the node was part of a cluster, and the log that
	// names its topics is gone. Starting would set their data aside.
	ErrMetadataLost = errors.New("the raft log of the cluster's metadata is gone: restore <data-dir>/raft, or start with an empty --data-dir")
)

// identity ties a data directory to a node of a cluster.
type identity struct {
	Format  int          `json:"format"`
	Node    model.NodeID `json:"node"`
	Cluster string       `json:"cluster"`
	Host    string       `json:"host"`
	// Formed: the node has been part of its cluster, so there is a controller's log.
	Formed bool `json:"formed"`
	// Founders are the nodes that form the cluster, ascending; none: this one alone.
	Founders []model.NodeID `json:"founders,omitempty"`
	// Deployment is drawn from the seeds that the node first had, so that nodes of
	// clusters that were formed apart take no message from each other; 0: it is alone.
	Deployment uint64 `json:"deployment,omitempty"`
	// Disk names this directory, among all that its node ever had.
	Disk string `json:"disk,omitempty"`
	// Joins: the node is to be taken in by a cluster that others have formed. Birth is which
	// of the node's disks this is, from when it was; a founder's first is 0.
	Joins bool        `json:"joins,omitempty"`
	Birth model.Birth `json:"birth,omitempty"`
	// Level is the cluster's feature level, when it is above the first.
	Level controller.Level `json:"level,omitempty"`
	// Lost are nodes that were given up with their disks: see RecoverLostMajority.
	Lost []lostNode `json:"lost,omitempty"`
}

// alone tells whether the node forms a cluster by itself.
func (id identity) alone() bool { return len(id.Founders) == 0 && !id.Joins }

// newcomer tells whether no cluster knows the node yet.
func (id identity) newcomer() bool { return id.Joins && id.Birth == 0 }

// members are all nodes that form the cluster and were not given up.
func (id identity) members() []model.NodeID {
	if len(id.Founders) == 0 {
		return []model.NodeID{id.Node}
	}
	return id.withoutLost(id.Founders)
}

// newIdentity is that of a new directory.
func newIdentity(node model.NodeID, seeds []config.Seed, host string) identity {
	id := identity{Format: formatFirst, Node: node, Cluster: randomID(), Host: host, Disk: randomID()}
	switch {
	case len(seeds) > 0 && !slices.Contains(founders(seeds), node):
		id.Joins, id.Cluster = true, ""
	case len(seeds) > 1:
		id.Founders, id.Deployment = founders(seeds), deployment(seeds)
	case node == model.NoNode:
		id.Node = 0
	}
	return id
}

// replica is the node's of the controller's group.
func (id identity) replica() raft.Replica {
	r := raft.Replica{Shard: raft.ControllerShard, Birth: id.Birth, Members: id.members(), Joins: id.Birth > 0}
	if r.Joins && !slices.Contains(r.Members, id.Node) {
		r.Members = append(slices.Clone(r.Members), id.Node)
	}
	return r
}

func founders(seeds []config.Seed) []model.NodeID {
	var ids []model.NodeID
	for _, s := range seeds {
		ids = append(ids, s.ID)
	}
	return ids
}

// deployment gives a number that only nodes with these seeds have.
func deployment(seeds []config.Seed) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%v", seeds))
	return binary.LittleEndian.Uint64(sum[:]) | 1<<63 // small ones are the library's
}

// openIdentity reads the directory's identity, or gives it one when it is new. node is
// NoNode where it is the directory that knows, or the cluster.
func openIdentity(dataDir string, node model.NodeID, seeds []config.Seed) (identity, error) {
	host, err := os.Hostname()
	if err != nil {
		return identity{}, fmt.Errorf("find host name: %w", err)
	}
	path := filepath.Join(dataDir, identityFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return writeIdentity(dataDir, newIdentity(node, seeds, host))
	}
	if err != nil {
		return identity{}, fmt.Errorf("read identity: %w", err)
	}
	var id identity
	if err := json.Unmarshal(b, &id); err != nil {
		return identity{}, fmt.Errorf("read identity %s: %w", path, err)
	}
	switch {
	case id.Format > formatVersion:
		return identity{}, fmt.Errorf("%w: %s has format %d, this build reads up to %d; use the newer build",
			ErrNewerFormat, dataDir, id.Format, formatVersion)
	case id.Level > controller.LevelBuild:
		return identity{}, fmt.Errorf("%w: %s is of a cluster at feature level %d, this build knows %d; use the newer build",
			ErrNewerFormat, dataDir, id.Level, controller.LevelBuild)
	case id.Node != node && node != model.NoNode && id.Node != model.NoNode:
		return identity{}, fmt.Errorf("%w: %s holds node %d, this is node %d; start with --node-id %d or another --data-dir",
			ErrForeignData, dataDir, id.Node, node, id.Node)
	case id.Host != host:
		return identity{}, fmt.Errorf("%w: it was %q, now it is %q; give the machine its name back", ErrHostname, id.Host, host)
	}
	if err := id.checkSeeds(dataDir, seeds); err != nil || id.Disk != "" {
		return id, err
	}
	id.Disk = randomID() // an older build wrote it
	return writeIdentity(dataDir, id)
}

// checkSeeds holds the seeds of this start against those of the first: which nodes
// form a cluster is decided once, where they live is not. To a node that has joined they
// are whom it asks.
func (id identity) checkSeeds(dataDir string, seeds []config.Seed) error {
	given := founders(seeds)
	switch {
	case id.Joins || id.Birth > 0:
		return nil
	case len(id.Founders) == 0 && len(given) <= 1 || slices.Equal(given, id.Founders):
		return nil
	case len(id.Founders) == 0:
		return fmt.Errorf("%w: %s is of a cluster of node %d alone, --seeds names nodes %v; start without --seeds, or with an empty --data-dir",
			ErrOtherSeeds, dataDir, id.Node, given)
	case len(given) == 0:
		return fmt.Errorf("%w: %s is of a cluster that nodes %v form; start with --seeds and their addresses", ErrOtherSeeds, dataDir, id.Founders)
	}
	return fmt.Errorf("%w: %s is of a cluster that nodes %v form, --seeds names %v; give the first list, with today's addresses",
		ErrOtherSeeds, dataDir, id.Founders, given)
}

// writeIdentity makes id durable.
func writeIdentity(dataDir string, id identity) (identity, error) {
	if err := writeJSON(dataDir, identityFile, id); err != nil {
		return identity{}, err
	}
	return id, nil
}

// writeJSON makes v durable as a file of the data directory: written aside, synced,
// renamed, directory synced.
func writeJSON(dataDir, name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	fs, path := disk.OS{}, filepath.Join(dataDir, name)
	f, err := fs.Create(path + ".new")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = errors.Join(fs.Rename(path+".new", path), fs.SyncDir(dataDir))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func randomID() string {
	var id model.TopicID
	_, _ = rand.Read(id[:]) // never fails: see crypto/rand
	return id.String()
}
