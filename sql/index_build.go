package sql

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// indexBuilder fills indexes that no published descriptor knows yet.
//
// Few rows are written by the transaction itself. Many are sorted in memory,
// chunk by chunk, and ingested as sstables outside of it: nobody looks at the
// span of an unpublished index, so nothing has to be undone if the transaction
// fails, and what is left is cleared before the same span is used again. Ingested
// keys bear the time of their ingestion, so the transaction must commit later:
// finish moves it forward.
type indexBuilder struct {
	p       *planner
	table   *catalog.Table
	indexes []*catalog.Index
	primary bool // one of indexes is the primary index
	enc     *rowenc.Encoder
	exprs   *indexExprs
	pairs   []kv.Pair
	scratch []rowenc.KV
	bytes   int64
	// ingested says that some chunk has gone the way of sstables.
	ingested bool
	rows     int64
	// One chunk is ingested beside the work on the next one.
	running chan error // nil: none
}

const (
	// buildChunkBytes bounds the memory of a build: keys and values of one chunk, of
	// which there are two.
	buildChunkBytes = 16 << 20
	// buildInTxnBytes is up to where a build is part of the transaction.
	buildInTxnBytes = 512 << 10
	// pairOverhead is what a pair costs beside its bytes.
	pairOverhead = 64
)

