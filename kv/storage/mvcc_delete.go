package storage

import (
	"bytes"
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/cockroachkvs"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// DeleteRangeOptions bounds an MVCCDeleteRange.
type DeleteRangeOptions struct {
	WriteOptions
	// MaxKeys ends it after so many deleted keys; 0: no limit.
	MaxKeys int64
	// MaxBatchBytes ends it when the batch has become so large; 0: no limit.
	MaxBatchBytes int
	// ReturnKeys asks for the keys deleted.
	ReturnKeys bool
}

// DeleteRangeResult is the outcome of MVCCDeleteRange.
type DeleteRangeResult struct {
	NumKeys    int64
	Keys       []keys.Key
	ResumeSpan *keys.Span
}

// MVCCDeleteRange writes a point tombstone over each live key of [start, end).
// The errors are those of MVCCPut; the batch may then hold some of the deletes
// and must be dropped.
func MVCCDeleteRange(ctx context.Context, rw ReadWriter, start, end keys.Key, ts hlc.Timestamp, opts DeleteRangeOptions) (DeleteRangeResult, error) {
	const pageKeys, pageBytes = 1024, 1 << 20
	var res DeleteRangeResult
	readTS := ts.Prev() // A version at ts is in the way too.
	reader := opts.Txn
	if opts.Txn != nil {
		readTS = opts.Txn.ReadTimestamp
		// See the keys as they were before these deletes, so that a request that
		// is sent again finds and counts them again.
		c := *opts.Txn
		c.Sequence--
		reader = &c
	}
	for {
		page := ScanOptions{Txn: reader, FailOnMoreRecent: true, MaxKeys: pageKeys, TargetBytes: pageBytes}
		if opts.MaxKeys > 0 {
			page.MaxKeys = min(page.MaxKeys, opts.MaxKeys-res.NumKeys)
		}
		scan, err := MVCCScan(ctx, rw, start, end, readTS, page)
		if err != nil {
			return DeleteRangeResult{}, err
		}
		for _, kv := range scan.KVs {
			if _, err := MVCCDelete(ctx, rw, kv.Key, ts, opts.WriteOptions); err != nil {
				return DeleteRangeResult{}, err
			}
			if opts.ReturnKeys {
				res.Keys = append(res.Keys, kv.Key)
			}
		}
		res.NumKeys += int64(len(scan.KVs))
		if scan.ResumeSpan == nil {
			return res, nil
		}
		if opts.MaxKeys > 0 && res.NumKeys >= opts.MaxKeys || opts.MaxBatchBytes > 0 && rw.raw().Len() >= opts.MaxBatchBytes {
			res.ResumeSpan = scan.ResumeSpan
			return res, nil
		}
		start = scan.ResumeSpan.Key
	}
}

// MVCCDeleteRangeTombstone deletes [start, end) as of ts with one range
// tombstone, whatever the span holds. It refuses spans with locks
// (LockConflictError) and with versions ≥ ts (WriteTooOldError). Live counts of
// stats are not kept: it sets Estimates.
func MVCCDeleteRangeTombstone(ctx context.Context, rw ReadWriter, start, end keys.Key, ts hlc.Timestamp, stats *Stats) error {
	if bytes.Compare(start, end) >= 0 || ts.IsEmpty() {
		return fmt.Errorf("range tombstone over [%s, %s) at %s", keys.Pretty(start), keys.Pretty(end), ts)
	}
	locks, _, err := ScanLocks(ctx, rw, start, end, defaultMaxLocks)
	if err != nil {
		return err
	}
	if len(locks) > 0 {
		return &LockConflictError{Locks: locks}
	}
	newest, at, err := newestVersionSince(ctx, rw, start, end, ts)
	if err != nil {
		return err
	}
	if !newest.IsEmpty() {
		return &WriteTooOldError{Key: at, Timestamp: ts, ActualTimestamp: newest.Next()}
	}
	b := rw.raw()
	b.eng.rangeKeys.add(start, end)
	if stats != nil {
		stats.RangeKeys++
		stats.Estimates = true
	}
	return b.b.RangeKeySet(EncodeMVCCKey(start, zeroTS), EncodeMVCCKey(end, zeroTS), appendTimestampSuffix(nil, ts), nil, nil)
}

// timeFilter returns the block filter for versions in [min, max].
func timeFilter(min, max hlc.Timestamp) []pebble.BlockPropertyFilter {
	// Pebble appends one of its own; the spare capacity saves it an allocation.
	f := make([]pebble.BlockPropertyFilter, 0, 2)
	return append(f, cockroachkvs.NewMVCCTimeIntervalFilter(uint64(min.WallTime), uint64(max.WallTime)))
}

// newestVersionSince returns the newest version or range tombstone ≥ ts in
// [start, end), zero if there is none. It reads only blocks that may hold one.
func newestVersionSince(ctx context.Context, r Reader, start, end keys.Key, ts hlc.Timestamp) (newest hlc.Timestamp, at keys.Key, err error) {
	v := r.pin()
	defer func() {
		if uerr := v.unpin(); err == nil {
			err = uerr
		}
	}()
	it, err := v.open(&pebble.IterOptions{
		KeyTypes:        pebble.IterKeyTypePointsAndRanges,
		LowerBound:      EncodeMVCCKey(start, zeroTS),
		UpperBound:      EncodeMVCCKey(end, zeroTS),
		PointKeyFilters: timeFilter(ts, hlc.MaxTimestamp),
	})
	if err != nil {
		return hlc.Timestamp{}, nil, err
	}
	defer func() {
		if cerr := it.Close(); err == nil {
			err = markEngineError(cerr)
		}
	}()
	visited := 0
	for ok := it.First(); ok; {
		if visited++; visited%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return hlc.Timestamp{}, nil, err
			}
		}
		hasPoint, hasRange := it.HasPointAndRange()
		if hasRange && it.RangeKeyChanged() {
			rt, err := newestRangeTombstone(it.RangeKeys(), hlc.MaxTimestamp)
			if err != nil {
				return hlc.Timestamp{}, nil, err
			}
			if ts.LessEq(rt) && newest.Forward(rt) {
				from, _, err := rangeKeyBounds(it)
				if err != nil {
					return hlc.Timestamp{}, nil, err
				}
				at = from.Clone()
			}
		}
		if !hasPoint {
			ok = it.Next() // To the point at the same key, if there is one.
			continue
		}
		key, suffix, err := splitEngineKey(it.Key())
		if err != nil {
			return hlc.Timestamp{}, nil, err
		}
		if len(suffix) == 0 || len(suffix) == suffixLenLock {
			ok = it.Next()
			continue
		}
		t, err := decodeTimestampSuffix(suffix)
		if err != nil {
			return hlc.Timestamp{}, nil, corruptionf("%x: %v", it.Key(), err)
		}
		if ts.LessEq(t) && newest.Forward(t) {
			at = key.Clone()
		}
		ok = it.NextPrefix()
	}
	return newest, at, markEngineError(it.Error())
}
