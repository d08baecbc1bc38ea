package storage

import (
	"context"
	"testing"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// BenchmarkIncrementalExport exports one percent of a table that one transaction
// has just changed, as a backup finds it: in the memtable with the remains of the
// transaction's locks, flushed, and compacted. "none" is an export after which
// nothing changed. Compare ns/row with BenchmarkExport/full.
func BenchmarkIncrementalExport(b *testing.B) {
	const rows, changed = 1_000_000, 50_000
	ctx := context.Background()
	e := openTest(b, DefaultConfig(b.TempDir()))
	for from := 0; from < rows; from += benchRows {
		var sst SSTBuffer
		w := NewSSTWriter(&sst, CompressFast)
		for i := from; i < from+benchRows; i++ {
			if err := w.PutVersion(MVCCKey{Key: benchKey(i), Timestamp: PlaceholderTimestamp}, benchValue(i)); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := w.Finish(); err != nil {
			b.Fatal(err)
		}
		span := keys.Span{Key: benchKey(from), EndKey: benchKey(from + benchRows)}
		if _, err := e.IngestSST(ctx, sst.Bytes(), IngestOptions{Span: span, Timestamp: hlc.Timestamp{WallTime: 1e18}}); err != nil {
			b.Fatal(err)
		}
	}
	first := rows / 2
	changeRows(b, e, first, first+changed, hlc.Timestamp{WallTime: 2e18})
	export := func(b *testing.B, start int64, want int64) {
		b.ReportAllocs()
		var read int64
		for b.Loop() {
			var out SSTBuffer
			res, err := MVCCExport(ctx, e, ExportOptions{
				Span: keys.TableSpan(106), StartTime: hlc.Timestamp{WallTime: start}, EndTime: benchNow, TargetBytes: 32 << 20, View: true,
			}, &out)
			if err != nil || res.Summary.Total().Rows != want {
				b.Fatal(res.Summary.Total(), err)
			}
			read = res.BlockBytes
		}
		b.ReportMetric(float64(read), "block-bytes")
		if want > 0 {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(want), "ns/row")
		}
	}
	b.Run("memtable", func(b *testing.B) { export(b, 15e17, changed) })
	if err := e.Flush(); err != nil {
		b.Fatal(err)
	}
	b.Run("flushed", func(b *testing.B) { export(b, 15e17, changed) })
	if err := e.Compact(ctx, keys.LocalLockPrefix, keys.TablePrefix(107)); err != nil {
		b.Fatal(err)
	}
	b.Run("compacted", func(b *testing.B) { export(b, 15e17, changed) })
	b.Run("none", func(b *testing.B) { export(b, 25e17, 0) })
}

// changeRows updates rows [from, to) in one transaction, which then commits and
// has its locks resolved.
func changeRows(b *testing.B, e *Engine, from, to int, at hlc.Timestamp) {
	b.Helper()
	ctx := context.Background()
	txn := Txn{TxnMeta: TxnMeta{ID: TxnID{1, 2, 3}, Key: benchKey(from), WriteTimestamp: at, Sequence: 1}, ReadTimestamp: at}
	batch := e.NewBatch()
	commit := func() {
		if err := batch.Commit(false); err != nil {
			b.Fatal(err)
		}
		_ = batch.Close()
		batch = e.NewBatch()
	}
	for i := from; i < to; i++ {
		if err := MVCCPut(ctx, batch, benchKey(i), hlc.Timestamp{}, benchValue(i+1), WriteOptions{Txn: &txn}); err != nil {
			b.Fatal(err)
		}
		if i%1000 == 999 {
			commit()
		}
	}
	rest := &keys.Span{Key: benchKey(from), EndKey: benchKey(to)}
	for rest != nil {
		commit()
		var err error
		if _, rest, err = MVCCResolveIntentRange(ctx, batch, LockUpdate{Span: *rest, Txn: txn.TxnMeta, Status: Committed}, 5000, nil); err != nil {
			b.Fatal(err)
		}
	}
	commit()
	_ = batch.Close()
}
