package kv_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvtest"
	"github.com/holdfastdb/holdfast/kv/storage"
)

var ctx = context.Background()

func key(format string, args ...any) keys.Key {
	return append(keys.IndexPrefix(200, 1), fmt.Sprintf(format, args...)...)
}

func val(s string) []byte { return storage.MakeValue([]byte(s)) }

// str is the payload of a value, "" if there is none.
func str(v []byte) string {
	if len(v) < 5 {
		return ""
	}
	return string(v[5:])
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, g interface {
	Get(context.Context, keys.Key) (kv.KeyValue, error)
}, k keys.Key) string {
	t.Helper()
	r, err := g.Get(ctx, k)
	ok(t, err)
	return str(r.Value)
}

func scan(t testing.TB, txn *kv.Txn, start, end keys.Key, o kv.ScanOptions) []string {
	t.Helper()
	r, err := txn.Scan(ctx, start, end, o)
	ok(t, err)
	var out []string
	for _, p := range r.KVs {
		out = append(out, string(p.Key[len(key("")):])+"="+str(p.Value))
	}
	return out
}

func TestSingleOperations(t *testing.T) {
	db := kvtest.NewDB(t)
	if got := get(t, db, key("a")); got != "" {
		t.Fatalf("missing key has %q", got)
	}
	ok(t, db.Put(ctx, key("a"), val("1")))
	if got := get(t, db, key("a")); got != "1" {
		t.Fatalf("got %q, want 1", got)
	}
	var cond *kvpb.ConditionFailedError
	if err := db.CPut(ctx, key("a"), val("2"), nil); !errors.As(err, &cond) || str(cond.Actual) != "1" {
		t.Fatalf("got %v, want a failed condition with the actual value", err)
	}
	ok(t, db.CPut(ctx, key("a"), val("2"), val("1")))
	ok(t, db.Del(ctx, key("a")))
	if got := get(t, db, key("a")); got != "" {
		t.Fatalf("deleted key has %q", got)
	}
	for want := int64(3); want <= 9; want += 3 {
		n, err := db.Inc(ctx, key("n"), 3)
		ok(t, err)
		if n != want {
			t.Fatalf("got %d, want %d", n, want)
		}
	}
}

func TestTransactionCommitsAllOrNothing(t *testing.T) {
	db := kvtest.NewDB(t)
	boom := errors.New("boom")
	err := db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		ok(t, txn.Put(ctx, key("a"), val("1")))
		ok(t, txn.Put(ctx, key("b"), val("1")))
		if got := get(t, txn, key("a")); got != "1" {
			t.Errorf("own write reads %q", got)
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if get(t, db, key("a")) != "" || get(t, db, key("b")) != "" {
		t.Fatal("a rolled back write is visible")
	}
	committed := false
	ok(t, db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		txn.OnCommit(func() { committed = true })
		ok(t, txn.Put(ctx, key("a"), val("1")))
		return txn.Put(ctx, key("b"), val("2"))
	}))
	if get(t, db, key("a")) != "1" || get(t, db, key("b")) != "2" || !committed {
		t.Fatal("a committed write is missing, or its hook did not run")
	}
}

func TestCommitInBatch(t *testing.T) {
	db := kvtest.NewDB(t)
	txn := db.NewTxn(ctx, "t")
	b := txn.NewBatch()
	b.Put(key("a"), val("1"))
	b.Put(key("b"), val("2"))
	b.CPut(key("c"), val("3"), nil)
	b.Put(key("a"), val("4")) // the same key twice
	ok(t, txn.CommitInBatch(ctx, b))
	if !txn.IsCommitted() || get(t, db, key("a")) != "4" || get(t, db, key("c")) != "3" {
		t.Fatal("the batch did not commit as a whole")
	}
	txn = db.NewTxn(ctx, "t")
	b = txn.NewBatch()
	b.Put(key("a"), val("5"))
	b.CPut(key("c"), val("6"), nil)
	var cond *kvpb.ConditionFailedError
	if err := txn.CommitInBatch(ctx, b); !errors.As(err, &cond) {
		t.Fatalf("got %v, want a failed condition", err)
	}
	ok(t, txn.Rollback(ctx))
	if get(t, db, key("a")) != "4" {
		t.Fatal("a batch whose condition failed left a write")
	}
}

