package kvserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// newMergeCluster starts three nodes with two ranges on all of them, r1 and r2 that
// begins at tableKey(50), each with some keys.
func newMergeCluster(t *testing.T) *testCluster {
	c := newTestCluster(t, 3)
	c.replicate(tableKey(0), 2, 3)
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(50)})
	c.putAll(0)
	return c
}

// putAll writes i+base to each key.
func (c *testCluster) putAll(base int) {
	c.t.Helper()
	for i := range 100 {
		if err := c.node(kvpb.NodeID(1+i%len(c.nodes))).db.Put(context.Background(), tableKey(i), kvpb.EncodeInt(tableKey(i), int64(base+i))); err != nil {
			c.t.Fatal(err)
		}
	}
}

// checkAll finds i+base in each key, from each node.
func (c *testCluster) checkAll(base int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, n := range c.nodes {
		for i := range 100 {
			got, err := n.db.Get(ctx, tableKey(i))
			if err != nil {
				c.t.Fatal(err)
			}
			if v, err := kvpb.DecodeInt(got.Value); err != nil || v != int64(base+i) {
				c.t.Fatalf("n%d reads %d at %s, %v; want %d", n.id, v, tableKey(i), err, base+i)
			}
		}
	}
}

func (c *testCluster) merge(from kvpb.NodeID, key keys.Key) {
	c.t.Helper()
	c.admin(from, kvpb.Request{Op: kvpb.OpAdminMerge, Key: key})
}

// eventuallyTrue waits for a condition.
func eventuallyTrue(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after 20 s", what)
		}
	}
}

// gone waits until no store has anything of a range but the mark that it is gone.
func (c *testCluster) gone(id kvpb.RangeID) {
	c.t.Helper()
	eventuallyTrue(c.t, fmt.Sprintf("r%d goes", id), func() bool {
		for _, n := range c.nodes {
			if n.store.replica(id) != nil || n.store.blank(id) != nil {
				return false
			}
		}
		return true
	})
	for _, n := range c.nodes {
		err := n.eng.Scan(rangeIDKey(id, ""), rangeIDKey(id, "").PrefixEnd(), func(k keys.Key, _ []byte) (bool, error) {
			if !bytes.HasSuffix(k, []byte(suffixGone)) {
				c.t.Errorf("n%d still has %x of r%d", n.id, []byte(k), id)
			}
			return true, nil
		})
		if err != nil {
			c.t.Error(err)
		}
	}
}

func TestMerge(t *testing.T) {
	c := newMergeCluster(t)
	// The right range is served elsewhere, and has other replicas.
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminTransferLease, Key: tableKey(50), Args: &kvpb.TransferLeaseArgs{To: 3}})
	c.merge(2, tableKey(0))
	c.gone(2)
	c.checkReplicas(1, 3)
	c.checkAll(0)
	c.putAll(1000)
	c.checkAll(1000)
	c.checkReplicas(1, 3)
	d, err := c.node(2).store.LookupRange(context.Background(), tableKey(70), false)
	if err != nil || d.RangeID != 1 || !d.EndKey.Equal(keys.MaxKey) || d.Absorbing != 0 {
		t.Errorf("the addressing records say %s, %v", d, err)
	}
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: kvpb.OpAdminMerge, Key: tableKey(0)})
	if _, err := c.node(1).store.sender.Send(context.Background(), ba); err == nil {
		t.Error("the last range was merged with nothing")
	}
	// What was merged can be split again, also at the same key.
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(50)})
	c.checkAll(1000)
	c.putAll(2000)
	for _, info := range c.ranges() {
		c.checkReplicas(info.Descriptor.RangeID, 3)
	}
}

// The replicas of the right range are elsewhere: they come to those of the left one,
// with their types.
func TestMergeBringsReplicasTogether(t *testing.T) {
	c := newTestCluster(t, 4)
	c.replicate(tableKey(0), 2)
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(50)})
	c.putAll(0)
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminChangeReplicas, Key: tableKey(0), Args: &kvpb.ChangeReplicasArgs{
		Add: []kvpb.ReplicaDescriptor{{NodeID: 3, StoreID: 3, Type: kvpb.ReplicaNonVoter}},
	}})
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminChangeReplicas, Key: tableKey(50), Args: &kvpb.ChangeReplicasArgs{
		Add: []kvpb.ReplicaDescriptor{{NodeID: 4, StoreID: 4}, {NodeID: 3, StoreID: 3}},
	}})
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminTransferLease, Key: tableKey(50), Args: &kvpb.TransferLeaseArgs{To: 4}})
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminChangeReplicas, Key: tableKey(50), Args: &kvpb.ChangeReplicasArgs{Remove: []kvpb.StoreID{1}}})
	c.merge(4, tableKey(0))
	c.gone(2)
	c.checkReplicas(1, 3)
	c.checkAll(0)
}

