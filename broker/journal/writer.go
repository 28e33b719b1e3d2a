package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/millrace-io/millrace/broker/disk"
)

// bufferKeep is the largest buffer that is used again, in bytes.
const bufferKeep = 2 * blockBytesMax

// batch is what becomes one block. It is filled under the journal's mu, then owned
// by whoever holds device; file, pos and err are set before done is closed.
type batch struct {
	seq   uint64
	mix   uint32 // of the file that the block is expected to go to
	buf   []byte // the head's place, then the body; aligned
	items []item

	done chan struct{}
	file uint32
	pos  uint32
	err  error
}

// newBatch is called with device held, or before anybody else runs.
func (j *Journal) newBatch(seq uint64, buf []byte) *batch {
	if buf == nil {
		buf = disk.Aligned(64 << 10)
	}
	b := &batch{seq: seq, buf: buf[:headSize], done: make(chan struct{})}
	if c := j.files.current; c != nil {
		b.mix = c.mix
	}
	return b
}

// rebind changes all checksums to those of another file.
func (b *batch) rebind(mix uint32) {
	change := b.mix ^ mix
	if change == 0 {
		return
	}
	le := binary.LittleEndian
	for i := range b.items {
		it := &b.items[i]
		at, skip := it.pos, uint32(blobSize)
		left := uint32(bits.OnesCount8(it.flags&(hasBootstrap|hasSnapshot|hasDamage))) + it.entries
		for end := it.pos + it.length; at < end; left-- {
			if left == it.entries {
				skip = entrySize
			}
			le.PutUint32(b.buf[at:], le.Uint32(b.buf[at:])^change)
			at += skip + le.Uint32(b.buf[at+4:])
		}
	}
	b.mix = mix
}

// room makes the buffer hold n more bytes.
func (b *batch) room(n int) {
	if need := len(b.buf) + n; need > cap(b.buf) {
		grown := disk.Aligned(int(disk.AlignUp(int64(max(need, 2*cap(b.buf))))))
		b.buf = grown[:copy(grown, b.buf)]
	}
}

// reserve gives the open batch, with mu held, once it takes n bytes more.
func (j *Journal) reserve(n int) (*batch, error) {
	if most := bodyMax(j.o.FileBytes); n > most {
		return nil, fmt.Errorf("%w: %d bytes, %d are free in one of %d", ErrTooLarge, n, most, j.o.FileBytes)
	}
	j.mu.Lock()
	for j.err == nil && len(j.open.items) > 0 && len(j.open.buf)+n+len(j.open.items)*itemSize > batchMax(j.o.FileBytes) {
		j.wakeWriter()
		j.space.Wait()
	}
	if j.err != nil {
		err := j.err
		j.mu.Unlock()
		return nil, err
	}
	// The table, which is appended to the buffer, must not make it grow.
	j.open.room(n + (len(j.open.items)+1)*itemSize)
	return j.open, nil
}

// batchMax is when a batch takes nothing more: small files take small blocks.
func batchMax(fileBytes int64) int { return min(blockBytesMax, int(fileBytes/4)) }

// bodyMax is what one item may take of a file: not the header page, nor head,
// table and names.
func bodyMax(fileBytes int64) int { return int(fileBytes) - 4*page - batchMax(fileBytes)/2 }

// EntryBytesMax is the longest command, in bytes, of an entry that a file of a size
// takes.
func EntryBytesMax(fileBytes int64) int { return bodyMax(fileBytes) - entrySize }

// release ends what reserve began. The writer is woken once all of a call is there
// (see land): the first items alone would cost a sync of their own.
func (j *Journal) release() { j.mu.Unlock() }

func (j *Journal) wakeWriter() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// write is the goroutine that writes what waits while somebody else writes, and seals.
func (j *Journal) write() {
	defer j.idle.Stop()
	for {
		select {
		case <-j.wake:
			j.device <- struct{}{}
			j.writeOpen()
			<-j.device
		case <-j.idle.C:
			j.device <- struct{}{}
			j.writeSeal()
			<-j.device
		case <-j.stop:
			j.device <- struct{}{}
			j.writeOpen()
			j.writeSeal()
			<-j.device
			return
		}
	}
}

// commit has the open batch written: by the caller itself when the device is free,
// which saves waking two threads, else by the writer with whatever else there is by then.
func (j *Journal) commit() {
	select {
	case j.device <- struct{}{}:
		j.writeOpen()
		<-j.device
	default:
		j.wakeWriter()
	}
}

// writeOpen writes the open batch, if it has anything. device is held.
func (j *Journal) writeOpen() {
	if b := j.take(); b != nil {
		j.writeBatch(b)
	}
}

