package storage

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/cockroachkvs"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
)

// storeFormat is the Pebble format a store is created with. Raising it is a new
// store version.
const storeFormat = pebble.FormatNewest

// blockBytes is the size of data blocks in the store and in exported files.
const blockBytes = 32 << 10

var keySchema = cockroachkvs.KeySchema

// pebbleOptions returns the options of e's store.
//
// The block cache counts the bytes of blocks. In C memory they take more: 1.17 times
// as much where blocks are mapped singly (internal/malloc), 1.75 times where they lie
// in a heap, which is so of other C libraries and of blocks beyond the number that is
// mapped. The configured size is what the process may grow by, so the cache gets five
// eighths of it.
func (e *Engine) pebbleOptions() *pebble.Options {
	c := e.cfg
	o := &pebble.Options{
		FS:                          c.FS,
		Cache:                       pebble.NewCache(c.CacheBytes / 8 * 5),
		Comparer:                    &cockroachkvs.Comparer,
		KeySchema:                   keySchema.Name,
		KeySchemas:                  sstable.MakeKeySchemas(&keySchema),
		BlockPropertyCollectors:     cockroachkvs.BlockPropertyCollectors,
		FormatMajorVersion:          storeFormat,
		MemTableSize:                uint64(c.MemTableBytes),
		MemTableStopWritesThreshold: 4,
		MaxOpenFiles:                c.MaxOpenFiles,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               64 << 20,
		FlushSplitBytes:             2 << 20,
		WALBytesPerSync:             512 << 10,
		BytesPerSync:                1 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, max(1, c.MaxCompactions) },
		DisableAutomaticCompactions: c.Testing.DisableAutoCompactions,
		Logger:                      pebbleLogger{e.log},
		EventListener:               e.eventListener(),
	}
	o.Experimental.EnableColumnarBlocks = func() bool { return true }
	o.Experimental.EnableValueBlocks = func() bool { return true }
	bs, target := blockBytes, int64(4<<20)
	if c.Testing.BlockSize > 0 {
		bs = c.Testing.BlockSize
	}
	if c.Testing.TargetFileBytes > 0 {
		target = c.Testing.TargetFileBytes
		o.FlushSplitBytes = target
	}
	for i := range o.Levels {
		o.Levels[i] = pebble.LevelOptions{
			BlockSize:      bs,
			IndexBlockSize: max(bs*8, 256),
			FilterPolicy:   bloom.FilterPolicy(10),
			FilterType:     pebble.TableFilter,
			Compression:    func() *sstable.CompressionProfile { return block.FastestCompression },
		}
		o.TargetFileSizes[i] = target
		if c.Testing.TargetFileBytes == 0 {
			target = min(target*2, 64<<20)
		}
	}
	o.EnsureDefaults()
	return o
}

// pebbleLogger passes Pebble's log on.
type pebbleLogger struct{ log *slog.Logger }

func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("pebble: " + fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf is Pebble's word for a write-ahead log or a manifest that cannot be
// written. What was acknowledged is safe on disk; going on is not possible.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	l.log.Error("storage engine cannot go on", "err", msg)
	panic("storage: " + msg)
}

func (e *Engine) eventListener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) { e.log.Warn("storage background error", "err", err) },
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			e.log.Error("corrupt file in store", "path", i.Path, "details", i.Details)
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) { e.log.Warn("write stall", "reason", i.Reason) },
		WriteStallEnd:   func() { e.log.Info("write stall over") },
	}
}

const stagedPrefix = "ingest-"

// stagingDir is where files wait for ingestion, on the store's own file system
// so that they can be linked.
func (e *Engine) stagingDir() string { return filepath.Join(e.cfg.Dir, "auxiliary", "ingest") }

// removeStagedFiles removes what a crash left between staging and ingestion.
func (e *Engine) removeStagedFiles() error {
	if err := e.fs.MkdirAll(e.stagingDir(), 0o755); err != nil {
		return err
	}
	names, err := e.fs.List(e.stagingDir())
	if err != nil {
		return err
	}
	for _, n := range names {
		if !strings.HasPrefix(n, stagedPrefix) {
			continue
		}
		if err := e.fs.Remove(filepath.Join(e.stagingDir(), n)); err != nil {
			return err
		}
	}
	return nil
}
