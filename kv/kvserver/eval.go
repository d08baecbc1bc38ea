package kvserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// storageTxn is how the engine sees a transaction.
func storageTxn(t *kvpb.Transaction) storage.Txn {
	s := storage.Txn{TxnMeta: txnMeta(t), ReadTimestamp: t.ReadTimestamp, IgnoredSeqNums: t.IgnoredSeqNums}
	if t.ReadTimestamp.Less(t.UncertaintyLimit) {
		s.GlobalUncertaintyLimit = t.UncertaintyLimit
	}
	return s
}

// limits is how much a batch may still return.
type limits struct {
	maxKeys, targetBytes int64 // zero: no limit
	exhausted            bool
}

func (l *limits) use(kvs int, numBytes int64) {
	if l.maxKeys > 0 {
		if l.maxKeys -= int64(kvs); l.maxKeys <= 0 {
			l.exhausted = true
		}
	}
	if l.targetBytes > 0 {
		if l.targetBytes -= numBytes; l.targetBytes <= 0 {
			l.exhausted = true
		}
	}
}

// evalReads evaluates a batch of kindRead at ts against one state of the engine.
func (r *Replica) evalReads(ctx context.Context, ba *kvpb.BatchRequest, ts hlc.Timestamp) (*kvpb.BatchResponse, error) {
	out := &struct {
		resp kvpb.BatchResponse
		one  [1]kvpb.Response
		kv   [1]kvpb.KeyValue
		txn  storage.Txn
	}{}
	resp := &out.resp
	if len(ba.Requests) == 1 {
		resp.Responses = out.one[:]
	} else {
		resp.Responses = make([]kvpb.Response, len(ba.Requests))
	}
	resp.Timestamp = ts
	var txn *storage.Txn
	if ba.Txn != nil {
		out.txn = storageTxn(ba.Txn)
		txn = &out.txn
		resp.Txn = kvpb.TxnUpdate{ReadTimestamp: ba.Txn.ReadTimestamp, WriteTimestamp: ba.Txn.WriteTimestamp}
	}
	var rd storage.Reader = r.store.eng
	if len(ba.Requests) > 1 {
		ro := r.store.eng.NewReadOnly()
		defer ro.Close()
		rd = ro
	}
	lim := limits{maxKeys: ba.MaxKeys, targetBytes: ba.TargetBytes}
	for i := range ba.Requests {
		q, rs := &ba.Requests[i], &resp.Responses[i]
		if txn != nil {
			txn.Sequence = q.Sequence
		}
		var err error
		switch q.Op {
		case kvpb.OpGet:
			buf := out.kv[:0:0]
			if len(ba.Requests) == 1 {
				buf = out.kv[:0]
			}
			err = evalGet(ctx, rd, q, rs, ts, txn, &lim, buf)
		case kvpb.OpScan, kvpb.OpReverseScan:
			err = evalScan(ctx, rd, q, rs, ts, txn, &lim, false)
		case kvpb.OpRefresh, kvpb.OpRefreshRange:
			if err = evalRefresh(ctx, rd, q, ts, txn); err == nil {
				// Tombstones above From may have been collected unseen.
				err = r.checkGCThreshold(q.Span(), q.Args.(*kvpb.RefreshArgs).From)
			}
		case kvpb.OpExport:
			err = r.evalExport(ctx, q, rs)
		case kvpb.OpRangeInfo:
			reply := &kvpb.RangeInfoReply{Info: r.info(q)}
			if args, ok := q.Args.(*kvpb.RangeInfoArgs); ok && args.SplitBytes > 0 {
				if reply.Splits, err = r.store.eng.ApproximateSplits(q.Key, args.EndKey, args.SplitBytes); err != nil {
					return nil, err
				}
			}
			rs.Reply = reply
		case kvpb.OpLookupRange:
			var reply *kvpb.LookupRangeReply
			if reply, err = r.lookupRange(rd, q); err == nil {
				rs.Reply = reply
			}
		default:
			err = fmt.Errorf("%s cannot be evaluated as a read", q.Op)
		}
		if err != nil {
			return nil, err
		}
	}
	return resp, nil
}

