package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/gossip/gossippb"
)

// testNode is one node with a listener of its own.
type testNode struct {
	*Gossip
	addr string
	ln   net.Listener
	wg   sync.WaitGroup
}

type testNet struct {
	t       *testing.T
	cluster [16]byte
	fault   func(net.Conn) net.Conn // wraps what is dialed
}

func (tn *testNet) start(id int32) *testNode {
	tn.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tn.t.Fatal(err)
	}
	n := &testNode{ln: ln, addr: ln.Addr().String()}
	cfg := DefaultConfig()
	cfg.ProbeInterval, cfg.GossipInterval, cfg.PushPullInterval = 200*time.Millisecond, 20*time.Millisecond, 300*time.Millisecond
	cfg.ClusterID = tn.cluster
	cfg.Node = &gossippb.Node{NodeId: id, Address: n.addr, Locality: []*gossippb.Tier{{Key: "region", Value: fmt.Sprintf("r%d", id%3)}}}
	cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil && tn.fault != nil {
			c = tn.fault(c)
		}
		return c, err
	}
	if n.Gossip, err = Start(cfg); err != nil {
		tn.t.Fatal(err)
	}
	n.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			n.wg.Go(func() { n.Accept(c) })
		}
	})
	tn.t.Cleanup(n.kill)
	return n
}

// kill ends a node without a word to the others.
func (n *testNode) kill() {
	n.ln.Close()
	_ = n.Close()
	n.wg.Wait()
}

func (n *testNode) waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		changed := n.Changed()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		case <-deadline:
			t.Fatalf("n%d: not in time: %s; knows %v", n.mu.self.NodeId, what, n.Nodes())
		}
	}
}

func (n *testNode) sees(id int32, suspected bool) func() bool {
	return func() bool {
		s, ok := n.Node(id)
		return ok && s.Suspected == suspected
	}
}

func TestNodesFindEachOther(t *testing.T) {
	tn := &testNet{t: t, cluster: [16]byte{1}}
	var nodes []*testNode
	for id := int32(1); id <= 5; id++ {
		n := tn.start(id)
		if id > 1 {
			// Any one that is there will do.
			if _, err := n.Join([]string{"127.0.0.1:1", nodes[rand.IntN(len(nodes))].addr}); err != nil {
				t.Fatal(err)
			}
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		for id := int32(1); id <= 5; id++ {
			n.waitFor(t, fmt.Sprintf("n%d", id), n.sees(id, false))
		}
		if s, _ := n.Node(4); s.Locality[0].Value != "r1" {
			t.Errorf("locality of n4: %v", s.Locality)
		}
	}

	// News about a node and about leases reach all.
	nodes[2].Update(func(n *gossippb.Node) { n.Draining = true })
	nodes[3].Announce(&gossippb.Lease{RangeId: 9, Generation: 1, Sequence: 1, NodeId: 4})
	nodes[1].Announce(&gossippb.Lease{RangeId: 9, Generation: 1, Sequence: 2, NodeId: 2})
	for _, n := range nodes {
		n.waitFor(t, "draining n3", func() bool { s, _ := n.Node(3); return s.Draining })
		n.waitFor(t, "lease of r9", func() bool { return n.Lease(9).GetNodeId() == 2 })
	}

	// A node that dies is suspected; when it is back at another address, it is not.
	nodes[4].kill()
	for _, n := range nodes[:4] {
		n.waitFor(t, "suspicion of n5", n.sees(5, true))
	}
	again := tn.start(5)
	if _, err := again.Join([]string{nodes[0].addr}); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes[:4] {
		n.waitFor(t, "n5 at its new address", func() bool {
			s, _ := n.Node(5)
			return !s.Suspected && s.Address == again.addr
		})
	}
	again.waitFor(t, "the lease of r9", func() bool { return again.Lease(9).GetNodeId() == 2 })
}

func TestOtherClustersStayApart(t *testing.T) {
	a := (&testNet{t: t, cluster: [16]byte{1}}).start(1)
	b := (&testNet{t: t, cluster: [16]byte{2}}).start(2)
	if n, err := b.Join([]string{a.addr}); err == nil {
		t.Errorf("joined %d nodes of another cluster", n)
	}
	if _, ok := a.Node(2); ok {
		t.Error("the node of another cluster is known")
	}
}

// faultyConn delays what is written, writes packets twice, and breaks off.
type faultyConn struct {
	net.Conn
	rng *rand.Rand
	mu  sync.Mutex
}

func (c *faultyConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.rng.IntN(10) {
	case 0:
		time.Sleep(time.Duration(c.rng.IntN(30)) * time.Millisecond)
	case 1:
		c.Close()
		return 0, errors.New("cut")
	case 2:
		if len(b) > 4 && int(b[2])<<8|int(b[3]) == len(b)-4 { // a whole packet
			if _, err := c.Conn.Write(b); err != nil {
				return 0, err
			}
		}
	}
	return c.Conn.Write(b)
}

func TestNewsArriveInSpiteOfFaults(t *testing.T) {
	var dials atomic.Uint64
	tn := &testNet{t: t, cluster: [16]byte{3}, fault: func(c net.Conn) net.Conn {
		return &faultyConn{Conn: c, rng: rand.New(rand.NewPCG(7, dials.Add(1)))}
	}}
	var nodes []*testNode
	for id := int32(1); id <= 4; id++ {
		n := tn.start(id)
		nodes = append(nodes, n)
		if id > 1 {
			n.waitFor(t, "anyone", func() bool {
				_, err := n.Join([]string{nodes[0].addr})
				return err == nil
			})
		}
	}
	for seq := int64(1); seq <= 20; seq++ {
		who := nodes[rand.IntN(len(nodes))]
		who.Announce(&gossippb.Lease{RangeId: 1, Sequence: seq, NodeId: int32(seq)})
		who.Announce(&gossippb.Lease{RangeId: 1 + seq, Sequence: 1, NodeId: 1})
	}
	for _, n := range nodes {
		n.waitFor(t, "all leases", func() bool { return n.Lease(1).GetSequence() == 20 && len(n.Leases()) == 21 })
	}
}

func TestGarbageEndsTheConnectionOnly(t *testing.T) {
	tn := &testNet{t: t, cluster: [16]byte{4}}
	a, b := tn.start(1), tn.start(2)
	for _, junk := range []string{"", "x", "p\xff\xff\xff\xff", "p\x00\x00\x00\x09\x00\x01garbage", "s\xf4\x00", "sGET / HTTP/1.1\r\n\r\n", "p\x00\x00"} {
		c, err := net.Dial("tcp", a.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(junk))
		_ = c.(*net.TCPConn).CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	}
	if _, err := b.Join([]string{a.addr}); err != nil {
		t.Fatal(err)
	}
	a.waitFor(t, "n2", a.sees(2, false))
}

func TestConfigNamesWhatIsMissing(t *testing.T) {
	cfg := DefaultConfig()
	if _, err := Start(cfg); err == nil {
		t.Error("no node id, no error")
	}
	cfg.Node = &gossippb.Node{NodeId: 1, Address: "nowhere"}
	cfg.Dial = func(context.Context, string) (net.Conn, error) { return nil, errors.New("no") }
	if _, err := Start(cfg); err == nil {
		t.Error("address without port, no error")
	}
}
