package journal

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

const (
	// keepBytesMax is how long a log may be that is written again to free a file; a
	// longer one is asked for a snapshot first.
	keepBytesMax = 32 << 10
	// prepareRetry is how long a full disk is left alone.
	prepareRetry = time.Second
	// zeroBreath is how long the making of a file leaves the device to others between
	// two steps: a file of 64 MiB takes half a second.
	zeroBreath = time.Millisecond
)

func (j *Journal) wakeTrimmer() {
	select {
	case j.trimWake <- struct{}{}:
	default:
	}
}

// prepare is the goroutine that has the next file ready.
func (j *Journal) prepare() {
	defer close(j.prepared)
	for !j.stopping() || len(j.files.ready) == 0 {
		f, err := j.files.prepareNext()
		switch {
		case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
			// Not fatal: the current file has its space. Writes wait when it is full.
			j.log.Error("no space for the next journal file", "err", err)
			if !j.pause(prepareRetry) {
				return
			}
			continue
		case err != nil:
			_ = j.fail(err) // told to Fatal
			return
		}
		select {
		case j.files.ready <- f:
			continue
		default:
		}
		select {
		case j.files.ready <- f:
		case <-j.stop:
			if err := f.close(); err != nil {
				j.log.Warn("journal file not closed", "file", f.name, "err", err)
			}
			return
		case <-j.dead:
			return
		}
	}
}

// stopping tells whether Close was called.
func (j *Journal) stopping() bool {
	select {
	case <-j.stop:
		return true
	default:
		return false
	}
}

// breathe is called between two steps of making a file.
func (j *Journal) breathe() {
	if !j.starved.Load() {
		j.pause(zeroBreath)
	}
}

// pause waits; false when the journal ends.
func (j *Journal) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-j.stop:
	case <-j.dead:
	}
	return false
}

// trim is the goroutine that frees old files.
func (j *Journal) trim() {
	for {
		select {
		case <-j.trimWake:
		case <-j.stop:
			return
		case <-j.dead:
			return
		}
		for j.trimOldest() {
		}
	}
}

// trimOldest recycles the oldest file, or moves what keeps it. False when there is
// nothing to do, or it has to wait for a snapshot.
func (j *Journal) trimOldest() bool {
	f := j.files.oldest()
	if f == nil {
		return false
	}
	pinning := j.pinning(uint32(f.seq))
	if len(pinning) == 0 {
		if err := j.files.recycle(f); err != nil {
			_ = j.fail(err) // told to Fatal
			return false
		}
		return true
	}
	used := j.files.inUse()
	if used <= j.o.BytesMax/2 {
		return false
	}
	full := used+2*j.o.FileBytes > j.o.BytesMax
	moved, err := j.move(pinning, full)
	if err != nil {
		if !errors.Is(err, ErrClosed) && !j.failed() {
			j.log.Error("journal file not freed", "file", f.name, "err", err)
		}
		return false
	}
	if moved == 0 && full {
		j.log.Error("raft journal is larger than allowed: a replica's log is too long to be moved",
			"bytes", used, "bytes_max", j.o.BytesMax, "replica", pinning[0].name.String())
	}
	return moved == len(pinning)
}

// pinning lists the replicas that need the oldest file.
func (j *Journal) pinning(seq uint32) []*node {
	j.nodesMu.RLock()
	defer j.nodesMu.RUnlock()
	var all []*node
	for _, n := range j.nodes {
		n.mu.Lock()
		if f := n.oldest(); f != 0 && f <= seq {
			all = append(all, n)
		}
		n.mu.Unlock()
	}
	return all
}

// move writes replicas again, whose log is short enough, or when space has run out
// fits at all. The others are asked for a snapshot.
func (j *Journal) move(pinning []*node, full bool) (moved int, err error) {
	longest := int64(keepBytesMax)
	if full {
		longest = int64(bodyMax(j.o.FileBytes)) / 2
	}
	var all []saved
	for _, n := range pinning {
		s, ok, err := j.keep(n, longest)
		if errors.Is(err, ErrDamaged) { // a snapshot makes needless what cannot be read
			j.log.Error("raft log cannot be moved", "replica", n.name.String(), "err", err)
			err = nil
		}
		if err != nil {
			return moved, errors.Join(err, j.land(all))
		}
		if ok {
			all = append(all, s)
		} else if j.o.Pinned != nil {
			j.o.Pinned(n.name.info())
		}
	}
	if err := j.land(all); err != nil {
		return 0, err
	}
	j.moved.Add(uint64(len(all)))
	return len(all), nil
}

// keep appends a whole replica to the log, unless it is too long or something of it
// is under way.
func (j *Journal) keep(n *node, longest int64) (saved, bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.removed || n.underWay > 0 || n.entries.bytes > longest {
		return saved{}, false, nil
	}
	var es []pb.Entry
	for low, next := n.entries.first, n.entries.next(); low < next; {
		run := n.entries.run(low, next, runBytesMax)
		got, err := j.readRun(n.name, low, run)
		if err != nil {
			return saved{}, false, fmt.Errorf("move %v: %w", n.name, err)
		}
		es = append(es, got...)
		low += uint64(len(run))
	}
	s, err := j.appendItem(n, part{kind: kindKeep}, es)
	return s, err == nil, err
}
