package kv_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvserver"
	"github.com/holdfastdb/holdfast/kv/kvtest"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// onDisk starts a node on the disk under the test's directory.
func onDisk(b *testing.B) *kvtest.Node {
	cfg := storage.DefaultConfig(b.TempDir())
	cfg.ReserveBytes = 0
	eng, err := storage.Open(cfg)
	ok(b, err)
	clock := hlc.NewSystemClock(500 * time.Millisecond)
	store, db, err := kvserver.OpenLocal(ctx, kvserver.Config{Engine: eng, Clock: clock, NodeID: 1},
		kvserver.Ident{ClusterID: [16]byte{1}, NodeID: 1, StoreID: 1})
	ok(b, err)
	n := &kvtest.Node{DB: db, Store: store, Engine: eng, Clock: clock}
	b.Cleanup(func() { ok(b, n.Close()) })
	return n
}

func rowKey(table uint32, n int) keys.Key {
	k := keys.IndexPrefix(table, 1)
	k = append(k, 0xfa)
	k = binary.BigEndian.AppendUint32(k, uint32(n))
	return append(k, 0x88)
}

var rowValue = storage.MakeValue(make([]byte, 90))

func load(b *testing.B, db *kv.DB, table uint32, rows int) {
	txn := db.NewTxn(ctx, "load")
	for i := 0; i < rows; i += 1000 {
		batch := txn.NewBatch()
		for j := i; j < min(i+1000, rows); j++ {
			batch.CPut(rowKey(table, j), rowValue, nil)
		}
		ok(b, txn.Run(ctx, batch))
	}
	ok(b, txn.Commit(ctx))
}

func BenchmarkGet(b *testing.B) {
	n := onDisk(b)
	const rows = 100_000
	load(b, n.DB, 200, rows)
	ok(b, n.Store.WaitResolved(ctx))
	ok(b, n.Engine.Flush())
	b.ReportAllocs()
	b.Run("txn", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			rng := rand.New(rand.NewPCG(1, rand.Uint64()))
			for pb.Next() {
				txn := n.DB.NewTxn(ctx, "b")
				r, err := txn.Get(ctx, rowKey(200, rng.IntN(rows)))
				if err != nil || r.Value == nil {
					b.Error(err)
				}
				ok(b, txn.Commit(ctx))
			}
		})
	})
	b.Run("storage", func(b *testing.B) {
		b.ReportAllocs()
		ts := n.Clock.Now()
		b.RunParallel(func(pb *testing.PB) {
			rng := rand.New(rand.NewPCG(1, rand.Uint64()))
			for pb.Next() {
				if _, err := storage.MVCCGet(ctx, n.Engine, rowKey(200, rng.IntN(rows)), ts, storage.GetOptions{}); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("scan10", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			rng := rand.New(rand.NewPCG(1, rand.Uint64()))
			for pb.Next() {
				txn := n.DB.NewTxn(ctx, "b")
				at := rng.IntN(rows - 10)
				r, err := txn.Scan(ctx, rowKey(200, at), rowKey(200, at+10), kv.ScanOptions{})
				if err != nil || len(r.KVs) != 10 {
					b.Error(err, len(r.KVs))
				}
				ok(b, txn.Commit(ctx))
			}
		})
	})
}

func BenchmarkBulkInsert(b *testing.B) {
	for _, random := range []bool{false, true} {
		b.Run(map[bool]string{false: "sequential", true: "random"}[random], func(b *testing.B) {
			n := onDisk(b)
			b.ReportAllocs()
			txn := n.DB.NewTxn(ctx, "b")
			rng := rand.New(rand.NewPCG(1, 2))
			for i := 0; i < b.N; i += 1000 {
				batch := txn.NewBatch()
				for j := i; j < i+1000; j++ {
					k := j
					if random {
						k = int(rng.Uint32())
					}
					batch.Put(rowKey(200, k), rowValue)
				}
				ok(b, txn.Run(ctx, batch))
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			start := time.Now()
			ok(b, txn.Commit(ctx))
			commit := time.Since(start)
			ok(b, n.Store.WaitResolved(ctx))
			b.ReportMetric(commit.Seconds()*1000, "commit-ms")
			b.ReportMetric(time.Since(start).Seconds()*1000, "resolve-ms")
		})
	}
}

// BenchmarkTPCB is a transaction of pgbench's default script, without SQL.
func BenchmarkTPCB(b *testing.B) {
	for _, clients := range []int{1, 8} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			n := onDisk(b)
			const scale, accounts = 50, 100_000
			load(b, n.DB, 200, accounts)
			load(b, n.DB, 201, scale*10)
			load(b, n.DB, 202, scale)
			ok(b, n.Store.WaitResolved(ctx))
			var next, history, retries atomic.Int64
			b.ResetTimer()
			var wg sync.WaitGroup
			for c := range clients {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(1, uint64(c)))
					for next.Add(1) <= int64(b.N) {
						tries := int64(-1)
						err := n.DB.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
							tries++
							update := func(table uint32, row int) error {
								k := rowKey(table, row)
								if _, err := txn.GetWith(ctx, k, kv.GetOptions{ForUpdate: true}); err != nil {
									return err
								}
								return txn.Put(ctx, k, rowValue)
							}
							a := rng.IntN(accounts)
							if err := update(200, a); err != nil {
								return err
							}
							if _, err := txn.Get(ctx, rowKey(200, a)); err != nil {
								return err
							}
							if err := update(201, rng.IntN(scale*10)); err != nil {
								return err
							}
							if err := update(202, rng.IntN(scale)); err != nil {
								return err
							}
							return txn.Put(ctx, rowKey(203, int(history.Add(1))), rowValue)
						})
						ok(b, err)
						retries.Add(tries)
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tps")
			b.ReportMetric(float64(retries.Load()), "retries")
		})
	}
}

func BenchmarkAutocommit(b *testing.B) {
	for _, clients := range []int{1, 8} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			n := onDisk(b)
			var next atomic.Int64
			b.ResetTimer()
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						txn := n.DB.NewTxn(ctx, "b")
						batch := txn.NewBatch()
						batch.CPut(rowKey(200, int(i)), rowValue, nil)
						ok(b, txn.CommitInBatch(ctx, batch))
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tps")
		})
	}
}
