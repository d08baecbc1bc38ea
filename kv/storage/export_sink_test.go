package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// TestIncrementalExportBesideItsIterator exports changes of all sizes, some
// larger than what is passed on at once: what is counted is what the file has and
// what differs.
func TestIncrementalExportBesideItsIterator(t *testing.T) {
	ctx := context.Background()
	e := openTest(t, testConfig(vfs.NewMem()))
	b := e.NewBatch()
	defer b.Close()
	for i := range 3000 {
		k := append(keys.IndexPrefix(106, 1), 0xf7, byte(i>>8), byte(i), 0x88)
		if i%3 == 0 {
			if err := MVCCPut(ctx, b, k, ts(4), val(fmt.Sprintf("old row %d", i)), WriteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		v := val(fmt.Sprintf("row %d %064d", i, i*i))
		switch {
		case i%997 == 0:
			v = val(string(bytes.Repeat([]byte{byte(i)}, 3*sinkChunkBytes+i)))
		case i%100 == 7:
			v = nil
		}
		if err := MVCCPut(ctx, b, k, ts(10), v, WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Commit(false); err != nil {
		t.Fatal(err)
	}
	span := keys.TableSpan(106)
	var inc SSTBuffer
	a, err := MVCCExport(ctx, e, ExportOptions{Span: span, StartTime: ts(5), EndTime: ts(20)}, &inc)
	if err != nil {
		t.Fatal(err)
	}
	c, err := SummarizeSST(ctx, inc.File(), true)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := a.Summary.Total(), c.Total(); got.Fingerprint != want.Fingerprint || got.TimedFingerprint != want.TimedFingerprint ||
		got.KVs != 3000 || want.KVs != 3000 || got.Tombstones != 30 || got.Rows != 2970 {
		t.Errorf("counted %+v, the file has %+v", got, want)
	}
	// The view is what the live pairs at both ends differ by.
	before, after := liveAt(t, e, span, 5), liveAt(t, e, span, 20)
	view, err := MVCCExport(ctx, e, ExportOptions{Span: span, StartTime: ts(5), EndTime: ts(20), View: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := view.Summary.Total()
	before.KVs, before.Fingerprint = before.KVs+got.ViewKVs, sumOf(before.Fingerprint, got.View)
	if before.KVs != after.KVs || before.Fingerprint != after.Fingerprint || before.KVs != 2970 {
		t.Errorf("before and view %d %s, after %d %s", before.KVs, before.Fingerprint, after.KVs, after.Fingerprint)
	}
	// An output that fails anywhere ends the export with its error.
	full := inc.Len()
	for at := 0; at < full; at += full/20 + 1 {
		_, err := MVCCExport(ctx, e, ExportOptions{Span: span, StartTime: ts(5), EndTime: ts(20)}, &failingWriter{left: at})
		if !errors.Is(err, errFull) {
			t.Fatalf("output that fails after %d of %d bytes: %v", at, full, err)
		}
	}

	// A lock anywhere in the page is found, wherever the search for it ends.
	for _, i := range []int{0, 1500, 2999} {
		k := append(keys.IndexPrefix(106, 1), 0xf7, byte(i>>8), byte(i), 0x88, 0x88)
		txn := Txn{TxnMeta: TxnMeta{ID: TxnID{byte(i), 9}, Key: k, WriteTimestamp: ts(15), Sequence: 1}, ReadTimestamp: ts(15)}
		lb := e.NewBatch()
		if err := MVCCPut(ctx, lb, k, hlc.Timestamp{}, val("locked"), WriteOptions{Txn: &txn}); err != nil {
			t.Fatal(err)
		}
		if err := lb.Commit(false); err != nil {
			t.Fatal(err)
		}
		_ = lb.Close()
		_, err := MVCCExport(ctx, e, ExportOptions{Span: span, StartTime: ts(5), EndTime: ts(20)}, io.Discard)
		var conflict *LockConflictError
		if !errors.As(err, &conflict) || !conflict.Locks[0].Key.Equal(k) {
			t.Errorf("lock on row %d: %v", i, err)
		}
		lb = e.NewBatch()
		if ok, err := MVCCResolveIntent(ctx, lb, LockUpdate{Span: keys.Span{Key: k}, Txn: txn.TxnMeta, Status: Aborted}, nil); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := lb.Commit(false); err != nil {
			t.Fatal(err)
		}
		_ = lb.Close()
	}
}

// liveAt counts what is live at a time.
func liveAt(t *testing.T, e *Engine, span keys.Span, at int64) IndexSummary {
	t.Helper()
	res, err := MVCCExport(context.Background(), e, ExportOptions{Span: span, EndTime: ts(at)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res.Summary.Total()
}

func sumOf(a, b Fingerprint) Fingerprint {
	a.Add(b)
	return a
}

var errFull = errors.New("output is full")

type failingWriter struct{ left int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}
