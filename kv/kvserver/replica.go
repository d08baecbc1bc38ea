package kvserver

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/kvserverpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/raftgroup"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// Replica evaluates batches for one range.
type Replica struct {
	store *Store
	id    kvpb.RangeID
	log   *slog.Logger

	// desc is replaced as a whole, while the replica's latches cover the keys
	// that leave or join.
	desc    atomic.Pointer[kvpb.RangeDescriptor]
	latches latches

	// gc: versions that only reads at or below its thresholds can see may be gone.
	// It is raised here, and durably, before the first of them is removed.
	gc atomic.Pointer[gcState]

	// What follows is about the other replicas of the range. A range that has only
	// this one has no group and no lease.
	replicaID  int32 // set before group
	group      atomic.Pointer[raftgroup.Group]
	lease      atomic.Pointer[lease]
	floor      atomic.Pointer[hlc.Timestamp] // see floorAt
	frozen     atomic.Pointer[frozen]        // nil: it is not
	leasing    changeLock                    // one lease request at a time
	givenUp    atomic.Int64                  // sequence of the last lease that this replica asked to be another's
	extending  atomic.Bool
	pending    pendingCommands
	closer     closer
	closed     atomic.Pointer[closedAt] // what the leaseholder has told
	applied    atomic.Uint64            // index of the log
	changing   changeLock               // one change of the descriptor at a time
	checks     sync.Map                 // *checksum by id of the check
	heardFrom  sync.Map                 // node by replica id, of senders that are not in desc
	published  atomic.Int64             // generation of the descriptor that was filed
	publishing atomic.Bool
	// noticeAbove is the size in bytes above which placement looks at the range; zero:
	// nobody waits for that.
	noticeAbove atomic.Int64

	mu struct {
		sync.Mutex
		stats      storage.Stats
		statsDirty bool // differs from what the engine has
		gc         gcRun
	}
}

// Desc returns the range descriptor. It must not be changed.
func (r *Replica) Desc() *kvpb.RangeDescriptor { return r.desc.Load() }

// Stats returns what the range holds.
func (r *Replica) Stats() storage.Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.stats
}

// Send evaluates a batch. It waits for latches and locks, and returns when
// everything that was written is applied, and durable if it had to be.
func (r *Replica) Send(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	if len(ba.Requests) == 0 {
		return nil, errors.New("batch without requests")
	}
	if err := r.checkKeys(ba); err != nil {
		return nil, err
	}
	w := waiting{store: r.store}
	if ba.Txn != nil {
		w.txn = txnMeta(ba.Txn)
		w.priority = ba.Txn.Priority
	} else {
		w.priority = ba.Priority
	}
	defer w.leaveAll(false)
	switch kindOf(ba) {
	case kindRead:
		return r.read(ctx, ba, &w)
	case kindAdmin:
		return r.admin(ctx, ba)
	}
	return r.write(ctx, ba, &w)
}

// batchKind says by which path a batch is evaluated.
type batchKind int8

const (
	kindRead  batchKind = iota // takes no latches
	kindWrite                  // takes latches
	kindAdmin                  // changes the range itself
)

func kindOf(ba *kvpb.BatchRequest) batchKind {
	for i := range ba.Requests {
		q := &ba.Requests[i]
		switch {
		case q.Op.IsAdmin():
			return kindAdmin
		case q.Op.IsWrite() || q.Lock != kvpb.LockNone:
			return kindWrite
		case ba.WaitPolicy == kvpb.WaitSkip:
			return kindWrite // Only what is returned counts as read.
		}
	}
	return kindRead
}

