package kv

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// txnState says what can be done with a Txn.
//
//	open ─► committed
//	open ─► needsRetry ─► open        (PrepareForRetry)
//	open, needsRetry, failed ─► rolledBack
//	open ─► failed                    (a commit whose outcome is unknown)
type txnState int8

const (
	txnOpen txnState = iota
	txnNeedsRetry
	txnFailed
	txnCommitted
	txnRolledBack
)

// errTxnFinished is returned by operations on a Txn that was ended.
var errTxnFinished = errors.New("transaction is already committed or rolled back")

// Txn is a serializable transaction. One goroutine at a time uses it; calls from
// several are taken one after the other.
//
// An error leaves the transaction usable unless it is a
// *kvpb.TransactionRetryError (then PrepareForRetry or Rollback follow) or came
// from Commit.
type Txn struct {
	db *DB

	mu    sync.Mutex // held while a request is under way
	state txnState
	// finished: state is txnCommitted or txnRolledBack.
	finished atomic.Bool
	proto    kvpb.Transaction
	retry    *kvpb.TransactionRetryError // in txnNeedsRetry

	// reads is what a refresh has to check: every span read at ReadTimestamp.
	reads spanSet
	// locks covers all keys that may hold an intent or a lock, of all epochs.
	locks spanSet
	hb    *heartbeat // from the first lock on

	stepping bool
	readSeq  int32 // in stepping mode: the newest own write that reads see

	// fixed: the timestamp was given by the user; the transaction reads only.
	// pinned: the user saw the commit timestamp, pinnedAt; it must not change.
	fixed, pinned bool
	pinnedAt      hlc.Timestamp
	bound         CommitBound
	boundToken    uint64
	lockTimeout   time.Duration
	commitTS      hlc.Timestamp
	onCommit      []func()
}

// ID names the transaction. It changes when PrepareForRetry follows an abort.
func (t *Txn) ID() kvpb.TxnID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.proto.ID
}

// Name returns what NewTxn was given.
func (t *Txn) Name() string { return t.proto.Name }

// DB returns the DB that began the transaction.
func (t *Txn) DB() *DB { return t.db }

// IsFinished says whether the transaction was committed or rolled back. It does not
// wait for a request under way.
func (t *Txn) IsFinished() bool { return t.finished.Load() }

// IsCommitted says whether the transaction is known to be committed.
func (t *Txn) IsCommitted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state == txnCommitted
}

// ReadTimestamp returns the snapshot that reads see. A refresh may move it.
func (t *Txn) ReadTimestamp() hlc.Timestamp {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.proto.ReadTimestamp
}

// ProvisionalCommitTimestamp returns where the transaction would commit now. It
// can still move up.
func (t *Txn) ProvisionalCommitTimestamp() hlc.Timestamp {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.proto.WriteTimestamp
}

// CommitTimestamp returns the timestamp of the transaction's writes. Before the
// commit it pins it: if it cannot be kept, the transaction has to be retried.
func (t *Txn) CommitTimestamp() hlc.Timestamp {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state == txnCommitted {
		return t.commitTS
	}
	if !t.pinned {
		t.pinned, t.pinnedAt = true, t.proto.WriteTimestamp
	}
	return t.pinnedAt
}

// SetFixedTimestamp makes the transaction a read-only one at ts, a moment of the
// past. It must come before the first operation.
func (t *Txn) SetFixedTimestamp(_ context.Context, ts hlc.Timestamp) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.reads.empty() || !t.locks.empty() {
		return errors.New("the timestamp of a transaction cannot be set after its first operation")
	}
	t.proto.MinTimestamp, t.proto.ReadTimestamp, t.proto.WriteTimestamp = ts, ts, ts
	t.proto.UncertaintyLimit = ts
	t.fixed = true
	return nil
}

// IsFixed says whether SetFixedTimestamp was called.
func (t *Txn) IsFixed() bool { return t.fixed }

// SetPriority decides who yields when transactions meet.
func (t *Txn) SetPriority(p kvpb.Priority) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.proto.Priority = p
}

// SetLockTimeout bounds the wait for each lock; zero means no bound.
func (t *Txn) SetLockTimeout(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lockTimeout = d
}

// CommitBound knows a deadline that moves, such as the end of a lease.
type CommitBound interface {
	// CommitBound returns the latest timestamp at which a transaction that was
	// given token may commit.
	CommitBound(token uint64) hlc.Timestamp
}

// BoundCommit makes the transaction commit no later than b allows when it commits.
// The first call counts; a retry forgets it.
func (t *Txn) BoundCommit(b CommitBound, token uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bound == nil {
		t.bound, t.boundToken = b, token
	}
}

