package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/disk"
)

const (
	page      = disk.DirectAlign
	headSize  = 64
	itemSize  = 80
	nameSize  = 16
	entrySize = 64
	blobSize  = 8

	blockMagic = 0x626a726d // "mrjb"
	flagSeal   = 1
)

type kind uint8

// The kinds of items; see doc.go.
const (
	kindUpdate kind = 1 + iota
	kindBase
	kindKeep
	kindRemove
)

// The flags of items.
const (
	hasBootstrap = 1 << iota
	hasSnapshot
	hasDamage
	installed
	based
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// mix makes the number that binds checksums to a file.
func mix(session, file uint64) uint32 {
	x := session + file*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return uint32(x ^ x>>31)
}

// name is a replica: shard and replica id.
type name struct{ shard, replica uint64 }

func (n name) String() string { return fmt.Sprintf("replica %d of shard %d", n.replica, n.shard) }

// item is one replica's share of a block.
type item struct {
	kind    kind
	flags   uint8
	base    uint16 // of the turn of the replica's last base, the low bits
	entries uint32
	name    name
	state   pb.State
	first   uint64
	last    uint64
	turn    uint64
	pos     uint32 // in the block
	length  uint32
}

func (i *item) append(b []byte) []byte {
	b = append(b, byte(i.kind), i.flags, byte(i.base), byte(i.base>>8))
	b = binary.LittleEndian.AppendUint32(b, i.entries)
	for _, v := range [...]uint64{i.name.shard, i.name.replica, i.state.Term, i.state.Vote, i.state.Commit, i.first, i.last, i.turn} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, i.pos)
	return binary.LittleEndian.AppendUint32(b, i.length)
}

func itemOf(b []byte) item {
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	return item{
		kind: kind(b[0]), flags: b[1], base: binary.LittleEndian.Uint16(b[2:]), entries: binary.LittleEndian.Uint32(b[4:]),
		name:  name{u64(8), u64(16)},
		state: pb.State{Term: u64(24), Vote: u64(32), Commit: u64(40)},
		first: u64(48), last: u64(56), turn: u64(64),
		pos: binary.LittleEndian.Uint32(b[72:]), length: binary.LittleEndian.Uint32(b[76:]),
	}
}

// head begins a block.
type head struct {
	file, seq uint64
	session   uint64
	pos       uint32
	body      uint32
	items     uint32
	names     uint32
	prevEnd   uint32
	flags     uint32
}

// put writes all but the checksum.
func (h *head) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b[4:], blockMagic)
	le.PutUint64(b[8:], h.file)
	le.PutUint64(b[16:], h.seq)
	le.PutUint32(b[24:], h.pos)
	le.PutUint32(b[28:], h.body)
	le.PutUint32(b[32:], h.items)
	le.PutUint32(b[36:], h.names)
	le.PutUint32(b[40:], h.prevEnd)
	le.PutUint32(b[44:], h.flags)
	le.PutUint64(b[48:], h.session)
	le.PutUint64(b[56:], 0)
}

func headOf(b []byte) head {
	le := binary.LittleEndian
	return head{
		file: le.Uint64(b[8:]), seq: le.Uint64(b[16:]), session: le.Uint64(b[48:]),
		pos: le.Uint32(b[24:]), body: le.Uint32(b[28:]), items: le.Uint32(b[32:]),
		names: le.Uint32(b[36:]), prevEnd: le.Uint32(b[40:]), flags: le.Uint32(b[44:]),
	}
}

// size is that of the block without its padding, in bytes.
func (h *head) size() int64 {
	return headSize + int64(h.body) + int64(h.items)*itemSize + int64(h.names)*nameSize
}

// headSum is the checksum of a whole block's head, table and names.
func headSum(b []byte, h *head) uint32 {
	sum := crc32.Update(uint32(h.session), castagnoli, b[4:headSize])
	return crc32.Update(sum, castagnoli, b[headSize+h.body:h.size()])
}

// block is a read one. It aliases the file's bytes.
type block struct {
	head
	b     []byte
	items []item
	names []name
}

