package catalog

import (
	"context"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

func TestLockExclusive(t *testing.T) {
	cache, err := NewCache()
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	reader, changer := cache.NewCollection(nil), cache.NewCollection(nil)
	if err := reader.enter(ctx, 104); err != nil {
		t.Fatal(err)
	}
	if err := changer.LockExclusive(ctx, 104, time.Millisecond); pgerr.GetCode(err) != pgerr.LockNotAvailable {
		t.Fatalf("locking a descriptor in use: %v; want a lock timeout", err)
	}
	got := make(chan error, 1)
	go func() { got <- changer.LockExclusive(ctx, 104, time.Minute) }()
	reader.Release()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	go func() { got <- reader.enter(ctx, 104) }()
	select {
	case err := <-got:
		t.Fatalf("a reader came in beside an exclusive lock: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	changer.Release()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

func TestLockDeadlock(t *testing.T) {
	cache, err := NewCache()
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	a, b := cache.NewCollection(nil), cache.NewCollection(nil)
	for _, c := range []*Collection{a, b} {
		if err := c.enter(ctx, 104); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan error, 2)
	for _, c := range []*Collection{a, b} {
		go func() {
			err := c.LockExclusive(ctx, 104, time.Minute)
			if err != nil {
				c.Release()
			}
			got <- err
		}()
	}
	first, second := <-got, <-got
	if pgerr.GetCode(first) != "40P01" || second != nil {
		t.Fatalf("got %v and %v; want one deadlock and one lock", first, second)
	}
}

// A transaction that began before a change and reads after it reads history:
// others must not get that from the cache.
func TestCacheRefusesHistory(t *testing.T) {
	cache, err := NewCache()
	if err != nil {
		t.Fatal(err)
	}
	before, change, after := hlc.Timestamp{WallTime: 10}, hlc.Timestamp{WallTime: 20}, hlc.Timestamp{WallTime: 30}
	cache.invalidateAt(change, 104)
	old := NewSchema(&catalogpb.SchemaDescriptor{Id: 104, ParentId: 100, Name: "s", Version: 1})
	cache.put(old, cache.epoch(), before)
	if got, _ := cache.get(104, after); got != nil {
		t.Fatalf("the cache gives out version %d, which was read before the last change", got.Version())
	}
	cache.put(old, cache.epoch(), after)
	if got, _ := cache.get(104, after); got == nil {
		t.Fatal("what was read after the last change is not cached")
	}
}
