package kvserver

import (
	"context"
	"fmt"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// adminSplit makes the key of its request the start of a new range. Locks,
// records, timestamp cache and data stay where they are: they are addressed by
// key. Only descriptors change, in one batch, while a latch over the whole range
// keeps everyone else out.
func (r *Replica) adminSplit(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	key := ba.Requests[0].Key.Clone()
	if len(ba.Requests) != 1 {
		return nil, fmt.Errorf("a split comes alone")
	}
	if key.Less(keys.TableDataMin) {
		return nil, fmt.Errorf("range cannot be split at %s, which is not table data", key)
	}
	resp := &kvpb.BatchResponse{Responses: make([]kvpb.Response, 1)}
	// Counting takes as long as reading the right side, so it comes before the
	// latch; what is written meanwhile makes the counts estimates.
	before := r.Stats()
	rightStats, err := storage.ComputeStats(ctx, r.store.eng, key, r.Desc().EndKey)
	if err != nil {
		return nil, err
	}
	la := &latch{spans: []keys.Span{r.Desc().Span()}}
	if err := r.latches.acquire(ctx, la); err != nil {
		return nil, err
	}
	defer r.latches.release(la)
	if err := r.checkKeys(ba); err != nil {
		return nil, err
	}
	old := r.Desc()
	if key.Equal(old.StartKey) {
		return resp, nil
	}
	s := r.store
	left, right := *old, *old
	left.EndKey = key
	left.Generation = old.Generation + 1
	right.StartKey = key
	right.Generation = old.Generation + 1
	id, err := s.allocateRangeID()
	if err != nil {
		return nil, err
	}
	right.RangeID = id
	leftStats := subtractStats(r.Stats(), rightStats)
	if r.Stats() != before {
		leftStats.Estimates, rightStats.Estimates = true, true
	}

	b := s.eng.NewBatch()
	defer b.Close()
	if err := putDescriptor(b, &left); err != nil {
		return nil, err
	}
	if err := putDescriptor(b, &right); err != nil {
		return nil, err
	}
	if g := r.gc.Load(); g != nil {
		v, err := g.within(right.Span()).encode()
		if err != nil {
			return nil, err
		}
		if err := b.Put(rangeIDKey(id, suffixGCThreshold), v); err != nil {
			return nil, err
		}
	}
	if err := b.Commit(true); err != nil {
		return nil, err
	}

	n := &Replica{store: s, id: id, log: s.log.With("range", int64(id))}
	n.desc.Store(&right)
	n.gc.Store(r.gc.Load().within(right.Span()))
	n.mu.stats, n.mu.statsDirty = rightStats, true
	s.addReplica(n)
	// From here on requests for the right side are sent on.
	r.desc.Store(&left)
	r.mu.Lock()
	r.mu.stats, r.mu.statsDirty = leftStats, true
	r.mu.Unlock()
	r.log.InfoContext(ctx, "split", "at", key.String(), "new", int64(id))
	return resp, nil
}

// allocateRangeID returns an id that no range of this cluster had before.
func (s *Store) allocateRangeID() (kvpb.RangeID, error) {
	s.replicas.Lock()
	defer s.replicas.Unlock()
	// Ranges are never removed on a single store, so the highest id tells.
	var top kvpb.RangeID
	for id := range *s.replicas.byID.Load() {
		top = max(top, id)
	}
	s.replicas.lastID = max(s.replicas.lastID, top) + 1
	return s.replicas.lastID, nil
}

func (s *Store) addReplica(r *Replica) {
	s.replicas.Lock()
	defer s.replicas.Unlock()
	old := *s.replicas.byID.Load()
	next := make(map[kvpb.RangeID]*Replica, len(old)+1)
	for id, o := range old {
		next[id] = o
	}
	next[r.id] = r
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
