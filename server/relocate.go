package server

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/server/adminpb"
)

// Relocate implements the service.
func (s *adminServer) Relocate(ctx context.Context, q *adminpb.RelocateRequest) (*adminpb.RelocateResponse, error) {
	if err := s.checkServed(); err != nil {
		return nil, err
	}
	var want []kvpb.ReplicaDescriptor
	for _, id := range q.GetNodeIds() {
		n, ok := s.c.gossip.Node(id)
		if !ok || len(n.Stores) == 0 {
			return nil, status.Errorf(codes.NotFound, "nobody has heard of n%d", id)
		}
		want = append(want, kvpb.ReplicaDescriptor{NodeID: kvpb.NodeID(id), StoreID: kvpb.StoreID(n.Stores[0].StoreId)})
	}
	if len(want) == 0 {
		return nil, status.Error(codes.InvalidArgument, "no nodes were given")
	}
	ranges, err := s.c.n.db.Ranges(ctx, keys.Span{Key: keys.MinKey, EndKey: keys.MaxKey})
	if err != nil {
		return nil, err
	}
	resp := &adminpb.RelocateResponse{}
	for i := range ranges {
		d := &ranges[i].Descriptor
		if q.GetRangeId() != 0 && int64(d.RangeID) != q.GetRangeId() {
			continue
		}
		changed, err := s.c.relocate(ctx, d, want)
		if err != nil {
			return nil, status.Error(codes.FailedPrecondition, fmt.Sprintf("moving %s: %v", d, err))
		}
		if changed {
			resp.Ranges++
		}
	}
	return resp, nil
}

// relocate brings the range of d to the stores of want, the lease to the first one.
func (c *cluster) relocate(ctx context.Context, d *kvpb.RangeDescriptor, want []kvpb.ReplicaDescriptor) (changed bool, err error) {
	there := 0
	for _, w := range want {
		if r, ok := d.ReplicaOn(w.StoreID); ok && r.Type == kvpb.ReplicaVoter {
			there++
		}
	}
	if there == len(want) && len(d.Replicas) == len(want) {
		return false, nil
	}
	return true, c.n.db.AdminRelocate(ctx, d.StartKey, want, nil, true)
}
