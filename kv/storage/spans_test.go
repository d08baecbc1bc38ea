package storage

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// testRangeSpans is the middle one of three neighbours in the keys of the model:
// it begins and ends within a table.
func testRangeSpans() SpanSet {
	ks := modelKeys()
	user := keys.Span{Key: keys.Key(ks[len(ks)/3]), EndKey: keys.Key(ks[2*len(ks)/3])}
	id := func(n byte, suffix string) keys.Key {
		return append(append(keys.LocalRangeIDPrefix.Clone(), 0x88+n), suffix...)
	}
	addressed := func(k keys.Key) keys.Key { return append(keys.LocalRangePrefix.Clone(), k...) }
	return SpanSet{User: user, Local: []keys.Span{
		{Key: addressed(user.Key), EndKey: addressed(user.EndKey)},
		{Key: id(7, "gcth")}, {Key: id(7, "stat")}, keys.Prefix(id(7, "set-")),
	}}
}

// localNeighbours are keys that belong to no span of testRangeSpans.
func localNeighbours() []keys.Key {
	s := testRangeSpans()
	out := []keys.Key{keys.LocalStorePrefix, s.Local[0].Key[:len(s.Local[0].Key)-1], s.Local[0].EndKey}
	for _, l := range s.Local[1:] {
		out = append(out, append(l.Key[:len(l.Key)-1:len(l.Key)-1], l.Key[len(l.Key)-1]-1), append(l.Key[:len(l.Key)-1:len(l.Key)-1], l.Key[len(l.Key)-1]+1), append(l.Key[:3:3], "rhst"...))
	}
	return out
}

// fillRange runs a random history and adds local keys, some of the range and some
// beside it. Locks are left.
func fillRange(t *testing.T, seed uint64, steps int) *history {
	t.Helper()
	h := openHistory(t, seed)
	t.Cleanup(func() { _ = h.e.Close() })
	h.noRanges = false
	for h.step = 0; h.step < steps && !t.Failed(); h.step++ {
		h.one()
	}
	b := h.e.NewBatch()
	put := func(k keys.Key, v string) { h.must(b.Put(k, []byte(v))) }
	for _, k := range localNeighbours() {
		put(k, fmt.Sprint("neighbour ", seed))
	}
	for _, l := range testRangeSpans().Local {
		if h.rng.IntN(3) > 0 {
			put(l.Key, fmt.Sprint("local ", seed))
		}
		if len(l.EndKey) > 0 {
			for i := range h.rng.IntN(4) {
				put(append(l.Key.Clone(), byte(i), byte(h.rng.IntN(3))), fmt.Sprint("local ", seed, i))
			}
			// A lock on a local key.
			if h.rng.IntN(2) == 0 {
				id := TxnID{byte(200 + h.rng.IntN(3))}
				tx := &Txn{TxnMeta: TxnMeta{ID: id, Key: l.Key, WriteTimestamp: ts(9), MinTimestamp: ts(9), Sequence: 1}, ReadTimestamp: ts(9)}
				h.must(MVCCPut(context.Background(), b, append(l.Key.Clone(), "lock"...), hlc.Timestamp{}, val("p"), WriteOptions{Txn: tx}))
			}
		}
	}
	h.must(b.Commit(true))
	h.must(b.Close())
	return h
}

