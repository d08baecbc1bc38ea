package kv_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvtest"
)

func isRetry(err error) bool {
	_, is := kvpb.IsRetry(err)
	return is
}

// after runs fn and returns a channel with its result; it gives fn a moment to
// block.
func after(fn func() error) chan error {
	ch := make(chan error, 1)
	go func() { ch <- fn() }()
	time.Sleep(15 * time.Millisecond)
	return ch
}

func TestLostUpdate(t *testing.T) {
	db := kvtest.NewDB(t)
	ok(t, db.Put(ctx, key("a"), val("0")))
	t1, t2 := db.NewTxn(ctx, "t1"), db.NewTxn(ctx, "t2")
	get(t, t1, key("a"))
	get(t, t2, key("a"))
	ok(t, t2.Put(ctx, key("a"), val("2")))
	ok(t, t2.Commit(ctx))
	err := t1.Put(ctx, key("a"), val("1"))
	if err == nil {
		err = t1.Commit(ctx)
	}
	if !isRetry(err) {
		t.Fatalf("got %v, want a retry error", err)
	}
	ok(t, t1.PrepareForRetry(ctx))
	if got := get(t, t1, key("a")); got != "2" {
		t.Fatalf("the retry reads %q", got)
	}
	ok(t, t1.Put(ctx, key("a"), val("3")))
	ok(t, t1.Commit(ctx))
	if got := get(t, db, key("a")); got != "3" {
		t.Fatalf("got %q, want 3", got)
	}
}

func TestWriteSkew(t *testing.T) {
	db := kvtest.NewDB(t)
	t1, t2 := db.NewTxn(ctx, "t1"), db.NewTxn(ctx, "t2")
	for _, x := range []*kv.Txn{t1, t2} {
		get(t, x, key("a"))
		get(t, x, key("b"))
	}
	ok(t, t1.Put(ctx, key("a"), val("1")))
	ok(t, t2.Put(ctx, key("b"), val("1")))
	done := after(func() error { return t1.Commit(ctx) })
	err2 := t2.Commit(ctx)
	err1 := <-done
	if err1 == nil && err2 == nil {
		t.Fatal("both transactions committed")
	}
	if err1 != nil && !isRetry(err1) || err2 != nil && !isRetry(err2) {
		t.Fatalf("got %v and %v", err1, err2)
	}
	ok(t, t1.Rollback(ctx))
	ok(t, t2.Rollback(ctx))
}

func TestPhantom(t *testing.T) {
	db := kvtest.NewDB(t)
	t1 := db.NewTxn(ctx, "t1")
	if got := scan(t, t1, key("a"), key("z"), kv.ScanOptions{}); len(got) != 0 {
		t.Fatal(got)
	}
	ok(t, db.Put(ctx, key("m"), val("1"))) // Above the scan, thanks to the timestamp cache.
	if got := scan(t, t1, key("a"), key("z"), kv.ScanOptions{}); len(got) != 0 {
		t.Fatalf("a phantom: %v", got)
	}
	get(t, db, key("x"))
	ok(t, t1.Put(ctx, key("x"), val("1"))) // Pushed above the read, so a refresh is needed.
	if err := t1.Commit(ctx); !isRetry(err) {
		t.Fatalf("got %v, want a retry error", err)
	}
	ok(t, t1.Rollback(ctx))
}

func TestRefreshLetsAnUndisturbedTransactionCommit(t *testing.T) {
	db := kvtest.NewDB(t)
	t1 := db.NewTxn(ctx, "t1")
	get(t, t1, key("a"))
	scan(t, t1, key("b"), key("c"), kv.ScanOptions{})
	ok(t, t1.Put(ctx, key("b1"), val("own")))
	before := t1.ReadTimestamp()
	get(t, db, key("x"))
	ok(t, t1.Put(ctx, key("x"), val("1")))
	ok(t, t1.Commit(ctx))
	if ts := t1.CommitTimestamp(); !before.Less(ts) {
		t.Fatalf("committed at %s, began at %s", ts, before)
	}
}

