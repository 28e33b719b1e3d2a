package coordinator

import (
	"encoding/hex"
	"reflect"
	"testing"

	"github.com/millrace-io/millrace/broker/group"
)

func TestRecordsSurviveTheirForm(t *testing.T) {
	for _, r := range sampleRecords() {
		key, value := encode("g", r)
		id, got, err := decode(key, value)
		if err != nil || id != "g" || !reflect.DeepEqual(got, r) {
			t.Errorf("%#v\ncame back as\n%#v of %q, %v", r, got, id, err)
		}
	}
}

// TestFormIsKafkas compares with the layout of Kafka's OffsetCommitKey,
// OffsetCommitValue and GroupMetadataKey, written out by hand.
func TestFormIsKafkas(t *testing.T) {
	samples := sampleRecords()
	for i, want := range map[int][2]string{
		0: {"0001" + "000167" + "000174" + "00000003", "0003" + "0000000000000007" + "00000002" + "00016d" + "0000000000000005"},
		1: {"0001" + "000167" + "000174" + "00000003", "0001" + "0000000000000007" + "0000" + "0000000000000005" + "0000000000000009"},
		3: {"0002" + "000167", "0003" + "0008636f6e73756d6572" + "00000004" + "ffff" + "ffff" + "0000000000000005" + "00000000"},
	} {
		key, value := encode("g", samples[i])
		if hex.EncodeToString(key) != want[0] || hex.EncodeToString(value) != want[1] {
			t.Errorf("%#v\nis %x = %x, want %s = %s", samples[i], key, value, want[0], want[1])
		}
	}
	if _, value := encode("g", samples[2]); value != nil {
		t.Errorf("a tombstone has the value %x", value)
	}
}

func TestUnknownKeysArePassedOver(t *testing.T) {
	if id, r, err := decode([]byte{0, 9, 1, 2, 3}, []byte("x")); id != "" || r != nil || err != nil {
		t.Errorf("key of version 9: %q %v %v", id, r, err)
	}
	for _, key := range [][]byte{nil, {0}, {0, 1, 0, 9}, {0, 2}} {
		if _, _, err := decode(key, nil); err == nil {
			t.Errorf("key %x was taken", key)
		}
	}
	if _, _, err := decode(groupKey("g"), []byte{0, 3, 1}); err == nil {
		t.Error("half a value was taken")
	}
}

// TestTopicsTrustsNoCount asks for more topics than there are bytes.
func TestTopicsTrustsNoCount(t *testing.T) {
	if got := Topics(group.ConsumerProtocol, []byte{0, 0, 0x7f, 0xff, 0xff, 0xff}); got != nil {
		t.Errorf("topics: %v", got)
	}
	if got := Topics(group.ConsumerProtocol, make([]byte, topicsBytesMax+1)); got != nil {
		t.Errorf("topics: %v", got)
	}
	if got := Topics("connect", []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}); got != nil {
		t.Errorf("topics of another protocol: %v", got)
	}
	if got := Topics(group.ConsumerProtocol, []byte{0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}); got == nil || len(got) != 0 {
		t.Errorf("no topics: %v", got)
	}
}
