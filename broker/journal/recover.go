package journal

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace-io/millrace/broker/disk"
)

// stored is a file of the directory that was read.
type stored struct {
	name    string
	seq     uint64
	header  header
	bad     error // of the header
	size    int64
	content []byte
	blocks  []block
}

// lost is a stretch of blocks that cannot be read.
type lost struct {
	seq   uint64 // of the last of them
	where string
	names []name
	known bool // names are all; else it may be anybody's
}

// recovery reads the files in order. It holds two files at a time.
type recovery struct {
	j     *Journal
	seq   uint64 // of the last block
	names []name // of the last block
	lost  []lost
	last  map[name]lastItem
	// removed holds the block of the last removal of a replica.
	removed map[name]uint64
}

// lastItem is the newest item of a replica, and the block it was in.
type lastItem struct {
	item  item
	block uint64
}

// recover fills the journal from its directory and prepares the first file.
func (j *Journal) recover() error {
	f := &j.files
	f.fs, f.dir, f.session, f.size, f.most = j.o.FS, j.o.Dir, j.session, j.o.FileBytes, j.o.BytesMax
	f.ready, f.next = make(chan *file, 1), 1
	if err := j.o.FS.MkdirAll(j.o.Dir); err != nil {
		return err
	}
	all, err := f.scan()
	if err != nil {
		return err
	}
	r := &recovery{j: j, last: map[name]lastItem{}, removed: map[name]uint64{}}
	if err := r.readAll(all); err != nil {
		return err
	}
	r.judge()
	if f.id == [16]byte{} {
		f.id = newID()
	}
	j.before = r.names
	j.open = j.newBatch(r.seq+1, nil)
	first, err := f.prepareNext()
	if err != nil {
		return err
	}
	f.ready <- first
	if !j.files.direct.Load() {
		j.log.Warn("journal without direct I/O: every write is followed by a sync", "dir", j.o.Dir)
	}
	return nil
}

// scan lists the directory: files in use, and spares.
func (f *files) scan() ([]*stored, error) {
	names, err := f.fs.List(f.dir)
	if err != nil {
		return nil, err
	}
	var all []*stored
	for _, n := range names {
		if seq, ok := parseName(n); ok {
			all = append(all, &stored{name: n, seq: seq})
		}
		hex, ok := strings.CutPrefix(n, sparePrefix)
		if number, err := strconv.ParseUint(hex, 16, 64); ok && err == nil {
			info, err := f.fs.Stat(f.path(n))
			if err != nil {
				return nil, err
			}
			f.spares = append(f.spares, spare{n, info.Size})
			f.number = max(f.number, number)
		}
	}
	slices.SortFunc(all, func(a, b *stored) int { return int(int64(a.seq) - int64(b.seq)) })
	return all, nil
}

// readAll reads every file with the one behind it that has blocks: that one knows
// where its predecessor ends. Files without blocks are spares, if they are the last.
func (r *recovery) readAll(all []*stored) error {
	var waiting *stored
	var empty []*stored
	var gaps []string // behind waiting, whose blocks are to be counted first
	for i, s := range all {
		if i > 0 && s.seq != all[i-1].seq+1 {
			gaps = append(gaps, fmt.Sprintf("files %d to %d", all[i-1].seq+1, s.seq-1))
		}
		if err := r.load(s); err != nil {
			return fmt.Errorf("read %s: %w", s.name, err)
		}
		if len(s.blocks) == 0 {
			s.content = nil
			empty = append(empty, s)
			continue
		}
		if waiting != nil {
			r.take(waiting, s)
		}
		r.loseAll(gaps)
		gaps = nil
		for _, e := range empty {
			r.lose("all of " + e.name)
			r.j.files.list = append(r.j.files.list, &file{seq: e.seq, name: e.name, size: e.size, end: page})
		}
		waiting, empty = s, nil
	}
	switch {
	case waiting != nil:
		r.take(waiting, nil)
		r.loseAll(gaps)
		r.j.files.next = waiting.seq + 1
	case len(all) > 0 && all[0].seq > 1:
		return fmt.Errorf("%w: files before %s are missing", ErrDamaged, all[0].name) // the last one with blocks is never freed
	}
	// A file without blocks has a good header and its whole size, or it had some.
	for i, e := range slices.Backward(empty) {
		if e.bad == nil && e.size == e.header.size {
			continue
		}
		if waiting == nil {
			return fmt.Errorf("%w: nothing of %s can be read", ErrDamaged, e.name)
		}
		for _, e := range empty[:i+1] {
			r.lose("all of " + e.name)
			r.j.files.list = append(r.j.files.list, &file{seq: e.seq, name: e.name, size: e.size, end: page})
			r.j.files.next = e.seq + 1
		}
		empty = empty[i+1:]
		break
	}
	for _, e := range slices.Backward(empty) { // so that a crash leaves no gap
		if err := r.j.files.retire(e.name, e.size); err != nil {
			return err
		}
	}
	return nil
}