func evalGet(ctx context.Context, rd storage.Reader, q *kvpb.Request, rs *kvpb.Response, ts hlc.Timestamp, txn *storage.Txn, lim *limits, buf []kvpb.KeyValue) error {
	if lim.exhausted {
		rs.Resume = &keys.Span{Key: q.Key, EndKey: q.Key.Next()}
		return nil
	}
	res, err := storage.MVCCGet(ctx, rd, q.Key, ts, storage.GetOptions{Txn: txn, FailOnMoreRecent: q.Lock != kvpb.LockNone})
	if err != nil {
		return err
	}
	if res.Exists() {
		rs.KVs = append(buf, kvpb.KeyValue{Key: q.Key, Value: res.Value, Timestamp: res.Timestamp})
		lim.use(1, int64(len(q.Key)+len(res.Value)))
	}
	return nil
}

func evalScan(ctx context.Context, rd storage.Reader, q *kvpb.Request, rs *kvpb.Response, ts hlc.Timestamp, txn *storage.Txn, lim *limits, skipLocked bool) error {
	opts := storage.ScanOptions{
		Txn: txn, Reverse: q.Op == kvpb.OpReverseScan, SkipLocked: skipLocked,
		FailOnMoreRecent: q.Lock != kvpb.LockNone, MaxKeys: lim.maxKeys, TargetBytes: lim.targetBytes,
	}
	if lim.exhausted {
		rs.Resume = &keys.Span{Key: q.Key, EndKey: q.EndKey}
		return nil
	}
	res, err := storage.MVCCScan(ctx, rd, q.Key, q.EndKey, ts, opts)
	if err != nil {
		return err
	}
	rs.KVs, rs.Resume = res.KVs, res.ResumeSpan
	lim.use(len(res.KVs), res.NumBytes)
	return nil
}

// evalRefresh checks that nobody wrote to the span after the transaction read
// it, up to its new read timestamp.
func evalRefresh(ctx context.Context, rd storage.Reader, q *kvpb.Request, to hlc.Timestamp, txn *storage.Txn) error {
	args, ok := q.Args.(*kvpb.RefreshArgs)
	if !ok || txn == nil {
		return errors.New("refresh needs a transaction and its arguments")
	}
	found, err := storage.MVCCRefresh(ctx, rd, q.Span(), txn.ID, args.From, to)
	if err != nil {
		return err
	}
	if found != nil {
		return &kvpb.RetryTxnError{Reason: kvpb.RetrySerializable, Msg: fmt.Sprintf("%s was changed by another transaction", found)}
	}
	return nil
}

// evaluation is one attempt to evaluate a batch that writes or locks. It decides
// the timestamps, fills a proposal, and keeps what is to happen once that is
// applied.
type evaluation struct {
	r  *Replica
	ba *kvpb.BatchRequest
	w  *waiting

	txn             *storage.Txn // nil: versions are written directly
	readTS, writeTS hlc.Timestamp
	floor           hlc.Timestamp // of the writes: see closer
	// canMove: the snapshot may follow the write timestamp, since nothing was
	// read in it before.
	canMove  bool
	onePhase bool
	end      *kvpb.EndTxnArgs // the batch ends the transaction

	batch    *storage.Batch
	fresh    freshWrites
	proposal proposal
	resp     *kvpb.BatchResponse
	lim      limits

	status  kvpb.TxnStatus
	resolve []resolvedLocks // what intents were resolved
	cleanup *kvpb.TxnRecord // whose intents are to be resolved later
	pushed  kvpb.TxnID      // an aborted transaction, whose waiting requests should know
}

// resolvedLocks are locks about which the lock table has to be told.
type resolvedLocks struct {
	txn      kvpb.TxnID
	span     keys.Span
	released bool
	writeTS  hlc.Timestamp
}

func newEvaluation(r *Replica, ba *kvpb.BatchRequest, w *waiting) *evaluation {
	e := &evaluation{r: r, ba: ba, w: w}
	if ba.Txn != nil {
		e.readTS, e.writeTS = ba.Txn.ReadTimestamp, ba.Txn.WriteTimestamp
		e.canMove = ba.CanForwardReadTimestamp
	} else {
		e.writeTS = ba.Timestamp
		if e.writeTS.IsEmpty() {
			e.writeTS = r.store.clock.Now()
		}
		e.readTS = e.writeTS
		e.canMove = true
	}
	return e
}

func (e *evaluation) close() {
	if e.batch != nil {
		// Dropping a batch cannot fail in a way that matters: it was applied, or is
		// not wanted.
		_ = e.batch.Close()
		e.batch = nil
	}
}

