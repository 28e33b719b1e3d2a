package host

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/millrace-io/millrace/sidecar/abi"
)

// errno is a WASI preview 1 error number.
type errno int32

const (
	errnoSuccess errno = 0
	errnoBadF    errno = 8
	errnoFault   errno = 21
	errnoInval   errno = 28
)

const (
	clockRealtime    = 0
	clockMonotonic   = 1
	clockStep        = 1_000_000 // ns, what clocks resolve and the monotonic one advances by at each read
	iovecsMax        = 1024      // as Linux
	subscriptionsMax = 4096      // of one poll_oneoff
	complaintBytes   = 400       // of a guest's standard error that go into a fault
)

const (
	subscriptionBytes = 48
	eventBytes        = 32
)

// wasi is the little of an operating system that a guest sees. It is owned by
// the goroutine that runs the guest.
type wasi struct {
	args []byte // the name, zero-terminated
	env  [][]byte

	now       int64 // ms, what the realtime clock says
	monotonic int64 // ns
	rand      *abi.Rand
	lines     [2][]byte // begun on standard output and error
	said      []byte    // the head of what went to standard error in this batch
}

func newWASI(name string, env []string) wasi {
	w := wasi{args: append([]byte(name), 0), rand: abi.NewRand(0, 0)}
	for _, e := range env {
		w.env = append(w.env, append([]byte(e), 0))
	}
	return w
}

// begin sets clock and chance for a batch, or for a record.
func (w *wasi) begin(seed uint64, offset, timestamp int64) {
	w.now = max(timestamp, 0)
	w.rand = abi.NewRand(seed, offset)
}

// complaint is the first line that the guest wrote to standard error.
func (w *wasi) complaint() string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(w.said), []byte("\n"))
	w.said = w.said[:0]
	return strings.ToValidUTF8(string(line), "")
}

func (g *core) end(format string, a ...any) bool {
	g.exit = fmt.Sprintf(format, a...)
	return false
}

// wasiCall runs one of the stubs.
func (g *core) wasiCall(id importID, a args) errno {
	switch id {
	case importArgsSizes:
		return g.sizes([][]byte{g.wasi.args}, a)
	case importArgsGet:
		return g.strings([][]byte{g.wasi.args}, a)
	case importEnvironSizes:
		return g.sizes(g.wasi.env, a)
	case importEnvironGet:
		return g.strings(g.wasi.env, a)
	case importClockRes:
		return g.put64(a.u32(1), clockStep)
	case importClockTime:
		return g.clock(a)
	case importRandom:
		return g.random(a)
	case importFdWrite:
		return g.fdWrite(a)
	case importPoll:
		return g.poll(a)
	case importYield:
		return errnoSuccess
	}
	return errnoBadF
}

// sizes is args_sizes_get and environ_sizes_get(count*, bytes*).
func (g *core) sizes(list [][]byte, a args) errno {
	total := 0
	for _, s := range list {
		total += len(s)
	}
	return max(g.put32(a.u32(0), uint32(len(list))), g.put32(a.u32(1), uint32(total)))
}

// strings is args_get and environ_get(pointers*, bytes*).
func (g *core) strings(list [][]byte, a args) errno {
	pointer, text := a.u32(0), a.u32(1)
	for _, s := range list {
		dst, ok := g.at(text, uint32(len(s)))
		if !ok || g.put32(pointer, text) != errnoSuccess {
			return errnoFault
		}
		copy(dst, s)
		pointer, text = pointer+4, text+uint32(len(s))
	}
	return errnoSuccess
}

// clock is clock_time_get(id, precision, time*).
func (g *core) clock(a args) errno {
	switch a.u32(0) {
	case clockRealtime:
		return g.put64(a.u32(2), uint64(g.wasi.now)*1_000_000)
	case clockMonotonic:
		g.wasi.monotonic += clockStep
		return g.put64(a.u32(2), uint64(g.wasi.monotonic))
	}
	return errnoInval
}

// random is random_get(buf, len).
func (g *core) random(a args) errno {
	dst, ok := g.at(a.u32(0), a.u32(1))
	if !ok {
		return errnoFault
	}
	var word [8]byte
	for len(dst) > 0 {
		binary.LittleEndian.PutUint64(word[:], g.wasi.rand.Uint64())
		dst = dst[copy(dst, word[:]):]
	}
	return errnoSuccess
}

// fdWrite is fd_write(fd, iovecs, count, written*): lines become log lines.
func (g *core) fdWrite(a args) errno {
	fd, list, count := a.u32(0), a.u32(1), a.u32(2)
	if fd != 1 && fd != 2 {
		return errnoBadF
	}
	if count > iovecsMax {
		return errnoInval
	}
	vectors, ok := g.at(list, 8*count)
	if !ok {
		return errnoFault
	}
	written := uint32(0)
	for ; len(vectors) > 0; vectors = vectors[8:] {
		text, ok := g.at(binary.LittleEndian.Uint32(vectors), binary.LittleEndian.Uint32(vectors[4:]))
		if !ok {
			return errnoFault
		}
		g.stdio(fd, text)
		written += uint32(len(text))
	}
	return g.put32(a.u32(3), written)
}

// stdio cuts what a guest prints into lines.
func (g *core) stdio(fd uint32, text []byte) {
	level := abi.LevelInfo
	if fd == 2 {
		level = abi.LevelWarn
		g.wasi.said = append(g.wasi.said, text[:min(len(text), complaintBytes-len(g.wasi.said))]...)
	}
	line := &g.wasi.lines[fd-1]
	for len(text) > 0 {
		part, rest, ended := bytes.Cut(text, []byte("\n"))
		*line = append(*line, part[:min(len(part), abi.LogLineBytesMax-len(*line))]...)
		if ended {
			g.logLine(level, *line)
			*line = (*line)[:0]
		}
		text = rest
	}
}

func (g *core) logLine(level abi.Level, text []byte) {
	text = text[:min(len(text), abi.LogLineBytesMax)]
	g.log(level, strings.ToValidUTF8(string(text), "\uFFFD"))
}

// poll is poll_oneoff(in, out, count, events*): all clocks complete at once,
// and so does all else, with EBADF.
func (g *core) poll(a args) errno {
	count := a.u32(2)
	if count == 0 || count > subscriptionsMax {
		return errnoInval
	}
	in, ok := g.at(a.u32(0), count*subscriptionBytes)
	out, ok2 := g.at(a.u32(1), count*eventBytes)
	if !ok || !ok2 {
		return errnoFault
	}
	for ; len(in) > 0; in, out = in[subscriptionBytes:], out[eventBytes:] {
		clear(out[:eventBytes])
		copy(out, in[:8]) // user data
		out[10] = in[8]   // type: 0 = clock
		if in[8] != 0 {
			binary.LittleEndian.PutUint16(out[8:], uint16(errnoBadF))
		}
	}
	return g.put32(a.u32(3), count)
}

func (g *core) put32(ptr, value uint32) errno {
	dst, ok := g.at(ptr, 4)
	if !ok {
		return errnoFault
	}
	binary.LittleEndian.PutUint32(dst, value)
	return errnoSuccess
}

func (g *core) put64(ptr uint32, value uint64) errno {
	dst, ok := g.at(ptr, 8)
	if !ok {
		return errnoFault
	}
	binary.LittleEndian.PutUint64(dst, value)
	return errnoSuccess
}
