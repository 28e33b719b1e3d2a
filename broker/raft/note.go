package raft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A partition's snapshot, as the library streams it, is a note: where the partition's
// files are to be had. Framed, it is (integers little endian):
//
//	 0  "millrnot"
//	 8  uint32 version, 1
//	12  uint32 length
//	16  the note
//	    uint32 CRC-32C of all before it
const (
	noteMagic   = "millrnot"
	noteVersion = 1
	noteHead    = 16
	// noteBytesMax bounds a note: it says who has made it, and of what.
	noteBytesMax = 4 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errNote says that a snapshot is none of ours, or of a newer version.
var errNote = errors.New("snapshot of a partition holds no note that this version reads")

func frameNote(note []byte) []byte {
	b := make([]byte, 0, noteHead+len(note)+4)
	b = append(b, noteMagic...)
	b = binary.LittleEndian.AppendUint32(b, noteVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(note)))
	b = append(b, note...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readNote reads a framed note and nothing behind it.
func readNote(r io.Reader) ([]byte, error) {
	head := make([]byte, noteHead)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("%w: %w", errNote, err)
	}
	length := binary.LittleEndian.Uint32(head[12:])
	v := binary.LittleEndian.Uint32(head[8:])
	if string(head[:8]) != noteMagic || v != noteVersion || length > noteBytesMax {
		return nil, fmt.Errorf("%w: it begins with %x", errNote, head)
	}
	rest := make([]byte, length+4)
	if _, err := io.ReadFull(r, rest); err != nil {
		return nil, fmt.Errorf("%w: %w", errNote, err)
	}
	note := rest[:length:length]
	if sum := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, note); sum != binary.LittleEndian.Uint32(rest[length:]) {
		return nil, fmt.Errorf("%w: checksum mismatch", errNote)
	}
	return note, nil
}

// findNote tells whether the beginning of one of the library's snapshot files, which
// has a header of its own, holds a note.
func findNote(file []byte) bool {
	for {
		i := bytes.Index(file, []byte(noteMagic))
		if i < 0 {
			return false
		}
		if _, err := readNote(bytes.NewReader(file[i:])); err == nil {
			return true
		}
		file = file[i+1:]
	}
}
