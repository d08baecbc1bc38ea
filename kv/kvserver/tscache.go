package kvserver

import (
	"bytes"
	"hash/maphash"
	"sync"

	"github.com/RaduBerinde/axisds"
	"github.com/RaduBerinde/axisds/regiontree"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// tsCache remembers up to which timestamp keys were read, so that no later write
// slips in below a read that was already answered. It may answer too high, never
// too low: what it forgets is covered by a floor.
//
// Single keys go into a fixed table by their hash. A slot remembers the latest
// read with its key's hash and, of all other keys that share the slot, only the
// highest timestamp: so a few keys that are read all the time do not push the
// writes of everyone else. Spans go into a tree of regions; when that grows too
// large, the older half becomes part of the floor.
type tsCache struct {
	seed  maphash.Seed
	slots []tsSlot
	locks [tsStripes]paddedMutex

	spans struct {
		sync.RWMutex
		floor   hlc.Timestamp
		cur     *tsRegions
		old     *tsRegions
		maxSize int
	}
}

const (
	tsSlots   = 1 << 15
	tsStripes = 64
	// tsMaxRegions bounds the regions in each of the two trees.
	tsMaxRegions = 16 << 10
)

type paddedMutex struct {
	sync.Mutex
	_ [56]byte // one cache line each
}

// tsEntry is a read timestamp and the transaction that read there, zero if
// there were several or none.
type tsEntry struct {
	ts  hlc.Timestamp
	txn kvpb.TxnID
}

// tsSlot is what was read of the keys that share a slot.
//
// Invariant: each read is covered by last, if it was of the key with that hash,
// or by others.
type tsSlot struct {
	hash   uint64
	last   tsEntry
	others tsEntry
}

func (s *tsSlot) add(hash uint64, e tsEntry) {
	switch {
	case s.hash == hash:
		s.last.merge(e)
	case s.last.ts.Less(e.ts):
		s.others.merge(s.last)
		s.hash, s.last = hash, e
	default:
		s.others.merge(e)
	}
}

// merge raises e to o.
func (e *tsEntry) merge(o tsEntry) {
	switch {
	case e.ts.Less(o.ts):
		*e = o
	case e.ts == o.ts && e.txn != o.txn:
		e.txn = kvpb.TxnID{}
	}
}

// tsRegions is one generation of span reads.
type tsRegions struct {
	tree regiontree.T[keys.Key, tsEntry]
	max  hlc.Timestamp
}

func newTSRegions() *tsRegions {
	return &tsRegions{tree: regiontree.Make[keys.Key, tsEntry](
		axisds.CompareFn[keys.Key](func(a, b keys.Key) int { return bytes.Compare(a, b) }),
		func(a, b tsEntry) bool { return a == b },
	)}
}

// newTSCache returns a cache that answers at least floor for every key.
func newTSCache(floor hlc.Timestamp) *tsCache {
	c := &tsCache{seed: maphash.MakeSeed(), slots: make([]tsSlot, tsSlots)}
	c.spans.floor = floor
	c.spans.cur = newTSRegions()
	c.spans.maxSize = tsMaxRegions
	return c
}

// add records that txn (zero: no transaction) has read span at ts.
func (c *tsCache) add(span keys.Span, ts hlc.Timestamp, txn kvpb.TxnID) {
	e := tsEntry{ts: ts, txn: txn}
	if len(span.EndKey) == 0 {
		hash := maphash.Bytes(c.seed, span.Key)
		i := hash % uint64(len(c.slots))
		l := &c.locks[i%tsStripes]
		l.Lock()
		c.slots[i].add(hash, e)
		l.Unlock()
		return
	}
	c.spans.Lock()
	defer c.spans.Unlock()
	if ts.LessEq(c.spans.floor) {
		return
	}
	if c.spans.cur.tree.InternalLen() >= c.spans.maxSize {
		if c.spans.old != nil {
			c.spans.floor.Forward(c.spans.old.max)
		}
		c.spans.old, c.spans.cur = c.spans.cur, newTSRegions()
	}
	g := c.spans.cur
	g.max.Forward(ts)
	g.tree.Update(span.Key.Clone(), span.EndKey.Clone(), func(p tsEntry) tsEntry {
		p.merge(e)
		return p
	})
}

// forward raises ts above every read of span by another transaction than txn
// and returns it.
func (c *tsCache) forward(span keys.Span, ts hlc.Timestamp, txn kvpb.TxnID) hlc.Timestamp {
	if len(span.EndKey) == 0 {
		ts = c.aboveReadsOf(span.Key, ts, txn)
		return c.aboveSpanReads(span.Key, nil, ts, txn)
	}
	// Any slot may hold a key of the span. Wide writes are rare.
	for i := range c.slots {
		l := &c.locks[i%tsStripes]
		l.Lock()
		ts = c.slots[i].last.above(ts, txn)
		ts = c.slots[i].others.above(ts, txn)
		l.Unlock()
	}
	return c.aboveSpanReads(span.Key, span.EndKey, ts, txn)
}

// forwardPairs is forward for writes of ascending keys: reads between them do not
// count, except reads of spans.
func (c *tsCache) forwardPairs(pairs []storage.Pair, ts hlc.Timestamp, txn kvpb.TxnID) hlc.Timestamp {
	for i := range pairs {
		ts = c.aboveReadsOf(pairs[i].Key, ts, txn)
	}
	return c.aboveSpanReads(pairs[0].Key, pairs[len(pairs)-1].Key.Next(), ts, txn)
}

// above raises ts above e, unless txn itself read there.
func (e tsEntry) above(ts hlc.Timestamp, txn kvpb.TxnID) hlc.Timestamp {
	if ts.LessEq(e.ts) && (txn.IsEmpty() || e.txn != txn) {
		return e.ts.Next()
	}
	return ts
}

// aboveReadsOf raises ts above the reads of the single key.
func (c *tsCache) aboveReadsOf(key keys.Key, ts hlc.Timestamp, txn kvpb.TxnID) hlc.Timestamp {
	hash := maphash.Bytes(c.seed, key)
	i := hash % uint64(len(c.slots))
	l := &c.locks[i%tsStripes]
	l.Lock()
	defer l.Unlock()
	if c.slots[i].hash == hash {
		ts = c.slots[i].last.above(ts, txn)
	}
	return c.slots[i].others.above(ts, txn)
}

// aboveSpanReads raises ts above the reads of spans that overlap [start, end), or
// hold start if end is nil.
func (c *tsCache) aboveSpanReads(start, end keys.Key, ts hlc.Timestamp, txn kvpb.TxnID) hlc.Timestamp {
	c.spans.RLock()
	defer c.spans.RUnlock()
	ts = tsEntry{ts: c.spans.floor}.above(ts, txn)
	for _, g := range [...]*tsRegions{c.spans.cur, c.spans.old} {
		// A generation whose reads are all below ts cannot matter.
		if g == nil || g.max.Less(ts) {
			continue
		}
		if end == nil {
			end = start.Next()
		}
		g.tree.Enumerate(start, end, func(_, _ keys.Key, e tsEntry) bool {
			ts = e.above(ts, txn)
			return true
		})
	}
	return ts
}