// deadlineLocked returns the latest timestamp to commit at; empty for no bound.
func (t *Txn) deadlineLocked() hlc.Timestamp {
	if t.bound == nil {
		return hlc.Timestamp{}
	}
	return t.bound.CommitBound(t.boundToken)
}

// OnCommit calls fn after a successful commit, before Commit returns. A retry
// forgets it, since whoever registered it runs again.
func (t *Txn) OnCommit(fn func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.onCommit = append(t.onCommit, fn)
}

// Step ends a statement: reads that follow see the writes so far, and none of
// the later ones until the next Step. Without any call to Step, reads see all
// own writes.
func (t *Txn) Step(_ context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stepping = true
	t.readSeq = t.proto.Sequence
}

// SetStepping switches the stepping that Step began on or off.
func (t *Txn) SetStepping(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stepping = on
	t.readSeq = t.proto.Sequence
}

// HasWrites says whether the transaction may have written or locked something.
func (t *Txn) HasWrites() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.locks.empty()
}

// HasReads says whether the transaction has read anything in this attempt.
func (t *Txn) HasReads() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.reads.empty()
}

// HasTouched says whether the transaction may have read, written or locked
// something in span.
func (t *Txn) HasTouched(span keys.Span) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reads.overlaps(span) || t.locks.overlaps(span)
}

// Get reads key. A missing key gives a nil Value.
func (t *Txn) Get(ctx context.Context, key keys.Key) (KeyValue, error) {
	return t.GetWith(ctx, key, GetOptions{})
}

// GetWith reads key with options.
func (t *Txn) GetWith(ctx context.Context, key keys.Key, opts GetOptions) (KeyValue, error) {
	r := kvpb.Request{Op: kvpb.OpGet, Key: key}
	if opts.ForUpdate {
		r.Lock = kvpb.LockExclusive
	}
	resp, err := t.runOne(ctx, kvpb.Header{WaitPolicy: waitPolicy(opts.SkipLocked, opts.NoWait)}, r)
	if err != nil {
		return KeyValue{}, err
	}
	return firstKV(key, resp), nil
}

// Scan reads [start, end).
func (t *Txn) Scan(ctx context.Context, start, end keys.Key, opts ScanOptions) (ScanResult, error) {
	h := kvpb.Header{
		MaxKeys: opts.MaxKeys, TargetBytes: opts.TargetBytes,
		WaitPolicy: waitPolicy(opts.SkipLocked, opts.NoWait),
	}
	resp, err := t.runOne(ctx, h, opts.request(start, end))
	if err != nil {
		return ScanResult{}, err
	}
	return ScanResult{KVs: resp.KVs, Resume: resp.Resume}, nil
}

// Put writes a value.
func (t *Txn) Put(ctx context.Context, key keys.Key, value []byte) error {
	_, err := t.runOne(ctx, kvpb.Header{}, kvpb.Request{Op: kvpb.OpPut, Key: key, Value: value})
	return err
}

// CPut writes value if the present one, without its checksum, equals expected;
// nil expects that the key does not exist. Otherwise the error is a
// *kvpb.ConditionFailedError and the transaction goes on.
func (t *Txn) CPut(ctx context.Context, key keys.Key, value, expected []byte) error {
	_, err := t.runOne(ctx, kvpb.Header{}, kvpb.Request{Op: kvpb.OpCPut, Key: key, Value: value, Expected: expected})
	return err
}

// Inc adds by to the integer at key and returns the new value.
func (t *Txn) Inc(ctx context.Context, key keys.Key, by int64) (int64, error) {
	resp, err := t.runOne(ctx, kvpb.Header{}, kvpb.Request{Op: kvpb.OpInc, Key: key, Delta: by})
	if err != nil {
		return 0, err
	}
	return resp.Count, nil
}

// Del deletes keys.
func (t *Txn) Del(ctx context.Context, ks ...keys.Key) error {
	if len(ks) == 0 {
		return nil
	}
	b := &Batch{}
	b.Del(ks...)
	return t.Run(ctx, b)
}

// DelRange deletes every key of [start, end) and returns how many there were.
func (t *Txn) DelRange(ctx context.Context, start, end keys.Key) (int64, error) {
	var n int64
	for {
		// What a range does at once is bounded.
		resp, err := t.runOne(ctx, kvpb.Header{MaxKeys: deleteRangeKeys}, kvpb.Request{Op: kvpb.OpDeleteRange, Key: start, EndKey: end})
		if err != nil {
			return 0, err
		}
		n += resp.Count
		if resp.Resume == nil {
			return n, nil
		}
		start = resp.Resume.Key
	}
}

