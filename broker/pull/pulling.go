package pull

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/segment"
)

// origin is where a file came from: the files of a node's boot do not change.
type origin struct {
	node model.NodeID
	boot uint64
}

// pulling is one partition's way here. It belongs to the goroutine that runs it.
type pulling struct {
	t *Taker
	r Replica
	note
	taken int64 // bytes of pieces
	// anew: files are wanted although none is missing.
	anew bool

	// held is the lease, and what goes with it; nil while there is none.
	held *held
	// came says where staged files came from in this pull, verified as what they were
	// found sound; both by name.
	came     map[string]origin
	verified map[string]segment.Meta
	// damaged counts how often a file came damaged; blamed how often a node gave one that
	// stayed so, or could not read its own: it is asked after those that did less.
	damaged map[string]int
	blamed  map[model.NodeID]int
	// silent are those who answered no more, until they grant a lease again.
	silent map[model.NodeID]bool
	// patience is how long the next call may take.
	patience time.Duration
	// fresh are files that are not from before this pull: what there is of one that
	// came does not count.
	fresh map[string]bool
	// strange are own files that turned out not to be what is wanted.
	strange map[string]bool
}

// held is a lease that another node has granted.
type held struct {
	origin
	lease uint64
	used  time.Time // when it was used last with success
	stage *partition.Stage
	own   *partition.Export // what is here; nil if that cannot be told
}

func newPulling(t *Taker, r Replica, n note) *pulling {
	return &pulling{
		t: t, r: r, note: n, came: map[string]origin{}, verified: map[string]segment.Meta{},
		patience: callTimeMin, damaged: map[string]int{}, blamed: map[model.NodeID]int{}, silent: map[model.NodeID]bool{}, fresh: map[string]bool{}, strange: map[string]bool{},
	}
}

// try goes on from where the last try ended. done tells that another is of no use.
func (p *pulling) try(ctx context.Context) (done bool, err error) {
	applied, err := p.r.Open(ctx.Done())
	if err != nil {
		return true, fmt.Errorf("%w: %w", ErrStopped, err)
	}
	files := p.r.Files()
	if p.anew {
		p.index = max(p.index, applied) // there is no way back
	} else if applied >= p.index {
		if err := partition.Unstage(files.FS, files.Dir); err != nil {
			p.t.o.Log.Warn("staged files not removed", "shard", uint64(p.shard), "err", err)
		}
		return true, nil
	}
	if p.held != nil && time.Since(p.held.used) >= silentMax {
		p.silent[p.held.node] = true
		p.drop() // who granted it may be gone: the lease ends by itself
	}
	if p.held == nil {
		if err := p.begin(ctx); err != nil {
			return false, err
		}
	}
	if err := p.segments(ctx); err != nil {
		switch codeOf(err) {
		case CodeDamaged:
			p.blamed[p.held.node]++
			p.end(ctx)
		case CodeGone, CodeUnknown, CodeMalformed:
			p.end(ctx)
		}
		return false, err
	}
	if err := p.held.stage.Finish(); err != nil {
		clear(p.came) // what is there is not what it was taken for
		clear(p.verified)
		p.end(ctx)
		return false, err
	}
	p.end(ctx)
	if ctx.Err() != nil { // it waited for the other node, and the partition may be on its way out
		return true, ErrStopped
	}
	// An error here has stopped the node.
	return true, p.r.Replace(func() error { return partition.Swap(files.FS, files.Dir) })
}

// begin gets a lease from the first node that grants one.
func (p *pulling) begin(ctx context.Context) error {
	var errs []error
	for _, node := range p.candidates() {
		err := p.lease(ctx, node)
		if err == nil || ctx.Err() != nil {
			return err
		}
		errs = append(errs, fmt.Errorf("node %d: %w", node, err))
	}
	return fmt.Errorf("no lease of shard %d: %w", p.shard, errors.Join(errs...))
}