// Nothing is written below what was read of the right range, wherever that was
// served.
func TestMergeKeepsReads(t *testing.T) {
	c := newMergeCluster(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminTransferLease, Key: tableKey(50), Args: &kvpb.TransferLeaseArgs{To: 3}})
	writer := c.node(1).db.NewTxn(ctx, "writer")
	if err := writer.Put(ctx, tableKey(1), kvpb.EncodeInt(tableKey(1), 7)); err != nil {
		t.Fatal(err)
	}
	// Ahead of most clocks, within what a leaseholder accepts.
	at := c.node(3).store.clock.Now().Add(time.Second)
	read := func() string {
		var out string
		err := c.node(3).db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
			if err := txn.SetFixedTimestamp(ctx, at); err != nil {
				return err
			}
			got, err := txn.Get(ctx, tableKey(60))
			out = fmt.Sprintf("%x", got.Value)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	before := read()
	c.merge(1, tableKey(0))
	if err := c.node(1).db.Put(ctx, tableKey(60), kvpb.EncodeInt(tableKey(60), 9)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Put(ctx, tableKey(60), kvpb.EncodeInt(tableKey(60), 8)); err == nil {
		_ = writer.Commit(ctx)
	}
	if after := read(); after != before {
		t.Errorf("a read at one timestamp returned %s before the merge and %s after", before, after)
	}
}

// A merge that ends half-way, at each of its steps, leaves two ranges that work; the
// next one succeeds.
func TestMergeGivenUp(t *testing.T) {
	for _, step := range []kvpb.MergeStep{kvpb.MergeFreeze, kvpb.MergeRight} {
		for _, crash := range []bool{false, true} {
			t.Run(fmt.Sprintf("step %d, crash %t", step, crash), func(t *testing.T) {
				c := newMergeCluster(t)
				s := c.node(1).store
				reached := make(chan bool, 1)
				// Nobody gives it up: it ends as if its process had.
				s.testMerge = func(at kvpb.MergeStep) bool {
					if at == step {
						reached <- true
					}
					return at != step && at != kvpb.MergeSettle
				}
				// The frozen range may not be served when the test asks for this.
				c.admin(1, kvpb.Request{Op: kvpb.OpAdminTransferLease, Key: tableKey(0), Args: &kvpb.TransferLeaseArgs{To: 1}})
				if err := c.node(1).db.AdminMerge(context.Background(), tableKey(0)); err == nil {
					t.Fatal("the merge did not end half-way")
				}
				<-reached
				if d := s.replica(1).Desc(); d.Absorbing != 2 {
					t.Fatalf("no claim is left: %s", d)
				}
				if crash {
					c.crash(1)
				} else {
					s.testMerge = nil
				}
				c.checkAll(0)
				c.putAll(1000)
				c.checkAll(1000)
				c.checkReplicas(1, 3)
				c.checkReplicas(2, 3)
				c.merge(2, tableKey(0))
				c.gone(2)
				c.checkAll(1000)
			})
		}
	}
}

// What comes late of a merge that was given up has no effect.
func TestLateFreeze(t *testing.T) {
	c := newMergeCluster(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s := c.node(1).store
	right := s.replica(2)
	args := &kvpb.MergeArgs{Step: kvpb.MergeFreeze, RangeID: 2, Generation: right.Desc().Generation, LeftID: 1, LeftStart: keys.MinKey, Claim: s.replica(1).Desc().Generation + 1}
	send := func(step kvpb.MergeStep) error {
		a := *args
		a.Step = step
		ba := &kvpb.BatchRequest{}
		ba.Add(kvpb.Request{Op: kvpb.OpAdminMerge, Key: tableKey(50), Args: &a})
		_, err := s.sender.Send(ctx, ba)
		return err
	}
	if err := send(kvpb.MergeThaw); err != nil {
		t.Fatal(err)
	}
	if err := send(kvpb.MergeFreeze); err == nil {
		t.Error("the range was frozen by a claim that was given up")
	}
	args.Generation, args.Claim = right.Desc().Generation, args.Claim+1
	if err := send(kvpb.MergeFreeze); err != nil {
		t.Fatal(err)
	}
	args.Claim--
	if err := send(kvpb.MergeThaw); err != nil || right.frozen.Load() == nil {
		t.Errorf("a thaw of an earlier claim has undone a later freeze: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := c.node(1).db.Get(short, tableKey(60)); err == nil {
		t.Error("a frozen range was read")
	}
	args.Claim++
	if err := send(kvpb.MergeThaw); err != nil || right.frozen.Load() != nil {
		t.Errorf("the range is still frozen: %v", err)
	}
	c.checkAll(0)
}

// cutBeforeAbsorbing has n3 be cut off when all replicas of the right range are
// frozen: the merge goes on without it.
func (c *testCluster) cutBeforeAbsorbing() {
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminTransferLease, Key: tableKey(0), Args: &kvpb.TransferLeaseArgs{To: 1}})
	var once atomic.Bool
	c.node(1).store.testMerge = func(at kvpb.MergeStep) bool {
		if at == kvpb.MergeRight && !once.Swap(true) {
			c.partition(3)
		}
		return true
	}
	c.merge(1, tableKey(0))
	if c.node(3).store.replica(2) == nil || c.node(1).store.replica(2) != nil {
		c.t.Fatal("the right range should be here and not there")
	}
}

// A replica that was away absorbs the right range when it hears of it, after a crash,
// too: what it said it had frozen is frozen.
func TestMergeLate(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash %t", crash), func(t *testing.T) {
			c := newMergeCluster(t)
			c.cutBeforeAbsorbing()
			for i := range 100 {
				if err := c.node(1).db.Put(context.Background(), tableKey(i), kvpb.EncodeInt(tableKey(i), int64(1000+i))); err != nil {
					t.Fatal(err)
				}
			}
			if crash {
				c.crash(3)
			}
			// Longer than until it looks whether it is wanted.
			c.node(3).store.removeOrphans(context.Background())
			c.partition(0)
			c.gone(2)
			c.checkReplicas(1, 3)
			c.checkAll(1000)
		})
	}
}