func TestReaderWaitsForWriter(t *testing.T) {
	db := kvtest.NewDB(t)
	ok(t, db.Put(ctx, key("a"), val("0")))
	t1 := db.NewTxn(ctx, "t1")
	ok(t, t1.Put(ctx, key("a"), val("1")))
	var got string
	done := after(func() error {
		r, err := db.Get(ctx, key("a"))
		got = str(r.Value)
		return err
	})
	select {
	case <-done:
		t.Fatal("a read did not wait for an intent below it")
	default:
	}
	ok(t, t1.Commit(ctx))
	ok(t, <-done)
	if got != "1" {
		t.Fatalf("got %q", got)
	}
}

func TestHighPriorityReaderPushesWriter(t *testing.T) {
	db := kvtest.NewDB(t)
	ok(t, db.Put(ctx, key("a"), val("0")))
	t1 := db.NewTxn(ctx, "t1")
	ok(t, t1.Put(ctx, key("a"), val("1")))
	t2 := db.NewTxn(ctx, "t2")
	t2.SetPriority(kvpb.PriorityHigh)
	if got := get(t, t2, key("a")); got != "0" {
		t.Fatalf("got %q", got)
	}
	ok(t, t2.Commit(ctx))
	ok(t, t1.Commit(ctx)) // It moved above the read and had nothing to refresh.
	if ts := t1.CommitTimestamp(); !t2.CommitTimestamp().Less(ts) {
		t.Fatal("the writer committed below the read that did not see it")
	}
	if got := get(t, db, key("a")); got != "1" {
		t.Fatalf("got %q", got)
	}
}

func TestHighPriorityWriterAbortsWriter(t *testing.T) {
	db := kvtest.NewDB(t)
	t1 := db.NewTxn(ctx, "t1")
	ok(t, t1.Put(ctx, key("a"), val("1")))
	t2 := db.NewTxn(ctx, "t2")
	t2.SetPriority(kvpb.PriorityHigh)
	ok(t, t2.Put(ctx, key("a"), val("2")))
	ok(t, t2.Commit(ctx))
	id := t1.ID()
	if err := t1.Commit(ctx); !isRetry(err) {
		t.Fatalf("got %v, want a retry error", err)
	}
	ok(t, t1.PrepareForRetry(ctx))
	if t1.ID() == id {
		t.Fatal("an aborted transaction kept its id")
	}
	if got := get(t, t1, key("a")); got != "2" {
		t.Fatalf("got %q", got)
	}
	ok(t, t1.Commit(ctx))
}

func TestDeadlockIsBroken(t *testing.T) {
	db := kvtest.NewDB(t)
	for round := range 5 {
		t1, t2 := db.NewTxn(ctx, "t1"), db.NewTxn(ctx, "t2")
		ok(t, t1.Put(ctx, key("a"), val("1")))
		ok(t, t2.Put(ctx, key("b"), val("2")))
		done := after(func() error { return t1.Put(ctx, key("b"), val("1")) })
		start := time.Now()
		err2 := t2.Put(ctx, key("a"), val("2"))
		if err2 != nil {
			ok(t, t2.Rollback(ctx))
		}
		err1 := <-done
		if d := time.Since(start); d > 30*time.Second {
			t.Fatalf("round %d: took %s", round, d)
		}
		// The older one survives.
		if err1 != nil || !isRetry(err2) {
			t.Fatalf("round %d: got %v and %v", round, err1, err2)
		}
		ok(t, t1.Commit(ctx))
	}
}

func TestForUpdateQueuesInsteadOfFailing(t *testing.T) {
	db := kvtest.NewDB(t)
	ok(t, db.Put(ctx, key("n"), val("0")))
	const clients, rounds = 6, 30
	errs := make(chan error, clients)
	retries := make(chan int, clients)
	for range clients {
		go func() {
			tries := 0
			var err error
			for i := 0; i < rounds && err == nil; i++ {
				err = db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
					tries++
					r, err := txn.GetWith(ctx, key("n"), kv.GetOptions{ForUpdate: true})
					if err != nil {
						return err
					}
					var n int
					fmt.Sscan(str(r.Value), &n)
					return txn.Put(ctx, key("n"), val(fmt.Sprint(n+1)))
				})
			}
			retries <- tries - rounds
			errs <- err
		}()
	}
	total := 0
	for range clients {
		ok(t, <-errs)
		total += <-retries
	}
	if got := get(t, db, key("n")); got != fmt.Sprint(clients*rounds) {
		t.Fatalf("got %s, want %d", got, clients*rounds)
	}
	if total > 0 {
		t.Errorf("%d retries of %d transactions that lock what they update", total, clients*rounds)
	}
}

