package gossip

import (
	"cmp"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/gossip/gossippb"
)

// facts is what a node knows.
//
// Invariant: an entry is only replaced by a later one of the same node or range,
// so merging is commutative, associative and idempotent. Messages are shared and
// never changed once they are in.
type facts struct {
	mu     sync.Mutex
	nodes  map[int32]*gossippb.Node
	leases map[int64]*gossippb.Lease
	first  *gossippb.FirstRange
}

func newFacts() *facts {
	return &facts{nodes: map[int32]*gossippb.Node{}, leases: map[int64]*gossippb.Lease{}}
}

// merge takes in what is news and returns it, nil if there was none.
func (f *facts) merge(in *gossippb.Facts) *gossippb.Facts {
	f.mu.Lock()
	defer f.mu.Unlock()
	news := &gossippb.Facts{}
	for _, n := range in.GetNodes() {
		if n.GetNodeId() > 0 && compareNodes(f.nodes[n.NodeId], n) < 0 {
			f.nodes[n.NodeId] = n
			news.Nodes = append(news.Nodes, n)
		}
	}
	for _, l := range in.GetLeases() {
		if l.GetRangeId() > 0 && compareLeases(f.leases[l.RangeId], l) < 0 {
			f.leases[l.RangeId] = l
			news.Leases = append(news.Leases, l)
		}
	}
	if first := in.GetFirstRange(); first != nil && compareFirstRanges(f.first, first) < 0 {
		f.first, news.FirstRange = first, first
	}
	if len(news.Nodes)+len(news.Leases) == 0 && news.FirstRange == nil {
		return nil
	}
	return news
}

// compareNodes orders descriptors of one node by age; nil is the oldest. Two that
// claim the same version are ordered by their bytes, so that all nodes end with
// the same one.
func compareNodes(a, b *gossippb.Node) int {
	return cmp.Or(
		cmp.Compare(a.GetStarted(), b.GetStarted()),
		cmp.Compare(a.GetSequence(), b.GetSequence()),
		compareBytes(a, b),
	)
}

// compareLeases orders hints about one range by age; nil is the oldest.
func compareLeases(a, b *gossippb.Lease) int {
	return cmp.Or(
		cmp.Compare(a.GetGeneration(), b.GetGeneration()),
		cmp.Compare(a.GetSequence(), b.GetSequence()),
		compareBytes(a, b),
	)
}

func compareFirstRanges(a, b *gossippb.FirstRange) int {
	return cmp.Or(cmp.Compare(a.GetGeneration(), b.GetGeneration()), compareBytes(a, b))
}

func compareBytes(a, b proto.Message) int {
	opts := proto.MarshalOptions{Deterministic: true}
	x, _ := opts.Marshal(a) // These messages hold nothing that cannot be encoded,
	y, _ := opts.Marshal(b) // and were decoded or checked before.
	return slices.Compare(x, y)
}

// all returns everything, in order of ids.
func (f *facts) all() *gossippb.Facts {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &gossippb.Facts{FirstRange: f.first}
	for _, n := range f.nodes {
		out.Nodes = append(out.Nodes, n)
	}
	for _, l := range f.leases {
		out.Leases = append(out.Leases, l)
	}
	slices.SortFunc(out.Nodes, func(a, b *gossippb.Node) int { return cmp.Compare(a.NodeId, b.NodeId) })
	slices.SortFunc(out.Leases, func(a, b *gossippb.Lease) int { return cmp.Compare(a.RangeId, b.RangeId) })
	return out
}

func (f *facts) node(id int32) *gossippb.Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes[id]
}

func (f *facts) firstRange() *gossippb.FirstRange {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.first
}

func (f *facts) lease(rangeID int64) *gossippb.Lease {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leases[rangeID]
}
