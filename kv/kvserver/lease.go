package kvserver

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/kvserverpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// lease says which replica serves a range, and until when. Only ranges with a
// raft group have one. It is part of the range's state: who holds it is decided by
// the order of the log, so of two that want it one gets it.
//
// It expires unless it is extended, which its holder does while it is asked for
// anything. A range that nobody asks has none, and the first request costs one
// command more.
type lease struct {
	sequence   int64
	holder     kvpb.ReplicaDescriptor
	start      hlc.Timestamp
	expiration hlc.Timestamp
}

// leaseDuration is how long after a holder's death nobody can serve its ranges.
const leaseDuration = 5 * time.Second

func (l *lease) proto() *kvserverpb.Lease {
	return &kvserverpb.Lease{
		Sequence: l.sequence, Holder: replicaToProto(l.holder), Start: tsToProto(l.start), Expiration: tsToProto(l.expiration),
	}
}

func leaseFromProto(m *kvserverpb.Lease) *lease {
	return &lease{
		sequence: m.GetSequence(), holder: replicaFromProto(m.GetHolder()),
		start: tsFromProto(m.GetStart()), expiration: tsFromProto(m.GetExpiration()),
	}
}

func decodeLease(b []byte) (*lease, error) {
	var m kvserverpb.Lease
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, storage.Mark(fmt.Errorf("decoding lease: %w", err), storage.ErrCorrupt)
	}
	return leaseFromProto(&m), nil
}

// same says whether two leases are one, extended by as much.
func (l *lease) same(o *lease) bool {
	return l.sequence == o.sequence && l.expiration == o.expiration
}

// usable says whether this process may serve under l at all: not under one that it
// tried to hand over, whatever came of that; and a lease of a former process of
// this store is not ours, since what that one served is forgotten.
//
// Invariant: a lease that a former process served under started below what the
// clock of this process started at. One that is given to us while we restart, and
// starts above, was not served under by anyone: see clockBound.
func (r *Replica) usable(l *lease) bool {
	return l.holder.StoreID == r.store.ident.StoreID && r.store.started.Less(l.start) && r.givenUp.Load() < l.sequence
}

// serve returns when this replica may read at ts and propose writes, with the
// sequence of the lease that allows it. Otherwise it returns a
// *kvpb.NotLeaseholderError, or another error if nobody knows better.
func (r *Replica) serve(ctx context.Context, ts hlc.Timestamp) (int64, error) {
	if f := r.frozen.Load(); f != nil && r.group.Load() == nil {
		return 0, r.awaitThaw(ctx, f)
	}
	if r.group.Load() == nil {
		if r.lease.Load() != nil {
			return 0, r.notLeaseholder(kvpb.ReplicaDescriptor{}) // Its group is being started, or could not be.
		}
		return 0, nil // The only replica needs no lease.
	}
	for {
		if f := r.frozen.Load(); f != nil {
			if err := r.awaitThaw(ctx, f); err != nil {
				return 0, err
			}
			continue
		}
		l := r.lease.Load()
		now := r.store.clock.Now()
		if now.Less(ts) {
			// The next holder of the lease begins above whatever was read here.
			if limit := now.Add(leaseDuration / 2); limit.Less(ts) {
				return 0, fmt.Errorf("timestamp %s is too far in the future", ts)
			}
			r.store.clock.Update(ts)
			now = ts
		}
		if r.usable(l) {
			end := l.expiration.Add(-r.store.clock.MaxOffset())
			if now.Less(end) {
				if end.Less(now.Add(leaseDuration / 2)) {
					r.extendLater(l)
				}
				return l.sequence, nil
			}
		} else if l.holder.StoreID != r.store.ident.StoreID && now.Less(l.expiration) {
			return 0, r.notLeaseholder(l.holder)
		}
		if err := r.acquire(ctx, l); err != nil {
			return 0, err
		}
	}
}

// stillServes says whether an answer that was found under the lease seq is good:
// nobody else can have served meanwhile.
func (r *Replica) stillServes(seq int64, ts hlc.Timestamp) error {
	l := r.lease.Load()
	if r.frozen.Load() != nil {
		return r.notLeaseholder(kvpb.ReplicaDescriptor{})
	}
	if l == nil {
		return nil
	}
	now := hlc.Later(r.store.clock.Now(), ts)
	// A replica that was alone has become the first holder of the first lease.
	if (l.sequence == seq || seq == 0 && l.sequence == 1) && r.usable(l) && now.Less(l.expiration.Add(-r.store.clock.MaxOffset())) {
		return nil
	}
	return r.notLeaseholder(kvpb.ReplicaDescriptor{})
}

// notLeaseholder is what a client hears that must go elsewhere.
func (r *Replica) notLeaseholder(holder kvpb.ReplicaDescriptor) error {
	if holder.StoreID == r.store.ident.StoreID {
		holder = kvpb.ReplicaDescriptor{} // Not we.
	}
	return &kvpb.NotLeaseholderError{RangeID: r.id, Leaseholder: holder, Descriptor: *r.Desc()}
}

// leads says whether this replica leads its raft group, and who does if not.
func (r *Replica) leads() (bool, kvpb.ReplicaDescriptor) {
	st := r.group.Load().Status()
	leader, _ := r.Desc().Replica(int32(st.Leader))
	return st.IsLeader(), leader
}

