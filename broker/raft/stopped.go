package raft

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/journal"
	"github.com/millrace-io/millrace/broker/model"
)

const (
	// stoppedFileBytes is the size of the journal's files that a stopped log adds: it
	// writes little. They may be of any size.
	stoppedFileBytes = journal.FileBytesMin * 16
	// stoppedBytesMax is more than any journal has: nobody is there to take the snapshots
	// that would make one smaller.
	stoppedBytesMax = 1 << 50
	// scanBytesMax is how much of a log is read at a time.
	scanBytesMax = 1 << 20
)

// StoppedLog is the Raft log of a node that does not run. It has one owner, who holds the
// data directory's lock.
type StoppedLog struct {
	node    model.NodeID
	dir     string // a Host's Options.Dir
	journal *journal.Journal
}

// OpenStopped opens the log in dir, a Host's Options.Dir. It begins a new file of the
// journal as a start does, and changes no replica.
func OpenStopped(fs disk.FS, dir string, node model.NodeID, log *slog.Logger) (*StoppedLog, error) {
	l := &StoppedLog{node: node, dir: dir}
	files := filepath.Join(dir, journalDir)
	if _, err := fs.Stat(files); err != nil {
		return nil, fmt.Errorf("open raft log: %w", err)
	}
	j, err := journal.Open(journal.Options{
		FS: fs, Dir: files, FileBytes: stoppedFileBytes, BytesMax: stoppedBytesMax, Log: log,
		Fatal: func(error) {}, // whoever waits is told too
	})
	if err != nil {
		return nil, err
	}
	l.journal = j
	return l, nil
}

// Close closes the log.
func (l *StoppedLog) Close() error { return l.journal.Close() }

// Group is what a stopped node holds of a shard's group.
type Group struct {
	Shard model.ShardID `json:"shard"`
	// Birth is that of the node's replica.
	Birth model.Birth `json:"birth,omitempty"`
	// Damaged says what the replica's log has lost, or what else keeps it from going on;
	// nothing else is known of it then.
	Damaged string `json:"damaged,omitempty"`
	// Term is the last one that the replica has heard of, LastTerm that of its last entry.
	Term      uint64 `json:"term"`
	LastTerm  uint64 `json:"last_term"`
	LastIndex uint64 `json:"last_index"`
	// Commit is how far the replica knows the log to be decided: it may be further.
	Commit uint64 `json:"commit"`
	// Taken: the replica's files came from another node, and may be ahead of its log.
	Taken bool `json:"taken,omitempty"`
	// Members are those of the log's end, Decided those of Commit.
	Members Members `json:"members"`
	Decided Members `json:"decided"`
}

// Self is this node's member of the group.
func (l *StoppedLog) Self(g *Group) Member { return Member{Node: l.node, Birth: g.Birth} }

// Groups lists what the log holds, in order of shards.
func (l *StoppedLog) Groups() ([]Group, error) {
	all, err := l.journal.ListNodeInfo()
	if err != nil {
		return nil, fmt.Errorf("list the replicas of the raft log: %w", err)
	}
	damaged := l.journal.Damaged()
	for i := range damaged {
		if !slices.Contains(all, i) { // what it was made with is lost too
			all = append(all, i)
		}
	}
	var groups []Group
	for _, i := range all {
		if replicaNode(i.ReplicaID) != l.node {
			continue
		}
		g := Group{Shard: model.ShardID(i.ShardID), Birth: replicaBirth(i.ReplicaID)}
		err := damaged[i]
		if err == nil {
			err = l.read(&g)
		}
		if err != nil { // the others can go on
			g = Group{Shard: g.Shard, Birth: g.Birth, Damaged: err.Error()}
		}
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b Group) int { return int(int64(a.Shard) - int64(b.Shard)) })
	return groups, nil
}

// midway is said of a replica that was stopped while it took files: between the first and
// the last of them it is neither what it was nor what it is to be.
const midway = "it was taking the partition's files from another node; if that had just ended, a start and a stop make it good"

// read fills g from the log: what the library would find at the next start.
func (l *StoppedLog) read(g *Group) error {
	shard, id := uint64(g.Shard), l.Self(g).id()
	ss, err := l.journal.GetSnapshot(shard, id)
	if err != nil {
		return err
	}
	if hasNote(l.dir, g.Shard, ss) {
		g.Damaged = midway
		return nil
	}
	rs, err := l.journal.ReadRaftState(shard, id, ss.Index)
	unsaved := errors.Is(err, raftio.ErrNoSavedLog)
	if err != nil && !unsaved {
		return err
	}
	g.Taken = g.Shard != ControllerShard && !pb.IsEmptySnapshot(ss) && !ss.Dummy
	r := newRoster(ss.Membership)
	if unsaved && pb.IsEmptySnapshot(ss) {
		return l.readBootstrap(g, r)
	}
	g.Term, g.Commit = rs.State.Term, max(rs.State.Commit, ss.Index)
	g.LastTerm, g.LastIndex = ss.Term, ss.Index
	g.Decided = r.members()
	next := rs.FirstIndex + rs.EntryCount // behind the last entry
	for low := ss.Index + 1; low < next; {
		es, _, err := l.journal.IterateEntries(nil, 0, shard, id, low, next, scanBytesMax)
		if err != nil {
			return err
		}
		if len(es) == 0 || es[0].Index != low {
			return fmt.Errorf("%w: entry %d is not there", ErrLogDamaged, low)
		}
		for i := range es {
			if err := g.take(r, &es[i]); err != nil {
				return err
			}
		}
		low = g.LastIndex + 1
	}
	g.Members = r.members()
	return nil
}

