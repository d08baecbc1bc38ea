package kv

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// maxRefreshes bounds how often one request moves the snapshot before the
// transaction gives up and starts again.
const maxRefreshes = 16

// outgoing is a request and what it needs, in one allocation.
type outgoing struct {
	ba  kvpb.BatchRequest
	txn kvpb.Transaction
	// reqs holds small batches: an operation and the end of the transaction.
	reqs [2]kvpb.Request
}

// outgoingPool saves the allocation: a Sender keeps nothing of a request.
var outgoingPool = sync.Pool{New: func() any { return &outgoing{} }}

func (o *outgoing) free() {
	*o = outgoing{}
	outgoingPool.Put(o)
}

// sendLocked evaluates reqs in the transaction. It numbers the writes, records
// locks before the request leaves and reads after the answer came, and moves
// the snapshot when the range asks for that.
func (t *Txn) sendLocked(ctx context.Context, h kvpb.Header, reqs []kvpb.Request) (*kvpb.BatchResponse, error) {
	if err := t.checkOpenLocked(); err != nil {
		return nil, err
	}
	o := outgoingPool.Get().(*outgoing)
	defer o.free()
	o.ba.Header = h
	o.ba.Nearest = t.fixed
	o.ba.Requests = append(o.reqs[:0], reqs...)
	if err := t.prepareLocked(o.ba.Requests); err != nil {
		return nil, err
	}
	resp, err := t.sendRetryingLocked(ctx, o)
	if err != nil {
		return nil, err
	}
	t.recordReadsLocked(o.ba.Requests, resp)
	return resp, nil
}

// prepareLocked gives sequence numbers and remembers what will be locked.
//
// Invariant: a key is in t.locks before its lock can exist, so that whatever
// happens to the request, the end of the transaction finds the lock.
func (t *Txn) prepareLocked(reqs []kvpb.Request) error {
	readSeq := t.proto.Sequence
	if t.stepping {
		readSeq = t.readSeq
	}
	for i := range reqs {
		r := &reqs[i]
		switch {
		case r.Op.IsTxnWrite():
			if t.fixed {
				return errReadOnlyTxn()
			}
			t.proto.Sequence++
			r.Sequence = t.proto.Sequence
			if !t.stepping {
				readSeq = t.proto.Sequence
			}
			t.anchorLocked(r.Key)
			t.locks.add(r.Key, r.EndKey)
		default:
			r.Sequence = readSeq
			if r.Lock != kvpb.LockNone {
				if t.fixed {
					return errReadOnlyTxn()
				}
				t.anchorLocked(r.Key)
				if !r.Op.IsRange() {
					t.locks.add(r.Key, nil)
				}
			}
		}
	}
	return nil
}

// anchorLocked decides where the transaction record lives and begins to show
// that the client is alive.
func (t *Txn) anchorLocked(key keys.Key) {
	if t.proto.Key == nil {
		t.proto.Key = key.Clone()
	}
	if t.hb == nil {
		t.hb = startHeartbeat(t.db, t.proto)
	}
}

// recordReadsLocked remembers what was read, which is what a refresh checks.
func (t *Txn) recordReadsLocked(reqs []kvpb.Request, resp *kvpb.BatchResponse) {
	for i := range reqs {
		r := &reqs[i]
		if !r.Op.IsRead() || r.Op == kvpb.OpCPut {
			// What a conditional put saw is under its own lock: nobody can change it
			// before the transaction ends. See RollbackTo for when that is not enough.
			continue
		}
		rs := &resp.Responses[i]
		if r.Op.IsRange() && r.Lock != kvpb.LockNone {
			for j := range rs.KVs {
				t.locks.add(rs.KVs[j].Key, nil)
			}
		}
		if t.fixed {
			continue // It never refreshes.
		}
		start, end := r.Key, r.EndKey
		if rs.Resume != nil {
			// Only what the limit let through was read.
			if r.Op == kvpb.OpReverseScan {
				start = rs.Resume.EndKey
			} else {
				end = rs.Resume.Key
			}
			if !start.Less(end) {
				continue
			}
		}
		t.reads.add(start, end)
	}
}

// sendRetryingLocked sends o until it succeeds, fails for good, or the
// transaction must be retried as a whole.
func (t *Txn) sendRetryingLocked(ctx context.Context, o *outgoing) (*kvpb.BatchResponse, error) {
	for attempt := 0; ; attempt++ {
		o.txn = t.proto
		o.ba.Txn = &o.txn
		o.ba.LockTimeout = t.lockTimeout
		o.ba.CanForwardReadTimestamp = t.reads.empty() && !t.fixed && !t.pinned
		resp, err := t.db.sender.Send(ctx, &o.ba)
		if err == nil {
			t.proto.WriteTimestamp.Forward(resp.Txn.WriteTimestamp)
			if t.proto.ReadTimestamp.Forward(resp.Txn.ReadTimestamp) {
				t.proto.WriteTimestamp.Forward(t.proto.ReadTimestamp)
			}
			return resp, nil
		}
		var partial *kvpb.PartialBatchError
		if errors.As(err, &partial) {
			t.proto.WriteTimestamp.Forward(partial.WriteTimestamp)
			err = partial.Cause
		}
		var late *kvpb.WriteTooOldError
		if errors.As(err, &late) && t.hb != nil {
			t.locks.add(late.Key, nil) // The range keeps others away until we come again.
		}
		to, reason, ok := refreshTarget(err)
		if !ok {
			return nil, t.handleErrorLocked(o, err)
		}
		if attempt == maxRefreshes {
			return nil, t.mustRetryLocked(reason, err.Error(), to, false)
		}
		if err := t.refreshLocked(ctx, to, reason); err != nil {
			return nil, err
		}
	}
}

