package noderpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvpb/wirepb"
	"github.com/holdfastdb/holdfast/kv/noderpc/noderpcpb"
)

// Server receives what the Dialers of other nodes send.
type Server struct {
	noderpcpb.UnimplementedNodeServer
	cfg Config
	h   Handler
	g   *grpc.Server

	refusals struct {
		sync.Mutex
		logged time.Time
	}
	raft struct {
		sync.Mutex
		sources map[kvpb.NodeID]*raftSource
	}
}

// raftSource is a node that sends raft messages. Only its newest stream counts:
// what another one still has is older.
type raftSource struct {
	sync.Mutex // held while messages are handed on
	newest     atomic.Int64
}

// NewServer returns a Server that hands what comes to h, from Serve on.
func NewServer(cfg Config, h Handler) *Server {
	s := &Server{cfg: cfg.withDefaults(), h: h}
	s.raft.sources = map[kvpb.NodeID]*raftSource{}
	s.g = grpc.NewServer(
		grpc.ForceServerCodecV2(codec{}), grpc.MaxRecvMsgSize(MaxMessageBytes), grpc.MaxSendMsgSize(MaxMessageBytes),
		grpc.StaticStreamWindowSize(streamWindow), grpc.StaticConnWindowSize(connWindow), grpc.WaitForHandlers(true),
		// A sender that is gone without a word does not hold its streams for ever.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 5 * time.Second, Timeout: 5 * time.Second}),
	)
	noderpcpb.RegisterNodeServer(s.g, s)
	return s
}

// Services takes services that are served beside this package's, before Serve. Their
// messages need the generated methods that its own have.
func (s *Server) Services() grpc.ServiceRegistrar { return s.g }

// Serve receives connections of l until ctx is done. When it returns, l is closed
// and no goroutine of the Server is left. A Server serves once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		s.g.Stop()
		close(stopped)
	})
	err := s.g.Serve(l)
	if stop() {
		s.g.Stop()
		return err
	}
	<-stopped
	return nil
}

// admit returns who sends a stream, or why it is refused.
func (s *Server) admit(ctx context.Context) (kvpb.NodeID, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	get := func(key string) string {
		if v := md.Get(key); len(v) > 0 {
			return v[0]
		}
		return ""
	}
	from, _ := strconv.ParseInt(get(keyFrom), 10, 32)
	to, _ := strconv.ParseInt(get(keyTo), 10, 32)
	if err := s.cfg.Identity().check(fmt.Sprintf("the sender, n%d,", from), []byte(get(keyCluster)), kvpb.NodeID(to)); err != nil {
		return 0, s.refuse(err)
	}
	return kvpb.NodeID(from), nil
}

// refuse logs that somebody was refused, now and then, and returns err for them.
func (s *Server) refuse(err error) error {
	s.refusals.Lock()
	defer s.refusals.Unlock()
	if now := time.Now(); now.Sub(s.refusals.logged) > 10*time.Second {
		s.refusals.logged = now
		s.cfg.Log.Warn("another node was refused", "err", err)
	}
	return refusalToStatus(err)
}

// Batch implements the service.
func (s *Server) Batch(stream grpc.BidiStreamingServer[wirepb.BatchRequest, wirepb.BatchResponse]) error {
	ctx := stream.Context()
	from, err := s.admit(ctx)
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.cfg.receive(from, m.GetNow()); err != nil {
			return s.refuse(err)
		}
		resp := s.batch(ctx, m)
		if err := s.cfg.Faults.pass(ctx, Message{From: s.cfg.Identity().NodeID, To: from, Kind: KindBatchAnswer}); err != nil {
			return err
		}
		resp.Now = tsToWire(s.cfg.Clock.Now())
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

func (s *Server) batch(ctx context.Context, m *wirepb.BatchRequest) *wirepb.BatchResponse {
	if m.GetTimeout() > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(m.GetTimeout()))
		defer cancel()
	}
	ba, err := kvpb.RequestFromWire(m)
	if err != nil {
		return &wirepb.BatchResponse{Error: kvpb.ErrorToWire(err)}
	}
	br, err := s.h.HandleBatch(ctx, ba)
	if err != nil {
		return &wirepb.BatchResponse{Error: kvpb.ErrorToWire(err)}
	}
	resp, err := kvpb.ResponseToWire(br)
	if err != nil {
		return &wirepb.BatchResponse{Error: kvpb.ErrorToWire(err)}
	}
	return resp
}

// Raft implements the service.
func (s *Server) Raft(stream grpc.ClientStreamingServer[noderpcpb.RaftMessages, noderpcpb.RaftEnd]) error {
	from, err := s.admit(stream.Context())
	if err != nil {
		return err
	}
	source := s.raftSource(from)
	mine := source.newest.Add(1)
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&noderpcpb.RaftEnd{})
		}
		if err != nil {
			return err
		}
		if err := s.cfg.receive(from, frame.GetNow()); err != nil {
			return s.refuse(err)
		}
		if to := kvpb.NodeID(frame.GetToNode()); to != s.cfg.Identity().NodeID || kvpb.NodeID(frame.GetFromNode()) != from {
			return s.refuse(wrongPeer("raft messages from n%d to n%d came from n%d to n%d", frame.GetFromNode(), to, from, s.cfg.Identity().NodeID))
		}
		if err := s.handleFrame(source, mine, from, frame); err != nil {
			return err
		}
	}
}

