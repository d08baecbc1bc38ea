package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// Readers that are not ordered with writers must never take a provisional value
// for a committed one, however quickly locks come and go.
func TestLockFilterHidesNoLock(t *testing.T) {
	ctx := context.Background()
	e := openTest(t, testConfig(vfs.NewMem()))
	key := keys.Key("k")
	commit := func(fn func(b *Batch) error) {
		b := e.NewBatch()
		defer b.Close()
		if err := fn(b); err != nil {
			t.Error(err)
		}
		if err := b.Commit(false); err != nil {
			t.Error(err)
		}
	}
	commit(func(b *Batch) error { return MVCCPut(ctx, b, key, ts(1), val("committed"), WriteOptions{}) })
	var stop atomic.Bool
	var conflicts atomic.Int64
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for !stop.Load() {
				res, err := MVCCGet(ctx, e, key, ts(1000), GetOptions{})
				var conflict *LockConflictError
				switch {
				case errors.As(err, &conflict):
					conflicts.Add(1)
				case err != nil:
					t.Error(err)
					return
				case string(res.Value[5:]) != "committed":
					t.Errorf("read %q", res.Value[5:])
					return
				}
			}
		})
	}
	deadline := time.Now().Add(400 * time.Millisecond)
	for i := 0; time.Now().Before(deadline); i++ {
		txn := &Txn{TxnMeta: TxnMeta{ID: TxnID{byte(i), byte(i >> 8), 1}, Key: key, WriteTimestamp: ts(10), MinTimestamp: ts(10), Sequence: 1}, ReadTimestamp: ts(10)}
		commit(func(b *Batch) error {
			return MVCCPut(ctx, b, key, ts(10), val("provisional"), WriteOptions{Txn: txn})
		})
		commit(func(b *Batch) error {
			_, err := MVCCResolveIntent(ctx, b, LockUpdate{Span: keys.Span{Key: key}, Txn: txn.TxnMeta, Status: Aborted}, nil)
			return err
		})
	}
	stop.Store(true)
	readers.Wait()
	if conflicts.Load() == 0 {
		t.Log("no reader met a lock")
	}
	if !e.locks.load(lockSlot(key)).none() {
		t.Error("all locks are gone, the filter still counts some")
	}
}

func TestLockFilterCounts(t *testing.T) {
	ctx := context.Background()
	fs := vfs.NewMem()
	e := openTest(t, testConfig(fs))
	txn := &Txn{TxnMeta: TxnMeta{ID: TxnID{1}, Key: keys.Key("k0"), WriteTimestamp: ts(10), MinTimestamp: ts(10), Sequence: 1}, ReadTimestamp: ts(10)}
	put := func(k string, commit bool) {
		b := e.NewBatch()
		defer b.Close()
		if err := MVCCPut(ctx, b, keys.Key(k), ts(10), val("x"), WriteOptions{Txn: txn}); err != nil {
			t.Fatal(err)
		}
		if commit {
			if err := b.Commit(true); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("k1", false)
	if !e.locks.load(lockSlot(keys.Key("k1"))).none() {
		t.Error("a dropped batch left its lock in the filter")
	}
	for i := range 20 {
		put(fmt.Sprintf("k%d", i), true)
		txn.Sequence++
		put(fmt.Sprintf("k%d", i), true) // Overwritten, still one lock.
		txn.Sequence++
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = openTest(t, testConfig(fs))
	for i := range 20 {
		k := keys.Key(fmt.Sprintf("k%d", i))
		if e.locks.load(lockSlot(k)).none() {
			t.Fatalf("after opening again, the filter does not know the lock on %s", k)
		}
		b := e.NewBatch()
		if _, err := MVCCResolveIntent(ctx, b, LockUpdate{Span: keys.Span{Key: k}, Txn: txn.TxnMeta, Status: Committed}, nil); err != nil {
			t.Fatal(err)
		}
		if err := b.Commit(true); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range e.locks.slots {
		if !e.locks.load(uint32(i)).none() {
			t.Fatalf("slot %d still counts %d", i, uint32(e.locks.load(uint32(i))))
		}
	}
}
