package server

import (
	"context"
	"slices"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/zones"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/allocator"
	"github.com/holdfastdb/holdfast/kv/liveness"
)

// stores is what the keyspace may know of all stores to decide where ranges belong:
// what the nodes say of themselves and what their liveness records say of them. Until
// zones can be read nobody decides anything.
func (c *cluster) stores() []allocator.Store {
	select {
	case <-c.opened:
	default:
		return nil
	}
	if c.n.gc.srv.Load() == nil {
		return nil
	}
	var out []allocator.Store
	heard := map[kvpb.NodeID]bool{}
	for _, s := range c.gossip.Nodes() {
		id := kvpb.NodeID(s.NodeId)
		heard[id] = true
		base := allocator.Store{NodeID: id, Draining: s.Draining}
		if !c.judge(&base) {
			continue
		}
		if s.Suspected && id != c.n.ident.NodeID && base.Liveness == allocator.Live {
			base.Liveness = allocator.Suspect
		}
		for _, t := range s.Locality {
			base.Locality = append(base.Locality, allocator.Tier{Key: t.Key, Value: t.Value})
		}
		for _, st := range s.Stores {
			one := base
			one.StoreID, one.Capacity, one.Available = kvpb.StoreID(st.StoreId), st.Capacity, st.Available
			one.Ranges, one.Leases = int(st.Ranges), int(st.Leases)
			one.Attrs = slices.Concat(s.Attrs, st.Attrs)
			out = append(out, one)
		}
	}
	// Of nodes that were gone before this process began, only the record is left. The
	// first store of a node has its id.
	for _, r := range c.live.Records() {
		if !heard[r.NodeID] {
			one := allocator.Store{NodeID: r.NodeID, StoreID: kvpb.StoreID(r.NodeID)}
			if c.judge(&one); one.Liveness == allocator.Live {
				one.Liveness = allocator.Suspect // What it has is not known.
			}
			out = append(out, one)
		}
	}
	return out
}

// judge says by its liveness record how well a store's node is, and false if it has
// none yet.
func (c *cluster) judge(s *allocator.Store) bool {
	r, ok := c.live.Record(s.NodeID)
	if !ok {
		return false
	}
	s.Draining = s.Draining || r.Draining
	s.Decommissioning = r.Membership != liveness.Active
	switch {
	case c.live.IsDead(s.NodeID), r.Membership == liveness.Decommissioned:
		s.Liveness = allocator.Dead
	case !c.live.IsLive(s.NodeID):
		s.Liveness = allocator.Suspect
	}
	return true
}

// zoneConfig says which zone configuration holds at the beginning of span, and where
// inside it another one begins.
func (n *Node) zoneConfig(ctx context.Context, span keys.Span) (zones.Config, []keys.Key, error) {
	srv := n.gc.srv.Load()
	if srv == nil {
		return zones.Default(), nil, nil
	}
	return srv.ZoneConfig(ctx, span)
}
