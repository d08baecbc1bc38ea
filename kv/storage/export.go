package storage

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// ExportOptions says what MVCCExport reads.
type ExportOptions struct {
	Span      keys.Span
	StartTime hlc.Timestamp // exclusive; zero: from the beginning
	EndTime   hlc.Timestamp // inclusive
	// ResumeTS continues inside the history of Span.Key: only versions older
	// than it are exported of that key. Zero: all.
	ResumeTS hlc.Timestamp
	// ResumeMidRow says that the page before ended inside the row of Span.Key,
	// which therefore was counted there.
	ResumeMidRow bool
	// AllRevisions exports every version and range tombstone in (StartTime,
	// EndTime]; otherwise only the newest of each key is.
	AllRevisions bool
	// Tombstones exports tombstones although StartTime is zero and AllRevisions
	// is off, for a span that must hide what earlier layers have of it.
	Tombstones bool
	// View fills in the view of the summaries. With a start time each changed key
	// is looked up as it was then: the start must be above the GC threshold.
	View bool
	// TargetBytes ends the page at the first row boundary at which keys and
	// values reach it. 0: no limit.
	TargetBytes int64
	// MaxBytes is the hard limit: only a row that would exceed it is cut.
	// 0: no limit.
	MaxBytes int64
	// MaxLocks bounds the locks in a LockConflictError; 0: 100.
	MaxLocks    int
	Compression Compression
}

// ExportResult is the outcome of one page.
type ExportResult struct {
	Summary ExportSummary
	// ResumeKey is where the next page begins, nil if this was the last.
	ResumeKey keys.Key
	// ResumeTS is set if the page ends inside the history of ResumeKey.
	ResumeTS hlc.Timestamp
	// MidRow says that the page ends inside a row; its pieces belong together.
	MidRow bool
	// Empty says that nothing was found; nothing was written then.
	Empty bool
	// FileBytes is what was written.
	FileBytes int64
	// BlockBytes is the size of the store's blocks that were read, from disk or
	// cache: what an incremental export saves.
	BlockBytes int64
}

// MVCCExport writes one page of a span's history to w as an sstable; with a nil
// w it only counts. Values are written with checksum 0 and without extended
// header.
//
// A lock ≤ EndTime in the page is a LockConflictError, never skipped. On error
// what was written to w is to be thrown away.
func MVCCExport(ctx context.Context, r Reader, opts ExportOptions, w io.Writer) (_ ExportResult, err error) {
	if !opts.StartTime.Less(opts.EndTime) {
		return ExportResult{}, fmt.Errorf("export interval (%s, %s] is empty", opts.StartTime, opts.EndTime)
	}
	if opts.MaxLocks == 0 {
		opts.MaxLocks = defaultMaxLocks
	}
	v := r.pin()
	defer func() {
		if uerr := v.unpin(); err == nil {
			err = uerr
		}
	}()
	defer v.eng.hold.begin()()
	incremental := !opts.StartTime.IsEmpty()
	x := exporter{ctx: ctx, opts: opts, start: opts.Span.Key, end: opts.Span.End(),
		sink: exportSink{sum: NewSummarizer(opts.AllRevisions || incremental), out: w, compression: opts.Compression,
			beside: incremental, chunkBytes: sinkChunkBytes}}
	if n := v.eng.cfg.Testing.ExportChunkBytes; n > 0 {
		x.sink.chunkBytes = n
	}
	if err := x.open(v); err != nil {
		return ExportResult{}, err
	}
	defer func() {
		x.sink.abort()
		<-x.locksFound // Before v gives its iterators back.
		if cerr := x.it.Close(); err == nil {
			err = markEngineError(cerr)
		}
		if x.sink.past != nil {
			if cerr := x.sink.past.it.Close(); err == nil {
				err = markEngineError(cerr)
			}
		}
	}()
	if err := x.run(); err != nil {
		return ExportResult{}, err
	}
	return x.finish()
}

// exporter is one run of MVCCExport.
type exporter struct {
	ctx        context.Context
	opts       ExportOptions
	start, end keys.Key
	it         *pebble.Iterator
	ranged     bool
	viewed     keys.Key // the key whose newest version was taken into the view
	sink       exportSink
	locks      lockCursor
	locksFound chan struct{} // closed when locks stands on its first lock
	locksErr   error         // of that; read after locksFound

	stack   []hlc.Timestamp  // range tombstones over the position
	ranges  []tombstoneStack // those to be exported
	lastKey keys.Key         // of the last version exported
	lastTS  hlc.Timestamp
	bytes   int64
	keyBuf  []byte // the key at the iterator, with sentinel
	seekBuf []byte
	res     ExportResult
	visited int
}