const (
	// deleteRangeKeys is how many keys one request deletes.
	deleteRangeKeys = 100_000
	// sortedBytes is about how much one request writes, and sortedOverhead what
	// the store writes with each pair.
	sortedBytes    = 40 << 20
	sortedOverhead = 200
)

// PutSorted writes many pairs whose keys ascend, cheaper than a Batch. With
// mustBeNew a key that exists makes it fail with a *kvpb.ConditionFailedError.
// If it fails, some of them may be written. Pairs must not change until it returns.
func (t *Txn) PutSorted(ctx context.Context, pairs []Pair, mustBeNew bool) error {
	for len(pairs) > 0 {
		n := sortedPiece(pairs)
		if err := t.putSortedPiece(ctx, pairs[:n], mustBeNew); err != nil {
			return err
		}
		pairs = pairs[n:]
	}
	return nil
}

// sortedPiece says how many of pairs, at least one, a range takes at once.
func sortedPiece(pairs []Pair) int {
	size := 0
	for i := range pairs {
		if size += 2*len(pairs[i].Key) + len(pairs[i].Value) + sortedOverhead; size > sortedBytes && i > 0 {
			return i
		}
	}
	return len(pairs)
}

func (t *Txn) putSortedPiece(ctx context.Context, pairs []Pair, mustBeNew bool) error {
	_, err := t.runOne(ctx, kvpb.Header{}, kvpb.Request{
		Op: kvpb.OpPutSorted, Key: pairs[0].Key, EndKey: pairs[len(pairs)-1].Key.Next(),
		Args: &kvpb.PutSortedArgs{Pairs: pairs, MustBeNew: mustBeNew},
	})
	return err
}

// NewBatch returns an empty batch.
func (t *Txn) NewBatch() *Batch { return &Batch{} }

// Run sends a batch. If it fails, none of its results is valid; writes of it may
// have happened within the transaction, so a caller that goes on rolls back to
// a savepoint first, except after a ConditionFailedError of a batch on one range.
func (t *Txn) Run(ctx context.Context, b *Batch) error {
	if len(b.reqs) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	resp, err := t.sendLocked(ctx, b.header(), b.reqs)
	if err != nil {
		return err
	}
	b.fill(resp)
	return nil
}

func (b *Batch) header() kvpb.Header {
	return kvpb.Header{
		MaxKeys: b.MaxKeys, TargetBytes: b.TargetBytes,
		WaitPolicy: waitPolicy(b.skipLocked, b.noWait),
	}
}

func (t *Txn) runOne(ctx context.Context, h kvpb.Header, r kvpb.Request) (*kvpb.Response, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	resp, err := t.sendLocked(ctx, h, []kvpb.Request{r})
	if err != nil {
		return nil, err
	}
	return &resp.Responses[0], nil
}

// Savepoint marks a place to which RollbackTo can return.
type Savepoint struct {
	txnID kvpb.TxnID
	epoch int32
	seq   int32
	// initial: nothing was read or written before it, so that returning to it
	// means to start the transaction again, which also a retry error allows.
	initial bool
}

// Savepoint marks the present place in the transaction.
func (t *Txn) Savepoint(_ context.Context) (Savepoint, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.checkOpenLocked(); err != nil {
		return Savepoint{}, err
	}
	return Savepoint{
		txnID: t.proto.ID, epoch: t.proto.Epoch, seq: t.proto.Sequence,
		initial: t.reads.empty() && t.proto.Sequence == 0,
	}, nil
}

// RollbackTo undoes every write since sp. Locks stay. After a retry error it
// succeeds only for a savepoint at the very start, and then prepares the retry.
func (t *Txn) RollbackTo(ctx context.Context, sp Savepoint) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state == txnNeedsRetry && sp.initial {
		return t.prepareForRetryLocked(ctx)
	}
	if err := t.checkOpenLocked(); err != nil {
		return err
	}
	if sp.txnID != t.proto.ID || sp.epoch != t.proto.Epoch {
		if sp.initial {
			sp.seq = 0 // The retry began where the savepoint is.
		} else {
			return errors.New("savepoint is of an attempt of the transaction that was given up")
		}
	}
	if sp.seq < t.proto.Sequence {
		// A conditional put that is taken back has still shown what was there, and
		// leaves no version that would keep later writers above it.
		for _, l := range t.locks.sorted() {
			t.reads.add(l.Key, l.EndKey)
		}
		t.proto.IgnoredSeqNums = addIgnored(t.proto.IgnoredSeqNums, kvpb.SeqRange{Start: sp.seq + 1, End: t.proto.Sequence})
	}
	t.readSeq = t.proto.Sequence
	return nil
}

