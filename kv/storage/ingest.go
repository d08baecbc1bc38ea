package storage

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// IngestOptions says how IngestSST treats a file.
type IngestOptions struct {
	// Span must contain every key of the file.
	Span keys.Span
	// Timestamp is given to every version; the file's own must all be
	// PlaceholderTimestamp. Zero keeps the file's timestamps (tests, and
	// replicas that repeat a decision made elsewhere).
	Timestamp hlc.Timestamp
	// RequireEmpty refuses a span that holds any version or range tombstone.
	RequireEmpty bool
	// DisallowShadowing refuses a file with a key that is live in the store.
	DisallowShadowing bool
	// OnlyRepeat refuses a file with a key that the store knows, unless the same
	// value is live there: an ingestion may be repeated, and changes nothing that
	// happened since.
	OnlyRepeat bool
}

// IngestResult is what an ingested file added.
type IngestResult struct {
	Stats Stats
	Keys  int64
	// First and Last are the file's outermost keys.
	First, Last keys.Key
}

// ShadowingError says that a file to be ingested has a key that is live in the
// store already.
type ShadowingError struct {
	Key    keys.Key
	Actual []byte
}

func (e *ShadowingError) Error() string {
	return fmt.Sprintf("ingested file would shadow the live key %s", keys.Pretty(e.Key))
}

// NotEmptyError says that a span that must be empty for an ingestion is not.
type NotEmptyError struct {
	Key keys.Key
}

func (e *NotEmptyError) Error() string {
	return fmt.Sprintf("span to be filled is not empty: it holds %s", keys.Pretty(e.Key))
}

// IngestSST adds an sstable to the store. When it returns nil the file is
// durable and all of it is visible; on error nothing is. It checks that the file
// has one version per key within opts.Span, and that the span has no lock and,
// for those keys, no version at or above the timestamp.
//
// Errors: LockConflictError, WriteTooOldError, NotEmptyError, ShadowingError,
// ErrBadSST, ErrCorrupt, ErrDiskFull.
func (e *Engine) IngestSST(ctx context.Context, sst []byte, opts IngestOptions) (IngestResult, error) {
	res, err := e.ingest(ctx, sst, opts)
	if err != nil {
		return IngestResult{}, fmt.Errorf("ingesting %d bytes into %s: %w", len(sst), opts.Span, markEngineError(err))
	}
	return res, nil
}

// CheckSST finds what IngestSST would refuse in the file or the span, and changes
// nothing. Its errors are those of IngestSST.
func (e *Engine) CheckSST(ctx context.Context, sst []byte, opts IngestOptions) error {
	_, err := e.checkIngest(ctx, sst, opts)
	if err == nil && !opts.Timestamp.IsEmpty() {
		err = stampSST(io.Discard, sst, opts.Timestamp)
	}
	if err != nil {
		return fmt.Errorf("ingesting %d bytes into %s: %w", len(sst), opts.Span, markEngineError(err))
	}
	return nil
}

func (e *Engine) ingest(ctx context.Context, sst []byte, opts IngestOptions) (IngestResult, error) {
	res, err := e.checkIngest(ctx, sst, opts)
	if err != nil {
		return IngestResult{}, err
	}
	if err := e.SpaceFor(int64(len(sst))); err != nil {
		return IngestResult{}, err
	}
	path, err := e.stage(func(w io.Writer) error {
		if opts.Timestamp.IsEmpty() {
			_, err := w.Write(sst)
			return err
		}
		return stampSST(w, sst, opts.Timestamp)
	})
	if err != nil {
		return IngestResult{}, err
	}
	e.hold.ingesting()
	if err := e.db.Ingest(ctx, []string{path}); err != nil {
		_ = e.fs.Remove(path)
		return IngestResult{}, err
	}
	return res, nil
}

