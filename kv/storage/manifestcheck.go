package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// checkManifest looks for damage in the manifest, the log of which files make up
// the store. Pebble takes the first unreadable record for the torn end of a
// crash and goes on without what follows; if that was damage in the middle, the
// files named there would be deleted. A torn end has nothing readable after it.
func checkManifest(vf vfs.FS, dir string) error {
	desc, err := pebble.Peek(dir, vf)
	if err != nil {
		return err
	}
	if !desc.Exists || desc.ManifestFilename == "" {
		return nil
	}
	name := desc.ManifestFilename
	if !filepath.IsAbs(name) && filepath.Dir(name) == "." {
		name = filepath.Join(dir, name)
	}
	f, err := vf.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return corruptionf("the manifest %s is missing", filepath.Base(name))
	}
	if err != nil {
		return err
	}
	b, err := io.ReadAll(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if at, ok := damagedRecord(b); ok {
		return corruptionf("the manifest %s is damaged at byte %d", filepath.Base(name), at)
	}
	return nil
}

// The log format: blocks of 32 KiB hold chunks of crc(4) length(2) type(1)
// payload; types 5 to 8 have four more bytes of header before the payload.
const (
	logBlockBytes  = 32 << 10
	logHeaderBytes = 7
	diskSector     = 512
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// damagedRecord returns where the first chunk is that cannot be the torn end of
// a log.
func damagedRecord(b []byte) (at int, damaged bool) {
	for pos := 0; ; {
		if left := logBlockBytes - pos%logBlockBytes; left < logHeaderBytes {
			pos += left
		}
		if pos >= len(b) {
			return 0, false
		}
		size, ok := logChunk(b, pos)
		if ok {
			pos += size
			continue
		}
		if pos == 0 {
			return 0, true
		}
		// A chunk within one sector was written whole or not at all.
		header := b[pos:min(pos+logHeaderBytes, len(b))]
		whole := size > 0 && pos/diskSector == (pos+size-1)/diskSector && pos+size <= len(b)
		if whole && len(bytes.Trim(header, "\x00")) > 0 {
			return pos, true
		}
		for p := pos + 1; p+logHeaderBytes <= len(b); p++ {
			if _, ok := logChunk(b, p); ok {
				return pos, true
			}
		}
		return 0, false
	}
}

// logChunk returns the size that the chunk at pos claims, and whether it is
// intact.
func logChunk(b []byte, pos int) (size int, ok bool) {
	if pos+logHeaderBytes > len(b) {
		return 0, false
	}
	kind, header := b[pos+6], logHeaderBytes
	switch {
	case kind < 1 || kind > 8:
		return 0, false
	case kind >= 5:
		header += 4
	}
	size = header + int(binary.LittleEndian.Uint16(b[pos+4:]))
	if pos%logBlockBytes+size > logBlockBytes || pos+size > len(b) {
		return 0, false
	}
	c := crc32.Checksum(b[pos+6:pos+size], castagnoli)
	return size, binary.LittleEndian.Uint32(b[pos:]) == (c>>15|c<<17)+0xa282ead8
}
