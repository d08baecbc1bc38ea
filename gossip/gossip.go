package gossip

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/gossip/gossippb"
)

// Config is what a node needs to take part.
type Config struct {
	// Node is what this process says about itself at first. Its id and address
	// must be set. Started must be later than that of any earlier process of the
	// node; if it is zero, it is now. Sequence is filled in.
	Node *gossippb.Node
	// ClusterID keeps clusters apart that reach each other by mistake.
	ClusterID [16]byte
	// Dial opens a connection to the gossip of the node at addr.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	Log  *slog.Logger

	// Deliver is between what comes from other nodes and what this one learns, so
	// that tests can lose, double, delay and disorder it; nil: nothing is.
	Deliver func(msg []byte, learn func([]byte))

	ProbeInterval    time.Duration // between checks of one random peer
	GossipInterval   time.Duration // between packets of news
	PushPullInterval time.Duration // between full exchanges with a random peer
}

// DefaultConfig has the intervals for nodes in one or several regions.
func DefaultConfig() Config {
	return Config{ProbeInterval: time.Second, GossipInterval: 200 * time.Millisecond, PushPullInterval: 15 * time.Second}
}

// Validate says what is missing.
func (c *Config) Validate() error {
	switch {
	case c.Node.GetNodeId() <= 0:
		return errors.New("gossip: node id is missing")
	case c.Node.GetAddress() == "":
		return errors.New("gossip: --advertise-addr is missing")
	case c.Dial == nil:
		return errors.New("gossip: no way to dial")
	case c.ProbeInterval <= 0 || c.GossipInterval <= 0 || c.PushPullInterval <= 0:
		return errors.New("gossip: intervals must be positive")
	}
	return nil
}

// Gossip is one node's part. It is safe for concurrent use.
type Gossip struct {
	log   *slog.Logger
	facts *facts
	trans *transport
	list  *memberlist.Memberlist
	queue memberlist.TransmitLimitedQueue
	// deliver is Config.Deliver.
	deliver func(msg []byte, learn func([]byte))

	mu struct {
		sync.Mutex
		self *gossippb.Node
		// alive are the processes that memberlist hears of, by their names.
		alive map[string]struct{}
		// changed is closed and replaced when something is news.
		changed chan struct{}
	}
}

// Start begins to take part. Nobody is known until Join, or until somebody joins
// this node.
func Start(cfg Config) (*Gossip, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gossip{log: cfg.Log, facts: newFacts(), deliver: cfg.Deliver}
	g.mu.alive = map[string]struct{}{}
	g.mu.changed = make(chan struct{})
	g.mu.self = proto.CloneOf(cfg.Node)
	g.mu.self.Sequence = 1
	if g.mu.self.Started == 0 {
		g.mu.self.Started = time.Now().UnixNano()
	}
	g.facts.merge(&gossippb.Facts{Nodes: []*gossippb.Node{g.mu.self}})
	g.queue.NumNodes = g.numNodes
	g.queue.RetransmitMult = 4
	g.trans = newTransport(cfg.Node.Address, cfg.Dial, g.addressOf)

	mc := memberlist.DefaultLANConfig()
	mc.Name = memberName(g.mu.self)
	mc.Transport = g.trans
	mc.Label = hex.EncodeToString(cfg.ClusterID[:])
	mc.ProbeInterval, mc.ProbeTimeout = cfg.ProbeInterval, cfg.ProbeInterval/2
	mc.GossipInterval, mc.PushPullInterval = cfg.GossipInterval, cfg.PushPullInterval
	mc.TCPTimeout = dialTimeout
	mc.UDPBufferSize = 8 << 10 // Packets travel in streams here.
	mc.DisableTcpPings = true  // All are over TCP already.
	mc.EnableCompression = false
	mc.Delegate, mc.Events, mc.Alive = g, g, g
	mc.Logger = log.New(logWriter{cfg.Log}, "", 0)
	var err error
	if g.list, err = memberlist.Create(mc); err != nil {
		_ = g.trans.Shutdown()
		return nil, fmt.Errorf("starting gossip: %w", err)
	}
	return g, nil
}

// memberName names a process, not a node: after a restart, perhaps at another
// address, a node is a new member at once, and the old one dies by itself.
func memberName(n *gossippb.Node) string { return fmt.Sprintf("n%d.%x", n.NodeId, n.Started) }

func parseMemberName(name string) (nodeID int32, started int64, ok bool) {
	id, at, ok := strings.Cut(strings.TrimPrefix(name, "n"), ".")
	if !ok {
		return 0, 0, false
	}
	n, err1 := strconv.ParseInt(id, 10, 32)
	s, err2 := strconv.ParseInt(at, 16, 64)
	return int32(n), s, err1 == nil && err2 == nil
}

// Accept serves an incoming connection that was dialed for gossip. It blocks
// while the connection lasts.
func (g *Gossip) Accept(c net.Conn) {
	if err := g.trans.accept(c); err != nil && !errors.Is(err, net.ErrClosed) {
		g.log.Debug("gossip connection ended", "peer", c.RemoteAddr(), "err", err)
	}
}

// Join exchanges all facts with the nodes at addrs and returns how many answered;
// an error if none did.
func (g *Gossip) Join(addrs []string) (int, error) {
	n, err := g.list.Join(addrs)
	if n > 0 {
		return n, nil
	}
	if err == nil {
		err = errors.New("no address was given")
	}
	return 0, fmt.Errorf("joining by gossip: %w", err)
}

