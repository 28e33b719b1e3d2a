package kafka

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestRecordsAreSpliced compares the frames of random fetches with what kmsg gives
// when it copies the records itself, in every version.
func TestRecordsAreSpliced(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	sizes := []int{0, 1, spliceMin - 1, spliceMin, spliceMin + 1, 1 << 14, 1<<14 - 1, 1<<21 + 5}
	highest := kmsg.NewPtrFetchResponse().MaxVersion()
	for version := int16(4); version <= highest; version++ {
		for range 20 {
			m := kmsg.NewPtrFetchResponse()
			m.SetVersion(version)
			for range r.IntN(4) {
				topic := kmsg.NewFetchResponseTopic()
				topic.Topic, topic.TopicID[0] = "t", byte(r.IntN(9))
				for range r.IntN(5) {
					p := kmsg.NewFetchResponseTopicPartition()
					p.HighWatermark, p.RecordBatches = r.Int64(), make([]byte, sizes[r.IntN(len(sizes))])
					for i := range p.RecordBatches {
						p.RecordBatches[i] = byte(r.Uint32())
					}
					topic.Partitions = append(topic.Partitions, p)
				}
				m.Topics = append(m.Topics, topic)
			}
			of := &request{header: header{correlation: 7}}
			want := encodeWhole(of, m)
			pieces := encode(of, m)
			if got := bytes.Join(pieces, nil); !bytes.Equal(got, want) || of.size != len(want) {
				t.Fatalf("version %d: %d bytes in %d pieces, %d told; kmsg has %d", version, len(got), len(pieces), of.size, len(want))
			}
		}
	}
}
