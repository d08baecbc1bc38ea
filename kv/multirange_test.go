package kv_test

import (
	"context"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvserver"
	"github.com/holdfastdb/holdfast/kv/kvtest"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// TestCommitAcrossRangesIsAboveEveryWrite commits a batch of which one range
// moved a write up, because somebody had read there: the commit follows, and
// what is sent again after the refresh counts as it did at first.
func TestCommitAcrossRangesIsAboveEveryWrite(t *testing.T) {
	db := kvtest.NewDB(t)
	ok(t, db.AdminSplit(ctx, key("m")))
	ok(t, db.Put(ctx, key("b"), val("old")))
	ok(t, db.Put(ctx, key("y"), val("old")))
	txn := db.NewTxn(ctx, "two ranges")
	get(t, txn, key("unrelated")) // Its snapshot is fixed by a read.
	other := db.NewTxn(ctx, "reader")
	if got := get(t, other, key("z")); got != "" {
		t.Fatalf("got %q", got)
	}
	scan(t, other, key("x"), key("zz"), kv.ScanOptions{})
	ok(t, other.Commit(ctx))

	b := txn.NewBatch()
	b.Put(key("a"), val("1"))
	b.Put(key("z"), val("2"))
	b.Inc(key("n"), 5)
	b.Inc(key("w"), 7)
	b.Del(key("b"))
	b.DelRange(key("x"), key("yy"))
	ok(t, txn.CommitInBatch(ctx, b))
	for i, want := range map[int]int64{2: 5, 3: 7, 4: 1, 5: 1} {
		if got := b.Results[i].Count; got != want {
			t.Errorf("request %d counted %d, want %d", i, got, want)
		}
	}
	for k, want := range map[string]string{"a": "1", "z": "2", "b": "", "y": ""} {
		if got := get(t, db, key("%s", k)); got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
	r1, err := db.Get(ctx, key("a"))
	ok(t, err)
	r2, err := db.Get(ctx, key("z"))
	ok(t, err)
	if r1.Timestamp != r2.Timestamp || r1.Timestamp != txn.CommitTimestamp() {
		t.Errorf("one transaction wrote at %s and %s, committed at %s", r1.Timestamp, r2.Timestamp, txn.CommitTimestamp())
	}
}

// TestOldSnapshotNoticesCollectedDeletes lets garbage collection overtake an
// open transaction: what was deleted above its snapshot is gone without a trace,
// so it must neither write nor refresh.
func TestOldSnapshotNoticesCollectedDeletes(t *testing.T) {
	now := time.Now().UnixNano()
	clock := hlc.NewClock(func() int64 { return now }, 500*time.Millisecond)
	n := kvtest.New(t, kvtest.Options{Clock: clock, GC: &kvserver.GCConfig{
		Policies: func(_ context.Context, span keys.Span) ([]kvserver.GCPolicy, error) {
			return []kvserver.GCPolicy{{Span: span, TTL: time.Minute}}, nil
		},
	}})
	db := n.DB
	ok(t, db.Put(ctx, key("a"), val("1")))
	blind, reader := db.NewTxn(ctx, "blind"), db.NewTxn(ctx, "reader")
	for _, txn := range []*kv.Txn{blind, reader} {
		if got := get(t, txn, key("a")); got != "1" {
			t.Fatalf("got %q", got)
		}
	}
	now += int64(time.Second)
	ok(t, db.Del(ctx, key("a")))
	now += int64(10 * time.Minute)
	ok(t, n.Store.CollectGarbage(ctx))
	if err := blind.Put(ctx, key("a"), val("2")); err == nil {
		t.Error("a write over a collected delete was accepted")
	}
	if err := reader.RefreshToNow(ctx); err == nil {
		t.Error("a refresh over a collected delete was accepted")
	}
	ok(t, blind.Rollback(ctx))
	ok(t, reader.Rollback(ctx))
}