// load reads a file and finds its blocks.
func (r *recovery) load(s *stored) error {
	f := &r.j.files
	content, err := disk.ReadFile(f.fs, f.path(s.name), FileBytesMax)
	if err != nil {
		return err
	}
	s.content, s.size = content, int64(len(content))
	s.header, s.bad = readHeader(content)
	if errors.Is(s.bad, ErrForeign) {
		return s.bad
	}
	if s.bad == nil {
		if f.id == [16]byte{} {
			f.id = s.header.id
		}
		if s.header.id != f.id || s.header.seq != s.seq {
			return fmt.Errorf("%w: file %d of journal %x under the name of %d of %x", ErrForeign, s.header.seq, s.header.id, s.seq, f.id)
		}
		s.find(s.header.session)
		return nil
	}
	// Without its header a file is read by what its blocks say of their session.
	for pos := int64(page); pos+headSize <= int64(len(content)) && len(s.blocks) == 0; pos += page {
		s.header.session = headOf(content[pos:]).session
		s.find(s.header.session)
	}
	return nil
}

// find lists the blocks of a file, also behind stretches that are none.
func (s *stored) find(session uint64) {
	for pos := int64(page); pos < int64(len(s.content)); {
		b, ok := readBlock(s.content, s.seq, session, pos)
		if !ok || len(s.blocks) > 0 && b.seq <= s.blocks[len(s.blocks)-1].seq {
			pos += page
			continue
		}
		s.blocks = append(s.blocks, b)
		pos += disk.AlignUp(b.size())
	}
}

// take replays a file. after is the next file with blocks, nil for none.
func (r *recovery) take(s, after *stored) {
	if s.bad != nil {
		r.j.log.Error("raft journal is damaged", "where", "the header of "+s.name) // its blocks are numbered
	}
	limit := int64(len(s.content)) + 1
	if after != nil && after.blocks[0].prevEnd > 0 {
		limit = int64(after.blocks[0].prevEnd)
	}
	f := &file{seq: s.seq, name: s.name, mix: mix(s.header.session, s.seq), size: int64(len(s.content)), end: page}
	r.j.files.list = append(r.j.files.list, f)
	r.j.files.current = f
	for i := range s.blocks {
		b := &s.blocks[i]
		if int64(b.pos) >= limit {
			break // of a torn tail that an earlier start has dropped
		}
		final := after == nil && i == len(s.blocks)-1
		if final && !b.whole(f.mix) {
			break // torn: nobody was told of it
		}
		if r.seq > 0 && b.seq != r.seq+1 {
			r.loseBlocks(s, b)
		}
		for k := range b.items {
			r.replay(f, b, &b.items[k])
		}
		r.seq, r.names = b.seq, r.names[:0]
		for k := range b.items {
			r.names = append(r.names, b.items[k].name)
		}
		f.end = int64(b.pos) + disk.AlignUp(b.size())
	}
	if after == nil && s.bad == nil && s.size < s.header.size {
		r.lose(fmt.Sprintf("bytes %d to %d of %s", s.size, s.header.size, s.name))
	}
	if limit <= int64(len(s.content)) && f.end < limit && after.blocks[0].seq == r.seq+1 {
		r.lose(fmt.Sprintf("bytes %d to %d of %s", f.end, limit, s.name))
	}
	s.content, s.blocks = nil, nil
}

// loseBlocks notes that blocks before b are missing. b names the replicas of the
// one before it.
func (r *recovery) loseBlocks(s *stored, b *block) {
	where := fmt.Sprintf("blocks %d to %d, before byte %d of %s", r.seq+1, b.seq-1, b.pos, s.name)
	r.lost = append(r.lost, lost{seq: b.seq - 1, where: where, names: slices.Clone(b.names), known: true})
	if b.seq > r.seq+2 {
		r.lost = append(r.lost, lost{seq: b.seq - 2, where: where})
	}
	r.j.log.Error("raft journal is damaged", "where", where)
}

func (r *recovery) loseAll(wheres []string) {
	for _, w := range wheres {
		r.lose(w)
	}
}

// lose notes a loss behind the last block, which may be anybody's.
func (r *recovery) lose(where string) {
	r.lost = append(r.lost, lost{seq: r.seq, where: where})
	r.j.log.Error("raft journal is damaged", "where", where)
}

// whole checks all checksums of a block's body.
func (b *block) whole(mix uint32) bool {
	for i := range b.items {
		it := &b.items[i]
		rest := b.share(it)
		for f := uint8(1); f <= hasDamage && rest != nil; f <<= 1 {
			if it.flags&f != 0 {
				var err error
				if _, rest, err = nextBlob(rest, mix); err != nil {
					return false
				}
			}
		}
		for range it.entries {
			_, n, err := nextEntry(rest, mix)
			if err != nil {
				return false
			}
			rest = rest[n:]
		}
	}
	return true
}
