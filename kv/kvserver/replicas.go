package kvserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/raftgroup"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// A range with one replica has no log: its durable state says it all. It gets one
// when a second replica comes, and keeps it.

// Where the logs of new groups begin: not at zero, so that a replica which knows
// nothing gets a snapshot.
const (
	splitIndex = 10
	splitTerm  = 5
)

// logPrefix is where a replica keeps what its raft group needs.
func logPrefix(id kvpb.RangeID) keys.Key { return rangeIDKey(id, suffixRaft) }

// stageGroup stages how the group of r begins on this store.
func (r *Replica) stageGroup(b *storage.Batch, index, term uint64, d *kvpb.RangeDescriptor, l *lease) error {
	v, err := encodeProto(l.proto())
	if err != nil {
		return err
	}
	if err := b.Put(rangeIDKey(r.id, suffixLease), v); err != nil {
		return err
	}
	if err := b.Clear(rangeIDKey(r.id, suffixBlank)); err != nil {
		return err
	}
	return raftgroup.Bootstrap(b, logPrefix(r.id), index, term, confState(d))
}

// confState is the raft configuration that a descriptor stands for.
func confState(d *kvpb.RangeDescriptor) *pb.ConfState {
	c := &pb.ConfState{}
	for _, r := range d.Replicas { // Never a joint one: see settle.
		if r.Type == kvpb.ReplicaVoter {
			c.Voters = append(c.Voters, uint64(r.ReplicaID))
		} else {
			c.Learners = append(c.Learners, uint64(r.ReplicaID))
		}
	}
	return c
}

// joinGroup begins to run the replica's group, whose state is on disk.
func (r *Replica) joinGroup() error {
	me, ok := r.Desc().ReplicaOn(r.store.ident.StoreID)
	if !ok {
		return fmt.Errorf("store %d has no replica of %s", r.store.ident.StoreID, r.Desc())
	}
	if r.replicaID != me.ReplicaID { // Messages may be reading it already.
		r.replicaID = me.ReplicaID
	}
	return r.runGroup()
}

func (r *Replica) runGroup() error {
	g, err := r.store.raft.Add(raftgroup.Options{
		RangeID: int64(r.id), ReplicaID: uint64(r.replicaID), Prefix: logPrefix(r.id), Machine: newMachine(r),
	})
	if err != nil {
		return err
	}
	r.sawApplied(g.Status().Applied)
	r.group.Store(g)
	return nil
}

// startGroup gives a range that has one replica a log and a lease.
func (r *Replica) startGroup(ctx context.Context) error {
	s := r.store
	if s.raft == nil {
		return errors.New("this store is not part of a cluster: it has no network")
	}
	la := r.wholeRange()
	if err := r.latches.acquire(ctx, la); err != nil {
		return err
	}
	defer r.latches.release(la)
	if r.group.Load() != nil {
		return nil
	}
	me, _ := r.Desc().ReplicaOn(s.ident.StoreID)
	now := s.clock.Now()
	l := &lease{sequence: 1, holder: me, start: now, expiration: now.Add(leaseDuration)}
	b := s.eng.NewBatch()
	defer b.Close()
	if err := r.stageGroup(b, splitIndex, splitTerm, r.Desc(), l); err != nil {
		return err
	}
	if err := putStats(b, r.id, r.Stats()); err != nil {
		return err
	}
	if err := b.Commit(true); err != nil {
		return err
	}
	r.lease.Store(l)
	if err := r.joinGroup(); err != nil {
		return err
	}
	r.group.Load().Campaign()
	return nil
}

// sayGoodbye tells the stores of replicas that are in old and not in next. Raft does
// not speak with them any more, so they might not learn that they are out, and an
// idle range never misses its leader. If this is lost, see removeOrphans.
func (r *Replica) sayGoodbye(old, next *kvpb.RangeDescriptor) {
	if g := r.group.Load(); g == nil || !g.Status().IsLeader() {
		return
	}
	for _, o := range old.Replicas {
		if _, ok := next.Replica(o.ReplicaID); !ok && o.StoreID != r.store.ident.StoreID {
			r.store.cfg.Network.SendRaft(o.NodeID, int64(r.id), &pb.Message{
				Type: pb.MsgUnreachable.Enum(), From: proto.Uint64(uint64(r.replicaID)), To: proto.Uint64(uint64(next.NextReplicaID)),
			})
		}
	}
}