// take gives the open batch, if it has anything, and opens the next.
func (j *Journal) take() *batch {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := j.open
	if len(b.items) == 0 {
		return nil
	}
	j.open = j.newBatch(b.seq+1, j.spare)
	j.spare = nil
	j.space.Broadcast()
	return b
}

// writeBatch writes b as a block and lets go of those who wait for it.
func (j *Journal) writeBatch(b *batch) {
	if b.err = j.writeBlock(b, j.before, 0); b.err == nil {
		j.before = j.before[:0]
		for i := range b.items {
			j.before = append(j.before, b.items[i].name)
		}
		j.sealed = false
		j.idle.Reset(j.seal)
	}
	j.mu.Lock()
	if cap(b.buf) <= bufferKeep {
		j.spare = b.buf
	}
	j.mu.Unlock()
	b.buf = nil
	j.syncs.Add(1)
	close(b.done)
}

// writeSeal writes a block without items behind one with some, if the device still works.
func (j *Journal) writeSeal() {
	if j.sealed {
		return
	}
	j.mu.Lock()
	b := j.open
	if len(b.items) > 0 {
		j.mu.Unlock() // the batch is a successor as good
		return
	}
	j.open = j.newBatch(b.seq+1, j.spare)
	j.spare = nil
	j.mu.Unlock()
	if err := j.writeBlock(b, j.before, flagSeal); err != nil {
		return // Fatal was told
	}
	j.before, j.sealed = j.before[:0], true
	j.mu.Lock()
	j.spare = b.buf
	j.mu.Unlock()
	j.seals.Add(1)
}

// writeBlock puts a batch behind the last one, in the next file if need be, and
// returns once it is durable.
func (j *Journal) writeBlock(b *batch, before []name, flags uint32) error {
	if j.failed() {
		return j.failure()
	}
	j.writing.Store(int64(time.Since(j.opened)))
	defer j.writing.Store(0)
	h := head{
		seq: b.seq, session: j.session, flags: flags,
		body: uint32(len(b.buf) - headSize), items: uint32(len(b.items)), names: uint32(len(before)),
	}
	size := disk.AlignUp(h.size())
	f, pos, prevEnd, err := j.place(size)
	if errors.Is(err, errStopping) {
		j.mu.Lock()
		j.open.seq = b.seq // the seal takes this one's number: a gap would be damage
		j.mu.Unlock()
		return ErrClosed
	}
	if err != nil {
		return j.fail(fmt.Errorf("begin a file: %w", err))
	}
	h.file, h.pos, h.prevEnd = f.seq, uint32(pos), prevEnd
	b.rebind(f.mix)
	b.finish(&h, before, int(size))
	began := time.Now()
	if err := f.write(b.buf[:size], pos); err != nil {
		return j.fail(fmt.Errorf("write %d bytes at %d of %s: %w", size, pos, f.name, err))
	}
	if j.o.Synced != nil {
		j.o.Synced(int(size), time.Since(began))
	}
	b.file, b.pos = uint32(f.seq), uint32(pos)
	j.bytes.Add(uint64(size))
	return nil
}

// Writing tells for how long a write to the device has not returned, its wait for the
// next file included; 0 while there is none.
func (j *Journal) Writing() time.Duration {
	since := j.writing.Load()
	if since == 0 {
		return 0
	}
	return time.Since(j.opened) - time.Duration(since)
}

// finish adds table, names and padding to the body, then the head.
func (b *batch) finish(h *head, before []name, size int) {
	b.room(size - len(b.buf))
	for i := range b.items {
		b.buf = b.items[i].append(b.buf)
	}
	for _, n := range before {
		b.buf = binary.LittleEndian.AppendUint64(b.buf, n.shard)
		b.buf = binary.LittleEndian.AppendUint64(b.buf, n.replica)
	}
	end := len(b.buf)
	b.buf = b.buf[:size]
	clear(b.buf[end:])
	h.put(b.buf)
	binary.LittleEndian.PutUint32(b.buf, headSum(b.buf, h))
}

func (j *Journal) failure() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// failed tells whether the device has failed.
func (j *Journal) failed() bool {
	select {
	case <-j.dead:
		return true
	default:
		return false
	}
}

// fail makes err the answer to everybody. Fatal comes first: it may end the process
// before anybody hears of the error.
func (j *Journal) fail(err error) error {
	j.failOnce.Do(func() {
		err = fmt.Errorf("raft journal: %w", err)
		j.o.Fatal(err)
		j.mu.Lock()
		j.err = err
		j.space.Broadcast()
		j.mu.Unlock()
		close(j.dead)
	})
	return j.failure()
}
