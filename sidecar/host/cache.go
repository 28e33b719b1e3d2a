package host

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// cacheMagic opens a cached module; the SHA-256 of the rest follows it.
const cacheMagic = "MRCACHE1"

// cacheFilesMax bounds the directory: older files go first. A module is some
// 5 to 20 MB when compiled.
const cacheFilesMax = 64

// cache keeps compiled modules in a directory that only we may write. Nil or
// without a directory it keeps nothing. Losing any file costs a compilation.
type cache struct{ dir string }

func openCache(dir string) (*cache, error) {
	if dir == "" {
		return &cache{}, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open compile cache: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("open compile cache: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("open compile cache %s: mode %o lets others write native code there; make it 0700", dir, info.Mode().Perm())
	}
	return &cache{dir: dir}, nil
}

// path names the file of a module: its digest, and all that a compiled form
// depends on.
func (c *cache) path(wasm []byte) string {
	key := sha256.New()
	fmt.Fprintf(key, "%s/%s/%s/", EngineName, engineSettings, runtime.GOARCH)
	sum := sha256.Sum256(wasm)
	key.Write(sum[:])
	return filepath.Join(c.dir, hex.EncodeToString(key.Sum(nil))+".native")
}

// load returns the compiled form, or nil. A damaged file is removed.
func (c *cache) load(wasm []byte) []byte {
	if c.dir == "" {
		return nil
	}
	path := c.path(wasm)
	file, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	head := len(cacheMagic) + sha256.Size
	if len(file) > head && string(file[:len(cacheMagic)]) == cacheMagic {
		sum := sha256.Sum256(file[head:])
		if bytes.Equal(sum[:], file[len(cacheMagic):head]) {
			return file[head:]
		}
	}
	c.drop(wasm)
	return nil
}

// store keeps a compiled form; it is whole or not there.
func (c *cache) store(wasm, native []byte) error {
	if c.dir == "" {
		return nil
	}
	temp, err := os.CreateTemp(c.dir, "new-*")
	if err != nil {
		return fmt.Errorf("keep compiled module: %w", err)
	}
	sum := sha256.Sum256(native)
	_, err = temp.Write(append(append([]byte(cacheMagic), sum[:]...), native...))
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), c.path(wasm))
	}
	if err != nil {
		os.Remove(temp.Name())
		return fmt.Errorf("keep compiled module: %w", err)
	}
	return c.shrink()
}

func (c *cache) drop(wasm []byte) {
	if c.dir != "" {
		os.Remove(c.path(wasm))
	}
}

// shrink removes the oldest files beyond cacheFilesMax, and what a crash left.
func (c *cache) shrink() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("shrink compile cache: %w", err)
	}
	for len(entries) > cacheFilesMax {
		oldest, at := fs.FileInfo(nil), 0
		for i, entry := range entries {
			if info, err := entry.Info(); err == nil && (oldest == nil || info.ModTime().Before(oldest.ModTime())) {
				oldest, at = info, i
			}
		}
		if oldest == nil {
			return nil
		}
		os.Remove(filepath.Join(c.dir, oldest.Name()))
		entries = append(entries[:at], entries[at+1:]...)
	}
	return nil
}
