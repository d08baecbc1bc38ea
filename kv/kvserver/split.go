package kvserver

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/kvserverpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// adminSplit makes the key of its request the start of a new range. Locks,
// records, timestamp cache and data stay where they are: they are addressed by
// key. Only descriptors change, in one command, while a latch over the whole range
// keeps everyone else out. The addressing records follow: who goes by the old ones
// is sent on by the range.
func (r *Replica) adminSplit(ctx context.Context, ba *kvpb.BatchRequest, sticky hlc.Timestamp) error {
	key := ba.Requests[0].Key.Clone()
	if key.Less(keys.TableDataMin) {
		return fmt.Errorf("range cannot be split at %s, which is not table data", key)
	}
	if key.Equal(r.Desc().StartKey) {
		if sticky.IsEmpty() {
			return nil
		}
		return r.setSticky(ctx, ba, sticky)
	}
	if _, err := r.serve(ctx, hlc.Timestamp{}); err != nil {
		return err
	}
	// Counting takes as long as reading the right side, so it comes before the
	// latch; what is written meanwhile makes the counts estimates.
	before := r.Stats()
	rightStats, err := storage.ComputeStats(ctx, r.store.eng, key, r.Desc().EndKey)
	if err != nil {
		return err
	}
	id, err := r.store.allocateRangeID(ctx)
	if err != nil {
		return err
	}
	release, seq, err := r.latchWhole(ctx, ba)
	if err != nil {
		return err
	}
	underway := false
	defer func() {
		if !underway {
			release()
		}
	}()
	old := r.Desc()
	if key.Equal(old.StartKey) {
		return nil // Somebody else was faster.
	}
	left, right := *old, *old
	left.EndKey = key
	left.Generation = old.Generation + 1
	right.RangeID, right.StartKey = id, key
	right.Generation = old.Generation + 1
	right.StickyUntil = sticky
	p := &proposal{sync: true, split: &kvserverpb.Split{
		Left: descriptorToProto(&left), Right: descriptorToProto(&right), RightStats: statsToProto(rightStats), Estimates: r.Stats() != before,
	}}
	if r.group.Load() == nil {
		err = r.splitAlone(&left, &right, p.split)
	} else {
		err = r.replicate(ctx, p.command(seq), nil)
	}
	// What is evaluated from here on could come behind the split, in the log of the
	// left side only. So nobody gets in until it is known what became of it.
	underway = r.releaseWhenKnown(err, release)
	if err != nil {
		return err
	}
	r.log.InfoContext(ctx, "split", "at", key.String(), "new", int64(id))
	return nil
}

// changeLock is a lock for which nobody has to wait longer than they like. It
// becomes usable with makeReplica.
type changeLock chan struct{}

func (l changeLock) lock(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l changeLock) unlock() { <-l }

// wholeRange is a latch over all that a range has: its keys, and the transaction
// records that are addressed by them.
func (r *Replica) wholeRange() *latch {
	span := r.Desc().Span()
	return &latch{spans: []keys.Span{span, addressedSpan(span)}}
}

// latchWhole keeps everyone else out of the range, and its replicas from changing,
// until release, and checks that it still is what the request is for.
func (r *Replica) latchWhole(ctx context.Context, ba *kvpb.BatchRequest) (release func(), leaseSequence int64, err error) {
	if err := r.changing.lock(ctx); err != nil {
		return nil, 0, err
	}
	if err := r.settle(ctx); err != nil {
		r.changing.unlock()
		return nil, 0, err
	}
	for {
		span, la := r.Desc().Span(), r.wholeRange()
		if err := r.latches.acquire(ctx, la); err != nil {
			r.changing.unlock()
			return nil, 0, err
		}
		if leaseSequence, err = r.serve(ctx, hlc.Timestamp{}); err == nil {
			err = r.checkKeys(ba) // What the lease was acquired after is applied.
		}
		if err != nil {
			r.latches.release(la)
			r.changing.unlock()
			return nil, 0, err
		}
		if now := r.Desc().Span(); now.Key.Equal(span.Key) && now.EndKey.Equal(span.EndKey) {
			return func() {
				r.latches.release(la)
				r.changing.unlock()
			}, leaseSequence, nil
		}
		// Who had the lease before has split or merged the range: that was applied
		// when the lease was taken, and the latch is of another span.
		r.latches.release(la)
	}
}

// setSticky says until when the split at the start of the range is to last; zero:
// nobody wants it any more. A split that lasts longer already is left as it is.
func (r *Replica) setSticky(ctx context.Context, ba *kvpb.BatchRequest, until hlc.Timestamp) error {
	release, seq, err := r.latchWhole(ctx, ba)
	if err != nil {
		return err
	}
	defer release()
	next := *r.Desc()
	if !ba.Requests[0].Key.Equal(next.StartKey) {
		return pgerr.Newf(pgerr.InvalidParameterValue, "could not UNSPLIT AT %s: it is not the start of a range", ba.Requests[0].Key)
	}
	if next.StickyUntil == until || !until.IsEmpty() && until.Less(next.StickyUntil) {
		return nil
	}
	next.StickyUntil = until
	next.Generation++
	if r.group.Load() != nil {
		return r.replicate(ctx, &kvserverpb.Command{LeaseSequence: seq, Range: descriptorToProto(&next)}, nil)
	}
	b := r.store.eng.NewBatch()
	defer b.Close()
	if err := putLocalDescriptor(b, &next); err != nil {
		return err
	}
	if err := b.Commit(true); err != nil {
		return err
	}
	r.desc.Store(&next)
	r.descChanged()
	return nil
}

