package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// Config says where a store is and how much memory it may use.
type Config struct {
	Dir string
	// FS is where Dir is; nil: the operating system's.
	FS vfs.FS
	// CacheBytes bounds the memory that the block cache takes, what the allocator
	// loses included. It grows only with use.
	CacheBytes int64
	// MemTableBytes is the size of one memtable; the first ones are smaller.
	MemTableBytes int64
	// MaxOpenFiles bounds file handles.
	MaxOpenFiles int
	// MaxCompactions bounds concurrent compactions.
	MaxCompactions int
	// ReserveBytes of disk space are kept free: writes are refused with
	// ErrDiskFull rather than filling the disk. 0: no check.
	ReserveBytes int64
	Logger       *slog.Logger

	// Testing is for tests of this and the layers above.
	Testing TestingConfig
}

// TestingConfig shrinks units so that small tests meet many blocks and files.
type TestingConfig struct {
	BlockSize              int
	TargetFileBytes        int64
	MinLockRun             int
	ExportChunkBytes       int // of versions passed on at once
	DisableAutoCompactions bool
}

// DefaultConfig returns a Config for dir that suits a small machine.
func DefaultConfig(dir string) Config {
	return Config{
		Dir:            dir,
		CacheBytes:     256 << 20,
		MemTableBytes:  32 << 20,
		MaxOpenFiles:   4096,
		MaxCompactions: 2,
		ReserveBytes:   64 << 20,
	}
}

// Validate checks c and names the flag that is wrong.
func (c Config) Validate() error {
	switch {
	case c.Dir == "":
		return errors.New("--store: no directory given")
	case c.CacheBytes < 1<<20:
		return fmt.Errorf("--cache: %d bytes are too few, need at least 1 MiB", c.CacheBytes)
	case c.MemTableBytes < 64<<10:
		return fmt.Errorf("memtable size %d is too small, need at least 64 KiB", c.MemTableBytes)
	case c.ReserveBytes < 0:
		return fmt.Errorf("reserve of %d bytes is negative", c.ReserveBytes)
	}
	return nil
}

// Engine is an open store. All methods are safe for concurrent use.
type Engine struct {
	cfg       Config
	fs        vfs.FS
	db        *pebble.DB
	lock      *pebble.Lock
	log       *slog.Logger
	rangeKeys rangeKeySpans
	locks     *lockFilter
	hold      cacheHold
	ingestSeq atomic.Uint64 // names staged files
	space     spaceGuard
	closed    atomic.Bool
}

// Open opens the store in cfg.Dir and creates it if the directory is empty or
// missing. It holds the store's lock file until Close.
//
// Errors: ErrStoreLocked, ErrStoreVersion, ErrCorrupt, ErrDiskFull.
func Open(cfg Config) (_ *Engine, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Engine{cfg: cfg, fs: cfg.FS, log: cfg.Logger}
	defer func() {
		if err != nil {
			err = fmt.Errorf("opening store %s: %w", cfg.Dir, markEngineError(err))
			if e.db != nil {
				_ = e.db.Close()
			}
			if e.lock != nil {
				_ = e.lock.Close()
			}
		}
	}()
	if err := e.fs.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, err
	}
	if e.lock, err = pebble.LockDirectory(cfg.Dir, e.fs); err != nil {
		return nil, Mark(fmt.Errorf("%w (is another holdfast running on it?)", err), ErrStoreLocked)
	}
	if err := checkStoreVersion(e.fs, cfg.Dir); err != nil {
		return nil, err
	}
	if err := checkManifest(e.fs, cfg.Dir); err != nil {
		return nil, err
	}
	if err := e.removeStagedFiles(); err != nil {
		return nil, err
	}
	opts := e.pebbleOptions()
	opts.Lock = e.lock
	e.hold.cache = opts.Cache
	e.db, err = pebble.Open(cfg.Dir, opts)
	opts.Cache.Unref() // The DB holds its own reference.
	if err != nil {
		return nil, err
	}
	if err := e.loadRangeKeySpans(); err != nil {
		return nil, err
	}
	e.locks = newLockFilter()
	if err := e.locks.fill(e.db); err != nil {
		return nil, err
	}
	return e, nil
}

// Close flushes nothing (the WAL has it all) and releases the store. All
// Readers and Batches must be closed before.
func (e *Engine) Close() error {
	if e.closed.Swap(true) {
		return nil
	}
	e.hold.close()
	err := e.db.Close()
	if lerr := e.lock.Close(); err == nil {
		err = lerr
	}
	if err != nil {
		return fmt.Errorf("closing store %s: %w", e.cfg.Dir, markEngineError(err))
	}
	return nil
}

