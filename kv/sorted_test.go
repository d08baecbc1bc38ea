package kv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvtest"
)

// sortedPairs returns pairs enough to be ingested, with keys prefix0000, …
func sortedPairs(prefix string, n int) []kv.Pair {
	value := val(string(bytes.Repeat([]byte("x"), 1<<20/n)))
	pairs := make([]kv.Pair, n)
	for i := range pairs {
		pairs[i] = kv.Pair{Key: key("%s%04d", prefix, i), Value: value}
	}
	return pairs
}

func count(t testing.TB, txn *kv.Txn, prefix string) int {
	t.Helper()
	r, err := txn.Scan(ctx, key("%s", prefix), key("%s~", prefix), kv.ScanOptions{})
	ok(t, err)
	return len(r.KVs)
}

// What PutSorted writes is part of its transaction, whichever way it goes: into
// one range or several, where nothing was and where the transaction has written.
func TestPutSortedIsPartOfItsTransaction(t *testing.T) {
	for _, split := range []bool{false, true} {
		for _, own := range []bool{false, true} {
			for _, end := range []string{"commit", "rollback", "savepoint"} {
				t.Run(fmt.Sprintf("split=%t,own=%t,%s", split, own, end), func(t *testing.T) {
					testPutSorted(t, split, own, end)
				})
			}
		}
	}
}

func testPutSorted(t *testing.T, split, own bool, end string) {
	const n = 200
	db := kvtest.NewDB(t)
	ok(t, db.Put(ctx, key("b0000"), val("neighbour"))) // Between and around the keys.
	ok(t, db.Put(ctx, key("a0100x"), val("neighbour")))
	if split {
		ok(t, db.AdminSplit(ctx, key("a0100")))
		ok(t, db.AdminSplit(ctx, key("a0150")))
	}
	t1 := db.NewTxn(ctx, "t1")
	if own {
		ok(t, t1.Put(ctx, key("a0050"), val("own")))
		ok(t, t1.Del(ctx, key("a0050")))
	}
	sp, err := t1.Savepoint(ctx)
	ok(t, err)
	pairs := sortedPairs("a", n)
	ok(t, t1.PutSorted(ctx, pairs, true))
	if got := count(t, t1, "a"); got != n+1 {
		t.Fatalf("the transaction sees %d keys", got)
	}
	old := db.NewTxn(ctx, "reader before")
	ok(t, old.SetFixedTimestamp(ctx, t1.ProvisionalCommitTimestamp().Prev()))
	if got := count(t, old, "a"); got != 1 {
		t.Fatalf("a reader of the past sees %d keys", got)
	}
	want := 1
	switch end {
	case "commit":
		want = n + 1
		ok(t, t1.Commit(ctx))
	case "rollback":
		ok(t, t1.Rollback(ctx))
	case "savepoint":
		ok(t, t1.RollbackTo(ctx, sp))
		if got := count(t, t1, "a"); got != 1 {
			t.Fatalf("after the rollback to the savepoint the transaction sees %d keys", got)
		}
		ok(t, t1.Commit(ctx))
	}
	t2 := db.NewTxn(ctx, "t2")
	if got := count(t, t2, "a"); got != want {
		t.Fatalf("%d keys, want %d", got, want)
	}
	ok(t, t2.Commit(ctx))
	// Nothing is left that another writer would meet.
	t3 := db.NewTxn(ctx, "t3")
	t3.SetLockTimeout(5 * time.Second)
	err = t3.PutSorted(ctx, pairs, true)
	var cond *kvpb.ConditionFailedError
	switch {
	case end == "commit" && (!errors.As(err, &cond) || !cond.Key.Equal(pairs[0].Key) || !bytes.Equal(cond.Actual, pairs[0].Value)):
		t.Fatalf("got %v, want a failed condition with the first key and its value", err)
	case end != "commit" && err != nil:
		t.Fatal(err)
	}
	ok(t, t3.Rollback(ctx))
}