// splitAlone splits a range that has one replica and no log.
func (r *Replica) splitAlone(left, right *kvpb.RangeDescriptor, sp *kvserverpb.Split) error {
	b := r.store.eng.NewBatch()
	defer b.Close()
	n := r.splitOff(right)
	if err := n.stageSplit(b, left); err != nil {
		return err
	}
	if err := b.Commit(true); err != nil {
		return err
	}
	leftStats, rightStats := splitStats(r.Stats(), sp)
	n.mu.stats, n.mu.statsDirty = rightStats, true
	r.finishSplit(n, left)
	r.mu.Lock()
	r.mu.stats, r.mu.statsDirty = leftStats, true
	r.mu.Unlock()
	return nil
}

// splitStats divides what a range holds.
func splitStats(all storage.Stats, sp *kvserverpb.Split) (left, right storage.Stats) {
	right = statsFromProto(sp.RightStats)
	left = subtractStats(all, right)
	left.Estimates, right.Estimates = left.Estimates || sp.Estimates, right.Estimates || sp.Estimates
	return left, right
}

// splitOff makes the replica that gets the keys of right, which r has now.
func (r *Replica) splitOff(right *kvpb.RangeDescriptor) *Replica {
	n := r.store.makeReplica(right)
	n.gc.Store(r.gc.Load().within(right.Span()))
	n.floor.Store(r.floor.Load())
	// Before others find it: messages of its group may come at once, and one for a
	// newer replica than it knows itself to be would have it removed.
	if me, ok := right.ReplicaOn(r.store.ident.StoreID); ok {
		n.replicaID = me.ReplicaID
	}
	return n
}

// stageSplit stages the descriptors of n and of what it is split off from.
func (n *Replica) stageSplit(b *storage.Batch, left *kvpb.RangeDescriptor) error {
	if err := putLocalDescriptor(b, left); err != nil {
		return err
	}
	if err := putLocalDescriptor(b, n.Desc()); err != nil {
		return err
	}
	g := n.gc.Load()
	if g == nil {
		return nil
	}
	v, err := g.encode()
	if err != nil {
		return err
	}
	return b.Put(rangeIDKey(n.id, suffixGCThreshold), v)
}

// finishSplit lets everybody see the two ranges. From here on requests for the
// right side are sent on.
func (r *Replica) finishSplit(n *Replica, left *kvpb.RangeDescriptor) {
	// The group comes before anybody can reach the replica: without one it would
	// seem to be the only one of its range.
	if n.lease.Load() != nil {
		if err := n.joinGroup(); err != nil {
			n.log.Error("the new range does not start", "err", err)
		} else if leads, _ := r.leads(); leads {
			n.group.Load().Campaign()
			r.store.async(n.campaignOn)
		}
	}
	// What followers were told of the whole holds for the part: they may have read
	// below it what nobody here has seen.
	n.raiseFloor(r.closer.promised())
	r.desc.Store(left)
	r.store.addReplica(n)
	r.store.splitting.Delete(n.id)
	r.descChanged()
	n.descChanged()
}

// campaignOn has a replica ask for the leadership of its range, which has just begun,
// until somebody leads. The other replicas hear of the range when they apply the
// split, and whoever does that just then does not vote: without a second question
// nobody would lead until an election timeout has passed.
func (r *Replica) campaignOn(ctx context.Context) {
	g := r.group.Load()
	for wait := 20 * time.Millisecond; wait < time.Second; wait *= 2 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		if g.Status().Leader != 0 {
			return
		}
		g.Campaign()
	}
}

// rangeIDGenerator counts the ranges of the cluster.
var rangeIDGenerator = append(keys.SystemPrefix.Clone(), "range-idgen"...)

// allocateRangeID returns an id that no range of this cluster had before.
func (s *Store) allocateRangeID(ctx context.Context) (kvpb.RangeID, error) {
	top := int64(1)
	for id := range *s.replicas.byID.Load() {
		top = max(top, int64(id))
	}
	for delta := int64(1); ; {
		ba := &kvpb.BatchRequest{}
		ba.Add(kvpb.Request{Op: kvpb.OpInc, Key: rangeIDGenerator, Delta: delta})
		resp, err := s.sender.Send(ctx, ba)
		if err != nil {
			return 0, fmt.Errorf("allocating a range id: %w", err)
		}
		if id := resp.Responses[0].Count; id > top {
			return kvpb.RangeID(id), nil
		}
		delta = top + 1 - resp.Responses[0].Count // The first one, of a store that has ranges.
	}
}

// addReplica lets everybody see a replica whose range is known.
func (s *Store) addReplica(r *Replica) {
	s.updateReplicas(func(m map[kvpb.RangeID]*Replica) {
		m[r.id] = r
		delete(s.replicas.reserved, r.id)
		if s.replicas.blank[r.id] == r {
			delete(s.replicas.blank, r.id)
		}
	})
}

func (s *Store) updateReplicas(fn func(map[kvpb.RangeID]*Replica)) {
	s.replicas.Lock()
	defer s.replicas.Unlock()
	old := *s.replicas.byID.Load()
	next := make(map[kvpb.RangeID]*Replica, len(old)+1)
	for id, o := range old {
		next[id] = o
	}
	fn(next)
	s.replicas.byID.Store(&next)
}

func subtractStats(a, b storage.Stats) storage.Stats {
	return storage.Stats{
		KeyCount: a.KeyCount - b.KeyCount, KeyBytes: a.KeyBytes - b.KeyBytes, ValBytes: a.ValBytes - b.ValBytes,
		LiveCount: a.LiveCount - b.LiveCount, LiveBytes: a.LiveBytes - b.LiveBytes,
		IntentCount: a.IntentCount - b.IntentCount, IntentBytes: a.IntentBytes - b.IntentBytes,
		RangeKeys: a.RangeKeys, Estimates: a.Estimates || a.RangeKeys > 0,
	}
}