// maxMoves bounds how often an evaluation moves its own timestamp.
const maxMoves = 8

// run evaluates the batch, moving its timestamp up when that is allowed.
func (e *evaluation) run(ctx context.Context) (*kvpb.BatchResponse, error) {
	n := len(e.ba.Requests)
	if last := &e.ba.Requests[n-1]; last.Op == kvpb.OpEndTxn {
		args, ok := last.Args.(*kvpb.EndTxnArgs)
		if !ok || e.ba.Txn == nil {
			return nil, errors.New("the end of a transaction needs a transaction and its arguments")
		}
		e.end = args
		// A plain read needs the transaction's uncertainty interval.
		e.onePhase = args.OnePhase && args.Commit && n > 1 && !(e.plainReads() && e.readTS.Less(e.ba.Txn.UncertaintyLimit))
	}
	e.moveAboveReads()
	for move := 0; ; move++ {
		resp, err := e.attempt(ctx)
		to, ok := laterSnapshot(err)
		if !ok {
			return resp, err
		}
		switch {
		case e.onePhase && move > 0:
			// Perhaps the batch writes a key twice, which only intents allow.
			e.onePhase = false
		case e.canMove && move < maxMoves:
			e.writeTS.Forward(to)
			e.readTS = e.writeTS
		case e.onePhase:
			e.onePhase = false
		default:
			return nil, err
		}
	}
}

// laterSnapshot says at which timestamp a batch that failed with err may succeed:
// above the version that it came too late for, or that may be older than it looks.
func laterSnapshot(err error) (hlc.Timestamp, bool) {
	var late *storage.WriteTooOldError
	var uncertain *storage.ReadWithinUncertaintyError
	switch {
	case errors.As(err, &late):
		return late.ActualTimestamp, true
	case errors.As(err, &uncertain):
		return uncertain.ValueTimestamp, true
	}
	return hlc.Timestamp{}, false
}

// plainReads says whether requests of the batch read without a lock. All others
// fail when they meet anything above their snapshot.
func (e *evaluation) plainReads() bool {
	for i := range e.ba.Requests {
		switch q := &e.ba.Requests[i]; q.Op {
		case kvpb.OpGet, kvpb.OpScan, kvpb.OpReverseScan:
			if q.Lock == kvpb.LockNone {
				return true
			}
		}
	}
	return false
}

// moveAboveReads forwards the write timestamp above every read of the keys to be
// written, and above what was promised not to change.
func (e *evaluation) moveAboveReads() {
	writes := false
	for i := range e.ba.Requests {
		q := &e.ba.Requests[i]
		if args, ok := q.Args.(*kvpb.PutSortedArgs); ok {
			writes = true
			e.writeTS = e.r.store.tsCache.forwardPairs(args.Pairs, e.writeTS, e.w.txn.ID)
		} else if q.Op.IsTxnWrite() {
			writes = true
			e.writeTS = e.r.store.tsCache.forward(q.Span(), e.writeTS, e.w.txn.ID)
		}
	}
	if writes {
		e.moveAboveFloor()
	}
	if e.canMove {
		e.readTS = e.writeTS
	}
}

// moveAboveFloor forwards the write timestamp above what is promised not to change
// and what former leaseholders have read.
func (e *evaluation) moveAboveFloor() {
	if floor := hlc.Later(e.floor, e.r.floorAt()); e.writeTS.LessEq(floor) {
		e.writeTS = floor.Next()
	}
}

