package kvserver

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// A store that hands over serves nothing any more, and its heir does at once.
func TestHandOver(t *testing.T) {
	c := newTestCluster(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c.replicate(tableKey(0), 2, 3)
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(5)})
	if ranges, leases := c.nodes[1].store.Counts(); ranges != 2 || leases != 2 {
		t.Fatalf("%d ranges and %d leases, want 2 and 2", ranges, leases)
	}
	heir := func(d *kvpb.RangeDescriptor) (kvpb.StoreID, bool) { return 3, true }
	if left, err := c.nodes[1].store.HandOver(ctx, heir); left != 0 || err != nil {
		t.Fatalf("%d are left: %v", left, err)
	}
	if _, leases := c.nodes[1].store.Counts(); leases != 0 {
		t.Errorf("%d leases are left", leases)
	}
	c.halt(1)
	for _, i := range []int{0, 9} {
		began := time.Now()
		if err := c.nodes[2].db.Put(ctx, tableKey(i), kvpb.EncodeInt(tableKey(i), 1)); err != nil {
			t.Fatal(err)
		}
		// Without a lease and a leader that goes, nobody could for seconds.
		if d := time.Since(began); d > leaseDuration/2 {
			t.Errorf("a write after the hand-over took %s", d)
		}
	}
	if _, leases := c.nodes[3].store.Counts(); leases != 2 {
		t.Errorf("the heir has %d leases, want 2", leases)
	}
	// A store without an heir keeps what it has, and says that nobody waits for it.
	nobody := func(*kvpb.RangeDescriptor) (kvpb.StoreID, bool) { return 0, false }
	if left, err := c.nodes[3].store.HandOver(ctx, nobody); left != 0 || err != nil {
		t.Fatalf("%d are left: %v", left, err)
	}
}

func TestPeersAreKept(t *testing.T) {
	c := newTestCluster(t, 1)
	want := []string{"a:1", "b:2"}
	if got, err := ReadPeers(c.nodes[1].eng); err != nil || got != nil {
		t.Fatalf("got %v, %v", got, err)
	}
	if err := SavePeers(c.nodes[1].eng, want); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadPeers(c.nodes[1].eng); err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %v, %v", got, err)
	}
}
