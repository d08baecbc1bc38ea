package kvserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// The addressing records say where the ranges are. They are in the first range and
// follow what the ranges themselves decide: after a split or a change of replicas
// the leaseholder files the new descriptor. So they may be late, which costs a
// client another try, but never ahead: of two descriptors that share a key the
// later has the higher generation, and only a higher one replaces another.

// publishLater files the replica's descriptor soon, if it serves the range.
func (r *Replica) publishLater() {
	if !r.publishing.CompareAndSwap(false, true) {
		return
	}
	r.store.async(func(ctx context.Context) {
		for {
			d := r.Desc()
			err := r.publish(ctx, d)
			r.publishing.Store(false)
			switch {
			case err != nil && ctx.Err() == nil:
				r.log.DebugContext(ctx, "filing the range's descriptor; will retry", "err", err)
				return // The next look at all replicas tries again.
			case r.Desc() == d || !r.publishing.CompareAndSwap(false, true):
				return
			}
		}
	})
}

// publish files d if that is this replica's business.
func (r *Replica) publish(ctx context.Context, d *kvpb.RangeDescriptor) error {
	if r.published.Load() >= d.Generation || !r.holdsLease() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: kvpb.OpUpdateAddressing, Key: MetaKey(d.EndKey), Args: &kvpb.UpdateAddressingArgs{Descriptor: *d}})
	if _, err := r.store.sender.Send(ctx, ba); err != nil {
		return err
	}
	r.published.Store(d.Generation)
	return nil
}

// holdsLease says whether the replica serves its range now, without asking for it.
func (r *Replica) holdsLease() bool {
	l := r.lease.Load()
	if r.frozen.Load() != nil {
		return false
	}
	if l == nil {
		return true // The only replica.
	}
	return r.usable(l) && r.store.clock.Now().Less(l.expiration)
}

// updateAddressing evaluates an OpUpdateAddressing.
func (e *evaluation) updateAddressing(q *kvpb.Request) error {
	args, ok := q.Args.(*kvpb.UpdateAddressingArgs)
	if !ok {
		return errors.New("addressing needs a descriptor")
	}
	d := &args.Descriptor
	e.proposal.sync = false // It can be done again.
	// The first record behind d's start up to that at its end, and those between
	// them: all that share a key with d, but for one that begins before d's end and
	// ends behind it, which hides nothing and is replaced by the range it is of.
	var obsolete []keys.Key
	newer := false
	err := e.batch.Scan(MetaKey(d.StartKey).Next(), MetaKey(d.EndKey).Next(), func(k keys.Key, v []byte) (bool, error) {
		o, err := decodeRangeDescriptor(v)
		if err != nil {
			return false, err
		}
		if o.Generation >= d.Generation {
			newer = true
			return false, nil
		}
		if !o.EndKey.Equal(d.EndKey) {
			obsolete = append(obsolete, k.Clone())
		}
		return true, nil
	})
	if err != nil || newer {
		return err
	}
	for _, k := range obsolete {
		if err := e.batch.Clear(k); err != nil {
			return err
		}
	}
	v, err := encodeRangeDescriptor(d)
	if err != nil {
		return err
	}
	return e.batch.Put(MetaKey(d.EndKey), v)
}

// lookupRange evaluates an OpLookupRange.
func (r *Replica) lookupRange(rd storage.Reader, q *kvpb.Request) (*kvpb.LookupRangeReply, error) {
	args, ok := q.Args.(*kvpb.LookupRangeArgs)
	if !ok {
		return nil, errors.New("a lookup needs a key")
	}
	d, err := findRange(rd, args.For, args.Before)
	if err != nil {
		return nil, err
	}
	return &kvpb.LookupRangeReply{Descriptor: *d}, nil
}

// findRange reads the addressing records.
func findRange(rd storage.Reader, key keys.Key, before bool) (*kvpb.RangeDescriptor, error) {
	from := key.Next() // Records are filed under the range's end, which is exclusive.
	if before {
		from = key
	}
	if keys.MaxKey.Less(from) || !before && key.Equal(keys.MaxKey) {
		return nil, fmt.Errorf("key %s is beyond the last range", key)
	}
	var d *kvpb.RangeDescriptor
	err := rd.Scan(MetaKey(from), keys.MetaMax, func(_ keys.Key, v []byte) (bool, error) {
		var err error
		d, err = decodeRangeDescriptor(v)
		return false, err
	})
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, storage.Mark(fmt.Errorf("no range holds %s", key), storage.ErrCorrupt)
	}
	return d, nil
}

// LookupRange implements kv.Directory: it asks the first range.
func (s *Store) LookupRange(ctx context.Context, key keys.Key, before bool) (*kvpb.RangeDescriptor, error) {
	if r := s.replica(1); r != nil && r.group.Load() == nil {
		return findRange(s.eng, key, before)
	}
	if before && key.Compare(keys.TableDataMin) <= 0 || !before && key.Less(keys.TableDataMin) {
		return s.firstRange(ctx)
	}
	at := key
	if !before {
		at = key.Next()
	}
	if keys.MaxKey.Less(at) {
		return nil, fmt.Errorf("key %s is beyond the last range", key)
	}
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: kvpb.OpLookupRange, Key: MetaKey(at), Args: &kvpb.LookupRangeArgs{For: key, Before: before}})
	resp, err := s.sender.Send(ctx, ba)
	if err != nil {
		return nil, err
	}
	reply, ok := resp.Responses[0].Reply.(*kvpb.LookupRangeReply)
	if !ok {
		return nil, errors.New("a lookup got an answer of another kind")
	}
	return &reply.Descriptor, nil
}

// firstRange returns the descriptor of the first range, which no record leads to:
// the newest of this store's own and what others say.
func (s *Store) firstRange(ctx context.Context) (*kvpb.RangeDescriptor, error) {
	var d *kvpb.RangeDescriptor
	if r := s.replica(1); r != nil {
		d = r.Desc()
	}
	if s.cfg.FirstRange != nil {
		o, err := s.cfg.FirstRange(ctx)
		if err == nil && (d == nil || d.Generation < o.Generation) {
			return o, nil
		}
		if d == nil {
			return nil, err
		}
	}
	if d == nil {
		return nil, pgerr.New(pgerr.CannotConnectNow, "this store does not know where the first range is")
	}
	return d, nil
}

// publishAll files the descriptors that are not.
//
// If a range is idle its lease has run out, and yet somebody has to file what was
// decided last: until then clients may look for it where it is no more.
func (s *Store) publishAll(ctx context.Context) error {
	idle := 0
	return s.eachReplica(func(r *Replica) error {
		r.followLease()
		if r.published.Load() >= r.Desc().Generation {
			return ctx.Err()
		}
		if r.holdsLease() {
			r.publishLater()
		} else if idle < idlePublications && r.inCharge() {
			idle++
			s.async(func(ctx context.Context) {
				ctx, cancel := context.WithTimeout(ctx, leaseDuration)
				defer cancel()
				if _, err := r.serve(ctx, hlc.Timestamp{}); err == nil {
					r.publishLater()
				}
			})
		}
		return ctx.Err()
	})
}