func TestLockPolicies(t *testing.T) {
	db := kvtest.NewDB(t)
	for _, k := range []string{"a", "b", "c", "d"} {
		ok(t, db.Put(ctx, key("%s", k), val(k)))
	}
	t1 := db.NewTxn(ctx, "t1")
	scan(t, t1, key("a"), key("b"), kv.ScanOptions{ForUpdate: true})
	ok(t, t1.Put(ctx, key("c"), val("1")))

	// Plain readers pass a lock that is no intent.
	if got := get(t, db, key("a")); got != "a" {
		t.Fatalf("got %q", got)
	}
	t2 := db.NewTxn(ctx, "t2")
	for _, k := range []string{"a", "c"} {
		_, err := t2.GetWith(ctx, key("%s", k), kv.GetOptions{ForUpdate: true, NoWait: true})
		var busy *kvpb.LockNotAvailableError
		if !errors.As(err, &busy) {
			t.Fatalf("%s: got %v, want LockNotAvailable", k, err)
		}
	}
	if got := scan(t, t2, key(""), key("~"), kv.ScanOptions{ForUpdate: true, SkipLocked: true}); fmt.Sprint(got) != "[b=b d=d]" {
		t.Fatalf("skip locked: %v", got)
	}
	t3 := db.NewTxn(ctx, "t3")
	if got := scan(t, t3, key(""), key("~"), kv.ScanOptions{ForUpdate: true, SkipLocked: true, MaxKeys: 1}); len(got) != 0 {
		t.Fatalf("everything is locked, got %v", got)
	}
	t3.SetLockTimeout(30 * time.Millisecond)
	start := time.Now()
	err := t3.Put(ctx, key("a"), val("3"))
	var busy *kvpb.LockNotAvailableError
	if !errors.As(err, &busy) || busy.Timeout == 0 || time.Since(start) > 30*time.Second {
		t.Fatalf("got %v after %s, want a lock timeout", err, time.Since(start))
	}
	ok(t, t3.Rollback(ctx))
	ok(t, t1.Commit(ctx))
	if _, err := t2.GetWith(ctx, key("a"), kv.GetOptions{ForUpdate: true, NoWait: true}); err != nil {
		t.Fatalf("the lock is free: %v", err)
	}
	ok(t, t2.Rollback(ctx))
}

func TestCanceledWaiterLeavesTheQueue(t *testing.T) {
	db := kvtest.NewDB(t)
	t1 := db.NewTxn(ctx, "t1")
	ok(t, t1.Put(ctx, key("a"), val("1")))
	c, cancel := context.WithCancel(ctx)
	t2 := db.NewTxn(ctx, "t2")
	first := after(func() error { return t2.Put(c, key("a"), val("2")) })
	t3 := db.NewTxn(ctx, "t3")
	second := after(func() error { return t3.Put(ctx, key("a"), val("3")) })
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	ok(t, t2.Rollback(ctx))
	ok(t, t1.Rollback(ctx))
	ok(t, <-second)
	ok(t, t3.Commit(ctx))
	if got := get(t, db, key("a")); got != "3" {
		t.Fatalf("got %q", got)
	}
}

// A client that vanishes without a word holds others up only until its
// transaction expires. The waiting reader learns that from the record's age.
func TestAbandonedTransactionExpires(t *testing.T) {
	t.Parallel()
	db := kvtest.NewDB(t)
	dead := kv.NewDB(kv.Config{Sender: db.Sender(), Clock: db.Clock(), HeartbeatInterval: time.Hour})
	txn := dead.NewTxn(ctx, "dead")
	ok(t, txn.Put(ctx, key("a"), val("1")))
	start := time.Now()
	if got := get(t, db, key("a")); got != "" {
		t.Fatalf("got %q", got)
	}
	if d := time.Since(start); d < 4*time.Second || d > time.Minute {
		t.Fatalf("took %s", d)
	}
	if err := txn.Commit(ctx); !isRetry(err) {
		t.Fatalf("an expired transaction committed: %v", err)
	}
	ok(t, txn.Rollback(ctx))
}

