package kvserver

import (
	"context"
	"errors"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

const (
	// pushDelay is how long a request waits for a lock before it asks what became
	// of the holder: most are gone by then.
	pushDelay = 10 * time.Millisecond
	// repushInterval is how often it asks again.
	repushInterval = time.Second
	// resolveBatchKeys bounds how many intents one request cleans up at once.
	resolveBatchKeys = 20_000
)

// waiting is what one request knows of its waits: its places in queues, which it
// keeps until it is over, so that nobody overtakes it.
type waiting struct {
	store    *Store
	txn      storage.TxnMeta // ID empty: no transaction
	priority kvpb.Priority
	list     []*waiter
	readTS   hlc.Timestamp
	inline   bool // see latch
}

// leaveAll gives up all places. acquired: the keys are now locked by the
// request's transaction.
func (w *waiting) leaveAll(acquired bool) {
	for _, x := range w.list {
		w.store.locks.leave(x, acquired)
	}
	w.list = nil
}

// memoryLockError says that a lock which the engine does not know is in the way.
type memoryLockError struct{ c lockConflict }

func (e *memoryLockError) Error() string { return "conflicting lock on " + keys.Pretty(e.c.key) }

// conflictIn finds the lock that err is about.
func (w *waiting) conflictIn(err error) (lockConflict, bool) {
	var engine *storage.LockConflictError
	var memory *memoryLockError
	switch {
	case errors.As(err, &engine) && len(engine.Locks) > 0:
		l := engine.Locks[0]
		return lockConflict{key: l.Key, holder: l.Txn}, true
	case errors.As(err, &memory):
		return memory.c, true
	}
	return lockConflict{}, false
}

// waitForLock returns when it makes sense to evaluate the batch again: the lock
// c was released, or moved out of a reader's way. It releases la, if there is
// one, after it has entered the queue.
func (r *Replica) waitForLock(ctx context.Context, ba *kvpb.BatchRequest, w *waiting, c lockConflict, readTS hlc.Timestamp, la *latch) error {
	s := r.store
	release := func() {
		if la != nil {
			r.latches.release(la)
			la = nil
		}
	}
	defer release()
	// An intent that is left over from a finished transaction needs no wait.
	if done, err := r.resolveIfFinished(ctx, ba, c, release); done || err != nil {
		return err
	}
	if ba.WaitPolicy == kvpb.WaitError {
		release()
		return r.failUnlessGone(ctx, ba, w, c, readTS)
	}

	reader := la == nil
	x := w.at(c.key)
	if x == nil {
		x = &waiter{txn: w.txn, priority: w.priority, reader: reader, readTS: readTS, wake: make(chan struct{}, 1)}
	}
	if !s.locks.enqueue(c, x) {
		return nil // It went away meanwhile.
	}
	if w.at(c.key) == nil {
		w.list = append(w.list, x)
	}
	release()
	if reader && !c.known {
		// Without latches the intent may have been resolved before it was
		// entered, and then nobody would tell us.
		if err := s.forgetIfResolved(ctx, c); err != nil {
			return err
		}
	}
	return r.waitInQueue(ctx, ba, w, x)
}

func (w *waiting) at(key keys.Key) *waiter {
	for _, x := range w.list {
		if x.lock.key.Equal(key) {
			return x
		}
	}
	return nil
}

// forgetIfResolved takes a lock out of the table that the engine no longer has.
func (s *Store) forgetIfResolved(ctx context.Context, c lockConflict) error {
	locks, _, err := storage.ScanLocks(ctx, s.eng, c.key, c.key.Next(), 1)
	if err != nil {
		return err
	}
	if len(locks) == 0 || locks[0].Txn.ID != c.holder.ID {
		s.locks.updated(c.holder.ID, c.key, true, hlc.Timestamp{})
	} else {
		s.locks.updated(c.holder.ID, c.key, false, locks[0].Txn.WriteTimestamp)
	}
	return nil
}

// waitInQueue waits until x may try again.
func (r *Replica) waitInQueue(ctx context.Context, ba *kvpb.BatchRequest, w *waiting, x *waiter) error {
	s := r.store
	defer s.locks.setAsleep(x, false)
	delay := pushDelay
	if w.priority == kvpb.PriorityMax {
		delay = 0
	}
	push := time.NewTimer(delay)
	defer push.Stop()
	pushes := 0
	var timeout <-chan time.Time
	if ba.LockTimeout > 0 {
		t := time.NewTimer(ba.LockTimeout)
		defer t.Stop()
		timeout = t.C
	}
	for {
		c, ready := s.locks.status(x)
		if ready {
			return nil
		}
		if !w.txn.ID.IsEmpty() {
			if k := s.marks.known(w.txn.ID); k.aborted {
				return &kvpb.TxnAbortedError{Reason: k.reason}
			}
		}
		if victim, ok := s.locks.deadlockVictim(x); ok {
			if err := r.breakDeadlock(ctx, w, victim); err != nil {
				return err
			}
		}
		select {
		case <-x.wake:
		case <-push.C:
			push.Reset(repushInterval)
			// The next leaseholder has its own queue.
			if _, err := r.serve(ctx, hlc.Timestamp{}); err != nil {
				return err
			}
			if c.queued && s.cfg.Network == nil {
				continue // The one before us is being served; the holder is its worry.
			}
			if err := r.pushHolder(ctx, ba, w, c, x); err != nil {
				return err
			}
			if pushes++; pushes > 1 && s.cfg.Network != nil && !w.txn.ID.IsEmpty() {
				victim, ok, err := s.closesCircle(ctx, w, c.holder)
				if err == nil && ok {
					err = r.breakDeadlock(ctx, w, victim)
				}
				if err != nil {
					return err
				}
			}
		case <-timeout:
			return &kvpb.LockNotAvailableError{Key: c.key.Clone(), Timeout: ba.LockTimeout}
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopping:
			return ErrStopped
		}
	}
}

// waiterInfo is a victim of a deadlock.
type waiterInfo struct {
	txn  storage.TxnMeta
	self bool
}

// breakDeadlock aborts the victim. Its client notices at its next request, or
// now if it is waiting, and releases its locks.
func (r *Replica) breakDeadlock(ctx context.Context, w *waiting, victim waiterInfo) error {
	if victim.self {
		return &kvpb.TxnAbortedError{Reason: kvpb.RetryDeadlock}
	}
	reply, err := r.store.pushTxn(ctx, victim.txn, &kvpb.PushTxnArgs{Type: kvpb.PushAbort, Force: true, Reason: kvpb.RetryDeadlock})
	if err != nil {
		return err
	}
	r.store.noteFinished(victim.txn.ID, reply)
	r.store.locks.wakeTxn(victim.txn.ID)
	return nil
}

// pushHolder asks what became of the holder of c and cleans up after it if it is
// over or could be moved.
func (r *Replica) pushHolder(ctx context.Context, ba *kvpb.BatchRequest, w *waiting, c lockConflict, x *waiter) error {
	args := &kvpb.PushTxnArgs{Type: kvpb.PushAbort, PusherPriority: w.priority, Pusher: w.txn}
	if c.queued {
		args.Type = kvpb.PushTouch
	}
	if x.reader {
		args.Type, args.PushTo = kvpb.PushTimestamp, x.readTS
	}
	reply, err := r.store.pushTxn(ctx, c.holder, args)
	if err != nil {
		var busy *kvpb.TransactionPushError
		if errors.As(err, &busy) {
			return nil // It is alive. Wait on.
		}
		return err
	}
	r.store.noteFinished(c.holder.ID, reply)
	if c.queued {
		return nil // It has no lock here.
	}
	return r.resolveConflict(ctx, ba, c, finishedTxn{status: reply.Status, commitTS: reply.WriteTimestamp, ignored: reply.IgnoredSeqNums, epoch: reply.Epoch})
}

// failUnlessGone is the wait of NOWAIT: it only finds out whether the holder is
// still there.
func (r *Replica) failUnlessGone(ctx context.Context, ba *kvpb.BatchRequest, w *waiting, c lockConflict, readTS hlc.Timestamp) error {
	fail := &kvpb.LockNotAvailableError{Key: c.key.Clone()}
	if c.queued {
		return fail
	}
	reply, err := r.store.pushTxn(ctx, c.holder, &kvpb.PushTxnArgs{Type: kvpb.PushTouch, PusherPriority: w.priority})
	var busy *kvpb.TransactionPushError
	switch {
	case errors.As(err, &busy):
		return fail
	case err != nil:
		return err
	}
	r.store.noteFinished(c.holder.ID, reply)
	return r.resolveConflict(ctx, ba, c, finishedTxn{status: reply.Status, commitTS: reply.WriteTimestamp, ignored: reply.IgnoredSeqNums, epoch: reply.Epoch})
}

// resolveIfFinished cleans up at once if the holder's fate is known here.
func (r *Replica) resolveIfFinished(ctx context.Context, ba *kvpb.BatchRequest, c lockConflict, release func()) (bool, error) {
	if c.queued {
		return false, nil
	}
	f, ok := r.store.locks.finished.get(c.holder.ID)
	if !ok {
		return false, nil
	}
	release()
	return true, r.resolveConflict(ctx, ba, c, f)
}

// resolveConflict applies the fate of c's holder to c's key and to what else of
// the holder the batch is going to meet.
func (r *Replica) resolveConflict(ctx context.Context, ba *kvpb.BatchRequest, c lockConflict, f finishedTxn) error {
	if c.memoryOnly {
		if f.status.IsFinal() {
			r.store.locks.releaseTxn(c.holder.ID)
		}
		return nil
	}
	meta := c.holder
	meta.WriteTimestamp = f.commitTS
	if f.status == kvpb.TxnCommitted {
		meta.Epoch = f.epoch
	}
	args := &kvpb.ResolveArgs{Txn: meta, Status: f.status, IgnoredSeqNums: f.ignored, MaxKeys: resolveBatchKeys}
	sub := &kvpb.BatchRequest{}
	req := kvpb.Request{Op: kvpb.OpResolveIntent, Key: c.key, Args: args}
	for i := range ba.Requests {
		q := &ba.Requests[i]
		if q.Op.IsRange() && q.Span().Contains(c.key) && q.Op != kvpb.OpReverseScan {
			// The rest of the scan would meet more of them.
			req.Op, req.EndKey = kvpb.OpResolveIntentRange, q.EndKey
		}
	}
	sub.Add(req)
	_, err := r.store.sender.Send(ctx, sub)
	return err
}

// pushTxn asks the range of pushee's record.
func (s *Store) pushTxn(ctx context.Context, pushee storage.TxnMeta, args *kvpb.PushTxnArgs) (*kvpb.PushTxnReply, error) {
	args.Pushee = pushee
	sub := &kvpb.BatchRequest{}
	sub.Add(kvpb.Request{Op: kvpb.OpPushTxn, Key: pushee.Key, Args: args})
	resp, err := s.sender.Send(ctx, sub)
	if err != nil {
		return nil, err
	}
	reply, ok := resp.Responses[0].Reply.(*kvpb.PushTxnReply)
	if !ok {
		return nil, errors.New("push got an answer of another kind")
	}
	return reply, nil
}

// noteFinished remembers what a push found out.
func (s *Store) noteFinished(id kvpb.TxnID, reply *kvpb.PushTxnReply) {
	if reply.Status.IsFinal() {
		s.locks.finished.add(id, finishedTxn{
			status: reply.Status, commitTS: reply.WriteTimestamp, ignored: reply.IgnoredSeqNums, epoch: reply.Epoch,
		})
	}
}
