package kvserver

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// Messages for the replica of a range come while the split that makes it is being
// applied: it is neither without a group, nor taken for an old one and removed.
func TestMessagesWhileARangeIsSplitOff(t *testing.T) {
	c := newTestCluster(t, 3)
	c.replicate(tableKey(0), 2, 3)
	var next atomic.Int64
	next.Store(2)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	s := c.nodes[3].store
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Microsecond):
				}
				s.HandleRaft(1, next.Load(), &pb.Message{Type: pb.MsgHeartbeat.Enum(), From: proto.Uint64(1), To: proto.Uint64(3), Term: proto.Uint64(6)})
			}
		})
	}
	defer func() { close(stop); wg.Wait() }()
	rounds := 12
	if testing.Short() {
		rounds = 8
	}
	for i := 1; i <= rounds; i++ {
		c.admin(1, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(i)})
		var r *Replica
		for deadline := time.Now().Add(10 * time.Second); r == nil; time.Sleep(time.Millisecond) {
			for _, o := range *s.replicas.byID.Load() {
				if o.Desc().StartKey.Equal(tableKey(i)) {
					r = o
				}
			}
			if time.Now().After(deadline) {
				t.Fatalf("the range that begins at %s does not come to n3", tableKey(i))
			}
		}
		if gone, err := s.goneBelow(r.id); err != nil || gone != 0 || r.group.Load() == nil || r.replicaID != 3 {
			t.Fatalf("r%d on n3: replica %d, gone below %d, group %v, %v", r.id, r.replicaID, gone, r.group.Load(), err)
		}
		next.Store(int64(r.id) + 1)
	}
}

// While the whole range is latched, requests for its transaction records wait, too.
func TestWholeRangeCoversRecords(t *testing.T) {
	c := newTestCluster(t, 1)
	ctx := context.Background()
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(1)})
	r := c.nodes[1].store.replica(2)
	la := r.wholeRange()
	if err := r.latches.acquire(ctx, la); err != nil {
		t.Fatal(err)
	}
	defer r.latches.release(la)
	now := r.store.clock.Now()
	txn := c.nodes[1].db.NewTxn(ctx, "test")
	for _, q := range []kvpb.Request{
		{Op: kvpb.OpHeartbeatTxn, Key: tableKey(9), Args: &kvpb.HeartbeatArgs{Now: now}},
		{Op: kvpb.OpEndTxn, Key: tableKey(9), Args: &kvpb.EndTxnArgs{Commit: true, LockSpans: []keys.Span{{Key: tableKey(0)}, {Key: tableKey(9)}}}},
	} {
		ba := &kvpb.BatchRequest{}
		ba.RangeID = 2
		ba.Txn = &kvpb.Transaction{ID: txn.ID(), Key: tableKey(9), MinTimestamp: now, ReadTimestamp: now, WriteTimestamp: now}
		ba.Add(q)
		ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		_, err := r.Send(ctx, ba)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s was not kept out: %v", q.Op, err)
		}
	}
}

// A change of the replicas whose client has given up does not make the next one wait
// for ever.
func TestSecondChangeOfReplicas(t *testing.T) {
	c := newTestCluster(t, 4)
	c.replicate(tableKey(0), 2, 3)
	c.checkReplicas(1, 3)
	r := c.nodes[1].store.replica(1)
	c.partition(1)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	err := r.changeReplicas(ctx, &kvpb.ChangeReplicasArgs{Add: []kvpb.ReplicaDescriptor{{NodeID: 4, StoreID: 4}}})
	if err == nil {
		t.Fatal("replicas were changed without a quorum")
	}
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		done <- r.changeReplicas(ctx, &kvpb.ChangeReplicasArgs{Remove: []kvpb.StoreID{3}})
	}()
	time.Sleep(20 * time.Millisecond)
	c.partition(0)
	select {
	case <-done: // It may have been refused.
	case <-time.After(10 * time.Second):
		t.Fatal("the second change hangs")
	}
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminChangeReplicas, Key: tableKey(0), Args: &kvpb.ChangeReplicasArgs{Remove: []kvpb.StoreID{3}}})
}

