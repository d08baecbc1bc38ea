package server

import (
	"context"
	"io"

	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver"
	"github.com/holdfastdb/holdfast/kv/noderpc"
)

// peerHandler takes what other nodes send, from the start of the process on: what
// comes before the store is open waits, or is lost if it may be.
type peerHandler struct{ c *cluster }

var _ noderpc.Handler = peerHandler{}

func (h peerHandler) awaitStore(ctx context.Context) error {
	select {
	case <-h.c.opened:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// HandleBatch implements noderpc.Handler.
func (h peerHandler) HandleBatch(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	if err := h.awaitStore(ctx); err != nil {
		return nil, err
	}
	return h.c.n.store.HandleBatch(ctx, ba)
}

// HandleRaft implements noderpc.Handler.
func (h peerHandler) HandleRaft(from kvpb.NodeID, rangeID int64, m *kvserver.RaftMessage) {
	select {
	case <-h.c.opened:
		h.c.n.store.HandleRaft(from, rangeID, m)
	default: // Raft sends again what matters.
	}
}

// HandleSnapshot implements noderpc.Handler.
func (h peerHandler) HandleSnapshot(ctx context.Context, rangeID int64, m *kvserver.RaftMessage, body io.Reader) error {
	if err := h.awaitStore(ctx); err != nil {
		return err
	}
	return h.c.n.store.HandleSnapshot(ctx, rangeID, m, body)
}

// HandleJoin implements noderpc.Handler.
func (h peerHandler) HandleJoin(ctx context.Context, req noderpc.JoinRequest) (noderpc.JoinResponse, error) {
	return h.c.admit(ctx, req)
}