// Leave tells the others that this process ends on purpose, so that nobody
// suspects it, and waits for that at most for timeout.
func (g *Gossip) Leave(timeout time.Duration) error { return g.list.Leave(timeout) }

// Close stops taking part. It does not say goodbye; see Leave.
func (g *Gossip) Close() error { return g.list.Shutdown() }

// Update changes what this node says about itself and spreads it.
func (g *Gossip) Update(change func(*gossippb.Node)) {
	g.mu.Lock()
	next := proto.CloneOf(g.mu.self)
	change(next)
	next.NodeId, next.Started, next.Sequence = g.mu.self.NodeId, g.mu.self.Started, g.mu.self.Sequence+1
	g.mu.self = next
	g.mu.Unlock()
	g.learn(&gossippb.Facts{Nodes: []*gossippb.Node{next}})
}

// Announce spreads who holds leases.
func (g *Gossip) Announce(leases ...*gossippb.Lease) { g.learn(&gossippb.Facts{Leases: leases}) }

// AnnounceFirstRange spreads where the first range is.
func (g *Gossip) AnnounceFirstRange(f *gossippb.FirstRange) {
	g.learn(&gossippb.Facts{FirstRange: f})
}

// FirstRange returns where the first range is, or nil.
func (g *Gossip) FirstRange() *gossippb.FirstRange { return g.facts.firstRange() }

// Status is what is known of a node.
type Status struct {
	*gossippb.Node // must not be changed
	// Suspected says that its process does not answer; it may be dead, slow, or
	// cut off from here.
	Suspected bool
}

// Nodes returns all nodes ever heard of, by id.
func (g *Gossip) Nodes() []Status {
	var out []Status
	for _, n := range g.facts.all().Nodes {
		out = append(out, g.status(n))
	}
	return out
}

// Node returns what is known of one node.
func (g *Gossip) Node(id int32) (Status, bool) {
	n := g.facts.node(id)
	if n == nil {
		return Status{}, false
	}
	return g.status(n), true
}

func (g *Gossip) status(n *gossippb.Node) Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, alive := g.mu.alive[memberName(n)]
	return Status{Node: n, Suspected: !alive}
}

// Lease returns the newest hint about a range, or nil.
func (g *Gossip) Lease(rangeID int64) *gossippb.Lease { return g.facts.lease(rangeID) }

// Leases returns all hints, by range.
func (g *Gossip) Leases() []*gossippb.Lease { return g.facts.all().Leases }

// Changed returns a channel that is closed at the next news.
func (g *Gossip) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.changed
}

func (g *Gossip) notify() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.mu.changed)
	g.mu.changed = make(chan struct{})
}

// addressOf is where a member says that it can be reached.
func (g *Gossip) addressOf(member string) string {
	id, started, ok := parseMemberName(member)
	if !ok {
		return ""
	}
	if n := g.facts.node(id); n != nil && n.Started == started {
		return n.Address
	}
	return ""
}

// learn takes in facts and passes on what was news.
func (g *Gossip) learn(in *gossippb.Facts) {
	news := g.facts.merge(in)
	if news == nil {
		return
	}
	g.contradict(news)
	for _, n := range news.Nodes {
		g.enqueue("n"+strconv.Itoa(int(n.NodeId)), &gossippb.Facts{Nodes: []*gossippb.Node{n}})
	}
	for _, l := range news.Leases {
		g.enqueue("r"+strconv.FormatInt(l.RangeId, 10), &gossippb.Facts{Leases: []*gossippb.Lease{l}})
	}
	if news.FirstRange != nil {
		g.enqueue("first", &gossippb.Facts{FirstRange: news.FirstRange})
	}
	g.notify()
}

// contradict answers facts about this node that this process did not say: another
// process uses the node's id. The higher start wins; that is for the log.
func (g *Gossip) contradict(news *gossippb.Facts) {
	g.mu.Lock()
	self := g.mu.self
	g.mu.Unlock()
	for _, n := range news.Nodes {
		if n.NodeId == self.NodeId && n.Started != self.Started {
			g.log.Error("another process says that it is this node", "node", n.NodeId, "address", n.Address)
		}
	}
}

func (g *Gossip) enqueue(key string, f *gossippb.Facts) {
	b, err := proto.Marshal(f)
	if err != nil {
		g.log.Error("encoding gossip", "err", err)
		return
	}
	g.queue.QueueBroadcast(&broadcast{key: key, msg: b})
}

func (g *Gossip) numNodes() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(1, len(g.mu.alive))
}

// broadcast is news about one node or range; later news about the same replaces it.
type broadcast struct {
	key string
	msg []byte
}

var _ memberlist.NamedBroadcast = (*broadcast)(nil)

// Invalidates implements memberlist.Broadcast.
func (b *broadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(*broadcast)
	return ok && o.key == b.key
}

// Name implements memberlist.NamedBroadcast.
func (b *broadcast) Name() string { return b.key }

// Message implements memberlist.Broadcast.
func (b *broadcast) Message() []byte { return b.msg }

// Finished implements memberlist.Broadcast.
func (b *broadcast) Finished() {}

// logWriter gives memberlist's lines to slog. Most of them are for whoever looks
// into the protocol.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(b []byte) (int, error) {
	line := string(bytes.TrimSpace(b))
	switch {
	case strings.HasPrefix(line, "[ERR]"), strings.HasPrefix(line, "[WARN]"):
		w.log.Warn("gossip", "memberlist", line)
	default:
		w.log.Debug("gossip", "memberlist", line)
	}
	return len(b), nil
}
