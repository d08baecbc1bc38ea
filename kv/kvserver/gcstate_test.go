package kvserver

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
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

// Thresholds of several spans of one range that are raised at once are all kept.
func TestThresholdsRaisedAtOnce(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		c := newTestCluster(t, nodes)
		if nodes > 1 {
			c.replicate(tableKey(0), 2, 3)
		}
		s := c.node(1).store
		at := s.clock.Now().Add(-time.Hour)
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				ba := &kvpb.BatchRequest{}
				ba.Add(kvpb.Request{Op: kvpb.OpGC, Key: tableKey(i), EndKey: tableKey(i + 1), Args: &kvpb.GCArgs{Threshold: at.Add(time.Duration(i) * time.Second)}})
				if _, err := s.sender.Send(context.Background(), ba); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for i := range 30 {
			if th := s.replica(1).gc.Load().threshold(keys.Span{Key: tableKey(i)}); th != at.Add(time.Duration(i)*time.Second) {
				t.Errorf("%d nodes: the threshold of %s is %s", nodes, tableKey(i), th)
			}
		}
	}
}
