package script

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

const (
	// chunkBytesMax is how much of a module one record holds: with a batch's
	// header it stays below Kafka's default message.max.bytes for any consumer.
	chunkBytesMax = 512 << 10
	// moduleBytesMax is the largest module.
	moduleBytesMax = 32 << 20
	chunksMax      = moduleBytesMax / chunkBytesMax
	// formatVersion of the JSON values in __scripts.
	formatVersion = 1
)

// ErrDamaged says that a module's chunks are not what was deployed. Deploy the
// script again.
var ErrDamaged = errors.New("stored module is damaged")

// digestHead begins what a digest covers, so that it is of nothing else.
const digestHead = "millrace script 1\n"

// DigestOf names a script's content: its canonical manifest and its module.
func DigestOf(manifest, module []byte) model.Digest {
	h := sha256.New()
	h.Write([]byte(digestHead))
	h.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(manifest))))
	h.Write(manifest)
	h.Write(module)
	return model.Digest(h.Sum(nil))
}

// deployed is the value of the keys NAME and NAME/DIGEST.
type deployed struct {
	Version  int          `json:"v"`
	Name     string       `json:"name"`
	Digest   model.Digest `json:"digest"`
	Bytes    int          `json:"bytes"` // of the module
	Chunks   int          `json:"chunks"`
	Manifest string       `json:"manifest"` // canonical
	Written  time.Time    `json:"written"`
}

// planned is the value of the key NAME/@ACTIVATION.
type planned struct {
	Version int   `json:"v"`
	Plan    *Spec `json:"plan"`
}

// keyKind says what a record of __scripts is.
type keyKind int

const (
	keyUnknown keyKind = iota
	keyName            // NAME: what the name runs, for people
	keyModule          // NAME/DIGEST
	keyChunk           // NAME/DIGEST/N
	keyPlan            // NAME/@ACTIVATION
)

// recordKey is a parsed key of __scripts.
type recordKey struct {
	kind       keyKind
	name       string
	digest     model.Digest
	chunk      int
	activation model.Activation
}

func nameKey(name string) []byte { return []byte(name) }

func moduleKey(name string, d model.Digest) []byte { return fmt.Appendf(nil, "%s/%s", name, d) }

func chunkKey(name string, d model.Digest, n int) []byte {
	return fmt.Appendf(nil, "%s/%s/%d", name, d, n)
}

func planKey(name string, a model.Activation) []byte { return fmt.Appendf(nil, "%s/@%d", name, a) }

// parseKey reads a key; unknown forms are of newer versions and are passed over.
func parseKey(b []byte) recordKey {
	name, rest, more := strings.Cut(string(b), "/")
	k := recordKey{name: name}
	if name == "" {
		return k
	}
	if !more {
		k.kind = keyName
		return k
	}
	if text, is := strings.CutPrefix(rest, "@"); is {
		a, err := strconv.ParseUint(text, 10, 64)
		if err == nil {
			k.kind, k.activation = keyPlan, model.Activation(a)
		}
		return k
	}
	digest, number, chunk := strings.Cut(rest, "/")
	if k.digest.UnmarshalText([]byte(digest)) != nil {
		return k
	}
	if !chunk {
		k.kind = keyModule
		return k
	}
	n, err := strconv.Atoi(number)
	if err == nil && n >= 0 && n < chunksMax {
		k.kind, k.chunk = keyChunk, n
	}
	return k
}

func parseDeployed(b []byte) (deployed, error) {
	var d deployed
	if err := json.Unmarshal(b, &d); err != nil {
		return d, fmt.Errorf("read a deployment: %w", err)
	}
	switch {
	case d.Version != formatVersion:
		return d, fmt.Errorf("read a deployment: version %d, this build reads %d", d.Version, formatVersion)
	case d.Bytes < 0 || d.Bytes > moduleBytesMax || d.Chunks != chunksOf(d.Bytes):
		return d, fmt.Errorf("read the deployment of %q: %d bytes in %d chunks", d.Name, d.Bytes, d.Chunks)
	}
	return d, nil
}

func parsePlan(b []byte) (*Spec, error) {
	var p planned
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("read a plan: %w", err)
	}
	if p.Version != formatVersion || p.Plan == nil {
		return nil, fmt.Errorf("read a plan: version %d, this build reads %d", p.Version, formatVersion)
	}
	return p.Plan, nil
}

func chunksOf(size int) int { return (size + chunkBytesMax - 1) / chunkBytesMax }

// chunkOf gives part n of a module.
func chunkOf(module []byte, n int) []byte {
	return module[n*chunkBytesMax : min(len(module), (n+1)*chunkBytesMax)]
}

// joinChunks gives the module again, verified.
func joinChunks(d deployed, chunks [][]byte) ([]byte, error) {
	module := bytes.Join(chunks, nil)
	if got := DigestOf([]byte(d.Manifest), module); got != d.Digest || len(module) != d.Bytes {
		return nil, fmt.Errorf("%w: script %q, %d bytes give digest %s, %s was deployed", ErrDamaged, d.Name, len(module), got, d.Digest)
	}
	return module, nil
}