// acquire makes this replica the holder of a lease that replaces old, which has
// expired or is its own. Only the leader of the group can: its commands are the
// ones that get into the log.
func (r *Replica) acquire(ctx context.Context, old *lease) error {
	if err := r.leasing.lock(ctx); err != nil {
		return err
	}
	defer r.leasing.unlock()
	if !r.lease.Load().same(old) {
		return nil // Somebody was faster.
	}
	if leads, leader := r.leads(); !leads {
		r.group.Load().Wake() // Perhaps it is gone.
		return r.notLeaseholder(leader)
	}
	me, ok := r.Desc().ReplicaOn(r.store.ident.StoreID)
	if !ok || !me.Type.MayServe() {
		return r.notLeaseholder(kvpb.ReplicaDescriptor{})
	}
	now := r.store.clock.Now()
	next := &lease{sequence: old.sequence + 1, holder: me, start: now, expiration: now.Add(leaseDuration)}
	if r.usable(old) {
		next.sequence, next.start = old.sequence, old.start
	}
	return r.replaceLease(ctx, old, next)
}

// replaceLease proposes next in place of old.
func (r *Replica) replaceLease(ctx context.Context, old, next *lease) error {
	// Nobody can be sure of a lease that outlives the clock's bound.
	if err := r.store.coverClock(ctx, next.start); err != nil {
		return err
	}
	return r.replicate(ctx, &kvserverpb.Command{Lease: &kvserverpb.LeaseRequest{Previous: old.proto(), Next: next.proto()}}, nil)
}

// extendLater extends l soon, once.
func (r *Replica) extendLater(l *lease) {
	if !r.extending.CompareAndSwap(false, true) {
		return
	}
	r.store.async(func(ctx context.Context) {
		defer r.extending.Store(false)
		ctx, cancel := context.WithTimeout(ctx, leaseDuration)
		defer cancel()
		if err := r.acquire(ctx, l); err != nil {
			r.log.DebugContext(ctx, "extending the lease", "err", err)
		}
	})
}

// transferLease makes the replica on another store the leaseholder and the leader
// of the group. When it returns nil, this replica serves nothing any more.
func (r *Replica) transferLease(ctx context.Context, to kvpb.StoreID) error {
	if r.group.Load() == nil {
		return pgerr.Newf(pgerr.InvalidParameterValue, "the lease of %s cannot move: it has one replica only", r.Desc())
	}
	if _, err := r.serve(ctx, hlc.Timestamp{}); err != nil {
		return err
	}
	if to == r.store.ident.StoreID {
		return nil
	}
	target, ok := r.Desc().ReplicaOn(to)
	if !ok || !target.Type.MayServe() {
		return pgerr.Newf(pgerr.InvalidParameterValue, "the lease cannot move to s%d, which has no voting replica of %s", to, r.Desc()).
			WithHint("SHOW RANGES shows where the replicas of each range are; RELOCATE without LEASE moves them.")
	}
	if err := r.leasing.lock(ctx); err != nil {
		return err
	}
	defer r.leasing.unlock()
	old := r.lease.Load()
	if !r.usable(old) {
		return r.notLeaseholder(old.holder)
	}
	// Nothing is served under it from here on, also if nobody hears what becomes of
	// the request; what was is below the start of the new lease.
	r.givenUp.Store(old.sequence)
	now := r.store.clock.Now()
	next := &lease{sequence: old.sequence + 1, holder: target, start: now, expiration: now.Add(leaseDuration)}
	if err := r.replaceLease(ctx, old, next); err != nil {
		return err
	}
	r.group.Load().TransferLeader(uint64(target.ReplicaID))
	return nil
}

// followLease hands leadership of the group to the leaseholder, who cannot propose
// without it.
func (r *Replica) followLease() {
	g := r.group.Load()
	l := r.lease.Load()
	if g == nil || !g.Status().IsLeader() {
		return
	}
	if me, ok := r.Desc().ReplicaOn(r.store.ident.StoreID); ok && !me.Type.MayServe() {
		r.abdicate()
		return
	}
	if l.holder.StoreID == r.store.ident.StoreID || !r.store.clock.Now().Less(l.expiration) {
		return
	}
	g.TransferLeader(uint64(l.holder.ReplicaID))
}

// abdicate hands leadership to a replica that can hold the lease, from one that will
// not vote any more: as long as it leads nobody else can end that.
func (r *Replica) abdicate() {
	g := r.group.Load()
	var best, match uint64
	g.Progress(func(id uint64, _ bool, p tracker.Progress) {
		if o, ok := r.Desc().Replica(int32(id)); ok && o.Type.MayServe() && p.RecentActive && (best == 0 || p.Match > match) {
			best, match = id, p.Match
		}
	})
	if best != 0 {
		g.TransferLeader(best)
	}
}

// floorAt is above everything that former leaseholders of the range have read:
// nothing is written at or below it, and a transaction that began at or below it
// and has no record can never get one, since what was decided about it in memory
// is forgotten.
func (r *Replica) floorAt() hlc.Timestamp {
	if f := r.floor.Load(); f != nil {
		return *f
	}
	return hlc.Timestamp{}
}
