package storage

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"

	"github.com/auxten/postgresql-parser/pkg/util/encoding"
)

const benchRows = 200_000

// benchKey is a row of a table like pgbench_accounts.
func benchKey(i int) keys.Key {
	return append(encoding.EncodeVarintAscending(keys.IndexPrefix(106, 1), int64(i)), 0x88)
}

func benchValue(i int) []byte {
	v := []byte{1, 2, 3, 4, 0x0a, 0x23}
	v = append(v, byte(i), byte(i>>8), byte(i>>16))
	return append(v, fmt.Sprintf("%-84d", i*7919)...)
}

// benchEngine is a store on disk with benchRows rows, compacted.
func benchEngine(b *testing.B) *Engine {
	b.Helper()
	e := openTest(b, DefaultConfig(b.TempDir()))
	ctx := context.Background()
	var sst SSTBuffer
	w := NewSSTWriter(&sst, CompressFast)
	for i := range benchRows {
		if err := w.PutVersion(MVCCKey{Key: benchKey(i), Timestamp: PlaceholderTimestamp}, benchValue(i)); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := w.Finish(); err != nil {
		b.Fatal(err)
	}
	if _, err := e.IngestSST(ctx, sst.Bytes(), IngestOptions{Span: keys.TableSpan(106), Timestamp: hlc.Timestamp{WallTime: 1e18}}); err != nil {
		b.Fatal(err)
	}
	// Some life in the memtable, as in a running server.
	batch := e.NewBatch()
	defer func() { _ = batch.Close() }()
	for i := range 2000 {
		if err := MVCCPut(ctx, batch, benchKey(i*97%benchRows), hlc.Timestamp{WallTime: 2e18}, benchValue(i), WriteOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	if err := batch.Commit(false); err != nil {
		b.Fatal(err)
	}
	return e
}

var benchNow = hlc.Timestamp{WallTime: 3e18, Logical: 1}

func BenchmarkGet(b *testing.B) {
	e := benchEngine(b)
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(1, 1))
	get := func(b *testing.B, r Reader, i int) {
		res, err := MVCCGet(ctx, r, benchKey(i), benchNow, GetOptions{})
		if err != nil || !res.Exists() {
			b.Fatal(err, res)
		}
	}
	b.Run("engine", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			get(b, e, rng.IntN(benchRows))
		}
	})
	b.Run("readonly", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ro := e.NewReadOnly()
			get(b, ro, rng.IntN(benchRows))
			_ = ro.Close()
		}
	})
	b.Run("readonly-kept", func(b *testing.B) {
		b.ReportAllocs()
		ro := e.NewReadOnly()
		defer ro.Close()
		for b.Loop() {
			get(b, ro, rng.IntN(benchRows))
		}
	})
	b.Run("missing", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := MVCCGet(ctx, e, benchKey(benchRows+rng.IntN(benchRows)), benchNow, GetOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkScan(b *testing.B) {
	e := benchEngine(b)
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{1, 10, 1000, 50000} {
		for _, reverse := range []bool{false, true} {
			b.Run(fmt.Sprintf("rows=%d/reverse=%t", n, reverse), func(b *testing.B) {
				b.ReportAllocs()
				rows := 0
				for b.Loop() {
					at := rng.IntN(benchRows - n)
					res, err := MVCCScan(ctx, e, benchKey(at), benchKey(at+n), benchNow, ScanOptions{Reverse: reverse})
					if err != nil || len(res.KVs) != n {
						b.Fatal(err, len(res.KVs))
					}
					rows += n
				}
				b.ReportMetric(float64(rows)/b.Elapsed().Seconds()/1e6, "MKV/s")
			})
		}
	}
}

func BenchmarkPut(b *testing.B) {
	e := benchEngine(b)
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(1, 1))
	now := int64(4e18)
	for _, perBatch := range []int{1, 100} {
		b.Run(fmt.Sprintf("update/batch=%d", perBatch), func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			batch := e.NewBatch()
			for b.Loop() {
				now++
				if err := MVCCPut(ctx, batch, benchKey(rng.IntN(benchRows)), hlc.Timestamp{WallTime: now}, benchValue(n), WriteOptions{}); err != nil {
					b.Fatal(err)
				}
				if n++; n%perBatch == 0 {
					if err := batch.Commit(false); err != nil {
						b.Fatal(err)
					}
					_ = batch.Close()
					batch = e.NewBatch()
				}
			}
			_ = batch.Close()
		})
	}
	b.Run("insert/batch=1000", func(b *testing.B) {
		b.ReportAllocs()
		n := 0
		batch := e.NewBatch()
		for b.Loop() {
			if err := MVCCConditionalPut(ctx, batch, benchKey(benchRows+n), hlc.Timestamp{WallTime: 1}, benchValue(n), nil, false, WriteOptions{}); err != nil {
				b.Fatal(err)
			}
			if n++; n%1000 == 0 {
				if err := batch.Commit(false); err != nil {
					b.Fatal(err)
				}
				_ = batch.Close()
				batch = e.NewBatch()
			}
		}
		_ = batch.Close()
	})
	b.Run("txn", func(b *testing.B) {
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			now++
			n++
			k := benchKey(rng.IntN(benchRows))
			txn := Txn{TxnMeta: TxnMeta{ID: TxnID{byte(n), byte(n >> 8), byte(n >> 16), 1}, Key: k, WriteTimestamp: hlc.Timestamp{WallTime: now}, Sequence: 1}, ReadTimestamp: hlc.Timestamp{WallTime: now}}
			batch := e.NewBatch()
			if err := MVCCPut(ctx, batch, k, hlc.Timestamp{}, benchValue(n), WriteOptions{Txn: &txn}); err != nil {
				b.Fatal(err)
			}
			if err := batch.Commit(false); err != nil {
				b.Fatal(err)
			}
			_ = batch.Close()
			batch = e.NewBatch()
			if ok, err := MVCCResolveIntent(ctx, batch, LockUpdate{Span: keys.Span{Key: k}, Txn: txn.TxnMeta, Status: Committed}, nil); !ok || err != nil {
				b.Fatal(err)
			}
			if err := batch.Commit(false); err != nil {
				b.Fatal(err)
			}
			_ = batch.Close()
		}
	})
}