// attempt evaluates every request at the present timestamps.
func (e *evaluation) attempt(ctx context.Context) (*kvpb.BatchResponse, error) {
	e.close()
	e.proposal = proposal{}
	e.resp = &kvpb.BatchResponse{Responses: make([]kvpb.Response, len(e.ba.Requests)), Timestamp: e.writeTS}
	e.lim = limits{maxKeys: e.ba.MaxKeys, targetBytes: e.ba.TargetBytes}
	e.resolve, e.cleanup = nil, nil
	e.status = kvpb.TxnPending
	e.txn = nil
	if e.ba.Txn != nil && !e.onePhase {
		t := storageTxn(e.ba.Txn)
		t.ReadTimestamp, t.WriteTimestamp = e.readTS, e.writeTS
		e.txn = &t
	}
	if e.onePhase {
		if err := e.checkCommitTimestamp(); err != nil {
			return nil, err
		}
	}
	var err error
	if e.fresh, err = findFreshWrites(ctx, e.r.store.eng, e.ba.Requests); err != nil {
		return nil, err
	}
	if e.fresh.all {
		e.batch = e.r.store.eng.NewWriteBatch()
	} else {
		e.batch = e.r.store.eng.NewBatch()
	}
	e.proposal.batch = e.batch
	if e.endsOrFrees() {
		e.batch.UseReserve()
	}
	// Writes outside a transaction must be durable now. What only cleans up can
	// be done again.
	e.proposal.sync = e.ba.Txn == nil && !e.ba.Unsynced && e.ba.Requests[0].Op != kvpb.OpResolveIntent && e.ba.Requests[0].Op != kvpb.OpResolveIntentRange
	for i := range e.ba.Requests {
		q, rs := &e.ba.Requests[i], &e.resp.Responses[i]
		if e.txn != nil {
			e.txn.Sequence = q.Sequence
		}
		if e.ba.Txn != nil && q.Op.IsTxnWrite() {
			// A delete above the transaction's snapshot may have been collected, with
			// what it deleted: the write would not notice that it came too late.
			if err := e.r.checkGCThreshold(q.Span(), e.readTS); err != nil {
				return nil, err
			}
		}
		if err := e.request(ctx, q, rs); err != nil {
			return nil, err
		}
	}
	if e.ba.Txn != nil {
		e.resp.Txn = kvpb.TxnUpdate{Status: e.status, ReadTimestamp: e.readTS, WriteTimestamp: e.writeTS}
	}
	return e.resp, nil
}

// endsOrFrees says whether the batch must go through even if the disk is nearly
// full: it ends transactions, cleans up, or gives space back.
func (e *evaluation) endsOrFrees() bool {
	for i := range e.ba.Requests {
		switch q := &e.ba.Requests[i]; {
		case q.Op == kvpb.OpEndTxn:
			return len(e.ba.Requests) == 1
		case q.Op < kvpb.OpEndTxn || q.Op == kvpb.OpAddSSTable:
			return false
		}
	}
	return true
}

func (e *evaluation) writeOptions() storage.WriteOptions {
	return storage.WriteOptions{Txn: e.txn, Stats: &e.proposal.stats}
}

func (e *evaluation) request(ctx context.Context, q *kvpb.Request, rs *kvpb.Response) error {
	switch q.Op {
	case kvpb.OpGet, kvpb.OpScan, kvpb.OpReverseScan:
		return e.lockingRead(ctx, q, rs)
	case kvpb.OpPut:
		if len(e.fresh.groups) > 0 && e.fresh.find(q.Key) != nil {
			return storage.MVCCPutFresh(e.batch, q.Key, e.writeTS, q.Value, e.writeOptions())
		}
		return storage.MVCCPut(ctx, e.batch, q.Key, e.writeTS, q.Value, e.writeOptions())
	case kvpb.OpCPut:
		if len(e.fresh.groups) > 0 && e.fresh.find(q.Key) != nil {
			return storage.MVCCPutFresh(e.batch, q.Key, e.writeTS, q.Value, e.writeOptions())
		}
		return storage.MVCCConditionalPut(ctx, e.batch, q.Key, e.writeTS, q.Value, q.Expected, false, e.writeOptions())
	case kvpb.OpDelete:
		existed, err := storage.MVCCDelete(ctx, e.batch, q.Key, e.writeTS, e.writeOptions())
		if existed {
			rs.Count = 1
		}
		return err
	case kvpb.OpDeleteRange:
		return e.deleteRange(ctx, q, rs)
	case kvpb.OpInc:
		return e.increment(ctx, q, rs)
	case kvpb.OpPutSorted:
		return e.putSorted(ctx, q)
	case kvpb.OpEndTxn:
		return e.endTxn(ctx, q)
	case kvpb.OpHeartbeatTxn:
		return e.heartbeat(q, rs)
	case kvpb.OpPushTxn:
		return e.push(q, rs)
	case kvpb.OpResolveIntent, kvpb.OpResolveIntentRange:
		return e.resolveIntents(ctx, q, rs)
	case kvpb.OpRemoveTxnRecord:
		args, ok := q.Args.(*kvpb.RemoveTxnRecordArgs)
		if !ok {
			return errors.New("removing a record needs arguments")
		}
		e.proposal.sync = false
		return e.batch.Clear(txnRecordKey(q.Key, args.ID))
	case kvpb.OpAddSSTable:
		return e.addSSTable(ctx, q, rs)
	case kvpb.OpDeleteRangeTombstone:
		return e.deleteRangeTombstone(ctx, q)
	case kvpb.OpClearRange:
		return e.clearRange(q)
	case kvpb.OpGC:
		return e.collectGarbage(ctx, q)
	case kvpb.OpUpdateAddressing:
		return e.updateAddressing(q)
	}
	return fmt.Errorf("%s cannot be evaluated as a write", q.Op)
}

