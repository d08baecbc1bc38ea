package kvserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	// A range is looked through when it has gcWorthBytes of old versions, and no
	// sooner than gcRestFactor times what the last look took after that; or for
	// less, but rarely.
	gcWorthBytes = 1 << 20
	gcRestFactor = 50
	gcRarely     = 6 * time.Hour
)

// GCConfig says what garbage collection has to respect.
type GCConfig struct {
	// Policies returns the spans that have their own time to live, in order and
	// disjoint, for what lies in span. Other keys have DefaultGCTTL.
	Policies func(ctx context.Context, span keys.Span) ([]GCPolicy, error)
	// Protections returns every protected timestamp, and a timestamp as of which
	// the list is complete.
	Protections func(ctx context.Context) ([]Protection, hlc.Timestamp, error)
	Interval    time.Duration // between looks at whether there is work; zero: one minute
	// Eager looks through every range each time and raises thresholds by as little
	// as it can: for tests.
	Eager bool
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

// gcRun remembers a range's last collection.
type gcRun struct {
	at   time.Time
	took time.Duration
}

// collectAll removes garbage from the ranges that have enough of it; force looks
// through all.
func (s *Store) collectAll(ctx context.Context, force bool) error {
	if s.cfg.GC == nil {
		return nil
	}
	return s.eachReplica(func(r *Replica) error {
		if !r.holdsLease() {
			return nil // Its leaseholder does it for all.
		}
		if !force && !r.worthCollecting() {
			return nil
		}
		start := time.Now()
		err := r.collect(ctx)
		r.mu.Lock()
		r.mu.gc = gcRun{at: time.Now(), took: time.Since(start)}
		r.mu.Unlock()
		if err != nil {
			return fmt.Errorf("collecting garbage of %s: %w", r.Desc(), err)
		}
		return ctx.Err()
	})
}

// CollectGarbage looks through all ranges now and removes what may go.
func (s *Store) CollectGarbage(ctx context.Context) error { return s.collectAll(ctx, true) }

func (r *Replica) worthCollecting() bool {
	r.mu.Lock()
	st, last := r.mu.stats, r.mu.gc
	r.mu.Unlock()
	if st.GarbageBytes() >= max(gcWorthBytes, st.Total()/50) || st.RangeKeys > 0 {
		return time.Since(last.at) >= max(10*time.Minute, gcRestFactor*last.took)
	}
	// A start is no reason to read the whole store.
	if last.at.IsZero() {
		last.at = r.store.opened
	}
	return time.Since(last.at) >= gcRarely
}

// collect raises thresholds as far as they may go and removes what only reads at
// or below them could see.
//
// Invariant: threshold ≤ (last complete read of the protections) − ttl, and
// threshold < every protected timestamp of its span. A protection that is
// written after that read protects what such a threshold does not reach, or its
// owner's reads find out that it came too late.
func (r *Replica) collect(ctx context.Context) error {
	targets, err := r.gcTargets(ctx)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if err := r.collectSpan(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// gcTargets cuts the range into spans of one time to live and one set of
// protections, and says how far the threshold of each may go.
func (r *Replica) gcTargets(ctx context.Context) ([]gcThreshold, error) {
	gc := r.store.cfg.GC
	desc := r.Desc()
	var protections []Protection
	var policies []GCPolicy
	asOf := r.store.clock.Now()
	var err error
	if gc.Protections != nil {
		if protections, asOf, err = gc.Protections(ctx); err != nil {
			return nil, fmt.Errorf("reading protected timestamps: %w", err)
		}
	}
	if gc.Policies != nil {
		if policies, err = gc.Policies(ctx, desc.Span()); err != nil {
			return nil, fmt.Errorf("reading zone configurations: %w", err)
		}
	}
	whole := keys.Span{Key: dataStart(desc.StartKey), EndKey: desc.EndKey}
	cuts := []keys.Key{whole.Key, whole.EndKey}
	cut := func(s keys.Span) {
		for _, k := range []keys.Key{s.Key, s.End()} {
			if whole.Key.Less(k) && k.Less(whole.EndKey) {
				cuts = append(cuts, k)
			}
		}
	}
	for i := range policies {
		cut(policies[i].Span)
	}
	for i := range protections {
		for _, s := range protections[i].Spans {
			cut(s)
		}
	}
	slices.SortFunc(cuts, keys.Key.Compare)
	cuts = slices.CompactFunc(cuts, keys.Key.Equal)
	var targets []gcThreshold
	for i := 1; i < len(cuts); i++ {
		t := gcThreshold{Span: keys.Span{Key: cuts[i-1], EndKey: cuts[i]}}
		ttl := DefaultGCTTL
		for j := range policies {
			if policies[j].Span.Overlaps(t.Span) {
				ttl = policies[j].TTL
				break
			}
		}
		t.ts = asOf.Add(-ttl)
		for j := range protections {
			if p := &protections[j]; p.Timestamp.LessEq(t.ts) && p.covers(t.Span) {
				t.ts = p.Timestamp.Prev()
			}
		}
		if n := len(targets); n > 0 && targets[n-1].ts == t.ts {
			targets[n-1].EndKey = t.EndKey
			continue
		}
		targets = append(targets, t)
	}
	return targets, nil
}

func (r *Replica) collectSpan(ctx context.Context, t gcThreshold) error {
	step := minThresholdStep
	if r.store.cfg.GC.Eager {
		step = 1
	}
	if old := r.gc.Load().lowest(t.Span); t.ts.Less(old.Add(step)) || t.ts.WallTime <= 0 {
		return nil
	}
	// Look first: no read should be refused for nothing.
	found, _, err := storage.FindGarbage(ctx, r.store.eng, t.Key, t.EndKey, t.ts, 1)
	if err != nil || found.Empty() {
		return err
	}
	if err := r.sendGC(ctx, t.Span, &kvpb.GCArgs{Threshold: t.ts}); err != nil {
		return err
	}
	var removed int64
	for rest := &t.Span; rest != nil; {
		from := rest.Key
		found, rest, err = storage.FindGarbage(ctx, r.store.eng, rest.Key, rest.EndKey, t.ts, gcBatchBytes)
		if err != nil {
			return err
		}
		if found.Empty() {
			continue
		}
		span := keys.Span{Key: from, EndKey: t.EndKey}
		if rest != nil {
			span.EndKey = rest.Key
		}
		if err := r.sendGC(ctx, span, &kvpb.GCArgs{Threshold: t.ts, Garbage: found}); err != nil {
			return err
		}
		removed += found.Bytes
	}
	r.log.InfoContext(ctx, "collected garbage", "span", t.Span.String(), "threshold", t.ts.String(), "bytes", removed)
	return nil
}

// dataStart is where versioned keys begin in a range that starts at k: behind
// the local and addressing keys, which have no versions.
func dataStart(k keys.Key) keys.Key { return maxKey(k, keys.SystemPrefix) }

func (r *Replica) sendGC(ctx context.Context, span keys.Span, args *kvpb.GCArgs) error {
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: kvpb.OpGC, Key: span.Key, EndKey: span.EndKey, Args: args})
	_, err := r.store.sender.Send(ctx, ba)
	return err
}

// collectGarbage evaluates an OpGC.
func (e *evaluation) collectGarbage(ctx context.Context, q *kvpb.Request) error {
	args, ok := q.Args.(*kvpb.GCArgs)
	if !ok || len(e.ba.Requests) != 1 {
		return errors.New("garbage collection comes alone, with arguments")
	}
	old := e.r.gc.Load()
	if args.Garbage.Empty() {
		next := old.raise(q.Span(), args.Threshold)
		b, err := next.encode()
		if err != nil {
			return err
		}
		// Durable before the first removal, which is a later request.
		e.proposal.gc = next
		return e.batch.Put(rangeIDKey(e.r.id, suffixGCThreshold), b)
	}
	if th := old.lowest(q.Span()); th.Less(args.Threshold) {
		return fmt.Errorf("garbage up to %s cannot be removed under the threshold %s", args.Threshold, th)
	}
	e.proposal.sync = false
	return storage.MVCCGarbageCollect(ctx, e.batch, args.Garbage, args.Threshold, &e.proposal.stats)
}
