package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/broker/model"
)

// An announcement on its way, little endian:
//
//	 0  1  version, 1
//	 1  1  flags: 1 it is whole, 2 the node is leaving, 4 and 8 as Unfit, 16 the section of
//	       laggards follows; others mean nothing
//	 2  4  node
//	 6  8  boot
//	14  8  sequence
//	22  4  n, how many are served
//	26  4  m, how many were left
//	30     n and then m of: topic id 16, partition 4, epoch 4
//	       sections, in order of their flags, each of: length 4, bytes
//
// The section of laggards has for each, in order of id: node 4, and a bit for each of
// the n in (n+7)/8 bytes, the first in the lowest bit.
//
// Builds that do not know of sections refuse what has any. They are told once more,
// without: see Plain.
const (
	announcementVersion = 1
	announcementHead    = 30
	ledBytes            = 24

	flagWhole, flagLeaving, flagLaggards = 1, 2, 16
	// flagsOfSections say that something follows. Others that a build does not know are
	// passed over.
	flagsOfSections = flagLaggards
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
	if len(a.Laggards) > 0 {
		b[1] |= flagLaggards
		b = appendSection(b, a.encodeLaggards())
	}
	return b
}

func appendSection(b, section []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(section))), section...)
}

// takeSection gives the section that b begins with.
func takeSection(b []byte) (section, rest []byte, err error) {
	if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) {
		return nil, nil, fmt.Errorf("%w: a section is cut at %d bytes", ErrAnnouncement, len(b))
	}
	n := binary.LittleEndian.Uint32(b)
	return b[4 : 4+n], b[4+n:], nil
}

// Plain gives an encoded announcement without its sections, as builds take it that know
// of none; ok is false if it has none, or is no announcement.
func Plain(b []byte) (plain []byte, ok bool) {
	if len(b) < announcementHead || b[1]&flagsOfSections == 0 {
		return nil, false
	}
	served, left := binary.LittleEndian.Uint32(b[22:]), binary.LittleEndian.Uint32(b[26:])
	end := announcementHead + ledBytes*(uint64(served)+uint64(left))
	if end > uint64(len(b)) {
		return nil, false
	}
	plain = bytes.Clone(b[:end])
	plain[1] &^= flagsOfSections
	return plain, true
}

func (a *Announcement) encodeLaggards() []byte {
	bits := (len(a.Served) + 7) / 8
	b := make([]byte, 0, len(a.Laggards)*(4+bits))
	for _, g := range a.Laggards {
		b = binary.LittleEndian.AppendUint32(b, uint32(g.Node))
		at := len(b)
		b = append(b, make([]byte, bits)...)
		for _, i := range g.Served {
			b[at+i/8] |= 1 << (i % 8)
		}
	}
	return b
}

// decodeLaggards takes only what encodeLaggards gives for so many partitions.
func decodeLaggards(b []byte, served int) (all []Laggard, err error) {
	each := 4 + (served+7)/8
	if len(b) == 0 || len(b)%each != 0 {
		return nil, fmt.Errorf("%w: %d bytes tell which replicas of %d partitions lag", ErrAnnouncement, len(b), served)
	}
	for ; len(b) > 0; b = b[each:] {
		g := Laggard{Node: model.NodeID(binary.LittleEndian.Uint32(b))}
		for i := range 8 * (each - 4) {
			if b[4+i/8]&(1<<(i%8)) != 0 {
				g.Served = append(g.Served, i)
			}
		}
		n := len(g.Served)
		if n == 0 || g.Served[n-1] >= served || len(all) > 0 && all[len(all)-1].Node >= g.Node {
			return nil, fmt.Errorf("%w: of node %d", ErrAnnouncement, g.Node)
		}
		all = append(all, g)
	}
	return all, nil
}

// DecodeAnnouncement reads what Encode wrote.
func DecodeAnnouncement(b []byte) (Announcement, error) {
	if len(b) < announcementHead {
		return Announcement{}, fmt.Errorf("%w: %d bytes", ErrAnnouncement, len(b))
	}
	if b[0] != announcementVersion {
		return Announcement{}, fmt.Errorf("%w of this build: version %d, it reads %d", ErrAnnouncement, b[0], announcementVersion)
	}
	flags := b[1]
	a := Announcement{
		Whole: b[1]&flagWhole != 0, Leaving: b[1]&flagLeaving != 0, Unfit: Unfit(b[1]) & unfitAny, Node: model.NodeID(binary.LittleEndian.Uint32(b[2:])),
		Boot: binary.LittleEndian.Uint64(b[6:]), Sequence: binary.LittleEndian.Uint64(b[14:]),
	}
	served, left := uint64(binary.LittleEndian.Uint32(b[22:])), uint64(binary.LittleEndian.Uint32(b[26:]))
	b = b[announcementHead:]
	if (served+left)*ledBytes > uint64(len(b)) {
		return Announcement{}, fmt.Errorf("%w: %d and %d partitions in %d bytes", ErrAnnouncement, served, left, len(b))
	}
	b, sections := b[:(served+left)*ledBytes], b[(served+left)*ledBytes:]
	if err := a.decodeSections(flags, int(served), sections); err != nil {
		return Announcement{}, err
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

func (a *Announcement) decodeSections(flags byte, served int, b []byte) (err error) {
	if flags&flagLaggards != 0 {
		var section []byte
		if section, b, err = takeSection(b); err != nil {
			return err
		}
		if a.Laggards, err = decodeLaggards(section, served); err != nil {
			return err
		}
	}
	if len(b) > 0 {
		return fmt.Errorf("%w: %d bytes follow", ErrAnnouncement, len(b))
	}
	return nil
}
