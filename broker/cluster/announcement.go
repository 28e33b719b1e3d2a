package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/broker/model"
)

// An announcement on its way, little endian:
//
//	 0  1  version, 1
//	 1  1  flags: 1 it is whole, 2 the node is leaving, 4 and 8 as Unfit; others mean nothing
//	 2  4  node
//	 6  8  boot
//	14  8  sequence
//	22  4  n, how many are served
//	26  4  m, how many were left
//	30     n and then m of: topic id 16, partition 4, epoch 4
const (
	announcementVersion = 1
	announcementHead    = 30
	ledBytes            = 24

	flagWhole, flagLeaving = 1, 2
)

// ErrAnnouncement says that bytes are no announcement.
var ErrAnnouncement = errors.New("not an announcement of leaders")

// Encode gives the bytes to send.
func (a *Announcement) Encode() []byte {
	b := make([]byte, 0, announcementHead+ledBytes*(len(a.Served)+len(a.Left)))
	b = append(b, announcementVersion, 0)
	if a.Whole {
		b[1] |= flagWhole
	}
	if a.Leaving {
		b[1] |= flagLeaving
	}
	b[1] |= byte(a.Unfit & unfitAny)
	b = binary.LittleEndian.AppendUint32(b, uint32(a.Node))
	b = binary.LittleEndian.AppendUint64(b, a.Boot)
	b = binary.LittleEndian.AppendUint64(b, a.Sequence)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(a.Served)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(a.Left)))
	for _, all := range [][]Led{a.Served, a.Left} {
		for _, led := range all {
			b = append(b, led.Partition.Topic[:]...)
			b = binary.LittleEndian.AppendUint32(b, uint32(led.Partition.Index))
			b = binary.LittleEndian.AppendUint32(b, uint32(led.Epoch))
		}
	}
	return b
}

// DecodeAnnouncement reads what Encode wrote.
func DecodeAnnouncement(b []byte) (Announcement, error) {
	if len(b) < announcementHead {
		return Announcement{}, fmt.Errorf("%w: %d bytes", ErrAnnouncement, len(b))
	}
	if b[0] != announcementVersion {
		return Announcement{}, fmt.Errorf("%w of this build: version %d, it reads %d", ErrAnnouncement, b[0], announcementVersion)
	}
	a := Announcement{
		Whole: b[1]&flagWhole != 0, Leaving: b[1]&flagLeaving != 0, Unfit: Unfit(b[1]) & unfitAny, Node: model.NodeID(binary.LittleEndian.Uint32(b[2:])),
		Boot: binary.LittleEndian.Uint64(b[6:]), Sequence: binary.LittleEndian.Uint64(b[14:]),
	}
	served, left := uint64(binary.LittleEndian.Uint32(b[22:])), uint64(binary.LittleEndian.Uint32(b[26:]))
	b = b[announcementHead:]
	if (served+left)*ledBytes != uint64(len(b)) {
		return Announcement{}, fmt.Errorf("%w: %d and %d partitions in %d bytes", ErrAnnouncement, served, left, len(b))
	}
	all := make([]Led, 0, served+left)
	for ; len(b) > 0; b = b[ledBytes:] {
		led := Led{Epoch: model.LeaderEpoch(binary.LittleEndian.Uint32(b[20:]))}
		copy(led.Partition.Topic[:], b)
		led.Partition.Index = int32(binary.LittleEndian.Uint32(b[16:]))
		all = append(all, led)
	}
	a.Served, a.Left = all[:served:served], all[served:]
	return a, nil
}