// A conditional put needs no refresh while its lock is there. One that a savepoint
// takes back leaves nothing, but it has shown that there was nothing.
func TestConditionalPutTakenBackWasARead(t *testing.T) {
	db := kvtest.NewDB(t)
	t1, t2 := db.NewTxn(ctx, "t1"), db.NewTxn(ctx, "t2")
	get(t, t2, key("w"))
	sp, err := t1.Savepoint(ctx)
	ok(t, err)
	ok(t, t1.CPut(ctx, key("k"), val("1"), nil))
	ok(t, t1.RollbackTo(ctx, sp))
	get(t, db, key("w"))
	ok(t, t1.Put(ctx, key("w"), val("1"))) // Pushed above that read and so above t2.
	ok(t, t1.Commit(ctx))
	if ts := t1.CommitTimestamp(); ts.LessEq(t2.ReadTimestamp()) {
		t.Fatalf("t1 committed at %s, not above t2 at %s: the test shows nothing", ts, t2.ReadTimestamp())
	}
	// t1 saw no k, so it is before t2; t2 saw no w, so it is before t1.
	err = t2.Put(ctx, key("k"), val("2"))
	if err == nil {
		err = t2.Commit(ctx)
	}
	if !isRetry(err) {
		t.Fatalf("got %v, want a retry error", err)
	}
	ok(t, t2.Rollback(ctx))
}

// The commit of a large load that was pushed looks at none of its keys again.
func TestConditionalPutsAreNotRefreshed(t *testing.T) {
	db := kvtest.NewDB(t)
	t1 := db.NewTxn(ctx, "t1")
	ok(t, t1.CPut(ctx, key("a"), val("1"), nil))
	if t1.HasReads() {
		t.Fatal("a key under the transaction's own lock is to be refreshed")
	}
	get(t, db, key("b"))
	ok(t, t1.CPut(ctx, key("b"), val("1"), nil)) // Pushed.
	ok(t, t1.Commit(ctx))
	if got := get(t, db, key("a")) + get(t, db, key("b")); got != "11" {
		t.Fatalf("got %q", got)
	}
}

// farAway delays answers that make a transaction come again: more for those that
// come first.
type farAway struct {
	kv.Sender
	late atomic.Int32
}

func (f *farAway) Send(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	resp, err := f.Sender.Send(ctx, ba)
	var late *kvpb.WriteTooOldError
	if errors.As(err, &late) {
		time.Sleep(max(0, 30-4*time.Duration(f.late.Add(1))) * time.Millisecond)
	}
	return resp, err
}

// Many want one row. Whoever is next finds that it came too late, moves its
// snapshot and comes again: meanwhile nobody overtakes it, or it might never get
// through.
func TestQueueAtARowIsServedInOrder(t *testing.T) {
	near := kvtest.NewDB(t)
	db := kv.NewDB(kv.Config{Sender: &farAway{Sender: near.Sender()}, Clock: near.Clock()})
	ok(t, db.Put(ctx, key("hot"), val("0")))
	const n = 8
	var txns [n]*kv.Txn
	var done [n]chan error
	for i := n - 1; i >= 0; i-- { // The snapshot of each is older than that of the one before it.
		txns[i] = db.NewTxn(ctx, fmt.Sprint("waiter ", i))
		get(t, txns[i], key("own%d", i)) // It cannot just move.
	}
	first := db.NewTxn(ctx, "first")
	ok(t, first.Put(ctx, key("hot"), val("1")))
	for i := range n {
		if i%2 == 0 {
			done[i] = after(func() error {
				_, err := txns[i].GetWith(ctx, key("hot"), kv.GetOptions{ForUpdate: true})
				return err
			})
		} else {
			done[i] = after(func() error { return txns[i].Put(ctx, key("hot"), val("x")) })
		}
	}
	ok(t, first.Commit(ctx))
	for i := range n {
		select {
		case err := <-done[i]:
			ok(t, err)
		case <-time.After(10 * time.Second):
			t.Fatalf("waiter %d does not get its turn", i)
		}
		time.Sleep(time.Millisecond)
		for j := i + 1; j < n; j++ {
			select {
			case err := <-done[j]:
				t.Fatalf("waiter %d has the row before waiter %d is done with it: %v", j, i, err)
			default:
			}
		}
		ok(t, txns[i].Put(ctx, key("hot"), val(fmt.Sprint(i))))
		ok(t, txns[i].Commit(ctx))
	}
	if got := get(t, db, key("hot")); got != fmt.Sprint(n-1) {
		t.Fatalf("the row is %q", got)
	}
}
