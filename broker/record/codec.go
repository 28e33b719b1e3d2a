package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec is how a batch's records are compressed, as attributes 0-2 say.
type Codec int8

// Kafka's codecs.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd

	codecLast = Zstd
)

// String gives the name that Kafka's compression.type uses.
func (c Codec) String() string {
	if c < 0 || c > codecLast {
		return fmt.Sprintf("codec(%d)", int8(c))
	}
	return [...]string{"none", "gzip", "snappy", "lz4", "zstd"}[c]
}

// LevelDefault is each codec's own default level.
const LevelDefault = -1

const (
	// zstdWindowMax is the largest window that is inflated: what level 20 asks for.
	// A stranger's frame cannot make a decoder take more.
	zstdWindowMax = 32 << 20
	// snappyBlock is how much a block of xerial's framing holds, as its writer has it.
	snappyBlock = 32 << 10
	// inflateStep is how much a buffer grows at least while inflating.
	inflateStep = 16 << 10
)

var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeader = 16 // magic, version, oldest compatible version

// Compress appends src, compressed, to dst. Level is the codec's own; snappy has none.
func Compress(dst []byte, c Codec, level int, src []byte) ([]byte, error) {
	switch c {
	case None:
		return append(dst, src...), nil
	case Gzip:
		return compressGzip(dst, level, src)
	case Snappy:
		return compressXerial(dst, src), nil
	case LZ4:
		return compressLZ4(dst, level, src)
	case Zstd:
		return compressZstd(dst, level, src)
	}
	return dst, fmt.Errorf("%w: %d", ErrCodec, c)
}

// Decompress appends what src holds to dst, at most max bytes of it, else
// ErrInflated. Damaged input is ErrMalformed.
func Decompress(dst []byte, c Codec, src []byte, max int) ([]byte, error) {
	var err error
	switch c {
	case None:
		if len(src) > max {
			return dst, inflated(max)
		}
		return append(dst, src...), nil
	case Gzip:
		dst, err = decompressGzip(dst, src, max)
	case Snappy:
		dst, err = decompressSnappy(dst, src, max)
	case LZ4:
		dst, err = decompressLZ4(dst, src, max)
	case Zstd:
		dst, err = decompressZstd(dst, src, max)
	default:
		return dst, fmt.Errorf("%w: %d", ErrCodec, c)
	}
	if err == nil || errors.Is(err, ErrInflated) {
		return dst, err
	}
	return dst, fmt.Errorf("%w: %s: %w", ErrMalformed, c, err)
}

func inflated(max int) error { return fmt.Errorf("%w: the limit is %d bytes", ErrInflated, max) }

