package storage

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/cockroachkvs"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// SSTFile is an sstable to read. ReadAt is called concurrently only if the file
// is given to several readers. Whoever opens it closes it.
type SSTFile interface {
	io.ReaderAt
	Size() int64
}

// NewMemSST returns the file with the given content.
func NewMemSST(b []byte) SSTFile { return bytes.NewReader(b) }

// readableFile makes an SSTFile what Pebble wants. Closing it is the owner's.
type readableFile struct{ SSTFile }

func (readableFile) Close() error                  { return nil }
func (f readableFile) Stat() (vfs.FileInfo, error) { return fileInfo{f.Size()}, nil }

// fileInfo tells a size; the rest is not asked for.
type fileInfo struct{ size int64 }

func (i fileInfo) Size() int64              { return i.size }
func (fileInfo) Name() string               { return "sstable" }
func (fileInfo) Mode() os.FileMode          { return 0o444 }
func (fileInfo) ModTime() time.Time         { return time.Time{} }
func (fileInfo) IsDir() bool                { return false }
func (fileInfo) Sys() any                   { return nil }
func (fileInfo) DeviceID() (d vfs.DeviceID) { return d }

// externalOptions are those for files outside of a store. Files of all earlier
// formats, row blocks too, are read.
func externalOptions() *pebble.Options {
	o := &pebble.Options{
		Comparer:                &cockroachkvs.Comparer,
		KeySchema:               keySchema.Name,
		KeySchemas:              sstable.MakeKeySchemas(&keySchema),
		BlockPropertyCollectors: cockroachkvs.BlockPropertyCollectors,
		FormatMajorVersion:      storeFormat,
	}
	o.EnsureDefaults()
	return o
}

// openExternal opens an iterator over files, points and range keys. Each inner
// slice is one file; of equal engine keys the one of the earlier file is shown.
func openExternal(ctx context.Context, files []SSTFile, start, end keys.Key) (*pebble.Iterator, error) {
	levels := make([][]sstable.ReadableFile, len(files))
	for i, f := range files {
		levels[i] = []sstable.ReadableFile{readableFile{f}}
	}
	o := pebble.IterOptions{KeyTypes: pebble.IterKeyTypePointsAndRanges, LowerBound: EncodeMVCCKey(start, zeroTS)}
	if len(end) > 0 {
		o.UpperBound = EncodeMVCCKey(end, zeroTS)
	}
	it, err := pebble.NewExternalIterWithContext(ctx, externalOptions(), &o, levels)
	if err != nil {
		return nil, fmt.Errorf("opening sstables: %w", markEngineError(err))
	}
	return it, nil
}

// SSTVisitor receives what a file holds. Keys and values are valid during the
// call.
type SSTVisitor struct {
	// Version receives each version and plain key in order. The value is as
	// stored.
	Version func(key MVCCKey, value []byte) error
	// RangeTombstone, if not nil, receives each range tombstone by start key.
	RangeTombstone func(span keys.Span, ts hlc.Timestamp) error
}

// VisitSST reads the part of a file that lies in [start, end) (end empty: to the
// end of the file) and passes it to v. An error of v ends it.
func VisitSST(ctx context.Context, f SSTFile, start, end keys.Key, v SSTVisitor) (err error) {
	it, err := openExternal(ctx, []SSTFile{f}, start, end)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := it.Close(); err == nil {
			err = markEngineError(cerr)
		}
	}()
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		hasPoint, hasRange := it.HasPointAndRange()
		if hasRange && it.RangeKeyChanged() && v.RangeTombstone != nil {
			from, to, err := rangeKeyBounds(it)
			if err != nil {
				return err
			}
			for _, rk := range it.RangeKeys() {
				ts, err := decodeTimestampSuffix(rk.Suffix)
				if err != nil {
					return corruptionf("range key: %v", err)
				}
				if err := v.RangeTombstone(keys.Span{Key: from, EndKey: to}, ts); err != nil {
					return err
				}
			}
		}
		if !hasPoint {
			continue
		}
		key, err := DecodeMVCCKey(it.Key())
		if err != nil {
			return err
		}
		raw, err := it.ValueAndErr()
		if err != nil {
			return markEngineError(err)
		}
		if v.Version != nil {
			if err := v.Version(key, raw); err != nil {
				return err
			}
		}
	}
	return markEngineError(it.Error())
}

// SummarizeSST counts a whole file as MVCCExport counted it when it was made.
func SummarizeSST(ctx context.Context, f SSTFile, timed bool) (ExportSummary, error) {
	s := NewSummarizer(timed)
	err := VisitSST(ctx, f, keys.MinKey, nil, SSTVisitor{
		Version: func(key MVCCKey, value []byte) error {
			simple, err := splitValue(value)
			if err != nil {
				return err
			}
			s.Add(key.Key, simple, key.Timestamp)
			return nil
		},
		RangeTombstone: func(span keys.Span, ts hlc.Timestamp) error {
			s.AddRangeTombstone(span, ts)
			return nil
		},
	})
	return s.Summary(), err
}