// candidates are the note's maker and all others that may have the partition; those
// that gave damaged files, or fell silent, come last.
func (p *pulling) candidates() []model.NodeID {
	var nodes []model.NodeID
	for _, n := range append([]model.NodeID{p.maker}, p.t.o.Peers(p.shard)...) {
		if n != p.t.o.Node && !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	last := func(n model.NodeID) int {
		if p.silent[n] {
			return math.MaxInt
		}
		return p.blamed[n]
	}
	slices.SortStableFunc(nodes, func(a, b model.NodeID) int { return cmp.Compare(last(a), last(b)) })
	return nodes
}

func (p *pulling) lease(ctx context.Context, node model.NodeID) error {
	answer, err := p.call(ctx, node, MethodLease, leaseAsk{p.shard, p.index}.encode())
	if err != nil {
		return err
	}
	g, err := decodeGranted(answer)
	if err != nil {
		return err
	}
	h := &held{origin: origin{node, g.boot}, lease: g.lease, used: time.Now()}
	p.held = h
	delete(p.silent, node)
	manifest, err := p.manifest(ctx, h, g.manifest)
	if err == nil {
		h.stage, err = partition.NewStage(p.r.Files(), manifest)
	}
	if err == nil && h.stage.Applied() < p.index {
		err = fmt.Errorf("its manifest stands at %d, the note at %d", h.stage.Applied(), p.index)
	}
	if err != nil {
		p.end(ctx)
		return err
	}
	p.listed(h.stage.Segments())
	if h.own, err = p.r.Export(ctx); err != nil {
		h.own = nil // then all of it must come
	}
	return nil
}

func (p *pulling) manifest(ctx context.Context, h *held, length uint64) ([]byte, error) {
	if length > manifestBytesMax {
		return nil, fmt.Errorf("a manifest of %d bytes", length)
	}
	var manifest []byte
	for uint64(len(manifest)) < length {
		b, err := p.piece(ctx, h, ofManifest, int64(len(manifest)), int64(length))
		if err != nil {
			return nil, err
		}
		manifest = append(manifest, b...)
	}
	return manifest, nil
}

// segments brings every file here, those first that this node has not: while it reads
// its own, nobody uses the lease.
func (p *pulling) segments(ctx context.Context) error {
	metas := p.held.stage.Segments()
	var mine []int
	for i, m := range metas {
		if p.verified[m.Name()] == m && p.keeps(m) {
			continue
		}
		delete(p.verified, m.Name()) // what it was found to be is not what comes in its place
		if p.held.own != nil && !p.strange[m.Name()] && p.held.stage.Adoptable(p.held.own, i) {
			mine = append(mine, i)
			continue
		}
		if err := p.segment(ctx, i, m); err != nil {
			return err
		}
	}
	for _, i := range mine {
		m := metas[i]
		adopted, err := p.held.stage.Adopt(p.held.own, i)
		if err == nil && adopted {
			delete(p.came, m.Name())
			err = p.verify(ctx, i, m)
		}
		if err != nil || !adopted {
			p.strange[m.Name()] = true
			p.t.o.Log.Debug("own segment does not serve", "file", m.Name(), "err", err)
			err = p.segment(ctx, i, m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keeps tells whether a file that came in this pull is, as far as it goes, what the
// present lease has under its name.
func (p *pulling) keeps(m segment.Meta) bool {
	from, ok := p.came[m.Name()]
	return m.Generation == 0 || ok && from == p.held.origin
}

// segment takes one file, from where it was left off.
func (p *pulling) segment(ctx context.Context, i int, m segment.Meta) error {
	if err := p.receive(ctx, i, m); err != nil {
		return err
	}
	return p.verify(ctx, i, m)
}

func (p *pulling) receive(ctx context.Context, i int, m segment.Meta) error {
	_, ours := p.came[m.Name()]
	keep := ours && p.keeps(m)
	if !ours && !p.fresh[m.Name()] && m.Generation == 0 && p.held.stage.Whole(i) {
		return nil // it is from before a restart
	}
	if !keep {
		// What has the name may be this node's own file: it is not written to.
		if err := p.held.stage.Drop(i); err != nil {
			return err
		}
	}
	in, err := p.held.stage.Receive(i, keep)
	if err != nil {
		return err
	}
	p.came[m.Name()], p.fresh[m.Name()] = p.held.origin, true
	for err == nil && in.At() < m.Length {
		var b []byte
		if b, err = p.piece(ctx, p.held, uint32(i), in.At(), m.Length); err != nil {
			break // what has come stays
		}
		if err = in.Put(b); err != nil {
			p.forget(m)
		}
	}
	closed := in.Close()
	if closed != nil {
		p.forget(m)
	}
	return errors.Join(err, closed)
}

// forget has a file come anew: what the disk has made of it is not known.
func (p *pulling) forget(m segment.Meta) {
	delete(p.came, m.Name())
	delete(p.verified, m.Name())
}

// listed forgets the files that a new stage has removed, since it does not list them.
func (p *pulling) listed(metas []segment.Meta) {
	removed := func(name string) bool {
		return !slices.ContainsFunc(metas, func(m segment.Meta) bool { return m.Name() == name })
	}
	maps.DeleteFunc(p.came, func(name string, _ origin) bool { return removed(name) })
	maps.DeleteFunc(p.verified, func(name string, _ segment.Meta) bool { return removed(name) })
}

// verify reads a file back. One that is damaged comes again; from another node, if it
// was damaged twice.
func (p *pulling) verify(ctx context.Context, i int, m segment.Meta) error {
	err := p.held.stage.Verify(i, ctx.Err)
	if err == nil {
		p.verified[m.Name()] = m
		return ctx.Err()
	}
	if !errors.Is(err, partition.ErrCorrupt) {
		return err
	}
	_, came := p.came[m.Name()]
	p.forget(m)
	if came {
		if p.damaged[m.Name()]++; p.damaged[m.Name()] > 1 {
			p.damaged[m.Name()] = 0
			err = fmt.Errorf("%w: %w", refuse(CodeDamaged, "node %d gave it twice", p.held.node), err)
		}
	}
	return errors.Join(err, p.held.stage.Drop(i))
}

// piece gets what lies at pos of a file of so many bytes.
func (p *pulling) piece(ctx context.Context, h *held, segment uint32, pos, length int64) ([]byte, error) {
	n := min(length-pos, PieceBytesMax-pos%PieceBytesMax) // who gives it reads no block twice
	if space := p.t.o.Space; space != nil {
		if err := space(); err != nil {
			return nil, err
		}
	}
	if err := p.t.pace.turn(ctx, n); err != nil {
		return nil, err
	}
	b, err := p.call(ctx, h.node, MethodPiece, pieceAsk{h.lease, segment, uint64(pos), uint32(n)}.encode())
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != n {
		return nil, refuse(CodeDamaged, "node %d gives %d of %d bytes at %d", h.node, len(b), n, pos)
	}
	p.taken += n
	p.t.taken.Add(n)
	h.used = time.Now()
	return b, nil
}

func (p *pulling) call(ctx context.Context, node model.NodeID, m Method, body []byte) ([]byte, error) {
	asked, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	answer, err := p.t.o.Caller.Call(asked, node, m, body)
	if err != nil && asked.Err() != nil && ctx.Err() == nil {
		p.patience = min(2*p.patience, callTimeMax)
	}
	return answer, err
}

// releaseTimeMax bounds the last call of a pull: a lease ends by itself too.
const releaseTimeMax = time.Second

// drop forgets the lease, and gives it, if there is one.
func (p *pulling) drop() *held {
	h := p.held
	p.held = nil
	if h != nil && h.own != nil {
		h.own.Release()
	}
	return h
}

// end gives the lease back, if there is one.
func (p *pulling) end(ctx context.Context) {
	h := p.drop()
	if h == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTimeMax)
	defer cancel()
	_, _ = p.t.o.Caller.Call(ctx, h.node, MethodRelease, binary.LittleEndian.AppendUint64(nil, h.lease))
}