func (s *Server) raftSource(from kvpb.NodeID) *raftSource {
	s.raft.Lock()
	defer s.raft.Unlock()
	source := s.raft.sources[from]
	if source == nil {
		source = &raftSource{}
		s.raft.sources[from] = source
	}
	return source
}

// handleFrame hands on the messages of a frame that came on the stream mine.
func (s *Server) handleFrame(source *raftSource, mine int64, from kvpb.NodeID, frame *noderpcpb.RaftMessages) error {
	source.Lock()
	defer source.Unlock()
	if source.newest.Load() != mine {
		return status.Error(codes.Aborted, "there is a newer stream of raft messages")
	}
	for _, item := range frame.GetMessages() {
		m := &pb.Message{}
		if err := proto.Unmarshal(item.GetMessage(), m); err != nil {
			s.cfg.Log.Error("a raft message cannot be read", "from", from, "range", item.GetRangeId(), "err", err)
			return fmt.Errorf("reading a raft message of r%d: %w", item.GetRangeId(), err)
		}
		s.h.HandleRaft(from, item.GetRangeId(), m)
	}
	return nil
}

// Snapshot implements the service.
func (s *Server) Snapshot(stream grpc.ClientStreamingServer[noderpcpb.SnapshotPart, noderpcpb.SnapshotAnswer]) error {
	ctx := stream.Context()
	from, err := s.admit(ctx)
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if err := s.cfg.receive(from, first.GetNow()); err != nil {
		return s.refuse(err)
	}
	m := &pb.Message{}
	if err := proto.Unmarshal(first.GetMessage(), m); err != nil {
		return fmt.Errorf("reading the snapshot message of r%d: %w", first.GetRangeId(), err)
	}
	body := &snapshotReader{stream: stream}
	err = s.h.HandleSnapshot(ctx, first.GetRangeId(), m, body)
	if err == nil && !body.atEnd() {
		err = fmt.Errorf("the snapshot of r%d was not read to its end", first.GetRangeId())
	}
	if err := s.cfg.Faults.pass(ctx, Message{From: s.cfg.Identity().NodeID, To: from, Kind: KindSnapshotAnswer}); err != nil {
		return err
	}
	return stream.SendAndClose(&noderpcpb.SnapshotAnswer{Now: tsToWire(s.cfg.Clock.Now()), Error: kvpb.ErrorToWire(err)})
}

// Ping implements the service.
func (s *Server) Ping(ctx context.Context, m *noderpcpb.PingRequest) (*noderpcpb.PingResponse, error) {
	received := s.cfg.Clock.PhysicalNow()
	id := s.cfg.Identity()
	from := kvpb.NodeID(m.GetFromNode())
	if err := id.check(fmt.Sprintf("the sender, n%d,", from), m.GetClusterId(), kvpb.NodeID(m.GetToNode())); err != nil {
		return nil, s.refuse(err)
	}
	resp := &noderpcpb.PingResponse{ClusterId: id.ClusterID[:], NodeId: int32(id.NodeID), Received: received}
	if err := s.cfg.receive(from, m.GetNow()); err != nil {
		// An answer, since whose clock is wrong is for the sender to find out.
		resp.ClockRefused = err.Error()
		_ = s.refuse(err)
	}
	resp.Now, resp.Sent = tsToWire(s.cfg.Clock.Now()), s.cfg.Clock.PhysicalNow()
	// Simulated distance is part of what the caller measures, as real distance is.
	return resp, s.cfg.Faults.pass(ctx, Message{From: id.NodeID, To: from, Kind: KindPingAnswer})
}

// Join implements the service.
func (s *Server) Join(ctx context.Context, m *noderpcpb.JoinRequest) (*noderpcpb.JoinResponse, error) {
	id := s.cfg.Identity()
	req := JoinRequest{
		NodeID: kvpb.NodeID(m.GetNodeId()), StoreID: kvpb.StoreID(m.GetStoreId()), Address: m.GetAddress(), SQLAddress: m.GetSqlAddress(),
		Locality: m.GetLocality(), Attrs: m.GetAttrs(), Version: m.GetVersion(),
		InitClaim: m.GetInitClaim(), InitWithdrawn: m.GetInitWithdrawn(), ClusterName: m.GetClusterName(), AnyClusterName: m.GetAnyClusterName(),
	}
	if b := m.GetClusterId(); len(b) == len(req.ClusterID) {
		req.ClusterID = [16]byte(b)
	}
	if req.ClusterID != [16]byte{} && id.NodeID != 0 && req.ClusterID != id.ClusterID {
		return nil, s.refuse(wrongPeer("node belongs to cluster %s but is attempting to connect to a gossip network for cluster %s",
			formatID(req.ClusterID[:]), formatID(id.ClusterID[:])))
	}
	if err := s.cfg.receive(req.NodeID, m.GetNow()); err != nil {
		return nil, s.refuse(err)
	}
	out := &noderpcpb.JoinResponse{}
	resp, err := s.h.HandleJoin(ctx, req)
	if err != nil {
		out.Error = kvpb.ErrorToWire(err)
	} else {
		out.ClusterId, out.NodeId, out.StoreId, out.FirstRange = resp.ClusterID[:], int32(resp.NodeID), int32(resp.StoreID), resp.FirstRange
	}
	out.Now = tsToWire(s.cfg.Clock.Now())
	return out, nil
}
