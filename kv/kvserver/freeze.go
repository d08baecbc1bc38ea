package kvserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/kvserverpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// frozen is the state of a range that waits to be absorbed by its left neighbour:
// no command but a thaw has an effect any more, and nobody serves the range.
type frozen struct {
	by         kvpb.RangeID // the left range
	leftStart  keys.Key
	claim      int64 // see Freeze in raft.proto
	generation int64
	at         hlc.Timestamp
	since      time.Time // when this process learned of it

	// over is closed when the range is thawed, or absorbed here: then into says by what.
	over chan struct{}
	into *kvpb.RangeDescriptor
}

func frozenFromProto(m *kvserverpb.Freeze) *frozen {
	return &frozen{
		by: kvpb.RangeID(m.GetLeftId()), leftStart: m.GetLeftStart(), claim: m.GetClaim(), generation: m.GetGeneration(), at: tsFromProto(m.GetAt()),
		since: time.Now(), over: make(chan struct{}),
	}
}

func (f *frozen) proto() *kvserverpb.Freeze {
	return &kvserverpb.Freeze{Generation: f.generation, LeftId: int64(f.by), LeftStart: f.leftStart, Claim: f.claim, At: tsToProto(f.at)}
}

func decodeFrozen(b []byte) (*frozen, error) {
	var m kvserverpb.Freeze
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, storage.Mark(fmt.Errorf("decoding the freeze of a range: %w", err), storage.ErrCorrupt)
	}
	return frozenFromProto(&m), nil
}

// setFrozen has everybody see that the range is frozen, or with nil that it is not any
// more.
func (r *Replica) setFrozen(f *frozen) {
	if old := r.frozen.Swap(f); old != nil {
		close(old.over)
	}
}

// absorbed tells those who wait for the frozen replica where its keys are now. It
// stays frozen.
func (r *Replica) absorbed(into *kvpb.RangeDescriptor) {
	f := r.frozen.Load()
	if f == nil { // A range without a log is frozen only by being absorbed.
		f = &frozen{over: make(chan struct{})}
		r.frozen.Store(f)
	}
	f.into = into
	close(f.over)
	r.pending.endAll(&kvpb.AmbiguousResultError{Cause: errors.New("the range was absorbed")}, &kvpb.RangeNotFoundError{RangeID: r.id})
}

// frozenPatience is how long a request waits for a frozen range before it is sent to
// look for another.
const frozenPatience = 5 * time.Second

// awaitThaw returns nil when the range serves again. Only its leader makes requests
// wait.
func (r *Replica) awaitThaw(ctx context.Context, f *frozen) error {
	select {
	case <-f.over:
		return f.outcome(r)
	default:
	}
	if r.group.Load() != nil {
		if leads, leader := r.leads(); !leads {
			r.group.Load().Wake()
			return r.notLeaseholder(leader)
		}
	}
	select {
	case <-f.over:
	case <-time.After(frozenPatience):
		return r.notLeaseholder(kvpb.ReplicaDescriptor{})
	case <-ctx.Done():
		return ctx.Err()
	case <-r.store.stopping:
		return ErrStopped
	}
	return f.outcome(r)
}

// outcome is what a request hears that waited until the freeze was over.
func (f *frozen) outcome(r *Replica) error {
	if f.into != nil {
		return &kvpb.RangeKeyMismatchError{Requested: r.Desc().Span(), Descriptor: *f.into}
	}
	return nil
}

// freeze has the range serve nothing any more, until it is absorbed or thawed.
//
// While a latch over the whole range keeps everybody out, a command freezes it. What
// was read of it before is below the moment that the command names: readers that
// were let in before the latch came with timestamps below it, those that come later
// find the range frozen. So whoever writes to the keys above that moment writes
// above all reads.
func (r *Replica) freeze(ctx context.Context, ba *kvpb.BatchRequest, args *kvpb.MergeArgs) (*kvpb.FreezeReply, error) {
	if args.RangeID != r.id {
		return nil, fmt.Errorf("r%d begins at %s, not r%d", r.id, ba.Requests[0].Key, args.RangeID)
	}
	answer := func(f *frozen) (*kvpb.FreezeReply, error) {
		if f.by != args.LeftID || f.claim != args.Claim {
			return nil, fmt.Errorf("%s is frozen by r%d already", r.Desc(), f.by)
		}
		return &kvpb.FreezeReply{Descriptor: *r.Desc(), At: f.at}, nil
	}
	if f := r.frozen.Load(); f != nil {
		return answer(f)
	}
	if r.group.Load() == nil {
		return nil, fmt.Errorf("%s has one replica and no log", r.Desc())
	}
	release, seq, err := r.latchWhole(ctx, ba)
	if err != nil {
		return nil, err
	}
	// It counts as a writer: what is closed until it is done is below.
	_, epoch := r.closer.begin()
	held := false
	done := func() {
		r.closer.end(epoch)
		release()
	}
	defer func() {
		if !held {
			done()
		}
	}()
	d := r.Desc()
	if d.Generation != args.Generation {
		return nil, fmt.Errorf("%s has changed since it was of generation %d", d, args.Generation)
	}
	at := r.store.clock.Now()
	if err := r.store.coverClock(ctx, at); err != nil {
		return nil, err
	}
	f := &frozen{by: args.LeftID, leftStart: args.LeftStart, claim: args.Claim, generation: args.Generation, at: at}
	err = r.replicate(ctx, &kvserverpb.Command{LeaseSequence: seq, Freeze: f.proto()}, nil)
	if held = r.releaseWhenKnown(err, done); err != nil {
		return nil, err
	}
	if now := r.frozen.Load(); now != nil {
		return answer(now)
	}
	return nil, fmt.Errorf("%s was thawed at once", d)
}

