// Package nodeport serves gRPC, gossip and SQL clients on one port.
//
// Which of them a connection is for shows in its first bytes: HTTP/2 has a fixed
// preface, gossip has ours, and everything else is a PostgreSQL client, which
// gets its connection as if nobody had looked.
package nodeport

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// GossipPreface is what the dialer of a gossip connection sends first.
const GossipPreface = "HOLDFAST GOSSIP 1\r\n"

// grpcPreface begins every HTTP/2 connection of a client.
const grpcPreface = "PRI * HTTP/2.0\r\n"

// decisionTimeout bounds how long a client may take to show what it is. One that
// takes longer is a slow PostgreSQL client; its own login timeout goes on.
const decisionTimeout = 5 * time.Second

// Mux hands the connections of one listener to three.
type Mux struct {
	l   net.Listener
	log *slog.Logger
	// SQL, GRPC and Gossip accept the connections of their kind. Each must be
	// served, or closed to refuse what comes.
	SQL, GRPC, Gossip *Listener
}

// New returns a Mux over l that does nothing until Serve.
func New(l net.Listener, log *slog.Logger) *Mux {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m := &Mux{l: l, log: log}
	m.SQL, m.GRPC, m.Gossip = newListener(l.Addr()), newListener(l.Addr()), newListener(l.Addr())
	return m
}

// Serve accepts connections until the listener is closed or ctx is done. When it
// returns, its listeners are closed and no goroutine of it is left.
func (m *Mux) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var deciding sync.WaitGroup
	defer func() {
		cancel()
		for _, l := range []*Listener{m.SQL, m.GRPC, m.Gossip} {
			_ = l.Close()
		}
		deciding.Wait()
	}()
	stop := context.AfterFunc(ctx, func() { _ = m.l.Close() })
	defer stop()
	for pause := time.Duration(0); ; {
		c, err := m.l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			// Out of descriptors, most likely: others will close theirs.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			m.log.WarnContext(ctx, "accepting connections; will retry", "err", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil
			}
			continue
		}
		pause = 0
		deciding.Go(func() { m.decide(ctx, c) })
	}
}

// decide reads as much of c as it takes to know what it is.
func (m *Mux) decide(ctx context.Context, c net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	_ = c.SetReadDeadline(time.Now().Add(decisionTimeout))
	head := make([]byte, 0, 32)
	to, keep := m.SQL, true
	for {
		n, err := c.Read(head[len(head):cap(head)])
		head = head[:len(head)+n]
		grpc, gossip := match(head, grpcPreface), match(head, GossipPreface)
		if grpc == yes {
			to = m.GRPC
			break
		}
		if gossip == yes {
			to, keep = m.Gossip, false
			break
		}
		if grpc == no && gossip == no || err != nil {
			break
		}
	}
	stop()
	if ctx.Err() != nil {
		_ = c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	if keep {
		c = &peeked{Conn: c, head: head}
	} else if rest := head[len(GossipPreface):]; len(rest) > 0 {
		c = &peeked{Conn: c, head: rest}
	}
	to.hand(c)
}

type answer int8

const (
	no answer = iota
	perhaps
	yes
)

// match says whether head begins with preface, as far as it goes.
func match(head []byte, preface string) answer {
	switch {
	case bytes.HasPrefix(head, []byte(preface)):
		return yes
	case len(head) < len(preface) && preface[:len(head)] == string(head):
		return perhaps
	}
	return no
}

// peeked is a connection of which head was read already.
type peeked struct {
	net.Conn
	head []byte // only the reader touches it
}

func (p *peeked) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// Listener accepts the connections of one kind.
type Listener struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newListener(addr net.Addr) *Listener {
	return &Listener{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *Listener) hand(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.closed:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener: connections of the kind are refused from now on.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return l.addr }
