package storage

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// MVCCRefresh looks whether a read of span at from would have had the same
// result at to. It returns a key that somebody other than txn wrote in (from,
// to], committed or not, or nil if there is none. Only blocks that may hold such
// a version are read.
func MVCCRefresh(ctx context.Context, r Reader, span keys.Span, txn TxnID, from, to hlc.Timestamp) (changed keys.Key, err error) {
	v := r.pin()
	defer func() {
		if uerr := v.unpin(); err == nil {
			err = uerr
		}
	}()
	point, err := v.pointIter()
	if err != nil {
		return nil, err
	}
	if len(span.EndKey) == 0 {
		return v.refreshKey(point, span.Key, txn, from, to)
	}
	var c lockCursor
	if err := c.init(v, span.Key, span.EndKey, false, nil); err != nil {
		return nil, err
	}
	for visited := 1; c.valid; visited++ {
		if visited%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if c.id != txn {
			lock, err := c.record()
			if err != nil {
				return nil, err
			}
			if lock.WriteTimestamp.LessEq(to) {
				return c.key.Clone(), nil
			}
		}
		if err := c.advance(); err != nil {
			return nil, err
		}
	}
	return v.refreshVersions(ctx, point, span, txn, from, to)
}

// refreshKey is MVCCRefresh of one key.
func (v *view) refreshKey(point *pebble.Iterator, key keys.Key, txn TxnID, from, to hlc.Timestamp) (keys.Key, error) {
	lock, found, err := v.lockOn(point, key)
	if err != nil {
		return nil, err
	}
	limit := to
	if found && lock.WriteTimestamp.LessEq(to) {
		if lock.ID != txn {
			return key.Clone(), nil
		}
		limit = lock.WriteTimestamp.Prev() // What lies below the own write.
	}
	ver, err := v.versionAt(point, key, limit, limit)
	if err != nil {
		return nil, err
	}
	if ver.found() && from.Less(ver.ts) {
		return key.Clone(), nil
	}
	return nil, nil
}

// refreshVersions looks for a version or range tombstone of span in (from, to].
func (v *view) refreshVersions(ctx context.Context, point *pebble.Iterator, span keys.Span, txn TxnID, from, to hlc.Timestamp) (_ keys.Key, err error) {
	it, err := v.open(&pebble.IterOptions{
		KeyTypes:        pebble.IterKeyTypePointsAndRanges,
		LowerBound:      EncodeMVCCKey(span.Key, zeroTS),
		UpperBound:      EncodeMVCCKey(span.EndKey, zeroTS),
		PointKeyFilters: timeFilter(from, to),
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := it.Close(); err == nil {
			err = markEngineError(cerr)
		}
	}()
	visited := 0
	for ok := it.First(); ok; {
		if visited++; visited%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		hasPoint, hasRange := it.HasPointAndRange()
		if hasRange && it.RangeKeyChanged() {
			rt, err := newestRangeTombstone(it.RangeKeys(), to)
			if err != nil {
				return nil, err
			}
			if from.Less(rt) {
				start, _, err := rangeKeyBounds(it)
				if err != nil {
					return nil, err
				}
				return start.Clone(), nil
			}
		}
		if !hasPoint {
			ok = it.Next()
			continue
		}
		key, suffix, err := splitEngineKey(it.Key())
		if err != nil {
			return nil, err
		}
		if len(suffix) == 0 || len(suffix) == suffixLenLock {
			ok = it.Next()
			continue
		}
		ts, err := decodeTimestampSuffix(suffix)
		if err != nil {
			return nil, corruptionf("%x: %v", it.Key(), err)
		}
		switch {
		case to.Less(ts):
			ok = it.Next() // An older version may be in the interval.
			continue
		case from.Less(ts):
			// Perhaps it is the transaction's own: then what is below it counts.
			changed, err := v.refreshKey(point, key, txn, from, to)
			if err != nil || changed != nil {
				return changed, err
			}
		}
		ok = it.NextPrefix()
	}
	return nil, markEngineError(it.Error())
}
