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

// txnExpiry is how long after its last sign of life a transaction counts as
// abandoned: several heartbeats.
const txnExpiry = 5 * time.Second

// A transaction has a record only while it needs one: from its first heartbeat
// to its end, and from a commit that leaves intents behind until those are
// resolved. An aborted transaction has none: that it is aborted follows from a
// mark in memory or, after a restart, from its age.

// checkCommitTimestamp says whether the transaction can commit where its writes
// are: only there its reads are still what it saw.
func (e *evaluation) checkCommitTimestamp() error {
	if e.readTS.Less(e.writeTS) {
		return &kvpb.RetryTxnError{Reason: kvpb.RetrySerializable, RefreshTo: e.writeTS,
			Msg: fmt.Sprintf("its writes moved to %s, its reads are at %s", e.writeTS, e.readTS)}
	}
	if d := e.end.Deadline; !d.IsEmpty() && d.Less(e.writeTS) {
		return &kvpb.RetryTxnError{Reason: kvpb.RetryCommitDeadline,
			Msg: fmt.Sprintf("commit at %s is after the deadline %s", e.writeTS, d)}
	}
	return nil
}

// mark returns what is decided about a transaction without record whose record
// would be on this range. What a former leaseholder decided is not known: it may
// have aborted everything that began in its time.
func (r *Replica) mark(id kvpb.TxnID, min hlc.Timestamp) txnMark {
	k := r.store.marks.get(id, min)
	if !k.aborted && min.LessEq(r.floorAt()) {
		k.aborted, k.reason = true, kvpb.RetryAborted
	}
	return k
}

// endTxn commits or aborts the transaction of the batch.
func (e *evaluation) endTxn(ctx context.Context, q *kvpb.Request) error {
	if e.onePhase {
		e.status = kvpb.TxnCommitted
		e.proposal.sync = true
		return nil
	}
	t := e.ba.Txn
	rec, err := loadTxnRecord(e.batch, q.Key, t.ID)
	if err != nil {
		return err
	}
	if rec != nil && rec.Status == kvpb.TxnCommitted {
		if !e.end.Commit {
			return errors.New("a committed transaction cannot be rolled back")
		}
		e.status, e.writeTS = kvpb.TxnCommitted, rec.WriteTimestamp // Sent twice.
		return nil
	}
	if e.end.Commit {
		if err := e.checkCommit(rec); err != nil {
			return err
		}
		e.status = kvpb.TxnCommitted
		e.proposal.sync = true
	} else {
		e.status = kvpb.TxnAborted
	}

	update := storage.LockUpdate{Txn: e.txn.TxnMeta, Status: storage.TxnStatus(e.status), IgnoredSeqNums: t.IgnoredSeqNums}
	update.Txn.WriteTimestamp = e.writeTS
	// A range that grew by a merge since the latch was made has locks that it does
	// not cover.
	if spans, ok := e.r.resolvableInline(e.end.LockSpans); ok && e.w.inline {
		for _, sp := range spans {
			update.Span = sp
			if _, err := storage.MVCCResolveIntent(ctx, e.batch, update, &e.proposal.stats); err != nil {
				return err
			}
		}
		if rec != nil {
			return e.batch.Clear(txnRecordKey(q.Key, t.ID))
		}
		return nil
	}
	e.cleanup = &kvpb.TxnRecord{
		ID: t.ID, Key: q.Key.Clone(), Status: e.status, Epoch: t.Epoch, Priority: t.Priority, MinTimestamp: t.MinTimestamp,
		WriteTimestamp: e.writeTS, LastHeartbeat: e.writeTS, IgnoredSeqNums: t.IgnoredSeqNums, LockSpans: cloneSpans(e.end.LockSpans),
	}
	switch {
	case e.status == kvpb.TxnCommitted:
		return putTxnRecord(e.batch, e.cleanup)
	case rec != nil:
		return e.batch.Clear(txnRecordKey(q.Key, t.ID))
	}
	return nil
}

func cloneSpans(spans []keys.Span) []keys.Span {
	out := make([]keys.Span, len(spans))
	for i, s := range spans {
		out[i] = keys.Span{Key: s.Key.Clone(), EndKey: s.EndKey.Clone()}
	}
	return out
}

// checkCommit says whether the transaction may still commit, and moves it above
// what pushers asked for.
func (e *evaluation) checkCommit(rec *kvpb.TxnRecord) error {
	t := e.ba.Txn
	if rec == nil {
		k := e.r.mark(t.ID, t.MinTimestamp)
		if k.aborted {
			return &kvpb.TxnAbortedError{Reason: k.reason}
		}
		e.writeTS.Forward(k.pushedTo)
	} else {
		e.writeTS.Forward(rec.WriteTimestamp)
	}
	if e.canMove && !e.readsInBatch() && e.readTS.Less(e.writeTS) {
		// Nothing was read, so the snapshot can be anywhere.
		e.readTS = e.writeTS
		e.txn.ReadTimestamp = e.readTS
	}
	return e.checkCommitTimestamp()
}

// readsInBatch says whether requests of this batch have read at e.readTS.
func (e *evaluation) readsInBatch() bool {
	for i := range e.ba.Requests {
		if e.ba.Requests[i].Op.IsRead() {
			return true
		}
	}
	return false
}

// transactionEnded follows the end of a transaction that this batch made.
func (e *evaluation) transactionEnded() {
	s := e.r.store
	t := e.ba.Txn
	if e.onePhase {
		s.locks.releaseTxn(t.ID) // An attempt that came too late keeps its place by a lock.
		return
	}
	if e.cleanup != nil || e.status == kvpb.TxnAborted {
		s.locks.finished.add(t.ID, finishedTxn{status: e.status, commitTS: e.writeTS, epoch: t.Epoch, ignored: t.IgnoredSeqNums})
	}
	if e.status == kvpb.TxnAborted {
		s.marks.abort(t.ID, t.MinTimestamp, kvpb.RetryAborted)
	}
	s.locks.releaseTxn(t.ID)
	if e.cleanup != nil {
		s.resolver.add(e.cleanup)
	}
}

