package kvserver

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/zones"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// Ranges are merged while both are small, nobody has asked for the split between
// them, and one zone configuration holds for both. A range is small below
// range_min_bytes; what comes of a merge stays so far below range_max_bytes that it
// is not split again at once.

// aloneMergeInterval is how often a store without a cluster looks for ranges to merge.
const aloneMergeInterval = 5 * time.Second

// mayMerge says whether two neighbours may be merged, as far as their zone and what is
// known of them tell.
func mayMerge(zone *zones.Config, left, right int64) bool {
	if zone.RangeMinBytes == nil || left >= *zone.RangeMinBytes || right >= *zone.RangeMinBytes {
		return false
	}
	return zone.RangeMaxBytes == nil || left+right < *zone.RangeMaxBytes/4*3
}

// joinable says whether the split between two ranges is wanted by nobody: neither by
// name nor by their zones.
func (s *Store) joinable(ctx context.Context, left, right *kvpb.RangeDescriptor) (bool, zones.Config, error) {
	if !left.EndKey.Equal(right.StartKey) || s.clock.Now().Less(right.StickyUntil) {
		return false, zones.Config{}, nil
	}
	zone, cuts, err := s.cfg.ZoneConfig(ctx, keys.Span{Key: left.StartKey, EndKey: right.EndKey})
	if err != nil {
		return false, zone, fmt.Errorf("finding the zone of %s: %w", left, err)
	}
	return !slices.ContainsFunc(cuts, left.EndKey.Equal), zone, nil
}

func (r *Replica) size() int64 {
	st := r.Stats()
	return st.Total()
}

// mergeQueueOn says whether ranges are to be merged at all.
func (s *Store) mergeQueueOn() bool {
	return s.cfg.MergeQueue != nil && s.cfg.ZoneConfig != nil && s.cfg.MergeQueue()
}

// mergeAllAlone merges what it can of the ranges of a store that is not part of a
// cluster.
func (s *Store) mergeAllAlone(ctx context.Context) error {
	if !s.mergeQueueOn() {
		return nil
	}
	var left *Replica
	return s.eachReplica(func(r *Replica) error {
		l := left
		left = r
		if l == nil {
			return ctx.Err()
		}
		ok, zone, err := s.joinable(ctx, l.Desc(), r.Desc())
		if err != nil || !ok || !mayMerge(&zone, l.size(), r.size()) {
			return err
		}
		if err := l.mergeAlone(ctx, r); err != nil {
			return fmt.Errorf("merging %s with %s: %w", l.Desc(), r.Desc(), err)
		}
		left = l
		return ctx.Err()
	})
}

// neighbour returns the replica of this store that begins at a key, nil if there is
// none. It is as of a moment ago.
func (p *placement) neighbour(at keys.Key) *Replica {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.mu.startsAsOf) > p.tick() {
		p.mu.starts, p.mu.startsAsOf = map[string]*Replica{}, time.Now()
		for _, r := range *p.s.replicas.byID.Load() {
			p.mu.starts[string(r.Desc().StartKey)] = r
		}
	}
	return p.mu.starts[string(at)]
}

// maybeMerge merges a range that has nothing else to do with the one to its right, if
// both are small.
func (p *placement) maybeMerge(ctx context.Context, r *Replica, zone *zones.Config) (next, error) {
	d, size := r.Desc(), r.size()
	if !p.s.mergeQueueOn() || d.EndKey.Equal(keys.MaxKey) || !mayMerge(zone, size, 0) {
		return lookSometime, nil
	}
	// What is here costs nothing to ask. For what is not, another store is asked, and
	// has to take a lease for it: few of them at a time.
	if o := p.neighbour(d.EndKey); o != nil {
		if ok, _, err := p.s.joinable(ctx, d, o.Desc()); err != nil || !ok || !mayMerge(zone, size, o.size()) {
			return lookSometime, err
		}
	} else if !p.mayAsk() {
		return lookSometime, nil
	}
	select {
	case p.merges <- struct{}{}:
		defer func() { <-p.merges }()
	default:
		return lookLater, nil
	}
	if _, err := r.serve(ctx, hlc.Timestamp{}); err != nil {
		return lookSometime, err
	}
	right, err := r.rightNeighbour(ctx)
	if err != nil {
		return lookSometime, err
	}
	if ok, _, err := p.s.joinable(ctx, d, &right.Descriptor); err != nil || !ok || !mayMerge(zone, size, right.Bytes) {
		return lookSometime, err
	}
	if err := r.mergeRight(ctx); err != nil {
		return lookSometime, fmt.Errorf("merging %s with %s: %w", d, &right.Descriptor, err)
	}
	p.note(func(rep *PlacementReport) { rep.Merges++ })
	return lookAgain, nil
}

// mayAsk says whether a neighbour on another store may be asked about before the next
// tick.
func (p *placement) mayAsk() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.asks == 0 {
		return false
	}
	p.mu.asks--
	return true
}
