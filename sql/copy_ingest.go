package sql

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// ingester takes the rows of a bulk load into indexes that the same transaction
// has made, by CREATE TABLE or TRUNCATE, and ingests them as sstables outside of
// it.
//
// Nobody else knows these indexes, so nothing has to be undone for others if the
// transaction fails; its end clears the spans then. Ingested keys bear the time of
// their ingestion, so the transaction must read and commit later: finish moves it
// forward. Only what the indexes held before the load could be in its way: a span
// that is not empty is refused by the first ingestion, and the rows go the usual
// way.
type ingester struct {
	w        *rowWriter
	owned    bool            // a rollback will clear what is ingested
	newTable bool            // the whole table is this transaction's
	begun    map[uint32]bool // indexes of which something has been ingested
}

// errCannotIngest says that the rows must go the usual way.
var errCannotIngest = errors.New("the indexes already hold something")

// newIngester returns an ingester for the table of w, or nil if its rows must be
// written in the transaction: others know an index, the transaction has seen it
// without these rows, or a savepoint could take them back.
func (p *planner) newIngester(w *rowWriter) *ingester {
	if len(p.s.tx.savepoints) > 0 {
		return nil
	}
	id := w.desc.ID()
	isNew := p.newInTxn(id)
	for _, x := range append([]*catalog.Index{w.desc.PrimaryIndex()}, w.deletable...) {
		if !isNew && !p.s.tx.freshIndexes[id][x.ID] || p.txn.HasTouched(x.Span()) {
			return nil
		}
	}
	return &ingester{w: w, newTable: isNew, begun: map[uint32]bool{}}
}

// first ingests the first chunk of an index, which finds out whether that is
// possible.
func (in *ingester) first(ctx context.Context, c *bulkChunk) error {
	if err := in.own(ctx, c.index.ID); err != nil {
		return err
	}
	if err := in.ingest(ctx, c, true); err != nil {
		return err
	}
	in.begun[c.index.ID] = true
	return nil
}

// own sees to what becomes of an index that is about to be filled.
func (in *ingester) own(ctx context.Context, index uint32) error {
	if in.newTable {
		if in.owned {
			return nil
		}
		index = 0
	}
	in.owned = true
	return in.w.p.ownRows(ctx, in.w.desc.ID(), index)
}

// ingest gives a chunk to the ranges of its index.
func (in *ingester) ingest(ctx context.Context, c *bulkChunk, first bool) error {
	if !first {
		// Locks there can only be this transaction's own: waiting would be for ever.
		return in.w.p.ingestPairs(ctx, c.pairs, kv.AddSSTableOptions{DisallowShadowing: true, NoWait: true})
	}
	spans, err := in.w.p.srv.db.SplitSpan(ctx, c.index.Span())
	if err != nil {
		return err
	}
	pairs := c.pairs
	for _, span := range spans {
		n := pairsBefore(pairs, span.EndKey)
		if n == 0 {
			continue
		}
		err := in.w.p.ingestSST(ctx, span, pairs[:n], kv.AddSSTableOptions{RequireEmpty: true, NoWait: true})
		var notEmpty *storage.NotEmptyError
		switch {
		case err == nil:
		case n == len(c.pairs) && (errors.As(err, &notEmpty) || pgerr.GetCode(err) == pgerr.LockNotAvailable):
			return errCannotIngest
		default:
			return err
		}
		pairs = pairs[n:]
	}
	return nil
}

// ingestPairs ingests sorted pairs, range by range.
func (p *planner) ingestPairs(ctx context.Context, pairs []kv.Pair, opts kv.AddSSTableOptions) error {
	spans, err := p.srv.db.SplitSpan(ctx, keys.Span{Key: pairs[0].Key, EndKey: pairs[len(pairs)-1].Key.Next()})
	if err != nil {
		return err
	}
	for _, span := range spans {
		n := pairsBefore(pairs, span.EndKey)
		if n == 0 {
			continue
		}
		span = keys.Span{Key: pairs[0].Key, EndKey: pairs[n-1].Key.Next()}
		if err := p.ingestSST(ctx, span, pairs[:n], opts); err != nil {
			return err
		}
		pairs = pairs[n:]
	}
	return nil
}

// pairsBefore counts the sorted pairs before key.
func pairsBefore(pairs []kv.Pair, key keys.Key) int {
	n, _ := slices.BinarySearchFunc(pairs, key, func(p kv.Pair, k keys.Key) int { return bytes.Compare(p.Key, k) })
	return n
}

// ingestSST ingests sorted pairs into one range, on behalf of the transaction but
// outside of it.
func (p *planner) ingestSST(ctx context.Context, span keys.Span, pairs []kv.Pair, opts kv.AddSSTableOptions) error {
	sst, err := buildSST(pairs)
	if err != nil {
		return err
	}
	// A transaction that another has aborted must not go on filling indexes: they
	// may have been collected already.
	if err := p.txn.CheckAlive(ctx); err != nil {
		return err
	}
	_, err = p.srv.db.AddSSTable(ctx, span, sst, opts)
	return err
}

// buildSST writes sorted pairs as an sstable that awaits its timestamp.
func buildSST(pairs []kv.Pair) ([]byte, error) {
	var buf storage.SSTBuffer
	w := storage.NewSSTWriter(&buf, storage.CompressFast)
	for _, p := range pairs {
		if err := w.PutVersion(storage.MVCCKey{Key: p.Key, Timestamp: storage.PlaceholderTimestamp}, p.Value); err != nil {
			w.Abort()
			return nil, err
		}
	}
	_, err := w.Finish()
	return buf.Bytes(), err
}

// finish moves the transaction to where it sees what was ingested.
func (in *ingester) finish(ctx context.Context) error { return in.w.p.txn.RefreshToNow(ctx) }