// stampSST writes sst to w with ts instead of the placeholder timestamp of every
// version. Errors are those of w, or marked as the file's.
func stampSST(w io.Writer, sst []byte, ts hlc.Timestamp) error {
	from := appendTimestampSuffix(nil, PlaceholderTimestamp)
	to := appendTimestampSuffix(nil, ts)
	wo := sstWriterOptions(CompressFast, blockBytes, false)
	out := &errWriter{w: w}
	_, _, err := sstable.RewriteKeySuffixesAndReturnFormat(sst, externalOptions().MakeReaderOptions(),
		&sstOutput{w: out}, wo, from, to, 1)
	if out.err != nil {
		return out.err
	}
	if err != nil {
		return Mark(fmt.Errorf("giving an sstable its timestamp: %w", err), ErrBadSST)
	}
	return nil
}

// errWriter remembers the error of w.
type errWriter struct {
	w   io.Writer
	err error
}

func (w *errWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}

// stagedPath returns a new name for a file beside the store, which is removed
// when the store is opened.
func (e *Engine) stagedPath() string {
	return filepath.Join(e.stagingDir(), fmt.Sprintf("%s%d.sst", stagedPrefix, e.ingestSeq.Add(1)))
}

// stageBufferBytes is how much of a file that is made on its way to the disk is
// written at once.
const stageBufferBytes = 64 << 10

// stageBytes writes a file beside the store, durably.
func (e *Engine) stageBytes(sst []byte) (path string, err error) {
	return e.stage(func(w io.Writer) error {
		_, err := w.Write(sst)
		return err
	})
}

// stage writes what write makes to a file beside the store, durably.
func (e *Engine) stage(write func(io.Writer) error) (path string, err error) {
	path = e.stagedPath()
	f, err := e.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = e.fs.Remove(path)
		}
	}()
	w := bufio.NewWriterSize(f, stageBufferBytes)
	if err = write(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		_ = f.Close()
		return "", err
	}
	return path, f.Close()
}

// checkIngest reads the whole file, counts it and looks for conflicts in the
// store.
func (e *Engine) checkIngest(ctx context.Context, sst []byte, opts IngestOptions) (IngestResult, error) {
	locks, _, err := ScanLocks(ctx, e, opts.Span.Key, opts.Span.End(), defaultMaxLocks)
	if err != nil {
		return IngestResult{}, err
	}
	if len(locks) > 0 {
		return IngestResult{}, &LockConflictError{Locks: locks}
	}
	empty, err := e.spanIsEmpty(opts)
	if err != nil {
		return IngestResult{}, err
	}
	var v *view
	var point *pebble.Iterator
	if !empty {
		v = e.pin()
		defer func() { _ = v.unpin() }()
		if point, err = v.pointIter(); err != nil {
			return IngestResult{}, err
		}
	}
	if err := checkSSTFormat(ctx, sst); err != nil {
		return IngestResult{}, Mark(err, ErrBadSST)
	}
	var res IngestResult
	var conflict error // of the store, and not of the file
	err = VisitSST(ctx, NewMemSST(sst), keys.MinKey, nil, SSTVisitor{
		Version: func(k MVCCKey, value []byte) error {
			switch {
			case !opts.Span.Contains(k.Key):
				return fmt.Errorf("key %s is outside of the span", keys.Pretty(k.Key))
			case k.Timestamp.IsEmpty():
				return fmt.Errorf("key %s has no version", keys.Pretty(k.Key))
			case !opts.Timestamp.IsEmpty() && k.Timestamp != PlaceholderTimestamp:
				return fmt.Errorf("version %s does not have the placeholder timestamp", k)
			}
			newest := res.Keys == 0 || !bytes.Equal(k.Key, res.Last)
			if res.Keys == 0 {
				res.First = k.Key.Clone()
			}
			ts := opts.Timestamp
			if ts.IsEmpty() {
				ts = k.Timestamp
			}
			if v != nil && newest {
				if _, err := splitValue(value); err != nil {
					return err
				}
				if conflict = e.checkShadow(v, point, k.Key, value, ts, opts, &res.Stats); conflict != nil {
					return conflict
				}
			}
			res.Keys++
			res.Last = append(res.Last[:0], k.Key...)
			res.Stats.addVersion(k.Key, ts, value)
			if newest {
				res.Stats.addLive(k.Key, value)
			}
			return nil
		},
		RangeTombstone: func(span keys.Span, ts hlc.Timestamp) error {
			if !opts.Timestamp.IsEmpty() {
				return fmt.Errorf("range tombstone %s@%s in a file to be given a timestamp", span, ts)
			}
			if !opts.Span.ContainsSpan(span) {
				return fmt.Errorf("range tombstone %s is outside of the span", span)
			}
			e.rangeKeys.add(span.Key, span.EndKey)
			res.Stats.RangeKeys++
			res.Stats.Estimates = true
			return nil
		},
	})
	if err != nil && conflict == nil && ctx.Err() == nil {
		err = Mark(err, ErrBadSST) // Nothing but the file was read.
	}
	return res, err
}

