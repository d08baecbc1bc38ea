package kvserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/testkit"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver"
	"github.com/holdfastdb/holdfast/kv/kvtest"
	"github.com/holdfastdb/holdfast/kv/storage"
)

var ctx = context.Background()

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func key(format string, args ...any) keys.Key {
	return append(keys.IndexPrefix(200, 1), fmt.Sprintf(format, args...)...)
}

var tableSpan = keys.TableSpan(200)

func val(s string) []byte { return storage.MakeValue([]byte(s)) }

func str(v []byte) string {
	if len(v) < 5 {
		return ""
	}
	return string(v[5:])
}

func get(t testing.TB, db *kv.DB, k keys.Key) string {
	t.Helper()
	r, err := db.Get(ctx, k)
	ok(t, err)
	return str(r.Value)
}

func start(t testing.TB, o kvtest.Options) *kvtest.Node {
	t.Helper()
	n, err := kvtest.Start(o)
	ok(t, err)
	return n
}

// Clients write pairs of keys; now and then the machine crashes, taking what was
// not synced with it. Every acknowledged pair must be there, and no half of one.
func TestCrashKeepsWhatWasAcknowledged(t *testing.T) {
	for round := range 6 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			s := time.Now().UnixNano()
			t.Logf("seed %d", s)
			fs := testkit.NewCrashFS()
			node := start(t, kvtest.Options{FS: fs})
			var mu sync.Mutex
			acked := map[string]bool{}
			var wg sync.WaitGroup
			stop := make(chan struct{})
			for c := range 4 {
				rng := rand.New(rand.NewPCG(uint64(s), uint64(c)))
				wg.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
						}
						name := fmt.Sprintf("%d-%d", c, i)
						style := rng.IntN(3)
						err := node.DB.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
							b := txn.NewBatch()
							b.Put(key("a%s", name), val(name))
							if style == 0 { // one phase
								b.Put(key("b%s", name), val(name))
								return txn.CommitInBatch(ctx, b)
							}
							if err := txn.Run(ctx, b); err != nil {
								return err
							}
							if style == 1 { // too many intents for the last batch
								b.Reset()
								for j := range 600 {
									b.Put(key("c%s-%d", name, j), val("x"))
								}
								if err := txn.Run(ctx, b); err != nil {
									return err
								}
							}
							return txn.Put(ctx, key("b%s", name), val(name))
						})
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						acked[name] = true
						mu.Unlock()
					}
				})
			}
			time.Sleep(time.Duration(30+round*25) * time.Millisecond)
			mu.Lock()
			want := make([]string, 0, len(acked))
			for n := range acked {
				want = append(want, n)
			}
			mu.Unlock()
			crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: round * 20, RNG: rand.New(rand.NewPCG(uint64(s), 7))})
			close(stop)
			wg.Wait()
			ok(t, node.Close())

			again := start(t, kvtest.Options{FS: crashed})
			defer again.Close()
			for _, n := range want {
				if get(t, again.DB, key("a%s", n)) != n || get(t, again.DB, key("b%s", n)) != n {
					t.Fatalf("acknowledged pair %s is not there", n)
				}
			}
			as, err := again.DB.Scan(ctx, key("a"), key("b"), hlc.Timestamp{}, kv.ScanOptions{})
			ok(t, err)
			bs, err := again.DB.Scan(ctx, key("b"), key("c"), hlc.Timestamp{}, kv.ScanOptions{})
			ok(t, err)
			if len(as.KVs) != len(bs.KVs) || len(as.KVs) < len(want) {
				t.Fatalf("%d first halves, %d second halves, %d acknowledged", len(as.KVs), len(bs.KVs), len(want))
			}
			ok(t, again.DB.Put(ctx, key("z"), val("1")))
		})
	}
}