// lockingRead is a read that takes locks, skips them, or stands beside writes.
func (e *evaluation) lockingRead(ctx context.Context, q *kvpb.Request, rs *kvpb.Response) error {
	lt := e.r.store.locks
	skip := e.ba.WaitPolicy == kvpb.WaitSkip
	if err := e.r.checkGCThreshold(q.Span(), e.readTS); err != nil {
		return err
	}
	if q.Op == kvpb.OpGet {
		if skip {
			return e.skipLockedGet(ctx, q, rs)
		}
		if err := evalGet(ctx, e.batch, q, rs, e.readTS, e.txn, &e.lim, nil); err != nil {
			return err
		}
	} else if skip {
		if err := e.skipLockedScan(ctx, q, rs); err != nil {
			return err
		}
	} else if err := evalScan(ctx, e.batch, q, rs, e.readTS, e.txn, &e.lim, false); err != nil {
		return err
	}
	if q.Lock == kvpb.LockNone || e.ba.Txn == nil {
		return nil
	}
	meta := txnMeta(e.ba.Txn)
	meta.WriteTimestamp = e.writeTS
	for i := range rs.KVs {
		if c, ok := lt.lockInMemory(meta, e.w.list, rs.KVs[i].Key); !ok {
			return &memoryLockError{c}
		}
	}
	return nil
}

func (e *evaluation) skipLockedGet(ctx context.Context, q *kvpb.Request, rs *kvpb.Response) error {
	res, err := storage.MVCCGet(ctx, e.batch, q.Key, e.readTS, storage.GetOptions{
		Txn: e.txn, SkipLocked: true, FailOnMoreRecent: q.Lock != kvpb.LockNone,
	})
	if err != nil || !res.Exists() || e.r.store.locks.heldByOther(e.w.txn.ID, q.Key) {
		return err
	}
	rs.KVs = []kvpb.KeyValue{{Key: q.Key, Value: res.Value, Timestamp: res.Timestamp}}
	return nil
}

// skipLockedScan leaves out what others hold in memory, too, and goes on until
// the limit is reached by what is left.
func (e *evaluation) skipLockedScan(ctx context.Context, q *kvpb.Request, rs *kvpb.Response) error {
	piece := *q
	for {
		var part kvpb.Response
		lim := e.lim
		if err := evalScan(ctx, e.batch, &piece, &part, e.readTS, e.txn, &lim, true); err != nil {
			return err
		}
		var used int64
		kept := 0
		for _, kv := range part.KVs {
			if !e.r.store.locks.heldByOther(e.w.txn.ID, kv.Key) {
				rs.KVs = append(rs.KVs, kv)
				used += int64(len(kv.Key) + len(kv.Value))
				kept++
			}
		}
		e.lim.use(kept, used)
		rs.Resume = part.Resume
		if part.Resume == nil || e.lim.exhausted {
			return nil
		}
		piece.Key, piece.EndKey = part.Resume.Key, part.Resume.EndKey
	}
}

func (e *evaluation) deleteRange(ctx context.Context, q *kvpb.Request, rs *kvpb.Response) error {
	opts := storage.DeleteRangeOptions{WriteOptions: e.writeOptions(), ReturnKeys: e.r.store.locks.n.Load() > 0}
	if e.ba.MaxKeys > 0 {
		opts.MaxKeys, opts.MaxBatchBytes = e.ba.MaxKeys, maxCommandBytes/2
	}
	res, err := storage.MVCCDeleteRange(ctx, e.batch, q.Key, q.EndKey, e.writeTS, opts)
	if err != nil {
		return err
	}
	for _, k := range res.Keys {
		if c, ok := e.r.store.locks.conflict(e.w.txn.ID, e.w.list, k); ok {
			return &memoryLockError{c}
		}
	}
	rs.Count, rs.Resume = res.NumKeys, res.ResumeSpan
	return nil
}