// open opens the iterators. The block filter leaves out only blocks without any
// version in (StartTime, EndTime]: whatever else the iterator shows is checked
// version by version, so the filter decides about speed alone. Locks and range
// tombstones are read without it.
//
// The first lock is looked for beside the versions: a transaction that has just
// committed leaves thousands of removed locks that are to be stepped over.
func (x *exporter) open(v *view) error {
	if err := x.locks.open(v, x.start, x.end, false, nil); err != nil {
		return err
	}
	o := pebble.IterOptions{
		KeyTypes:   pebble.IterKeyTypePointsOnly,
		LowerBound: EncodeMVCCKey(x.start, zeroTS),
		UpperBound: EncodeMVCCKey(x.end, zeroTS),
	}
	if v.eng.rangeKeys.overlap(x.start, x.end) {
		o.KeyTypes, x.ranged = pebble.IterKeyTypePointsAndRanges, true
	}
	if !x.opts.StartTime.IsEmpty() {
		o.PointKeyFilters = timeFilter(x.opts.StartTime, x.opts.EndTime)
	}
	var err error
	if x.it, err = v.open(&o); err != nil {
		return err
	}
	if x.opts.View && !x.opts.StartTime.IsEmpty() {
		o.PointKeyFilters = nil
		past, err := v.open(&o)
		if err != nil {
			_ = x.it.Close()
			return err
		}
		x.sink.past = newLookBack(past, x.opts.StartTime)
	}
	x.locksFound = make(chan struct{})
	go func() { // MVCCExport waits for it.
		defer close(x.locksFound)
		x.locksErr = x.locks.first()
	}()
	return nil
}

// wantTombstones says whether a deleted key must be mentioned.
func (x *exporter) wantTombstones() bool {
	return x.opts.AllRevisions || x.opts.Tombstones || !x.opts.StartTime.IsEmpty()
}

// run visits the versions until the page is full or the span ends.
func (x *exporter) run() error {
	if x.opts.ResumeMidRow || !x.opts.ResumeTS.IsEmpty() {
		x.sink.sum.startInRow(x.start)
	}
	ok := x.it.First()
	for ok {
		if x.visited++; x.visited%1024 == 0 {
			if err := x.ctx.Err(); err != nil {
				return err
			}
		}
		if x.ranged {
			hasPoint, hasRange := x.it.HasPointAndRange()
			if err := x.loadRanges(hasRange); err != nil {
				return err
			}
			if !hasPoint {
				ok = x.it.Next()
				continue
			}
		}
		ek := x.it.Key()
		n := int(ek[len(ek)-1])
		if n == 0 || n == suffixLenLock || n >= len(ek) {
			ok = x.it.Next()
			continue
		}
		prefix := ek[:len(ek)-n]
		key := keys.Key(prefix[: len(prefix)-1 : len(prefix)-1])
		newKey := !bytes.Equal(prefix, x.keyBuf)
		if newKey {
			x.keyBuf = append(x.keyBuf[:0], prefix...)
			select {
			case <-x.locksFound:
				if err := x.checkLocks(key, true); err != nil {
					return err
				}
			default: // The check at the page's end has them all.
			}
		}
		ts, err := fastTimestamp(ek, n)
		if err != nil {
			return err
		}
		switch {
		case x.opts.EndTime.Less(ts):
			ok, err = x.skipTo(x.opts.EndTime)
		case ts.LessEq(x.opts.StartTime):
			ok = x.it.NextPrefix()
		case x.resumeSkips(key, ts):
			ok = x.it.Next()
		default:
			var full bool
			if full, err = x.version(key, ek, ts); full {
				return x.checkLocks(x.res.ResumeKey, false)
			}
			if x.opts.AllRevisions {
				ok = x.it.Next()
			} else {
				ok = x.it.NextPrefix()
			}
		}
		if err != nil {
			return err
		}
	}
	if err := x.it.Error(); err != nil {
		return markEngineError(err)
	}
	return x.checkLocks(x.end, false)
}

