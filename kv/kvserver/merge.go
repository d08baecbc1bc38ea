package kvserver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"go.etcd.io/raft/v3/tracker"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/kvserverpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// A merge is decided by the left range's log alone (decision 56). The steps:
//
//  1. The replicas of the right range, and its lease, come to where those of the left
//     one are.
//  2. The left range claims the right one: its descriptor says so.
//  3. The right range is frozen, on all its stores.
//  4. The left range absorbs it, by one command that each of its replicas applies
//     together with what the right one has on the same store.
//
// Who finds a claim and no merge under way gives it up: thaws the right range, then
// takes the claim back. Nothing else changes the left range before that.

// mergeTimeout bounds a merge, apart from the moving of replicas before.
const mergeTimeout = 20 * time.Second

// adminMerge does one step.
func (r *Replica) adminMerge(ctx context.Context, ba *kvpb.BatchRequest) (kvpb.Reply, error) {
	args, ok := ba.Requests[0].Args.(*kvpb.MergeArgs)
	if !ok {
		args = &kvpb.MergeArgs{}
	}
	switch args.Step {
	case kvpb.MergeRight:
		return nil, r.mergeRight(ctx)
	case kvpb.MergeFreeze:
		reply, err := r.freeze(ctx, ba, args)
		if err != nil {
			return nil, err
		}
		return reply, nil
	case kvpb.MergeAwait:
		return nil, r.awaitFrozen(ctx, args)
	case kvpb.MergeThaw:
		return nil, r.thaw(ctx, args)
	case kvpb.MergeSettle:
		if _, err := r.serve(ctx, hlc.Timestamp{}); err != nil {
			return nil, err
		}
		if r.id != args.LeftID || r.Desc().Absorbing == 0 {
			return nil, nil
		}
		if err := r.changing.lock(ctx); err != nil {
			return nil, err
		}
		defer r.changing.unlock()
		return nil, r.settle(ctx)
	}
	return nil, fmt.Errorf("unknown step %d of a merge", args.Step)
}

// rightNeighbour asks the range to the right what it is.
func (r *Replica) rightNeighbour(ctx context.Context) (*kvpb.RangeInfo, error) {
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: kvpb.OpRangeInfo, Key: r.Desc().EndKey})
	resp, err := r.store.sender.Send(ctx, ba)
	if err != nil {
		return nil, fmt.Errorf("asking the range to the right of %s: %w", r.Desc(), err)
	}
	reply, ok := resp.Responses[0].Reply.(*kvpb.RangeInfoReply)
	if !ok {
		return nil, errors.New("range info got an answer of another kind")
	}
	return &reply.Info, nil
}

