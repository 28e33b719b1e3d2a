package journal

import (
	"fmt"
	"sync"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// place is where an entry is. A file's sequence fits: 2^32 files are 256 PiB of log.
type place struct{ file, pos, length uint32 }

// entries says where a replica's entries are: without gaps, from first.
type entries struct {
	first  uint64 // index of places[0]
	places []place
	bytes  int64
}

// next is the index behind the last entry; 0 when there is none.
func (e *entries) next() uint64 { return e.first + uint64(len(e.places)) }

// put adds an entry. One that is there already goes, with all behind it; with a
// gap, all go.
func (e *entries) put(index uint64, p place) {
	switch {
	case len(e.places) == 0:
		e.first = index
	case index < e.first || index > e.next():
		e.reset()
		e.first = index
	default:
		e.cut(index)
		if len(e.places) == 0 {
			e.first = index
		}
	}
	e.places = append(e.places, p)
	e.bytes += int64(p.length)
}

// cut drops the entries from index on.
func (e *entries) cut(index uint64) {
	if len(e.places) == 0 || index >= e.next() {
		return
	}
	if index <= e.first {
		e.reset()
		return
	}
	keep := int(index - e.first)
	for _, p := range e.places[keep:] {
		e.bytes -= int64(p.length)
	}
	e.places = e.places[:keep]
}

// forget drops the entries up to index. What it frees is given back once it is
// more than half.
func (e *entries) forget(index uint64) {
	if len(e.places) == 0 || index < e.first {
		return
	}
	if index >= e.next()-1 {
		e.reset()
		return
	}
	n := int(index - e.first + 1)
	for _, p := range e.places[:n] {
		e.bytes -= int64(p.length)
	}
	e.first += uint64(n)
	if rest := e.places[n:]; n > len(rest) {
		e.places = append(make([]place, 0, len(rest)+len(rest)/4), rest...)
	} else {
		e.places = rest
	}
}

// move tells that an entry was written again, unless it was overwritten since.
func (e *entries) move(index uint64, p place) {
	if len(e.places) == 0 || index < e.first || index >= e.next() {
		return
	}
	old := &e.places[index-e.first]
	if old.file < p.file || old.file == p.file && old.pos < p.pos {
		*old = p
	}
}

func (e *entries) reset() { *e = entries{} }

// node is one replica. mu guards all of it; state, snapshot, first and last are
// ahead of the disk while items are under way, places and files are behind it.
type node struct {
	mu   sync.Mutex
	name name

	state     pb.State
	bootstrap []byte // marshalled; nil: none
	snapshot  []byte // marshalled; nil: none
	snapIndex uint64
	first     uint64 // entries below were forgotten, or never came
	last      uint64
	turn      uint64 // of the last item
	entries   entries

	// stateFile and baseFile hold the last item and the last base; 0: none.
	stateFile, baseFile uint32
	based               bool // a base was appended
	baseTurn            uint64
	// underWay counts items that were appended and have not landed.
	underWay int
	removed  bool // its last item is under way, or was written
	// damage says what the log has lost; nil: nothing.
	damage error
}

// oldest is the first file that the node needs; 0: none.
func (n *node) oldest() uint32 {
	if n.stateFile == 0 && n.underWay > 0 {
		return 1 // its first item is somewhere, whoever waits for it has not said where
	}
	f := n.stateFile
	if n.baseFile != 0 {
		f = min(f, n.baseFile)
	}
	if len(n.entries.places) > 0 {
		f = min(f, n.entries.places[0].file)
	}
	return f
}

// expect moves first and last for entries that are about to be appended.
func (n *node) expect(es []pb.Entry) {
	if len(es) == 0 {
		return
	}
	if from := es[0].Index; n.last == 0 || from > n.last+1 || from < n.first {
		n.first = from
	}
	n.last = es[len(es)-1].Index
}

// install drops what a snapshot from a peer replaces.
func (e *entries) install(index uint64) {
	e.cut(index + 1)
	if e.next() != index+1 {
		e.reset()
	}
}

// install makes a snapshot from a peer the beginning of the log. Its entries go once
// the snapshot is durable: until then the files they are in are needed.
func (n *node) install(index uint64) {
	n.last = index
	if n.first > index+1 {
		n.first = index + 1
	}
}

// missing says what the log of a node that was read back lacks.
func (n *node) missing(item *item) error {
	if item.flags&based != 0 && (n.baseFile == 0 || uint16(n.baseTurn) != item.base) {
		return fmt.Errorf("%w: its last base is missing", ErrDamaged)
	}
	from := max(n.first, n.snapIndex+1)
	if from > n.last {
		return nil
	}
	e := &n.entries
	if len(e.places) == 0 || e.first > from || e.next() != n.last+1 {
		return fmt.Errorf("%w: of entries %d to %d there are %d to %d", ErrDamaged, from, n.last, e.first, e.next()-1)
	}
	return nil
}
