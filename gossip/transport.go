package gossip

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// The first byte of a gossip connection says what it carries.
const (
	kindPackets = 'p' // frames of a length (4 bytes, big endian) and a packet
	kindStream  = 's' // one exchange of memberlist
)

const (
	maxPacketBytes = 64 << 10
	// sendQueueLen bounds what waits for a slow peer; more is dropped, as packets
	// may be.
	sendQueueLen = 64
	dialTimeout  = 3 * time.Second
	// redialAfter is how long packets to a peer that could not be dialed are
	// dropped without another attempt.
	redialAfter = time.Second
	idleTimeout = time.Minute
)

// transport carries memberlist's packets and streams over connections of the
// node port, so that there is no UDP and only one port to open.
type transport struct {
	dial func(ctx context.Context, addr string) (net.Conn, error)
	// addressOf gives the address that a member announced itself, which may be a
	// name where memberlist knows a number; empty if it is not known.
	addressOf func(member string) string
	advertise string

	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	packets chan *memberlist.Packet
	streams chan net.Conn
	dropped atomic.Int64

	mu struct {
		sync.Mutex
		peers  map[string]*peer
		conns  map[net.Conn]struct{} // incoming ones that carry packets
		closed bool
	}
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(
	advertise string, dial func(context.Context, string) (net.Conn, error), addressOf func(string) string,
) *transport {
	t := &transport{
		dial: dial, addressOf: addressOf, advertise: advertise,
		packets: make(chan *memberlist.Packet, 256), streams: make(chan net.Conn),
	}
	t.ctx, t.stop = context.WithCancel(context.Background())
	t.mu.peers, t.mu.conns = map[string]*peer{}, map[net.Conn]struct{}{}
	return t
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	host, service, err := net.SplitHostPort(t.advertise)
	if err != nil {
		return nil, 0, fmt.Errorf("advertised address %q: %w", t.advertise, err)
	}
	port, err := strconv.Atoi(service)
	if err != nil {
		return nil, 0, fmt.Errorf("advertised address %q: port is not a number", t.advertise)
	}
	addr, err := net.ResolveIPAddr("ip", host)
	if err != nil {
		return nil, 0, fmt.Errorf("advertised address %q: %w", t.advertise, err)
	}
	return addr.IP, port, nil
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// WriteToAddress implements memberlist.NodeAwareTransport. It never waits: what
// does not fit into the queue of the peer is lost, like any packet.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if len(b) > maxPacketBytes {
		return time.Time{}, fmt.Errorf("packet of %d bytes is larger than %d", len(b), maxPacketBytes)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b)))
	frame = append(frame, b...)
	addr := t.resolve(a)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		return time.Time{}, net.ErrClosed
	}
	p := t.mu.peers[addr]
	if p == nil {
		p = &peer{addr: addr, queue: make(chan []byte, sendQueueLen)}
		t.mu.peers[addr] = p
		t.running.Go(func() { t.send(p) }) // Ends when idle, or at Shutdown.
	}
	select {
	case p.queue <- frame:
	default:
		t.dropped.Add(1)
	}
	return time.Now(), nil
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	return t.open(ctx, t.resolve(a), kindStream)
}

func (t *transport) resolve(a memberlist.Address) string {
	if a.Name != "" {
		if addr := t.addressOf(a.Name); addr != "" {
			return addr
		}
	}
	return a.Addr
}

func (t *transport) open(ctx context.Context, addr string, kind byte) (net.Conn, error) {
	c, err := t.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	_ = c.SetWriteDeadline(time.Now().Add(dialTimeout))
	if _, err := c.Write([]byte{kind}); err != nil {
		c.Close()
		return nil, err
	}
	_ = c.SetWriteDeadline(time.Time{})
	return c, nil
}

// peer is a node that packets are sent to.
type peer struct {
	addr  string
	queue chan []byte
}

// send writes the packets for p until none came for a while.
func (t *transport) send(p *peer) {
	var conn net.Conn
	var refusedUntil time.Time
	hangUp := func() {
		if conn != nil {
			conn.Close()
			conn = nil
		}
	}
	defer hangUp()
	idle := time.NewTimer(idleTimeout)
	defer idle.Stop()
	for {
		var frame []byte
		select {
		case frame = <-p.queue:
		case <-idle.C:
			t.mu.Lock()
			done := len(p.queue) == 0
			if done {
				delete(t.mu.peers, p.addr)
			}
			t.mu.Unlock()
			if done {
				return
			}
			idle.Reset(idleTimeout)
			continue
		case <-t.ctx.Done():
			return
		}
		idle.Reset(idleTimeout)
		if conn == nil {
			if time.Now().Before(refusedUntil) {
				t.dropped.Add(1)
				continue
			}
			ctx, cancel := context.WithTimeout(t.ctx, dialTimeout)
			c, err := t.open(ctx, p.addr, kindPackets)
			cancel()
			if err != nil {
				t.dropped.Add(1)
				refusedUntil = time.Now().Add(redialAfter)
				continue
			}
			conn = c
		}
		_ = conn.SetWriteDeadline(time.Now().Add(dialTimeout))
		if _, err := conn.Write(frame); err != nil {
			t.dropped.Add(1)
			hangUp()
		}
	}
}

// accept serves an incoming gossip connection, of which nothing but what led to
// gossip was read. It returns when packets end, or when memberlist has the stream.
func (t *transport) accept(c net.Conn) error {
	var kind [1]byte
	_ = c.SetReadDeadline(time.Now().Add(dialTimeout))
	if _, err := io.ReadFull(c, kind[:]); err != nil {
		c.Close()
		return err
	}
	_ = c.SetReadDeadline(time.Time{})
	switch kind[0] {
	case kindStream:
		select {
		case t.streams <- c: // memberlist closes it.
			return nil
		case <-t.ctx.Done():
			c.Close()
			return net.ErrClosed
		}
	case kindPackets:
		return t.receive(c)
	}
	c.Close()
	return fmt.Errorf("gossip connection of unknown kind %d", kind[0])
}

func (t *transport) receive(c net.Conn) error {
	defer c.Close()
	t.mu.Lock()
	if t.mu.closed {
		t.mu.Unlock()
		return net.ErrClosed
	}
	t.mu.conns[c] = struct{}{}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.mu.conns, c)
		t.mu.Unlock()
	}()
	r := bufio.NewReader(c)
	for {
		var size [4]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		n := binary.BigEndian.Uint32(size[:])
		if n > maxPacketBytes {
			return fmt.Errorf("packet of %d bytes is larger than %d", n, maxPacketBytes)
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		select {
		case t.packets <- &memberlist.Packet{Buf: b, From: c.RemoteAddr(), Timestamp: time.Now()}:
		case <-t.ctx.Done():
			return net.ErrClosed
		}
	}
}

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	t.mu.closed = true
	for c := range t.mu.conns {
		c.Close()
	}
	t.mu.Unlock()
	t.stop()
	t.running.Wait()
	return nil
}