func (e *evaluation) increment(ctx context.Context, q *kvpb.Request, rs *kvpb.Response) error {
	if e.txn != nil {
		e.txn.Sequence-- // Sent twice, it must not see its own result.
	}
	res, err := storage.MVCCGet(ctx, e.batch, q.Key, e.readTS, storage.GetOptions{Txn: e.txn, FailOnMoreRecent: true})
	if e.txn != nil {
		e.txn.Sequence++
	}
	if err != nil {
		return err
	}
	var n int64
	if res.Exists() {
		if n, err = kvpb.DecodeInt(res.Value); err != nil {
			return fmt.Errorf("incrementing %s: %w", q.Key, err)
		}
	}
	sum := n + q.Delta
	if (sum > n) != (q.Delta > 0) && q.Delta != 0 {
		return fmt.Errorf("incrementing %s: %d + %d overflows", q.Key, n, q.Delta)
	}
	rs.Count = sum
	return storage.MVCCPut(ctx, e.batch, q.Key, e.writeTS, kvpb.EncodeInt(q.Key, sum), e.writeOptions())
}

// failed records what even a failed evaluation has shown to the client.
func (e *evaluation) failed(err error) {
	var cond *storage.ConditionFailedError
	if errors.As(err, &cond) {
		// The client acts on the value it is told, so that was a read.
		e.r.store.tsCache.add(keys.Span{Key: cond.Key}, e.readTS, e.w.txn.ID)
	}
}

// keepPlace locks the key at which a transaction came too late, in memory: it will
// come again with a later snapshot, and among many that want the same row it would
// find it changed each time.
func (e *evaluation) keepPlace(err error) {
	var wto *storage.WriteTooOldError
	if e.ba.Txn == nil || !errors.As(err, &wto) {
		return
	}
	meta := txnMeta(e.ba.Txn)
	meta.WriteTimestamp = e.writeTS
	e.r.store.locks.lockInMemory(meta, e.w.list, wto.Key) // If another has it, so be it.
}

// disown lets the evaluation outlive its request, whose memory is the client's.
func (e *evaluation) disown() {
	ba := *e.ba
	if ba.Txn != nil {
		txn := *ba.Txn
		ba.Txn = &txn
	}
	ba.Requests = append([]kvpb.Request(nil), ba.Requests...)
	for i := range ba.Requests {
		q := &ba.Requests[i]
		q.Key, q.EndKey = q.Key.Clone(), q.EndKey.Clone()
		q.Value, q.Expected = nil, nil
	}
	w := *e.w
	w.list = nil
	e.ba, e.w = &ba, &w
}

// applied does what follows from the batch once it is applied, before the
// latches are released.
func (e *evaluation) applied() {
	s := e.r.store
	s.clock.Update(e.writeTS)
	for i := range e.ba.Requests {
		q := &e.ba.Requests[i]
		switch {
		case !q.Op.UpdatesTimestampCache() || q.Op == kvpb.OpCPut && e.txn == nil:
			// A conditional put that left a version is protected by that; an intent
			// could be rolled back.
		case e.ba.WaitPolicy == kvpb.WaitSkip:
			for _, kv := range e.resp.Responses[i].KVs {
				s.tsCache.add(keys.Span{Key: kv.Key}, e.readTS, e.w.txn.ID)
			}
		default:
			s.tsCache.add(q.Span(), e.readTS, e.w.txn.ID)
		}
	}
	if e.ba.Txn != nil && e.status == kvpb.TxnPending && s.locks.n.Load() > 0 {
		for i := range e.ba.Requests {
			if q := &e.ba.Requests[i]; q.Op.IsTxnWrite() && !q.Op.IsRange() {
				s.locks.wrote(e.ba.Txn.ID, q.Key, e.writeTS)
			}
		}
	}
	e.w.leaveAll(e.ba.Txn != nil && e.status == kvpb.TxnPending)
	for _, l := range e.resolve {
		if len(l.span.EndKey) == 0 {
			s.locks.updated(l.txn, l.span.Key, l.released, l.writeTS)
		} else {
			s.locks.updatedSpan(l.txn, l.span, l.released, l.writeTS)
		}
	}
	if !e.pushed.IsEmpty() {
		s.locks.wakeTxn(e.pushed)
	}
	if e.status.IsFinal() {
		e.transactionEnded()
	}
}
