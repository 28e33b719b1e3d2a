package controller

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/millrace-io/millrace/broker/model"
)

// A snapshot is the header {magic, format u32, CRC32C of the body u32} in
// little-endian and the body, JSON with every list in a fixed order. Format 2 has replicas
// that have moved, or nodes that are not active, which builds of format 1 would take for
// what they were; format 1 is written while there is none. Format 3 is of a cluster above
// the first feature level, of which no older build may be a part.
const (
	snapshotMagic  = "MRCS"
	snapshotPlain  = 1
	snapshotFormat = 2
	snapshotLevels = 3
	snapshotHeader = len(snapshotMagic) + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Refusals of a snapshot. The node cannot start from it.
var (
	ErrSnapshotFormat  = errors.New("controller snapshot of a newer format") // start the version that wrote it
	ErrSnapshotCorrupt = errors.New("controller snapshot is damaged")        // restore it from another node
)

// snapshot is the body.
type snapshot struct {
	Version        uint64                             `json:"version"`
	ClusterID      string                             `json:"cluster_id"`
	Level          Level                              `json:"level,omitempty"`
	Next           counters                           `json:"next"`
	ConfigRevision uint64                             `json:"config_revision"`
	ClusterConfigs map[string]string                  `json:"cluster_configs,omitempty"`
	NodeConfigs    map[model.NodeID]map[string]string `json:"node_configs,omitempty"`
	Nodes          []*Node                            `json:"nodes"`
	Gone           map[model.NodeID]model.Birth       `json:"gone,omitempty"`
	Topics         []*Topic                           `json:"topics"`
	Scripts        []*Script                          `json:"scripts"`
}

// Snapshot gives the whole state. Equal states give equal bytes.
func (s *State) Snapshot() []byte {
	body, err := json.Marshal(snapshot{
		Version: s.version, ClusterID: s.clusterID, Level: s.level, Next: s.next,
		ConfigRevision: s.configRevision, ClusterConfigs: s.clusterConfigs, NodeConfigs: s.nodeConfigs,
		Nodes: s.Nodes(), Gone: s.gone, Topics: s.Topics(), Scripts: s.Scripts(),
	})
	must(err == nil, "the state cannot be encoded: %v", err)
	b := append(make([]byte, 0, snapshotHeader+len(body)), snapshotMagic...)
	b = binary.LittleEndian.AppendUint32(b, s.format())
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(body, castagnoli))
	return append(b, body...)
}

func (s *State) format() uint32 {
	if s.Level() > LevelFirst {
		return snapshotLevels
	}
	for _, n := range s.nodes {
		if n.State != NodeActive || n.Birth > 0 {
			return snapshotFormat
		}
	}
	for _, t := range s.topics {
		for i := range t.Partitions {
			if p := &t.Partitions[i]; p.Move != nil || p.Moved > 0 || p.Born > 0 {
				return snapshotFormat
			}
		}
	}
	return snapshotPlain
}

// Restore gives the state that a snapshot holds.
func Restore(b []byte) (*State, error) {
	if len(b) < snapshotHeader || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return nil, fmt.Errorf("%w: it has no header", ErrSnapshotCorrupt)
	}
	format, sum := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	if format > snapshotLevels {
		return nil, fmt.Errorf("%w: %d, this build reads up to %d", ErrSnapshotFormat, format, snapshotLevels)
	}
	body := b[snapshotHeader:]
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, fmt.Errorf("%w: its checksum does not agree", ErrSnapshotCorrupt)
	}
	var in snapshot
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshotCorrupt, err)
	}
	return in.state()
}

func (in *snapshot) state() (*State, error) {
	if in.Level > LevelBuild {
		return nil, fmt.Errorf("%w: the cluster is at feature level %d, this build knows %d", ErrSnapshotFormat, in.Level, LevelBuild)
	}
	s := New()
	s.version, s.clusterID, s.level, s.next = in.Version, in.ClusterID, in.Level, in.Next
	s.configRevision, s.clusterConfigs = in.ConfigRevision, in.ClusterConfigs
	if in.NodeConfigs != nil {
		s.nodeConfigs = in.NodeConfigs
	}
	if in.Gone != nil {
		s.gone = in.Gone
	}
	for _, n := range in.Nodes {
		s.nodes[n.ID] = n
	}
	for _, t := range in.Topics {
		if len(t.Partitions) == 0 {
			return nil, fmt.Errorf("%w: topic %q has no partition", ErrSnapshotCorrupt, t.Name)
		}
		for i := range t.Partitions {
			if !t.Partitions[i].whole() {
				return nil, fmt.Errorf("%w: partition %d of topic %q has not a birth for each replica", ErrSnapshotCorrupt, i, t.Name)
			}
		}
		s.topics[t.ID] = t
		s.names[t.Name] = t
	}
	for _, sc := range in.Scripts {
		s.scripts[sc.Name] = sc
	}
	return s, nil
}