// dump shows all engine keys and range keys of [lower, upper).
func dump(t testing.TB, e *Engine, lower, upper []byte) string {
	t.Helper()
	it, err := e.db.NewIter(&pebble.IterOptions{KeyTypes: pebble.IterKeyTypePointsAndRanges, LowerBound: lower, UpperBound: upper})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	var out strings.Builder
	for ok := it.First(); ok; ok = it.Next() {
		hasPoint, hasRange := it.HasPointAndRange()
		if hasRange && it.RangeKeyChanged() {
			s, e := it.RangeBounds()
			for _, rk := range it.RangeKeys() {
				fmt.Fprintf(&out, "[%x, %x)@%x=%x\n", s, e, rk.Suffix, rk.Value)
			}
		}
		if hasPoint {
			fmt.Fprintf(&out, "%x=%x\n", it.Key(), it.Value())
		}
	}
	if err := it.Error(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// dumpSpans shows what is in the spans of set, and what is beside them.
func dumpSpans(t testing.TB, e *Engine, set SpanSet) (in, beside string) {
	t.Helper()
	spans, err := set.engineSpans()
	if err != nil {
		t.Fatal(err)
	}
	at := []byte{0}
	for _, s := range spans {
		beside += dump(t, e, at, s.start)
		in += dump(t, e, s.start, s.end)
		at = s.end
	}
	return in, beside + dump(t, e, at, []byte{0xff, 0xff, 0xff, 0})
}

func stream(t testing.TB, e *Engine, set SpanSet) []byte {
	t.Helper()
	s, err := e.OpenSpans(set)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var out bytes.Buffer
	n, err := s.WriteTo(&out)
	if err != nil || n != int64(out.Len()) {
		t.Fatalf("streamed %d bytes of %d: %v", n, out.Len(), err)
	}
	return out.Bytes()
}

func checksum(t testing.TB, e *Engine, set SpanSet) ([16]byte, SpanCounts) {
	t.Helper()
	sum, n, err := e.ChecksumSpans(context.Background(), set)
	if err != nil {
		t.Fatal(err)
	}
	return sum, n
}

func checkStaging(t testing.TB, e *Engine) {
	t.Helper()
	if names, err := e.fs.List(e.stagingDir()); err != nil || len(names) > 0 {
		t.Errorf("left in the staging directory: %v %v", names, err)
	}
}

// checkLockFilter compares the filter with the locks in the store. With exact, it
// must not count too many either.
func checkLockFilter(t testing.TB, e *Engine, exact bool) {
	t.Helper()
	want := make([]uint32, lockFilterSlots)
	err := visitLockSlots(e.db, lockOptions.LowerBound, lockOptions.UpperBound, func(s uint32) { want[s]++ })
	if err != nil {
		t.Fatal(err)
	}
	for slot, n := range want {
		if have := uint32(e.locks.load(uint32(slot))); have < n || exact && have != n {
			t.Errorf("slot %d counts %d locks, the store has %d", slot, have, n)
		}
	}
}

// checkRangeKeySpans looks for range keys that reads would not look for.
func checkRangeKeySpans(t testing.TB, e *Engine) {
	t.Helper()
	it, err := e.db.NewIter(&pebble.IterOptions{KeyTypes: pebble.IterKeyTypeRangesOnly})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		start, end, err := rangeKeyBounds(it)
		if err != nil {
			t.Fatal(err)
		}
		if !e.rangeKeys.contains(start) || !e.rangeKeys.overlap(start, end) {
			t.Errorf("reads do not know of the range tombstone over [%x, %x)", []byte(start), []byte(end))
		}
	}
}

func testSeed(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano())
	if *randomSeed != 0 {
		seed = *randomSeed
	}
	t.Logf("repeat with -seed %d", seed)
	return seed
}