// releaseWhenKnown calls release once it is known what became of a command whose
// proposer gave up with err, and returns true. Any other err is not its business.
func (r *Replica) releaseWhenKnown(err error, release func()) bool {
	var late *errUnderway
	if !errors.As(err, &late) {
		return false
	}
	finish := func(context.Context) {
		<-late.done
		release()
	}
	if !r.store.async(finish) {
		finish(r.store.ctx) // Close answers all who wait.
	}
	return true
}

// awaitFrozen returns when this replica is frozen by a claim, and will be after a
// crash.
//
// What is applied is not synced, so it could be gone after a crash until the log has
// repeated it. The left range cannot wait for that when it absorbs this one.
func (r *Replica) awaitFrozen(ctx context.Context, args *kvpb.MergeArgs) error {
	for {
		f := r.frozen.Load()
		if f != nil && f.by == args.LeftID && f.claim == args.Claim {
			return r.store.eng.SyncLog()
		}
		if f != nil && f.claim > args.Claim || r.Desc().Generation > args.Generation {
			return fmt.Errorf("%s is not to be absorbed by claim %d any more", r.Desc(), args.Claim)
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		case <-r.store.stopping:
			return ErrStopped
		}
	}
}

// thaw undoes the freeze for a claim, also one that is still on its way: the range
// has another generation afterwards.
func (r *Replica) thaw(ctx context.Context, args *kvpb.MergeArgs) error {
	switch {
	case args.RangeID != r.id:
		return fmt.Errorf("r%d begins at the key, not r%d", r.id, args.RangeID)
	case r.group.Load() == nil:
		return nil // It cannot be frozen.
	}
	if leads, leader := r.leads(); !leads {
		r.group.Load().Wake()
		return r.notLeaseholder(leader)
	}
	if f := r.frozen.Load(); f != nil && f.claim > args.Claim {
		return nil // A later claim froze it: this one was settled long ago.
	}
	return r.replicate(ctx, &kvserverpb.Command{Thaw: &kvserverpb.Thaw{Claim: args.Claim}}, nil)
}

// freeze stages that the range is frozen, if it still is what is to be frozen.
func (m *machine) freeze(b *storage.Batch, c *kvserverpb.Freeze) (result, err error) {
	if m.desc.Generation != c.GetGeneration() {
		return fmt.Errorf("%s has changed since it was of generation %d", m.desc, c.GetGeneration()), nil
	}
	v, err := encodeProto(c)
	if err != nil {
		return nil, err
	}
	m.setFrozen(frozenFromProto(c))
	return nil, b.Put(rangeIDKey(m.r.id, suffixFrozen), v)
}

// thaw stages that the range is not frozen by a claim.
func (m *machine) thaw(b *storage.Batch, c *kvserverpb.Thaw) (result, err error) {
	if f := m.frozen; f != nil && f.claim > c.GetClaim() {
		return fmt.Errorf("%s is frozen by a later claim", m.desc), nil
	}
	next := *m.desc
	next.Generation++
	m.setFrozen(nil)
	m.setDesc(&next)
	return nil, errors.Join(b.Clear(rangeIDKey(m.r.id, suffixFrozen)), putLocalDescriptor(b, &next))
}

// setFrozen has the replica see f once it is committed.
func (m *machine) setFrozen(f *frozen) {
	m.frozen = f
	m.then = append(m.then, func() {
		if f != nil {
			m.r.store.clock.Update(f.at)
		}
		m.r.setFrozen(f)
	})
}

// wakeFrozen reminds the ranges that froze others: one that lost its leaseholder
// meanwhile may have forgotten.
func (s *Store) wakeFrozen(ctx context.Context) {
	_ = s.eachReplica(func(r *Replica) error {
		f := r.frozen.Load()
		if f == nil || time.Since(f.since) < settleAfter || r.group.Load() == nil {
			return ctx.Err()
		}
		if leads, _ := r.leads(); !leads {
			r.group.Load().Wake()
			return ctx.Err()
		}
		ctx, cancel := context.WithTimeout(ctx, settleTimeout)
		defer cancel()
		ba := &kvpb.BatchRequest{}
		ba.Add(kvpb.Request{Op: kvpb.OpAdminMerge, Key: f.leftStart, Args: &kvpb.MergeArgs{Step: kvpb.MergeSettle, LeftID: f.by, Claim: f.claim}})
		if _, err := s.sender.Send(ctx, ba); err != nil {
			r.log.DebugContext(ctx, "asking what becomes of the frozen range", "err", err)
		}
		return nil
	})
}

const (
	// settleAfter is how long a range is frozen before it asks what becomes of it.
	settleAfter = 2 * time.Second
	// settleTimeout bounds one attempt.
	settleTimeout = 10 * time.Second
)
