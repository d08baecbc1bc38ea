package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfastdb/holdfast/gossip"
	"github.com/holdfastdb/holdfast/gossip/gossippb"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver"
	"github.com/holdfastdb/holdfast/kv/liveness"
	"github.com/holdfastdb/holdfast/kv/noderpc"
	"github.com/holdfastdb/holdfast/server/adminpb"
	"github.com/holdfastdb/holdfast/server/nodeport"
	"github.com/holdfastdb/holdfast/server/peerpb"
)

// cluster is what a node that is one of several has beside what every node has:
// the road to the others, and what it knows of them. A node that is a cluster of
// its own has none of it.
type cluster struct {
	n     *Node
	mux   *nodeport.Mux
	clock *hlc.Clock
	// began is the start of this process, which tells it from others of the node.
	began int64
	// advertise is where others reach this node, sqlAdvertise where its clients do.
	advertise, sqlAdvertise string

	rpc    noderpc.Config
	dialer *noderpc.Dialer
	gossip *gossip.Gossip // set before identified is closed
	live   *liveness.Liveness

	// ident is zero until the node is part of a cluster.
	ident      atomic.Pointer[noderpc.Identity]
	identified chan struct{} // closed when ident is set
	opened     chan struct{} // closed when n.store and n.db are
	served     chan struct{} // closed when clients are
	inits      chan initRequest

	claim initClaim
	// unanswered are the addresses that nobody was joined at, while the node looks
	// for a place.
	unanswered map[string]bool

	first struct {
		sync.Mutex
		desc *kvpb.RangeDescriptor // as the node that let this one in knew it
	}
}

// initRequest is a wish to make a new cluster of a node that waits.
type initRequest struct {
	done chan error // receives once
}

// errAlreadyInitialized is what a second init hears.
var errAlreadyInitialized = errors.New("cluster has already been initialized")

// newCluster begins to tell the connections of l apart.
func (n *Node) newCluster(l net.Listener) (*cluster, error) {
	c := &cluster{
		n: n, mux: nodeport.New(l, n.log), began: time.Now().UnixNano(),
		identified: make(chan struct{}), opened: make(chan struct{}), served: make(chan struct{}), inits: make(chan initRequest),
	}
	c.clock = hlc.NewClock(func() int64 { return time.Now().Add(n.cfg.Testing.ClockOffset).UnixNano() }, n.cfg.MaxOffset)
	c.ident.Store(&noderpc.Identity{})
	var err error
	if c.advertise, err = advertised(n.cfg.AdvertiseAddr, l.Addr()); err != nil {
		return nil, fmt.Errorf("--advertise-addr: %w", err)
	}
	c.claim.self = c.advertise
	n.background("node port", c.mux.Serve)
	return c, nil
}

// advertised is the address that others are told: what was asked for, completed by
// what was listened on.
func advertised(want string, on net.Addr) (string, error) {
	listenHost, port, err := net.SplitHostPort(on.String())
	if err != nil {
		return "", err
	}
	host := ""
	if want != "" {
		var p string
		if host, p, err = net.SplitHostPort(want); err != nil {
			host = strings.Trim(want, "[]")
		} else if p != "" {
			port = p
		}
	}
	if host == "" {
		if host = listenHost; net.ParseIP(host).IsUnspecified() {
			host = hostname()
		}
	}
	return net.JoinHostPort(host, port), nil
}

// openRoad begins to talk to other nodes; until the node is part of a cluster they
// only hear that it is not.
func (c *cluster) openRoad() {
	c.rpc = noderpc.Config{
		Identity: func() noderpc.Identity { return *c.ident.Load() },
		Clock:    c.clock, Log: c.n.log, Address: c.addressOf, Faults: c.n.cfg.Testing.Faults,
	}
	c.dialer = noderpc.NewDialer(c.rpc)
	c.n.onStop("connections to other nodes", func(context.Context) error { c.dialer.Close(); return nil })
	h := peerHandler{c}
	c.dialer.SetLocal(h)
	srv := noderpc.NewServer(c.rpc, h)
	adminpb.RegisterAdminServer(srv.Services(), &adminServer{c: c})
	peerpb.RegisterPeerServer(srv.Services(), &peerServer{c: c, rpc: srv})
	c.n.background("requests of other nodes", func(ctx context.Context) error { return srv.Serve(ctx, c.mux.GRPC) })
}

// identify makes c part of the cluster ident.ClusterID, as a node that others may
// talk to.
func (c *cluster) identify(ident kvserver.Ident) error {
	if err := c.startGossip(ident); err != nil {
		return err
	}
	c.ident.Store(&noderpc.Identity{ClusterID: ident.ClusterID, NodeID: ident.NodeID})
	close(c.identified)
	return nil
}

// storeConfig adds to cfg what makes the store one of a cluster.
func (c *cluster) storeConfig(cfg *kvserver.Config) {
	cfg.Network, cfg.Transport, cfg.FirstRange = c.dialer, c.dialer, c.firstRange
	cfg.LeaseAcquired, cfg.Distance = c.announceLease, c.distance
	cfg.Stores = c.stores
}

// storeOpened begins to serve other nodes.
func (c *cluster) storeOpened() {
	c.live = liveness.New(liveness.Config{
		DB: c.n.db, NodeID: c.n.ident.NodeID, Started: c.began, Address: c.advertise, Log: c.n.log,
		DeadAfter: func() time.Duration { return c.n.deadAfter.Get() },
	})
	close(c.opened)
	c.n.onStop("place among the nodes", c.leave)
	c.n.background("liveness", func(ctx context.Context) error {
		if err := c.live.Run(ctx); err != nil {
			c.n.fail(err)
		}
		return nil
	})
	c.n.background("gossip", c.keepGossip)
	c.n.background("news of nodes", c.watchNews)
	c.n.background("clock check", c.watchClocks)
}