// checkSSTFormat refuses files that the store cannot take in, and such that change
// more than what VisitSST shows of them.
func checkSSTFormat(ctx context.Context, sst []byte) error {
	o := externalOptions()
	r, err := sstable.NewMemReader(sst, o.MakeReaderOptions())
	if err != nil {
		return fmt.Errorf("opening the sstable: %w", err)
	}
	defer func() { _ = r.Close() }() // It has nothing but memory.
	format, err := r.TableFormat()
	if err != nil {
		return fmt.Errorf("format of the sstable: %w", err)
	}
	if newest := storeFormat.MaxTableFormat(); format > newest {
		return fmt.Errorf("sstable has format %s, the newest that is known is %s", format, newest)
	}
	p, err := r.ReadPropertiesBlock(ctx, nil)
	if err != nil {
		return fmt.Errorf("properties of the sstable: %w", err)
	}
	if p.NumDeletions > 0 || p.NumRangeDeletions > 0 || p.NumMergeOperands > 0 || p.NumRangeKeyDels > 0 || p.NumRangeKeyUnsets > 0 {
		return fmt.Errorf("sstable removes or merges keys")
	}
	return nil
}

// spanIsEmpty says whether the span holds nothing at all.
func (e *Engine) spanIsEmpty(opts IngestOptions) (empty bool, err error) {
	it, err := e.db.NewIter(&pebble.IterOptions{
		KeyTypes:   pebble.IterKeyTypePointsAndRanges,
		LowerBound: EncodeMVCCKey(opts.Span.Key, zeroTS),
		UpperBound: EncodeMVCCKey(opts.Span.End(), zeroTS),
	})
	if err != nil {
		return false, err
	}
	defer func() {
		if cerr := it.Close(); err == nil {
			err = cerr
		}
	}()
	if !it.First() {
		return true, it.Error()
	}
	if opts.RequireEmpty {
		key, _, err := splitEngineKey(it.Key())
		if err != nil {
			return false, err
		}
		return false, &NotEmptyError{Key: key.Clone()}
	}
	return false, nil
}

// checkShadow compares a key of the file with what the store has of it.
func (e *Engine) checkShadow(v *view, point *pebble.Iterator, key keys.Key, value []byte, ts hlc.Timestamp, opts IngestOptions, stats *Stats) error {
	have, err := v.versionAt(point, key, hlc.MaxTimestamp, hlc.MaxTimestamp)
	if err != nil || !have.found() {
		return err
	}
	if ts.LessEq(have.ts) {
		return &WriteTooOldError{Key: key.Clone(), Timestamp: ts, ActualTimestamp: have.ts.Next()}
	}
	simple, err := splitValue(have.raw)
	if err != nil {
		return err
	}
	if opts.OnlyRepeat {
		mine, err := splitValue(value)
		if err != nil {
			return err
		}
		// Checksums differ: those of ingested values are zero.
		if len(simple) < valueChecksumLen || len(mine) < valueChecksumLen || !bytes.Equal(simple[valueChecksumLen:], mine[valueChecksumLen:]) {
			return &ShadowingError{Key: key.Clone(), Actual: bytes.Clone(simple)}
		}
	}
	if len(simple) == 0 {
		return nil
	}
	if opts.DisallowShadowing {
		return &ShadowingError{Key: key.Clone(), Actual: bytes.Clone(simple)}
	}
	stats.subLive(key, have.raw)
	return nil
}
