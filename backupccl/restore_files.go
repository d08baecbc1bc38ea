package backupccl

import (
	"context"
	"fmt"
	"os"

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

	files map[fileName]*cachedFile
	bytes int    // in memory
	spare []byte // of a file that was dropped, for the next one
}

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
		return e, nil
	}
	buf := c.spare
	c.spare = nil
	b, err := f.ReadInto(ctx, buf)
	if err != nil {
		return nil, err
	}
	e := &cachedFile{span: manifest.Span(f.Span), b: b}
	if c.bytes > 0 && c.bytes+len(b) > c.budget {
		if e.disk, err = c.spool(b); err != nil {
			return nil, err
		}
		e.SSTFile = diskFile{e.disk, int64(len(b))}
		e.b, c.spare = nil, b
	} else {
		c.bytes += len(b)
		e.SSTFile = storage.NewMemSST(b)
	}
	c.files[name] = e
	return e, nil
}

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
// keys.
func (c *fileCache) passed(end keys.Key) {
	for name, e := range c.files {
		if end.Less(e.span.End()) {
			continue
		}
		delete(c.files, name)
		c.drop(e)
	}
}

func (c *fileCache) drop(e *cachedFile) {
	if e.disk != nil {
		_ = e.disk.Close() // Nobody reads it again.
		return
	}
	c.bytes -= len(e.b)
	if cap(c.spare) < cap(e.b) {
		c.spare = e.b
	}
}

func (c *fileCache) close() {
	for _, e := range c.files {
		c.drop(e)
	}
	c.files, c.spare = nil, nil
}

// diskFile is a file of known size.
type diskFile struct {
	*os.File
	size int64
}

func (f diskFile) Size() int64 { return f.size }
