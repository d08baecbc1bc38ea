package storage

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

func TestExportThenRestoreUnderANewTableID(t *testing.T) {
	ctx := context.Background()
	e := openTest(t, testConfig(vfs.NewMem()))
	old, renamed := keys.IndexPrefix(110, 1), keys.IndexPrefix(231, 1)
	row := func(prefix keys.Key, i byte) keys.Key { return append(prefix.Clone(), 0x88+i, 0x88) }
	put := func(k keys.Key, at int64, v []byte) {
		b := e.NewBatch()
		defer b.Close()
		if err := MVCCPut(ctx, b, k, ts(at), v, WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := b.Commit(false); err != nil {
			t.Fatal(err)
		}
	}
	withChecksum := func(s string) []byte { v := val(s); v[0] = 77; return v }
	for i := byte(0); i < 50; i++ {
		put(row(old, i), 10, withChecksum("old"))
	}
	var full, inc SSTBuffer
	span := keys.TableSpan(110)
	if _, err := MVCCExport(ctx, e, ExportOptions{Span: span, EndTime: ts(20)}, &full); err != nil {
		t.Fatal(err)
	}
	put(row(old, 7), 25, nil)
	put(row(old, 8), 26, withChecksum("new"))
	res, err := MVCCExport(ctx, e, ExportOptions{Span: span, StartTime: ts(20), EndTime: ts(30)}, &inc)
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Summary.Total(); got.KVs != 2 || got.Tombstones != 1 || got.Rows != 1 {
		t.Errorf("incremental: %+v", got)
	}
	it, err := NewRestoreIterator(ctx, []SSTFile{full.File(), inc.File()}, RestoreOptions{Span: span, Rewrites: []PrefixRewrite{TableRewrite(110, 231)}})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	var total ExportSummary
	for done := false; !done; {
		var out SSTBuffer
		page, err := it.WritePage(&out, 300)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.IngestSST(ctx, out.Bytes(), IngestOptions{Span: keys.TableSpan(231), Timestamp: hlc.Timestamp{WallTime: 40, Logical: 3}, DisallowShadowing: true}); err != nil {
			t.Fatal(err)
		}
		total.Add(&page.Summary)
		done = page.Done
	}
	scan, err := MVCCScan(ctx, e, renamed, renamed.PrefixEnd(), ts(50), ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(scan.KVs) != 49 {
		t.Fatalf("restored %d rows", len(scan.KVs))
	}
	for _, kv := range scan.KVs {
		if want := (hlc.Timestamp{WallTime: 40, Logical: 3}); kv.Timestamp != want || kv.Value[0] != 0 {
			t.Fatalf("restored %s at %s: %x", kv.Key, kv.Timestamp, kv.Value)
		}
	}
	// What was restored has the fingerprint of what is there.
	live, err := MVCCExport(ctx, e, ExportOptions{Span: keys.TableSpan(231), EndTime: ts(50)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	source, err := MVCCExport(ctx, e, ExportOptions{Span: span, EndTime: ts(50)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := total.Total(), live.Summary.Total(), source.Summary.Total()
	if a.Fingerprint != b.Fingerprint || a.Fingerprint != c.Fingerprint || a.Rows != 49 || b.Rows != 49 || c.Rows != 49 {
		t.Errorf("restored %+v, live %+v, source %+v", a, b, c)
	}
	if names, err := e.FS().List(e.stagingDir()); err != nil || len(names) > 0 {
		t.Errorf("staged files left: %v %v", names, err)
	}
}