// A large transaction leaves its intents to the resolver. A crash in between, or
// before its commit, is made good at the next start.
func TestRestartResolvesWhatWasLeft(t *testing.T) {
	fs := testkit.NewCrashFS()
	node := start(t, kvtest.Options{FS: fs})
	const rows = 30_000
	fill := func(prefix string) *kv.Txn {
		txn := node.DB.NewTxn(ctx, "big")
		for i := 0; i < rows; i += 1000 {
			b := txn.NewBatch()
			for j := range 1000 {
				b.Put(key("%s%06d", prefix, i+j), val("x"))
			}
			ok(t, txn.Run(ctx, b))
		}
		return txn
	}
	fill("open") // never ends
	txn := fill("done")
	ok(t, txn.Commit(ctx))
	crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 7))})
	ok(t, node.Close())

	again := start(t, kvtest.Options{FS: crashed})
	defer again.Close()
	began := time.Now()
	r, err := again.DB.Scan(ctx, key("done"), key("dooo"), hlc.Timestamp{}, kv.ScanOptions{})
	ok(t, err)
	if len(r.KVs) != rows {
		t.Fatalf("%d of %d committed rows", len(r.KVs), rows)
	}
	r, err = again.DB.Scan(ctx, key("open"), key("opfo"), hlc.Timestamp{}, kv.ScanOptions{})
	ok(t, err)
	if len(r.KVs) != 0 {
		t.Fatalf("%d rows of a transaction that never committed", len(r.KVs))
	}
	t.Logf("reading over the left intents took %s", time.Since(began))
	deadline := time.Now().Add(time.Minute)
	for {
		locks, _, err := storage.ScanLocks(ctx, again.Engine, keys.MinKey, keys.MaxKey, 1)
		ok(t, err)
		records := 0
		ok(t, again.Engine.Scan(keys.LocalRangePrefix, keys.LocalRangePrefix.PrefixEnd(), func(k keys.Key, _ []byte) (bool, error) {
			if bytes.Contains(k, []byte("txn-")) {
				records++
			}
			return true, nil
		}))
		if len(locks) == 0 && records == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("locks %v and %d records are left", locks, records)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestLargeTransactionMemoryIsBounded(t *testing.T) {
	node := kvtest.New(t, kvtest.Options{})
	rec := &recorder{Sender: node.DB.Sender()}
	db := kv.NewDB(kv.Config{Sender: rec, Clock: node.Clock})
	txn := db.NewTxn(ctx, "big")
	for i := range 40 {
		b := txn.NewBatch()
		for j := range 1000 {
			b.CPut(key("%06d", i*1000+j), val("x"), nil)
		}
		ok(t, txn.Run(ctx, b))
	}
	ok(t, txn.Commit(ctx))
	if rec.lockSpans == 0 || rec.lockSpans > 8000 {
		t.Fatalf("the commit carries %d lock spans", rec.lockSpans)
	}
	ok(t, node.Store.WaitResolved(ctx))
	locks, _, err := storage.ScanLocks(ctx, node.Engine, keys.MinKey, keys.MaxKey, 1)
	ok(t, err)
	if len(locks) != 0 {
		t.Fatalf("left: %v", locks)
	}
}

type recorder struct {
	kv.Sender
	lockSpans int
}

func (r *recorder) Send(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	for i := range ba.Requests {
		if a, isEnd := ba.Requests[i].Args.(*kvpb.EndTxnArgs); isEnd {
			r.lockSpans = len(a.LockSpans)
		}
	}
	return r.Sender.Send(ctx, ba)
}

func TestClockStartsAboveItsFormerLife(t *testing.T) {
	fs := testkit.NewCrashFS()
	phys := time.Now().UnixNano()
	clock := func() *hlc.Clock { return hlc.NewClock(func() int64 { return phys }, time.Second) }
	node := start(t, kvtest.Options{FS: fs, Clock: clock()})
	ok(t, node.DB.Put(ctx, key("a"), val("1")))
	r, err := node.DB.Get(ctx, key("a"))
	ok(t, err)
	last := node.Clock.Now()
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	ok(t, node.Close())
	phys -= int64(time.Hour) // The machine's clock was set back meanwhile.
	again := start(t, kvtest.Options{FS: crashed, Clock: clock()})
	defer again.Close()
	if now := again.Clock.Now(); !last.Less(now) {
		t.Fatalf("the clock says %s, it had said %s", now, last)
	}
	ok(t, again.DB.Put(ctx, key("a"), val("2")))
	r2, err := again.DB.Get(ctx, key("a"))
	ok(t, err)
	if str(r2.Value) != "2" || !r.Timestamp.Less(r2.Timestamp) {
		t.Fatalf("got %q at %s after %s", str(r2.Value), r2.Timestamp, r.Timestamp)
	}
}

func sstOf(t testing.TB, pairs ...string) []byte {
	t.Helper()
	var buf storage.SSTBuffer
	w := storage.NewSSTWriter(&buf, storage.CompressFast)
	for i := 0; i < len(pairs); i += 2 {
		ok(t, w.PutVersion(storage.MVCCKey{Key: key("%s", pairs[i]), Timestamp: storage.PlaceholderTimestamp}, val(pairs[i+1])))
	}
	_, err := w.Finish()
	ok(t, err)
	return buf.Bytes()
}

// An ingested file must not change what a read has already seen, whatever the
// age of the reader.
func TestAddSSTableIsAboveServedReads(t *testing.T) {
	node := kvtest.New(t, kvtest.Options{})
	db := node.DB
	ok(t, db.Put(ctx, key("b"), val("old")))
	txn := db.NewTxn(ctx, "reader")
	read := func() string {
		r, err := txn.Scan(ctx, tableSpan.Key, tableSpan.EndKey, kv.ScanOptions{})
		ok(t, err)
		return fmt.Sprint(len(r.KVs))
	}
	before := read()
	ts, err := db.AddSSTable(ctx, tableSpan, sstOf(t, "a", "1", "b", "2", "c", "3"), kv.AddSSTableOptions{})
	ok(t, err)
	if !txn.ReadTimestamp().Less(ts) {
		t.Fatalf("ingested at %s, read at %s", ts, txn.ReadTimestamp())
	}
	if got := read(); got != before {
		t.Fatalf("the snapshot had %s rows, now %s", before, got)
	}
	ok(t, txn.Commit(ctx))
	if get(t, db, key("b")) != "2" || get(t, db, key("c")) != "3" {
		t.Fatal("the ingested rows are not visible")
	}
	if _, err := db.AddSSTable(ctx, tableSpan, sstOf(t, "c", "4"), kv.AddSSTableOptions{DisallowShadowing: true}); err == nil {
		t.Fatal("a live key was shadowed")
	}
	if _, err := db.AddSSTable(ctx, tableSpan, sstOf(t, "d", "4"), kv.AddSSTableOptions{RequireEmpty: true}); err == nil {
		t.Fatal("a span with rows passed as empty")
	}
	// The refresh of a reader notices what was ingested.
	txn = db.NewTxn(ctx, "reader")
	read()
	_, err = db.AddSSTable(ctx, tableSpan, sstOf(t, "e", "5"), kv.AddSSTableOptions{})
	ok(t, err)
	_, err = db.Get(ctx, keys.IndexPrefix(201, 1))
	ok(t, err)
	ok(t, txn.Put(ctx, keys.IndexPrefix(201, 1), val("x")))
	if err := txn.Commit(ctx); err == nil {
		t.Fatal("a transaction committed above rows it did not see")
	}
	ok(t, txn.Rollback(ctx))
}

// An export sees everything at or below its end time and nothing changes there
// afterwards, even if a transaction was in the middle of writing.
func TestExportPushesOpenTransactions(t *testing.T) {
	node := kvtest.New(t, kvtest.Options{})
	db := node.DB
	ok(t, db.Put(ctx, key("a"), val("1")))
	txn := db.NewTxn(ctx, "writer")
	ok(t, txn.Put(ctx, key("b"), val("2")))
	end := db.Clock().Now()
	page, err := db.Export(ctx, tableSpan, kv.ExportOptions{EndTime: end})
	ok(t, err)
	if n := kvsIn(page); n != 1 || page.Resume != nil {
		t.Fatalf("exported %d keys, resume %v", n, page.Resume)
	}
	ok(t, txn.Put(ctx, key("c"), val("3")))
	ok(t, txn.Commit(ctx))
	if ts := txn.CommitTimestamp(); !end.Less(ts) {
		t.Fatalf("committed at %s, below the export at %s", ts, end)
	}
	page, err = db.Export(ctx, tableSpan, kv.ExportOptions{StartTime: end, EndTime: db.Clock().Now()})
	ok(t, err)
	if n := kvsIn(page); n != 2 {
		t.Fatalf("the increment has %d keys, want 2", n)
	}
}

// An export over a large open transaction moves its intents in bulk, not one by
// one with a new look at the page for each.
func TestExportOverManyIntents(t *testing.T) {
	node := kvtest.New(t, kvtest.Options{})
	db := node.DB
	txn := db.NewTxn(ctx, "writer")
	for i := range 20 {
		b := txn.NewBatch()
		for j := range 1000 {
			b.Put(key("%06d", i*1000+j), val("x"))
		}
		ok(t, txn.Run(ctx, b))
	}
	end := db.Clock().Now()
	began := time.Now()
	page, err := db.Export(ctx, tableSpan, kv.ExportOptions{EndTime: end})
	ok(t, err)
	if n := kvsIn(page); n != 0 {
		t.Fatalf("exported %d uncommitted keys", n)
	}
	t.Logf("took %s", time.Since(began))
	ok(t, txn.Commit(ctx))
	if !end.Less(txn.CommitTimestamp()) {
		t.Fatal("committed below the export")
	}
	page, err = db.Export(ctx, tableSpan, kv.ExportOptions{StartTime: end, EndTime: db.Clock().Now()})
	ok(t, err)
	if n := kvsIn(page); n != 20_000 {
		t.Fatalf("the increment has %d keys", n)
	}
}

func kvsIn(p kv.ExportPage) (n int64) {
	for _, s := range p.Summary.Indexes {
		n += s.KVs
	}
	return n
}

func TestExportPagesAcrossRanges(t *testing.T) {
	node := kvtest.New(t, kvtest.Options{})
	db := node.DB
	const rows = 500
	ok(t, db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		b := txn.NewBatch()
		for i := range rows {
			b.Put(key("%04d", i), val("some value"))
		}
		return txn.Run(ctx, b)
	}))
	ok(t, db.AdminSplit(ctx, key("0123")))
	ok(t, db.AdminSplit(ctx, key("0300")))
	ok(t, db.AdminSplit(ctx, key("0300")))
	infos, err := db.Ranges(ctx, tableSpan)
	ok(t, err)
	if len(infos) != 3 {
		t.Fatalf("%d ranges, want 3", len(infos))
	}
	var total, pages int64
	end := db.Clock().Now()
	for rest := &tableSpan; rest != nil; pages++ {
		page, err := db.Export(ctx, *rest, kv.ExportOptions{EndTime: end, TargetBytes: 2000})
		ok(t, err)
		total += kvsIn(page)
		rest = page.Resume
	}
	if total != rows || pages < 5 {
		t.Fatalf("%d keys in %d pages", total, pages)
	}
	// Splits survive a restart, and so does every row.
	r, err := db.Scan(ctx, tableSpan.Key, tableSpan.EndKey, hlc.Timestamp{}, kv.ScanOptions{MaxKeys: 250})
	ok(t, err)
	if len(r.KVs) != 250 || r.Resume == nil || r.Resume.Key.Compare(key("0249")) <= 0 || key("0250").Less(r.Resume.Key) {
		t.Fatalf("%d keys, resume %v", len(r.KVs), r.Resume)
	}
	r, err = db.Scan(ctx, tableSpan.Key, tableSpan.EndKey, hlc.Timestamp{}, kv.ScanOptions{MaxKeys: 250, Reverse: true})
	ok(t, err)
	if len(r.KVs) != 250 || r.Resume == nil || !r.Resume.EndKey.Equal(key("0250")) {
		t.Fatalf("%d keys in reverse, resume %v", len(r.KVs), r.Resume)
	}
	r, err = db.Scan(ctx, tableSpan.Key, tableSpan.EndKey, hlc.Timestamp{}, kv.ScanOptions{Reverse: true})
	ok(t, err)
	for i, p := range r.KVs {
		if !p.Key.Equal(key("%04d", rows-1-i)) {
			t.Fatalf("position %d of the reverse scan is %s", i, p.Key)
		}
	}
}

