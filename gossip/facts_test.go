package gossip

import (
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/gossip/gossippb"
)

// Whatever the order, repetition and grouping in which facts arrive, all end
// with the same.
func TestMergeNeedsNoOrder(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	var said []*gossippb.Facts
	for range 300 {
		f := &gossippb.Facts{}
		for range rng.IntN(3) {
			f.Nodes = append(f.Nodes, &gossippb.Node{
				NodeId: 1 + rng.Int32N(4), Started: rng.Int64N(3), Sequence: rng.Int64N(4), Draining: rng.IntN(2) == 0,
			})
		}
		for range rng.IntN(3) {
			f.Leases = append(f.Leases, &gossippb.Lease{
				RangeId: 1 + rng.Int64N(4), Generation: rng.Int64N(3), Sequence: rng.Int64N(3), NodeId: 1 + rng.Int32N(3),
			})
		}
		if rng.IntN(3) == 0 {
			f.FirstRange = &gossippb.FirstRange{Generation: rng.Int64N(4), RangeDescriptor: []byte{byte(rng.IntN(3))}}
		}
		said = append(said, f)
	}
	var want *gossippb.Facts
	for range 20 {
		f := newFacts()
		for range 2 {
			rng.Shuffle(len(said), func(i, j int) { said[i], said[j] = said[j], said[i] })
			for _, s := range said {
				f.merge(s)
			}
		}
		got := f.all()
		if want == nil {
			want = got
		} else if !proto.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

func TestMergeReturnsNewsOnly(t *testing.T) {
	f := newFacts()
	old := &gossippb.Lease{RangeId: 7, Generation: 2, Sequence: 5, NodeId: 1}
	if news := f.merge(&gossippb.Facts{Leases: []*gossippb.Lease{old}}); len(news.GetLeases()) != 1 {
		t.Fatalf("first hint is news: %v", news)
	}
	for _, l := range []*gossippb.Lease{old, {RangeId: 7, Generation: 2, Sequence: 4, NodeId: 2}, {RangeId: 7, Generation: 1, Sequence: 9, NodeId: 3}, {}} {
		if news := f.merge(&gossippb.Facts{Leases: []*gossippb.Lease{l}}); news != nil {
			t.Errorf("%v is no news after %v", l, old)
		}
	}
	if news := f.merge(&gossippb.Facts{Leases: []*gossippb.Lease{{RangeId: 7, Generation: 3, NodeId: 2}}}); news == nil || f.lease(7).NodeId != 2 {
		t.Errorf("a later generation is news")
	}
	for gen, isNews := range []bool{true, true, false, true, false} {
		r := &gossippb.FirstRange{Generation: []int64{1, 3, 2, 4, 4}[gen]}
		if news := f.merge(&gossippb.Facts{FirstRange: r}); (news != nil) != isNews {
			t.Errorf("first range of generation %d: news %v, want %t", r.Generation, news, isNews)
		}
	}
	if got := f.firstRange().GetGeneration(); got != 4 {
		t.Errorf("generation %d, want 4", got)
	}
}