// heartbeat writes that the transaction is alive, and makes the record for that
// if there is none.
func (e *evaluation) heartbeat(q *kvpb.Request, rs *kvpb.Response) error {
	t := e.ba.Txn
	args, ok := q.Args.(*kvpb.HeartbeatArgs)
	if !ok || t == nil {
		return errors.New("a heartbeat needs a transaction and its arguments")
	}
	rec, err := loadTxnRecord(e.batch, q.Key, t.ID)
	if err != nil {
		return err
	}
	if rec == nil {
		k := e.r.mark(t.ID, t.MinTimestamp)
		if k.aborted {
			return &kvpb.TxnAbortedError{Reason: k.reason}
		}
		rec = &kvpb.TxnRecord{
			ID: t.ID, Key: q.Key, Epoch: t.Epoch, Priority: t.Priority,
			MinTimestamp: t.MinTimestamp, WriteTimestamp: hlc.Later(t.MinTimestamp, k.pushedTo),
		}
	}
	rs.Reply = &kvpb.HeartbeatReply{Status: rec.Status}
	if rec.Status.IsFinal() {
		return nil
	}
	rec.LastHeartbeat.Forward(args.Now)
	return putTxnRecord(e.batch, rec)
}

// push finds out what became of a transaction, and aborts or moves it if the
// pusher may do that.
func (e *evaluation) push(q *kvpb.Request, rs *kvpb.Response) error {
	args, ok := q.Args.(*kvpb.PushTxnArgs)
	if !ok {
		return errors.New("a push needs its arguments")
	}
	s := e.r.store
	p := args.Pushee
	e.proposal.sync = false
	if args.Type == kvpb.PushQueryWaiters {
		rs.Reply = &kvpb.PushTxnReply{Waiters: s.waits.of(p.ID)}
		return nil
	}
	rec, err := loadTxnRecord(e.batch, q.Key, p.ID)
	if err != nil {
		return err
	}
	if rec != nil && rec.Status == kvpb.TxnCommitted {
		rs.Reply = &kvpb.PushTxnReply{Status: rec.Status, WriteTimestamp: rec.WriteTimestamp, Epoch: rec.Epoch, IgnoredSeqNums: rec.IgnoredSeqNums}
		return nil
	}
	lastActive := p.MinTimestamp
	if rec != nil {
		lastActive = rec.LastActive()
	} else if e.r.mark(p.ID, p.MinTimestamp).aborted {
		// It may also have committed and be done with all its intents; then there
		// is none left for which this answer could matter.
		rs.Reply = &kvpb.PushTxnReply{Status: kvpb.TxnAborted}
		return nil
	}
	expired := lastActive.Add(txnExpiry).Less(s.clock.Now())
	switch {
	case args.Type == kvpb.PushTimestamp && !expired && args.PushTo.Less(p.WriteTimestamp):
		rs.Reply = &kvpb.PushTxnReply{Status: kvpb.TxnPending, WriteTimestamp: p.WriteTimestamp}
		return nil // It is out of the way already.
	case !expired && !args.Force && (args.Type == kvpb.PushTouch || args.PusherPriority <= kvpb.Priority(p.Priority)):
		s.waits.note(p.ID, args.Pusher)
		return &kvpb.TransactionPushError{Pushee: p}
	case args.Type == kvpb.PushTimestamp && !expired:
		to := hlc.Later(args.PushTo.Next(), p.WriteTimestamp)
		rs.Reply = &kvpb.PushTxnReply{Status: kvpb.TxnPending, WriteTimestamp: to}
		if rec == nil {
			s.marks.push(p.ID, p.MinTimestamp, to)
			return nil
		}
		rec.WriteTimestamp.Forward(to)
		return putTxnRecord(e.batch, rec)
	}
	reason := args.Reason
	if reason == "" {
		reason = kvpb.RetryClientAbort
	}
	s.marks.abort(p.ID, p.MinTimestamp, reason)
	e.pushed = p.ID
	rs.Reply = &kvpb.PushTxnReply{Status: kvpb.TxnAborted}
	if rec != nil {
		return e.batch.Clear(txnRecordKey(q.Key, p.ID))
	}
	return nil
}

// resolveIntents applies the fate of a transaction to its intents.
func (e *evaluation) resolveIntents(ctx context.Context, q *kvpb.Request, rs *kvpb.Response) error {
	args, ok := q.Args.(*kvpb.ResolveArgs)
	if !ok {
		return errors.New("resolving intents needs arguments")
	}
	update := storage.LockUpdate{Span: q.Span(), Txn: args.Txn, Status: storage.TxnStatus(args.Status), IgnoredSeqNums: args.IgnoredSeqNums}
	done := resolvedLocks{txn: args.Txn.ID, span: q.Span(), released: args.Status.IsFinal(), writeTS: args.Txn.WriteTimestamp}
	if q.Op == kvpb.OpResolveIntent {
		if _, err := storage.MVCCResolveIntent(ctx, e.batch, update, &e.proposal.stats); err != nil {
			return err
		}
	} else {
		n, resume, err := storage.MVCCResolveIntentRange(ctx, e.batch, update, args.MaxKeys, &e.proposal.stats)
		if err != nil {
			return err
		}
		rs.Count, rs.Resume = n, resume
		if resume != nil {
			done.span.EndKey = resume.Key
		}
	}
	e.resolve = append(e.resolve, done)
	return nil
}