func TestSplitSurvivesRestart(t *testing.T) {
	fs := storage.NewMemFS()
	node := start(t, kvtest.Options{FS: fs})
	for i := range 50 {
		ok(t, node.DB.Put(ctx, key("%02d", i), val("x")))
	}
	ok(t, node.DB.AdminSplit(ctx, key("20")))
	ok(t, node.DB.AdminSplit(ctx, key("40")))
	ok(t, node.Close())
	again := start(t, kvtest.Options{FS: fs})
	defer again.Close()
	infos, err := again.DB.Ranges(ctx, tableSpan)
	ok(t, err)
	if len(infos) != 3 || infos[1].LiveKeys != 20 || infos[2].LiveKeys != 10 {
		t.Fatalf("got %+v", infos)
	}
	r, err := again.DB.Scan(ctx, tableSpan.Key, tableSpan.EndKey, hlc.Timestamp{}, kv.ScanOptions{})
	ok(t, err)
	if len(r.KVs) != 50 {
		t.Fatalf("%d rows", len(r.KVs))
	}
	ok(t, again.DB.AdminSplit(ctx, key("30")))
}

func TestGarbageCollectionRespectsProtections(t *testing.T) {
	now := time.Now().UnixNano()
	clock := hlc.NewClock(func() int64 { return now }, time.Second)
	var mu sync.Mutex
	var protections []kvserver.Protection
	gc := &kvserver.GCConfig{
		Policies: func(context.Context, keys.Span) ([]kvserver.GCPolicy, error) {
			return []kvserver.GCPolicy{{Span: keys.Span{Key: keys.MinKey, EndKey: keys.MaxKey}, TTL: time.Hour}}, nil
		},
		Protections: func(context.Context) ([]kvserver.Protection, hlc.Timestamp, error) {
			mu.Lock()
			defer mu.Unlock()
			return protections, clock.Now(), nil
		},
		Interval: time.Hour,
	}
	node := kvtest.New(t, kvtest.Options{Clock: clock, GC: gc})
	db := node.DB
	var stamps []hlc.Timestamp
	for i := range 4 {
		ok(t, db.Put(ctx, key("a"), val(fmt.Sprint(i))))
		stamps = append(stamps, clock.Now())
		now += int64(30 * time.Minute)
	}
	ok(t, db.Del(ctx, key("gone")))
	// The times are now -120, -90, -60, -30 minutes.
	at := func(ts hlc.Timestamp) (string, error) {
		r, err := db.GetAt(ctx, key("a"), ts)
		return str(r.Value), err
	}
	protections = []kvserver.Protection{{Timestamp: stamps[0], Spans: []keys.Span{tableSpan}}}
	ok(t, node.Store.CollectGarbage(ctx))
	for i, ts := range stamps {
		if got, err := at(ts); err != nil || got != fmt.Sprint(i) {
			t.Fatalf("protected version %d: %q, %v", i, got, err)
		}
	}
	mu.Lock()
	protections = []kvserver.Protection{{Timestamp: stamps[0], Spans: []keys.Span{keys.TableSpan(999)}}}
	mu.Unlock()
	now += int64(10 * time.Minute) // The second version is older than an hour, and the third hides it since then.
	ok(t, node.Store.CollectGarbage(ctx))
	var tooOld *kvpb.BatchTimestampBeforeGCError
	if _, err := at(stamps[0]); !errors.As(err, &tooOld) || !errors.Is(err, storage.ErrGCThreshold) {
		t.Fatalf("got %v, want a GC threshold error", err)
	}
	if got, err := at(stamps[3]); err != nil || got != "3" {
		t.Fatalf("got %q, %v", got, err)
	}
	// An export may end above the threshold, but not begin below it.
	_, err := db.Export(ctx, tableSpan, kv.ExportOptions{StartTime: stamps[0], EndTime: clock.Now()})
	if !errors.As(err, &tooOld) {
		t.Fatalf("got %v, want a GC threshold error", err)
	}
	txn := db.NewTxn(ctx, "aost")
	ok(t, txn.SetFixedTimestamp(ctx, stamps[0]))
	if _, err := txn.Get(ctx, key("a")); !errors.As(err, &tooOld) {
		t.Fatalf("got %v, want a GC threshold error", err)
	}
	ok(t, txn.Rollback(ctx))
	st, err := storage.ComputeStats(ctx, node.Engine, tableSpan.Key, tableSpan.EndKey)
	ok(t, err)
	if st.KeyCount > 4 {
		t.Fatalf("nothing was removed: %+v", st)
	}
}

