package sql

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

const (
	// ingestChunkBytes is how much of an index gathers before it becomes an
	// sstable. Two chunks exist at a time: one fills while the other is ingested.
	ingestChunkBytes = 16 << 20
	// ingestMinBytes is the least amount that is worth an sstable.
	ingestMinBytes = 1 << 20
)

// ingester takes the rows of a COPY into indexes that the same transaction has
// made, by CREATE TABLE or TRUNCATE, and ingests them as sstables outside of it.
//
// Nobody else knows these indexes, so nothing has to be undone for others if the
// transaction fails; its end clears the spans then. Ingested keys bear the time of
// their ingestion, so the transaction must read and commit later: finish moves it
// forward. Only what the indexes held before the COPY could be in its way: a span
// that is not empty is refused by the first ingestion, and the rows go the usual
// way.
type ingester struct {
	w      *rowWriter
	chunks map[uint32]*ingestChunk // by index id
	begun  map[uint32]bool         // indexes of which something has been ingested

	newTable bool // the whole table is this transaction's

	// One chunk at a time is ingested beside the work on the next one.
	running chan error // nil: none
	any     bool       // something has been ingested
}

// ingestChunk are pairs of one index.
type ingestChunk struct {
	index  *catalog.Index
	pairs  []rowenc.KV
	bytes  int
	sorted bool
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
	return &ingester{w: w, newTable: isNew, chunks: map[uint32]*ingestChunk{}, begun: map[uint32]bool{}}
}

// add takes pairs of one index.
func (in *ingester) add(x *catalog.Index, pairs []rowenc.KV) {
	c := in.chunks[x.ID]
	if c == nil {
		c = &ingestChunk{index: x, sorted: true}
		in.chunks[x.ID] = c
	}
	for _, p := range pairs {
		if n := len(c.pairs); n > 0 && c.sorted && bytes.Compare(c.pairs[n-1].Key, p.Key) >= 0 {
			c.sorted = false
		}
		c.pairs = append(c.pairs, p)
		c.bytes += len(p.Key) + len(p.Value)
	}
}

// maybeFlush ingests chunks that are full. errCannotIngest comes back with all
// pairs still in chunks.
func (in *ingester) maybeFlush(ctx context.Context) error {
	for _, c := range in.chunks {
		if c.bytes >= ingestChunkBytes {
			if err := in.flush(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// wait waits for the chunk that is being ingested.
func (in *ingester) wait() error {
	if in.running == nil {
		return nil
	}
	err := <-in.running
	in.running = nil
	return err
}

// flush sorts a chunk and ingests it. The first one of an index finds out whether
// that is possible; later ones are ingested while rows go on being read.
func (in *ingester) flush(ctx context.Context, c *ingestChunk) error {
	if err := in.wait(); err != nil {
		return err
	}
	if !in.begun[c.index.ID] {
		if err := in.ingest(ctx, c, true); err != nil {
			return err
		}
		in.begun[c.index.ID] = true
		if !in.any {
			in.any = true
			in.clearOnRollback()
		}
		delete(in.chunks, c.index.ID)
		return nil
	}
	in.chunks[c.index.ID] = &ingestChunk{index: c.index, sorted: true, pairs: make([]rowenc.KV, 0, len(c.pairs))}
	running := make(chan error, 1)
	in.running = running
	go func() { running <- in.ingest(ctx, c, false) }() // wait receives it.
	return nil
}

// ingest makes an sstable of a chunk and gives it to the ranges that it spans.
func (in *ingester) ingest(ctx context.Context, c *ingestChunk, first bool) error {
	if !c.sorted {
		slices.SortFunc(c.pairs, func(a, b rowenc.KV) int { return bytes.Compare(a.Key, b.Key) })
		for i := 1; i < len(c.pairs); i++ {
			if bytes.Equal(c.pairs[i-1].Key, c.pairs[i].Key) {
				return in.w.p.uniqueViolation(ctx, in.w.desc, c.pairs[i].Key, c.pairs[i-1].Value)
			}
		}
	}
	db := in.w.p.srv.db
	spans, err := db.SplitSpan(ctx, c.index.Span())
	if err != nil {
		return err
	}
	pairs := c.pairs
	for _, span := range spans {
		n := len(pairs)
		if span.EndKey != nil {
			n, _ = slices.BinarySearchFunc(pairs, span.EndKey, func(p rowenc.KV, k keys.Key) int { return bytes.Compare(p.Key, k) })
		}
		if n == 0 {
			continue
		}
		sst, err := buildSST(pairs[:n])
		if err != nil {
			return err
		}
		// Locks there can only be this transaction's own: waiting would be for ever.
		opts := kv.AddSSTableOptions{RequireEmpty: first, DisallowShadowing: !first, NoWait: true}
		if !first {
			span = keys.Span{Key: pairs[0].Key, EndKey: pairs[n-1].Key.Next()}
		}
		_, err = db.AddSSTable(ctx, span, sst, opts)
		var shadow *storage.ShadowingError
		var notEmpty *storage.NotEmptyError
		switch {
		case err == nil:
		case errors.As(err, &shadow):
			return in.w.p.uniqueViolation(ctx, in.w.desc, shadow.Key, shadow.Actual)
		case first && n == len(c.pairs) && (errors.As(err, &notEmpty) || pgerr.GetCode(err) == pgerr.LockNotAvailable):
			return errCannotIngest
		default:
			return err
		}
		pairs = pairs[n:]
	}
	return nil
}

// buildSST writes sorted pairs as an sstable that awaits its timestamp.
func buildSST(pairs []rowenc.KV) ([]byte, error) {
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

// clearOnRollback removes what was ingested into a new table if the transaction
// does not commit. Under an index of an older table another transaction may be
// writing by then: such an index is cleared before its id is used again, and so is
// what a process leaves behind that ends too early.
func (in *ingester) clearOnRollback() {
	if !in.newTable {
		return
	}
	srv, desc := in.w.p.srv, in.w.desc
	tx := &in.w.p.s.tx
	tx.afterRollback = append(tx.afterRollback, func(ctx context.Context) {
		// A commit whose outcome is not known may have happened.
		key, err := systables.Descriptor.Key(int64(desc.ID()))
		var stored kv.KeyValue
		if err == nil {
			stored, err = srv.db.Get(ctx, key)
		}
		if err == nil && len(stored.Value) == 0 {
			err = srv.db.ClearRange(ctx, desc.Span())
		}
		if err != nil {
			srv.log.WarnContext(ctx, "clearing ingested rows of a transaction that did not commit", "err", err)
		}
	})
}

// finish ingests what is left and moves the transaction to where it sees it. Of a
// COPY that was too small nothing has been ingested: errCannotIngest.
func (in *ingester) finish(ctx context.Context) error {
	if !in.any {
		total := 0
		for _, c := range in.chunks {
			total += c.bytes
		}
		if total < ingestMinBytes {
			return errCannotIngest
		}
	}
	for _, c := range in.chunks {
		if len(c.pairs) > 0 {
			if err := in.flush(ctx, c); err != nil {
				return err
			}
		}
	}
	if err := in.wait(); err != nil {
		return err
	}
	return in.w.p.txn.RefreshToNow(ctx)
}

// close waits for the goroutine of an ingester that is given up.
func (in *ingester) close() { _ = in.wait() }
