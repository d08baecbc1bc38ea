package kvserver

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/testkit"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// A gateway whose clock is behind reads beside its writes what was committed
// before, also if it commits in the same step.
func TestReadsBesideWritesAreUncertain(t *testing.T) {
	c := newTestCluster(t, 1)
	ctx := context.Background()
	slow := hlc.NewClock(func() int64 { return time.Now().Add(-50 * time.Millisecond).UnixNano() }, 100*time.Millisecond)
	gateway := kv.NewDB(kv.Config{Sender: c.nodes[1].store.Sender(), Clock: slow, UncertaintyInterval: 100 * time.Millisecond})
	time.Sleep(60 * time.Millisecond) // A transaction that began before the store did is refused.
	for _, onePhase := range []bool{false, true} {
		for _, scan := range []bool{false, true} {
			if err := c.nodes[1].db.Put(ctx, tableKey(1), kvpb.EncodeInt(tableKey(1), 1)); err != nil {
				t.Fatal(err)
			}
			txn := gateway.NewTxn(ctx, "mixed")
			b := txn.NewBatch()
			if scan {
				b.Scan(tableKey(1), tableKey(2), kv.ScanOptions{})
			} else {
				b.Get(tableKey(1))
			}
			b.Put(tableKey(2), kvpb.EncodeInt(tableKey(2), 1))
			err := error(nil)
			if onePhase {
				err = txn.CommitInBatch(ctx, b)
			} else if err = txn.Run(ctx, b); err == nil {
				err = txn.Commit(ctx)
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(b.Results[0].KVs) != 1 {
				t.Errorf("one phase %v, scan %v: the row was not seen", onePhase, scan)
			}
			if err := c.nodes[1].db.Del(ctx, tableKey(1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(60 * time.Millisecond) // so that nothing but the newest version is uncertain
		}
	}
}

// What an error tells of the store is an answer like any other: it must be found
// under a lease that covers it to the end.
func TestErrorsAreAnswersUnderALease(t *testing.T) {
	c := newTestCluster(t, 3)
	c.replicate(tableKey(0), 2, 3)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	key := tableKey(1)
	if err := c.nodes[1].db.Put(ctx, key, kvpb.EncodeInt(key, 1)); err != nil {
		t.Fatal(err)
	}
	r := c.nodes[1].store.replica(1)
	send := func(ts, limit hlc.Timestamp, q kvpb.Request) error {
		txn := &kvpb.Transaction{ID: kvpb.TxnID{1}, Key: key, MinTimestamp: ts, ReadTimestamp: ts, WriteTimestamp: ts, UncertaintyLimit: limit}
		ba := &kvpb.BatchRequest{Header: kvpb.Header{RangeID: 1, Txn: txn}}
		ba.Add(q)
		_, err := r.Send(ctx, ba)
		return err
	}
	var not *kvpb.NotLeaseholderError
	cput := kvpb.Request{Op: kvpb.OpCPut, Key: key, Value: kvpb.EncodeInt(key, 2), Sequence: 1}
	now := r.store.clock.Now()
	var failed *kvpb.ConditionFailedError
	if err := send(now, now, cput); !errors.As(err, &failed) {
		t.Fatalf("got %v", err)
	}
	// The next holder could write below the snapshot of this one.
	late := r.lease.Load().expiration.Add(time.Second)
	if err := send(late, late, cput); !errors.As(err, &not) {
		t.Errorf("a condition that failed: %v", err)
	}
	// A read waits for a writer; the lease goes to another meanwhile.
	past, limit := now.Add(-time.Minute), r.store.clock.Now()
	get := kvpb.Request{Op: kvpb.OpGet, Key: key}
	var uncertain *kvpb.ReadWithinUncertaintyError
	if err := send(past, limit, get); !errors.As(err, &uncertain) {
		t.Fatalf("got %v", err)
	}
	la := &latch{spans: []keys.Span{{Key: key}}}
	if err := r.latches.acquire(ctx, la); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- send(past, limit, get) }()
	time.Sleep(50 * time.Millisecond)
	select {
	case err := <-done:
		t.Fatalf("the read did not wait: %v", err)
	default:
	}
	r.givenUp.Store(r.lease.Load().sequence)
	r.latches.release(la)
	if err := <-done; !errors.As(err, &not) {
		t.Errorf("an uncertain read: %v", err)
	}
}

// A transaction that began before a store was started waits there for a lock. Its
// record is elsewhere, and what that store has forgotten says nothing about it.
func TestOlderTransactionsWaitAtANewStore(t *testing.T) {
	c := newTestCluster(t, 2)
	left, right := tableKey(1), tableKey(9)
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(5)})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	db := c.nodes[1].db
	older := db.NewTxn(ctx, "older")
	if err := older.Put(ctx, left, kvpb.EncodeInt(left, 1)); err != nil {
		t.Fatal(err)
	}
	c.start(3, testkit.NewCrashFS())
	c.replicate(right, 2, 3)
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminTransferLease, Key: right, Args: &kvpb.TransferLeaseArgs{To: 3}})
	holder := db.NewTxn(ctx, "holder")
	if err := holder.Put(ctx, right, kvpb.EncodeInt(right, 1)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		err := older.Put(ctx, right, kvpb.EncodeInt(right, 2))
		if err == nil {
			err = older.Commit(ctx)
		}
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := holder.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What a replica does not propose any more certainly does not happen.
func TestRemovedReplicaProposesNothing(t *testing.T) {
	c := newTestCluster(t, 3)
	c.replicate(tableKey(0), 2, 3)
	c.checkReplicas(1, 3)
	r := c.nodes[3].store.replica(1)
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminChangeReplicas, Key: tableKey(0), Args: &kvpb.ChangeReplicasArgs{Remove: []kvpb.StoreID{3}}})
	for deadline := time.Now().Add(10 * time.Second); c.nodes[3].store.replica(1) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the replica is still there")
		}
	}
	_, _, err := r.pending.add()
	var gone *kvpb.RangeNotFoundError
	if !errors.As(err, &gone) {
		t.Errorf("got %v", err)
	}
	if !errors.As(ambiguous(err), &gone) || errors.As(ambiguous(err), new(*kvpb.AmbiguousResultError)) {
		t.Error("it is said to be ambiguous")
	}
}
