package kvserver

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/holdfastdb/holdfast/kv/kvserver/raftgroup"
)

// pacer spreads what the snapshots of a store send over time, all together at most so
// many bytes per second: requests of clients share the disk and the network.
type pacer struct {
	rate func() int64 // bytes per second; nil or not positive: no limit

	mu   sync.Mutex
	next time.Time // when what was let through so far is paid for
}

// pacerBurst is how far a sender that was idle may run ahead.
const pacerBurst = 50 * time.Millisecond

// wait returns when n bytes more may leave.
func (p *pacer) wait(ctx context.Context, n int) error {
	if p.rate == nil {
		return nil
	}
	rate := p.rate()
	if rate <= 0 {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	if earliest := now.Add(-pacerBurst); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	wait := p.next.Sub(now)
	p.mu.Unlock()
	if wait <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pacedSnapshot is a snapshot that leaves no faster than its store's pacer lets it.
type pacedSnapshot struct {
	raftgroup.Snapshot
	ctx context.Context
	p   *pacer
}

// WriteTo implements io.WriterTo.
func (s pacedSnapshot) WriteTo(w io.Writer) (int64, error) {
	return s.Snapshot.WriteTo(pacedWriter{w, s.ctx, s.p})
}

type pacedWriter struct {
	w   io.Writer
	ctx context.Context
	p   *pacer
}

func (w pacedWriter) Write(b []byte) (int, error) {
	if err := w.p.wait(w.ctx, len(b)); err != nil {
		return 0, err
	}
	return w.w.Write(b)
}