// Two loads of one span come one after the other, and so do a load and the writer
// of a key in it.
func TestPutSortedWaitsForLocks(t *testing.T) {
	db := kvtest.NewDB(t)
	pairs := sortedPairs("a", 100)
	t1, t2 := db.NewTxn(ctx, "t1"), db.NewTxn(ctx, "t2")
	ok(t, t1.Put(ctx, key("a0060"), val("1")))
	done := after(func() error { return t2.PutSorted(ctx, pairs, false) })
	select {
	case err := <-done:
		t.Fatalf("a load passed a lock: %v", err)
	default:
	}
	ok(t, t1.Commit(ctx))
	ok(t, <-done)
	t3 := db.NewTxn(ctx, "t3")
	done = after(func() error { return t3.PutSorted(ctx, pairs, true) })
	put := after(func() error { return db.Put(ctx, key("a0099"), val("2")) })
	select {
	case err := <-done:
		t.Fatalf("a load passed the locks of another: %v", err)
	case err := <-put:
		t.Fatalf("a write passed a lock: %v", err)
	default:
	}
	ok(t, t2.Commit(ctx))
	var cond *kvpb.ConditionFailedError
	if err := <-done; !errors.As(err, &cond) {
		t.Fatalf("got %v, want a failed condition", err)
	}
	ok(t, <-put)
	ok(t, t3.Rollback(ctx))
	if got := get(t, db, key("a0099")); got != "2" {
		t.Fatalf("a0099 is %q", got)
	}
}

// A read that saw a key missing stays true: the load moves above it.
func TestPutSortedMovesAboveReads(t *testing.T) {
	db := kvtest.NewDB(t)
	for _, read := range []func(*kv.Txn) error{
		func(x *kv.Txn) error { _, err := x.Get(ctx, key("a0060")); return err },
		func(x *kv.Txn) error {
			_, err := x.Scan(ctx, key("a0010"), key("a0010z"), kv.ScanOptions{})
			return err
		},
	} {
		t1, reader := db.NewTxn(ctx, "t1"), db.NewTxn(ctx, "reader")
		ok(t, read(reader))
		ok(t, t1.PutSorted(ctx, sortedPairs("a", 100), false))
		if ts := t1.ProvisionalCommitTimestamp(); ts.LessEq(reader.ReadTimestamp()) {
			t.Fatalf("written at %s, read at %s", ts, reader.ReadTimestamp())
		}
		// A read beside its keys does not matter.
		ok(t, t1.Rollback(ctx))
		t2, other := db.NewTxn(ctx, "t2"), db.NewTxn(ctx, "other")
		_, err := other.Get(ctx, key("c0060x"))
		ok(t, err)
		ok(t, t2.PutSorted(ctx, sortedPairs("c", 100), false))
		if ts := t2.ProvisionalCommitTimestamp(); ts != t2.ReadTimestamp() {
			t.Fatalf("moved from %s to %s by a read of another key", t2.ReadTimestamp(), ts)
		}
		ok(t, t2.Rollback(ctx))
	}
}

// requestCounter counts requests by operation.
type requestCounter struct {
	kv.Sender
	n map[kvpb.Op]int
}

func (s requestCounter) Send(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	for i := range ba.Requests {
		s.n[ba.Requests[i].Op]++
	}
	return s.Sender.Send(ctx, ba)
}

// TestLargeWritesComeInPieces writes and deletes more than a range takes at once.
func TestLargeWritesComeInPieces(t *testing.T) {
	n := kvtest.New(t, kvtest.Options{})
	sent := requestCounter{n.Store.Sender(), map[kvpb.Op]int{}}
	db := kv.NewDB(kv.Config{Sender: sent, Clock: n.Clock})
	large := make([]kv.Pair, 45)
	for i := range large {
		large[i] = kv.Pair{Key: key("%06d", i), Value: val(strings.Repeat("x", 1<<20))}
	}
	ok(t, db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error { return txn.PutSorted(ctx, large, true) }))
	if sent.n[kvpb.OpPutSorted] != 2 {
		t.Errorf("%d requests for %d large pairs", sent.n[kvpb.OpPutSorted], len(large))
	}
	const total = 100_500
	pairs := make([]kv.Pair, total)
	for i := range pairs {
		pairs[i] = kv.Pair{Key: key("%06d", i), Value: val("1")}
	}
	ok(t, db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error { return txn.PutSorted(ctx, pairs[len(large):], true) }))
	ok(t, db.AdminSplit(ctx, key("%06d", 100_200)))
	ok(t, db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		got, err := txn.DelRange(ctx, key("000001"), key("z"))
		if got != total-1 {
			t.Errorf("deleted %d keys, want %d", got, total-1)
		}
		return err
	}))
	if sent.n[kvpb.OpDeleteRange] < 2 {
		t.Errorf("%d requests to delete %d keys", sent.n[kvpb.OpDeleteRange], total)
	}
	res, err := db.Scan(ctx, key("0"), key("z"), n.Clock.Now(), kv.ScanOptions{MaxKeys: 10})
	ok(t, err)
	if len(res.KVs) != 1 {
		t.Errorf("%d keys are left", len(res.KVs))
	}
}
