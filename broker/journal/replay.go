package journal

import (
	"errors"
	"fmt"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// replay applies an item to its replica.
func (r *recovery) replay(f *file, b *block, it *item) {
	j := r.j
	if it.kind == kindRemove {
		delete(j.nodes, it.name)
		delete(r.last, it.name)
		r.removed[it.name] = b.seq
		return
	}
	n := j.nodes[it.name]
	if n == nil || it.turn == 1 || it.kind == kindKeep {
		n = &node{name: it.name}
		j.nodes[it.name] = n
	} else if it.turn != n.turn+1 {
		n.entries.reset() // some of them were in what is missing
	}
	r.last[it.name] = lastItem{*it, b.seq}
	n.turn, n.state, n.first, n.last = it.turn, it.state, it.first, it.last
	n.based = it.flags&based != 0
	n.stateFile = uint32(f.seq)
	rest, err := n.replayBlobs(b.share(it), it, f)
	if it.flags&installed != 0 {
		n.entries.install(n.snapIndex)
	}
	n.entries.forget(it.first - min(it.first, 1))
	if err != nil {
		n.entries.reset()
		return
	}
	n.replayEntries(b, it, rest, f)
	n.entries.cut(it.last + 1)
}

// replayBlobs takes a base's blobs. One that cannot be read is damage until another
// base replaces it.
func (n *node) replayBlobs(share []byte, it *item, f *file) (rest []byte, err error) {
	rest = share
	if it.kind != kindBase && it.kind != kindKeep {
		return rest, nil
	}
	var blobs [3][]byte
	for i := range blobs {
		if it.flags&(1<<i) == 0 {
			continue
		}
		if blobs[i], rest, err = nextBlob(rest, f.mix); err != nil {
			n.baseFile = 0
			return nil, err
		}
	}
	n.baseFile, n.baseTurn = uint32(f.seq), it.turn
	if blobs[0] != nil {
		n.bootstrap = append([]byte{}, blobs[0]...)
	}
	if blobs[1] != nil {
		n.snapshot = append([]byte{}, blobs[1]...)
		var ss pb.Snapshot
		pb.MustUnmarshal(&ss, n.snapshot) // its checksum is right
		n.snapIndex = ss.Index
	}
	if blobs[2] != nil {
		n.damage = errors.Join(ErrDamaged, errors.New(string(blobs[2])))
	}
	return rest, nil
}

// replayEntries finds the places of an item's entries, as far as they can be read.
func (n *node) replayEntries(b *block, it *item, rest []byte, f *file) {
	n.entries.cut(it.last + 1 - uint64(it.entries)) // also those whose successors cannot be read
	pos := it.pos + uint32(len(b.share(it))-len(rest))
	for range it.entries {
		e, length, err := nextEntry(rest, f.mix)
		if err != nil {
			return // missing will tell
		}
		if e.Index >= it.first {
			n.entries.put(e.Index, place{uint32(f.seq), b.pos + pos, uint32(length)})
		}
		rest = rest[length:]
		pos += uint32(length)
	}
}

// judge finds the replicas whose log has lost something.
func (r *recovery) judge() {
	for i := range r.lost {
		l := &r.lost[i]
		for _, key := range l.names {
			if r.j.nodes[key] == nil && r.removed[key] <= l.seq { // all of it was there
				r.j.nodes[key] = &node{name: key}
			}
		}
	}
	for key, n := range r.j.nodes {
		last := r.last[key]
		err := n.damage
		if err == nil {
			err = n.missing(&last.item)
		}
		for i := range r.lost {
			if l := &r.lost[i]; err == nil && l.hits(key) && last.block <= l.seq {
				err = fmt.Errorf("%w: %s", ErrDamaged, l.where)
			}
		}
		if err != nil {
			n.damage = err
			r.j.damaged[key] = err
			r.j.log.Error("raft log of a replica is damaged", "shard", key.shard, "replica", key.replica, "err", err)
		}
	}
}

// hits tells whether a replica may have had its last item in what is lost.
func (l *lost) hits(key name) bool {
	if !l.known {
		return true
	}
	for _, n := range l.names {
		if n == key {
			return true
		}
	}
	return false
}
