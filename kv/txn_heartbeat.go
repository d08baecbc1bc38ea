package kv

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// heartbeat keeps the record of one transaction alive while its client is. The
// first beat comes one interval after the first lock, so that a short
// transaction never has a record at all.
type heartbeat struct {
	db  *DB
	txn kvpb.Transaction // identity; the timestamps are those of the first lock
	// aborted is set when a beat learns that the transaction is over.
	aborted atomic.Bool

	mu      sync.Mutex
	stopped bool
	timer   *time.Timer
	cancel  context.CancelFunc // of the beat under way
	done    chan struct{}      // closed when that beat is over
}

func startHeartbeat(db *DB, txn kvpb.Transaction) *heartbeat {
	h := &heartbeat{db: db, txn: txn}
	h.mu.Lock()
	defer h.mu.Unlock()
	// A timer instead of a goroutine: most transactions end before it fires.
	h.timer = time.AfterFunc(db.cfg.HeartbeatInterval, h.beat)
	return h
}

// stop ends the heartbeat and waits for a beat under way. A nil heartbeat can be
// stopped.
func (h *heartbeat) stop() {
	if h == nil {
		return
	}
	h.mu.Lock()
	h.stopped = true
	h.timer.Stop()
	cancel, done := h.cancel, h.done
	h.mu.Unlock()
	if done != nil {
		cancel()
		<-done
	}
}

func (h *heartbeat) beat() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*h.db.cfg.HeartbeatInterval)
	defer cancel()
	done := make(chan struct{})
	h.mu.Lock()
	if h.stopped {
		h.mu.Unlock()
		return
	}
	h.cancel, h.done = cancel, done
	h.mu.Unlock()

	o := &outgoing{txn: h.txn}
	o.ba.Txn = &o.txn
	o.ba.Requests = append(o.reqs[:0], kvpb.Request{
		Op: kvpb.OpHeartbeatTxn, Key: h.txn.Key, Args: &kvpb.HeartbeatArgs{Now: h.db.clock.Now()},
	})
	resp, err := h.db.sender.Send(ctx, &o.ba)
	var aborted *kvpb.TxnAbortedError
	over := errors.As(err, &aborted)
	if err == nil {
		r, ok := resp.Responses[0].Reply.(*kvpb.HeartbeatReply)
		over = ok && r.Status.IsFinal()
	}
	if over {
		h.aborted.Store(true)
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	h.cancel, h.done = nil, nil
	close(done)
	if !h.stopped && !over {
		// After an error the next beat tries again; the record lives for several.
		h.timer.Reset(h.db.cfg.HeartbeatInterval)
	}
}
