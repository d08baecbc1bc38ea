package backupccl

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"testing"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvserver"
	"github.com/holdfastdb/holdfast/kv/kvtest"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// TestLarge times a backup and a restore of many pgbench rows on a real disk. It
// runs only when BACKUP_TEST_ROWS says how many.
func TestLarge(t *testing.T) {
	n, _ := strconv.ParseInt(os.Getenv("BACKUP_TEST_ROWS"), 10, 64)
	if n == 0 {
		t.Skip("BACKUP_TEST_ROWS is not set")
	}
	dir := t.TempDir()
	node := largeNode(t, dir)
	node.createDatabase("d")
	tbl := node.createTable("d", "accounts", func(pb *catalogpb.TableDescriptor) {
		pb.Columns = []*catalogpb.ColumnDescriptor{
			columnDesc("aid", types.Int, false), columnDesc("bid", types.Int, true),
			columnDesc("abalance", types.Int, true), columnDesc("filler", types.String, true),
		}
		pb.PrimaryIndex.KeyColumnNames = []string{"aid"}
		pb.Indexes = nil
	})
	node.load(tbl, n)
	timed := func(what string, stmt tree.Statement) {
		runtime.GC()
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		if p := os.Getenv("BACKUP_TEST_PROFILE"); p != "" {
			f, err := os.Create(p + "-" + what)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := pprof.StartCPUProfile(f); err != nil {
				t.Fatal(err)
			}
			defer pprof.StopCPUProfile()
		}
		peak := watchHeap()
		start := time.Now()
		out := node.mustRun(stmt)
		t.Logf("%-20s %8.3fs  peak heap %d MiB  %v", what, time.Since(start).Seconds(), peak()>>20, first(out))
	}
	timed("full", backupInto(databases("d")))
	timed("show", &parser.ShowBackup{Latest: true, In: uris(place)})
	timed("empty incremental", backupInto(databases("d"), latest))
	node.update(tbl, n/3, n/100)
	timed("incremental", backupInto(databases("d"), latest))
	timed("empty incremental", backupInto(databases("d"), latest))
	timed("restore", restoreFrom(databases("d"), newName("e")))
	timed("verify", restoreFrom(databases("d"), newName("f"), func(r *parser.Restore) {
		r.Options.SchemaOnly, r.Options.VerifyData = true, true
	}))
	out := node.mustRun(&parser.ShowBackup{Latest: true, In: uris(place), Details: parser.ShowBackupFiles, Options: parser.ShowBackupOptions{CheckFiles: true}})
	var fullBytes, incBytes int64
	for _, r := range out {
		b, _ := strconv.ParseInt(r[9], 10, 64)
		if r[1] == "full" {
			fullBytes += b
		} else {
			incBytes += b
		}
	}
	t.Logf("files: full %d bytes, incremental %d bytes (%.2f%%)", fullBytes, incBytes, 100*float64(incBytes)/float64(fullBytes))
}

func first(out [][]string) []string {
	if len(out) == 0 {
		return nil
	}
	return out[0]
}

func watchHeap() func() uint64 {
	stop, done := make(chan struct{}), make(chan uint64)
	go func() {
		var peak uint64
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse)
			select {
			case <-stop:
				done <- peak
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return func() uint64 { close(stop); return <-done }
}

// largeNode is a node on disk whose nodelocal storage is a directory.
func largeNode(t *testing.T, dir string) *testNode {
	n := startNode(t, nodeOptions{open: func() (*kvtest.Node, error) {
		cfg := storage.DefaultConfig(filepath.Join(dir, "store"))
		eng, err := storage.Open(cfg)
		if err != nil {
			return nil, err
		}
		clock := hlc.NewSystemClock(500 * time.Millisecond)
		store, db, err := kvserver.OpenLocal(context.Background(), kvserver.Config{Engine: eng, Clock: clock, NodeID: 1},
			kvserver.Ident{ClusterID: [16]byte{1}, NodeID: 1, StoreID: 1})
		return &kvtest.Node{DB: db, Store: store, Engine: eng, Clock: clock}, err
	}})
	ext := extstore.DefaultConfig()
	ext.ExternalIODir = filepath.Join(dir, "extern")
	n.svc.cfg.Stores = extstore.NewFactory(ext)
	return n
}

func accountRow(i int64) tree.Datums {
	return tree.Datums{tree.NewDInt(tree.DInt(i)), tree.NewDInt(tree.DInt(i/100000 + 1)), tree.NewDInt(0), tree.NewDString(fmt.Sprintf("%-84s", ""))}
}

// load ingests rows 1 to n.
func (n *testNode) load(t *catalog.Table, rows int64) {
	enc, err := rowenc.NewEncoder(t, t.Columns())
	if err != nil {
		n.t.Fatal(err)
	}
	const chunk = 200000
	for from := int64(1); from <= rows; from += chunk {
		var buf bytes.Buffer
		w := storage.NewSSTWriter(&buf, storage.CompressFast)
		var firstKey, lastKey keys.Key
		var out []rowenc.KV
		for i := from; i < min(from+chunk, rows+1); i++ {
			if out, err = enc.EncodeRow(out[:0], accountRow(i)); err != nil {
				n.t.Fatal(err)
			}
			for _, p := range out {
				if err := w.PutVersion(storage.MVCCKey{Key: p.Key, Timestamp: storage.PlaceholderTimestamp}, p.Value); err != nil {
					n.t.Fatal(err)
				}
				if firstKey == nil {
					firstKey = p.Key.Clone()
				}
				lastKey = p.Key
			}
		}
		if _, err := w.Finish(); err != nil {
			n.t.Fatal(err)
		}
		if _, err := n.db.AddSSTable(context.Background(), keys.Span{Key: firstKey, EndKey: lastKey.Next()}, buf.Bytes(), kv.AddSSTableOptions{}); err != nil {
			n.t.Fatal(err)
		}
	}
}

// update rewrites a run of rows.
func (n *testNode) update(t *catalog.Table, from, count int64) {
	enc, err := rowenc.NewEncoder(t, t.Columns())
	if err != nil {
		n.t.Fatal(err)
	}
	for at := from; at < from+count; at += 1000 {
		err := n.db.Txn(context.Background(), func(ctx context.Context, txn *kv.Txn) error {
			b := txn.NewBatch()
			for i := at; i < min(at+1000, from+count); i++ {
				row := accountRow(i)
				row[2] = tree.NewDInt(tree.DInt(i))
				out, err := enc.EncodeRow(nil, row)
				if err != nil {
					return err
				}
				for _, p := range out {
					b.Put(p.Key, p.Value)
				}
			}
			return txn.Run(ctx, b)
		})
		if err != nil {
			n.t.Fatal(err)
		}
	}
}