// resumeSkips says whether the page before had the version already.
func (x *exporter) resumeSkips(key keys.Key, ts hlc.Timestamp) bool {
	return !x.opts.ResumeTS.IsEmpty() && x.opts.ResumeTS.LessEq(ts) && key.Equal(x.start)
}

// skipTo moves from a version above ts to the next one that is not, of this key
// or another.
func (x *exporter) skipTo(ts hlc.Timestamp) (bool, error) {
	for i := 0; i < nextsBeforeSeek; i++ {
		if !x.it.Next() {
			return false, nil
		}
		ek := x.it.Key()
		n := int(ek[len(ek)-1])
		if n == 0 || x.ranged || !bytes.Equal(ek[:len(ek)-n], x.keyBuf) {
			return true, nil
		}
		t, err := fastTimestamp(ek, n)
		if err != nil {
			return false, err
		}
		if t.LessEq(ts) {
			return true, nil
		}
	}
	x.seekBuf = appendTimestampSuffix(append(x.seekBuf[:0], x.keyBuf...), ts)
	return x.it.SeekGE(x.seekBuf), nil
}

// version exports the version of key at the iterator if it is wanted. full says
// that the page ended before it.
func (x *exporter) version(key keys.Key, ek []byte, ts hlc.Timestamp) (full bool, err error) {
	if !x.opts.AllRevisions && x.ranged && x.hidden(ts) {
		// The range tombstone itself, or nothing, is exported.
		return false, nil
	}
	raw, err := x.it.ValueAndErr()
	if err != nil {
		return false, markEngineError(err)
	}
	simple, err := splitValue(raw)
	if err != nil {
		return false, fmt.Errorf("%s@%s: %w", keys.Pretty(key), ts, err)
	}
	if len(simple) == 0 && !x.wantTombstones() {
		return false, nil
	}
	size := int64(len(ek) + len(simple))
	if x.bytes > 0 && x.pageFull(key, size) {
		return true, nil
	}
	x.bytes += size
	x.lastKey, x.lastTS = append(x.lastKey[:0], key...), ts
	newest := x.newestInView(key)
	return false, x.sink.add(key, ek, simple, ts, newest, newest && len(simple) > 0 && !x.hidden(ts))
}

// newestInView says whether the version at hand decides what becomes of key in the
// view: the newest within the export's time, which is the first one met. Without
// history and start all versions are of that kind; finish adds them up.
func (x *exporter) newestInView(key keys.Key) bool {
	if !x.opts.View || !x.opts.AllRevisions && x.opts.StartTime.IsEmpty() {
		return false
	}
	if bytes.Equal(x.viewed, key) || !x.opts.ResumeTS.IsEmpty() && key.Equal(x.start) {
		return false
	}
	x.viewed = append(x.viewed[:0], key...)
	return true
}

// pageFull says whether the page ends before a version of key of the given size
// and sets where the next page begins.
func (x *exporter) pageFull(key keys.Key, size int64) bool {
	overTarget := x.opts.TargetBytes > 0 && x.bytes >= x.opts.TargetBytes
	overMax := x.opts.MaxBytes > 0 && x.bytes+size > x.opts.MaxBytes
	if !overTarget && !overMax {
		return false
	}
	row := keys.RowPrefix(key)
	if !row.Equal(keys.RowPrefix(x.lastKey)) {
		if !x.lastKey.Less(row) {
			row = key // Not a key of ours, whose rows are prefix-free.
		}
		x.res.ResumeKey = row.Clone()
		return true
	}
	if !overMax {
		return false
	}
	x.res.MidRow = true
	x.res.ResumeKey = key.Clone()
	if key.Equal(x.lastKey) {
		x.res.ResumeTS = x.lastTS
	}
	return true
}

