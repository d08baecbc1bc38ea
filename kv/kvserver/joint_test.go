package kvserver

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// typesOf describes the replicas of a range in order of their stores.
func typesOf(d *kvpb.RangeDescriptor) string {
	rs := slices.Clone(d.Replicas)
	slices.SortFunc(rs, func(a, b kvpb.ReplicaDescriptor) int { return int(a.StoreID - b.StoreID) })
	var out string
	for _, r := range rs {
		out += fmt.Sprintf("s%d %s ", r.StoreID, r.Type)
	}
	return out
}

// A voter takes another's place at once: there is never a configuration with one voter
// more or fewer.
func TestSwapOfVoters(t *testing.T) {
	c := newTestCluster(t, 4)
	c.replicate(tableKey(0), 2, 3)
	c.putAll(0)
	var mu sync.Mutex
	seen := map[string]bool{}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Microsecond):
			}
			mu.Lock()
			seen[typesOf(c.nodes[1].store.replica(1).Desc())] = true
			mu.Unlock()
		}
	})
	joint := false
	c.nodes[1].store.testJoint = func() bool {
		joint = joint || c.nodes[1].store.replica(1).Desc().Joint()
		time.Sleep(5 * time.Millisecond)
		return true
	}
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminTransferLease, Key: tableKey(0), Args: &kvpb.TransferLeaseArgs{To: 1}})
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminChangeReplicas, Key: tableKey(0), Args: &kvpb.ChangeReplicasArgs{
		Add: []kvpb.ReplicaDescriptor{{NodeID: 4, StoreID: 4}}, Remove: []kvpb.StoreID{3},
	}})
	close(stop)
	wg.Wait()
	for _, want := range []string{
		"s1 VOTER s2 VOTER s3 VOTER s4 LEARNER ", "s1 VOTER s2 VOTER s3 VOTER_OUTGOING s4 VOTER_INCOMING ",
	} {
		if !seen[want] {
			t.Errorf("there was never %q", want)
		}
		delete(seen, want)
	}
	delete(seen, "s1 VOTER s2 VOTER s3 VOTER ")
	delete(seen, "s1 VOTER s2 VOTER s4 VOTER ")
	if len(seen) > 0 || !joint {
		t.Errorf("on the way there was %v, joint %t", seen, joint)
	}
	c.checkReplicas(1, 3)
	c.checkAll(0)
}

// While both sets of voters have to agree nothing is decided by one of them; whoever
// finds the range so, and nobody at work, leaves the joint configuration.
func TestJointIsLeftAfterACrash(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash %t", crash), func(t *testing.T) {
			c := newTestCluster(t, 4)
			c.replicate(tableKey(0), 2, 3)
			c.putAll(0)
			s := c.nodes[1].store
			s.testJoint = func() bool { return false }
			c.admin(1, kvpb.Request{Op: kvpb.OpAdminTransferLease, Key: tableKey(0), Args: &kvpb.TransferLeaseArgs{To: 1}})
			ba := &kvpb.BatchRequest{}
			ba.Add(kvpb.Request{Op: kvpb.OpAdminChangeReplicas, Key: tableKey(0), Args: &kvpb.ChangeReplicasArgs{
				Add: []kvpb.ReplicaDescriptor{{NodeID: 4, StoreID: 4}, {NodeID: 3, StoreID: 3, Type: kvpb.ReplicaNonVoter}},
			}})
			if _, err := s.sender.Send(context.Background(), ba); err == nil {
				t.Fatal("the change did not end half-way")
			}
			if crash {
				c.crash(1)
			}
			eventuallyTrue(t, "the joint configuration is left", func() bool {
				d := c.firstDesc()
				return typesOf(d) == "s1 VOTER s2 VOTER s3 NON_VOTER s4 VOTER "
			})
			c.putAll(1000)
			c.checkAll(1000)
			c.checkReplicas(1, 4)
			// And back: a non-voter becomes a voter while another stops being one.
			c.admin(1, kvpb.Request{Op: kvpb.OpAdminTransferLease, Key: tableKey(0), Args: &kvpb.TransferLeaseArgs{To: 1}})
			c.admin(1, kvpb.Request{Op: kvpb.OpAdminChangeReplicas, Key: tableKey(0), Args: &kvpb.ChangeReplicasArgs{
				Add: []kvpb.ReplicaDescriptor{{NodeID: 3, StoreID: 3}, {NodeID: 4, StoreID: 4, Type: kvpb.ReplicaNonVoter}},
			}})
			if d := c.firstDesc(); typesOf(d) != "s1 VOTER s2 VOTER s3 VOTER s4 NON_VOTER " {
				t.Errorf("the replicas are %s", typesOf(d))
			}
			c.checkReplicas(1, 4)
		})
	}
}

// A joint configuration needs both majorities.
func TestJointNeedsBoth(t *testing.T) {
	c := newTestCluster(t, 4)
	c.replicate(tableKey(0), 2)
	c.putAll(0)
	s := c.nodes[1].store
	s.testJoint = func() bool {
		c.partition(2) // Of the voters before, one is left; of those after, all.
		return false
	}
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminTransferLease, Key: tableKey(0), Args: &kvpb.TransferLeaseArgs{To: 1}})
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: kvpb.OpAdminChangeReplicas, Key: tableKey(0), Args: &kvpb.ChangeReplicasArgs{
		Add: []kvpb.ReplicaDescriptor{{NodeID: 3, StoreID: 3}}, Remove: []kvpb.StoreID{2},
	}})
	if _, err := s.sender.Send(context.Background(), ba); err == nil {
		t.Fatal("the change did not end half-way")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if err := c.nodes[1].db.Put(ctx, tableKey(1), kvpb.EncodeInt(tableKey(1), 1)); err == nil {
		t.Error("the voters after decided without those before")
	}
	c.partition(0)
	eventuallyTrue(t, "the joint configuration is left", func() bool { return typesOf(c.firstDesc()) == "s1 VOTER s3 VOTER " })
	c.checkReplicas(1, 2)
}

// firstDesc is the newest descriptor of the first range.
func (c *testCluster) firstDesc() *kvpb.RangeDescriptor {
	d, err := c.firstRange(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	return d
}
