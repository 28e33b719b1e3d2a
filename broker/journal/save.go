package journal

import (
	"errors"
	"fmt"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// saved is an item under way: what its node learns once it is durable.
type saved struct {
	n       *node
	b       *batch
	at      uint32 // of the first entry, in the block
	entries []pb.Entry
	part
}

// SaveRaftState implements raftio.ILogDB: it returns once entries, snapshots and
// changed terms or votes are durable. A commit index that comes alone waits for the
// replica's next item.
func (j *Journal) SaveRaftState(updates []pb.Update, _ uint64) error {
	var few [16]saved
	all := few[:0]
	var err error
	for i := range updates {
		if all, err = j.saveUpdate(&updates[i], all); err != nil {
			break
		}
	}
	return errors.Join(err, j.land(all))
}

// saveUpdate appends an update's items to the open batch. One that is larger than
// a batch takes becomes several: what a crash then leaves is a shorter update.
func (j *Journal) saveUpdate(u *pb.Update, all []saved) ([]saved, error) {
	stated, snapped := !pb.IsEmptyState(u.State), !pb.IsEmptySnapshot(u.Snapshot)
	if !stated && !snapped && len(u.EntriesToSave) == 0 {
		return all, nil
	}
	n := j.makeNode(u.ShardID, u.ReplicaID)
	n.mu.Lock()
	defer n.mu.Unlock()
	urgent := len(u.EntriesToSave) > 0
	if stated {
		must(u.State.Term >= n.state.Term, "%v: term %d after %d", n.name, u.State.Term, n.state.Term)
		must(u.State.Term > n.state.Term || n.state.Vote == 0 || u.State.Vote == n.state.Vote,
			"%v: in term %d a vote for %d after one for %d", n.name, u.State.Term, u.State.Vote, n.state.Vote)
		urgent = urgent || u.State.Term != n.state.Term || u.State.Vote != n.state.Vote
		n.state = u.State
	}
	p := part{kind: kindUpdate}
	if snapped && u.Snapshot.Index > n.snapIndex {
		urgent = true
		p = part{kind: kindBase, flags: installed, install: u.Snapshot.Index}
		n.snapshot, n.snapIndex = pb.MustMarshal(&u.Snapshot), u.Snapshot.Index
		n.install(u.Snapshot.Index)
	}
	if !urgent {
		return all, j.failure() // what makes it not urgent may be what was not written
	}
	return j.appendParts(n, p, u.EntriesToSave, all)
}

// part is what an item has besides its entries.
type part struct {
	kind    kind
	flags   uint8
	install uint64 // index of the snapshot that replaces the log; 0: none does
}

// appendParts appends n's next items. n.mu is held.
func (j *Journal) appendParts(n *node, p part, es []pb.Entry, all []saved) ([]saved, error) {
	for {
		chunk := j.chunk(es)
		s, err := j.appendItem(n, p, es[:chunk])
		if err != nil {
			return all, err
		}
		all = append(all, s)
		if es = es[chunk:]; len(es) == 0 {
			return all, nil
		}
		p = part{kind: kindUpdate}
	}
}

// chunk is how many of es go into one item: at least one.
func (j *Journal) chunk(es []pb.Entry) int {
	bytes := 0
	for i := range es {
		if bytes += entryBytes(&es[i]); bytes > batchMax(j.o.FileBytes) {
			return max(i, 1)
		}
	}
	return len(es)
}

// appendItem puts an item into the open batch. n.mu is held.
func (j *Journal) appendItem(n *node, p part, es []pb.Entry) (saved, error) {
	blobs := n.blobs(p.kind)
	size := 0
	for _, b := range blobs {
		size += blobSize + len(b.bytes)
	}
	for i := range es {
		size += entryBytes(&es[i])
	}
	b, err := j.reserve(size)
	if err != nil {
		return saved{}, fmt.Errorf("save %v: %w", n.name, err)
	}
	defer j.release()
	n.expect(es)
	n.turn++
	it := item{kind: p.kind, flags: p.flags, entries: uint32(len(es)), name: n.name, state: n.state, first: n.first, last: n.last, turn: n.turn, pos: uint32(len(b.buf))}
	it.state.Commit = min(it.state.Commit, max(n.last, n.snapIndex)) // the rest of the entries may come in another item
	for _, blob := range blobs {
		b.buf = appendBlob(b.buf, blob.bytes, b.mix)
		it.flags |= blob.flag
	}
	if p.kind == kindBase || p.kind == kindKeep {
		n.based, n.baseTurn = true, n.turn
	}
	if n.based {
		it.flags |= based
		it.base = uint16(n.baseTurn)
	}
	s := saved{n: n, b: b, at: uint32(len(b.buf)), entries: es, part: p}
	for i := range es {
		b.buf = appendEntry(b.buf, &es[i], b.mix)
	}
	it.length = uint32(len(b.buf)) - it.pos
	b.items = append(b.items, it)
	n.underWay++
	return s, nil
}

type blob struct {
	flag  uint8
	bytes []byte
}

// blobs are what a base restates, in the order of their flags.
func (n *node) blobs(k kind) []blob {
	if k != kindBase && k != kindKeep {
		return nil
	}
	var all []blob
	if n.bootstrap != nil {
		all = append(all, blob{hasBootstrap, n.bootstrap})
	}
	if n.snapshot != nil {
		all = append(all, blob{hasSnapshot, n.snapshot})
	}
	if n.damage != nil {
		all = append(all, blob{hasDamage, []byte(n.damage.Error())})
	}
	return all
}

// land waits until all items are durable and tells their nodes where they are.
func (j *Journal) land(all []saved) error {
	if len(all) > 0 {
		j.commit()
	}
	var failed error
	for i := range all {
		s := &all[i]
		<-s.b.done
		s.n.mu.Lock()
		s.n.underWay--
		if s.b.err == nil {
			s.land()
		} else {
			failed = s.b.err
		}
		s.n.mu.Unlock()
	}
	return failed
}

// land records what is durable now. n.mu is held. Items of one node may land in
// another order than they have in the log.
func (s *saved) land() {
	n := s.n
	n.stateFile = max(n.stateFile, s.b.file)
	if s.kind == kindBase || s.kind == kindKeep {
		n.baseFile = max(n.baseFile, s.b.file)
	}
	if s.install > 0 {
		n.entries.install(s.install)
	}
	pos := s.b.pos + s.at
	for i := range s.entries {
		e := &s.entries[i]
		p := place{s.b.file, pos, uint32(entryBytes(e))}
		pos += p.length
		switch {
		case s.kind == kindKeep:
			n.entries.move(e.Index, p)
		case e.Index >= n.first: // else forgotten meanwhile
			n.entries.put(e.Index, p)
		}
	}
}

// saveBase restates a node after change has changed it. change says whether it did.
func (j *Journal) saveBase(n *node, k kind, change func(n *node) bool) error {
	n.mu.Lock()
	if !change(n) {
		n.mu.Unlock()
		return j.failure()
	}
	s, err := j.appendItem(n, part{kind: k}, nil)
	n.mu.Unlock()
	if err != nil {
		return err
	}
	return j.land([]saved{s})
}

// SaveBootstrapInfo implements raftio.ILogDB.
func (j *Journal) SaveBootstrapInfo(shard, replica uint64, b pb.Bootstrap) error {
	return j.saveBase(j.makeNode(shard, replica), kindBase, func(n *node) bool {
		n.bootstrap = pb.MustMarshal(&b)
		return true
	})
}

// SaveSnapshots implements raftio.ILogDB.
func (j *Journal) SaveSnapshots(updates []pb.Update) error {
	for i := range updates {
		u := &updates[i]
		if pb.IsEmptySnapshot(u.Snapshot) {
			continue
		}
		err := j.saveBase(j.makeNode(u.ShardID, u.ReplicaID), kindBase, func(n *node) bool {
			if u.Snapshot.Index <= n.snapIndex {
				return false
			}
			n.snapshot, n.snapIndex = pb.MustMarshal(&u.Snapshot), u.Snapshot.Index
			if !pb.IsEmptyState(n.state) {
				// A snapshot is of what was committed; raft insists on it at the next start.
				n.state.Commit = max(n.state.Commit, u.Snapshot.Index)
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ImportSnapshot implements raftio.ILogDB: the snapshot becomes all there is.
func (j *Journal) ImportSnapshot(ss pb.Snapshot, replica uint64) error {
	n := j.makeNode(ss.ShardID, replica)
	err := j.saveBase(n, kindKeep, func(n *node) bool {
		n.bootstrap = pb.MustMarshal(&pb.Bootstrap{Join: true, Type: ss.Type})
		n.snapshot, n.snapIndex = pb.MustMarshal(&ss), ss.Index
		n.state = pb.State{Term: ss.Term, Commit: ss.Index}
		n.first, n.last, n.damage = ss.Index+1, ss.Index, nil
		return true
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.entries.reset() // now that what replaces them is durable
	n.mu.Unlock()
	j.forgive(n.name) // without n.mu: whoever lists nodes takes it second
	return nil
}

// RemoveNodeData implements raftio.ILogDB.
func (j *Journal) RemoveNodeData(shard, replica uint64) error {
	n := j.node(shard, replica)
	if n == nil {
		return nil
	}
	n.mu.Lock()
	n.removed = true
	s, err := j.appendItem(n, part{kind: kindRemove}, nil)
	n.mu.Unlock()
	if err != nil {
		return err
	}
	if err := j.land([]saved{s}); err != nil {
		return err
	}
	j.nodesMu.Lock()
	delete(j.nodes, n.name)
	j.nodesMu.Unlock()
	j.forgive(n.name)
	j.wakeTrimmer()
	return nil
}

// forgive takes a name off the list of damaged replicas.
func (j *Journal) forgive(n name) {
	j.nodesMu.Lock()
	defer j.nodesMu.Unlock()
	delete(j.damaged, n)
}

// RemoveEntriesTo implements raftio.ILogDB. It is remembered by the next item: a
// restart before it finds some entries again that nobody asks for.
func (j *Journal) RemoveEntriesTo(shard, replica, index uint64) error {
	n := j.node(shard, replica)
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.entries.forget(index)
	if index >= n.first {
		n.first = min(index, n.last) + 1
	}
	return nil
}

// CompactEntriesTo implements raftio.ILogDB: files are recycled as they become free.
func (j *Journal) CompactEntriesTo(_, _, _ uint64) (<-chan struct{}, error) {
	j.wakeTrimmer()
	done := make(chan struct{})
	close(done)
	return done, nil
}

// info is dragonboat's name of a replica.
func (n name) info() raftio.NodeInfo { return raftio.GetNodeInfo(n.shard, n.replica) }