func TestRangeTombstoneAndClear(t *testing.T) {
	node := kvtest.New(t, kvtest.Options{})
	db := node.DB
	ok(t, db.Put(ctx, key("a"), val("1")))
	ts := db.Clock().Now()
	ok(t, db.DeleteRangeTombstone(ctx, tableSpan))
	if get(t, db, key("a")) != "" {
		t.Fatal("a deleted key is visible")
	}
	if r, err := db.GetAt(ctx, key("a"), ts); err != nil || str(r.Value) != "1" {
		t.Fatalf("history: %q, %v", str(r.Value), err)
	}
	ok(t, db.Put(ctx, key("a"), val("2")))
	if get(t, db, key("a")) != "2" {
		t.Fatal("a key cannot be written above a range tombstone")
	}
	ok(t, db.ClearRange(ctx, tableSpan))
	if r, err := db.GetAt(ctx, key("a"), ts); err != nil || r.Value != nil {
		t.Fatalf("cleared key has %q, %v", str(r.Value), err)
	}
}

func TestStoppedStoreRefuses(t *testing.T) {
	node := start(t, kvtest.Options{})
	txn := node.DB.NewTxn(ctx, "t")
	ok(t, txn.Put(ctx, key("a"), val("1")))
	waiter := make(chan error, 1)
	go func() {
		_, err := node.DB.Get(ctx, key("a"))
		waiter <- err
	}()
	time.Sleep(20 * time.Millisecond)
	ok(t, node.Close())
	if err := <-waiter; !errors.Is(err, kvserver.ErrStopped) {
		t.Fatalf("got %v", err)
	}
	if err := txn.Commit(ctx); !errors.Is(err, kvserver.ErrStopped) {
		t.Fatalf("got %v", err)
	}
}