// Release forgets sp and keeps the writes since.
func (t *Txn) Release(_ context.Context, _ Savepoint) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.checkOpenLocked()
}

// addIgnored adds r, whose End is at or above all others, and swallows the
// ranges inside it. The old list is not changed: requests may share it.
func addIgnored(list []kvpb.SeqRange, r kvpb.SeqRange) []kvpb.SeqRange {
	n := len(list)
	for n > 0 && list[n-1].End >= r.Start-1 {
		r.Start = min(r.Start, list[n-1].Start)
		n--
	}
	return append(list[:n:n], r)
}

// checkOpenLocked returns why no request can be sent, if so.
func (t *Txn) checkOpenLocked() error {
	switch t.state {
	case txnOpen:
		if t.hb != nil && t.hb.aborted.Load() {
			return t.mustRetryLocked(kvpb.RetryAborted, "another transaction aborted this one", hlc.Timestamp{}, true)
		}
		return nil
	case txnNeedsRetry:
		return t.retry
	case txnFailed:
		return errors.New("the outcome of the transaction is unknown; it can only be rolled back")
	}
	return errTxnFinished
}

// mustRetryLocked moves to txnNeedsRetry and returns the error that says so. The
// next attempt starts at or above ts.
func (t *Txn) mustRetryLocked(reason kvpb.RetryReason, msg string, ts hlc.Timestamp, aborted bool) *kvpb.TransactionRetryError {
	next := t.proto
	now := hlc.Later(t.db.clock.Now(), hlc.Later(ts, t.proto.WriteTimestamp))
	next.ReadTimestamp, next.WriteTimestamp, next.UncertaintyLimit = now, now, now.Add(t.db.cfg.UncertaintyInterval)
	next.Sequence, next.IgnoredSeqNums = 0, nil
	if aborted {
		next.ID, next.Key, next.Epoch, next.MinTimestamp = newTxnID(), nil, 0, now
	} else {
		next.Epoch++
	}
	t.retry = &kvpb.TransactionRetryError{TxnID: t.proto.ID, Reason: reason, Msg: msg, Next: next}
	t.state = txnNeedsRetry
	return t.retry
}

// PrepareForRetry makes a Txn usable again after a *kvpb.TransactionRetryError.
// Everything done in it must be done again. Locks of the failed attempt are
// kept, unless it was aborted, so the next one is likely to get through.
func (t *Txn) PrepareForRetry(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.prepareForRetryLocked(ctx)
}

func (t *Txn) prepareForRetryLocked(ctx context.Context) error {
	if t.state != txnNeedsRetry {
		return fmt.Errorf("transaction has no retry error to recover from")
	}
	if t.fixed {
		return t.retry
	}
	next := t.retry.Next
	if next.ID != t.proto.ID {
		t.abandonLocked(ctx)
	}
	t.proto = next
	t.reads.clear()
	t.readSeq = 0
	t.pinned = false
	t.bound = nil
	t.onCommit = nil
	t.retry = nil
	t.state = txnOpen
	return nil
}

// CheckAlive asks whether another transaction has aborted this one, which it would
// otherwise learn with its next request. If not, it counts as active as of now. It
// is for those who act outside of the transaction on its behalf.
func (t *Txn) CheckAlive(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.checkOpenLocked(); err != nil || t.proto.Key == nil {
		return err // Without locks it is in nobody's way.
	}
	o := &outgoing{txn: t.proto}
	o.ba.Txn = &o.txn
	o.ba.Requests = append(o.reqs[:0], kvpb.Request{
		Op: kvpb.OpHeartbeatTxn, Key: t.proto.Key, Args: &kvpb.HeartbeatArgs{Now: t.db.clock.Now()},
	})
	resp, err := t.db.sender.Send(ctx, &o.ba)
	if err != nil {
		return t.handleErrorLocked(o, err)
	}
	if r, ok := resp.Responses[0].Reply.(*kvpb.HeartbeatReply); ok && r.Status.IsFinal() {
		return t.mustRetryLocked(kvpb.RetryAborted, "the transaction is over", hlc.Timestamp{}, true)
	}
	return nil
}

// RefreshToNow moves the snapshot to the present if nothing that was read has
// changed since; otherwise the transaction must be retried.
func (t *Txn) RefreshToNow(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.checkOpenLocked(); err != nil {
		return err
	}
	return t.refreshLocked(ctx, t.db.clock.Now(), kvpb.RetrySerializable)
}

func errReadOnlyTxn() error {
	return pgerr.Newf(pgerr.ReadOnlySQLTransaction, "cannot write in a transaction with a fixed timestamp")
}
