package kvserver

import (
	"math/rand/v2"
	"testing"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// The thresholds of random raises are those of a plain array.
func TestGCStateAgainstAnArray(t *testing.T) {
	s := rand.Uint64()
	t.Logf("seed %d", s)
	rng := rand.New(rand.NewPCG(s, 1))
	const n = 20
	k := func(i int) keys.Key { return keys.Key{byte(i)} }
	for range 300 {
		var g *gcState
		var model [n]int64
		for range 1 + rng.IntN(8) {
			lo := rng.IntN(n - 1)
			hi := lo + 1 + rng.IntN(n-lo-1)
			ts := int64(1 + rng.IntN(5))
			g = g.raise(keys.Span{Key: k(lo), EndKey: k(hi)}, hlc.Timestamp{WallTime: ts})
			for i := lo; i < hi; i++ {
				model[i] = max(model[i], ts)
			}
		}
		for i := 1; i < len(g.spans); i++ {
			if g.spans[i].Key.Less(g.spans[i-1].EndKey) {
				t.Fatalf("spans overlap or are out of order: %v", g.spans)
			}
		}
		b, err := g.encode()
		if err != nil {
			t.Fatal(err)
		}
		if g, err = decodeGCState(b); err != nil {
			t.Fatal(err)
		}
		for lo := range n - 1 {
			for hi := lo + 1; hi < n; hi++ {
				wantMax, wantMin := int64(0), model[lo]
				for _, v := range model[lo:hi] {
					wantMax, wantMin = max(wantMax, v), min(wantMin, v)
				}
				sp := keys.Span{Key: k(lo), EndKey: k(hi)}
				if got := g.threshold(sp).WallTime; got != wantMax {
					t.Fatalf("[%d,%d): threshold %d, want %d in %v", lo, hi, got, wantMax, g.spans)
				}
				if got := g.lowest(sp).WallTime; got != wantMin {
					t.Fatalf("[%d,%d): lowest %d, want %d in %v", lo, hi, got, wantMin, g.spans)
				}
				if got := g.within(sp).threshold(sp).WallTime; got != wantMax {
					t.Fatalf("[%d,%d): threshold within %d, want %d", lo, hi, got, wantMax)
				}
			}
		}
	}
}
