package noderpc

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"

	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/noderpc/noderpcpb"
)

// peer is another node as a Dialer sees it.
//
//	idle ─► connecting ─► connected ─► idle (connection lost)
//	              └─► failed ─► connecting (after a pause, when asked)
type peer struct {
	d    *Dialer
	id   kvpb.NodeID
	raft raftQueue

	mu struct {
		sync.Mutex
		conn    *conn
		attempt chan struct{} // closed when the attempt to connect under way ends
		// err is why the newest attempt, or the connection, failed, at failedAt. The
		// next attempt is not before retryAt.
		err               error
		failedAt, retryAt time.Time
		pause             time.Duration
		samples           [8]clockSample
		nSamples          int
	}
}

func newPeer(d *Dialer, id kvpb.NodeID) *peer {
	return &peer{d: d, id: id, raft: raftQueue{wake: make(chan struct{}, 1)}}
}

// conn is one connection to a peer, from its first ping to its first failure.
type conn struct {
	cc     *grpc.ClientConn
	client noderpcpb.NodeClient
	header metadata.MD
	life   context.Context // ends, with the cause, when the connection does
	end    context.CancelCauseFunc

	mu struct {
		sync.Mutex
		idle []*batchStream
	}
}

var errConnectionLost = errors.New("the connection was lost")

// minPause is the first pause after a failed attempt; it doubles up to MaxBackoff.
const minPause = 50 * time.Millisecond

// get returns the connection. While a peer cannot be reached it fails at once,
// also while another attempt is under way.
func (p *peer) get(ctx context.Context) (*conn, error) {
	for {
		p.mu.Lock()
		if c := p.mu.conn; c != nil {
			p.mu.Unlock()
			return c, nil
		}
		now := time.Now()
		if p.mu.attempt == nil && !now.Before(p.mu.retryAt) {
			if !p.d.start(p.connect) {
				p.mu.Unlock()
				return nil, ErrClosed
			}
			p.mu.attempt = make(chan struct{})
		}
		err, attempt := p.mu.err, p.mu.attempt
		// An old failure says nothing about now.
		fresh := now.Sub(p.mu.failedAt) < p.d.cfg.ConnectTimeout+2*p.d.cfg.MaxBackoff
		p.mu.Unlock()
		if err != nil && (fresh || attempt == nil) {
			return nil, err
		}
		select {
		case <-attempt:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// connect makes one attempt and, if it succeeds, watches the connection until its
// end.
func (p *peer) connect() {
	c, sample, err := p.dial()
	p.mu.Lock()
	first := p.mu.pause == 0
	close(p.mu.attempt)
	p.mu.attempt = nil
	if err != nil {
		p.mu.pause = min(max(2*p.mu.pause, minPause), p.d.cfg.MaxBackoff)
		p.mu.err, p.mu.failedAt = err, time.Now()
		p.mu.retryAt = p.mu.failedAt.Add(p.mu.pause)
		p.keepRefusedLocked(sample, err)
	} else {
		p.mu.conn, p.mu.err, p.mu.pause = c, nil, 0
	}
	p.mu.Unlock()
	log := p.d.cfg.Log.With("peer", p.id)
	if err != nil {
		if first && p.d.ctx.Err() == nil {
			log.Warn("connecting to a node; will go on trying when it is needed", "err", err)
		}
		return
	}
	log.Info("connected to a node", "address", c.cc.Target())
	sample, err = p.watch(c)
	p.mu.Lock()
	p.mu.conn = nil
	p.keepRefusedLocked(sample, err)
	// The peer of a lost connection may well be there; one that was silent is not.
	if !errors.Is(err, errConnectionLost) {
		p.mu.err, p.mu.failedAt = err, time.Now()
	}
	p.mu.Unlock()
	c.end(err)
	_ = c.cc.Close()
	if p.d.ctx.Err() == nil {
		log.Warn("the connection to a node ended", "err", err)
	}
}

// keepRefusedLocked forgets the samples of a connection that failed but for the one
// that says why.
func (p *peer) keepRefusedLocked(sample clockSample, err error) {
	p.mu.nSamples = 0
	if errors.Is(err, ErrClockOffset) && sample != (clockSample{}) {
		p.mu.samples[0], p.mu.nSamples = sample, 1
	}
}

// dial connects and makes sure that the peer is who it should be.
func (p *peer) dial() (*conn, clockSample, error) {
	address, err := p.d.cfg.Address(p.id)
	if err != nil {
		return nil, clockSample{}, fmt.Errorf("finding the address of n%d: %w", p.id, err)
	}
	cc, err := p.d.clientConn(address)
	if err != nil {
		return nil, clockSample{}, fmt.Errorf("connecting to n%d at %s: %w", p.id, address, err)
	}
	c := &conn{cc: cc, client: noderpcpb.NewNodeClient(cc), header: p.d.header(p.id)}
	ctx, cancel := context.WithTimeout(p.d.ctx, p.d.cfg.ConnectTimeout)
	defer cancel()
	sample, err := p.d.ping(ctx, c.client, p.id)
	if err != nil {
		_ = cc.Close()
		if ctx.Err() != nil && p.d.ctx.Err() == nil {
			err = fmt.Errorf("no answer within %s", p.d.cfg.ConnectTimeout)
		}
		return nil, sample, fmt.Errorf("connecting to n%d at %s: %w", p.id, address, err)
	}
	p.addSample(sample)
	c.life, c.end = context.WithCancelCause(p.d.ctx)
	return c, sample, nil
}

// watch returns why the connection ended, with the last sample if that is why.
func (p *peer) watch(c *conn) (clockSample, error) {
	p.d.start(func() {
		if c.cc.WaitForStateChange(c.life, connectivity.Ready) {
			c.end(errConnectionLost)
		}
	})
	tick := time.NewTicker(p.d.cfg.PingInterval)
	defer tick.Stop()
	for {
		select {
		case <-c.life.Done():
			return clockSample{}, context.Cause(c.life)
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(c.life, p.d.cfg.PingTimeout)
		sample, err := p.d.ping(ctx, c.client, p.id)
		timedOut := ctx.Err() != nil
		cancel()
		switch {
		case c.life.Err() != nil:
			return clockSample{}, context.Cause(c.life)
		case timedOut:
			return clockSample{}, fmt.Errorf("n%d has not answered for %s", p.id, p.d.cfg.PingTimeout)
		case err != nil:
			return sample, fmt.Errorf("n%d: %w", p.id, err)
		}
		p.addSample(sample)
	}
}

func (p *peer) addSample(s clockSample) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.samples[p.mu.nSamples%len(p.mu.samples)] = s
	p.mu.nSamples++
}

// bestSample returns the newest samples' most exact one.
func (p *peer) bestSample() (best clockSample, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, s := range p.mu.samples[:min(p.mu.nSamples, len(p.mu.samples))] {
		if i == 0 || s.rtt < best.rtt {
			best = s
		}
	}
	return best, p.mu.nSamples > 0
}

// outgoing returns ctx with the header of a stream on c.
func (c *conn) outgoing(ctx context.Context) context.Context {
	return metadata.NewOutgoingContext(ctx, c.header)
}

// failure returns what to say of an error on a stream of c: why the connection
// ended, if it did.
func (c *conn) failure(err error) error {
	if r := refusal(err); r != nil {
		return r
	}
	if c.life.Err() != nil {
		return context.Cause(c.life)
	}
	return err
}

func formatNode(id kvpb.NodeID) string { return strconv.Itoa(int(id)) }

func joinError(address string, err error) error {
	return fmt.Errorf("joining through %s: %w", address, err)
}
