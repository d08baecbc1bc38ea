package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// GCKey asks to remove the version of Key at Timestamp and all older ones.
type GCKey struct {
	Key       keys.Key
	Timestamp hlc.Timestamp
}

// GCRange asks to remove the range tombstones ≤ Timestamp from a span.
type GCRange struct {
	Span      keys.Span
	Timestamp hlc.Timestamp
}

// Garbage is a set of removals that no read at or above the threshold notices.
type Garbage struct {
	Keys   []GCKey
	Ranges []GCRange
	Bytes  int64 // of keys and values to be removed
}

// Empty says whether there is nothing to remove.
func (g *Garbage) Empty() bool { return len(g.Keys) == 0 && len(g.Ranges) == 0 }

// FindGarbage lists what may go from [start, end): the versions that no read at
// or above threshold needs. Of each key the newest version ≤ threshold stays,
// unless it is a tombstone or hidden by a range tombstone ≤ threshold; range
// tombstones ≤ threshold go once nothing is left below them. Keys with a lock
// ≤ threshold are left alone. It stops after maxBytes of garbage (0: no limit)
// and returns what remains of the span.
func FindGarbage(ctx context.Context, r Reader, start, end keys.Key, threshold hlc.Timestamp, maxBytes int64) (g Garbage, resume *keys.Span, err error) {
	v := r.pin()
	defer func() {
		if uerr := v.unpin(); err == nil {
			err = uerr
		}
	}()
	defer v.eng.hold.begin()()
	var w historyWalk
	// Blocks of versions above the threshold alone need not be read.
	if err := w.init(ctx, v, start, end, timeFilter(zeroTS, threshold)); err != nil {
		return Garbage{}, nil, err
	}
	defer w.closeInto(&err)

	covered := start // [start, covered) has been looked at
	skipped := false // some garbage stays behind a lock
	var key keys.Key
	var locked, decided, done bool
	finish := func(to keys.Key) {
		if skipped {
			return
		}
		for _, s := range w.ranges {
			if s.Timestamp.LessEq(threshold) {
				g.addRange(s, to)
			}
		}
	}
	for w.next() {
		if w.newKey {
			if maxBytes > 0 && g.Bytes >= maxBytes {
				done = true
				break
			}
			key = w.key.Clone()
			covered = key
			locked = w.locked && w.lock.WriteTimestamp.LessEq(threshold)
			skipped = skipped || locked
			decided = false
		}
		if locked || threshold.Less(w.ts) {
			continue
		}
		if !decided {
			// The newest version ≤ threshold.
			simple, err := splitValue(w.raw)
			if err != nil {
				return Garbage{}, nil, fmt.Errorf("%s@%s: %w", keys.Pretty(key), w.ts, err)
			}
			decided = true
			if len(simple) > 0 && w.hiddenBy(threshold).IsEmpty() {
				continue
			}
		}
		if n := len(g.Keys); n == 0 || !g.Keys[n-1].Key.Equal(key) {
			g.Keys = append(g.Keys, GCKey{Key: key, Timestamp: w.ts})
		}
		g.Bytes += versionBytes(key, w.ts) + int64(len(w.raw))
	}
	if w.err != nil {
		return Garbage{}, nil, w.err
	}
	if done {
		covered = w.key.Clone()
		resume = &keys.Span{Key: covered, EndKey: end.Clone()}
	} else {
		covered = end
	}
	finish(covered)
	return g, resume, nil
}

// addRange adds the part of range tombstone s that lies before to.
func (g *Garbage) addRange(s rangeTombstone, to keys.Key) {
	sp := keys.Span{Key: s.Span.Key, EndKey: s.Span.EndKey}
	if to.Less(sp.EndKey) {
		sp.EndKey = to
	}
	if !sp.Key.Less(sp.EndKey) {
		return
	}
	g.Ranges = append(g.Ranges, GCRange{Span: keys.Span{Key: sp.Key.Clone(), EndKey: sp.EndKey.Clone()}, Timestamp: s.Timestamp})
}

// errGCUnsafe says that a removal would be noticed above the threshold.
var errGCUnsafe = errors.New("garbage collection would remove a visible version")