// A snapshot brings the left range past the merge: the right one is gone with it.
func TestMergeBySnapshot(t *testing.T) {
	for _, resplit := range []bool{false, true} {
		t.Run(fmt.Sprintf("resplit %t", resplit), func(t *testing.T) {
			c := newMergeCluster(t)
			c.cutBeforeAbsorbing()
			if resplit {
				c.admin(1, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(30)})
			}
			big := bytes.Repeat([]byte("x"), 1<<20)
			for i := range 24 {
				for _, k := range []keys.Key{tableKey(200 + i), tableKey(10)} {
					if err := c.node(1).db.Put(context.Background(), k, kvpb.EncodeBytes(k, big)); err != nil {
						t.Fatal(err)
					}
				}
			}
			for i := range 100 {
				if err := c.node(1).db.Put(context.Background(), tableKey(i), kvpb.EncodeInt(tableKey(i), int64(1000+i))); err != nil {
					t.Fatal(err)
				}
			}
			c.partition(0)
			c.gone(2)
			for _, info := range c.ranges() {
				c.checkReplicas(info.Descriptor.RangeID, 3)
			}
			c.checkAll(1000)
		})
	}
}

// A store that was taken out of the left range before it heard of the merge keeps
// nothing of either.
func TestMergeOrphan(t *testing.T) {
	c := newMergeCluster(t)
	c.cutBeforeAbsorbing()
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminChangeReplicas, Key: tableKey(0), Args: &kvpb.ChangeReplicasArgs{Remove: []kvpb.StoreID{3}}})
	c.partition(0)
	eventuallyTrue(t, "n3 is left", func() bool {
		c.node(3).store.removeOrphans(context.Background())
		return len(*c.node(3).store.replicas.byID.Load()) == 0
	})
	// It comes back with all.
	c.replicate(tableKey(0), 3)
	c.checkReplicas(1, 3)
	c.checkAll(0)
}