func TestScanLimitsAndDirections(t *testing.T) {
	db := kvtest.NewDB(t)
	ok(t, db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		b := txn.NewBatch()
		for i := range 10 {
			b.Put(key("%d", i), val(fmt.Sprint(i)))
		}
		return txn.Run(ctx, b)
	}))
	txn := db.NewTxn(ctx, "t")
	r, err := txn.Scan(ctx, key(""), key("~"), kv.ScanOptions{MaxKeys: 4})
	ok(t, err)
	if len(r.KVs) != 4 || r.Resume == nil {
		t.Fatalf("got %d keys, resume %v", len(r.KVs), r.Resume)
	}
	r, err = txn.Scan(ctx, r.Resume.Key, r.Resume.EndKey, kv.ScanOptions{})
	ok(t, err)
	if len(r.KVs) != 6 || r.Resume != nil {
		t.Fatalf("the rest has %d keys, resume %v", len(r.KVs), r.Resume)
	}
	r, err = txn.Scan(ctx, key(""), key("~"), kv.ScanOptions{Reverse: true, MaxKeys: 3})
	ok(t, err)
	if len(r.KVs) != 3 || str(r.KVs[0].Value) != "9" || r.Resume == nil {
		t.Fatalf("reverse scan gave %v", r)
	}
	n, err := txn.DelRange(ctx, key("2"), key("5"))
	ok(t, err)
	if n != 3 {
		t.Fatalf("deleted %d, want 3", n)
	}
	if got := scan(t, txn, key(""), key("~"), kv.ScanOptions{}); len(got) != 7 {
		t.Fatalf("left: %v", got)
	}
	ok(t, txn.Commit(ctx))
}

func TestStepHidesTheStatementsOwnWrites(t *testing.T) {
	db := kvtest.NewDB(t)
	txn := db.NewTxn(ctx, "t")
	ok(t, txn.Put(ctx, key("a"), val("1")))
	txn.Step(ctx)
	ok(t, txn.Put(ctx, key("a"), val("2")))
	ok(t, txn.Put(ctx, key("b"), val("2")))
	if got := scan(t, txn, key(""), key("~"), kv.ScanOptions{}); fmt.Sprint(got) != "[a=1]" {
		t.Fatalf("within the statement: %v", got)
	}
	txn.Step(ctx)
	if got := scan(t, txn, key(""), key("~"), kv.ScanOptions{}); fmt.Sprint(got) != "[a=2 b=2]" {
		t.Fatalf("after it: %v", got)
	}
	ok(t, txn.Commit(ctx))
}

func TestSavepoints(t *testing.T) {
	db := kvtest.NewDB(t)
	txn := db.NewTxn(ctx, "t")
	ok(t, txn.Put(ctx, key("a"), val("1")))
	sp, err := txn.Savepoint(ctx)
	ok(t, err)
	ok(t, txn.Put(ctx, key("a"), val("2")))
	ok(t, txn.Put(ctx, key("b"), val("2")))
	ok(t, txn.RollbackTo(ctx, sp))
	if get(t, txn, key("a")) != "1" || get(t, txn, key("b")) != "" {
		t.Fatal("rolled back writes are visible")
	}
	ok(t, txn.Put(ctx, key("c"), val("3")))
	sp2, err := txn.Savepoint(ctx)
	ok(t, err)
	ok(t, txn.Put(ctx, key("c"), val("4")))
	ok(t, txn.Release(ctx, sp2))
	ok(t, txn.Commit(ctx))
	if get(t, db, key("a")) != "1" || get(t, db, key("b")) != "" || get(t, db, key("c")) != "4" {
		t.Fatal("the commit has rolled back writes, or lacks kept ones")
	}
}