func BenchmarkExport(b *testing.B) {
	e := benchEngine(b)
	ctx := context.Background()
	for _, c := range []Compression{CompressNone, CompressFast, CompressDense} {
		b.Run(fmt.Sprintf("full/%d", c), func(b *testing.B) {
			b.ReportAllocs()
			var logical, file int64
			for b.Loop() {
				res, err := MVCCExport(ctx, e, ExportOptions{Span: keys.TableSpan(106), EndTime: benchNow, Compression: c}, io.Discard)
				if err != nil {
					b.Fatal(err)
				}
				logical, file = res.Summary.DataBytes, res.FileBytes
			}
			b.SetBytes(logical)
			b.ReportMetric(float64(file)/float64(logical), "file/logical")
		})
	}
	b.Run("count", func(b *testing.B) {
		var logical int64
		for b.Loop() {
			res, err := MVCCExport(ctx, e, ExportOptions{Span: keys.TableSpan(106), EndTime: benchNow}, nil)
			if err != nil {
				b.Fatal(err)
			}
			logical = res.Summary.DataBytes
		}
		b.SetBytes(logical)
	})
	b.Run("incremental", func(b *testing.B) {
		for b.Loop() {
			if _, err := MVCCExport(ctx, e, ExportOptions{Span: keys.TableSpan(106), StartTime: hlc.Timestamp{WallTime: 15e17}, EndTime: benchNow}, io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRestore(b *testing.B) {
	e := benchEngine(b)
	ctx := context.Background()
	var full SSTBuffer
	res, err := MVCCExport(ctx, e, ExportOptions{Span: keys.TableSpan(106), EndTime: benchNow}, &full)
	if err != nil {
		b.Fatal(err)
	}
	var page SSTBuffer
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			it, err := NewRestoreIterator(ctx, []SSTFile{full.File()}, RestoreOptions{Span: keys.TableSpan(106), Rewrites: []PrefixRewrite{TableRewrite(106, 200)}})
			if err != nil {
				b.Fatal(err)
			}
			page.Reset()
			if _, err := it.WritePage(&page, 0); err != nil {
				b.Fatal(err)
			}
			_ = it.Close()
		}
		b.SetBytes(res.Summary.DataBytes)
	})
	n := uint32(0)
	b.Run("ingest", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n++
			if _, err := e.IngestSST(ctx, page.Bytes(), IngestOptions{Span: keys.TableSpan(200), Timestamp: hlc.Timestamp{WallTime: 5e18 + int64(n)}}); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			batch := e.NewWriteBatch()
			_ = batch.ClearRange(keys.TablePrefix(200), keys.TablePrefix(201))
			_ = batch.Commit(false)
			_ = batch.Close()
			_ = e.Compact(ctx, keys.TablePrefix(200), keys.TablePrefix(201))
			b.StartTimer()
		}
		b.SetBytes(res.Summary.DataBytes)
	})
}
