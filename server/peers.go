package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/liveness"
	"github.com/holdfastdb/holdfast/kv/noderpc"
	"github.com/holdfastdb/holdfast/server/peerpb"
	"github.com/holdfastdb/holdfast/sql"
)

// peerTimeout bounds a question to another node that a person waits for.
const peerTimeout = 2 * time.Second

// peerServer answers what other nodes ask above the keyspace.
type peerServer struct {
	peerpb.UnimplementedPeerServer
	c   *cluster
	rpc *noderpc.Server
}

// admit refuses who is not a node of the cluster, and everybody until clients are
// served.
func (s *peerServer) admit(ctx context.Context) error {
	if _, err := s.rpc.Admit(ctx); err != nil {
		return err
	}
	select {
	case <-s.c.served:
		return nil
	default:
		return status.Error(codes.Unavailable, "the node is starting")
	}
}

// Sessions implements the service.
func (s *peerServer) Sessions(ctx context.Context, _ *peerpb.SessionsRequest) (*peerpb.SessionsResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	resp := &peerpb.SessionsResponse{}
	for _, st := range s.c.n.sql.SessionStatuses() {
		resp.Sessions = append(resp.Sessions, &peerpb.Session{
			Id: st.ID, User: st.User, Database: st.Database, RemoteAddr: st.RemoteAddr, ApplicationName: st.ApplicationName,
			Sql: st.SQL, LastSql: st.LastSQL, Started: nanos(st.Started), QueryStarted: nanos(st.QueryStart), TxnsDone: st.TxnsDone,
			TxnId: st.TxnID, TxnStarted: nanos(st.TxnStarted), TxnStatements: int32(st.TxnStatements), TxnRetries: int32(st.TxnRetries),
		})
	}
	return resp, nil
}

// StopSession implements the service.
func (s *peerServer) StopSession(ctx context.Context, q *peerpb.StopSessionRequest) (*peerpb.StopSessionResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	found, err := s.c.n.sql.StopSession(sql.StopRequest{
		SessionID: q.GetSessionId(), Terminate: q.GetTerminate(), User: q.GetBy(), MayAll: q.GetMayAll(),
	})
	return &peerpb.StopSessionResponse{Found: found, Denied: err != nil}, nil
}

// CancelByKey implements the service.
func (s *peerServer) CancelByKey(ctx context.Context, q *peerpb.CancelByKeyRequest) (*peerpb.CancelByKeyResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	s.c.n.pg.CancelByKey(q.GetPid(), q.GetSecret())
	return &peerpb.CancelByKeyResponse{}, nil
}

// peers asks other nodes; it implements sql.SessionPeers.
type peers struct{ c *cluster }

var _ sql.SessionPeers = peers{}

func (p peers) client(id kvpb.NodeID) peerpb.PeerClient {
	return peerpb.NewPeerClient(p.c.dialer.Client(id))
}

// others are the nodes that may have sessions: all that were alive not long ago.
func (p peers) others() []kvpb.NodeID {
	var out []kvpb.NodeID
	for _, r := range p.c.live.Records() {
		if r.NodeID == p.c.n.ident.NodeID || r.Membership == liveness.Decommissioned || p.c.live.IsDead(r.NodeID) {
			continue
		}
		out = append(out, r.NodeID)
	}
	return out
}

// Sessions implements sql.SessionPeers.
func (p peers) Sessions(ctx context.Context) ([]sql.SessionStatus, []error) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	var mu sync.Mutex
	var out []sql.SessionStatus
	var failed []error
	var asking sync.WaitGroup
	for _, id := range p.others() {
		asking.Go(func() {
			resp, err := p.client(id).Sessions(ctx, &peerpb.SessionsRequest{})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, fmt.Errorf("node %d does not answer, its sessions are not listed: %s", id, reason(err)))
				return
			}
			for _, st := range resp.GetSessions() {
				out = append(out, sql.SessionStatus{
					NodeID: int32(id), ID: st.GetId(), User: st.GetUser(), Database: st.GetDatabase(), RemoteAddr: st.GetRemoteAddr(),
					ApplicationName: st.GetApplicationName(), SQL: st.GetSql(), LastSQL: st.GetLastSql(), Started: fromNanos(st.GetStarted()),
					QueryStart: fromNanos(st.GetQueryStarted()), TxnsDone: st.GetTxnsDone(), TxnID: st.GetTxnId(),
					TxnStarted: fromNanos(st.GetTxnStarted()), TxnStatements: int(st.GetTxnStatements()), TxnRetries: int(st.GetTxnRetries()),
				})
			}
		})
	}
	asking.Wait()
	return out, failed
}

// reason says in a few words why a node did not answer.
func reason(err error) string {
	var unsent *noderpc.SendError
	if errors.As(err, &unsent) {
		err = unsent.Cause
	}
	if errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded {
		return fmt.Sprintf("no answer within %s", peerTimeout)
	}
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}

// Stop implements sql.SessionPeers.
func (p peers) Stop(ctx context.Context, node int32, req sql.StopRequest) (found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	resp, err := p.client(kvpb.NodeID(node)).StopSession(ctx, &peerpb.StopSessionRequest{
		SessionId: req.SessionID, Terminate: req.Terminate, By: req.User, MayAll: req.MayAll,
	})
	switch {
	case err != nil:
		return false, errors.New(reason(err))
	case resp.GetDenied():
		return true, pgerr.New(pgerr.InsufficientPrivilege, "this operation requires CANCELQUERY privilege")
	}
	return resp.GetFound(), nil
}

// cancelElsewhere passes a client's cancel request on to the node whose key it has.
func (p peers) cancelElsewhere(ctx context.Context, pid, secret uint32) {
	id := kvpb.NodeID(sql.NodeOfSession(uint64(pid)))
	if _, err := p.c.addressOf(id); err != nil || id == p.c.n.ident.NodeID {
		return // A wrong key.
	}
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	if _, err := p.client(id).CancelByKey(ctx, &peerpb.CancelByKeyRequest{Pid: pid, Secret: secret}); err != nil {
		p.c.n.log.Warn("a cancel request could not be passed on", "node_id", id, "err", err)
	}
}

// nanos and fromNanos convert times that may be missing.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
