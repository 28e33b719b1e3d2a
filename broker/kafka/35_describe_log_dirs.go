package kafka

import (
	"context"
	"slices"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeLogDirs (key 35), versions 1 to 5: the size of this node's partitions
// in its one data directory. No topics named: all of them.

func (s *Server) describeLogDirs(ctx context.Context, _ *request, m *kmsg.DescribeLogDirsRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.DescribeLogDirsResponse)
	disk := s.o.Disk()
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir, dir.TotalBytes, dir.UsableBytes = disk.Dir, disk.Total, disk.Usable
	snapshot := s.o.Cluster.Metadata()
	if m.Topics == nil {
		for _, t := range snapshot.Topics() {
			s.addLogs(ctx, &dir, t, nil)
		}
	}
	seen := map[string]bool{}
	for i := range m.Topics {
		name := m.Topics[i].Topic
		if t, ok := snapshot.Topic(name); ok && !seen[name] {
			seen[name] = true
			s.addLogs(ctx, &dir, t, m.Topics[i].Partitions)
		}
	}
	answer.Dirs = append(answer.Dirs, dir)
	return answer
}

// addLogs adds those of a topic's partitions that have a replica here; wanted
// empty means all.
func (s *Server) addLogs(ctx context.Context, dir *kmsg.DescribeLogDirsResponseDir, t *cluster.Topic, wanted []int32) {
	states := make([]*fetch.PartitionState, len(t.Partitions))
	parallel(len(t.Partitions), func(i int) {
		p := &t.Partitions[i]
		if !slices.Contains(p.Holders(), s.o.Node) || len(wanted) > 0 && !slices.Contains(wanted, p.Index) {
			return
		}
		if st, err := s.o.Fetch.Describe(ctx, t.PartitionID(p.Index)); err == nil {
			states[i] = &st
		}
	})
	out := kmsg.NewDescribeLogDirsResponseDirTopic()
	out.Topic = t.Name
	for i, st := range states {
		if st == nil {
			continue
		}
		p := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		p.Partition, p.Size = t.Partitions[i].Index, st.Bytes
		out.Partitions = append(out.Partitions, p)
	}
	if len(out.Partitions) > 0 {
		dir.Topics = append(dir.Topics, out)
	}
}
