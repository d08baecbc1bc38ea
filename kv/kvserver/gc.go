package kvserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// DefaultGCTTL is gc.ttlseconds where no zone says otherwise.
const DefaultGCTTL = 14400 * time.Second

const (
	defaultGCInterval = time.Minute
	// gcBatchBytes is how much garbage one request removes.
	gcBatchBytes = 4 << 20
	// minThresholdStep: a threshold is not raised for less.
	minThresholdStep = 10 * time.Second
)

// GCConfig says what garbage collection has to respect.
type GCConfig struct {
	// Policies returns the spans that have their own time to live, in order and
	// disjoint, for what lies in span. Other keys have DefaultGCTTL.
	Policies func(ctx context.Context, span keys.Span) ([]GCPolicy, error)
	// Protections returns every protected timestamp, and a timestamp as of which
	// the list is complete.
	Protections func(ctx context.Context) ([]Protection, hlc.Timestamp, error)
	Interval    time.Duration // zero: one minute
}

// GCPolicy is the time to live of old versions in a span.
type GCPolicy struct {
	Span keys.Span
	TTL  time.Duration
}

// Protection keeps everything that a read of its spans at or above Timestamp
// needs.
type Protection struct {
	Timestamp hlc.Timestamp
	Spans     []keys.Span // empty: the whole keyspace
}

func (p *Protection) covers(span keys.Span) bool {
	if len(p.Spans) == 0 {
		return true
	}
	for _, s := range p.Spans {
		if s.Overlaps(span) {
			return true
		}
	}
	return false
}

// collectAll removes garbage from every range.
func (s *Store) collectAll(ctx context.Context) error {
	if s.cfg.GC == nil {
		return nil
	}
	return s.eachReplica(func(r *Replica) error {
		if err := r.collect(ctx); err != nil {
			return fmt.Errorf("collecting garbage of %s: %w", r.Desc(), err)
		}
		return ctx.Err()
	})
}

// CollectGarbage runs garbage collection of all ranges now.
func (s *Store) CollectGarbage(ctx context.Context) error { return s.collectAll(ctx) }

// collect raises the range's threshold as far as it may go, and then removes
// what only reads at or below it could see.
//
// Invariant: threshold ≤ (last complete read of the protections) − ttl, and
// threshold < every protected timestamp of the range. A protection that is
// written after the read has a timestamp that was readable then, so it is above
// the threshold or its creation finds out that it came too late.
func (r *Replica) collect(ctx context.Context) error {
	gc := r.store.cfg.GC
	desc := r.Desc()
	var protections []Protection
	asOf := r.store.clock.Now()
	if gc.Protections != nil {
		var err error
		if protections, asOf, err = gc.Protections(ctx); err != nil {
			return fmt.Errorf("reading protected timestamps: %w", err)
		}
	}
	ttl := DefaultGCTTL
	if gc.Policies != nil {
		policies, err := gc.Policies(ctx, desc.Span())
		if err != nil {
			return fmt.Errorf("reading zone configurations: %w", err)
		}
		ttl = longestTTL(desc.Span(), policies)
	}
	threshold := asOf.Add(-ttl)
	for i := range protections {
		if p := &protections[i]; p.covers(desc.Span()) && p.Timestamp.LessEq(threshold) {
			threshold = p.Timestamp.Prev()
		}
	}
	var old hlc.Timestamp
	if th := r.gcThreshold.Load(); th != nil {
		old = *th
	}
	if threshold.Less(old.Add(minThresholdStep)) || threshold.WallTime <= 0 {
		return nil
	}
	if st := r.Stats(); st.GarbageBytes() == 0 && st.RangeKeys == 0 && !st.Estimates {
		return nil // Nothing to remove, so no read needs to be refused.
	}
	// Look first: a threshold that removes nothing helps nobody.
	garbage, _, err := storage.FindGarbage(ctx, r.store.eng, dataStart(desc.StartKey), desc.EndKey, threshold, 1)
	if err != nil || garbage.Empty() {
		return err
	}
	if err := r.sendGC(ctx, desc.Span(), &kvpb.GCArgs{Threshold: threshold}); err != nil {
		return err
	}
	for rest := (&keys.Span{Key: dataStart(desc.StartKey), EndKey: desc.EndKey}); rest != nil; {
		var found storage.Garbage
		from := rest.Key
		found, rest, err = storage.FindGarbage(ctx, r.store.eng, rest.Key, rest.EndKey, threshold, gcBatchBytes)
		if err != nil {
			return err
		}
		if found.Empty() {
			continue
		}
		span := keys.Span{Key: from, EndKey: desc.EndKey}
		if rest != nil {
			span.EndKey = rest.Key
		}
		if err := r.sendGC(ctx, span, &kvpb.GCArgs{Garbage: found}); err != nil {
			return err
		}
	}
	return nil
}

// dataStart is where versioned keys begin in a range that starts at k: behind
// the local and addressing keys, which have no versions.
func dataStart(k keys.Key) keys.Key {
	if k.Less(keys.SystemPrefix) {
		return keys.SystemPrefix
	}
	return k
}

// longestTTL returns the longest time to live of any part of span.
func longestTTL(span keys.Span, policies []GCPolicy) time.Duration {
	var ttl time.Duration
	at := span.Key
	for _, p := range policies {
		if !p.Span.Overlaps(span) {
			continue
		}
		if at.Less(p.Span.Key) {
			ttl = max(ttl, DefaultGCTTL)
		}
		ttl = max(ttl, p.TTL)
		at = p.Span.EndKey
	}
	if at.Less(span.EndKey) {
		ttl = max(ttl, DefaultGCTTL)
	}
	return ttl
}

func (r *Replica) sendGC(ctx context.Context, span keys.Span, args *kvpb.GCArgs) error {
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: kvpb.OpGC, Key: dataStart(span.Key), EndKey: span.EndKey, Args: args})
	_, err := r.store.sender.Send(ctx, ba)
	return err
}

// collectGarbage evaluates an OpGC.
func (e *evaluation) collectGarbage(ctx context.Context, q *kvpb.Request) error {
	args, ok := q.Args.(*kvpb.GCArgs)
	if !ok || len(e.ba.Requests) != 1 {
		return errors.New("garbage collection comes alone, with arguments")
	}
	if !args.Threshold.IsEmpty() {
		if th := e.r.gcThreshold.Load(); th != nil && args.Threshold.LessEq(*th) {
			return nil
		}
		// Durable before the first removal, which is a later request.
		e.proposal.gcThreshold = args.Threshold
		return e.batch.Put(rangeIDKey(e.r.id, suffixGCThreshold), encodeTimestamp(args.Threshold))
	}
	th := e.r.gcThreshold.Load()
	if th == nil {
		return errors.New("garbage cannot be removed before a threshold is set")
	}
	e.proposal.sync = false
	return storage.MVCCGarbageCollect(ctx, e.batch, args.Garbage, *th, &e.proposal.stats)
}