// takeGoodbye does what sayGoodbye asks for: no replica of the range with an id below
// nextID stays, nor does one come that a snapshot is still on its way to.
func (s *Store) takeGoodbye(ctx context.Context, id kvpb.RangeID, nextID int32) {
	r := s.replica(id)
	if r == nil {
		r = s.blank(id)
	}
	if r != nil {
		if r.replicaID < nextID {
			s.removeReplica(ctx, r, nextID)
		}
		return
	}
	if err := s.markGone(id, nextID); err != nil {
		s.log.WarnContext(ctx, "keeping a former replica away", "range", int64(id), "err", err)
	}
}

// markGone keeps replicas away whose ids are below nextID, if none is here.
func (s *Store) markGone(id kvpb.RangeID, nextID int32) error {
	s.arriving.Lock()
	defer s.arriving.Unlock()
	if _, ok := s.splitting.Load(id); ok || s.replica(id) != nil || s.blank(id) != nil {
		return nil // One has come meanwhile; removeOrphans will find it.
	}
	gone, err := s.goneBelow(id)
	if err != nil || nextID <= gone {
		return err
	}
	b := s.eng.NewBatch()
	defer b.Close()
	b.UseReserve()
	if err := b.Put(rangeIDKey(id, suffixGone), encodeTimestamp(hlc.Timestamp{Logical: nextID})); err != nil {
		return err
	}
	return b.Commit(true)
}

// snapshotTimeout bounds how long a new replica may show no progress.
const snapshotTimeout = 30 * time.Second

// awaitCaughtUp returns when a replica has nearly all of the log.
func (r *Replica) awaitCaughtUp(ctx context.Context, id int32) error {
	last, since := uint64(0), time.Now()
	for {
		g := r.group.Load()
		var match uint64
		ready := false
		g.Progress(func(replica uint64, _ bool, p tracker.Progress) {
			if replica == uint64(id) {
				match = p.Match
				ready = p.State == tracker.StateReplicate && p.Match+100 > g.Status().Applied
			}
		})
		if ready {
			return nil
		}
		if match != last {
			last, since = match, time.Now()
		}
		if time.Since(since) > snapshotTimeout && !r.sendingTo(id) {
			return fmt.Errorf("it got no further than entry %d in %s", match, snapshotTimeout)
		}
		if leads, leader := r.leads(); !leads {
			return r.notLeaseholder(leader)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		case <-r.store.stopping:
			return ErrStopped
		}
	}
}

func (r *Replica) sendingTo(id int32) bool { return r.group.Load().Sending(uint64(id)) }

// HandleRaft takes a message for a replica of this store.
func (s *Store) HandleRaft(from kvpb.NodeID, rangeID int64, m *pb.Message) {
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	if s.raft == nil || s.closed.Load() {
		return
	}
	if rangeID == closedRangeID {
		s.handleClosed(m.GetContext())
		return
	}
	r := s.replica(kvpb.RangeID(rangeID))
	if m.GetType() == pb.MsgUnreachable {
		s.async(func(ctx context.Context) { s.takeGoodbye(ctx, kvpb.RangeID(rangeID), int32(m.GetTo())) })
		return
	}
	if r == nil {
		var err error
		if r, err = s.blankReplica(kvpb.RangeID(rangeID), int32(m.GetTo())); err != nil {
			s.log.Debug("message for a replica that is not here", "range", rangeID, "err", err)
			return
		}
	}
	if uint64(r.replicaID) != m.GetTo() {
		if uint64(r.replicaID) < m.GetTo() {
			// It left and came back without having heard of it.
			s.async(func(ctx context.Context) { s.removeReplica(ctx, r, int32(m.GetTo())) })
		}
		return
	}
	r.heardFrom.Store(m.GetFrom(), from)
	s.raft.Step(rangeID, m)
}

