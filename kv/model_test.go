package kv_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvtest"
)

// TestRandomBatchesAgainstAMap runs random transactions, with batches that cross
// range boundaries, limits, savepoints and rollbacks, while ranges split, and
// compares every result with a plain map.
func TestRandomBatchesAgainstAMap(t *testing.T) {
	s := seed(t)
	rng := rand.New(rand.NewPCG(s, 3))
	db := kvtest.NewDB(t)
	const n = 60
	k := func(i int) keys.Key { return key("%03d", i) }
	committed := map[string]string{}
	for round := range 300 {
		if rng.IntN(20) == 0 {
			ok(t, db.AdminSplit(ctx, k(rng.IntN(n))))
		}
		m := maps.Clone(committed)
		txn := db.NewTxn(ctx, "random")
		if rng.IntN(2) == 0 {
			get(t, txn, key("fixes the snapshot"))
		}
		scanModel := func(lo, hi int, reverse bool) (out []string) {
			for i := lo; i < hi; i++ {
				if v, exists := m[string(k(i))]; exists {
					out = append(out, fmt.Sprintf("%s=%s", k(i), v))
				}
			}
			if reverse {
				slices.Reverse(out)
			}
			return out
		}
		for range 1 + rng.IntN(6) {
			lo := rng.IntN(n - 1)
			hi := lo + 1 + rng.IntN(n-lo-1)
			switch rng.IntN(6) {
			case 0, 1: // a batch of writes
				b := txn.NewBatch()
				for range 1 + rng.IntN(12) {
					i := rng.IntN(n)
					v := fmt.Sprint(rng.IntN(1000))
					switch old, exists := m[string(k(i))]; rng.IntN(4) {
					case 0:
						b.Del(k(i))
						delete(m, string(k(i)))
						continue
					case 1:
						var expected []byte
						if exists {
							expected = val(old)
						}
						b.CPut(k(i), val(v), expected)
					default:
						b.Put(k(i), val(v))
					}
					m[string(k(i))] = v
				}
				ok(t, txn.Run(ctx, b))
			case 2:
				want := len(scanModel(lo, hi, false))
				got, err := txn.DelRange(ctx, k(lo), k(hi))
				ok(t, err)
				if int(got) != want {
					t.Fatalf("round %d: deleted %d of [%d, %d), want %d", round, got, lo, hi, want)
				}
				for i := lo; i < hi; i++ {
					delete(m, string(k(i)))
				}
			case 3: // a detour
				sp, err := txn.Savepoint(ctx)
				ok(t, err)
				_, err = txn.DelRange(ctx, k(lo), k(hi))
				ok(t, err)
				ok(t, txn.Put(ctx, k(lo), val("detour")))
				ok(t, txn.RollbackTo(ctx, sp))
			default:
				o := kv.ScanOptions{Reverse: rng.IntN(2) == 0, ForUpdate: rng.IntN(4) == 0}
				if rng.IntN(2) == 0 {
					o.MaxKeys = int64(1 + rng.IntN(10))
				}
				if rng.IntN(3) == 0 {
					o.TargetBytes = int64(1 + rng.IntN(200))
				}
				want := scanModel(lo, hi, o.Reverse)
				var got []string
				pages := 0
				for rest := (&keys.Span{Key: k(lo), EndKey: k(hi)}); rest != nil; pages++ {
					r, err := txn.Scan(ctx, rest.Key, rest.EndKey, o)
					ok(t, err)
					if o.MaxKeys > 0 && int64(len(r.KVs)) > o.MaxKeys {
						t.Fatalf("round %d: %d keys, the limit is %d", round, len(r.KVs), o.MaxKeys)
					}
					for _, p := range r.KVs {
						got = append(got, fmt.Sprintf("%s=%s", p.Key, str(p.Value)))
					}
					rest = r.Resume
				}
				if !slices.Equal(got, want) {
					t.Fatalf("round %d: scan of [%d, %d) with %+v in %d pages:\n got %v\nwant %v", round, lo, hi, o, pages, got, want)
				}
			}
		}
		switch rng.IntN(3) {
		case 0:
			ok(t, txn.Rollback(ctx))
			continue
		case 1:
			b := txn.NewBatch()
			i := rng.IntN(n)
			b.Put(k(i), val("last"))
			m[string(k(i))] = "last"
			ok(t, txn.CommitInBatch(ctx, b))
		default:
			ok(t, txn.Commit(ctx))
		}
		committed = m
	}
	ok(t, db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		for i := range n {
			if got, want := get(t, txn, k(i)), committed[string(k(i))]; got != want {
				t.Errorf("key %d is %q, want %q", i, got, want)
			}
		}
		return nil
	}))
}