// admin evaluates a request that changes the range and not what is in it.
func (r *Replica) admin(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	if len(ba.Requests) != 1 {
		return nil, errors.New("a change of a range comes alone")
	}
	var err error
	q := &ba.Requests[0]
	switch q.Op {
	case kvpb.OpAdminChangeReplicas:
		args, ok := q.Args.(*kvpb.ChangeReplicasArgs)
		if !ok {
			return nil, errors.New("a change of replicas needs arguments")
		}
		err = r.changeReplicas(ctx, args)
	case kvpb.OpAdminTransferLease:
		args, ok := q.Args.(*kvpb.TransferLeaseArgs)
		if !ok {
			return nil, errors.New("a lease transfer needs arguments")
		}
		err = r.transferLease(ctx, args.To)
	case kvpb.OpAdminUnsplit:
		err = r.setSticky(ctx, ba, hlc.Timestamp{})
	case kvpb.OpAdminScatter:
		err = r.scatter(ctx)
	case kvpb.OpAdminCheck:
		reply, err := r.adminCheck(ctx, ba)
		if err != nil {
			return nil, err
		}
		return &kvpb.BatchResponse{Responses: []kvpb.Response{{Reply: reply}}}, nil
	case kvpb.OpAdminMerge:
		reply, err := r.adminMerge(ctx, ba)
		if err != nil {
			return nil, err
		}
		return &kvpb.BatchResponse{Responses: []kvpb.Response{{Reply: reply}}}, nil
	default:
		var sticky hlc.Timestamp
		if args, ok := q.Args.(*kvpb.SplitArgs); ok {
			sticky = args.StickyUntil
		}
		err = r.adminSplit(ctx, ba, sticky)
	}
	if err != nil {
		return nil, err
	}
	return &kvpb.BatchResponse{Responses: make([]kvpb.Response, 1)}, nil
}

// checkKeys refuses a batch whose keys the range does not hold (any more).
func (r *Replica) checkKeys(ba *kvpb.BatchRequest) error {
	desc := r.Desc()
	for i := range ba.Requests {
		if !desc.ContainsSpan(ba.Requests[i].Span()) {
			return &kvpb.RangeKeyMismatchError{Requested: ba.Requests[i].Span(), Descriptor: *desc}
		}
	}
	return nil
}

func txnMeta(t *kvpb.Transaction) storage.TxnMeta {
	return storage.TxnMeta{
		ID: t.ID, Key: t.Key, Epoch: t.Epoch, WriteTimestamp: t.WriteTimestamp, MinTimestamp: t.MinTimestamp,
		Priority: int32(t.Priority), Sequence: t.Sequence,
	}
}

// read evaluates a batch that only reads. See latches for why it needs none.
func (r *Replica) read(ctx context.Context, ba *kvpb.BatchRequest, w *waiting) (*kvpb.BatchResponse, error) {
	var txnID kvpb.TxnID
	ts := ba.Timestamp
	switch {
	case ba.Txn != nil:
		txnID, ts = ba.Txn.ID, ba.Txn.ReadTimestamp
	case ts.IsEmpty():
		ts = r.store.clock.Now()
	}
	if err := r.store.coverClock(ctx, ts); err != nil {
		return nil, err
	}
	for {
		seq, err := r.serve(ctx, ts)
		if err != nil {
			var not *kvpb.NotLeaseholderError
			if errors.As(err, &not) && r.mayFollow(ba, ts) {
				return r.follow(ctx, ba, ts, err)
			}
			return nil, err
		}
		for i := range ba.Requests {
			if q := &ba.Requests[i]; q.Op.UpdatesTimestampCache() {
				r.store.tsCache.add(q.Span(), ts, txnID)
			}
		}
		for i := range ba.Requests {
			if err := r.latches.waitForWriters(ctx, ba.Requests[i].Span(), ts); err != nil {
				return nil, err
			}
		}
		if r.frozen.Load() != nil {
			continue // Writers may be at another range by now.
		}
		if err := r.checkKeys(ba); err != nil {
			return nil, err // It was split while we waited.
		}
		resp, err := r.evalReads(ctx, ba, ts)
		if err == nil {
			// What was read while somebody else may have served is no answer.
			if err := r.stillServes(seq, ts); err != nil {
				return nil, err
			}
			// Whatever was removed before the read saw it was announced before.
			for i := range ba.Requests {
				if q := &ba.Requests[i]; q.Op.IsRead() {
					if err := r.checkGCThreshold(q.Span(), ts); err != nil {
						return nil, err
					}
				}
			}
			return resp, nil
		}
		c, ok := w.conflictIn(err)
		if !ok {
			// Errors tell what is in the store, too.
			return nil, cmp.Or(r.stillServes(seq, ts), err)
		}
		if err := r.waitForLock(ctx, ba, w, c, ts, nil); err != nil {
			return nil, err
		}
	}
}