// blankReplica returns a replica that knows nothing of its range but its id, and
// makes one if there is none: a range was told that it has a replica here. It
// learns the rest from a snapshot or from the split that made the range, which
// another replica here has not seen yet. Until then it votes and remembers that it
// did, since it is one of those that a leader needs.
func (s *Store) blankReplica(id kvpb.RangeID, replicaID int32) (*Replica, error) {
	s.arriving.Lock()
	defer s.arriving.Unlock()
	return s.blankReplicaLocked(id, replicaID)
}

func (s *Store) blankReplicaLocked(id kvpb.RangeID, replicaID int32) (*Replica, error) {
	// Another store may be ahead with the split that makes the range. Asked first: when
	// it is over here, the replica is there.
	if _, ok := s.splitting.Load(id); ok {
		return nil, fmt.Errorf("r%d is about to begin here", id)
	}
	// A blank replica that gets its snapshot becomes a known one in one step. Whoever
	// looked here before and there after it would find neither, and begin its log anew.
	known, blank := s.knownOrBlank(id)
	switch {
	case known != nil:
		return known, nil
	case blank != nil && blank.replicaID >= replicaID:
		return blank, nil
	case blank != nil:
		s.forget(blank)
	}
	gone, err := s.goneBelow(id)
	if err != nil {
		return nil, err
	}
	if replicaID < gone {
		return nil, fmt.Errorf("replica %d of r%d has left this store", replicaID, id)
	}
	r := s.makeReplica(&kvpb.RangeDescriptor{RangeID: id})
	r.replicaID = replicaID
	r.lease.Store(&lease{})
	b := s.eng.NewBatch()
	defer b.Close()
	b.UseReserve()
	// What a former process knew of it, as it is still the same replica, or nothing.
	mark := encodeTimestamp(hlc.Timestamp{Logical: replicaID})
	kept, _, err := s.eng.Get(rangeIDKey(id, suffixBlank))
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(kept, mark) {
		if err := b.ClearRange(logPrefix(id), logPrefix(id).PrefixEnd()); err != nil {
			return nil, err
		}
		if err := raftgroup.Bootstrap(b, logPrefix(id), 0, 0, &pb.ConfState{}); err != nil {
			return nil, err
		}
		if err := b.Put(rangeIDKey(id, suffixBlank), mark); err != nil {
			return nil, err
		}
		if err := b.Commit(true); err != nil {
			return nil, err
		}
	}
	if err := r.runGroup(); err != nil {
		return nil, err
	}
	s.replicas.Lock()
	s.replicas.blank[id] = r
	s.replicas.Unlock()
	return r, nil
}

// knownOrBlank returns what there is of a range at one moment.
func (s *Store) knownOrBlank(id kvpb.RangeID) (known, blank *Replica) {
	s.replicas.Lock()
	defer s.replicas.Unlock()
	return (*s.replicas.byID.Load())[id], s.replicas.blank[id]
}

// blank returns the blank replica of a range, or nil.
func (s *Store) blank(id kvpb.RangeID) *Replica {
	s.replicas.Lock()
	defer s.replicas.Unlock()
	return s.replicas.blank[id]
}

// forget stops a blank replica.
func (s *Store) forget(r *Replica) {
	s.raft.Remove(int64(r.id))
	s.replicas.Lock()
	delete(s.replicas.blank, r.id)
	s.replicas.Unlock()
}

// makeRoomFor prepares for a range that is being split off here. A blank replica of
// it makes way, and its vote is kept. It returns false if this store has no replica
// of the range (any more).
func (s *Store) makeRoomFor(d *kvpb.RangeDescriptor) (vote *pb.HardState, ok bool, err error) {
	s.arriving.Lock()
	defer s.arriving.Unlock()
	me, ok := d.ReplicaOn(s.ident.StoreID)
	if !ok {
		return nil, false, nil
	}
	gone, err := s.goneBelow(d.RangeID)
	if err != nil || me.ReplicaID < gone {
		return nil, false, err
	}
	r := s.blank(d.RangeID)
	if r != nil && r.replicaID > me.ReplicaID {
		return nil, false, nil
	}
	if r != nil {
		s.forget(r)
	}
	// From here on until the split is applied nobody makes another one.
	s.splitting.Store(d.RangeID, true)
	vote, err = raftgroup.ReadVote(s.eng, logPrefix(d.RangeID))
	return vote, true, err
}

