package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/liveness"
	"github.com/holdfastdb/holdfast/server/adminpb"
)

// adminServer does what commands ask for.
type adminServer struct {
	adminpb.UnimplementedAdminServer
	c *cluster
}

// Init implements the service.
func (s *adminServer) Init(ctx context.Context, req *adminpb.InitRequest) (*adminpb.InitResponse, error) {
	if cfg := &s.c.n.cfg; !req.GetAnyClusterName() && !cfg.AnyClusterName {
		if err := checkClusterName(req.GetClusterName(), cfg.ClusterName); err != nil {
			return nil, status.Error(codes.FailedPrecondition, err.Error())
		}
	}
	q := initRequest{done: make(chan error, 1)}
	select {
	case <-s.c.identified:
		return nil, status.Error(codes.AlreadyExists, errAlreadyInitialized.Error())
	case s.c.inits <- q:
	case <-ctx.Done():
		return nil, status.Error(codes.Unavailable, "the node is starting")
	}
	if err := <-q.done; err != nil {
		code := codes.Internal
		if errors.Is(err, errAlreadyInitialized) {
			code = codes.AlreadyExists
		}
		return nil, status.Error(code, err.Error())
	}
	// Clients are served when the command returns.
	select {
	case <-s.c.served:
	case <-ctx.Done():
	}
	id := s.c.ident.Load().ClusterID
	return &adminpb.InitResponse{ClusterId: id[:]}, nil
}

func (s *adminServer) checkServed() error {
	select {
	case <-s.c.served:
		return nil
	default:
		return status.Error(codes.Unavailable, "the node does not serve clients yet")
	}
}

// Drain implements the service.
func (s *adminServer) Drain(q *adminpb.DrainRequest, stream grpc.ServerStreamingServer[adminpb.DrainProgress]) error {
	if err := s.checkServed(); err != nil {
		return err
	}
	n, ctx := s.c.n, stream.Context()
	if id := kvpb.NodeID(q.GetNodeId()); id != 0 && id != n.ident.NodeID {
		return s.forwardDrain(q, stream)
	}
	n.drain(ctx, func(remaining int) {
		_ = stream.Send(&adminpb.DrainProgress{Remaining: int64(remaining)}) // Draining goes on if nobody listens.
	})
	if err := stream.Send(&adminpb.DrainProgress{Drained: true}); err != nil {
		return err
	}
	if q.GetShutdown() {
		n.stopItself()
	}
	return nil
}

// forwardDrain asks the node itself.
func (s *adminServer) forwardDrain(q *adminpb.DrainRequest, stream grpc.ServerStreamingServer[adminpb.DrainProgress]) error {
	address, err := s.c.addressOf(kvpb.NodeID(q.GetNodeId()))
	if err != nil {
		return status.Error(codes.NotFound, err.Error())
	}
	client, closeClient, err := DialAdmin(address)
	if err != nil {
		return err
	}
	defer closeClient()
	from, err := client.Drain(stream.Context(), &adminpb.DrainRequest{NodeId: q.GetNodeId(), Shutdown: q.GetShutdown()})
	for err == nil {
		var p *adminpb.DrainProgress
		if p, err = from.Recv(); err == nil {
			err = stream.Send(p)
			if p.GetDrained() {
				return err
			}
		}
	}
	return err
}

// Members implements the service.
func (s *adminServer) Members(ctx context.Context, q *adminpb.MembersRequest) (*adminpb.MembersResponse, error) {
	if err := s.checkServed(); err != nil {
		return nil, err
	}
	resp, err := s.members(ctx, q)
	if errors.Is(err, liveness.ErrNoRecord) {
		return nil, status.Error(codes.NotFound, err.Error())
	}
	if err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return resp, nil
}

func (s *adminServer) members(ctx context.Context, q *adminpb.MembersRequest) (*adminpb.MembersResponse, error) {
	n := s.c.n
	ids := q.GetNodeIds()
	if len(ids) == 0 {
		ids = []int32{int32(n.ident.NodeID)}
	}
	all, err := s.c.live.ReadAll(ctx)
	if err != nil {
		return nil, err
	}
	ranges, err := n.db.Ranges(ctx, keys.Span{Key: keys.MinKey, EndKey: keys.MaxKey})
	if err != nil {
		return nil, err
	}
	resp := &adminpb.MembersResponse{}
	replicas := replicasOf(ranges)
	if q.GetChange() == adminpb.MembershipChange_DECOMMISSION && q.GetCheck() {
		if resp.Problem = cannotGo(ids, all, ranges); resp.Problem != "" {
			return resp, nil
		}
	}
	now := s.c.clock.PhysicalTime()
	for _, id := range ids {
		i := slices.IndexFunc(all, func(r liveness.Record) bool { return r.NodeID == kvpb.NodeID(id) })
		if i < 0 {
			return nil, fmt.Errorf("n%d: %w", id, liveness.ErrNoRecord)
		}
		r := &all[i]
		to, change := r.Membership, true
		switch q.GetChange() {
		case adminpb.MembershipChange_DECOMMISSION:
			to, change = liveness.Decommissioning, r.Membership == liveness.Active
		case adminpb.MembershipChange_RECOMMISSION:
			to = liveness.Active
		case adminpb.MembershipChange_FINISH:
			to, change = liveness.Decommissioned, replicas[r.NodeID] == 0
		default:
			change = false
		}
		if change {
			if r, err = s.c.live.SetMembership(ctx, r.NodeID, to); err != nil {
				return nil, err
			}
		}
		resp.Members = append(resp.Members, &adminpb.Member{
			NodeId: id, IsLive: now.Before(r.Expiration), Replicas: int64(replicas[r.NodeID]),
			Membership: r.Membership.String(), IsDraining: r.Draining,
		})
	}
	return resp, nil
}

func replicasOf(ranges []kvpb.RangeInfo) map[kvpb.NodeID]int {
	out := map[kvpb.NodeID]int{}
	for i := range ranges {
		for _, r := range ranges[i].Descriptor.Replicas {
			out[r.NodeID]++
		}
	}
	return out
}

// enoughNodes is how many nodes are always enough: ranges that would like more
// replicas make do with fewer nodes.
const enoughNodes = 3

// cannotGo says why the replicas of nodes could not all find another place; empty
// if they can.
func cannotGo(ids []int32, all []liveness.Record, ranges []kvpb.RangeInfo) string {
	left := map[kvpb.NodeID]bool{}
	for _, r := range all {
		if r.Membership == liveness.Active && !slices.Contains(ids, int32(r.NodeID)) {
			left[r.NodeID] = true
		}
	}
	blocked := 0
	for i := range ranges {
		replicas := ranges[i].Descriptor.Replicas
		here := slices.ContainsFunc(replicas, func(r kvpb.ReplicaDescriptor) bool { return slices.Contains(ids, int32(r.NodeID)) })
		if here && len(replicas) > len(left) && len(left) < enoughNodes {
			blocked++
		}
	}
	if blocked == 0 {
		return ""
	}
	return fmt.Sprintf("%d ranges have more replicas than the %d nodes that would be left", blocked, len(left))
}
