package noderpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvpb/wirepb"
)

// SendTo implements kv.Transport.
func (d *Dialer) SendTo(ctx context.Context, to kvpb.ReplicaDescriptor, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	return d.SendBatch(ctx, to.NodeID, ba)
}

// SendBatch has a batch evaluated by a node. Errors are what the node answers, a
// *SendError if it did not, or that of ctx if nothing can have come of it.
func (d *Dialer) SendBatch(ctx context.Context, to kvpb.NodeID, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	if to == d.self() {
		h, err := d.localHandler()
		if err != nil {
			return nil, err
		}
		return h.HandleBatch(ctx, ba)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m, err := kvpb.RequestToWire(ba)
	if err != nil {
		return nil, fmt.Errorf("sending to n%d: %w", to, err)
	}
	c, err := d.peer(to).get(ctx)
	if err == nil {
		err = d.passBatch(ctx, c, to)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &SendError{NodeID: to, Cause: err}
	}
	if deadline, ok := ctx.Deadline(); ok {
		if m.Timeout = int64(time.Until(deadline)); m.Timeout <= 0 {
			return nil, context.DeadlineExceeded
		}
	}
	m.Now = tsToWire(d.cfg.Clock.Now())
	resp, sent, err := c.roundTrip(ctx, m)
	if err == nil {
		// It is an answer, but nothing that a clock like this says can be used.
		err = d.cfg.receive(to, resp.GetNow())
	}
	if err != nil {
		maybe := sent && changesState(ba)
		if ctx.Err() != nil {
			if err = ctx.Err(); !maybe {
				return nil, err
			}
			// That the client gave up does not mean that the node did.
		}
		return nil, &SendError{NodeID: to, MaybeApplied: maybe, Cause: err}
	}
	if err := kvpb.ErrorFromWire(resp.GetError()); err != nil {
		if stopping(err) {
			err = &SendError{NodeID: to, MaybeApplied: changesState(ba), Cause: err}
		}
		return nil, err
	}
	br, err := kvpb.ResponseFromWire(resp)
	if err != nil {
		return nil, &SendError{NodeID: to, MaybeApplied: changesState(ba), Cause: err}
	}
	return br, nil
}

// passBatch waits out what befalls a batch.
func (d *Dialer) passBatch(ctx context.Context, c *conn, to kvpb.NodeID) error {
	f := d.cfg.Faults.of(Message{From: d.self(), To: to, Kind: KindBatch})
	if f.none() {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	if err := f.befall(ctx); err != nil {
		return c.failure(err)
	}
	return nil
}

// batchStream carries one request at a time.
type batchStream struct {
	grpc.BidiStreamingClient[wirepb.BatchRequest, wirepb.BatchResponse]
	cancel context.CancelFunc
}

// maxIdleStreams bounds how many streams of a connection wait for requests.
const maxIdleStreams = 128

// stream returns a stream that nobody uses. It is to be given back by release, or
// canceled.
func (c *conn) stream() (*batchStream, error) {
	c.mu.Lock()
	if n := len(c.mu.idle); n > 0 {
		st := c.mu.idle[n-1]
		c.mu.idle = c.mu.idle[:n-1]
		c.mu.Unlock()
		return st, nil
	}
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(c.outgoing(c.life))
	st, err := c.client.Batch(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	return &batchStream{BidiStreamingClient: st, cancel: cancel}, nil
}

func (c *conn) release(st *batchStream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.mu.idle) == maxIdleStreams {
		st.cancel()
		return
	}
	c.mu.idle = append(c.mu.idle, st)
}

// roundTrip sends m and returns the answer. On error it says whether the peer may
// have got m.
func (c *conn) roundTrip(ctx context.Context, m *wirepb.BatchRequest) (_ *wirepb.BatchResponse, sent bool, _ error) {
	st, err := c.stream()
	if err != nil {
		return nil, false, c.failure(err)
	}
	stop := context.AfterFunc(ctx, st.cancel)
	if err := st.Send(m); err != nil && status.Code(err) == codes.ResourceExhausted {
		stop()
		st.cancel()
		return nil, false, err // too large; it was not sent
	}
	// Why a send failed is for Recv to say.
	resp, err := st.Recv()
	if !stop() || err != nil {
		st.cancel()
	} else {
		c.release(st)
	}
	if err != nil {
		err = c.failure(err)
		refused := errors.Is(err, ErrWrongPeer) || errors.Is(err, ErrClockOffset)
		return nil, !refused, err
	}
	return resp, true, nil
}