// reserve keeps snapshots of other ranges from bringing the keys of span here, until
// addReplica or unreserve.
func (s *Store) reserve(id kvpb.RangeID, span keys.Span) {
	s.replicas.Lock()
	defer s.replicas.Unlock()
	s.replicas.reserved[id] = span
}

func (s *Store) unreserve(id kvpb.RangeID) {
	s.replicas.Lock()
	defer s.replicas.Unlock()
	delete(s.replicas.reserved, id)
}

// reservedByAnother says whether a snapshot is bringing keys of r here for a range that
// has them now.
func (s *Store) reservedByAnother(r *Replica) bool {
	d := r.Desc()
	if len(d.EndKey) == 0 {
		return false
	}
	s.replicas.Lock()
	defer s.replicas.Unlock()
	for id, span := range s.replicas.reserved {
		if id != r.id && span.Overlaps(d.Span()) {
			return true
		}
	}
	return false
}

// goneBelow returns the least id that a replica of a range may have here: those
// below have left.
func (s *Store) goneBelow(id kvpb.RangeID) (int32, error) {
	b, ok, err := s.eng.Get(rangeIDKey(id, suffixGone))
	if err != nil || !ok {
		return 0, err
	}
	v, err := decodeTimestamp(b)
	return v.Logical, err
}

// HandleSnapshot takes the state of a range that a leader sends.
func (s *Store) HandleSnapshot(ctx context.Context, rangeID int64, m *pb.Message, body io.Reader) error {
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	if s.raft == nil || s.closed.Load() {
		return ErrStopped
	}
	h, err := readSnapshotHeader(body)
	if err != nil {
		return fmt.Errorf("reading a snapshot of r%d: %w", rangeID, err)
	}
	desc, err := descriptorFromProto(h.Range)
	if err != nil {
		return err
	}
	me, ok := desc.ReplicaOn(s.ident.StoreID)
	if !ok || uint64(me.ReplicaID) != m.GetTo() || int64(desc.RangeID) != rangeID {
		return fmt.Errorf("snapshot of %s is not for this store", desc)
	}
	if err := s.checkRoomFor(desc); err != nil {
		return err
	}
	spans, err := s.eng.ReceiveSpans(ctx, body)
	if err != nil {
		return fmt.Errorf("receiving a snapshot of %s: %w", desc, err)
	}
	r, err := s.replicaForSnapshot(desc, me)
	if want := replicatedSpans(desc); err == nil && !sameSpans(spans.Spans(), want) {
		err = fmt.Errorf("the snapshot of %s has other keys: %v", desc, spans.Spans())
	}
	if err != nil {
		_ = spans.Close()
		return err
	}
	in := &receivedRange{store: s, desc: desc, stats: statsFromProto(h.Stats), spans: spans}
	if !r.group.Load().StepSnapshot(m, in) {
		return errors.New("the replica is not wanted any more")
	}
	return nil
}

func sameSpans(a, b storage.SpanSet) bool {
	same := func(x, y keys.Span) bool { return x.Key.Equal(y.Key) && x.EndKey.Equal(y.EndKey) }
	return same(a.User, b.User) && slices.EqualFunc(a.Local, b.Local, same)
}

// Close drops what was received and not installed.
func (in *receivedRange) Close() error {
	in.store.unreserve(in.desc.RangeID)
	return in.spans.Close()
}

// checkRoomFor refuses a range whose keys another replica of this store has: most
// likely it is about to be split. One whose range was absorbed makes room.
func (s *Store) checkRoomFor(desc *kvpb.RangeDescriptor) error {
	for _, o := range *s.replicas.byID.Load() {
		if d := o.Desc(); d.RangeID != desc.RangeID && d.Span().Overlaps(desc.Span()) && !overrun(d, desc) {
			return fmt.Errorf("%s is in the way of a snapshot of %s", d, desc)
		}
	}
	s.replicas.Lock()
	defer s.replicas.Unlock()
	for id, span := range s.replicas.reserved {
		if id != desc.RangeID && span.Overlaps(desc.Span()) {
			return fmt.Errorf("r%d is just coming to this store, in the way of a snapshot of %s", id, desc)
		}
	}
	return nil
}

