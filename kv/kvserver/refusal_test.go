package kvserver

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// sstOf writes an sstable with one key.
func sstOf(t *testing.T, key keys.Key, ts hlc.Timestamp) []byte {
	t.Helper()
	var buf storage.SSTBuffer
	w := storage.NewSSTWriter(&buf, storage.CompressFast)
	if err := w.PutVersion(storage.MVCCKey{Key: key, Timestamp: ts}, kvpb.EncodeInt(key, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// A file that no store could take in gets into no log; and if it does, every
// replica refuses it and goes on.
func TestBadSSTablesAreRefused(t *testing.T) {
	c := newTestCluster(t, 3)
	c.replicate(tableKey(0), 2, 3)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	eventuallyTrue(t, "the range files where it is, by its own log", func() bool {
		r := c.nodes[1].store.replica(1)
		return r.published.Load() == r.Desc().Generation
	})
	span := keys.Span{Key: tableKey(0), EndKey: tableKey(5)}
	good := sstOf(t, tableKey(1), storage.PlaceholderTimestamp)
	damaged := append([]byte(nil), good...)
	for i := 0; i < len(damaged)/2; i++ {
		damaged[i] ^= 0x5a
	}
	for name, sst := range map[string][]byte{
		"garbage": []byte("no sstable at all"), "empty": nil, "damaged": damaged, "cut": good[:len(good)-9],
		"outside of the span": sstOf(t, tableKey(7), storage.PlaceholderTimestamp),
		"with a timestamp":    sstOf(t, tableKey(1), hlc.Timestamp{WallTime: 7}),
	} {
		t.Run(name, func(t *testing.T) {
			before := c.nodes[1].store.replica(1).applied.Load()
			_, err := c.nodes[1].db.AddSSTable(ctx, span, sst, kv.AddSSTableOptions{})
			if !errors.Is(err, storage.ErrBadSST) {
				t.Errorf("got %v", err)
			}
			r := c.nodes[1].store.replica(1)
			if after := r.applied.Load(); after > before+1 { // a lease may be extended
				t.Errorf("%d entries were applied", after-before)
			}
			// Past the evaluation.
			seq, err := r.serve(ctx, hlc.Timestamp{})
			if err != nil {
				t.Fatal(err)
			}
			p := &proposal{ingest: &ingestion{sst: sst, opts: storage.IngestOptions{Span: span, Timestamp: r.store.clock.Now()}}}
			if err := r.replicate(ctx, p.command(seq), nil); !errors.Is(err, storage.ErrBadSST) {
				t.Errorf("applying it gives %v", err)
			}
		})
	}
	if _, err := c.nodes[1].db.AddSSTable(ctx, span, good, kv.AddSSTableOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.nodes[2].db.Put(ctx, tableKey(50), kvpb.EncodeInt(tableKey(50), 1)); err != nil {
		t.Fatal(err)
	}
	c.checkReplicas(1, 3)
}

// What is too large for a log is refused before it is in one, and that is no
// ambiguous result.
func TestLargeCommandsAreRefused(t *testing.T) {
	c := newTestCluster(t, 3)
	c.replicate(tableKey(0), 2, 3)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	db := c.nodes[1].db
	value := kvpb.EncodeBytes(tableKey(1), make([]byte, maxCommandBytes))
	check := func(what string, err error) {
		t.Helper()
		var unknown *kvpb.AmbiguousResultError
		if pgerr.GetCode(err) != pgerr.ProgramLimitExceeded || errors.As(err, &unknown) || pgerr.Flatten(err).Hint == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("put", db.Put(ctx, tableKey(1), value))
	txn := db.NewTxn(ctx, "large")
	b := txn.NewBatch()
	b.Put(tableKey(1), value)
	check("commit in one phase", txn.CommitInBatch(ctx, b))
	if err := txn.Rollback(ctx); err != nil {
		t.Error(err)
	}
	_, err := db.AddSSTable(ctx, keys.Span{Key: tableKey(0), EndKey: tableKey(5)}, bigSST(t), kv.AddSSTableOptions{})
	check("sstable", err)
	if err := db.Put(ctx, tableKey(1), value[:len(value)/1000]); err != nil {
		t.Error(err)
	}
	c.checkReplicas(1, 3)
}

func bigSST(t *testing.T) []byte {
	t.Helper()
	value := make([]byte, maxCommandBytes+1)
	for i, x := 0, uint64(1); i < len(value); i++ {
		x = x*6364136223846793005 + 1442695040888963407 // It must not compress.
		value[i] = byte(x >> 56)
	}
	var buf storage.SSTBuffer
	w := storage.NewSSTWriter(&buf, storage.CompressFast)
	if err := w.PutVersion(storage.MVCCKey{Key: tableKey(1), Timestamp: storage.PlaceholderTimestamp}, kvpb.EncodeBytes(tableKey(1), value)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