// checkGCThreshold refuses a read of span at ts if something it needs may be
// gone.
func (r *Replica) checkGCThreshold(span keys.Span, ts hlc.Timestamp) error {
	g := r.gc.Load()
	if g == nil || g.max.Less(ts) {
		return nil
	}
	if th := g.threshold(span); ts.LessEq(th) {
		return &kvpb.BatchTimestampBeforeGCError{Timestamp: ts, Threshold: th}
	}
	return nil
}

// write evaluates a batch that writes or locks, under latches.
func (r *Replica) write(ctx context.Context, ba *kvpb.BatchRequest, w *waiting) (*kvpb.BatchResponse, error) {
	for {
		la := r.latchFor(ba)
		w.inline = la.inline
		if err := r.latches.acquire(ctx, la); err != nil {
			return nil, err
		}
		resp, c, err := r.writeLatched(ctx, ba, w, la)
		if c == nil {
			if !la.kept {
				r.latches.release(la)
			}
			return resp, err
		}
		// waitForLock enters the queue before it lets go of the latches.
		if err := r.waitForLock(ctx, ba, w, *c, w.readTS, la); err != nil {
			return nil, err
		}
	}
}

// writeLatched makes one attempt. A conflict is a lock to wait for.
func (r *Replica) writeLatched(ctx context.Context, ba *kvpb.BatchRequest, w *waiting, la *latch) (*kvpb.BatchResponse, *lockConflict, error) {
	seq, err := r.serve(ctx, hlc.Timestamp{})
	if err != nil {
		return nil, nil, err
	}
	// Now: what the lease was acquired after, a split perhaps, is applied.
	if err := r.checkKeys(ba); err != nil {
		return nil, nil, err
	}
	if c, ok := r.firstInQueue(ba, w); !ok {
		w.readTS = ba.Timestamp
		return nil, &c, nil
	}
	e := newEvaluation(r, ba, w)
	done := func() { e.close() }
	if r.group.Load() != nil {
		floor, epoch := r.closer.begin()
		e.floor = floor
		done = func() {
			e.close()
			r.closer.end(epoch)
		}
	}
	defer func() {
		if !la.kept {
			done()
		}
	}()
	resp, err := e.run(ctx)
	if err != nil {
		w.readTS = e.readTS
		if c, ok := w.conflictIn(err); ok {
			return nil, &c, nil
		}
		e.failed(err)
		e.keepPlace(err)
		// What it tells of the store was read at its snapshot, and is an answer only
		// if nobody else served meanwhile.
		return nil, nil, cmp.Or(r.store.coverClock(ctx, e.readTS), r.stillServes(seq, e.readTS), err)
	}
	if err := r.store.coverClock(ctx, e.writeTS); err != nil {
		return nil, nil, err
	}
	err = r.propose(ctx, &e.proposal, seq)
	var underway *errUnderway
	if errors.As(err, &underway) {
		// The keys stay ours until it is known what became of the command.
		r.latches.keep(la)
		e.disown()
		finish := func(context.Context) {
			if <-underway.done == nil {
				e.applied()
			}
			done()
			r.latches.release(la)
		}
		if !r.store.async(finish) {
			finish(ctx) // Close answers all who wait.
		}
		return nil, nil, &kvpb.AmbiguousResultError{Cause: underway}
	}
	if err != nil {
		if e.status == kvpb.TxnCommitted && !errors.Is(err, storage.ErrDiskFull) {
			err = ambiguous(err)
		}
		return nil, nil, err
	}
	e.applied()
	return resp, nil, nil
}

