package backupccl

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// fileCache holds the files that one worker of a restore is merging, checked
// against their hashes. A file of an incremental layer often serves many pieces
// in a row; it is dropped when the worker has passed its end.
//
// A piece reads all files of all layers that overlap it at once, and a long chain
// has many: what does not fit into the budget lies on disk, in files without a
// name, which vanish with the process.
type fileCache struct {
	budget int    // bytes in memory
	dir    string // for what does not fit; empty: the system's

	files      map[fileName]*cachedFile
	bytes      int      // of the buffers of files in memory
	spares     [][]byte // buffers of files that were dropped, for the next ones
	spareBytes int
	needed     int // bytes that the files got since passed was called had in memory
}

// bufferStep is what sizes of buffers are multiples of: files of a backup are
// nearly equal, and the buffer of one should do for the next.
const bufferStep = 256 << 10

type fileName struct {
	layer *manifest.Layer
	path  string
}

type cachedFile struct {
	storage.SSTFile
	span keys.Span
	b    []byte   // nil: on disk
	disk *os.File // nil: in memory
}

func newFileCache(budget int, dir string) *fileCache {
	return &fileCache{budget: budget, dir: dir, files: map[fileName]*cachedFile{}}
}

// get returns a file, to be read until passed or close is called.
func (c *fileCache) get(ctx context.Context, f *manifest.DataFile) (storage.SSTFile, error) {
	name := fileName{f.Layer, f.Path}
	if e := c.files[name]; e != nil {
		c.needed = max(c.needed, c.bytes)
		return e, nil
	}
	b, err := f.ReadInto(ctx, c.buffer(f.BackingFileSize))
	if err != nil {
		return nil, err
	}
	e := &cachedFile{span: manifest.Span(f.Span), b: b}
	if c.bytes > 0 && c.bytes+cap(b) > c.budget {
		if e.disk, err = c.spool(b); err != nil {
			return nil, err
		}
		e.SSTFile = diskFile{e.disk, int64(len(b))}
		e.b = nil
		c.needed = max(c.needed, c.bytes+cap(b))
		c.keep(b)
	} else {
		c.bytes += cap(b)
		c.needed = max(c.needed, c.bytes)
		e.SSTFile = storage.NewMemSST(b)
	}
	c.files[name] = e
	return e, nil
}

// buffer returns memory for a file: the smallest spare that is large enough, or a
// new one, for which spares are given up as the budget demands.
func (c *fileCache) buffer(size uint64) []byte {
	best := -1
	for i, s := range c.spares {
		if uint64(cap(s)) >= size && (best < 0 || cap(s) < cap(c.spares[best])) {
			best = i
		}
	}
	if best >= 0 {
		return c.takeSpare(best)
	}
	step := uint64(min(bufferStep, max(c.budget/16, 1)))
	size = (size + step - 1) / step * step
	for len(c.spares) > 0 && uint64(c.bytes+c.spareBytes)+size > uint64(c.budget) {
		c.takeSpare(0)
	}
	return make([]byte, 0, size)
}

func (c *fileCache) takeSpare(i int) []byte {
	s := c.spares[i]
	c.spares = slices.Delete(c.spares, i, i+1)
	c.spareBytes -= cap(s)
	return s
}

// keep makes a buffer that is free a spare if there is room for it. One is kept in
// any case: a chain with many files that lie on disk reads them one by one.
func (c *fileCache) keep(b []byte) {
	if len(c.spares) == 0 || c.bytes+c.spareBytes+cap(b) <= c.budget {
		c.spares = append(c.spares, b)
		c.spareBytes += cap(b)
	}
}

// held is the memory that the cache takes: the budget, or what one file needs if
// that is more, and at most one file beside it.
func (c *fileCache) held() int { return c.bytes + c.spareBytes }

// spool writes b to a file without a name.
func (c *fileCache) spool(b []byte) (_ *os.File, err error) {
	f, err := os.CreateTemp(c.dir, "restore-*.sst")
	if err != nil {
		return nil, fmt.Errorf("putting a backup file aside: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	if _, err := f.Write(b); err != nil {
		if extstore.IsDiskFull(err) {
			return nil, pgerr.Newf(pgerr.DiskFull, "putting a backup file aside: %w", err)
		}
		return nil, fmt.Errorf("putting a backup file aside: %w", err)
	}
	return f, nil
}

// passed drops the files that end at or before end: pieces come in the order of
// keys. The next piece is taken to need as much memory as the one that ends here did:
// what a single piece with more files took would stay unused else.
func (c *fileCache) passed(end keys.Key) {
	for name, e := range c.files {
		if end.Less(e.span.End()) {
			continue
		}
		delete(c.files, name)
		c.drop(e)
	}
	if c.needed == 0 {
		return // No piece since the last call.
	}
	for len(c.spares) > 0 && c.held() > c.needed {
		c.takeSpare(0)
	}
	c.needed = 0
}

func (c *fileCache) drop(e *cachedFile) {
	if e.disk != nil {
		_ = e.disk.Close() // Nobody reads it again.
		return
	}
	c.bytes -= cap(e.b)
	c.keep(e.b)
}

func (c *fileCache) close() {
	for _, e := range c.files {
		c.drop(e)
	}
	c.files, c.spares, c.spareBytes = nil, nil, 0
}

// diskFile is a file of known size.
type diskFile struct {
	*os.File
	size int64
}

func (f diskFile) Size() int64 { return f.size }