// MVCCGarbageCollect removes garbage. It checks each removal against what rw
// holds and fails rather than removing what a read at or above threshold could
// see. Removals that were made before are skipped.
func MVCCGarbageCollect(ctx context.Context, rw ReadWriter, g Garbage, threshold hlc.Timestamp, stats *Stats) error {
	b, v := rw.raw(), rw.pin()
	for _, k := range g.Keys {
		if err := ctx.Err(); err != nil {
			return err
		}
		collect := v.collectKey
		if v.eng.rangeKeys.contains(k.Key) {
			collect = v.collectRangedKey
		}
		if err := collect(ctx, b, k, threshold, stats); err != nil {
			return err
		}
	}
	for _, r := range g.Ranges {
		if err := collectRange(ctx, rw, r, threshold, stats); err != nil {
			return err
		}
	}
	return nil
}

// collectKey removes old versions of a key over which there is no range
// tombstone.
func (v *view) collectKey(_ context.Context, b *Batch, k GCKey, threshold hlc.Timestamp, stats *Stats) error {
	if threshold.Less(k.Timestamp) {
		return fmt.Errorf("%w: %s@%s under threshold %s", errGCUnsafe, keys.Pretty(k.Key), k.Timestamp, threshold)
	}
	it, err := v.pointIter()
	if err != nil {
		return err
	}
	lock, found, err := v.lockOn(it, k.Key)
	if err != nil || found && lock.WriteTimestamp.LessEq(threshold) {
		return err
	}
	v.buf = AppendMVCCKey(v.buf[:0], k.Key, threshold)
	newest := true // of those ≤ threshold: what a reader at the threshold sees
	for ok := it.SeekPrefixGE(v.buf); ok; ok = it.Next() {
		version, err := DecodeMVCCKey(it.Key())
		if err != nil {
			return err
		}
		raw, err := it.ValueAndErr()
		if err != nil {
			return markEngineError(err)
		}
		if version.Timestamp.LessEq(k.Timestamp) {
			simple, err := splitValue(raw)
			if err != nil {
				return err
			}
			if newest && len(simple) > 0 {
				return fmt.Errorf("%w: %s under threshold %s", errGCUnsafe, version, threshold)
			}
			if stats != nil {
				stats.subVersion(k.Key, version.Timestamp, raw)
			}
			if err := b.clearVersion(k.Key, version.Timestamp); err != nil {
				return err
			}
		}
		newest = false
	}
	return markEngineError(it.Error())
}

// collectRangedKey is collectKey where range tombstones may be, which count as
// versions.
func (v *view) collectRangedKey(ctx context.Context, b *Batch, k GCKey, threshold hlc.Timestamp, stats *Stats) (err error) {
	var w historyWalk
	if err := w.init(ctx, v, k.Key, k.Key.Next(), nil); err != nil {
		return err
	}
	defer w.closeInto(&err)
	needed := true // the next version ≤ threshold may be what a reader sees
	newest := true
	for w.next() {
		if w.locked && w.lock.WriteTimestamp.LessEq(threshold) {
			return nil
		}
		hidden := w.hiddenBy(threshold)
		simple, err := splitValue(w.raw)
		if err != nil {
			return err
		}
		live := len(simple) > 0
		isNewest := newest
		newest = false
		if threshold.Less(w.ts) {
			continue
		}
		mustStay := needed && live && hidden.IsEmpty()
		needed = false
		if k.Timestamp.Less(w.ts) {
			continue
		}
		if mustStay || threshold.Less(k.Timestamp) {
			return fmt.Errorf("%w: %s@%s under threshold %s", errGCUnsafe, keys.Pretty(k.Key), w.ts, threshold)
		}
		if stats != nil {
			stats.subVersion(k.Key, w.ts, w.raw)
			if isNewest && w.hiddenBy(hlc.MaxTimestamp).IsEmpty() {
				stats.subLive(k.Key, w.raw)
			}
		}
		if err := b.clearVersion(k.Key, w.ts); err != nil {
			return err
		}
	}
	return w.err
}