// Dir returns the store's directory.
func (e *Engine) Dir() string { return e.cfg.Dir }

// FS returns the file system the store is on.
func (e *Engine) FS() vfs.FS { return e.fs }

// AuxiliaryDir returns (and creates) a directory beside the store's own files,
// for what belongs to the store but not into it.
func (e *Engine) AuxiliaryDir(name string) (string, error) {
	dir := filepath.Join(e.cfg.Dir, "auxiliary", name)
	if err := e.fs.MkdirAll(dir, 0o755); err != nil {
		return "", markEngineError(err)
	}
	return dir, nil
}

// Metrics returns the state of the storage engine.
func (e *Engine) Metrics() *pebble.Metrics { return e.db.Metrics() }

// Flush writes the memtables to disk.
func (e *Engine) Flush() error { return markEngineError(e.db.Flush()) }

// SyncLog returns when everything that was committed before is durable.
func (e *Engine) SyncLog() error { return markEngineError(e.db.LogData(nil, pebble.Sync)) }

// Compact rewrites the span [start, end) into the lowest level.
func (e *Engine) Compact(ctx context.Context, start, end keys.Key) error {
	return markEngineError(e.db.Compact(ctx, EncodeMVCCKey(start, zeroTS), EncodeMVCCKey(end, zeroTS), true))
}

// DiskUsage estimates the bytes on disk of [start, end).
func (e *Engine) DiskUsage(start, end keys.Key) (uint64, error) {
	n, err := e.db.EstimateDiskUsage(EncodeMVCCKey(start, zeroTS), EncodeMVCCKey(end, zeroTS))
	return n, markEngineError(err)
}

// Get implements Reader.
func (e *Engine) Get(key keys.Key) ([]byte, bool, error) { return getPlain(e.db, key) }

// Scan implements Reader.
func (e *Engine) Scan(start, end keys.Key, fn func(keys.Key, []byte) (bool, error)) error {
	return scanPlain(e.db, start, end, fn)
}

func (e *Engine) pin() *view { return newView(e, e.db) }

// NewSnapshot returns a view of the present state that lasts until Close.
func (e *Engine) NewSnapshot() *Snapshot {
	return &Snapshot{eng: e, snap: e.db.NewSnapshot()}
}

// NewReadOnly returns one consistent view for the reads of one request. It is
// cheaper than a Snapshot for short use and keeps its iterators between reads.
// It is not safe for concurrent use.
func (e *Engine) NewReadOnly() *ReadOnly {
	return &ReadOnly{v: newOwnedView(e, e.db)}
}

// NewBatch returns a Batch that can be read. It is not safe for concurrent use.
func (e *Engine) NewBatch() *Batch {
	b := &Batch{eng: e, b: e.db.NewIndexedBatch()}
	b.v = newOwnedView(e, b.b)
	return b
}

// NewWriteBatch returns a Batch that is only written, cheaper than NewBatch.
func (e *Engine) NewWriteBatch() *Batch {
	return &Batch{eng: e, b: e.db.NewBatch()}
}

// getPlain reads an unversioned key.
func getPlain(r pebble.Reader, key keys.Key) ([]byte, bool, error) {
	v, closer, err := r.Get(EncodeMVCCKey(key, zeroTS))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, markEngineError(err)
	}
	return append([]byte{}, v...), true, closeQuietly(closer)
}

func closeQuietly(c io.Closer) error { return markEngineError(c.Close()) }

// scanPlain visits the unversioned keys of [start, end).
func scanPlain(r pebble.Reader, start, end keys.Key, fn func(keys.Key, []byte) (bool, error)) error {
	it, err := r.NewIter(&pebble.IterOptions{
		LowerBound: EncodeMVCCKey(start, zeroTS),
		UpperBound: EncodeMVCCKey(end, zeroTS),
	})
	if err != nil {
		return markEngineError(err)
	}
	return visitPlain(it, fn)
}

// visitPlain calls fn for the unversioned keys of it and closes it.
func visitPlain(it *pebble.Iterator, fn func(keys.Key, []byte) (bool, error)) (err error) {
	defer func() {
		if cerr := it.Close(); err == nil {
			err = markEngineError(cerr)
		}
	}()
	for ok := it.First(); ok; ok = it.NextPrefix() {
		key, suffix, err := splitEngineKey(it.Key())
		if err != nil {
			return err
		}
		if len(suffix) != 0 {
			continue
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if more, err := fn(key, v); err != nil || !more {
			return err
		}
	}
	return nil
}