// refreshTarget says to which timestamp the snapshot must move before the
// request that failed with err can succeed.
func refreshTarget(err error) (to hlc.Timestamp, reason kvpb.RetryReason, ok bool) {
	var wto *kvpb.WriteTooOldError
	var unc *kvpb.ReadWithinUncertaintyError
	var re *kvpb.RetryTxnError
	switch {
	case errors.As(err, &wto):
		return wto.ActualTimestamp, kvpb.RetryWriteTooOld, true
	case errors.As(err, &unc):
		return unc.ValueTimestamp, kvpb.RetryUncertainty, true
	case errors.As(err, &re):
		return re.RefreshTo, re.Reason, !re.RefreshTo.IsEmpty()
	}
	return hlc.Timestamp{}, "", false
}

func (t *Txn) handleErrorLocked(o *outgoing, err error) error {
	var aborted *kvpb.TxnAbortedError
	var re *kvpb.RetryTxnError
	var cond *kvpb.ConditionFailedError
	switch {
	case errors.As(err, &aborted):
		return t.mustRetryLocked(aborted.Reason, err.Error(), hlc.Timestamp{}, true)
	case errors.As(err, &re):
		return t.mustRetryLocked(re.Reason, err.Error(), re.RefreshTo, false)
	case errors.As(err, &cond):
		// That the key has this value was read, and the caller acts on it.
		t.reads.add(cond.Key, nil)
	}
	return err
}

// refreshLocked moves the snapshot to ts, if nothing that was read changed up to
// there. Otherwise the transaction must be retried.
func (t *Txn) refreshLocked(ctx context.Context, ts hlc.Timestamp, reason kvpb.RetryReason) error {
	ts.Forward(t.proto.WriteTimestamp)
	if ts.LessEq(t.proto.ReadTimestamp) {
		return nil
	}
	// A pinned transaction may still catch up with what it promised.
	if t.fixed || t.pinned && t.pinnedAt.Less(ts) {
		return t.mustRetryLocked(reason, "its timestamp is fixed and cannot move to "+ts.String(), ts, false)
	}
	if !t.reads.empty() {
		o := &outgoing{}
		args := &kvpb.RefreshArgs{From: t.proto.ReadTimestamp}
		for _, sp := range t.reads.sorted() {
			op := kvpb.OpRefresh
			if len(sp.EndKey) > 0 {
				op = kvpb.OpRefreshRange
			}
			o.ba.Add(kvpb.Request{Op: op, Key: sp.Key, EndKey: sp.EndKey, Args: args, Sequence: t.proto.Sequence})
		}
		o.txn = t.proto
		o.txn.ReadTimestamp = ts
		o.txn.WriteTimestamp.Forward(ts)
		o.ba.Txn = &o.txn
		if _, err := t.db.sender.Send(ctx, &o.ba); err != nil {
			var re *kvpb.RetryTxnError
			if errors.As(err, &re) {
				return t.mustRetryLocked(reason, re.Msg, ts, false)
			}
			return t.handleErrorLocked(o, err)
		}
	}
	t.proto.ReadTimestamp = ts
	t.proto.WriteTimestamp.Forward(ts)
	t.proto.UncertaintyLimit.Forward(ts)
	return nil
}

// Commit makes the writes visible and durable. When it returns nil, they are.
func (t *Txn) Commit(ctx context.Context) error {
	return t.finish(ctx, nil)
}

// CommitInBatch sends the last operations of the transaction together with its
// commit. If they are its only writes and one range holds them, they are
// committed in one step, without intents.
func (t *Txn) CommitInBatch(ctx context.Context, b *Batch) error {
	return t.finish(ctx, b)
}

func (t *Txn) finish(ctx context.Context, b *Batch) error {
	hooks, err := func() ([]func(), error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if err := t.commitLocked(ctx, b); err != nil {
			return nil, err
		}
		hooks := t.onCommit
		t.onCommit = nil
		return hooks, nil
	}()
	for _, fn := range hooks {
		fn()
	}
	return err
}

