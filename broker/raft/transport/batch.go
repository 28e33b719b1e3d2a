package transport

import (
	"encoding/binary"
	"fmt"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

const (
	batchFixedBytes = 20
	messageBytes    = 81
	entryBytes      = 56

	flagReject, flagSnapshot = 1, 2
)

// appendBatch appends the meta of a messages frame: all of b but the commands.
func appendBatch(to []byte, b *pb.MessageBatch) ([]byte, error) {
	if len(b.SourceAddress) > nameBytesMax {
		return to, fmt.Errorf("%w: a source of %d bytes", ErrLength, len(b.SourceAddress))
	}
	entries := 0
	for i := range b.Requests {
		entries += len(b.Requests[i].Entries)
	}
	to = binary.LittleEndian.AppendUint64(to, b.DeploymentId)
	to = binary.LittleEndian.AppendUint32(to, b.BinVer)
	to = binary.LittleEndian.AppendUint32(to, uint32(len(b.Requests)))
	to = binary.LittleEndian.AppendUint32(to, uint32(entries))
	to = appendName(to, b.SourceAddress)
	var err error
	for i := range b.Requests {
		if to, err = appendMessage(to, &b.Requests[i]); err != nil {
			return to, err
		}
	}
	return to, nil
}

func appendMessage(to []byte, m *pb.Message) ([]byte, error) {
	flags := byte(0)
	if m.Reject {
		flags |= flagReject
	}
	snapshot := !noSnapshot(&m.Snapshot)
	if snapshot {
		flags |= flagSnapshot
	}
	to = binary.LittleEndian.AppendUint32(to, uint32(m.Type))
	to = append(to, flags)
	for _, v := range [...]uint64{m.To, m.From, m.ShardID, m.Term, m.LogTerm, m.LogIndex, m.Commit, m.Hint, m.HintHigh} {
		to = binary.LittleEndian.AppendUint64(to, v)
	}
	to = binary.LittleEndian.AppendUint32(to, uint32(len(m.Entries)))
	if snapshot {
		b, err := m.Snapshot.Marshal()
		if err != nil {
			return to, fmt.Errorf("encode the snapshot of a message of shard %d: %w", m.ShardID, err)
		}
		to = binary.LittleEndian.AppendUint32(to, uint32(len(b)))
		to = append(to, b...)
	}
	for i := range m.Entries {
		to = appendEntry(to, &m.Entries[i])
	}
	return to, nil
}

func appendEntry(to []byte, e *pb.Entry) []byte {
	to = binary.LittleEndian.AppendUint32(to, uint32(e.Type))
	for _, v := range [...]uint64{e.Term, e.Index, e.Key, e.ClientID, e.SeriesID, e.RespondedTo} {
		to = binary.LittleEndian.AppendUint64(to, v)
	}
	return binary.LittleEndian.AppendUint32(to, uint32(len(e.Cmd)))
}

// noSnapshot tells that s is the zero value: nearly every message's is, and
// dragonboat's encoding of that has 30 bytes.
func noSnapshot(s *pb.Snapshot) bool {
	m := &s.Membership
	return s.Index == 0 && s.Term == 0 && s.OnDiskIndex == 0 && s.ShardID == 0 && s.FileSize == 0 && s.Type == 0 &&
		s.Filepath == "" && len(s.Files) == 0 && len(s.Checksum) == 0 && !s.Dummy && !s.Imported && !s.Witness &&
		m.ConfigChangeId == 0 && len(m.Addresses) == 0 && len(m.Removed) == 0 && len(m.NonVotings) == 0 && len(m.Witnesses) == 0
}

// batch is a decoded MessageBatch whose commands have not been read yet.
type batch struct {
	pb.MessageBatch
	// commands are the lengths of the entries' commands, in order.
	commands []int
	// bytes is their sum.
	bytes int
}

// decode replaces b by what meta holds, reusing its slices: raft takes messages
// by value and keeps only Entries, which are new. peer is who sends.
func (b *batch) decode(meta []byte, peer string) error {
	if len(meta) < batchFixedBytes {
		return fmt.Errorf("%w: a batch of %d bytes", ErrFrame, len(meta))
	}
	messages, entries := int(binary.LittleEndian.Uint32(meta[12:])), int(binary.LittleEndian.Uint32(meta[16:]))
	source, rest, ok := cutName(meta[batchFixedBytes:])
	if !ok || messages > len(rest)/messageBytes || entries > len(rest)/entryBytes {
		return fmt.Errorf("%w: %d messages with %d entries in a batch of %d bytes", ErrFrame, messages, entries, len(meta))
	}
	b.DeploymentId, b.BinVer, b.SourceAddress = binary.LittleEndian.Uint64(meta), binary.LittleEndian.Uint32(meta[8:]), ""
	if len(source) > 0 {
		if string(source) != peer {
			return fmt.Errorf("%w: %q sends in the name of %q", ErrPeer, peer, source)
		}
		b.SourceAddress = peer
	}
	b.reset(messages, entries)
	slab := make([]pb.Entry, entries)
	for i := range b.Requests {
		var err error
		if rest, slab, err = b.message(&b.Requests[i], rest, slab); err != nil {
			return fmt.Errorf("message %d of %d: %w", i+1, messages, err)
		}
	}
	if len(rest) > 0 || len(slab) > 0 {
		return fmt.Errorf("%w: %d bytes behind the last message, %d entries short", ErrFrame, len(rest), len(slab))
	}
	return nil
}

func (b *batch) reset(messages, entries int) {
	if cap(b.Requests) < messages {
		b.Requests = make([]pb.Message, messages)
	}
	b.Requests, b.commands, b.bytes = b.Requests[:messages], b.commands[:0], 0
	if cap(b.commands) < entries {
		b.commands = make([]int, 0, entries)
	}
}

// message decodes one message from the front of b, its entries into slab's.
func (b *batch) message(m *pb.Message, rest []byte, slab []pb.Entry) ([]byte, []pb.Entry, error) {
	if len(rest) < messageBytes {
		return nil, nil, fmt.Errorf("%w: %d bytes are left", ErrFrame, len(rest))
	}
	f := rest[:messageBytes]
	*m = pb.Message{
		Type: pb.MessageType(binary.LittleEndian.Uint32(f)), Reject: f[4]&flagReject != 0,
		To: word(f, 0), From: word(f, 1), ShardID: word(f, 2), Term: word(f, 3), LogTerm: word(f, 4),
		LogIndex: word(f, 5), Commit: word(f, 6), Hint: word(f, 7), HintHigh: word(f, 8),
	}
	n := int(binary.LittleEndian.Uint32(f[77:]))
	rest = rest[messageBytes:]
	// dragonboat would stop the process for a message to nobody.
	if m.To == 0 || f[4]&^(flagReject|flagSnapshot) != 0 {
		return nil, nil, fmt.Errorf("%w: to replica %d, flags %x", ErrFrame, m.To, f[4])
	}
	if f[4]&flagSnapshot != 0 {
		var err error
		if rest, err = cutSnapshot(&m.Snapshot, rest); err != nil {
			return nil, nil, err
		}
	}
	if n > len(slab) || n > len(rest)/entryBytes {
		return nil, nil, fmt.Errorf("%w: %d entries in %d bytes", ErrFrame, n, len(rest))
	}
	if n > 0 {
		m.Entries, slab = slab[:n:n], slab[n:]
		b.entries(m.Entries, rest)
	}
	return rest[n*entryBytes:], slab, nil
}

// word is the i-th of the 8-byte fields of a message.
func word(message []byte, i int) uint64 { return binary.LittleEndian.Uint64(message[5+8*i:]) }

func cutSnapshot(s *pb.Snapshot, b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: no room for a snapshot", ErrFrame)
	}
	n := int(binary.LittleEndian.Uint32(b))
	if n > len(b)-4 {
		return nil, fmt.Errorf("%w: a snapshot of %d bytes in %d", ErrFrame, n, len(b)-4)
	}
	if err := s.Unmarshal(b[4 : 4+n]); err != nil {
		return nil, fmt.Errorf("%w: snapshot: %w", ErrFrame, err)
	}
	return b[4+n:], nil
}