// A replica may lose its vote while the lease is on its way to it. It does not get it:
// it could not lead.
func TestLeaseNeedsAVote(t *testing.T) {
	c := newTestCluster(t, 4)
	c.replicate(tableKey(0), 2, 3)
	c.nonVoter(4, true)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r := c.node(1).store.replica(1)
	if _, err := r.serve(ctx, hlc.Timestamp{}); err != nil {
		t.Fatal(err)
	}
	old, now := r.lease.Load(), r.store.clock.Now()
	target, _ := r.Desc().ReplicaOn(4)
	err := r.replaceLease(ctx, old, &lease{sequence: old.sequence + 1, holder: target, start: now, expiration: now.Add(leaseDuration)})
	var not *kvpb.NotLeaseholderError
	if !errors.As(err, &not) || r.lease.Load().sequence != old.sequence {
		t.Errorf("got %v, and the lease is %+v", err, r.lease.Load())
	}
}

// A leader that loses its vote stops leading: it cannot serve, and while it led nobody
// else could.
func TestLeaderLosesItsVote(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until a lease has run out")
	}
	c := newTestCluster(t, 3)
	c.replicate(tableKey(0), 2, 3)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r := c.node(1).store.replica(1)
	me, _ := r.Desc().ReplicaOn(1)
	if err := r.changeOne(ctx, "type", me, pb.ConfChangeAddLearnerNode, func(d *kvpb.RangeDescriptor) { setType(d, me.ReplicaID, kvpb.ReplicaNonVoter) }); err != nil {
		t.Fatal(err)
	}
	busy, idle := context.WithCancel(ctx)
	defer idle()
	go func() { // A range that sleeps would miss no leader.
		for busy.Err() == nil {
			r.group.Load().ReportUnreachable(2)
			time.Sleep(20 * time.Millisecond)
		}
	}()
	for r.holdsLease() && ctx.Err() == nil { // It may serve under it, but not extend it.
		time.Sleep(20 * time.Millisecond)
	}
	if err := c.node(2).db.Put(ctx, tableKey(1), kvpb.EncodeInt(tableKey(1), 1)); err != nil {
		t.Fatal(err)
	}
	c.checkReplicas(1, 3)
}

// A range that begins by a split has a leader at once, though the first message of
// its group comes while the other replicas begin with it.
func TestSplitRangeIsLedAtOnce(t *testing.T) {
	c := newTestCluster(t, 3)
	c.replicate(accountKey(0), 2, 3)
	ctx := context.Background()
	db := c.node(1).db
	if err := db.Put(ctx, accountKey(0), kvpb.EncodeInt(accountKey(0), 1)); err != nil {
		t.Fatal(err)
	}
	var lost atomic.Int64
	c.mu.Lock()
	c.dropMessage = func(rangeID int64, m *RaftMessage) bool {
		return rangeID > 1 && m.GetType() == pb.MsgPreVote && lost.Add(1) <= 2
	}
	c.mu.Unlock()
	if err := db.AdminSplit(ctx, accountKey(10)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := db.Put(ctx, accountKey(10), kvpb.EncodeInt(accountKey(10), 1)); err != nil {
		t.Fatal(err)
	}
	// An election timeout is ten to twenty ticks of 20 ms.
	if took := time.Since(began); took > 190*time.Millisecond || lost.Load() <= 2 {
		t.Errorf("the first write took %s; %d messages were for elections", took, lost.Load())
	}
}

// A message comes in the moment in which a blank replica has become a known one: its
// log is not begun anew.
func TestMessageWhileASnapshotEnds(t *testing.T) {
	c := newTestCluster(t, 2)
	s := c.node(2).store
	const id = 77
	for range 20000 {
		r := s.makeReplica(&kvpb.RangeDescriptor{RangeID: id})
		r.replicaID = 3
		s.replicas.Lock()
		s.replicas.blank[id] = r
		s.replicas.Unlock()
		var ready, done sync.WaitGroup
		ready.Add(2)
		done.Go(func() {
			ready.Done()
			ready.Wait()
			s.addReplica(r)
		})
		ready.Done()
		ready.Wait()
		got, err := s.blankReplica(id, 3)
		done.Wait()
		s.updateReplicas(func(m map[kvpb.RangeID]*Replica) { delete(m, id) })
		if err != nil || got != r {
			t.Fatalf("another replica was made: %v", err)
		}
	}
}