// replicaForSnapshot returns the replica that a snapshot is for, and makes one if
// there is none.
func (s *Store) replicaForSnapshot(desc *kvpb.RangeDescriptor, me kvpb.ReplicaDescriptor) (*Replica, error) {
	s.arriving.Lock()
	defer s.arriving.Unlock()
	if err := s.checkRoomFor(desc); err != nil {
		return nil, err
	}
	r, err := s.blankReplicaLocked(desc.RangeID, me.ReplicaID)
	if err == nil && r.replicaID != me.ReplicaID {
		err = fmt.Errorf("replica %d of %s is here, and not %d", r.replicaID, desc, me.ReplicaID)
	}
	if err == nil {
		s.reserve(desc.RangeID, desc.Span())
	}
	return r, err
}

// descChanged follows a new descriptor.
func (r *Replica) descChanged() {
	d := r.Desc()
	if _, ok := d.ReplicaOn(r.store.ident.StoreID); !ok {
		r.store.async(func(ctx context.Context) { r.store.removeReplica(ctx, r, d.NextReplicaID) })
		return
	}
	r.publishLater()
	r.store.placement.look(r.id)
}

// removeReplica takes a replica that is not part of its range any more out of the
// store, with all that it has. No replica with an id below nextID comes back.
func (s *Store) removeReplica(ctx context.Context, r *Replica, nextID int32) {
	if known, blank := s.knownOrBlank(r.id); known != r && blank != r {
		return
	}
	r.pending.endAll(&kvpb.AmbiguousResultError{Cause: errors.New("the replica was removed")}, &kvpb.RangeNotFoundError{RangeID: r.id})
	// Before the lock: the group may be about to apply a split, which takes it.
	s.raft.Remove(int64(r.id))
	s.arriving.Lock()
	defer s.arriving.Unlock()
	if known, blank := s.knownOrBlank(r.id); known != r && blank != r {
		return // Somebody else was faster.
	}
	if s.reservedByAnother(r) {
		return // What comes takes its place; it must not be cleared after that.
	}
	s.updateReplicas(func(m map[kvpb.RangeID]*Replica) {
		delete(m, r.id)
		delete(s.replicas.blank, r.id)
		delete(s.replicas.reserved, r.id)
	})
	err := func() error {
		b := s.eng.NewBatch()
		defer b.Close()
		b.UseReserve()
		if d := r.Desc(); len(d.EndKey) > 0 {
			if err := b.ClearSpans(replicatedSpans(d)); err != nil {
				return err
			}
		}
		if err := b.ClearRange(rangeIDKey(r.id, ""), rangeIDKey(r.id, "").PrefixEnd()); err != nil {
			return err
		}
		if err := b.Put(rangeIDKey(r.id, suffixGone), encodeTimestamp(hlc.Timestamp{Logical: nextID})); err != nil {
			return err
		}
		return b.Commit(true)
	}()
	if err != nil {
		s.log.ErrorContext(ctx, "removing a replica", "range", int64(r.id), "err", err)
		return
	}
	r.log.InfoContext(ctx, "the replica left the store")
}

// clearFormerSpan removes what the replica had of keys that its range has no more:
// a snapshot brought it past a split.
func (r *Replica) clearFormerSpan(next *kvpb.RangeDescriptor) {
	old := r.Desc()
	if !next.EndKey.Less(old.EndKey) {
		return
	}
	rest := *old
	rest.StartKey = next.EndKey
	for _, o := range *r.store.replicas.byID.Load() {
		if o != r && o.Desc().Span().Overlaps(rest.Span()) {
			return
		}
	}
	b := r.store.eng.NewBatch()
	defer b.Close()
	b.UseReserve()
	err := b.ClearSpans(storage.SpanSet{User: rest.Span(), Local: []keys.Span{addressedSpan(rest.Span())}})
	if err == nil {
		err = b.Commit(false)
	}
	if err != nil {
		// A snapshot of the range that has these keys now replaces them all.
		r.log.Warn("clearing keys that the range has no more", "err", err)
	}
}