// TestReplaceSpansCopiesARange copies the middle one of three ranges into a store
// where the same three have other content.
func TestReplaceSpansCopiesARange(t *testing.T) {
	ctx := context.Background()
	seed := testSeed(t)
	set := testRangeSpans()
	var total SpanCounts
	for i := range uint64(12) {
		from, to := fillRange(t, seed+2*i, 150), fillRange(t, seed+2*i+1, 150)
		if t.Failed() {
			return
		}
		wantSum, wantCounts := checksum(t, from.e, set)
		want, _ := dumpSpans(t, from.e, set)
		old, beside := dumpSpans(t, to.e, set)
		view := to.e.NewSnapshot()
		oldScan := scanString(t, view, string(set.User.Key), string(set.User.EndKey), ts(1<<40), ScanOptions{Inconsistent: true})

		b := stream(t, from.e, set)
		rcv, err := to.e.ReceiveSpans(ctx, bytes.NewReader(append(b, "the next one"...)))
		if err != nil {
			t.Fatal(err)
		}
		if got := rcv.Spans(); !got.User.Key.Equal(set.User.Key) || len(got.Local) != len(set.Local) || rcv.Counts() != wantCounts || rcv.Checksum() != wantSum || rcv.FileBytes() == 0 {
			t.Fatalf("received %+v, %+v with checksum %x, sent %+v with %x", got, rcv.Counts(), rcv.Checksum(), wantCounts, wantSum)
		}
		if in, out := dumpSpans(t, to.e, set); in != old || out != beside {
			t.Fatal("receiving changed the store")
		}
		if err := to.e.ReplaceSpans(rcv, nil); err != nil {
			t.Fatal(err)
		}
		if err := to.e.ReplaceSpans(rcv, nil); err == nil {
			t.Error("the same content was taken twice")
		}
		if err := rcv.Close(); err != nil {
			t.Fatal(err)
		}
		check := func(when string) {
			t.Helper()
			if in, out := dumpSpans(t, to.e, set); in != want || out != beside {
				t.Fatalf("seed %d, %s:\ncopy\n%s\nsource\n%s\nneighbours\n%s\nbefore\n%s", seed+2*i, when, in, want, out, beside)
			}
			if sum, n := checksum(t, to.e, set); sum != wantSum || n != wantCounts {
				t.Errorf("%s: checksum %x of %+v, source %x of %+v", when, sum, n, wantSum, wantCounts)
			}
			checkLockFilter(t, to.e, true)
			checkRangeKeySpans(t, to.e)
			checkStaging(t, to.e)
		}
		check("at once")
		if got := scanString(t, view, string(set.User.Key), string(set.User.EndKey), ts(1<<40), ScanOptions{Inconsistent: true}); got != oldScan {
			t.Errorf("a snapshot from before shows %q, not %q", got, oldScan)
		}
		if err := view.Close(); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			to.must(to.e.Flush())
			to.must(to.e.db.Compact(ctx, []byte{0}, []byte{0xff, 0xff, 0}, false))
			check("compacted")
		}
		to.reopen()
		check("opened again")

		// The locks that came go like those taken here: SINGLEDEL must not bring
		// back what was there before.
		locks, _, err := ScanLocks(ctx, to.e, keys.MinKey, keys.MaxKey, 0)
		to.must(err)
		for _, l := range locks {
			bt := to.e.NewBatch()
			_, err := MVCCResolveIntent(ctx, bt, LockUpdate{Span: keys.Span{Key: l.Key}, Txn: l.Txn, Status: Aborted}, nil)
			to.must(err)
			to.must(bt.Commit(false))
			to.must(bt.Close())
		}
		to.must(to.e.db.Compact(ctx, []byte{0}, []byte{0xff, 0xff, 0}, false))
		if s := dump(t, to.e, lockOptions.LowerBound, lockOptions.UpperBound); s != "" {
			t.Errorf("locks came back:\n%s", s)
		}
		checkLockFilter(t, to.e, true)

		total.Points += wantCounts.Points
		total.Locks += wantCounts.Locks
		total.RangeKeys += wantCounts.RangeKeys
	}
	t.Logf("copied %+v", total)
	if total.Points == 0 || total.Locks == 0 || total.RangeKeys == 0 {
		t.Errorf("the test copied only %+v", total)
	}
}

