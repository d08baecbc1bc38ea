package noderpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// Services of other packages are served beside this one's (Server.Services) and
// called on the same connections. They say and check who talks to whom as this
// package's own streams do: a Client writes the header, Admit reads it.

// Client returns a connection to services of another node. Its calls fail at once,
// with a SendError, while the node cannot be reached.
func (d *Dialer) Client(to kvpb.NodeID) grpc.ClientConnInterface { return serviceConn{d, to} }

// serviceConn is the connection that a node has when a call is made.
type serviceConn struct {
	d  *Dialer
	to kvpb.NodeID
}

// conn waits out what befalls the call.
func (s serviceConn) conn(ctx context.Context) (*conn, error) {
	if err := s.d.cfg.Faults.pass(ctx, Message{From: s.d.self(), To: s.to, Kind: KindService}); err != nil {
		return nil, &SendError{NodeID: s.to, Cause: err}
	}
	c, err := s.d.peer(s.to).get(ctx)
	if err != nil {
		return nil, &SendError{NodeID: s.to, Cause: err}
	}
	return c, nil
}

// Invoke implements grpc.ClientConnInterface.
func (s serviceConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	c, err := s.conn(ctx)
	if err != nil {
		return err
	}
	if err := c.cc.Invoke(c.outgoing(ctx), method, args, reply, opts...); err != nil {
		return c.failure(err)
	}
	return s.d.cfg.Faults.pass(ctx, Message{From: s.to, To: s.d.self(), Kind: KindServiceAnswer})
}

// NewStream implements grpc.ClientConnInterface.
func (s serviceConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	c, err := s.conn(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := c.cc.NewStream(c.outgoing(ctx), desc, method, opts...)
	if err != nil {
		return nil, c.failure(err)
	}
	return stream, nil
}

// Admit returns who makes the call that ctx is of, or why it is refused. The
// handlers of services call it first.
func (s *Server) Admit(ctx context.Context) (kvpb.NodeID, error) { return s.admit(ctx) }