// newIndexBuilder returns a builder for some indexes of table. Rows are datums of
// cols.
func (p *planner) newIndexBuilder(ctx context.Context, table *catalog.Table, cols []*catalog.Column, ids []uint32) (*indexBuilder, error) {
	enc, err := rowenc.NewEncoder(table, cols)
	if err != nil {
		return nil, err
	}
	b := &indexBuilder{p: p, table: table, enc: enc}
	if err := p.claimIndexIDs(ctx, table.ID(), ids); err != nil {
		return nil, err
	}
	if b.exprs, err = p.newIndexExprs(table, cols); err != nil {
		return nil, err
	}
	for _, id := range ids {
		x := table.IndexByID(id)
		if x == nil {
			return nil, pgerr.Newf(pgerr.Internal, "index %d of table %q is to be built but does not exist", id, table.Name())
		}
		b.primary = b.primary || x.Primary
		b.indexes = append(b.indexes, x)
		// An attempt that failed may have left something behind.
		if !p.newInTxn(table.ID()) {
			if err := b.clear(ctx, x); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

// clear removes leftovers of an index that was never published.
func (b *indexBuilder) clear(ctx context.Context, x *catalog.Index) error {
	res, err := b.p.srv.db.Scan(ctx, x.Span().Key, x.Span().EndKey, b.p.srv.clock.Now(), kv.ScanOptions{MaxKeys: 1})
	if err != nil || len(res.KVs) == 0 {
		return err
	}
	return b.p.srv.db.ClearRange(ctx, x.Span())
}

// add encodes one row for all indexes.
func (b *indexBuilder) add(ctx context.Context, row tree.Datums) error {
	b.rows++
	b.scratch = b.scratch[:0]
	err := b.exprs.fill(row)
	if err != nil {
		return err
	}
	for _, x := range b.indexes {
		if x.Primary {
			b.scratch, err = b.enc.EncodeRow(b.scratch, row)
		} else if ok, err2 := b.exprs.in(x, row); err2 != nil {
			return err2
		} else if ok {
			b.scratch, err = b.enc.EncodeIndexEntries(b.scratch, x, row)
		}
		if err != nil {
			return err
		}
	}
	for _, p := range b.scratch {
		b.bytes += int64(len(p.Key)+len(p.Value)) + pairOverhead
		b.pairs = append(b.pairs, kv.Pair{Key: p.Key, Value: p.Value})
	}
	if b.bytes < buildChunkBytes {
		return nil
	}
	return b.flush(ctx)
}

// sortPairs orders pairs and refuses equal keys: two rows with the same values in
// a unique index.
func sortPairs(pairs []kv.Pair) error {
	slices.SortFunc(pairs, func(x, y kv.Pair) int { return bytes.Compare(x.Key, y.Key) })
	for i := 1; i < len(pairs); i++ {
		if bytes.Equal(pairs[i-1].Key, pairs[i].Key) {
			return &storage.ShadowingError{Key: pairs[i].Key, Actual: pairs[i].Value}
		}
	}
	return nil
}

// flush has the chunk ingested while rows go on being read.
func (b *indexBuilder) flush(ctx context.Context) error {
	if err := b.wait(); err != nil {
		return err
	}
	if !b.ingested && !b.p.newInTxn(b.table.ID()) {
		for _, x := range b.indexes {
			if err := b.p.ownRows(ctx, b.table.ID(), x.ID); err != nil {
				return err
			}
		}
	}
	pairs := b.pairs
	b.pairs, b.bytes = make([]kv.Pair, 0, len(pairs)), 0
	b.ingested = true
	running := make(chan error, 1)
	b.running = running
	go func() { running <- b.ingest(ctx, pairs) }() // wait or close receives it.
	return nil
}

// wait waits for the chunk that is being ingested.
func (b *indexBuilder) wait() error {
	if b.running == nil {
		return nil
	}
	err := <-b.running
	b.running = nil
	return b.asDuplicate(err)
}

// close waits for the goroutine of a build that is given up.
func (b *indexBuilder) close() {
	if b.running != nil {
		<-b.running
		b.running = nil
	}
}

// asDuplicate describes the rows that have one key.
func (b *indexBuilder) asDuplicate(err error) error {
	var shadow *storage.ShadowingError
	if errors.As(err, &shadow) {
		return b.duplicate(shadow.Key, shadow.Actual)
	}
	return err
}

func (b *indexBuilder) indexOf(key keys.Key) *catalog.Index {
	for _, x := range b.indexes {
		if x.Span().Contains(key) {
			return x
		}
	}
	return b.indexes[0]
}

// ingest sorts pairs and ingests them, one sstable per index and range.
func (b *indexBuilder) ingest(ctx context.Context, pairs []kv.Pair) error {
	if err := sortPairs(pairs); err != nil {
		return err
	}
	for len(pairs) > 0 {
		x := b.indexOf(pairs[0].Key)
		n := max(1, pairsBefore(pairs, x.Span().EndKey))
		if err := b.p.ingestPairs(ctx, pairs[:n], kv.AddSSTableOptions{DisallowShadowing: x.Unique}); err != nil {
			return err
		}
		pairs = pairs[n:]
	}
	return nil
}

// duplicate is the error for a second entry under one key.
func (b *indexBuilder) duplicate(key keys.Key, value []byte) error {
	x := b.indexOf(key)
	e := pgerr.Newf(pgerr.UniqueViolation, "could not create unique index \"%s\"", x.Name).WithConstraint("", b.table.Name(), x.Name)
	f := rowenc.NewFetcher(b.table, x, x.KeyColumns)
	if value == nil {
		return e
	}
	row := make(tree.Datums, len(x.KeyColumns))
	src := &rowenc.SlicePairs{KVs: []rowenc.KV{{Key: key, Value: value}}}
	if ok, err := f.Next(context.Background(), src, row); ok && err == nil {
		return e.WithDetail("Key (%s)=(%s) is duplicated.", keyList(x.KeyColumns), b.p.valueList(row, x.KeyColumns))
	}
	return e
}

// finish writes what is left. Afterwards the transaction sees the indexes.
func (b *indexBuilder) finish(ctx context.Context) error {
	if !b.ingested && b.bytes <= buildInTxnBytes || b.p.newInTxn(b.table.ID()) && !b.ingested {
		if err := sortPairs(b.pairs); err != nil {
			return b.asDuplicate(err)
		}
		batch := b.p.txn.NewBatch()
		for i, pair := range b.pairs {
			batch.Put(pair.Key, pair.Value)
			if batch.Len() >= 1000 || i == len(b.pairs)-1 {
				if err := b.p.txn.Run(ctx, batch); err != nil {
					return err
				}
				batch = b.p.txn.NewBatch()
			}
		}
		b.pairs = nil
		b.p.txn.Step(ctx)
		return nil
	}
	if len(b.pairs) > 0 {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	b.pairs = nil
	if err := b.wait(); err != nil {
		return err
	}
	return b.p.txn.RefreshToNow(ctx)
}
