package record

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestIndependentCodecs lets franz-go read what we compress, and the reverse.
func TestIndependentCodecs(t *testing.T) {
	theirs := map[Codec]kgo.CompressionCodec{
		Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(), LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression(),
	}
	src := bytes.Repeat([]byte("a stream drives a mill; "), 9000)
	decompressor := kgo.DefaultDecompressor()
	for c, codec := range theirs {
		ours, err := Compress(nil, c, LevelDefault, src)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decompressor.Decompress(ours, kgo.CompressionCodecType(c)); err != nil || !bytes.Equal(got, src) {
			t.Fatalf("%s: franz-go reads %d bytes, %v", c, len(got), err)
		}
		compressor, err := kgo.DefaultCompressor(codec)
		if err != nil {
			t.Fatal(err)
		}
		var dst bytes.Buffer
		packed, kind := compressor.Compress(&dst, src)
		if Codec(kind) != c {
			t.Fatalf("%s: franz-go chose %d", c, kind)
		}
		if got, err := Decompress(nil, c, packed, 1<<20); err != nil || !bytes.Equal(got, src) {
			t.Fatalf("%s: we read %d bytes, %v", c, len(got), err)
		}
	}
}