// TestReplaceSpansManyFiles has content of many frames and files, values larger
// than a frame, and range tombstones across the cuts.
func TestReplaceSpansManyFiles(t *testing.T) {
	ctx := context.Background()
	set := SpanSet{User: keys.Span{Key: keys.Key("\x90"), EndKey: keys.Key("\xa0")}}
	src := openTest(t, testConfig(vfs.NewMem()))
	rng := rand.New(rand.NewPCG(1, 2))
	b := src.NewBatch()
	for i := range 3000 {
		v := make([]byte, rng.IntN(600))
		for j := range v {
			v[j] = byte(rng.Uint32())
		}
		if i%1000 == 500 {
			v = bytes.Repeat(v, 1+3<<20/(1+len(v)))
		}
		if err := b.putVersion(keys.Key(fmt.Sprintf("\x90%05d", i/3)), ts(int64(10+i%3)), MakeValue(v)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 40 {
		lo, hi := rng.IntN(1000), rng.IntN(1000)
		if lo == hi {
			continue
		}
		from, to := keys.Key(fmt.Sprintf("\x90%05d", min(lo, hi))), keys.Key(fmt.Sprintf("\x90%05d", max(lo, hi)))
		if err := MVCCDeleteRangeTombstone(ctx, b, from, to, ts(int64(100+i)), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Commit(false); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(vfs.NewMem())
	cfg.Testing.TargetFileBytes = 100 << 10
	dst := openTest(t, cfg)
	rcv, err := dst.ReceiveSpans(ctx, bytes.NewReader(stream(t, src, set)))
	if err != nil {
		t.Fatal(err)
	}
	defer rcv.Close()
	if n := len(rcv.paths); n < 5 {
		t.Errorf("%d files for %d bytes", n, rcv.FileBytes())
	}
	if err := dst.ReplaceSpans(rcv, nil); err != nil {
		t.Fatal(err)
	}
	want, _ := dumpSpans(t, src, set)
	if got, _ := dumpSpans(t, dst, set); got != want {
		t.Error("the copy differs")
	}
	s1, n1 := checksum(t, src, set)
	if s2, n2 := checksum(t, dst, set); s1 != s2 || n1 != n2 {
		t.Errorf("checksums %x of %+v and %x of %+v", s1, n1, s2, n2)
	}
}

// TestReplaceSpansAppliesTheBatch: what the batch puts and removes beside the
// spans comes with the content; a batch that writes into them, or more than plain
// keys, is refused.
func TestReplaceSpansAppliesTheBatch(t *testing.T) {
	ctx := context.Background()
	seed := testSeed(t)
	set := testRangeSpans()
	from, to := fillRange(t, seed, 120), fillRange(t, seed+1, 120)
	id := func(s string) keys.Key { return append(set.Local[1].Key[:3:3], s...) }
	commit := func(fn func(b *Batch) error) {
		t.Helper()
		b := to.e.NewBatch()
		defer b.Close()
		to.must(fn(b))
		to.must(b.Commit(true))
	}
	commit(func(b *Batch) error {
		for i := range 9 {
			to.must(b.Put(id(fmt.Sprint("rlog", i)), []byte("old")))
			to.must(b.Put(id(fmt.Sprint("wild", i)), []byte("old")))
		}
		return b.Put(id("rhst"), []byte("old"))
	})
	bad := map[string]func(b *Batch) error{
		"a key of the range":  func(b *Batch) error { return b.Put(set.Local[1].Key, []byte("x")) },
		"a span over a key":   func(b *Batch) error { return b.ClearRange(id("a"), id("z")) },
		"a user key":          func(b *Batch) error { return b.Put(set.User.Key, []byte("x")) },
		"a version elsewhere": func(b *Batch) error { return b.putVersion(keys.Key("\xfd"), ts(3), val("x")) },
		"a range tombstone": func(b *Batch) error {
			return MVCCDeleteRangeTombstone(ctx, b, keys.Key("\xfd"), keys.Key("\xfe"), ts(3), nil)
		},
	}
	rcv, err := to.e.ReceiveSpans(ctx, bytes.NewReader(stream(t, from.e, set)))
	to.must(err)
	defer rcv.Close()
	before, besideBefore := dumpSpans(t, to.e, set)
	for name, fn := range bad {
		b := to.e.NewBatch()
		to.must(b.Put(id("rhst"), []byte("new")))
		to.must(fn(b))
		if err := to.e.ReplaceSpans(rcv, b); err == nil {
			t.Fatalf("a batch with %s was taken", name)
		} else if !strings.Contains(err.Error(), "which the received content replaces") && !strings.Contains(err.Error(), "which is no plain key") {
			t.Errorf("a batch with %s: %v", name, err)
		}
		to.must(b.Close())
		if in, out := dumpSpans(t, to.e, set); in != before || out != besideBefore {
			t.Fatalf("the refused batch with %s changed something", name)
		}
	}
	batch := func(b *Batch) error {
		to.must(b.Put(id("wild3"), []byte("gone with the span")))
		to.must(b.ClearRange(id("wild2"), id("wild6")))
		to.must(b.ClearRange(id("wild5"), id("wild7")))
		to.must(b.Put(id("wild4"), []byte("new")))
		to.must(b.Put(id("rhst"), []byte("newish")))
		to.must(b.Put(id("rhst"), []byte("new")))
		to.must(b.Put(id("rlog3"), []byte("new")))
		for i := range 8 {
			to.must(b.Clear(id(fmt.Sprint("rlog", i))))
		}
		to.must(b.Put(keys.Key("\x01sclck"), []byte("new")))
		return b.Put(keys.Key("\xff\xf0"), []byte("new"))
	}
	b := to.e.NewBatch()
	to.must(batch(b))
	to.must(to.e.ReplaceSpans(rcv, b))
	to.must(b.Close())
	checkStaging(t, to.e)
	// The same on a store of its own, as an ordinary batch.
	got, beside := dumpSpans(t, to.e, set)
	want, _ := dumpSpans(t, from.e, set)
	if got != want {
		t.Error("the content differs")
	}
	other := fillRange(t, seed+1, 120)
	to2 := to
	to = other
	commit(func(b *Batch) error {
		for i := range 9 {
			to.must(b.Put(id(fmt.Sprint("rlog", i)), []byte("old")))
			to.must(b.Put(id(fmt.Sprint("wild", i)), []byte("old")))
		}
		return b.Put(id("rhst"), []byte("old"))
	})
	commit(batch)
	if _, want := dumpSpans(t, other.e, set); beside != want {
		t.Errorf("the batch left\n%s\nnot\n%s", beside, want)
	}
	to2.must(to2.e.Flush())
	checkLockFilter(t, to2.e, false)
}

func TestClearSpansRemovesARangeAndNothingElse(t *testing.T) {
	seed := testSeed(t)
	set := testRangeSpans()
	for i := range uint64(4) {
		h := fillRange(t, seed+i, 150)
		_, beside := dumpSpans(t, h.e, set)
		h.reopen() // The filter is exact.
		b := h.e.NewBatch()
		// Also what the batch itself put.
		tx := &Txn{TxnMeta: TxnMeta{ID: TxnID{222}, Key: set.User.Key, WriteTimestamp: ts(1 << 40), MinTimestamp: ts(9), Sequence: 1}, ReadTimestamp: ts(1 << 40)}
		_ = MVCCPut(context.Background(), b, set.User.Key.Next(), hlc.Timestamp{}, val("x"), WriteOptions{Txn: tx})
		h.must(b.ClearSpans(set))
		if n := b.Count(); n > 30 {
			t.Errorf("%d operations", n)
		}
		h.must(b.Commit(true))
		h.must(b.Close())
		if in, out := dumpSpans(t, h.e, set); in != "" || out != beside {
			t.Errorf("left of the range:\n%s\nneighbours before\n%s\nand now\n%s", in, beside, out)
		}
		if _, n := checksum(t, h.e, set); n != (SpanCounts{}) {
			t.Errorf("an empty range holds %+v", n)
		}
		checkLockFilter(t, h.e, true)
	}
}

func TestChecksumSeesEveryDifference(t *testing.T) {
	ctx := context.Background()
	set := testRangeSpans()
	h := fillRange(t, 5, 100)
	k := set.User.Key.Next()
	seen := map[[16]byte]string{}
	last, _ := checksum(t, h.e, set)
	seen[last] = "nothing"
	for name, fn := range map[string]func(b *Batch) error{
		"version":         func(b *Batch) error { return b.putVersion(k, ts(77777), val("v")) },
		"value":           func(b *Batch) error { return b.putVersion(k, ts(77777), val("w")) },
		"plain key":       func(b *Batch) error { return b.Put(k, []byte("w")) },
		"local key":       func(b *Batch) error { return b.Put(set.Local[1].Key, []byte("new")) },
		"addressed key":   func(b *Batch) error { return b.Put(set.Local[0].Key.Next(), []byte("new")) },
		"range tombstone": func(b *Batch) error { return MVCCDeleteRangeTombstone(ctx, b, k, k.Next(), ts(88888), nil) },
		"lock": func(b *Batch) error {
			return b.putNewLock(k.Next().Next(), &lockRecord{TxnMeta: TxnMeta{ID: TxnID{99}, WriteTimestamp: ts(4)}})
		},
	} {
		b := h.e.NewBatch()
		h.must(fn(b))
		h.must(b.Commit(false))
		h.must(b.Close())
		sum, _ := checksum(t, h.e, set)
		if was, ok := seen[sum]; ok {
			t.Errorf("the checksum does not see a new %s (after %s)", name, was)
		}
		seen[sum] = name
	}
	before, n := checksum(t, h.e, set)
	b := h.e.NewBatch()
	for _, key := range append(localNeighbours(), set.User.EndKey) {
		h.must(b.Put(key, []byte("other")))
	}
	h.must(b.Commit(false))
	h.must(b.Close())
	h.must(h.e.Flush())
	h.must(h.e.Compact(ctx, keys.MinKey, keys.MaxKey))
	if after, m := checksum(t, h.e, set); after != before || m != n {
		t.Error("the checksum depends on neighbours or files")
	}
}

func TestSpanSetsThatAreNone(t *testing.T) {
	e := openTest(t, testConfig(vfs.NewMem()))
	user := keys.Span{Key: keys.Key("\x90"), EndKey: keys.Key("\x91")}
	for name, set := range map[string]SpanSet{
		"backward":           {User: keys.Span{Key: keys.Key("b"), EndKey: keys.Key("a")}},
		"single user key":    {User: keys.Span{Key: keys.Key("b")}},
		"user key as local":  {User: user, Local: []keys.Span{{Key: keys.Key("b")}}},
		"the lock table":     {User: user, Local: []keys.Span{keys.Prefix(keys.LocalLockPrefix)}},
		"all local keys":     {User: user, Local: []keys.Span{keys.Prefix(keys.LocalPrefix)}},
		"overlap":            {User: user, Local: []keys.Span{keys.Prefix(keys.Key("\x01ia")), {Key: keys.Key("\x01iab")}}},
		"the same key twice": {User: user, Local: []keys.Span{{Key: keys.Key("\x01iab")}, {Key: keys.Key("\x01iab")}}},
	} {
		if _, err := e.OpenSpans(set); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// The first range of the keyspace begins before the local keys, which are not its.
	b := e.NewBatch()
	defer b.Close()
	for _, k := range []string{"\x01iother", "\x02meta", "\x05user"} {
		if err := b.Put(keys.Key(k), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Commit(false); err != nil {
		t.Fatal(err)
	}
	if _, n := checksum(t, e, SpanSet{User: keys.Span{Key: keys.MinKey, EndKey: keys.MaxKey}}); n.Points != 2 {
		t.Errorf("the first range has %+v", n)
	}
}

// TestBatchesOfAnotherStore replays the batches of a random history on a second
// store, in their serialised form, one by one or several at once.
func TestBatchesOfAnotherStore(t *testing.T) {
	seed := testSeed(t)
	all := SpanSet{User: keys.Span{Key: keys.MinKey, EndKey: keys.MaxKey}, Local: []keys.Span{{Key: keys.LocalPrefix, EndKey: keys.LocalLockPrefix}}}
	for i := range uint64(6) {
		h := openHistory(t, seed+i)
		t.Cleanup(func() { _ = h.e.Close() })
		h.noRanges = false
		other := openTest(t, testConfig(vfs.NewMem()))
		var joint *Batch
		apply := func(end bool) {
			if joint != nil && (end || h.rng.IntN(2) == 0) {
				h.must(joint.Commit(false))
				h.must(joint.Close())
				joint = nil
			}
		}
		kinds := 0
		h.committing = func(b *Batch) {
			repr := bytes.Clone(b.Repr())
			h.must(visitRepr(repr, func(op *batchOp) error { kinds |= 1 << op.kind; return nil }))
			if joint == nil {
				joint = other.NewBatch()
			}
			h.must(joint.ApplyRepr(repr))
			if !bytes.Equal(repr[batchHeaderBytes:], joint.Repr()[len(joint.Repr())-len(repr)+batchHeaderBytes:]) {
				t.Error("the batch changed on the way")
			}
			apply(false)
		}
		for h.step = 0; h.step < 250 && !t.Failed(); h.step++ {
			h.one()
		}
		// What a replica and its store remove.
		h.must(h.write(func(b *Batch, _ *Stats) error {
			h.must(b.ClearSpans(testRangeSpans()))
			return b.ClearRange(keys.Key("\xf6"), keys.Key("\xf7"))
		}))
		apply(true)
		s1, n1 := checksum(t, h.e, all)
		if s2, n2 := checksum(t, other, all); s1 != s2 || n1 != n2 {
			t.Fatalf("seed %d: %x of %+v became %x of %+v", seed+i, s1, n1, s2, n2)
		}
		checkLockFilter(t, other, true)
		checkRangeKeySpans(t, other)
		for _, k := range []pebble.InternalKeyKind{pebble.InternalKeyKindSet, pebble.InternalKeyKindDelete, pebble.InternalKeyKindSingleDelete,
			pebble.InternalKeyKindRangeDelete, pebble.InternalKeyKindRangeKeySet, pebble.InternalKeyKindRangeKeyDelete} {
			if kinds&(1<<k) == 0 {
				t.Logf("seed %d: no operation of kind %d", seed+i, k)
			}
		}
	}
}

func TestApplyReprRefusesWhatItDoesNotKnow(t *testing.T) {
	e := openTest(t, testConfig(vfs.NewMem()))
	good := e.NewBatch()
	defer good.Close()
	if err := good.Put(keys.Key("a"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	merge := e.db.NewBatch()
	defer merge.Close()
	if err := merge.Merge(EncodeMVCCKey(keys.Key("a"), zeroTS), []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	repr := good.Repr()
	count := bytes.Clone(repr)
	count[8]++
	long := bytes.Clone(repr)
	long[batchHeaderBytes+1] = 0xff
	for name, bad := range map[string][]byte{
		"nothing": nil, "half a header": repr[:5], "a merge": merge.Repr(), "the count": count, "a length": long,
		"torn": repr[:len(repr)-1], "more": append(bytes.Clone(repr), 1),
	} {
		b := e.NewBatch()
		if err := b.ApplyRepr(bad); err == nil || !b.Empty() {
			t.Errorf("%s: %v, the batch has %d operations", name, err, b.Count())
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b := e.NewWriteBatch()
	defer b.Close()
	if err := b.ApplyRepr(repr); err != nil || b.Count() != 1 {
		t.Errorf("a good one: %v, %d operations", err, b.Count())
	}
	if !slices.Equal(b.Repr(), repr) {
		t.Error("it came back as another one")
	}
}
