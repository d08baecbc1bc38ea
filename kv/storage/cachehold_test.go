package storage

import (
	"context"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// TestScansDoNotFillTheCache: an export and a search for garbage of more than the
// cache could hold leave it at a quarter of its bound, reads of other kinds fill it,
// and what it holds then it keeps while something is exported.
func TestScansDoNotFillTheCache(t *testing.T) {
	ctx := context.Background()
	cfg := DefaultConfig(t.TempDir())
	cfg.CacheBytes = 8 << 20
	e := openTest(t, cfg)
	const rows, rowBytes = 12_000, 1000
	at := hlc.Timestamp{WallTime: 100}
	var sst SSTBuffer
	w := NewSSTWriter(&sst, CompressFast)
	value := make([]byte, rowBytes)
	rng := rand.NewChaCha8([32]byte{1})
	for i := range rows {
		_, _ = rng.Read(value[valueChecksumLen:]) // It never fails.
		value[valueChecksumLen] = 3
		if err := w.PutVersion(MVCCKey{Key: benchKey(i), Timestamp: PlaceholderTimestamp}, value); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	span := keys.TableSpan(106)
	if _, err := e.IngestSST(ctx, sst.Bytes(), IngestOptions{Span: span, Timestamp: at}); err != nil {
		t.Fatal(err)
	}
	e.hold.close() // The end of the ingestion.
	bound := e.hold.cache.MaxSize()
	size := func() int64 { return e.Metrics().BlockCache.Size }
	export := func() {
		t.Helper()
		res, err := MVCCExport(ctx, e, ExportOptions{Span: span, EndTime: at.Next()}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if res.Summary.DataBytes < 2*bound {
			t.Fatalf("%d bytes exported, too few for a cache of %d", res.Summary.DataBytes, bound)
		}
	}
	collect := func(threshold hlc.Timestamp) {
		t.Helper()
		if g, _, err := FindGarbage(ctx, e, span.Key, span.EndKey, threshold, 0); err != nil || !g.Empty() {
			t.Fatalf("garbage %v, %v", g, err)
		}
	}
	collect(at.Prev())
	if got := size(); got > bound/16 {
		t.Errorf("the cache has %d of %d bytes after a search for garbage below all versions", got, bound)
	}
	for range 2 {
		export()
		if got := size(); got > bound/4 {
			t.Errorf("the cache has %d of %d bytes after an export", got, bound)
		}
		collect(at)
		if got := size(); got > bound/4 {
			t.Errorf("the cache has %d of %d bytes after a search for garbage", got, bound)
		}
	}
	// Two at a time, of which one ends before the other begins to read.
	first, second := e.hold.begin(), e.hold.begin()
	first()
	export()
	second()
	if got := size(); got > bound/4 {
		t.Errorf("the cache has %d of %d bytes after overlapping scans", got, bound)
	}
	if _, err := ComputeStats(ctx, e, span.Key, span.EndKey); err != nil {
		t.Fatal(err)
	}
	full := size()
	if full < bound*3/4 {
		t.Errorf("the cache has %d of %d bytes after everything was read", full, bound)
	}
	export()
	if got := size(); got < full*3/4 || got > bound {
		t.Errorf("an export changed the cache's size from %d to %d of %d bytes", full, got, bound)
	}
}

// TestSSTBufferTakesLittleMore: large buffers are at most a quarter larger than what
// they hold, and one that is used again does not grow.
func TestSSTBufferTakesLittleMore(t *testing.T) {
	var b SSTBuffer
	piece := make([]byte, 33_000)
	for b.Len() < 20<<20 {
		for i := range piece {
			piece[i] = byte(b.Len()/len(piece) + i)
		}
		if n, err := b.Write(piece); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
		if n := b.Len(); n > 4<<20 && cap(b.b) > n+n/4+len(piece) {
			t.Fatalf("%d bytes take %d", n, cap(b.b))
		}
	}
	for i, c := range b.Bytes() {
		if c != byte(i/len(piece)+i%len(piece)) {
			t.Fatalf("byte %d is wrong", i)
		}
	}
	had := cap(b.b)
	b.Reset()
	b.Grow(10 << 20)
	for b.Len() < 10<<20 {
		_, _ = b.Write(piece)
	}
	if cap(b.b) != had || b.Len() < 10<<20 {
		t.Errorf("a buffer of %d bytes has %d after it was used again for %d", had, cap(b.b), b.Len())
	}
}

// TestIngestionHoldsTheCache: while files come in the cache may grow to a fortieth of
// its bound, also while something is scanned, and as before when no more come.
func TestIngestionHoldsTheCache(t *testing.T) {
	cfg := DefaultConfig(t.TempDir())
	cfg.CacheBytes = 64 << 20
	e := openTest(t, cfg)
	bound := e.hold.cache.MaxSize()
	e.hold.ingesting()
	if got := e.hold.cache.MaxSize(); got != bound {
		t.Fatalf("the bound itself became %d", got)
	}
	reserved := func() holdKind {
		e.hold.mu.Lock()
		defer e.hold.mu.Unlock()
		return e.hold.now
	}
	end := e.hold.begin()
	if got := reserved(); got != holdIngests {
		t.Errorf("held for %d while files come in", got)
	}
	e.hold.close()
	if got := reserved(); got != holdScans {
		t.Errorf("held for %d after the files", got)
	}
	end()
	if got := reserved(); got != holdNothing || e.hold.release != nil {
		t.Errorf("held for %d in the end", got)
	}
}
