package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/zeebo/xxh3"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// SpanSet names all that a range has in a store: what a snapshot of the range
// copies, what a received one replaces, and what goes when its replica goes.
type SpanSet struct {
	// User is the range's part of the keyspace: versions, plain keys, range
	// tombstones, and the locks on keys of the span. Local keys are not meant,
	// also where the span begins before them. Both ends empty: nothing.
	User keys.Span
	// Local are single local keys (no EndKey) and spans of local keys. A single
	// one means the plain key alone; a span means everything in it, locks on its
	// keys included.
	Local []keys.Span
}

// SpanCounts says how much a SpanSet holds.
type SpanCounts struct {
	Points    int64 // versions and plain keys
	Locks     int64
	RangeKeys int64 // range tombstones, each fragment of each
	Bytes     int64 // engine keys, bounds, suffixes and values of them all
}

// engineSpan is a part of a SpanSet as the engine sorts it: the engine keys of
// [start, end), both without version.
type engineSpan struct {
	start, end []byte
	single     bool // one plain key
	locks      bool // a part of the lock table
}

// ranged says that there may be range keys.
func (s *engineSpan) ranged() bool { return !s.single && !s.locks }

func (s *engineSpan) contains(engineKey []byte) bool {
	return compareEngineKeys(s.start, engineKey) <= 0 && compareEngineKeys(engineKey, s.end) < 0
}

// maxLocalSpans bounds what the head of a stream may name.
const maxLocalSpans = 1024

// engineSpans returns where the content of s is, in the engine's order and
// without overlap. It is the one place that knows.
func (s SpanSet) engineSpans() ([]engineSpan, error) {
	if len(s.Local) > maxLocalSpans {
		return nil, fmt.Errorf("a range with %d spans of local keys", len(s.Local))
	}
	var out []engineSpan
	add := func(start, end keys.Key) {
		out = append(out,
			engineSpan{start: EncodeMVCCKey(start, zeroTS), end: EncodeMVCCKey(end, zeroTS)},
			engineSpan{start: appendLockPrefix(nil, start), end: appendLockPrefix(nil, end), locks: true})
	}
	for _, l := range s.Local {
		if !l.Key.IsLocal() || keys.LocalLockPrefix.Less(l.End()) || l.Key.Compare(l.End()) >= 0 {
			return nil, fmt.Errorf("%s is no span of local keys", l)
		}
		if len(l.EndKey) == 0 {
			out = append(out, engineSpan{start: EncodeMVCCKey(l.Key, zeroTS), end: EncodeMVCCKey(l.End(), zeroTS), single: true})
			continue
		}
		add(l.Key, l.EndKey)
	}
	if u := s.User; len(u.Key) > 0 || len(u.EndKey) > 0 {
		if u.Key.Less(keys.LocalMax) {
			u.Key = keys.LocalMax
		}
		if u.Key.Compare(u.EndKey) >= 0 {
			return nil, fmt.Errorf("[%s, %s) is no span of a range", keys.Pretty(s.User.Key), keys.Pretty(s.User.EndKey))
		}
		add(u.Key, u.EndKey)
	}
	slices.SortFunc(out, func(a, b engineSpan) int { return compareEngineKeys(a.start, b.start) })
	for i := 1; i < len(out); i++ {
		if compareEngineKeys(out[i-1].end, out[i].start) > 0 {
			return nil, fmt.Errorf("the spans of a range overlap at %x", out[i].start)
		}
	}
	return out, nil
}

// SpansSnapshot is the content of a SpanSet at one moment. It is not safe for
// concurrent use and must be closed: until then the store keeps what it shows.
type SpansSnapshot struct {
	set   SpanSet
	spans []engineSpan
	snap  *pebble.Snapshot
}

// OpenSpans pins the content of a SpanSet as it is now.
func (e *Engine) OpenSpans(set SpanSet) (*SpansSnapshot, error) {
	spans, err := set.engineSpans()
	if err != nil {
		return nil, err
	}
	return &SpansSnapshot{set: set, spans: spans, snap: e.db.NewSnapshot()}, nil
}

// Close releases the snapshot. It may be called again.
func (s *SpansSnapshot) Close() error {
	if s.snap == nil {
		return nil
	}
	snap := s.snap
	s.snap = nil
	return markEngineError(snap.Close())
}

// Checksum sums up the content: equal for equal content, whatever files,
// fragments and tombstones it stands in. A stream of WriteTo ends with it.
func (s *SpansSnapshot) Checksum(ctx context.Context) ([16]byte, SpanCounts, error) {
	c := newSpanContent(io.Discard)
	if err := s.visit(ctx, c); err != nil {
		return [16]byte{}, SpanCounts{}, fmt.Errorf("checksum of the range at %s: %w", keys.Pretty(s.set.User.Key), err)
	}
	return c.checksum(), c.counts, nil
}

// ChecksumSpans is Checksum of the present content.
func (e *Engine) ChecksumSpans(ctx context.Context, set SpanSet) (sum [16]byte, counts SpanCounts, err error) {
	s, err := e.OpenSpans(set)
	if err != nil {
		return sum, counts, err
	}
	defer func() {
		if cerr := s.Close(); err == nil {
			err = cerr
		}
	}()
	return s.Checksum(ctx)
}

