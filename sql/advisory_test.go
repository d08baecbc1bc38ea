package sql

import (
	"context"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/sql/builtins"
)

func TestAdvisoryLocks(t *testing.T) {
	var a advisoryLocks
	ctx := context.Background()
	key := advisoryKey{"d", builtins.AdvisoryKey{A: 1}}
	take := func(session uint64, mode builtins.AdvisoryMode) bool {
		t.Helper()
		mode.Try = true
		ok, err := a.acquire(ctx, session, key, mode)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	exclusive, shared := builtins.AdvisoryMode{}, builtins.AdvisoryMode{Shared: true}
	for range 2 {
		if !take(1, exclusive) {
			t.Fatal("its holder may take a lock again")
		}
	}
	if take(2, exclusive) || take(2, shared) {
		t.Fatal("an exclusive lock is its session's alone, as often as it likes")
	}
	if ok, err := a.acquire(ctx, 2, advisoryKey{"other", key.key}, builtins.AdvisoryMode{Try: true}); !ok || err != nil {
		t.Fatal("another database has locks of its own")
	}
	if !a.release(1, key, false) || take(2, shared) || !a.release(1, key, false) || a.release(1, key, false) {
		t.Fatal("it must be given back as often as it was taken")
	}
	if !take(2, shared) || !take(3, builtins.AdvisoryMode{Shared: true, Xact: true}) || take(1, exclusive) {
		t.Fatal("sharers share, and keep others out")
	}
	got := make(chan error, 1)
	go func() {
		_, err := a.acquire(ctx, 1, key, exclusive)
		got <- err
	}()
	a.releaseAll(3, true, false) // Its transaction ends.
	select {
	case <-got:
		t.Fatal("granted while session 2 shares it")
	case <-time.After(20 * time.Millisecond):
	}
	a.releaseAll(2, true, true) // Its session ends.
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if ok, err := a.acquire(canceled, 2, key, shared); ok || err == nil {
		t.Fatal("a canceled wait must fail")
	}
	a.releaseAll(1, true, true)
	a.releaseAll(2, true, true)
	if len(a.locks) != 0 {
		t.Fatalf("%d locks are left", len(a.locks))
	}
}
