package kvserver

import (
	"context"
	"sync"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/kvserverpb"
)

// A closed timestamp is one at or below which a range will not change any more. Its
// leaseholder closes timestamps a few seconds behind the present and tells the other
// replicas, together with an index of the log: a replica that has applied so much
// may serve reads at or below the timestamp, without asking anybody.
//
// It never regresses: the next leaseholder writes above the start of its lease,
// which is above everything that was closed before.

// closer decides what a leaseholder may close.
//
// Writers are counted in two groups: those that began since floor was raised, which
// write above floor, and those from before, which may write above the former one
// only. When none of the latter is left, floor is closed, and may be raised again.
type closer struct {
	mu     sync.Mutex
	floor  hlc.Timestamp // what begins now writes above
	closed hlc.Timestamp
	before int // writers from before floor was raised
	since  int
	epoch  int // of floor; a writer belongs to the group of the epoch it began in
}

// begin counts a writer in, until end is called with what it returns.
func (c *closer) begin() (floor hlc.Timestamp, epoch int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since++
	return c.floor, c.epoch
}

func (c *closer) end(epoch int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch == c.epoch {
		c.since--
	} else {
		c.before--
	}
}

// advance raises the floor to target, if the last one is closed by now, and returns
// what is closed.
func (c *closer) advance(target hlc.Timestamp) hlc.Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.before > 0 {
		return c.closed // They may write below floor.
	}
	c.closed.Forward(c.floor)
	if c.floor.Less(target) {
		c.floor = target
		c.epoch++
		c.before, c.since = c.since, 0
		if c.before == 0 {
			c.closed = target
		}
	}
	return c.closed
}

// promised is above everything that was closed, or is about to be.
func (c *closer) promised() hlc.Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	return hlc.Later(c.floor, c.closed)
}

// closedAt is what a replica was told: everything at or below ts is in the log up
// to index.
type closedAt struct {
	ts    hlc.Timestamp
	index uint64
}

// closeInterval is how often leaseholders tell what they have closed.
const closeInterval = 200 * time.Millisecond

// closeTarget is how far behind the present a leaseholder closes.
func (s *Store) closeTarget() time.Duration {
	if f := s.cfg.ClosedTimestampTarget; f != nil {
		return f()
	}
	return 3 * time.Second
}

func (s *Store) closeAgainAndAgain(ctx context.Context) {
	t := time.NewTicker(closeInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			s.closeTimestamps()
		case <-ctx.Done():
			return
		}
	}
}

// closeTimestamps closes what it can of the ranges that this store serves and tells
// each other node, in one message.
func (s *Store) closeTimestamps() {
	target := s.clock.Now().Add(-s.closeTarget())
	news := map[kvpb.NodeID]*kvserverpb.ClosedTimestamps{}
	_ = s.eachReplica(func(r *Replica) error {
		if r.group.Load() == nil || !r.holdsLease() {
			return nil
		}
		// Writers under the lease are counted; those of former leases are below its
		// start in the log, and what they may still add to it has no effect. A freeze
		// counts as one, so that nothing above it is closed.
		l := r.lease.Load()
		ts := r.closer.advance(target)
		// The index is read after: what is closed is applied up to it.
		index := r.applied.Load()
		if ts.IsEmpty() || r.lease.Load().sequence != l.sequence || !r.holdsLease() {
			return nil
		}
		r.closed.Store(&closedAt{ts, index})
		for _, o := range r.Desc().Replicas {
			if o.StoreID == s.ident.StoreID {
				continue
			}
			m := news[o.NodeID]
			if m == nil {
				m = &kvserverpb.ClosedTimestamps{}
				news[o.NodeID] = m
			}
			m.Ranges = append(m.Ranges, &kvserverpb.ClosedTimestamps_Range{
				RangeId: int64(r.id), LeaseSequence: l.sequence, Closed: tsToProto(ts), Index: index,
			})
		}
		return nil
	})
	for node, m := range news {
		b, err := proto.Marshal(m)
		if err != nil {
			s.log.Error("closed timestamps", "err", err)
			return
		}
		s.cfg.Network.SendRaft(node, closedRangeID, &pb.Message{Type: pb.MsgHeartbeat.Enum(), Context: b})
	}
}

// closedRangeID is that of no range: messages for it are closed timestamps.
const closedRangeID = 0

// sawApplied says that the log is applied up to index.
func (r *Replica) sawApplied(index uint64) {
	for {
		old := r.applied.Load()
		if index <= old || r.applied.CompareAndSwap(old, index) {
			return
		}
	}
}

func (s *Store) handleClosed(data []byte) {
	m := &kvserverpb.ClosedTimestamps{}
	if err := proto.Unmarshal(data, m); err != nil {
		s.log.Warn("closed timestamps from another node", "err", err)
		return
	}
	for _, c := range m.GetRanges() {
		r := s.replica(kvpb.RangeID(c.GetRangeId()))
		if r == nil {
			continue
		}
		next := &closedAt{tsFromProto(c.GetClosed()), c.GetIndex()}
		// Both only grow; an old message adds nothing.
		if old := r.closed.Load(); old == nil || old.ts.Less(next.ts) && old.index <= next.index {
			r.closed.Store(next)
		}
	}
}

// mayFollow says whether the replica may serve a batch that only reads, at ts and
// with uncertainty up to limit, though it does not hold the lease.
func (r *Replica) mayFollow(ba *kvpb.BatchRequest, ts hlc.Timestamp) bool {
	c := r.closed.Load()
	if c == nil || r.applied.Load() < c.index {
		return false
	}
	if ba.Txn != nil {
		ts = hlc.Later(ts, ba.Txn.UncertaintyLimit)
	}
	for i := range ba.Requests {
		switch ba.Requests[i].Op {
		case kvpb.OpGet, kvpb.OpScan, kvpb.OpReverseScan, kvpb.OpExport:
		default:
			return false
		}
	}
	return ts.LessEq(c.ts)
}

// follow serves a batch as a follower. Whatever is in the way is for the leaseholder
// to deal with.
func (r *Replica) follow(ctx context.Context, ba *kvpb.BatchRequest, ts hlc.Timestamp, notHolder error) (*kvpb.BatchResponse, error) {
	resp, err := r.evalReads(ctx, ba, ts)
	if err != nil {
		var w waiting
		if _, locked := w.conflictIn(err); locked {
			return nil, notHolder
		}
		return nil, err
	}
	if r.store.replica(r.id) != r {
		return nil, &kvpb.RangeNotFoundError{RangeID: r.id} // It left, and took what it had with it.
	}
	if err := r.checkKeys(ba); err != nil {
		return nil, err
	}
	for i := range ba.Requests {
		if err := r.checkGCThreshold(ba.Requests[i].Span(), ts); err != nil {
			return nil, err
		}
	}
	r.store.followerReads.Add(1)
	return resp, nil
}
