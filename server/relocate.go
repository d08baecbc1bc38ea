package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/server/adminpb"
)

// relocateTries is how often a range is tried that changes meanwhile, or whose lease
// moves.
const relocateTries = 20

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
	for range relocateTries {
		var add []kvpb.ReplicaDescriptor
		var remove []kvpb.StoreID
		for _, w := range want {
			if r, ok := d.ReplicaOn(w.StoreID); !ok || r.Type != kvpb.ReplicaVoter {
				add = append(add, w)
			}
		}
		for _, r := range d.Replicas {
			if !slices.ContainsFunc(want, func(w kvpb.ReplicaDescriptor) bool { return w.StoreID == r.StoreID }) {
				remove = append(remove, r.StoreID)
			}
		}
		if len(add)+len(remove) == 0 {
			return changed, nil
		}
		changed = true
		err = c.changeRange(ctx, d.StartKey, kvpb.OpAdminChangeReplicas, &kvpb.ChangeReplicasArgs{Generation: d.Generation, Add: add})
		if err == nil && (len(remove) > 0 || len(add) > 0) {
			// A replica that serves cannot be removed.
			err = c.changeRange(ctx, d.StartKey, kvpb.OpAdminTransferLease, &kvpb.TransferLeaseArgs{To: want[0].StoreID})
		}
		if err == nil && len(remove) > 0 {
			err = c.changeRange(ctx, d.StartKey, kvpb.OpAdminChangeReplicas, &kvpb.ChangeReplicasArgs{Remove: remove})
		}
		if err == nil {
			return changed, nil
		}
		if ctx.Err() != nil {
			return changed, ctx.Err()
		}
		c.n.log.Info("a range could not be moved; will try again", "range", int64(d.RangeID), "err", err)
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return changed, ctx.Err()
		}
		infos, rerr := c.n.db.Ranges(ctx, keys.Span{Key: d.StartKey, EndKey: d.StartKey.Next()})
		if rerr != nil || len(infos) == 0 {
			return changed, rerr
		}
		d = &infos[0].Descriptor
	}
	return changed, err
}

func (c *cluster) changeRange(ctx context.Context, key keys.Key, op kvpb.Op, args kvpb.Args) error {
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: op, Key: key, Args: args})
	_, err := c.n.store.Sender().Send(ctx, ba)
	return err
}
