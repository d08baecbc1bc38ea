package kvserver

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// nonVoter adds a replica without a vote to the first range, or takes it away.
func (c *testCluster) nonVoter(store kvpb.StoreID, there bool) {
	c.t.Helper()
	args := &kvpb.ChangeReplicasArgs{Remove: []kvpb.StoreID{store}}
	if there {
		args = &kvpb.ChangeReplicasArgs{Add: []kvpb.ReplicaDescriptor{{NodeID: kvpb.NodeID(store), StoreID: store, Type: kvpb.ReplicaNonVoter}}}
	}
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminChangeReplicas, Key: tableKey(0), Args: args})
}

// A replica is taken out of its range while the snapshot that would make it one is on
// its way: it does not become one any more.
func TestGoodbyeOvertakesTheSnapshot(t *testing.T) {
	c := newTestCluster(t, 4)
	c.replicate(tableKey(0), 2, 3)
	held, released := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	defer release()
	var once sync.Once
	c.mu.Lock()
	c.beforeSnapshot = func(to kvpb.NodeID) {
		if to == 4 {
			once.Do(func() { close(held) })
			<-released
		}
	}
	c.mu.Unlock()
	c.nonVoter(4, true)
	select {
	case <-held:
	case <-time.After(10 * time.Second):
		t.Fatal("no snapshot is sent")
	}
	c.nonVoter(4, false)
	s := c.node(4).store
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if gone, err := s.goneBelow(1); err != nil {
			t.Fatal(err)
		} else if gone == 5 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("n4 is not told that its replica is out")
		}
	}
	release()
	time.Sleep(300 * time.Millisecond)
	if s.replica(1) != nil || s.blank(1) != nil {
		t.Error("the replica has come")
	}
	// It may come again, as another one.
	c.nonVoter(4, true)
	c.checkReplicas(1, 4)
}

// A replica without a vote that was taken out of its range and not told so finds out,
// though it never misses a leader enough to look for another.
func TestForsakenNonVoterLeaves(t *testing.T) {
	c := newTestCluster(t, 4)
	c.replicate(tableKey(0), 2, 3)
	c.nonVoter(4, true)
	c.checkReplicas(1, 4)
	ctx := context.Background()
	// Busy, so that it does not sleep.
	if err := c.node(1).db.Put(ctx, tableKey(1), kvpb.EncodeInt(tableKey(1), 1)); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.drop = func(to kvpb.NodeID) bool { return to == 4 }
	c.mu.Unlock()
	c.nonVoter(4, false)
	s := c.node(4).store
	began := time.Now()
	for s.replica(1) != nil {
		if time.Since(began) > 20*time.Second {
			t.Fatal("the replica is still there")
		}
		s.orphanTurn.Store(0) // Never the turn of those that sleep.
		s.removeOrphans(ctx)
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("after %s", time.Since(began))
	c.checkReplicas(1, 3)
}

// What could not be filed while a range was busy is filed when it is not any more: who
// looks for it must find where it is now.
func TestIdleRangeIsFiled(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until a lease has run out")
	}
	c := newTestCluster(t, 3)
	c.replicate(tableKey(1), 2, 3)
	r := c.node(1).store.replica(1)
	began := time.Now()
	for r.published.Load() < r.Desc().Generation || r.holdsLease() {
		if time.Since(began) > 30*time.Second {
			t.Fatal("the range is not idle")
		}
		time.Sleep(20 * time.Millisecond)
	}
	r.published.Store(0)
	for began = time.Now(); r.published.Load() < r.Desc().Generation; time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatal("the descriptor is not filed")
		}
	}
	t.Logf("filed after %s", time.Since(began))
}

// A replica that nobody wants any more is not cleared while a snapshot brings its keys
// here for the range that has them now.
func TestKeysThatArriveAreNotCleared(t *testing.T) {
	c := newTestCluster(t, 2)
	ctx := context.Background()
	key := tableKey(1)
	if err := c.node(1).db.Put(ctx, key, kvpb.EncodeInt(key, 1)); err != nil {
		t.Fatal(err)
	}
	c.replicate(key, 2)
	c.checkReplicas(1, 2)
	s := c.node(2).store
	r := s.replica(1)
	s.reserve(77, keys.Span{Key: tableKey(0), EndKey: tableKey(5)})
	s.removeReplica(ctx, r, 100)
	count := func() (n int) {
		if err := s.eng.Scan(rangeDescriptorKey(r.Desc().StartKey), rangeDescriptorKey(r.Desc().StartKey).Next(), func(keys.Key, []byte) (bool, error) {
			n++
			return true, nil
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if s.replica(1) != r || count() != 1 {
		t.Fatal("the replica was cleared under what arrives")
	}
	s.unreserve(77)
	s.removeReplica(ctx, r, 100)
	if s.replica(1) != nil || count() != 0 {
		t.Error("the replica stays")
	}
}

// What followers were told that a range has closed, its right half keeps after a split.
func TestSplitKeepsWhatIsClosed(t *testing.T) {
	c := newTestCluster(t, 3)
	ctx := context.Background()
	key := tableKey(9)
	c.replicate(key, 2, 3)
	r := c.node(1).store.replica(1)
	for deadline := time.Now().Add(10 * time.Second); r.closer.promised().IsEmpty(); time.Sleep(10 * time.Millisecond) {
		if err := c.node(1).db.Put(ctx, key, kvpb.EncodeInt(key, 1)); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is closed")
		}
	}
	promised := r.closer.promised()
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(5)})
	for id, n := range *c.node(1).store.replicas.byID.Load() {
		if id != 1 && n.floorAt().Less(promised) {
			t.Errorf("r%d may write from %s on, of the whole %s was closed", id, n.floorAt(), promised)
		}
	}
}