func collectRange(ctx context.Context, rw ReadWriter, r GCRange, threshold hlc.Timestamp, stats *Stats) (err error) {
	if threshold.Less(r.Timestamp) {
		return fmt.Errorf("%w: range tombstone %s@%s under threshold %s", errGCUnsafe, r.Span, r.Timestamp, threshold)
	}
	b := rw.raw()
	v := rw.pin()
	var w historyWalk
	if err := w.init(ctx, v, r.Span.Key, r.Span.End(), nil); err != nil {
		return err
	}
	defer w.closeInto(&err)
	for w.next() {
		if w.ts.LessEq(r.Timestamp) && !w.hiddenBy(r.Timestamp).IsEmpty() {
			return fmt.Errorf("%w: %s@%s is below range tombstone %s", errGCUnsafe, keys.Pretty(w.key), w.ts, r.Timestamp)
		}
	}
	if w.err != nil {
		return w.err
	}
	for _, rt := range w.ranges {
		if !rt.Timestamp.LessEq(r.Timestamp) {
			continue
		}
		if stats != nil {
			stats.RangeKeys--
			stats.Estimates = true
		}
		if err := b.b.RangeKeyUnset(EncodeMVCCKey(rt.Span.Key, zeroTS), EncodeMVCCKey(rt.Span.EndKey, zeroTS), appendTimestampSuffix(nil, rt.Timestamp), nil); err != nil {
			return err
		}
	}
	return nil
}

// ComputeStats counts what [start, end) holds.
func ComputeStats(ctx context.Context, r Reader, start, end keys.Key) (s Stats, err error) {
	v := r.pin()
	defer func() {
		if uerr := v.unpin(); err == nil {
			err = uerr
		}
	}()
	var w historyWalk
	if err := w.init(ctx, v, start, end, nil); err != nil {
		return Stats{}, err
	}
	defer w.closeInto(&err)
	for w.next() {
		if w.newKey {
			if w.locked {
				s.addIntent(w.key, w.lock.valueLen)
			}
			if w.hiddenBy(hlc.MaxTimestamp).IsEmpty() {
				s.addLive(w.key, w.raw)
			}
		}
		s.addVersion(w.key, w.ts, w.raw)
	}
	s.RangeKeys = int64(len(w.ranges))
	return s, w.err
}

// FindSplitKey returns the row boundary nearest the middle of [start, end) by
// size, or nil if the span has no inner boundary. If the span has several tables,
// the start of one that lies in its middle half is better.
func FindSplitKey(ctx context.Context, r Reader, start, end keys.Key) (split keys.Key, err error) {
	total, err := ComputeStats(ctx, r, start, end)
	if err != nil {
		return nil, err
	}
	v := r.pin()
	defer func() {
		if uerr := v.unpin(); err == nil {
			err = uerr
		}
	}()
	var w historyWalk
	if err := w.init(ctx, v, start, end, nil); err != nil {
		return nil, err
	}
	defer w.closeInto(&err)
	half, seen := total.Total()/2, int64(0)
	var boundary keys.Key // the best start of a table
	var off int64         // how far from the middle it is
	var table uint32
	found := false // split is final
	for w.next() {
		if w.newKey {
			row := keys.RowPrefix(w.key)
			if id, _, ok := keys.DecodeTablePrefix(row); ok && id != table {
				at := keys.TablePrefix(id)
				if d := max(seen-half, half-seen); table != 0 && start.Less(at) && d <= half/2 && (boundary == nil || d < off) {
					boundary, off = at, d
				}
				table = id
			}
			if found && (seen > half+half/2 || boundary != nil && seen-half > off || !spansTables(table, end)) {
				break
			}
			if !found && start.Less(row) && !row.Equal(split) {
				split = row.Clone()
				found = seen >= half
			}
		}
		seen += versionBytes(w.key, w.ts) + int64(len(w.raw))
	}
	if boundary != nil {
		split = boundary
	}
	return split, w.err
}

// spansTables says whether other tables than this one may follow before end.
func spansTables(table uint32, end keys.Key) bool {
	return table != 0 && keys.TableSpan(table).EndKey.Less(end)
}