// Thresholds of garbage collection hold for the merged range as they did for each.
func TestMergeJoinsThresholds(t *testing.T) {
	c := newMergeCluster(t)
	ctx := context.Background()
	s := c.node(1).store
	at := s.clock.Now().Add(-time.Hour)
	for i, k := range []int{0, 50} {
		span := keys.Span{Key: tableKey(k), EndKey: tableKey(k + 50)}
		ba := &kvpb.BatchRequest{}
		ba.Add(kvpb.Request{Op: kvpb.OpGC, Key: span.Key, EndKey: span.EndKey, Args: &kvpb.GCArgs{Threshold: at.Add(time.Duration(i) * time.Minute)}})
		if _, err := s.sender.Send(ctx, ba); err != nil {
			t.Fatal(err)
		}
	}
	c.merge(1, tableKey(0))
	c.gone(2)
	c.checkReplicas(1, 3)
	for _, n := range c.nodes {
		g := n.store.replica(1).gc.Load()
		for i, k := range []int{10, 60} {
			if th := g.threshold(keys.Span{Key: tableKey(k)}); th != at.Add(time.Duration(i)*time.Minute) {
				t.Errorf("n%d: the threshold of %s is %s", n.id, tableKey(k), th)
			}
		}
	}
}

// A store alone merges without a log.
func TestMergeAlone(t *testing.T) {
	c := newTestCluster(t, 1)
	for i := range 9 {
		c.admin(1, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(10 * (i + 1))})
	}
	c.putAll(0)
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(stopped)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := c.nodes[1].db.Put(context.Background(), tableKey(101), kvpb.EncodeInt(tableKey(101), int64(n))); err != nil {
				stopped <- err
				return
			}
		}
	}()
	before := c.ranges()
	var bytesBefore, bytesAfter int64
	for i := range before {
		bytesBefore += before[i].Bytes
	}
	for range 9 {
		c.merge(1, tableKey(0))
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	after := c.ranges()
	for i := range after {
		bytesAfter += after[i].Bytes
	}
	if len(before) != 10 || len(after) != 1 || bytesAfter < bytesBefore {
		t.Errorf("%d ranges with %d bytes became %d with %d", len(before), bytesBefore, len(after), bytesAfter)
	}
	c.checkAll(0)
	c.crash(1)
	c.checkAll(0)
	for id := kvpb.RangeID(2); id <= 10; id++ {
		c.gone(id)
	}
}

// A client that gives up in the middle leaves nothing half-done.
func TestMergeClientGone(t *testing.T) {
	c := newMergeCluster(t)
	c.node(1).store.testMerge = func(at kvpb.MergeStep) bool {
		time.Sleep(50 * time.Millisecond)
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if err := c.node(1).db.AdminMerge(ctx, tableKey(0)); !errors.Is(err, context.DeadlineExceeded) {
		t.Logf("the merge: %v", err)
	}
	c.checkAll(0)
	c.putAll(1000)
	eventuallyTrue(t, "the claim is dealt with", func() bool {
		r := c.node(1).store.replica(1)
		return r.Desc().Absorbing == 0
	})
	c.checkAll(1000)
}

// Small ranges are merged by themselves, but not over a split that somebody asked for,
// nor over the boundary of a zone.
func TestMergeQueue(t *testing.T) {
	places := newPlaces(t, map[kvpb.NodeID]string{1: "a", 2: "b", 3: "c"})
	places.merges = true
	c := startTestCluster(t, 3, places, nil)
	forever := &kvpb.SplitArgs{StickyUntil: hlc.MaxTimestamp}
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(50), Args: forever})
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(20)})
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(70)})
	c.putAll(0)
	starts := func() (out []keys.Key) {
		for _, info := range c.ranges() {
			out = append(out, info.Descriptor.StartKey)
		}
		return out
	}
	are := func(want ...keys.Key) func() bool {
		return func() bool { return slices.EqualFunc(starts(), want, keys.Key.Equal) }
	}
	eventuallyTrue(t, "small ranges are merged", are(keys.MinKey, keys.Key{0x90}, tableKey(50)))
	time.Sleep(300 * time.Millisecond)
	if got := starts(); len(got) != 3 {
		t.Errorf("too much was merged: %v", got)
	}
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminUnsplit, Key: tableKey(50)})
	eventuallyTrue(t, "ranges that nobody wants are merged", are(keys.MinKey, keys.Key{0x90}))
	c.checkAll(0)
	for _, info := range c.ranges() {
		c.checkReplicas(info.Descriptor.RangeID, 3)
	}
}