func (t *Txn) commitLocked(ctx context.Context, b *Batch) error {
	if err := t.checkOpenLocked(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err // Nothing was sent, so this is no ambiguous result.
	}
	if t.locks.empty() && (b == nil || len(b.reqs) == 0) {
		return t.finishReadsLocked()
	}
	o := outgoingPool.Get().(*outgoing)
	defer o.free()
	o.ba.Requests = o.reqs[:0]
	onePhase := t.locks.empty()
	if b != nil {
		o.ba.Header = b.header()
		if b.MaxKeys > 0 || b.TargetBytes > 0 {
			return errors.New("a batch that commits cannot have limits")
		}
		if n := len(b.reqs); n >= len(o.reqs) {
			o.ba.Requests = make([]kvpb.Request, 0, n+1)
		}
		o.ba.Requests = append(o.ba.Requests, b.reqs...)
		if err := t.prepareLocked(o.ba.Requests); err != nil {
			return err
		}
	}
	if t.locks.empty() {
		return t.commitReadsLocked(ctx, o, b)
	}
	if len(o.ba.Requests) == 0 && t.proto.ReadTimestamp.Less(t.proto.WriteTimestamp) {
		// The range would refuse; save the way.
		if err := t.refreshLocked(ctx, t.proto.WriteTimestamp, kvpb.RetrySerializable); err != nil {
			return err
		}
	}
	o.ba.Add(kvpb.Request{
		Op: kvpb.OpEndTxn, Key: t.proto.Key, Sequence: t.proto.Sequence,
		Args: &kvpb.EndTxnArgs{
			Commit: true, LockSpans: t.locks.sorted(), Deadline: t.deadlineLocked(),
			OnePhase: onePhase && t.proto.Epoch == 0,
		},
	})
	// From here on no heartbeat may follow: it could outlive the record.
	t.hb.stop()
	resp, err := t.sendRetryingLocked(ctx, o)
	if err != nil {
		var amb *kvpb.AmbiguousResultError
		switch {
		case errors.As(err, &amb):
			t.state = txnFailed
		case t.state == txnOpen && b != nil:
			// A condition failed or a lock was not available: the transaction
			// goes on, and so must its heartbeat.
			t.hb = startHeartbeat(t.db, t.proto)
		case t.state == txnOpen:
			t.hb = startHeartbeat(t.db, t.proto)
		case t.state == txnNeedsRetry && t.retry.Next.ID == t.proto.ID:
			t.hb = startHeartbeat(t.db, t.proto)
		}
		return err
	}
	t.end(txnCommitted)
	t.commitTS = t.proto.WriteTimestamp
	if b != nil {
		b.fill(resp)
	}
	return nil
}

// commitReadsLocked sends the last reads of a transaction without writes.
func (t *Txn) commitReadsLocked(ctx context.Context, o *outgoing, b *Batch) error {
	resp, err := t.sendRetryingLocked(ctx, o)
	if err != nil {
		return err
	}
	b.fill(resp)
	return t.finishReadsLocked()
}

// finishReadsLocked commits a transaction that only read: all of it is of one
// snapshot, which is a place in the order.
func (t *Txn) finishReadsLocked() error {
	if d := t.deadlineLocked(); !d.IsEmpty() && d.Less(t.proto.ReadTimestamp) {
		return t.mustRetryLocked(kvpb.RetryCommitDeadline, "the commit deadline has passed", hlc.Timestamp{}, false)
	}
	t.end(txnCommitted)
	t.commitTS = t.proto.ReadTimestamp
	return nil
}

func (t *Txn) end(s txnState) {
	t.state = s
	t.finished.Store(true)
}

// Rollback undoes everything. It is safe to call after the end.
func (t *Txn) Rollback(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state == txnCommitted || t.state == txnRolledBack {
		return nil
	}
	t.end(txnRolledBack)
	t.onCommit = nil
	return t.abandonLocked(ctx)
}

func (t *Txn) rollbackBestEffort(ctx context.Context) {
	if err := t.Rollback(ctx); err != nil {
		// The locks stay until someone who meets them finds the record expired.
		t.db.log.WarnContext(ctx, "rolling back; the locks will expire", "txn", t.proto.ID.String(), "err", err)
	}
}

// abandonLocked aborts t.proto and releases its locks. It works for a ctx that
// is already done, since locks that are left behind hold others up.
func (t *Txn) abandonLocked(ctx context.Context) error {
	if t.locks.empty() {
		return nil
	}
	t.hb.stop()
	t.hb = nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	o := &outgoing{}
	o.txn = t.proto
	o.ba.Txn = &o.txn
	o.ba.Requests = append(o.reqs[:0], kvpb.Request{
		Op: kvpb.OpEndTxn, Key: t.proto.Key, Sequence: t.proto.Sequence,
		Args: &kvpb.EndTxnArgs{LockSpans: t.locks.sorted()},
	})
	t.locks.clear()
	_, err := t.db.sender.Send(ctx, &o.ba)
	var aborted *kvpb.TxnAbortedError
	if errors.As(err, &aborted) {
		return nil // Somebody was faster.
	}
	return err
}