// mergeRight has the range absorb the one to its right.
func (r *Replica) mergeRight(ctx context.Context) error {
	if _, err := r.serve(ctx, hlc.Timestamp{}); err != nil {
		return err
	}
	if r.Desc().EndKey.Equal(keys.MaxKey) {
		return pgerr.Newf(pgerr.InvalidParameterValue, "%s is the last range: there is none to its right", r.Desc())
	}
	right, err := r.rightNeighbour(ctx)
	if err != nil {
		return err
	}
	if o := r.store.replica(right.Descriptor.RangeID); r.group.Load() == nil && o != nil && o.group.Load() == nil {
		return r.mergeAlone(ctx, o)
	}
	if right, err = r.colocate(ctx, right); err != nil {
		return fmt.Errorf("bringing %s to %s: %w", &right.Descriptor, r.Desc(), err)
	}
	// From here on it does not end with its client: what was begun is settled.
	done := make(chan error, 1)
	work := func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, mergeTimeout)
		defer cancel()
		done <- r.absorb(ctx, right)
	}
	if !r.store.async(work) {
		return ErrStopped
	}
	select {
	case err = <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// colocate brings the replicas of the right range to the stores of this one, and its
// lease to this store.
func (r *Replica) colocate(ctx context.Context, right *kvpb.RangeInfo) (*kvpb.RangeInfo, error) {
	left := r.Desc()
	o := r.store.replica(right.Descriptor.RangeID)
	here := right.Leaseholder == r.store.ident.NodeID
	if sameStores(left, &right.Descriptor) && here && o != nil && o.group.Load() != nil {
		return right, nil
	}
	me, ok := left.ReplicaOn(r.store.ident.StoreID)
	if !ok {
		return right, fmt.Errorf("%s has no replica here", left)
	}
	voters := []kvpb.ReplicaDescriptor{me}
	var nonVoters []kvpb.ReplicaDescriptor
	for _, w := range left.Replicas {
		switch {
		case w.Type == kvpb.ReplicaNonVoter:
			nonVoters = append(nonVoters, w)
		case w.Type != kvpb.ReplicaVoter:
			return right, fmt.Errorf("the replicas of %s are being changed", left)
		case w.ReplicaID != me.ReplicaID:
			voters = append(voters, w)
		}
	}
	db := kv.NewDB(kv.Config{Sender: r.store.sender, Clock: r.store.clock})
	if err := db.AdminRelocate(ctx, left.EndKey, voters, nonVoters, true); err != nil {
		return right, err
	}
	// Also if it was in place: a range that never had a second replica gets its log.
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: kvpb.OpAdminChangeReplicas, Key: left.EndKey, Args: &kvpb.ChangeReplicasArgs{}})
	if _, err := r.store.sender.Send(ctx, ba); err != nil {
		return right, err
	}
	next, err := r.rightNeighbour(ctx)
	if err != nil {
		return right, err
	}
	return next, nil
}

// sameStores says whether two ranges have replicas of the same types on the same
// stores, and none that is only coming.
func sameStores(a, b *kvpb.RangeDescriptor) bool {
	if len(a.Replicas) != len(b.Replicas) {
		return false
	}
	for _, r := range a.Replicas {
		o, ok := b.ReplicaOn(r.StoreID)
		if !ok || o.Type != r.Type || r.Type != kvpb.ReplicaVoter && r.Type != kvpb.ReplicaNonVoter {
			return false
		}
	}
	return true
}

// absorb claims the right range, freezes it and makes it part of this one. If it
// fails half-way the claim is given up, now or by somebody later.
func (r *Replica) absorb(ctx context.Context, right *kvpb.RangeInfo) error {
	if err := r.changing.lock(ctx); err != nil {
		return err
	}
	defer r.changing.unlock()
	if err := r.settle(ctx); err != nil {
		return err
	}
	if r.group.Load() == nil {
		if err := r.startGroup(ctx); err != nil {
			return err
		}
	}
	seq, err := r.serve(ctx, hlc.Timestamp{})
	if err != nil {
		return err
	}
	left, rd := *r.Desc(), &right.Descriptor
	switch {
	case !left.EndKey.Equal(rd.StartKey):
		return fmt.Errorf("%s does not begin where %s ends", rd, &left)
	case !sameStores(&left, rd):
		return fmt.Errorf("%s is on other stores than %s", rd, &left)
	case !r.allFollow():
		return fmt.Errorf("a replica of %s lags", &left)
	}
	left.Generation++
	left.Absorbing = rd.RangeID
	if err := r.replicateFully(ctx, &kvserverpb.Command{LeaseSequence: seq, Range: descriptorToProto(&left)}); err != nil {
		return fmt.Errorf("claiming %s for %s: %w", rd, &left, err)
	}
	if hook := r.store.testMerge; hook != nil && !hook(kvpb.MergeFreeze) {
		return errors.New("stopped by a test")
	}
	err = r.absorbClaimed(ctx, &left, right, seq)
	if err == nil {
		return nil
	}
	if hook := r.store.testMerge; hook != nil && !hook(kvpb.MergeSettle) {
		return err
	}
	ctx, cancel := context.WithTimeout(r.store.ctx, settleTimeout)
	defer cancel()
	if serr := r.settle(ctx); serr != nil {
		r.log.InfoContext(ctx, "giving up a merge; whoever serves the range next will", "err", serr)
	}
	return err
}

