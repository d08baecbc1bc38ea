package storage

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// fillTable writes rows [from, to) of table 106 at the given time.
func fillTable(t *testing.T, e *Engine, from, to int, at int64) {
	t.Helper()
	b := e.NewBatch()
	defer b.Close()
	for i := from; i < to; i++ {
		k := append(keys.IndexPrefix(106, 1), 0xf7, byte(i>>8), byte(i), 0x88)
		if err := MVCCPut(context.Background(), b, k, ts(at), val(fmt.Sprintf("row %d at %d %064d", i, at, i*i)), WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Commit(false); err != nil {
		t.Fatal(err)
	}
}

// TestIncrementalReadsOnlyChangedBlocks changes one percent of the key space:
// the export of that change reads a small share of the blocks, before and after
// old and new versions are compacted together.
func TestIncrementalReadsOnlyChangedBlocks(t *testing.T) {
	ctx := context.Background()
	cfg := testConfig(vfs.NewMem())
	cfg.MemTableBytes = 16 << 20
	cfg.Testing.BlockSize = 2 << 10
	cfg.Testing.TargetFileBytes = 128 << 10
	e := openTest(t, cfg)
	const rows = 20_000
	fillTable(t, e, 0, rows, 1000)
	if err := e.Compact(ctx, keys.Key("\x80"), keys.Key("\xff")); err != nil {
		t.Fatal(err)
	}
	export := func(after, upto int64) ExportResult {
		t.Helper()
		var file SSTBuffer
		res, err := MVCCExport(ctx, e, ExportOptions{Span: keys.TableSpan(106), StartTime: ts(after), EndTime: ts(upto)}, &file)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	full := export(0, 1500)
	if got := full.Summary.Total().Rows; got != rows {
		t.Fatalf("full export has %d rows", got)
	}
	fillTable(t, e, 7000, 7000+rows/100, 2000)
	for _, when := range []string{"in the memtable", "flushed", "compacted"} {
		switch when {
		case "flushed":
			if err := e.Flush(); err != nil {
				t.Fatal(err)
			}
		case "compacted":
			if err := e.Compact(ctx, keys.Key("\x80"), keys.Key("\xff")); err != nil {
				t.Fatal(err)
			}
		}
		inc := export(1500, 2500)
		if got := inc.Summary.Total().Rows; got != rows/100 {
			t.Errorf("%s: %d rows", when, got)
		}
		if inc.BlockBytes*25 > full.BlockBytes {
			t.Errorf("%s: read %d bytes of blocks, a full export %d", when, inc.BlockBytes, full.BlockBytes)
		}
		if none := export(2500, 3000); !none.Empty || none.BlockBytes*100 > full.BlockBytes {
			t.Errorf("%s: an export of nothing read %d bytes of blocks, a full one %d", when, none.BlockBytes, full.BlockBytes)
		}
	}
}

// TestCorruptFilesAreNoticed flips bytes in files of a store: the error says
// corrupt, and no row is missing without one.
func TestCorruptFilesAreNoticed(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []string{".sst", "MANIFEST-"} {
		for part := int64(0); part < 10; part++ {
			fs := vfs.NewMem()
			cfg := testConfig(fs)
			e, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			fillTable(t, e, 0, 500, 10)
			if err := e.Flush(); err != nil {
				t.Fatal(err)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			names, err := fs.List(cfg.Dir)
			if err != nil {
				t.Fatal(err)
			}
			flipped := 0
			for _, n := range names {
				if strings.HasSuffix(n, kind) || strings.HasPrefix(n, kind) {
					flipByte(t, fs, filepath.Join(cfg.Dir, n), part)
					flipped++
				}
			}
			if flipped == 0 {
				t.Fatalf("no %s among %v", kind, names)
			}
			var res ScanResult
			e, err = Open(cfg)
			if err == nil {
				res, err = MVCCScan(ctx, e, keys.TablePrefix(106), keys.TablePrefix(107), hlc.MaxTimestamp, ScanOptions{})
				if cerr := e.Close(); cerr != nil {
					t.Error(cerr)
				}
			}
			if !errors.Is(err, ErrCorrupt) && (err != nil || len(res.KVs) != 500) {
				t.Errorf("damaged %s, part %d: %d rows, %v", kind, part, len(res.KVs), err)
			}
		}
	}
}

func flipByte(t *testing.T, fs *vfs.MemFS, name string, part int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	at := info.Size() * part / 10
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x55
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