// loadRanges keeps the range tombstones of a new position and notes which of
// them are to be exported.
func (x *exporter) loadRanges(hasRange bool) error {
	if !x.it.RangeKeyChanged() {
		return nil
	}
	x.stack = x.stack[:0]
	if !hasRange {
		return nil
	}
	from, to, err := rangeKeyBounds(x.it)
	if err != nil {
		return err
	}
	var within []hlc.Timestamp
	for _, rk := range x.it.RangeKeys() {
		ts, err := decodeTimestampSuffix(rk.Suffix)
		if err != nil {
			return corruptionf("range key: %v", err)
		}
		x.stack = append(x.stack, ts)
		if x.opts.StartTime.Less(ts) && ts.LessEq(x.opts.EndTime) {
			within = append(within, ts)
		}
	}
	if len(within) == 0 || !x.wantTombstones() {
		return nil
	}
	slices.SortFunc(within, func(a, b hlc.Timestamp) int { return b.Compare(a) })
	if !x.opts.AllRevisions {
		within = within[:1]
	}
	// Neighbours that differ only in what is not exported become one, as they
	// would for whoever reads the file.
	if n := len(x.ranges); n > 0 && x.ranges[n-1].span.EndKey.Equal(from) && slices.Equal(x.ranges[n-1].stack, within) {
		x.ranges[n-1].span.EndKey = to.Clone()
		return nil
	}
	x.ranges = append(x.ranges, tombstoneStack{span: keys.Span{Key: from.Clone(), EndKey: to.Clone()}, stack: within})
	return nil
}

// tombstoneStack is a span and the range tombstones over it, newest first.
type tombstoneStack struct {
	span  keys.Span
	stack []hlc.Timestamp
}

// hidden says whether a range tombstone ≤ EndTime hides a version at ts.
func (x *exporter) hidden(ts hlc.Timestamp) bool {
	for _, t := range x.stack {
		if ts.LessEq(t) && t.LessEq(x.opts.EndTime) {
			return true
		}
	}
	return false
}

// checkLocks passes the locks before key (and on it) and fails if one is within
// the export's time.
func (x *exporter) checkLocks(key keys.Key, on bool) error {
	if <-x.locksFound; x.locksErr != nil {
		return x.locksErr
	}
	var found []Lock
	for visited := 0; x.locks.valid; visited++ {
		c := x.locks.key.Compare(key)
		past := c > 0 || (c == 0 && !on)
		if past && (len(found) == 0 || len(found) >= x.opts.MaxLocks || visited > 10*x.opts.MaxLocks) {
			break
		}
		rec, err := x.locks.record()
		if err != nil {
			return err
		}
		if rec.WriteTimestamp.LessEq(x.opts.EndTime) && len(found) < x.opts.MaxLocks {
			found = append(found, rec.asLock(x.locks.key, LockIntent))
		}
		if err := x.locks.advance(); err != nil {
			return err
		}
	}
	if len(found) > 0 {
		return &LockConflictError{Locks: found}
	}
	return nil
}

// finish writes the range tombstones and completes the page.
func (x *exporter) finish() (ExportResult, error) {
	if err := x.sink.drain(); err != nil {
		return ExportResult{}, err
	}
	end := x.end
	if x.res.ResumeKey != nil {
		end = x.res.ResumeKey
	}
	for _, rt := range x.ranges {
		if end.Less(rt.span.EndKey) {
			rt.span.EndKey = end
		}
		if !rt.span.Key.Less(rt.span.EndKey) {
			continue
		}
		for _, ts := range rt.stack {
			x.sink.sum.AddRangeTombstone(rt.span, ts)
			if x.sink.out == nil {
				continue
			}
			if err := x.sink.writer().PutRangeTombstone(rt.span, ts); err != nil {
				return ExportResult{}, err
			}
		}
	}
	x.res.Summary = x.sink.summary()
	x.finishView()
	stats := x.it.Stats()
	x.res.BlockBytes = int64(stats.InternalStats.BlockBytes)
	x.res.Empty = len(x.res.Summary.Indexes) == 0
	n, err := x.sink.finish()
	if err != nil {
		return ExportResult{}, err
	}
	x.res.FileBytes = n
	return x.res, nil
}

// finishView completes the view. A range tombstone within an export that begins
// somewhere hides pairs that were not looked at: what it takes away is not known.
func (x *exporter) finishView() {
	for _, ix := range x.res.Summary.Indexes {
		switch {
		case !x.opts.View:
			ix.ViewUnknown = true
		case !x.opts.StartTime.IsEmpty():
			ix.ViewUnknown = ix.RangeTombstones > 0
		case !x.opts.AllRevisions:
			ix.ViewKVs, ix.View, ix.ViewUnknown = ix.KVs, ix.Fingerprint, ix.Tombstones > 0
		}
	}
}