func (r *Replica) absorbClaimed(ctx context.Context, left *kvpb.RangeDescriptor, right *kvpb.RangeInfo, seq int64) error {
	rd := &right.Descriptor
	args := kvpb.MergeArgs{RangeID: rd.RangeID, Generation: rd.Generation, LeftID: r.id, LeftStart: left.StartKey, Claim: left.Generation}
	freeze := args
	freeze.Step = kvpb.MergeFreeze
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: kvpb.OpAdminMerge, Key: rd.StartKey, Args: &freeze})
	resp, err := r.store.sender.Send(ctx, ba)
	if err != nil {
		return fmt.Errorf("freezing %s: %w", rd, err)
	}
	reply, ok := resp.Responses[0].Reply.(*kvpb.FreezeReply)
	if !ok {
		return errors.New("a freeze got an answer of another kind")
	}
	f := &frozen{by: r.id, leftStart: left.StartKey, claim: left.Generation, generation: rd.Generation, at: reply.At}
	await := args
	await.Step = kvpb.MergeAwait
	errs := make(chan error, len(rd.Replicas))
	for _, to := range rd.Replicas {
		go func() {
			ba := &kvpb.BatchRequest{}
			ba.RangeID = rd.RangeID
			ba.Add(kvpb.Request{Op: kvpb.OpAdminMerge, Key: rd.StartKey, Args: &await})
			_, err := r.store.SendTo(ctx, to, ba)
			errs <- err
		}()
	}
	for range rd.Replicas {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return fmt.Errorf("waiting for the replicas of %s to freeze: %w", rd, err)
	}
	if hook := r.store.testMerge; hook != nil && !hook(kvpb.MergeRight) {
		return errors.New("stopped by a test")
	}
	la := r.wholeRange()
	if err := r.latches.acquire(ctx, la); err != nil {
		return err
	}
	defer r.latches.release(la)
	// With a lease that outlasts what was read on the right: the next one begins above.
	if now, err := r.serve(ctx, reply.At); err != nil || now != seq {
		return errors.Join(fmt.Errorf("the lease of %s has changed", left), err)
	}
	// After a crash of this store alone, too.
	if err := r.store.coverClock(ctx, reply.At); err != nil {
		return err
	}
	next := *left
	next.Absorbing = 0
	next.EndKey = rd.EndKey
	next.Generation = max(left.Generation, rd.Generation) + 1
	cmd := &kvserverpb.Command{LeaseSequence: seq, Merge: &kvserverpb.Merge{
		Left: descriptorToProto(&next), Right: descriptorToProto(rd), Freeze: f.proto(),
	}}
	if err := r.replicateFully(ctx, cmd); err != nil {
		return fmt.Errorf("absorbing %s: %w", rd, err)
	}
	r.log.InfoContext(ctx, "merged", "absorbed", int64(rd.RangeID), "now", next.String())
	return nil
}

// replicateFully is replicate for somebody who must not go on before it is known what
// became of the command.
func (r *Replica) replicateFully(ctx context.Context, cmd *kvserverpb.Command) error {
	err := r.replicate(ctx, cmd, nil)
	var late *errUnderway
	if errors.As(err, &late) {
		return <-late.done
	}
	return err
}

