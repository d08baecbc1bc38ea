package storage

import (
	"bytes"
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// rangeTombstone is a range key as stored: perhaps a fragment of what was
// written.
type rangeTombstone struct {
	Span      keys.Span
	Timestamp hlc.Timestamp
}

// historyWalk visits every version of every key in a span, newest first, with
// the range tombstones over it and the lock on it.
type historyWalk struct {
	ctx   context.Context
	it    *pebble.Iterator
	locks lockCursor

	key      keys.Key // without version; own memory
	newKey   bool     // the first version of key that is seen
	ts       hlc.Timestamp
	raw      []byte // valid until next
	locked   bool   // key has a lock
	lock     lockRecord
	stack    []hlc.Timestamp  // range tombstones over the position
	ranges   []rangeTombstone // all range tombstones met, cut to the span
	err      error
	started  bool
	visited  int
	spanFrom keys.Key
	spanTo   keys.Key
}

// init opens the walk over [start, end). filters may hide versions outside a
// time interval, never range tombstones or locks.
func (w *historyWalk) init(ctx context.Context, v *view, start, end keys.Key, filters []pebble.BlockPropertyFilter) error {
	w.ctx, w.spanFrom, w.spanTo = ctx, start, end
	if err := w.locks.init(v, start, end, false, nil); err != nil {
		return err
	}
	var err error
	w.it, err = v.open(&pebble.IterOptions{
		KeyTypes:        pebble.IterKeyTypePointsAndRanges,
		LowerBound:      EncodeMVCCKey(start, zeroTS),
		UpperBound:      EncodeMVCCKey(end, zeroTS),
		PointKeyFilters: filters,
	})
	return err
}

func (w *historyWalk) closeInto(err *error) {
	if w.it != nil {
		if cerr := w.it.Close(); *err == nil {
			*err = markEngineError(cerr)
		}
	}
}

// next moves to the next version; false at the end or on error (w.err).
func (w *historyWalk) next() bool {
	for {
		ok := false
		if !w.started {
			w.started = true
			ok = w.it.First()
		} else {
			ok = w.it.Next()
		}
		if !ok {
			w.err = markEngineError(w.it.Error())
			return false
		}
		if w.visited++; w.visited%1024 == 0 {
			if w.err = w.ctx.Err(); w.err != nil {
				return false
			}
		}
		hasPoint, hasRange := w.it.HasPointAndRange()
		if w.it.RangeKeyChanged() {
			if w.err = w.loadRanges(hasRange); w.err != nil {
				return false
			}
		}
		if !hasPoint {
			continue
		}
		key, suffix, err := splitEngineKey(w.it.Key())
		if err != nil {
			w.err = err
			return false
		}
		if len(suffix) == 0 || len(suffix) == suffixLenLock {
			continue
		}
		if w.ts, err = decodeTimestampSuffix(suffix); err != nil {
			w.err = corruptionf("engine key %x: %v", w.it.Key(), err)
			return false
		}
		w.newKey = !bytes.Equal(key, w.key) || w.key == nil
		if w.newKey {
			w.key = append(w.key[:0], key...)
			if w.err = w.moveLocks(); w.err != nil {
				return false
			}
		}
		if w.raw, err = w.it.ValueAndErr(); err != nil {
			w.err = markEngineError(err)
			return false
		}
		return true
	}
}

// moveLocks finds the lock on the present key.
func (w *historyWalk) moveLocks() error {
	for w.locks.valid && w.locks.key.Less(w.key) {
		if err := w.locks.advance(); err != nil {
			return err
		}
	}
	w.locked = w.locks.valid && w.locks.key.Equal(w.key)
	if !w.locked {
		return nil
	}
	var err error
	w.lock, err = w.locks.record()
	return err
}

// loadRanges reads the range tombstones of a new position.
func (w *historyWalk) loadRanges(hasRange bool) error {
	w.stack = w.stack[:0]
	if !hasRange {
		return nil
	}
	from, to, err := rangeKeyBounds(w.it)
	if err != nil {
		return err
	}
	for _, rk := range w.it.RangeKeys() {
		ts, err := decodeTimestampSuffix(rk.Suffix)
		if err != nil {
			return corruptionf("range key: %v", err)
		}
		w.stack = append(w.stack, ts)
		w.ranges = append(w.ranges, rangeTombstone{Span: keys.Span{Key: from.Clone(), EndKey: to.Clone()}, Timestamp: ts})
	}
	return nil
}

// hiddenBy returns the newest range tombstone over the present version that is
// ≤ limit; zero if there is none.
func (w *historyWalk) hiddenBy(limit hlc.Timestamp) hlc.Timestamp {
	var newest hlc.Timestamp
	for _, t := range w.stack {
		if w.ts.LessEq(t) && t.LessEq(limit) {
			newest.Forward(t)
		}
	}
	return newest
}