// awaitBegun returns when it is certain that this process is the node.
func (c *cluster) awaitBegun(ctx context.Context) error {
	select {
	case <-c.live.Begun():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leave gives up what others would wait for.
func (c *cluster) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := c.live.End(ctx); err != nil {
		c.n.log.Warn("giving up the liveness record; it expires by itself", "err", err)
	}
	return nil
}

// retry calls fn until it succeeds or fails for another reason than that nobody
// serves the data now: a node that starts may be the first one to.
func (c *cluster) retry(ctx context.Context, what string, fn func(context.Context) error) error {
	var logged time.Time
	for {
		err := fn(ctx)
		if err == nil || !unavailable(err) || ctx.Err() != nil {
			return err
		}
		if now := time.Now(); now.Sub(logged) > 10*time.Second {
			logged = now
			c.n.log.Warn("the cluster's data is not available yet; will go on trying", "for", what, "err", err)
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// peers are addresses to join the cluster through: those of --join and those that
// a former process heard of, but not this node's own.
func (c *cluster) peers() ([]string, error) {
	saved, err := kvserver.ReadPeers(c.n.engine)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, a := range slices.Concat(c.n.cfg.Join, saved) {
		if a != c.advertise && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out, nil
}

// addressOf says where a node is reached.
func (c *cluster) addressOf(id kvpb.NodeID) (string, error) {
	select {
	case <-c.identified:
		if s, ok := c.gossip.Node(int32(id)); ok {
			return s.Address, nil
		}
	default:
	}
	return "", fmt.Errorf("nobody has said yet where n%d is", id)
}

// firstRange returns what was heard of the first range.
func (c *cluster) firstRange(ctx context.Context) (*kvpb.RangeDescriptor, error) {
	c.first.Lock()
	d := c.first.desc
	c.first.Unlock()
	if f := c.gossip.FirstRange(); f != nil && (d == nil || d.Generation < f.Generation) {
		return kvpb.DecodeDescriptor(f.RangeDescriptor)
	}
	if d == nil {
		return nil, errFirstRangeUnknown()
	}
	return d, ctx.Err()
}

func (c *cluster) setFirstRange(b []byte) {
	d, err := kvpb.DecodeDescriptor(b)
	if err != nil {
		c.n.log.Warn("what another node says of the first range is no use", "err", err)
		return
	}
	c.first.Lock()
	defer c.first.Unlock()
	c.first.desc = d
}

// watchClocks ends the node if its clock is not that of most others.
func (c *cluster) watchClocks(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for wrong := 0; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if !clockIsWrong(c.dialer.Offsets(), c.clock.MaxOffset()) {
			wrong = 0
			continue
		}
		// One measurement can be off.
		if wrong++; wrong == 3 {
			c.n.fail(errClock(c.clock.MaxOffset()))
			return nil
		}
	}
}

// clockIsWrong says whether this node's clock is too far from those of at least
// half of the nodes, itself among them: of three that disagree with one it is the
// one that is wrong.
func clockIsWrong(offsets map[kvpb.NodeID]time.Duration, limit time.Duration) bool {
	far := 0
	for _, d := range offsets {
		if d.Abs() > limit {
			far++
		}
	}
	return far > 0 && 2*far >= len(offsets)+1
}

func errClock(limit time.Duration) error {
	return fmt.Errorf("clock synchronization error: this node is more than %s away from at least half of the known nodes", limit)
}

// beginDrain tells the others that this node is about to end.
func (c *cluster) beginDrain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c.gossip.Update(func(n *gossippb.Node) { n.Draining = true })
	if err := c.live.SetDraining(ctx, true); err != nil {
		c.n.log.Warn("telling other nodes that this one drains", "err", err)
	}
}

// handOver gives leases away until there are none left that somebody could take, or
// ctx is done. progress is told how many are left.
func (c *cluster) handOver(ctx context.Context, progress func(left int)) {
	turn := 0
	for ctx.Err() == nil {
		left, err := c.n.store.HandOver(ctx, func(d *kvpb.RangeDescriptor) (kvpb.StoreID, bool) {
			turn++
			return c.heir(d, turn)
		})
		progress(left)
		if left == 0 {
			return
		}
		c.n.log.Info("leases are still here; will try again", "left", left, "err", err)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// heir chooses the store that gets a lease of this one: the voters that are alive
// in turn.
func (c *cluster) heir(d *kvpb.RangeDescriptor, turn int) (kvpb.StoreID, bool) {
	var can []kvpb.StoreID
	for _, r := range d.Replicas {
		if !r.Type.MayServe() || r.NodeID == c.n.ident.NodeID || !c.live.IsLive(r.NodeID) {
			continue
		}
		if s, ok := c.gossip.Node(int32(r.NodeID)); !ok || s.Suspected || s.Draining {
			continue
		}
		can = append(can, r.StoreID)
	}
	if len(can) == 0 {
		return 0, false
	}
	return can[turn%len(can)], true
}

var (
	nodeIDGenerator  = append(keys.SystemPrefix.Clone(), "node-idgen"...)
	storeIDGenerator = append(keys.SystemPrefix.Clone(), "store-idgen"...)
)

// allocate returns the next number of a generator. The first node's were not taken
// from it.
func (c *cluster) allocate(ctx context.Context, generator keys.Key) (int32, error) {
	id, err := c.n.db.Inc(ctx, generator, 1)
	if err == nil && id >= 1<<31-1 {
		err = errors.New("there are no numbers left for " + keys.Pretty(generator))
	}
	return int32(id) + 1, err
}