// entries decodes as many entries as there are from the front of f, which holds them.
func (b *batch) entries(to []pb.Entry, f []byte) {
	for i := range to {
		to[i] = pb.Entry{
			Type: pb.EntryType(binary.LittleEndian.Uint32(f)),
			Term: binary.LittleEndian.Uint64(f[4:]), Index: binary.LittleEndian.Uint64(f[12:]),
			Key: binary.LittleEndian.Uint64(f[20:]), ClientID: binary.LittleEndian.Uint64(f[28:]),
			SeriesID: binary.LittleEndian.Uint64(f[36:]), RespondedTo: binary.LittleEndian.Uint64(f[44:]),
		}
		n := int(binary.LittleEndian.Uint32(f[52:]))
		b.commands = append(b.commands, n)
		b.bytes += n
		f = f[entryBytes:]
	}
}

// read gives the entries their commands. take gives the next n bytes of data, in
// memory that is raft's from then on.
func (b *batch) read(take func(n int) ([]byte, error)) (err error) {
	var data []byte
	shared := b.bytes <= sharedBytesMax
	if shared {
		if data, err = take(b.bytes); err != nil {
			return err
		}
	}
	lengths := b.commands
	for i := range b.Requests {
		entries := b.Requests[i].Entries
		if !shared {
			if data, err = take(sum(lengths[:len(entries)])); err != nil {
				return err
			}
		}
		for j := range entries {
			if n := lengths[j]; n > 0 {
				entries[j].Cmd, data = data[:n:n], data[n:]
			}
		}
		lengths = lengths[len(entries):]
	}
	return nil
}

func sum(all []int) (n int) {
	for _, v := range all {
		n += v
	}
	return n
}

// release forgets what was handed over, so that a quiet connection pins none of it.
func (b *batch) release() {
	if cap(b.Requests) > scratchMessagesMax {
		*b = batch{}
		return
	}
	clear(b.Requests)
}

func appendName(to []byte, name string) []byte {
	return append(append(to, byte(len(name))), name...)
}

// cutName splits a name off the front of b.
func cutName(b []byte) (name, rest []byte, ok bool) {
	if len(b) == 0 || int(b[0]) > len(b)-1 {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n], b[n:], true
}
