package kvserver

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// latches keeps requests that touch the same keys from being evaluated at the
// same time. They are held for one evaluation, not for a transaction; that is
// what locks are for.
//
// Only writers take latches. A reader enters its span into the timestamp cache
// and then waits until no overlapping write at or below its timestamp is under
// way. A writer takes its latches and then looks into the timestamp cache. So of
// two that meet, either the reader sees the latch and waits, or the writer sees
// the read and moves above it; a reader holds nothing and a long scan stops
// nobody.
//
// The list of latches is short (one per request being evaluated) and each has a
// bounding span, so a walk over it beats a tree.
type latches struct {
	n  atomic.Int32 // length of the list; a reader looks no further if it is zero
	mu struct {
		sync.Mutex
		list []*latch
	}
}

// latch is what one request holds.
type latch struct {
	spans []keys.Span
	lo    keys.Key // bounds of spans
	hi    keys.Key // exclusive
	// ts is the lowest timestamp at which the holder may change something;
	// readers below it need not wait. Zero stops all readers.
	ts hlc.Timestamp
	// readersPass: the holder changes nothing that a reader could see.
	readersPass bool
	// inline: spans has the locks that the end of a transaction resolves.
	inline bool
	// kept: the request is over, but what it holds has to be held on.
	kept bool
	done chan struct{} // made by the first who waits; closed at release
}

// acquire waits until no earlier latch overlaps spans, and holds them until
// release. Requests that overlap get their turn in order of arrival.
func (l *latches) acquire(ctx context.Context, la *latch) error {
	la.bound()
	l.mu.Lock()
	// Enter before waiting: later requests queue behind this one.
	l.mu.list = append(l.mu.list, la)
	l.n.Store(int32(len(l.mu.list)))
	for {
		var wait chan struct{}
		for _, o := range l.mu.list {
			if o == la {
				break
			}
			if o.overlaps(la) {
				if o.done == nil {
					o.done = make(chan struct{})
				}
				wait = o.done
				break
			}
		}
		if wait == nil {
			l.mu.Unlock()
			return nil
		}
		l.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			l.release(la)
			return ctx.Err()
		}
		l.mu.Lock()
	}
}

// keep lets la be held after the request is over: nothing of it belongs to the
// client any more.
func (l *latches) keep(la *latch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	la.kept = true
	la.spans = cloneSpans(la.spans)
	la.bound()
}

// release gives la back and wakes those who wait for it.
func (l *latches) release(la *latch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.mu.list
	for i, o := range list {
		if o == la {
			copy(list[i:], list[i+1:])
			list[len(list)-1] = nil
			l.mu.list = list[:len(list)-1]
			break
		}
	}
	l.n.Store(int32(len(l.mu.list)))
	if la.done != nil {
		close(la.done)
	}
}

// waitForWriters returns when no write to span at or below ts, of those that
// were under way at the call, is still being evaluated.
func (l *latches) waitForWriters(ctx context.Context, span keys.Span, ts hlc.Timestamp) error {
	for l.n.Load() != 0 {
		var wait chan struct{}
		l.mu.Lock()
		for _, o := range l.mu.list {
			if !o.readersPass && o.ts.LessEq(ts) && o.overlapsSpan(span) {
				if o.done == nil {
					o.done = make(chan struct{})
				}
				wait = o.done
				break
			}
		}
		l.mu.Unlock()
		if wait == nil {
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (la *latch) bound() {
	for i, s := range la.spans {
		if i == 0 || s.Key.Less(la.lo) {
			la.lo = s.Key
		}
	}
	// hi is exclusive; the end of a point is the point with a zero byte, which
	// endLess compares without making it.
	var hi keys.Span
	for i, s := range la.spans {
		if i == 0 || endLess(hi, s) {
			hi = s
		}
	}
	la.hi = hi.End()
}

// endLess says whether the end of a is before that of b.
func endLess(a, b keys.Span) bool {
	switch {
	case len(a.EndKey) > 0 && len(b.EndKey) > 0:
		return a.EndKey.Less(b.EndKey)
	case len(a.EndKey) > 0: // b ends directly after b.Key
		return a.EndKey.Compare(b.Key) <= 0
	case len(b.EndKey) > 0:
		return a.Key.Less(b.EndKey) && !a.Key.Next().Equal(b.EndKey)
	}
	return a.Key.Less(b.Key)
}

func (la *latch) overlaps(o *latch) bool {
	if la.hi.Compare(o.lo) <= 0 || o.hi.Compare(la.lo) <= 0 {
		return false
	}
	small, large := la, o
	if len(small.spans) > len(large.spans) {
		small, large = large, small
	}
	for _, s := range small.spans {
		if large.overlapsSpan(s) {
			return true
		}
	}
	return false
}

func (la *latch) overlapsSpan(s keys.Span) bool {
	if s.Key.Compare(la.hi) >= 0 {
		return false
	}
	for _, m := range la.spans {
		if spansOverlap(m, s) {
			return true
		}
	}
	return false
}

// spansOverlap is Span.Overlaps without building the end of a point.
func spansOverlap(a, b keys.Span) bool {
	switch {
	case len(a.EndKey) == 0 && len(b.EndKey) == 0:
		return a.Key.Equal(b.Key)
	case len(a.EndKey) == 0:
		return b.Key.Compare(a.Key) <= 0 && a.Key.Less(b.EndKey)
	case len(b.EndKey) == 0:
		return a.Key.Compare(b.Key) <= 0 && b.Key.Less(a.EndKey)
	}
	return a.Key.Less(b.EndKey) && b.Key.Less(a.EndKey)
}

// maxLatchSpans bounds the spans of one latch. A larger batch latches what
// lies between its first and its last key.
const maxLatchSpans = 64

// condenseLatchSpans returns spans, or the one span that covers them if they are
// too many to compare one by one.
func condenseLatchSpans(spans []keys.Span) []keys.Span {
	if len(spans) <= maxLatchSpans {
		return spans
	}
	la := latch{spans: spans}
	la.bound()
	return append(spans[:0], keys.Span{Key: la.lo, EndKey: la.hi})
}
