package server

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
)

const (
	identityFile = "identity.json"
	// formatVersion is the newest layout of a data directory that this build
	// reads and the one it writes.
	formatVersion = 1
)

var (
	// ErrForeignData says that the data directory belongs to another node.
	ErrForeignData = errors.New("data directory belongs to another node")
	// ErrNewerFormat says that a newer version of Millrace wrote the directory.
	ErrNewerFormat = errors.New("data directory has a newer format")
	// ErrHostname says that the machine was renamed: the Raft log's library ties
	// its directory to the host's name.
	ErrHostname = errors.New("host name differs from the one the data directory was written under")
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
}

// openIdentity reads the directory's identity, or gives it one when it is new.
func openIdentity(dataDir string, node model.NodeID) (identity, error) {
	host, err := os.Hostname()
	if err != nil {
		return identity{}, fmt.Errorf("find host name: %w", err)
	}
	path := filepath.Join(dataDir, identityFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return writeIdentity(dataDir, identity{Format: formatVersion, Node: node, Cluster: newClusterID(), Host: host})
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
	case id.Node != node:
		return identity{}, fmt.Errorf("%w: %s holds node %d, this is node %d; start with --node-id %d or another --data-dir",
			ErrForeignData, dataDir, id.Node, node, id.Node)
	case id.Host != host:
		return identity{}, fmt.Errorf("%w: it was %q, now it is %q; give the machine its name back", ErrHostname, id.Host, host)
	}
	return id, nil
}

// writeIdentity makes id durable: written aside, synced, renamed, directory synced.
func writeIdentity(dataDir string, id identity) (identity, error) {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return identity{}, err
	}
	fs, path := disk.OS{}, filepath.Join(dataDir, identityFile)
	f, err := fs.Create(path + ".new")
	if err != nil {
		return identity{}, fmt.Errorf("write identity: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = errors.Join(fs.Rename(path+".new", path), fs.SyncDir(dataDir))
	}
	if err != nil {
		return identity{}, fmt.Errorf("write identity: %w", err)
	}
	return id, nil
}

func newClusterID() string {
	var id model.TopicID
	_, _ = rand.Read(id[:]) // never fails: see crypto/rand
	return id.String()
}
