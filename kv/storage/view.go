package storage

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// view holds the iterators of one consistent state of the store. The first
// iterator fixes the state; the others are clones of it.
//
// An owned view (of a ReadOnly or Batch) keeps its iterators between calls;
// that of an Engine or Snapshot gives them back at unpin.
type view struct {
	eng   *Engine
	src   pebble.Reader
	owned bool
	batch bool

	point  *pebble.Iterator // all keys, points only: for prefix seeks
	locks  *pebble.Iterator // the lock table
	scan   *pebble.Iterator // points only, bounds set for each scan
	ranged *pebble.Iterator // points and range keys, bounds set for each scan

	lower, upper []byte // bounds of scan or ranged
	buf          []byte // an engine key under construction
}

var viewPool = sync.Pool{New: func() any { return &view{} }}

func newView(e *Engine, src pebble.Reader) *view {
	v := viewPool.Get().(*view)
	v.eng, v.src, v.owned, v.batch = e, src, false, false
	return v
}

func newOwnedView(e *Engine, src pebble.Reader) *view {
	v := newView(e, src)
	v.owned = true
	_, v.batch = src.(*pebble.Batch)
	return v
}

// isEngine says that the state is not fixed before the first iterator is made.
func (v *view) isEngine() bool { return !v.owned && v.src == pebble.Reader(v.eng.db) }

// unpin ends an MVCC function's use of v.
func (v *view) unpin() error {
	if v.owned {
		return nil
	}
	return v.release()
}

// release ends all use of v.
func (v *view) release() error {
	err := v.close()
	v.eng, v.src = nil, nil
	viewPool.Put(v)
	return err
}

// close closes the iterators; v may be used again and then shows a new state.
func (v *view) close() error {
	var first error
	for _, it := range []**pebble.Iterator{&v.point, &v.locks, &v.scan, &v.ranged} {
		if *it == nil {
			continue
		}
		if err := (*it).Close(); err != nil && first == nil {
			first = err
		}
		*it = nil
	}
	return markEngineError(first)
}

// base returns some open iterator, or nil.
func (v *view) base() *pebble.Iterator {
	for _, it := range []*pebble.Iterator{v.point, v.locks, v.scan, v.ranged} {
		if it != nil {
			return it
		}
	}
	return nil
}

// open returns a new iterator over the state of v.
func (v *view) open(o *pebble.IterOptions) (*pebble.Iterator, error) {
	var it *pebble.Iterator
	var err error
	if b := v.base(); b != nil {
		it, err = b.Clone(pebble.CloneOptions{IterOptions: o, RefreshBatchView: v.batch})
	} else {
		it, err = v.src.NewIter(o)
	}
	return it, markEngineError(err)
}

var pointOptions = pebble.IterOptions{KeyTypes: pebble.IterKeyTypePointsOnly}

var lockOptions = pebble.IterOptions{
	KeyTypes:   pebble.IterKeyTypePointsOnly,
	LowerBound: append(append([]byte(nil), keys.LocalLockPrefix...), sentinel),
	UpperBound: append(append([]byte(nil), keys.LocalLockPrefix.PrefixEnd()...), sentinel),
}

// refresh makes writes to the batch since the last use visible.
func (v *view) refresh() {
	if v.point != nil {
		v.point.SetOptions(&pointOptions)
	}
	if v.locks != nil {
		v.locks.SetOptions(&lockOptions)
	}
	// scan and ranged get their options anew for each scan.
}

// pointIter returns the iterator for prefix seeks on points.
func (v *view) pointIter() (*pebble.Iterator, error) {
	if v.point == nil {
		it, err := v.open(&pointOptions)
		if err != nil {
			return nil, err
		}
		v.point = it
	}
	return v.point, nil
}

// lockIter returns the iterator over the lock table.
func (v *view) lockIter() (*pebble.Iterator, error) {
	if v.locks == nil {
		it, err := v.open(&lockOptions)
		if err != nil {
			return nil, err
		}
		v.locks = it
	}
	return v.locks, nil
}

// dataIter returns an iterator over the engine keys of [start, end), over range
// keys too if the span may have any. A state must have been fixed before, by
// pointIter or lockIter.
func (v *view) dataIter(start, end keys.Key) (it *pebble.Iterator, ranged bool, err error) {
	v.lower = AppendMVCCKey(v.lower[:0], start, zeroTS)
	v.upper = AppendMVCCKey(v.upper[:0], end, zeroTS)
	// The state is fixed already, and spans are added before range keys become
	// visible: if there is none now, the state has none.
	slot, o := &v.scan, pebble.IterOptions{KeyTypes: pebble.IterKeyTypePointsOnly}
	if v.eng.rangeKeys.overlap(start, end) {
		ranged = true
		slot, o = &v.ranged, pebble.IterOptions{KeyTypes: pebble.IterKeyTypePointsAndRanges}
	}
	o.LowerBound, o.UpperBound = v.lower, v.upper
	if *slot != nil {
		(*slot).SetOptions(&o)
		return *slot, ranged, nil
	}
	*slot, err = v.open(&o)
	return *slot, ranged, err
}