// visit passes the content to c in order.
func (s *SpansSnapshot) visit(ctx context.Context, c *spanContent) error {
	if s.snap == nil {
		return fmt.Errorf("the snapshot is closed")
	}
	for i := range s.spans {
		if err := visitSpan(ctx, s.snap, &s.spans[i], c); err != nil {
			return err
		}
	}
	return nil
}

func visitSpan(ctx context.Context, r pebble.Reader, span *engineSpan, c *spanContent) (err error) {
	o := &pebble.IterOptions{KeyTypes: pebble.IterKeyTypePointsOnly, LowerBound: span.start, UpperBound: span.end}
	if span.ranged() {
		o.KeyTypes = pebble.IterKeyTypePointsAndRanges
	}
	it, err := r.NewIter(o)
	if err != nil {
		return markEngineError(err)
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
		if hasRange && it.RangeKeyChanged() {
			start, end := it.RangeBounds()
			for _, rk := range it.RangeKeys() {
				if err := c.rangeKey(start, end, rk.Suffix, rk.Value); err != nil {
					return err
				}
			}
		}
		if !hasPoint || span.single && !bytes.Equal(it.Key(), span.start) {
			continue
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return markEngineError(err)
		}
		if err := c.point(it.Key(), v, span.locks); err != nil {
			return err
		}
	}
	return markEngineError(it.Error())
}

// spanContent writes the content of spans as a sequence of entries, and sums
// them up.
//
//	01 key value
//	02 start end suffix value
//
// Each part is a byte string: uvarint length, bytes.
type spanContent struct {
	w      io.Writer
	hash   *xxh3.Hasher
	buf    []byte
	counts SpanCounts
}

const (
	entryPoint    = 1
	entryRangeKey = 2
)

func newSpanContent(w io.Writer) *spanContent { return &spanContent{w: w, hash: xxh3.New()} }

func (c *spanContent) checksum() [16]byte { return c.hash.Sum128().Bytes() }

func (c *spanContent) point(key, value []byte, lock bool) error {
	c.counts.addPoint(key, value, lock)
	c.buf = appendBytes(append(c.buf[:0], entryPoint), key)
	return c.write(value)
}

func (c *spanContent) rangeKey(start, end, suffix, value []byte) error {
	c.counts.addRangeKey(start, end, suffix, value)
	c.buf = appendBytes(append(c.buf[:0], entryRangeKey), start)
	c.buf = appendBytes(c.buf, end)
	c.buf = appendBytes(c.buf, suffix)
	return c.write(value)
}

// write ends the entry in buf with its value.
func (c *spanContent) write(value []byte) error {
	c.buf = binary.AppendUvarint(c.buf, uint64(len(value)))
	for _, b := range [2][]byte{c.buf, value} {
		_, _ = c.hash.Write(b)
		if _, err := c.w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func (n *SpanCounts) addPoint(key, value []byte, lock bool) {
	if lock {
		n.Locks++
	} else {
		n.Points++
	}
	n.Bytes += int64(len(key) + len(value))
}

func (n *SpanCounts) addRangeKey(start, end, suffix, value []byte) {
	n.RangeKeys++
	n.Bytes += int64(len(start) + len(end) + len(suffix) + len(value))
}

// ClearSpans removes all that a SpanSet holds when the batch is committed,
// whatever its size in a few operations.
func (b *Batch) ClearSpans(set SpanSet) error {
	spans, err := set.engineSpans()
	if err != nil {
		return err
	}
	for i := range spans {
		s := &spans[i]
		if s.single {
			if err := b.b.Delete(s.start, nil); err != nil {
				return err
			}
			continue
		}
		if s.ranged() {
			if err := b.b.RangeKeyDelete(s.start, s.end, nil); err != nil {
				return err
			}
		}
		if s.locks {
			if err := b.noteLocksIn(s.start, s.end); err != nil {
				return err
			}
		}
		if err := b.b.DeleteRange(s.start, s.end, nil); err != nil {
			return err
		}
	}
	return nil
}

// noteLocksIn notes that the locks in [start, end) of the lock table, those that
// the batch put included, are about to be removed by one operation. A batch that
// cannot be read notes nothing: the filter counts too many then, which is legal.
func (b *Batch) noteLocksIn(start, end []byte) error {
	if b.v == nil {
		return nil
	}
	return visitLockSlots(b.b, start, end, func(slot uint32) { b.unlocked = append(b.unlocked, slot) })
}

// visitLockSlots calls fn with the filter slot of each lock in [start, end).
func visitLockSlots(r pebble.Reader, start, end []byte, fn func(slot uint32)) (err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		return markEngineError(err)
	}
	defer func() {
		if cerr := it.Close(); err == nil {
			err = markEngineError(cerr)
		}
	}()
	for ok := it.First(); ok; ok = it.Next() {
		key, _, _, err := decodeLockKey(it.Key())
		if err != nil {
			return err
		}
		fn(lockSlot(key))
	}
	return markEngineError(it.Error())
}
