package kvserver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

func sp(s string) keys.Span {
	if len(s) == 1 {
		return keys.Span{Key: keys.Key(s)}
	}
	return keys.Span{Key: keys.Key(s[:1]), EndKey: keys.Key(s[1:])}
}

func TestLatchOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b    []string
		overlap bool
	}{
		{[]string{"a"}, []string{"a"}, true},
		{[]string{"a"}, []string{"b"}, false},
		{[]string{"ac"}, []string{"c"}, false},
		{[]string{"ac"}, []string{"b"}, true},
		{[]string{"ac"}, []string{"ce"}, false},
		{[]string{"a", "z"}, []string{"m"}, false}, // within the bounds, but not in a span
		{[]string{"a", "mp", "z"}, []string{"b", "n"}, true},
		{[]string{"a"}, []string{"az"}, true},
	} {
		mk := func(ss []string) *latch {
			la := &latch{}
			for _, s := range ss {
				la.spans = append(la.spans, sp(s))
			}
			la.bound()
			return la
		}
		a, b := mk(c.a), mk(c.b)
		if a.overlaps(b) != c.overlap || b.overlaps(a) != c.overlap {
			t.Errorf("%v and %v: overlap is not %t", c.a, c.b, c.overlap)
		}
	}
}

func TestLatchesExcludeEachOther(t *testing.T) {
	var l latches
	var held [8]atomic.Int32
	var wg sync.WaitGroup
	for c := range 6 {
		rng := rand.New(rand.NewPCG(uint64(c), 1))
		wg.Go(func() {
			for range 300 {
				lo := rng.IntN(8)
				hi := lo + 1 + rng.IntN(8-lo)
				la := &latch{spans: []keys.Span{{Key: keys.Key{byte('a' + lo)}, EndKey: keys.Key{byte('a' + hi)}}}}
				if err := l.acquire(context.Background(), la); err != nil {
					t.Error(err)
					return
				}
				for i := lo; i < hi; i++ {
					if held[i].Add(1) != 1 {
						t.Error("two latches on one key")
					}
				}
				for i := lo; i < hi; i++ {
					held[i].Add(-1)
				}
				l.release(la)
			}
		})
	}
	wg.Wait()
	if l.n.Load() != 0 {
		t.Fatalf("%d latches are left", l.n.Load())
	}
}