// getPlain and scanPlain read unversioned keys from the state of v.
func (v *view) getPlain(key keys.Key) ([]byte, bool, error) {
	it, err := v.pointIter()
	if err != nil {
		return nil, false, err
	}
	v.buf = AppendMVCCKey(v.buf[:0], key, zeroTS)
	if !it.SeekPrefixGE(v.buf) || !bytes.Equal(it.Key(), v.buf) {
		return nil, false, markEngineError(it.Error())
	}
	val, err := it.ValueAndErr()
	if err != nil {
		return nil, false, markEngineError(err)
	}
	return append([]byte{}, val...), true, nil
}

func (v *view) scanPlain(start, end keys.Key, fn func(keys.Key, []byte) (bool, error)) error {
	it, err := v.open(&pebble.IterOptions{
		LowerBound: EncodeMVCCKey(start, zeroTS),
		UpperBound: EncodeMVCCKey(end, zeroTS),
	})
	if err != nil {
		return err
	}
	return visitPlain(it, fn)
}

// rangeKeySpans remembers where range keys may be, so that reads elsewhere need
// not look for them. It only grows while the store is open.
//
// Invariant: a span is added before range keys in it become visible. Hence a
// reader that fixes its state first and asks then is never told "none" wrongly.
type rangeKeySpans struct {
	mu    sync.Mutex
	spans atomic.Pointer[[]keys.Span] // sorted, not overlapping; replaced, never changed
}

const maxRangeKeySpans = 4096

// add records that [start, end) may have range keys.
func (s *rangeKeySpans) add(start, end keys.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var old []keys.Span
	if p := s.spans.Load(); p != nil {
		old = *p
	}
	if i := firstEndAfter(old, start); i < len(old) && old[i].Key.Compare(start) <= 0 && end.Compare(old[i].EndKey) <= 0 {
		return
	}
	merged := make([]keys.Span, 0, len(old)+1)
	cur := keys.Span{Key: start.Clone(), EndKey: end.Clone()}
	placed := false
	for _, o := range old {
		switch {
		case o.EndKey.Compare(cur.Key) < 0:
			merged = append(merged, o)
		case cur.EndKey.Compare(o.Key) < 0:
			if !placed {
				merged, placed = append(merged, cur), true
			}
			merged = append(merged, o)
		default: // Touching or overlapping: grow.
			if o.Key.Less(cur.Key) {
				cur.Key = o.Key
			}
			if cur.EndKey.Less(o.EndKey) {
				cur.EndKey = o.EndKey
			}
		}
	}
	if !placed {
		merged = append(merged, cur)
	}
	if len(merged) > maxRangeKeySpans {
		// Coarser, still a superset.
		half := merged[:0:0]
		for i := 0; i < len(merged); i += 2 {
			j := min(i+1, len(merged)-1)
			half = append(half, keys.Span{Key: merged[i].Key, EndKey: merged[j].EndKey})
		}
		merged = half
	}
	s.spans.Store(&merged)
}

// overlap says whether [start, end) may have range keys.
func (s *rangeKeySpans) overlap(start, end keys.Key) bool {
	p := s.spans.Load()
	if p == nil {
		return false
	}
	i := firstEndAfter(*p, start)
	return i < len(*p) && (*p)[i].Key.Less(end)
}

// contains says whether key may be covered by range keys.
func (s *rangeKeySpans) contains(key keys.Key) bool {
	p := s.spans.Load()
	if p == nil {
		return false
	}
	i := firstEndAfter(*p, key)
	return i < len(*p) && (*p)[i].Key.Compare(key) <= 0
}

// firstEndAfter returns the index of the first span that ends after key.
func firstEndAfter(spans []keys.Span, key keys.Key) int {
	i, _ := slices.BinarySearchFunc(spans, key, func(s keys.Span, k keys.Key) int {
		if s.EndKey.Compare(k) <= 0 {
			return -1
		}
		return 1
	})
	return i
}

// loadRangeKeySpans finds the range keys of a store just opened.
func (e *Engine) loadRangeKeySpans() (err error) {
	it, err := e.db.NewIter(&pebble.IterOptions{KeyTypes: pebble.IterKeyTypeRangesOnly})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := it.Close(); err == nil {
			err = cerr
		}
	}()
	for ok := it.First(); ok; ok = it.Next() {
		start, end, err := rangeKeyBounds(it)
		if err != nil {
			return err
		}
		e.rangeKeys.add(start, end)
	}
	return it.Error()
}

// rangeKeyBounds returns the keys between which the range keys at it stand.
func rangeKeyBounds(it *pebble.Iterator) (start, end keys.Key, err error) {
	s, e := it.RangeBounds()
	start, ssuf, err := splitEngineKey(s)
	if err != nil {
		return nil, nil, err
	}
	end, esuf, err := splitEngineKey(e)
	if err != nil {
		return nil, nil, err
	}
	if len(ssuf) != 0 || len(esuf) != 0 {
		return nil, nil, corruptionf("range key bounds [%x, %x) have versions", s, e)
	}
	return start, end, nil
}
