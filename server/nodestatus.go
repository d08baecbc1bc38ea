package server

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/holdfastdb/holdfast/gossip/gossippb"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/liveness"
	"github.com/holdfastdb/holdfast/sql"
)

// recordsTimeout is how long what nodes report waits for the liveness records, which
// nobody may serve just when somebody wants to know who is gone.
const recordsTimeout = 5 * time.Second

// records returns the liveness records as they are: who has just changed a
// membership must see the change. If nobody serves them they are as this node last
// heard.
func (c *cluster) records(ctx context.Context) ([]liveness.Record, error) {
	reading, cancel := context.WithTimeout(ctx, recordsTimeout)
	defer cancel()
	all, err := c.live.ReadAll(reading)
	switch {
	case err == nil:
		return all, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	c.n.log.WarnContext(ctx, "the liveness records cannot be read; reporting what was last heard of the nodes", "err", err)
	return c.live.Records(), nil
}

// nodes puts together what the liveness records say of all nodes, and what this one
// has last heard of them.
func (c *cluster) nodes(ctx context.Context) ([]sql.NodeStatus, error) {
	records, err := c.records(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[kvpb.NodeID]*sql.NodeStatus{}
	at := func(id kvpb.NodeID) *sql.NodeStatus {
		n := byID[id]
		if n == nil {
			n = &sql.NodeStatus{NodeID: int32(id), Membership: liveness.Active.String()}
			byID[id] = n
		}
		return n
	}
	for _, r := range records {
		n := at(r.NodeID)
		n.Address, n.Started, n.Epoch, n.Expiration = r.Address, time.Unix(0, r.Started).UTC(), r.Epoch, r.Expiration.UTC()
		n.Draining, n.Membership = r.Draining, r.Membership.String()
		n.Live = c.live.IsLive(r.NodeID)
		n.Updated = n.Expiration.Add(-liveness.DefaultTTL)
	}
	for _, s := range c.gossip.Nodes() {
		n := at(kvpb.NodeID(s.NodeId))
		n.Available = n.Live && (!s.Suspected || s.NodeId == int32(c.n.ident.NodeID))
		n.Draining = n.Draining || s.Draining
		fillFromGossip(n, s.Node)
	}
	out := make([]sql.NodeStatus, 0, len(byID))
	for _, n := range byID {
		out = append(out, *n)
	}
	slices.SortFunc(out, func(a, b sql.NodeStatus) int { return cmp.Compare(a.NodeID, b.NodeID) })
	return out, nil
}

func fillFromGossip(n *sql.NodeStatus, g *gossippb.Node) {
	n.Address, n.SQLAddress, n.HTTPAddress = g.Address, g.SqlAddress, g.HttpAddress
	n.Locality, n.Attrs, n.Version = localityText(g.Locality), g.Attrs, g.Build
	n.Started = time.Unix(0, g.Started).UTC()
	n.Stores = nil
	for _, s := range g.Stores {
		n.Stores = append(n.Stores, sql.StoreStatus{
			StoreID: s.StoreId, Attrs: s.Attrs, Capacity: s.Capacity, Available: s.Available, Used: s.Used,
			Ranges: int(s.Ranges), Leases: int(s.Leases),
		})
	}
}