// readBlock checks the block at a position of a file's bytes. False: there is none.
func readBlock(content []byte, file, session uint64, pos int64) (block, bool) {
	if pos+headSize > int64(len(content)) {
		return block{}, false
	}
	b := content[pos:]
	if binary.LittleEndian.Uint32(b[4:]) != blockMagic {
		return block{}, false
	}
	h := headOf(b)
	if h.file != file || h.session != session || int64(h.pos) != pos || h.size() > int64(len(b)) ||
		headSum(b, &h) != binary.LittleEndian.Uint32(b) {
		return block{}, false
	}
	r := block{head: h, b: b[:h.size()], items: make([]item, h.items), names: make([]name, h.names)}
	at := headSize + int(h.body)
	for i := range r.items {
		r.items[i] = itemOf(b[at:])
		at += itemSize
	}
	for i := range r.names {
		r.names[i] = name{binary.LittleEndian.Uint64(b[at:]), binary.LittleEndian.Uint64(b[at+8:])}
		at += nameSize
	}
	return r, true
}

// share gives an item's part of the body; nil when its bounds make no sense.
func (b *block) share(i *item) []byte {
	end := uint64(i.pos) + uint64(i.length)
	if i.pos < headSize || end > uint64(headSize)+uint64(b.body) {
		return nil
	}
	return b.b[i.pos:end]
}

// errSum says that bytes are not those that were written.
var errSum = errors.New("checksum does not match")

func appendBlob(b, blob []byte, mix uint32) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(blob)))
	b = append(b, blob...)
	binary.LittleEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:], castagnoli)^mix)
	return b
}

// nextBlob takes a blob off b.
func nextBlob(b []byte, mix uint32) (blob, rest []byte, err error) {
	if len(b) < blobSize {
		return nil, nil, errSum
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if uint64(n) > uint64(len(b)-blobSize) {
		return nil, nil, errSum
	}
	end := blobSize + int(n)
	if crc32.Checksum(b[4:end], castagnoli)^mix != binary.LittleEndian.Uint32(b) {
		return nil, nil, errSum
	}
	return b[blobSize:end], b[end:], nil
}

// entryBytes is what an entry takes in a block.
func entryBytes(e *pb.Entry) int { return entrySize + len(e.Cmd) }

const nilCmd = 1

func appendEntry(b []byte, e *pb.Entry, mix uint32) []byte {
	at := len(b)
	le := binary.LittleEndian
	b = append(b, 0, 0, 0, 0)
	b = le.AppendUint32(b, uint32(len(e.Cmd)))
	b = le.AppendUint64(b, e.Term)
	b = le.AppendUint64(b, e.Index)
	b = le.AppendUint64(b, e.Key)
	b = le.AppendUint64(b, e.ClientID)
	b = le.AppendUint64(b, e.SeriesID)
	b = le.AppendUint64(b, e.RespondedTo)
	b = le.AppendUint32(b, uint32(e.Type))
	var flags uint32
	if e.Cmd == nil {
		flags = nilCmd
	}
	b = le.AppendUint32(b, flags)
	b = append(b, e.Cmd...)
	le.PutUint32(b[at:], crc32.Checksum(b[at+4:], castagnoli)^mix)
	return b
}

// nextEntry takes an entry off b. Its command aliases b. length is what it takes,
// also of one whose checksum is wrong; 0 when not even that can be told.
func nextEntry(b []byte, mix uint32) (e pb.Entry, length int, err error) {
	if len(b) < entrySize {
		return pb.Entry{}, 0, errSum
	}
	le := binary.LittleEndian
	n := le.Uint32(b[4:])
	if uint64(n) > uint64(len(b)-entrySize) {
		return pb.Entry{}, 0, errSum
	}
	length = entrySize + int(n)
	if crc32.Checksum(b[4:length], castagnoli)^mix != le.Uint32(b) {
		return pb.Entry{}, length, errSum
	}
	e = pb.Entry{
		Term: le.Uint64(b[8:]), Index: le.Uint64(b[16:]), Key: le.Uint64(b[24:]),
		ClientID: le.Uint64(b[32:]), SeriesID: le.Uint64(b[40:]), RespondedTo: le.Uint64(b[48:]),
		Type: pb.EntryType(le.Uint32(b[56:])), Cmd: b[entrySize:length:length],
	}
	if le.Uint32(b[60:])&nilCmd != 0 {
		e.Cmd = nil
	}
	return e, length, nil
}