// settle ends what somebody has left half-way who is not at work any more: it leaves a
// joint configuration, and gives up a claim of a merge. The caller holds changing.
func (r *Replica) settle(ctx context.Context) error {
	if r.Desc().Joint() {
		if err := r.leaveJoint(ctx); err != nil {
			return err
		}
	}
	if r.Desc().Absorbing == 0 {
		return nil
	}
	seq, err := r.serve(ctx, hlc.Timestamp{})
	if err != nil {
		return err
	}
	// What an earlier leaseholder has put into the log is applied, or without effect.
	next := *r.Desc()
	if next.Absorbing == 0 {
		return nil
	}
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: kvpb.OpAdminMerge, Key: next.EndKey, Args: &kvpb.MergeArgs{
		Step: kvpb.MergeThaw, RangeID: next.Absorbing, LeftID: r.id, Claim: next.Generation,
	}})
	if _, err := r.store.sender.Send(ctx, ba); err != nil {
		return fmt.Errorf("thawing r%d: %w", next.Absorbing, err)
	}
	next.Absorbing = 0
	next.Generation++
	return r.replicateFully(ctx, &kvserverpb.Command{LeaseSequence: seq, Range: descriptorToProto(&next)})
}

// mergeAlone merges two ranges that have one replica each, here, and no log.
func (r *Replica) mergeAlone(ctx context.Context, o *Replica) error {
	for _, x := range []*Replica{r, o} {
		if err := x.changing.lock(ctx); err != nil {
			return err
		}
		defer x.changing.unlock()
		la := x.wholeRange()
		if err := x.latches.acquire(ctx, la); err != nil {
			return err
		}
		defer x.latches.release(la)
	}
	left, rd := *r.Desc(), o.Desc()
	if r.group.Load() != nil || o.group.Load() != nil || r.store.replica(r.id) != r || r.store.replica(o.id) != o || !left.EndKey.Equal(rd.StartKey) {
		return fmt.Errorf("%s or %s has changed", &left, rd)
	}
	left.EndKey = rd.EndKey
	left.Generation = max(left.Generation, rd.Generation) + 1
	b := r.store.eng.NewBatch()
	defer b.Close()
	gc, err := stageMerge(b, r, o, &left)
	if err != nil {
		return err
	}
	stats := r.Stats()
	stats.Add(o.Stats())
	if err := putStats(b, r.id, stats); err != nil {
		return err
	}
	if err := b.Commit(true); err != nil {
		return diskFull(err)
	}
	r.mu.Lock()
	r.mu.stats = stats
	r.mu.Unlock()
	r.finishMerge(o, &left, gc)
	r.log.InfoContext(ctx, "merged", "absorbed", int64(rd.RangeID), "now", left.String())
	return nil
}

// stageMerge stages that left, the next descriptor of r, has all that o has.
func stageMerge(b *storage.Batch, r, o *Replica, left *kvpb.RangeDescriptor) (*gcState, error) {
	if err := putLocalDescriptor(b, left); err != nil {
		return nil, err
	}
	if err := b.Clear(rangeDescriptorKey(o.Desc().StartKey)); err != nil {
		return nil, err
	}
	if err := stageDeath(b, o.id); err != nil {
		return nil, err
	}
	gc := r.gc.Load()
	right := o.gc.Load()
	if right == nil {
		return gc, nil
	}
	gc = gc.join(right)
	v, err := gc.encode()
	if err != nil {
		return nil, err
	}
	return gc, b.Put(rangeIDKey(r.id, suffixGCThreshold), v)
}

// stageDeath stages that nothing is left of a range here but its keys, and that it
// never comes back.
func stageDeath(b *storage.Batch, id kvpb.RangeID) error {
	if err := b.ClearRange(rangeIDKey(id, ""), rangeIDKey(id, "").PrefixEnd()); err != nil {
		return err
	}
	return b.Put(rangeIDKey(id, suffixGone), encodeTimestamp(hlc.Timestamp{Logical: math.MaxInt32}))
}

