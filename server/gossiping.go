package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/holdfastdb/holdfast/gossip"
	"github.com/holdfastdb/holdfast/gossip/gossippb"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver"
	"github.com/holdfastdb/holdfast/kv/noderpc"
	"github.com/holdfastdb/holdfast/server/nodeport"
)

const (
	// gossipCheck is how often a node looks whether it still hears of others.
	gossipCheck = time.Second
	// capacityInterval is how often a node says what its store has.
	capacityInterval = 10 * time.Second
	// rejoinInterval is how long a node that hears of nobody waits between attempts.
	rejoinInterval = 5 * time.Second
	// leaveTimeout bounds how long a node that ends waits until others know.
	leaveTimeout = time.Second
	// unboundedStoreBytes is what a store in memory without a bound says that it can
	// hold.
	unboundedStoreBytes = 1 << 30
)

// startGossip says that this node exists. Nobody hears it before keepGossip, or
// before another node asks.
func (c *cluster) startGossip(ident kvserver.Ident) error {
	cfg := gossip.DefaultConfig()
	cfg.ClusterID, cfg.Log, cfg.Dial = ident.ClusterID, c.n.log, dialGossip
	cfg.Deliver = c.n.cfg.Testing.Gossip
	cfg.Node = &gossippb.Node{
		NodeId: int32(ident.NodeID), Address: c.advertise, SqlAddress: c.sqlAdvertise, HttpAddress: c.n.httpAdvertise(),
		Attrs: c.n.cfg.Attrs, Build: c.n.cfg.Version, Started: c.began, Stores: []*gossippb.StoreCapacity{c.n.capacity(ident.StoreID)},
	}
	for _, t := range c.n.cfg.Locality {
		cfg.Node.Locality = append(cfg.Node.Locality, &gossippb.Tier{Key: t.Key, Value: t.Value})
	}
	g, err := gossip.Start(cfg)
	if err != nil {
		return err
	}
	c.gossip = g
	var accepting sync.WaitGroup // ends when g is closed
	c.n.onStop("gossip", func(context.Context) error {
		if err := g.Leave(leaveTimeout); err != nil {
			c.n.log.Debug("leaving gossip", "err", err)
		}
		err := g.Close()
		accepting.Wait()
		return err
	})
	c.n.background("gossip of other nodes", func(ctx context.Context) error {
		for {
			conn, err := c.mux.Gossip.Accept()
			if err != nil {
				return nil // The port is closed.
			}
			accepting.Go(func() { g.Accept(conn) })
		}
	})
	c.n.onStop("gossip connections", func(context.Context) error { return c.mux.Gossip.Close() })
	return nil
}

// dialGossip opens a connection for gossip to a node's port.
func dialGossip(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetWriteDeadline(deadline)
	}
	if _, err := conn.Write([]byte(nodeport.GossipPreface)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, conn.SetWriteDeadline(time.Time{})
}

// keepGossip finds the other nodes, keeps what is known of them for the next
// process, and says what is news of this one.
func (c *cluster) keepGossip(ctx context.Context) error {
	var found bool
	var tried, told time.Time
	var saved []string
	tick := time.NewTicker(gossipCheck)
	defer tick.Stop()
	for ctx.Err() == nil {
		changed := c.gossip.Changed()
		now := time.Now()
		wait := rejoinInterval
		if !found {
			wait = gossipCheck
		}
		if now.Sub(tried) >= wait && !c.hearsOthers() {
			tried = now
			found = c.findOthers(ctx) || found
		}
		if now.Sub(told) > capacityInterval {
			told = now
			c.gossip.Update(func(n *gossippb.Node) { n.Stores = []*gossippb.StoreCapacity{c.n.capacity(c.n.ident.StoreID)} })
		}
		c.announceFirstRange()
		if known := c.knownAddresses(); !slices.Equal(known, saved) {
			if err := kvserver.SavePeers(c.n.engine, known); err != nil {
				c.n.log.Warn("keeping the addresses of other nodes", "err", err)
			} else {
				saved = known
			}
		}
		select {
		case <-tick.C:
		case <-changed: // A process may not live long enough to keep it later.
		case <-ctx.Done():
		}
	}
	return nil
}

// newsPause is the least time between two reads of liveness records that gossip
// asks for.
const newsPause = 300 * time.Millisecond

