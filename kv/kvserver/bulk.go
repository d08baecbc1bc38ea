package kvserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// ingestion is an sstable that is applied instead of a batch.
type ingestion struct {
	sst  []byte
	opts storage.IngestOptions
}

// exportPool keeps the buffers in which pages grow: a page that leaves takes no
// more than its size, and there are as many buffers as exports at a time.
var exportPool = sync.Pool{New: func() any { return &storage.SSTBuffer{} }}

// evalExport reads one page. The timestamp cache and the latches were dealt with
// by the read path, so no write at or below EndTime can follow; locks at or
// below it come back as a conflict and are pushed.
func (r *Replica) evalExport(ctx context.Context, q *kvpb.Request, rs *kvpb.Response) error {
	args, ok := q.Args.(*kvpb.ExportArgs)
	if !ok {
		return errors.New("an export needs its arguments")
	}
	snap := r.store.eng.NewSnapshot()
	defer snap.Close()
	// The threshold is checked after the snapshot is taken: what was removed from
	// it was announced before. Below the threshold tombstones may be missing, and
	// an incremental export from there would bring deleted rows back to life.
	if err := r.checkGCThreshold(q.Span(), args.EndTime); err != nil {
		return err
	}
	if !args.StartTime.IsEmpty() {
		if th := r.gc.Load().threshold(q.Span()); args.StartTime.Less(th) {
			return &kvpb.BatchTimestampBeforeGCError{Timestamp: args.StartTime, Threshold: th}
		}
	}
	buf := exportPool.Get().(*storage.SSTBuffer)
	defer func() {
		buf.Reset()
		exportPool.Put(buf)
	}()
	res, err := storage.MVCCExport(ctx, snap, storage.ExportOptions{
		Span: q.Span(), StartTime: args.StartTime, EndTime: args.EndTime, ResumeTS: args.ResumeTS, ResumeMidRow: args.ResumeMidRow,
		AllRevisions: args.AllRevisions, View: args.View, TargetBytes: args.TargetBytes, MaxBytes: args.MaxBytes,
	}, buf)
	if err != nil {
		return err
	}
	reply := &kvpb.ExportReply{Result: res}
	if !res.Empty {
		reply.SST = bytes.Clone(buf.Bytes())
	}
	rs.Reply = reply
	return nil
}

// moveAboveSpanReads forwards the write timestamp for a command that writes all
// over span.
func (e *evaluation) moveAboveSpanReads(span keys.Span) {
	e.writeTS = e.r.store.tsCache.forward(span, e.writeTS, kvpb.TxnID{})
	e.moveAboveFloor()
	e.readTS = e.writeTS
	e.resp.Timestamp = e.writeTS
}

// refuseLocks fails with the first locks in span.
func (e *evaluation) refuseLocks(ctx context.Context, span keys.Span) error {
	locks, _, err := storage.ScanLocks(ctx, e.batch, span.Key, span.EndKey, 1)
	if err != nil {
		return err
	}
	if len(locks) > 0 {
		return &storage.LockConflictError{Locks: locks}
	}
	return nil
}

func (e *evaluation) addSSTable(ctx context.Context, q *kvpb.Request, rs *kvpb.Response) error {
	args, ok := q.Args.(*kvpb.AddSSTableArgs)
	if !ok || e.ba.Txn != nil || len(e.ba.Requests) != 1 {
		return errors.New("an sstable is added alone, outside a transaction, with arguments")
	}
	e.moveAboveSpanReads(q.Span())
	if err := e.refuseLocks(ctx, q.Span()); err != nil {
		return err
	}
	e.proposal.batch = nil
	e.proposal.ingest = &ingestion{sst: args.SST, opts: storage.IngestOptions{
		Span: q.Span(), Timestamp: e.writeTS, RequireEmpty: args.RequireEmpty, DisallowShadowing: args.DisallowShadowing, OnlyRepeat: args.OnlyRepeat,
	}}
	if e.r.group.Load() != nil {
		// What is wrong with it is found before all replicas have it in their logs.
		if err := e.r.store.eng.CheckSST(ctx, args.SST, e.proposal.ingest.opts); err != nil {
			return err
		}
	}
	rs.Reply = &kvpb.AddSSTableReply{Timestamp: e.writeTS}
	return nil
}

func (e *evaluation) deleteRangeTombstone(ctx context.Context, q *kvpb.Request) error {
	if e.ba.Txn != nil || len(e.ba.Requests) != 1 {
		return errors.New("a range tombstone is written alone, outside a transaction")
	}
	e.moveAboveSpanReads(q.Span())
	return storage.MVCCDeleteRangeTombstone(ctx, e.batch, q.Key, q.EndKey, e.writeTS, &e.proposal.stats)
}

func (e *evaluation) clearRange(q *kvpb.Request) error {
	if e.ba.Txn != nil || len(e.ba.Requests) != 1 {
		return errors.New("a span is cleared alone, outside a transaction")
	}
	if !keys.TableDataMin.Less(q.Key.Next()) {
		return fmt.Errorf("clearing %s, which is not table data", q.Span())
	}
	e.proposal.stats.Estimates = true
	return e.batch.ClearRange(q.Key, q.EndKey)
}