func TestReadersWaitOnlyForWritersBelow(t *testing.T) {
	var l latches
	ctx := context.Background()
	w := &latch{spans: []keys.Span{sp("b")}, ts: hlc.Timestamp{WallTime: 10}}
	if err := l.acquire(ctx, w); err != nil {
		t.Fatal(err)
	}
	now, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
	defer cancel()
	for name, c := range map[string]struct {
		span  string
		ts    int64
		waits bool
	}{"below": {"b", 9, false}, "beside": {"c", 20, false}, "at": {"b", 10, true}, "span above": {"az", 11, true}} {
		err := l.waitForWriters(now, sp(c.span), hlc.Timestamp{WallTime: c.ts})
		if (err != nil) != c.waits {
			t.Errorf("%s: got %v", name, err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- l.waitForWriters(ctx, sp("b"), hlc.Timestamp{WallTime: 10}) }()
	l.release(w)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestCanceledLatchIsGivenBack(t *testing.T) {
	var l latches
	ctx, cancel := context.WithCancel(context.Background())
	a, b := &latch{spans: []keys.Span{sp("a")}}, &latch{spans: []keys.Span{sp("a")}}
	if err := l.acquire(ctx, a); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := l.acquire(ctx, b); err == nil {
		t.Fatal("two latches on one key")
	}
	l.release(a)
	if err := l.acquire(context.Background(), &latch{spans: []keys.Span{sp("a")}}); err != nil {
		t.Fatal(err)
	}
}

// Whatever is read, a later write must be told a timestamp above it, unless the
// same transaction read. The cache may say more, never less.
func TestTimestampCacheAgainstAModel(t *testing.T) {
	s := rand.Uint64()
	t.Logf("seed %d", s)
	rng := rand.New(rand.NewPCG(s, 1))
	type read struct {
		span keys.Span
		ts   hlc.Timestamp
		txn  byte
	}
	c := newTSCache(hlc.Timestamp{WallTime: 5})
	c.spans.maxSize = 16 // rotates often
	c.slots = make([]tsSlot, 16)
	var reads []read
	k := func(i int) keys.Key { return keys.Key(fmt.Sprintf("%03d", i)) }
	for i := range 800 {
		lo := rng.IntN(99)
		span := keys.Span{Key: k(lo)}
		if rng.IntN(2) == 0 {
			span.EndKey = k(lo + 1 + rng.IntN(99-lo))
		}
		txn := byte(rng.IntN(4))
		if rng.IntN(2) == 0 {
			r := read{span, hlc.Timestamp{WallTime: int64(1 + rng.IntN(i+10))}, txn}
			c.add(r.span, r.ts, [16]byte{r.txn})
			reads = append(reads, r)
			continue
		}
		ts := hlc.Timestamp{WallTime: int64(1 + rng.IntN(i+10))}
		got := c.forward(span, ts, [16]byte{100 + txn})
		if got.Less(ts) || got.LessEq(hlc.Timestamp{WallTime: 5}) {
			t.Fatalf("forward went back: %s to %s", ts, got)
		}
		for _, r := range reads {
			if r.span.Overlaps(span) && got.LessEq(r.ts) {
				t.Fatalf("write of %s at %s, read at %s by %d", span, got, r.ts, r.txn)
			}
		}
	}

	c = newTSCache(hlc.Timestamp{})
	own := [16]byte{7}
	c.add(sp("b"), hlc.Timestamp{WallTime: 20}, own)
	if got := c.forward(sp("b"), hlc.Timestamp{WallTime: 20}, own); got.WallTime != 20 || got.Logical != 0 {
		t.Errorf("a transaction is pushed by its own read to %s", got)
	}
	c.add(sp("b"), hlc.Timestamp{WallTime: 20}, [16]byte{8})
	if got := c.forward(sp("b"), hlc.Timestamp{WallTime: 20}, own); got.Logical != 1 {
		t.Errorf("the read of another at the same time does not push: %s", got)
	}
}

// A key that is read all the time does not push the writes of keys that share its
// slot: a bulk load meets every slot.
func TestTimestampCacheSlotsKnowTheirKey(t *testing.T) {
	c := newTSCache(hlc.Timestamp{})
	c.slots = make([]tsSlot, 1)
	at := func(wall int64) hlc.Timestamp { return hlc.Timestamp{WallTime: wall} }
	c.add(sp("a"), at(10), [16]byte{1})
	for ts := int64(20); ts < 30; ts++ {
		c.add(sp("hot"), at(ts), [16]byte{2})
	}
	if got := c.forward(sp("b"), at(15), [16]byte{3}); got != at(15) {
		t.Errorf("a write of b at 15 moves to %s, though only hot was read after that", got)
	}
	if got := c.forward(sp("a"), at(10), [16]byte{3}); got.LessEq(at(10)) {
		t.Errorf("the read of a at 10 is forgotten: a write moves to %s", got)
	}
	if got := c.forward(sp("hot"), at(15), [16]byte{3}); got.LessEq(at(29)) {
		t.Errorf("the read of hot at 29 is forgotten: a write moves to %s", got)
	}
}

// A reader believes the engine, not what was heard of a push that never reached the
// intent: it would look again and again.
func TestReaderWaitsForWhatTheEngineShows(t *testing.T) {
	lt := newLockTable()
	key := tableKey(1)
	at := func(wall int64) storage.TxnMeta {
		return storage.TxnMeta{ID: kvpb.TxnID{1}, Key: key, WriteTimestamp: hlc.Timestamp{WallTime: wall}}
	}
	reader := func() *waiter {
		return &waiter{reader: true, readTS: hlc.Timestamp{WallTime: 15}, wake: make(chan struct{}, 1)}
	}
	first := reader()
	lt.enqueue(lockConflict{key: key, holder: at(10)}, first)
	lt.updated(at(10).ID, key, false, hlc.Timestamp{WallTime: 20})
	if _, ready := lt.status(first); !ready {
		t.Fatal("the intent moved above the reader, who waits")
	}
	second := reader()
	lt.enqueue(lockConflict{key: key, holder: at(10)}, second)
	if _, ready := lt.status(second); ready {
		t.Error("the engine shows an intent below the reader, who does not wait")
	}
}