// watchNews reads the liveness records when gossip knows of a node that has none
// here, or an expired one: it has just started, and others need not wait for their
// next turn to use it.
func (c *cluster) watchNews(ctx context.Context) error {
	tick := time.NewTicker(rejoinInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		changed := c.gossip.Changed()
		if slices.ContainsFunc(c.gossip.Nodes(), func(s gossip.Status) bool { return !s.Suspected && !c.live.IsLive(kvpb.NodeID(s.NodeId)) }) {
			if err := c.live.Refresh(ctx); err != nil && ctx.Err() == nil {
				c.n.log.Debug("reading the liveness records", "err", err)
			}
		}
		select {
		case <-time.After(newsPause):
		case <-ctx.Done():
			return nil
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// hearsOthers says whether any other node answers.
func (c *cluster) hearsOthers() bool {
	for _, s := range c.gossip.Nodes() {
		if s.NodeId != int32(c.n.ident.NodeID) && !s.Suspected {
			return true
		}
	}
	return false
}

// findOthers exchanges all facts with whoever answers.
func (c *cluster) findOthers(ctx context.Context) bool {
	peers, err := c.peers()
	if err != nil || len(peers) == 0 {
		return err == nil // Others may find this one.
	}
	if _, err := c.gossip.Join(peers); err == nil {
		return true
	}
	// Perhaps they refuse this node, and say why.
	err = c.confirm(ctx, c.n.ident, peers)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, noderpc.ErrWrongPeer):
		c.n.fail(err)
	case err != nil:
		c.n.log.Warn("a node refuses this one", "err", err)
	}
	return false
}

// knownAddresses are those of all other nodes, and those of --join, in an order
// that depends on nothing else.
func (c *cluster) knownAddresses() []string {
	known := slices.Clone(c.n.cfg.Join)
	for _, s := range c.gossip.Nodes() {
		if s.NodeId != int32(c.n.ident.NodeID) {
			known = append(known, s.Address)
		}
	}
	slices.Sort(known)
	return slices.Compact(known)
}

// announceFirstRange says where the first range is if a replica of it is here.
func (c *cluster) announceFirstRange() {
	d, ok := c.n.store.FirstRange()
	if !ok || c.gossip.FirstRange().GetGeneration() >= d.Generation {
		return
	}
	b, err := kvpb.EncodeDescriptor(d)
	if err != nil {
		c.n.log.Error("encoding the first range's descriptor", "err", err)
		return
	}
	c.gossip.AnnounceFirstRange(&gossippb.FirstRange{Generation: d.Generation, RangeDescriptor: b})
}

// announceLease says that this node serves a range now.
func (c *cluster) announceLease(d *kvpb.RangeDescriptor, sequence int64) {
	c.gossip.Announce(&gossippb.Lease{
		RangeId: int64(d.RangeID), Generation: d.Generation, Sequence: sequence,
		NodeId: int32(c.n.ident.NodeID), StoreId: int32(c.n.ident.StoreID),
	})
}

// capacity is what the store has.
func (n *Node) capacity(id kvpb.StoreID) *gossippb.StoreCapacity {
	s := &gossippb.StoreCapacity{StoreId: int32(id), Attrs: n.cfg.Store.Attrs, Used: int64(n.engine.Metrics().DiskSpaceUsage())}
	switch {
	case n.cfg.Store.InMemory:
		s.Capacity = n.cfg.Store.SizeBytes
		if s.Capacity == 0 {
			s.Capacity = max(unboundedStoreBytes, s.Used)
		}
		s.Available = max(0, s.Capacity-s.Used)
	default:
		var fs syscall.Statfs_t
		if err := syscall.Statfs(n.cfg.Store.Path, &fs); err == nil {
			s.Capacity, s.Available = int64(fs.Blocks)*int64(fs.Bsize), int64(fs.Bavail)*int64(fs.Bsize)
		}
	}
	if n.store != nil {
		ranges, leases := n.store.Counts()
		s.Ranges, s.Leases = int32(ranges), int32(leases)
	}
	return s
}

func localityText(tiers []*gossippb.Tier) string {
	parts := make([]string, len(tiers))
	for i, t := range tiers {
		parts[i] = fmt.Sprintf("%s=%s", t.Key, t.Value)
	}
	return strings.Join(parts, ",")
}

// distance is how many tiers of its locality this node does not share with another
// one, which is as near as anybody can say from configuration alone.
func (c *cluster) distance(id kvpb.NodeID) int {
	if id == c.n.ident.NodeID {
		return 0
	}
	s, ok := c.gossip.Node(int32(id))
	if !ok {
		return len(c.n.cfg.Locality) + 2
	}
	shared := 0
	for i, t := range c.n.cfg.Locality {
		if i >= len(s.Locality) || s.Locality[i].Key != t.Key || s.Locality[i].Value != t.Value {
			break
		}
		shared++
	}
	return len(c.n.cfg.Locality) - shared + 1
}