// take reads one more entry.
func (g *Group) take(r *roster, e *pb.Entry) error {
	g.LastTerm, g.LastIndex = e.Term, e.Index
	if !e.IsConfigChange() {
		return nil
	}
	var cc pb.ConfigChange
	if err := cc.Unmarshal(e.Cmd); err != nil {
		return fmt.Errorf("change of members at entry %d: %w", e.Index, err)
	}
	r.apply(&cc, e.Index)
	if e.Index <= g.Commit {
		g.Decided = r.members()
	}
	return nil
}

// readBootstrap gives the group of a replica that was made and has written nothing: its
// first start was to write what bootstrapEntries gives.
func (l *StoppedLog) readBootstrap(g *Group, r *roster) error {
	es, err := l.bootstrapEntries(g)
	if err != nil {
		return err
	}
	for i := range es {
		if err := g.take(r, &es[i]); err != nil {
			return err
		}
	}
	g.Members, g.Decided = r.members(), r.members()
	g.LastTerm, g.LastIndex = 0, 0 // not written
	return nil
}

// bootstrapEntries are what the library begins a group's log with: its members in order
// of id, decided. None for a replica that joins a group.
func (l *StoppedLog) bootstrapEntries(g *Group) ([]pb.Entry, error) {
	b, err := l.journal.GetBootstrapInfo(uint64(g.Shard), l.Self(g).id())
	if err != nil || b.Join {
		return nil, err
	}
	var es []pb.Entry
	for _, m := range memberList(b.Addresses) {
		cc := pb.ConfigChange{Type: pb.AddNode, ReplicaID: m.id(), Initialize: true, Address: b.Addresses[m.id()]}
		es = append(es, pb.Entry{Type: pb.ConfigChangeEntry, Term: 1, Index: uint64(len(es) + 1), Cmd: pb.MustMarshal(&cc)})
	}
	return es, nil
}

// ErrNoMember says that a replica is none of its group, and cannot go on with it.
var ErrNoMember = errors.New("the replica is no member of its group")

// GoOn makes this node's replica go on with those members of its group that stay, itself
// among them, as if it had been elected in a term, had decided all of its log, and had then
// removed the others. A learner becomes a voter first. Either all of it is durable when it
// returns, or, after an error, none may be; it may be repeated with what Groups says then.
//
// It breaks what Raft promises unless every replica that is removed is gone for ever, and
// those that stay have no entry that this one lacks: the last term and index of none may be
// higher. term must be higher than any of theirs.
func (l *StoppedLog) GoOn(g *Group, term uint64, stays func(Member) bool) error {
	if err := l.goOn(g, term, stays); err != nil {
		return fmt.Errorf("go on with shard %d: %w", g.Shard, err)
	}
	return nil
}

func (l *StoppedLog) goOn(g *Group, term uint64, stays func(Member) bool) error {
	self := l.Self(g)
	voter, learner := slices.Contains(g.Members.Voters, self), slices.Contains(g.Members.Learners, self)
	switch {
	case g.Damaged != "":
		return fmt.Errorf("%w: %s", ErrLogDamaged, g.Damaged)
	case !voter && !learner:
		return ErrNoMember
	case term <= g.Term:
		return fmt.Errorf("term %d has been already, the replica has heard of %d", term, g.Term)
	}
	var es []pb.Entry
	if g.LastIndex == 0 {
		var err error
		if es, err = l.bootstrapEntries(g); err != nil {
			return err
		}
	}
	last, change := g.LastIndex+uint64(len(es)), g.Members.Change
	add := func(cc pb.ConfigChange) {
		last++
		cc.ConfigChangeId = change // an ordered change names the one before it
		change = last
		es = append(es, pb.Entry{Type: pb.ConfigChangeEntry, Term: term, Index: last, Cmd: pb.MustMarshal(&cc)})
	}
	if learner {
		add(pb.ConfigChange{Type: pb.AddNode, ReplicaID: self.id(), Address: target(self.Node)})
	}
	for _, m := range slices.Concat(g.Members.Voters, g.Members.Learners) {
		if m != self && !stays(m) {
			add(pb.ConfigChange{Type: pb.RemoveNode, ReplicaID: m.id()})
		}
	}
	state := pb.State{Term: term, Vote: self.id(), Commit: last}
	return l.journal.SaveRaftState([]pb.Update{{ShardID: uint64(g.Shard), ReplicaID: self.id(), State: state, EntriesToSave: es}}, 0)
}
