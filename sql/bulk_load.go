package sql

import (
	"bytes"
	"context"
	"slices"

	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

const (
	// bulkChunkBytes is how much of an index gathers before it is written. Two
	// chunks exist at a time: one fills while the other is written.
	bulkChunkBytes = 16 << 20
	// bulkTotalBytes bounds what gathers of all indexes of a table.
	bulkTotalBytes = 48 << 20
	// bulkMinBytes is the least amount that is worth it.
	bulkMinBytes = 1 << 20
)

// bulkLoader takes the rows of COPY and INSERT … SELECT. It gathers and sorts the
// pairs of each index, and writes them in large chunks: into indexes that the
// transaction has made by ingestion (see ingester), into others as intents that
// are ingested, which are part of the transaction like any other write.
type bulkLoader struct {
	w      *rowWriter
	ingest *ingester             // nil: rows are written in the transaction
	chunks map[uint32]*bulkChunk // by index id
	bytes  int                   // of all chunks
	sent   bool                  // something has left the chunks

	// One chunk at a time is written beside the work on the next one.
	running chan error // nil: none
}

// bulkChunk are pairs of one index.
type bulkChunk struct {
	index  *catalog.Index
	pairs  []kv.Pair
	bytes  int // with overhead
	sorted bool
}

func (p *planner) newBulkLoader(w *rowWriter) *bulkLoader {
	return &bulkLoader{w: w, ingest: p.newIngester(w), chunks: map[uint32]*bulkChunk{}}
}

// add takes pairs of one index.
func (l *bulkLoader) add(x *catalog.Index, pairs []rowenc.KV) {
	c := l.chunks[x.ID]
	if c == nil {
		c = &bulkChunk{index: x, sorted: true}
		l.chunks[x.ID] = c
	}
	for _, p := range pairs {
		if n := len(c.pairs); n > 0 && c.sorted && bytes.Compare(c.pairs[n-1].Key, p.Key) >= 0 {
			c.sorted = false
		}
		c.pairs = append(c.pairs, kv.Pair{Key: p.Key, Value: p.Value})
		n := len(p.Key) + len(p.Value) + pairOverhead
		c.bytes += n
		l.bytes += n
	}
}

// maybeFlush writes chunks that are full.
func (l *bulkLoader) maybeFlush(ctx context.Context) error {
	if l.bytes < bulkChunkBytes {
		return nil
	}
	var largest *bulkChunk
	for _, c := range l.chunks {
		if largest == nil || largest.bytes < c.bytes {
			largest = c
		}
	}
	if largest.bytes >= bulkChunkBytes || l.bytes >= bulkTotalBytes {
		return l.flush(ctx, largest)
	}
	return nil
}

// wait waits for the chunk that is being written.
func (l *bulkLoader) wait(ctx context.Context) error {
	if l.running == nil {
		return nil
	}
	err := <-l.running
	l.running = nil
	return l.w.conflictError(ctx, err)
}

// flush sorts a chunk and has it written while rows go on being read.
func (l *bulkLoader) flush(ctx context.Context, c *bulkChunk) error {
	if err := l.wait(ctx); err != nil {
		return err
	}
	if err := l.sort(ctx, c); err != nil {
		return err
	}
	write := l.put
	if l.ingest != nil {
		write = func(ctx context.Context, c *bulkChunk) error { return l.ingest.ingest(ctx, c, false) }
		if !l.ingest.begun[c.index.ID] {
			switch err := l.ingest.first(ctx, c); err {
			case nil:
				write = nil
			case errCannotIngest:
				if err := l.stopIngesting(ctx); err != nil {
					return err
				}
				write = l.put
			default:
				return l.w.conflictError(ctx, err)
			}
		}
	}
	l.sent = true
	l.bytes -= c.bytes
	l.chunks[c.index.ID] = &bulkChunk{index: c.index, sorted: true, pairs: make([]kv.Pair, 0, len(c.pairs))}
	if write == nil {
		return nil
	}
	running := make(chan error, 1)
	l.running = running
	go func() { running <- write(ctx, c) }() // wait receives it.
	return nil
}

// sort orders a chunk and refuses equal keys.
func (l *bulkLoader) sort(ctx context.Context, c *bulkChunk) error {
	if c.sorted {
		return nil
	}
	slices.SortFunc(c.pairs, func(a, b kv.Pair) int { return bytes.Compare(a.Key, b.Key) })
	for i := 1; i < len(c.pairs); i++ {
		if bytes.Equal(c.pairs[i-1].Key, c.pairs[i].Key) {
			return l.w.p.uniqueViolation(ctx, l.w.desc, c.pairs[i].Key, c.pairs[i-1].Value)
		}
	}
	c.sorted = true
	return nil
}

// put writes a chunk in the transaction.
func (l *bulkLoader) put(ctx context.Context, c *bulkChunk) error {
	return l.w.p.txn.PutSorted(ctx, c.pairs, c.index.Unique)
}

// stopIngesting goes on in the transaction. If some index was ingested before
// another could not be, the transaction must commit above what is there already,
// or a backup could end in between.
func (l *bulkLoader) stopIngesting(ctx context.Context) error {
	any := len(l.ingest.begun) > 0
	in := l.ingest
	l.ingest = nil
	if !any {
		return nil
	}
	return in.finish(ctx)
}

// finish writes what is left. What was too little from the start goes into the
// writer's batch, which may commit the transaction.
func (l *bulkLoader) finish(ctx context.Context) error {
	if !l.sent && l.bytes < bulkMinBytes {
		return l.finishSmall(ctx)
	}
	for _, c := range l.chunks {
		if len(c.pairs) > 0 {
			if err := l.flush(ctx, c); err != nil {
				return err
			}
		}
	}
	if err := l.wait(ctx); err != nil {
		return err
	}
	if l.ingest != nil {
		return l.ingest.finish(ctx)
	}
	return nil
}

func (l *bulkLoader) finishSmall(ctx context.Context) error {
	l.w.bulk = nil // Its pairs go the usual way from here on.
	for _, c := range l.chunks {
		for _, p := range c.pairs {
			l.w.put(rowenc.KV{Key: p.Key, Value: p.Value}, c.index.Unique)
			if err := l.w.maybeFlush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// close waits for the goroutine of a load that is given up.
func (l *bulkLoader) close() {
	if l.running != nil {
		<-l.running
		l.running = nil
	}
}
