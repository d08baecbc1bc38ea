package kvserver

import (
	"context"
	"errors"
	"sync"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// resolver cleans up after transactions that ended with more intents than their
// last batch could resolve. It works on few at a time; what does not fit into
// its queue is found by its record, at the next sweep.
type resolver struct {
	s   *Store
	ctx context.Context

	mu struct {
		sync.Mutex
		queue   []*kvpb.TxnRecord
		active  map[kvpb.TxnID]bool // queued or being worked on
		workers int
		closed  bool
		idle    chan struct{} // closed when nothing is left to do; nil if nobody waits
	}
	running sync.WaitGroup
}

const (
	maxResolveWorkers = 2
	maxResolveQueue   = 10_000
	// asyncResolveKeys is how many intents one batch of the resolver handles.
	asyncResolveKeys = 50_000
)

func newResolver(ctx context.Context, s *Store) *resolver {
	v := &resolver{s: s, ctx: ctx}
	v.mu.active = map[kvpb.TxnID]bool{}
	return v
}

// add takes on the intents of a transaction that is over. The resolver owns rec.
func (v *resolver) add(rec *kvpb.TxnRecord) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.closed || v.mu.active[rec.ID] || len(v.mu.queue) >= maxResolveQueue {
		return
	}
	v.mu.active[rec.ID] = true
	v.mu.queue = append(v.mu.queue, rec)
	if v.mu.workers < maxResolveWorkers {
		v.mu.workers++
		v.running.Go(v.work)
	}
}

func (v *resolver) work() {
	for {
		v.mu.Lock()
		if len(v.mu.queue) == 0 || v.ctx.Err() != nil {
			v.mu.workers--
			if v.mu.workers == 0 && v.mu.idle != nil {
				close(v.mu.idle)
				v.mu.idle = nil
			}
			v.mu.Unlock()
			return
		}
		rec := v.mu.queue[0]
		v.mu.queue = v.mu.queue[1:]
		v.mu.Unlock()
		if err := v.resolve(rec); err != nil && v.ctx.Err() == nil {
			// Whoever meets the intents resolves them, and the next sweep tries again.
			v.s.log.Warn("resolving the intents of a finished transaction", "txn", rec.ID.String(), "err", err)
		}
		v.mu.Lock()
		delete(v.mu.active, rec.ID)
		v.mu.Unlock()
	}
}

// resolve applies the fate of a transaction to all its locks, then removes its
// record.
//
// Invariant: the record of a committed transaction outlives its intents, so a
// crash in between only means that this is done again.
func (v *resolver) resolve(rec *kvpb.TxnRecord) error {
	args := &kvpb.ResolveArgs{
		Txn: storage.TxnMeta{
			ID: rec.ID, Key: rec.Key, Epoch: rec.Epoch, WriteTimestamp: rec.WriteTimestamp,
			MinTimestamp: rec.MinTimestamp, Priority: int32(rec.Priority),
		},
		Status: rec.Status, IgnoredSeqNums: rec.IgnoredSeqNums, MaxKeys: asyncResolveKeys,
	}
	points := &kvpb.BatchRequest{}
	flush := func() error {
		if len(points.Requests) == 0 {
			return nil
		}
		_, err := v.s.sender.Send(v.ctx, points)
		points = &kvpb.BatchRequest{}
		return err
	}
	for _, sp := range rec.LockSpans {
		if len(sp.EndKey) == 0 {
			points.Add(kvpb.Request{Op: kvpb.OpResolveIntent, Key: sp.Key, Args: args})
			if len(points.Requests) >= 500 {
				if err := flush(); err != nil {
					return err
				}
			}
			continue
		}
		for rest := &sp; rest != nil; {
			resp, err := v.resolveSome(*rest, args)
			if err != nil {
				return err
			}
			rest = resp
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if rec.Status != kvpb.TxnCommitted {
		return nil // It has no record.
	}
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: kvpb.OpRemoveTxnRecord, Key: rec.Key, Args: &kvpb.RemoveTxnRecordArgs{ID: rec.ID}})
	_, err := v.s.sender.Send(v.ctx, ba)
	return err
}

func (v *resolver) resolveSome(sp keys.Span, args *kvpb.ResolveArgs) (*keys.Span, error) {
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: kvpb.OpResolveIntentRange, Key: sp.Key, EndKey: sp.EndKey, Args: args})
	resp, err := v.s.sender.Send(v.ctx, ba)
	if err != nil {
		return nil, err
	}
	if len(resp.Responses) != 1 {
		return nil, errors.New("resolving intents got no answer")
	}
	return resp.Responses[0].Resume, nil
}

// wait returns when nothing is left to do.
func (v *resolver) wait(ctx context.Context) error {
	v.mu.Lock()
	if v.mu.workers == 0 {
		v.mu.Unlock()
		return nil
	}
	if v.mu.idle == nil {
		v.mu.idle = make(chan struct{})
	}
	idle := v.mu.idle
	v.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close waits for the workers, whose ctx is done.
func (v *resolver) close() {
	v.mu.Lock()
	v.mu.closed = true
	v.mu.Unlock()
	v.running.Wait()
}

// WaitResolved returns when the intents of all transactions that have ended are
// resolved: for tests and measurements.
func (s *Store) WaitResolved(ctx context.Context) error { return s.resolver.wait(ctx) }
