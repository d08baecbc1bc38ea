package sql

import (
	"context"
	"encoding/json"
	"slices"
	"time"
)

// NodeStatus is what is known of a node of the cluster, some of it by hearsay.
type NodeStatus struct {
	NodeID                           int32
	Address, SQLAddress, HTTPAddress string
	Locality                         string // "region=eu,zone=a"
	Attrs                            []string
	Version                          string
	Started, Updated                 time.Time // of its process; when it was last alive

	// Live says that its record is renewed, Available that it also answers.
	Live, Available bool
	Draining        bool
	Membership      string // active, decommissioning, decommissioned
	Epoch           int64
	Expiration      time.Time

	Stores []StoreStatus
}

// StoreStatus is what a node said last of a store, in bytes and counts.
type StoreStatus struct {
	StoreID                   int32
	Attrs                     []string
	Capacity, Available, Used int64
	Ranges, Leases            int
}

// nodes returns all nodes of the cluster, by id.
func (s *Server) nodes(ctx context.Context) ([]NodeStatus, error) {
	if s.cfg.Nodes != nil {
		return s.cfg.Nodes(ctx)
	}
	now := time.Now()
	return []NodeStatus{{
		NodeID: s.cfg.NodeID, Address: s.cfg.SQLAddr, SQLAddress: s.cfg.SQLAddr, HTTPAddress: s.cfg.HTTPAddr, Locality: s.cfg.Locality,
		Version: s.cfg.Version, Started: s.started, Updated: now, Live: true, Available: true, Membership: "active", Epoch: 1,
	}}, nil
}

// jsonList is a list of words as a JSON text.
func jsonList(words []string) string {
	if len(words) == 0 {
		return "[]"
	}
	b, err := json.Marshal(words)
	if err != nil {
		return "[]" // Strings always have a form.
	}
	return string(b)
}

// eachNode calls fn for all nodes of the cluster.
func (v *vctx) eachNode(ctx context.Context, fn func(*NodeStatus) error) error {
	all, err := v.p.srv.nodes(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		if err := fn(&all[i]); err != nil {
			return err
		}
	}
	return nil
}

func (n *NodeStatus) counts() (ranges, leases int) {
	for _, s := range n.Stores {
		ranges += s.Ranges
		leases += s.Leases
	}
	return ranges, leases
}

func vcStoreStatus(ctx context.Context, v *vctx, add func(vrow) error) error {
	return v.eachNode(ctx, func(n *NodeStatus) error {
		for _, s := range n.Stores {
			if err := add(vrow{"node_id": n.NodeID, "store_id": s.StoreID, "attrs": jsonList(s.Attrs), "capacity": s.Capacity,
				"available": s.Available, "used": s.Used, "range_count": s.Ranges, "lease_count": s.Leases}); err != nil {
				return err
			}
		}
		return nil
	})
}

// vcLeasesByLocality sums up where data is served.
func vcLeasesByLocality(ctx context.Context, v *vctx, add func(vrow) error) error {
	type sum struct {
		nodes          []any
		ranges, leases int
	}
	by := map[string]*sum{}
	var order []string
	err := v.eachNode(ctx, func(n *NodeStatus) error {
		s := by[n.Locality]
		if s == nil {
			s = &sum{}
			by[n.Locality] = s
			order = append(order, n.Locality)
		}
		ranges, leases := n.counts()
		s.nodes = append(s.nodes, int64(n.NodeID))
		if n.Live {
			s.ranges += ranges
			s.leases += leases
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(order)
	for _, locality := range order {
		s := by[locality]
		if err := add(vrow{"locality": locality, "node_ids": s.nodes, "replicas": s.ranges, "leases": s.leases}); err != nil {
			return err
		}
	}
	return nil
}