// firstInQueue checks the keys that the batch names against the lock table: ok
// is false if it has to wait.
func (r *Replica) firstInQueue(ba *kvpb.BatchRequest, w *waiting) (lockConflict, bool) {
	lt := r.store.locks
	if lt.n.Load() == 0 || ba.WaitPolicy == kvpb.WaitSkip {
		return lockConflict{}, true
	}
	for i := range ba.Requests {
		q := &ba.Requests[i]
		if q.Op.IsRange() || !q.Op.IsTxnWrite() && q.Lock == kvpb.LockNone {
			continue
		}
		if c, ok := lt.conflict(w.txn.ID, w.list, q.Key); ok {
			return c, false
		}
	}
	return lockConflict{}, true
}

// latchFor says what a batch must have for itself while it is evaluated.
func (r *Replica) latchFor(ba *kvpb.BatchRequest) *latch {
	la := &latch{readersPass: true}
	la.spans = make([]keys.Span, 0, len(ba.Requests)+1)
	var records []keys.Span // apart, since they are far from the keys of the data
	stopReaders := func(ts hlc.Timestamp) {
		if la.readersPass || ts.Less(la.ts) {
			la.readersPass, la.ts = false, ts
		}
	}
	for i := range ba.Requests {
		q := &ba.Requests[i]
		switch q.Op {
		case kvpb.OpEndTxn:
			args := q.Args.(*kvpb.EndTxnArgs)
			if args.OnePhase && len(ba.Requests) > 1 {
				la.inline = true
				continue // The other requests say it all.
			}
			records = append(records, keys.Span{Key: txnRecordKey(q.Key, ba.Txn.ID)})
			if spans, ok := r.resolvableInline(args.LockSpans); ok {
				la.spans, la.inline = append(la.spans, spans...), true
			}
			if args.Commit {
				// A reader must not see the result before it is durable.
				stopReaders(ba.Txn.WriteTimestamp)
			}
		case kvpb.OpHeartbeatTxn:
			records = append(records, keys.Span{Key: txnRecordKey(q.Key, ba.Txn.ID)})
		case kvpb.OpRemoveTxnRecord:
			records = append(records, keys.Span{Key: txnRecordKey(q.Key, q.Args.(*kvpb.RemoveTxnRecordArgs).ID)})
		case kvpb.OpPushTxn:
			records = append(records, keys.Span{Key: txnRecordKey(q.Key, q.Args.(*kvpb.PushTxnArgs).Pushee.ID)})
		case kvpb.OpResolveIntent, kvpb.OpResolveIntentRange:
			// Both before and after, a reader is told the truth.
			la.spans = append(la.spans, q.Span())
		case kvpb.OpUpdateAddressing:
			if args, ok := q.Args.(*kvpb.UpdateAddressingArgs); ok {
				d := &args.Descriptor
				la.spans = append(la.spans, keys.Span{Key: MetaKey(d.StartKey), EndKey: MetaKey(d.EndKey).Next()})
			}
		case kvpb.OpGC:
			la.spans = append(la.spans, q.Span()) // The threshold keeps readers away.
			if args, ok := q.Args.(*kvpb.GCArgs); ok && args.Garbage.Empty() {
				// All thresholds are one value: of two that raise it, the second sees the first.
				records = append(records, keys.Span{Key: rangeIDKey(r.id, suffixGCThreshold)})
			}
		case kvpb.OpAddSSTable, kvpb.OpDeleteRangeTombstone, kvpb.OpClearRange:
			la.spans = append(la.spans, q.Span())
			stopReaders(hlc.Timestamp{})
		default:
			la.spans = append(la.spans, q.Span())
			if q.Op.IsTxnWrite() {
				ts := ba.Timestamp
				if ba.Txn != nil {
					ts = ba.Txn.WriteTimestamp
				} else if ts.IsEmpty() {
					ts = r.store.clock.Now()
				}
				stopReaders(ts)
			}
		}
	}
	la.spans = append(condenseLatchSpans(la.spans), records...)
	return la
}