// finishMerge lets everybody see that r has the keys of o.
func (r *Replica) finishMerge(o *Replica, left *kvpb.RangeDescriptor, gc *gcState) {
	s := r.store
	f := o.frozen.Load()
	floor := o.floorAt()
	floor.Forward(o.closer.promised())
	if f != nil {
		s.clock.Update(f.at)
		if l := o.lease.Load(); !o.usable(l) {
			floor.Forward(f.at) // Another store knows what was read.
		}
	}
	r.raiseFloor(floor)
	r.gc.Store(gc)
	s.updateReplicas(func(m map[kvpb.RangeID]*Replica) {
		if m[o.id] == o {
			delete(m, o.id)
		}
	})
	r.desc.Store(left)
	o.absorbed(left)
	r.descChanged()
}

// merge stages that the range absorbs the frozen one to its right. Each replica finds
// that on its own store: nobody proposes a merge before all have told that they
// are frozen, and a frozen range changes no more.
func (m *machine) merge(b *storage.Batch, c *kvserverpb.Merge) (result, err error) {
	left, err := descriptorFromProto(c.GetLeft())
	if err != nil {
		return nil, err
	}
	right, err := descriptorFromProto(c.GetRight())
	if err != nil {
		return nil, err
	}
	r, claim := m.r, c.GetFreeze().GetClaim()
	if m.desc.Generation != claim || m.desc.Absorbing != right.RangeID {
		return fmt.Errorf("%s has changed since it claimed %s", m.desc, right), nil
	}
	o := r.store.replica(right.RangeID)
	if o == nil {
		return nil, fmt.Errorf("%s is not here and cannot be absorbed", right)
	}
	if f := o.frozen.Load(); f == nil || f.by != r.id || f.claim != claim {
		return nil, fmt.Errorf("%s is not frozen and cannot be absorbed", right)
	}
	r.store.raft.Remove(int64(right.RangeID))
	gc, err := stageMerge(b, r, o, left)
	if err != nil {
		return nil, err
	}
	m.desc = left
	m.then = append(m.then, func() { r.finishMerge(o, left, gc) })
	return nil, m.addStats(b, o.Stats())
}

// overrun says whether a replica with descriptor d is of a range that is no more,
// since next has its keys: a range never loses its first key while it lives.
func overrun(d, next *kvpb.RangeDescriptor) bool {
	return d.RangeID != next.RangeID && next.ContainsKey(d.StartKey) && d.Generation < next.Generation
}

// stageOverrun takes the replicas out of the store whose ranges were absorbed by the
// one that a snapshot brings: that came past the merge. It returns what has to
// follow once b is committed.
func (s *Store) stageOverrun(b *storage.Batch, next *kvpb.RangeDescriptor) (finish func(), err error) {
	var dead []*Replica
	for _, o := range *s.replicas.byID.Load() {
		d := o.Desc()
		if !overrun(d, next) {
			continue
		}
		dead = append(dead, o)
		s.raft.Remove(int64(o.id))
		if err := stageDeath(b, o.id); err != nil {
			return nil, err
		}
		if next.EndKey.Less(d.EndKey) {
			rest := keys.Span{Key: next.EndKey, EndKey: d.EndKey}
			if err := b.ClearSpans(storage.SpanSet{User: rest, Local: []keys.Span{addressedSpan(rest)}}); err != nil {
				return nil, err
			}
		}
	}
	return func() {
		if len(dead) == 0 {
			return
		}
		s.updateReplicas(func(m map[kvpb.RangeID]*Replica) {
			for _, o := range dead {
				if m[o.id] == o {
					delete(m, o.id)
				}
			}
		})
		for _, o := range dead {
			o.absorbed(next)
			o.log.Info("the range was absorbed", "by", next.String())
		}
	}, nil
}

// allFollow says whether all replicas have the range's state and get its log.
func (r *Replica) allFollow() bool {
	behind := false
	n := 0
	r.group.Load().Progress(func(_ uint64, _ bool, p tracker.Progress) {
		n++
		behind = behind || p.State != tracker.StateReplicate
	})
	return !behind && n == len(r.Desc().Replicas)
}
