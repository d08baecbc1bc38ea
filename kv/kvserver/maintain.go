package kvserver

import (
	"context"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

const (
	statsInterval = 10 * time.Second
	sweepInterval = 10 * time.Minute
	// publishInterval is how often replicas whose descriptor could not be filed try
	// again.
	publishInterval = time.Second
	// idlePublications is how many idle ranges are served again every publishInterval
	// because their descriptors could not be filed while they were busy.
	idlePublications = 10
)

// maintain does the store's regular chores until ctx is done.
func (s *Store) maintain(ctx context.Context) {
	clock := time.NewTicker(clockRenewal)
	defer clock.Stop()
	stats := time.NewTicker(statsInterval)
	defer stats.Stop()
	sweep := time.NewTicker(sweepInterval)
	defer sweep.Stop()
	gcInterval := defaultGCInterval
	if s.cfg.GC != nil && s.cfg.GC.Interval > 0 {
		gcInterval = s.cfg.GC.Interval
	}
	gc := time.NewTicker(gcInterval)
	defer gc.Stop()
	merge := time.NewTicker(aloneMergeInterval)
	defer merge.Stop()
	publish := time.NewTicker(publishInterval)
	defer publish.Stop()
	if s.raft != nil {
		s.async(s.closeAgainAndAgain)
		s.async(s.checkAgainAndAgain)
	}
	lastWall, n := int64(0), 0
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-clock.C:
			// An idle store need not write: the bound follows the clock only while
			// somebody asks for the time.
			if last := s.bound.used.Load(); last != lastWall {
				lastWall = last
				err = s.moveClockBound(s.clock.Now())
			}
		case <-stats.C:
			err = s.persistIdle(false)
		case <-merge.C:
			if s.cfg.Network == nil {
				err = s.mergeAllAlone(ctx)
			}
		case <-sweep.C:
			err = s.sweepRecords(ctx)
		case <-publish.C:
			err = s.publishAll(ctx)
			if n++; n%orphanTicks == 0 && err == nil && s.raft != nil {
				s.async(s.removeOrphans)
			}
			if s.raft != nil && s.settling.CompareAndSwap(false, true) {
				if !s.async(func(ctx context.Context) { s.wakeFrozen(ctx); s.settleUnsettled(ctx); s.settling.Store(false) }) {
					return
				}
			}
		case <-gc.C:
			err = s.collectAll(ctx, s.cfg.GC != nil && s.cfg.GC.Eager)
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "store maintenance; will retry", "err", err)
		}
	}
}

// persistIdle writes the statistics that changed. A crash loses the last changes
// of them, which makes sizes a little wrong and nothing else.
func (s *Store) persistIdle(final bool) error {
	b := s.eng.NewWriteBatch()
	defer b.Close()
	b.UseReserve()
	err := s.eachReplica(func(r *Replica) error {
		r.mu.Lock()
		dirty, st := r.mu.statsDirty, r.mu.stats
		r.mu.statsDirty = false
		r.mu.Unlock()
		if !dirty || r.group.Load() != nil {
			return nil
		}
		v, err := encodeStats(st)
		if err != nil {
			return err
		}
		return b.Put(rangeIDKey(r.id, suffixStats), v)
	})
	if err != nil {
		return err
	}
	if final {
		// An orderly stop: the next start need not stay ahead of real time.
		if err := b.Put(storeKey(suffixClock), encodeTimestamp(hlc.Later(s.clock.Now(), s.started))); err != nil {
			return err
		}
	}
	return b.Commit(final)
}

// sweepRecords hands every committed transaction that still has a record to the
// resolver, and ends those whose client is gone.
func (s *Store) sweepRecords(ctx context.Context) error {
	var abandoned []*kvpb.TxnRecord
	err := s.eng.Scan(keys.LocalRangePrefix, keys.LocalRangePrefix.PrefixEnd(), func(k keys.Key, v []byte) (bool, error) {
		_, suffix, err := decodeAddressedKey(k)
		if err != nil {
			return false, err
		}
		if len(suffix) != len(suffixTxn)+16 || string(suffix[:len(suffixTxn)]) != suffixTxn {
			return ctx.Err() == nil, ctx.Err()
		}
		rec, err := decodeTxnRecord(v)
		if err != nil {
			return false, err
		}
		switch {
		case rec.Status == kvpb.TxnCommitted:
			s.resolver.add(rec)
		case rec.LastActive().Add(txnExpiry).Less(s.clock.Now()):
			abandoned = append(abandoned, rec)
		}
		return ctx.Err() == nil && len(abandoned) < 1000, ctx.Err()
	})
	if err != nil {
		return err
	}
	for _, rec := range abandoned {
		meta := storage.TxnMeta{ID: rec.ID, Key: rec.Key, Epoch: rec.Epoch, MinTimestamp: rec.MinTimestamp, WriteTimestamp: rec.WriteTimestamp, Priority: int32(rec.Priority)}
		if _, err := s.pushTxn(ctx, meta, &kvpb.PushTxnArgs{Type: kvpb.PushAbort}); err != nil {
			return err
		}
	}
	return nil
}

// cleanUpAfterRestart resolves what transactions of the former process left:
// committed ones by their records, then every lock that is still there: all
// clients were in that process, so none of their owners has survived.
func (s *Store) cleanUpAfterRestart(ctx context.Context) {
	err := s.sweepRecords(ctx)
	for rest := (&keys.Span{Key: keys.MinKey, EndKey: keys.MaxKey}); rest != nil && err == nil && ctx.Err() == nil; {
		var locks []storage.Lock
		locks, rest, err = storage.ScanLocks(ctx, s.eng, rest.Key, rest.EndKey, 1000)
		// The locks of one transaction in this page are resolved together.
		spans := map[kvpb.TxnID]*keys.Span{}
		for i := range locks {
			l := &locks[i]
			if sp := spans[l.Txn.ID]; sp != nil {
				sp.EndKey = l.Key.Next()
			} else if l.Txn.MinTimestamp.Less(s.started) {
				spans[l.Txn.ID] = &keys.Span{Key: l.Key, EndKey: l.Key.Next()}
			}
		}
		for i := range locks {
			if sp := spans[locks[i].Txn.ID]; sp != nil && err == nil {
				delete(spans, locks[i].Txn.ID)
				err = s.resolveOrphan(ctx, locks[i].Txn, *sp)
			}
		}
	}
	if err != nil && ctx.Err() == nil {
		// Whoever meets a lock that is left resolves it.
		s.log.WarnContext(ctx, "resolving locks of the former process", "err", err)
	}
}

func (s *Store) resolveOrphan(ctx context.Context, txn storage.TxnMeta, span keys.Span) error {
	reply, err := s.pushTxn(ctx, txn, &kvpb.PushTxnArgs{Type: kvpb.PushAbort, Force: true})
	if err != nil {
		return err
	}
	s.noteFinished(txn.ID, reply)
	if reply.Status == kvpb.TxnCommitted {
		return nil // The resolver works from its record.
	}
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: kvpb.OpResolveIntentRange, Key: span.Key, EndKey: span.EndKey,
		Args: &kvpb.ResolveArgs{Txn: txn, Status: reply.Status}})
	_, err = s.sender.Send(ctx, ba)
	return err
}