// maxInlineResolve bounds how many intents a commit resolves in its own batch.
// Others are resolved behind its back, from its record.
const maxInlineResolve = 512

// resolvableInline says whether all locks can be resolved together with the
// record: few single keys, all on this range.
func (r *Replica) resolvableInline(spans []keys.Span) ([]keys.Span, bool) {
	if len(spans) > maxInlineResolve {
		return nil, false
	}
	desc := r.Desc()
	for _, s := range spans {
		if len(s.EndKey) > 0 || !desc.ContainsKey(s.Key) {
			return nil, false
		}
	}
	return spans, true
}

// proposal is what evaluation decided.
type proposal struct {
	batch  *storage.Batch // nil: nothing to write
	sync   bool           // must be durable before the answer leaves
	stats  storage.Stats  // the change
	gc     *gcState       // the new thresholds, if they change
	ingest *ingestion     // an sstable that becomes part of the store
	// intents of many keys that become part of the store instead of batch
	intents *storage.IntentFiles
	split   *kvserverpb.Split
}

// ambiguous says of an error at a commit that it may have happened all the same,
// unless it is known that it did not.
func ambiguous(err error) error {
	var not *kvpb.NotLeaseholderError
	var gone *kvpb.RangeNotFoundError
	var already *kvpb.AmbiguousResultError
	if errors.As(err, &not) || errors.As(err, &gone) || errors.As(err, &already) || pgerr.GetCode(err) == pgerr.ProgramLimitExceeded {
		return err
	}
	return &kvpb.AmbiguousResultError{Cause: err}
}

// propose makes a proposal take effect and returns when it is applied: here, or on
// all replicas of the range by way of its log. Everything above decides, everything
// below only applies.
func (r *Replica) propose(ctx context.Context, p *proposal, leaseSequence int64) error {
	if r.group.Load() != nil {
		size, reserve := 0, false
		switch {
		case p.ingest != nil:
			size = len(p.ingest.sst)
		case p.batch != nil:
			size, reserve = p.batch.Len(), p.batch.UsesReserve()
		}
		if err := checkCommandSize(size); err != nil {
			return err
		}
		if !reserve {
			if err := r.store.eng.SpaceFor(int64(size)); err != nil {
				return diskFull(err)
			}
		}
		if p.ingest == nil && (p.batch == nil || p.batch.Empty()) {
			// What was found out or noted in memory holds only if nobody else served.
			return r.stillServes(leaseSequence, hlc.Timestamp{})
		}
		return r.replicate(ctx, p.command(leaseSequence), nil)
	}
	if p.gc != nil {
		r.gc.Store(p.gc) // Readers must know before anything can be removed.
	}
	if p.ingest != nil {
		res, err := r.store.eng.IngestSST(ctx, p.ingest.sst, p.ingest.opts)
		if err != nil {
			return diskFull(err)
		}
		r.addStats(res.Stats)
	}
	if p.intents != nil {
		if err := r.store.eng.IngestIntents(ctx, p.intents); err != nil {
			return diskFull(err)
		}
		r.addStats(p.stats)
	}
	if p.batch == nil || p.batch.Empty() {
		return nil
	}
	if err := p.batch.Commit(p.sync); err != nil {
		return diskFull(err)
	}
	r.addStats(p.stats)
	return nil
}

// diskFull gives an error that says so the code by which clients know it.
func diskFull(err error) error {
	if !errors.Is(err, storage.ErrDiskFull) {
		return err
	}
	return pgerr.Newf(pgerr.DiskFull, "the store's disk is full: %w", err).
		WithHint("Free space on the disk of the store, or drop data; what ends transactions and removes data still works.")
}

func (r *Replica) addStats(s storage.Stats) {
	if s == (storage.Stats{}) {
		return
	}
	r.mu.Lock()
	r.mu.stats.Add(s)
	r.mu.statsDirty = true
	st := r.mu.stats
	r.mu.Unlock()
	r.noticeSize(&st)
}