// readAll appends all of r to dst, at most max bytes. It allocates as bytes come,
// never by what a header announces.
func readAll(dst []byte, r io.Reader, max int) ([]byte, error) {
	start := len(dst)
	for {
		if cap(dst)-len(dst) < inflateStep {
			grown := make([]byte, len(dst), 2*cap(dst)+inflateStep)
			copy(grown, dst)
			dst = grown
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if len(dst)-start > max {
			return dst, inflated(max)
		}
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

// appendWriter is an io.Writer at the end of a slice.
type appendWriter struct{ b []byte }

func (w *appendWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// Pools hold encoders of the default level and all decoders; other levels are
// rare and made as needed. A pooled object is owned by who took it out.
var (
	gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}
	gzipReaders sync.Pool
	lz4Writers  = sync.Pool{New: func() any { return lz4.NewWriter(io.Discard) }}
	lz4Readers  = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
	zstdWriters = sync.Pool{New: func() any { return newZstdWriter(LevelDefault) }}
	zstdReaders = sync.Pool{New: newZstdReader}
)

func compressGzip(dst []byte, level int, src []byte) ([]byte, error) {
	out := appendWriter{dst}
	w := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(w)
	w.Reset(&out)
	if level != LevelDefault {
		var err error
		if w, err = gzip.NewWriterLevel(&out, level); err != nil {
			return dst, fmt.Errorf("gzip level %d: %w", level, err)
		}
	}
	_, err := w.Write(src)
	return out.b, errors.Join(err, w.Close())
}

func decompressGzip(dst, src []byte, max int) ([]byte, error) {
	in := bytes.NewReader(src)
	r, ok := gzipReaders.Get().(*gzip.Reader)
	var err error
	if ok {
		err = r.Reset(in)
	} else {
		r, err = gzip.NewReader(in)
	}
	if err != nil {
		return dst, err
	}
	defer gzipReaders.Put(r)
	return readAll(dst, r, max)
}

func compressXerial(dst, src []byte) []byte {
	dst = append(dst, xerialMagic...)
	dst = append(dst, 0, 0, 0, 1, 0, 0, 0, 1)
	for len(src) > 0 {
		n := min(len(src), snappyBlock)
		at := len(dst)
		dst = append(dst, make([]byte, 4+s2.MaxEncodedLen(n))...)
		block := s2.EncodeSnappy(dst[at+4:], src[:n])
		binary.BigEndian.PutUint32(dst[at:], uint32(len(block)))
		dst = dst[:at+4+len(block)]
		src = src[n:]
	}
	return dst
}

func decompressSnappy(dst, src []byte, max int) ([]byte, error) {
	start := len(dst)
	if !bytes.HasPrefix(src, xerialMagic) {
		return decompressBlock(dst, src, max)
	}
	if len(src) < xerialHeader {
		return dst, io.ErrUnexpectedEOF
	}
	src = src[xerialHeader:]
	for len(src) > 0 {
		if len(src) < 4 {
			return dst, io.ErrUnexpectedEOF
		}
		n := binary.BigEndian.Uint32(src)
		src = src[4:]
		if uint64(n) > uint64(len(src)) {
			return dst, io.ErrUnexpectedEOF
		}
		var err error
		if dst, err = decompressBlock(dst, src[:n], max-(len(dst)-start)); err != nil {
			return dst, err
		}
		src = src[n:]
	}
	return dst, nil
}

// snappyExpansion is how much larger a block's content can be than the block: a
// copy of 64 bytes takes 3 (2 in the shortest form, up to 11 bytes). It keeps a
// tiny block from announcing a huge content.
const snappyExpansion = 32

func decompressBlock(dst, block []byte, max int) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return dst, err
	}
	if n > max {
		return dst, inflated(max)
	}
	if n > len(block)*snappyExpansion {
		return dst, fmt.Errorf("block of %d bytes announces %d", len(block), n)
	}
	at := len(dst)
	dst = append(dst, make([]byte, n)...)
	_, err = s2.Decode(dst[at:], block)
	return dst, err
}

func compressLZ4(dst []byte, level int, src []byte) ([]byte, error) {
	out := appendWriter{dst}
	w := lz4Writers.Get().(*lz4.Writer)
	defer lz4Writers.Put(w)
	w.Reset(&out)
	strength := lz4.Fast
	if level > 0 {
		strength = lz4.CompressionLevel(1 << (8 + min(level, 9)))
	}
	options := []lz4.Option{lz4.BlockSizeOption(lz4.Block64Kb), lz4.CompressionLevelOption(strength), lz4.ConcurrencyOption(1)}
	if err := w.Apply(options...); err != nil {
		return dst, fmt.Errorf("lz4 level %d: %w", level, err)
	}
	_, err := w.Write(src)
	return out.b, errors.Join(err, w.Close())
}

func decompressLZ4(dst, src []byte, max int) ([]byte, error) {
	r := lz4Readers.Get().(*lz4.Reader)
	defer lz4Readers.Put(r)
	r.Reset(bytes.NewReader(src))
	return readAll(dst, r, max)
}

func newZstdWriter(level int) *zstd.Encoder {
	speed := zstd.SpeedDefault
	if level != LevelDefault {
		speed = zstd.EncoderLevelFromZstd(level)
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(speed), zstd.WithLowerEncoderMem(true))
	must(err == nil, "zstd options are constants: %v", err)
	return w
}

func compressZstd(dst []byte, level int, src []byte) ([]byte, error) {
	if level != LevelDefault {
		w := newZstdWriter(level)
		return w.EncodeAll(src, dst), w.Close()
	}
	w := zstdWriters.Get().(*zstd.Encoder)
	defer zstdWriters.Put(w)
	return w.EncodeAll(src, dst), nil
}

func newZstdReader() any {
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindowMax))
	must(err == nil, "zstd options are constants: %v", err)
	return r
}

func decompressZstd(dst, src []byte, max int) ([]byte, error) {
	r := zstdReaders.Get().(*zstd.Decoder)
	defer zstdReaders.Put(r)
	if err := r.Reset(bytes.NewReader(src)); err != nil {
		return dst, err
	}
	return readAll(dst, r, max)
}