func TestFixedTimestampReads(t *testing.T) {
	db := kvtest.NewDB(t)
	ok(t, db.Put(ctx, key("a"), val("1")))
	ts := db.Clock().Now()
	ok(t, db.Put(ctx, key("a"), val("2")))
	txn := db.NewTxn(ctx, "t")
	ok(t, txn.SetFixedTimestamp(ctx, ts))
	if got := get(t, txn, key("a")); got != "1" {
		t.Fatalf("got %q, want the old value", got)
	}
	if err := txn.Put(ctx, key("a"), val("3")); err == nil {
		t.Fatal("a write at a fixed timestamp succeeded")
	}
	ok(t, txn.Commit(ctx))
	r, err := db.Scan(ctx, key(""), key("~"), ts, kv.ScanOptions{})
	ok(t, err)
	if len(r.KVs) != 1 || str(r.KVs[0].Value) != "1" {
		t.Fatalf("got %v", r.KVs)
	}
}

func TestCommitTimestampIsPinned(t *testing.T) {
	db := kvtest.NewDB(t)
	txn := db.NewTxn(ctx, "t")
	ts := txn.CommitTimestamp()
	ok(t, txn.Put(ctx, key("a"), val("1")))
	ok(t, txn.Commit(ctx))
	r, err := db.Get(ctx, key("a"))
	ok(t, err)
	if r.Timestamp != ts || txn.CommitTimestamp() != ts {
		t.Fatalf("written at %s, promised %s", r.Timestamp, ts)
	}
	// A write that was pushed before keeps its promise too: the reads catch up.
	txn = db.NewTxn(ctx, "t")
	get(t, txn, key("c"))
	get(t, db, key("b"))
	ok(t, txn.Put(ctx, key("b"), val("1")))
	ts = txn.CommitTimestamp()
	ok(t, txn.Commit(ctx))
	if r, err = db.Get(ctx, key("b")); err != nil || r.Timestamp != ts {
		t.Fatalf("written at %s, promised %s: %v", r.Timestamp, ts, err)
	}
	// A later read of the key makes it impossible to keep the promise.
	txn = db.NewTxn(ctx, "t")
	txn.CommitTimestamp()
	get(t, db, key("b"))
	ok(t, txn.Put(ctx, key("b"), val("1")))
	err = txn.Commit(ctx)
	if _, isRetry := kvpb.IsRetry(err); !isRetry {
		t.Fatalf("got %v, want a retry error", err)
	}
	ok(t, txn.Rollback(ctx))
}

// bound is a commit bound that moves.
type bound struct{ at map[uint64]hlc.Timestamp }

func (b *bound) CommitBound(token uint64) hlc.Timestamp { return b.at[token] }

// TestBoundCommit: a transaction commits no later than its bound allows when it
// commits, whatever it did before.
func TestBoundCommit(t *testing.T) {
	db := kvtest.NewDB(t)
	now := func() hlc.Timestamp { return db.Clock().Now() }
	for _, c := range []struct {
		name     string
		writes   bool
		onePhase bool
	}{{"writes", true, false}, {"one phase", false, true}, {"reads", false, false}} {
		t.Run(c.name, func(t *testing.T) {
			b := &bound{at: map[uint64]hlc.Timestamp{1: now().Add(-time.Second), 2: now().Add(time.Hour)}}
			run := func(token uint64) error {
				txn := db.NewTxn(ctx, "bound")
				defer txn.Rollback(ctx) //nolint:errcheck // It may have committed.
				txn.BoundCommit(b, token)
				txn.BoundCommit(b, 2) // The first counts.
				get(t, txn, key("a"))
				if c.writes {
					ok(t, txn.Put(ctx, key("a"), val("x")))
				}
				if c.onePhase {
					batch := txn.NewBatch()
					batch.Put(key("a"), val("x"))
					return txn.CommitInBatch(ctx, batch)
				}
				return txn.Commit(ctx)
			}
			var re *kvpb.TransactionRetryError
			if err := run(1); !errors.As(err, &re) || re.Reason != kvpb.RetryCommitDeadline {
				t.Fatalf("past the bound: %v", err)
			}
			b.at[1] = now().Add(time.Hour)
			ok(t, run(1))
		})
	}
}
