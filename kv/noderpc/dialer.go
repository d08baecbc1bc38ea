package noderpc

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/noderpc/noderpcpb"
)

// Dialer sends to other nodes. It implements kv.Transport and is safe for
// concurrent use.
type Dialer struct {
	cfg     Config
	local   atomic.Pointer[Handler]
	ctx     context.Context // ends with Close
	cancel  context.CancelCauseFunc
	running sync.WaitGroup
	dropped atomic.Int64

	mu struct {
		sync.Mutex
		closed bool
		peers  map[kvpb.NodeID]*peer
	}
}

// NewDialer returns a Dialer that connects to nodes when they are first needed.
// It is to be closed.
func NewDialer(cfg Config) *Dialer {
	d := &Dialer{cfg: cfg.withDefaults()}
	d.ctx, d.cancel = context.WithCancelCause(context.Background())
	d.mu.peers = map[kvpb.NodeID]*peer{}
	return d
}

// SetLocal tells what takes the messages for this node itself. They are neither
// encoded nor delayed.
func (d *Dialer) SetLocal(h Handler) { d.local.Store(&h) }

// Close ends all connections. Requests that are under way fail. When it returns
// no goroutine of the Dialer is left.
func (d *Dialer) Close() {
	d.mu.Lock()
	d.mu.closed = true
	d.mu.Unlock()
	d.cancel(ErrClosed)
	d.running.Wait()
}

// start runs f in a goroutine of the Dialer's, unless that is closed.
func (d *Dialer) start(f func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.closed {
		return false
	}
	d.running.Go(f)
	return true
}

func (d *Dialer) peer(id kvpb.NodeID) *peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.mu.peers[id]
	if p == nil {
		p = newPeer(d, id)
		d.mu.peers[id] = p
	}
	return p
}

func (d *Dialer) self() kvpb.NodeID { return d.cfg.Identity().NodeID }

// localHandler returns what serves this node.
func (d *Dialer) localHandler() (Handler, error) {
	if h := d.local.Load(); h != nil {
		return *h, nil
	}
	return nil, &SendError{NodeID: d.self(), Cause: errors.New("it does not serve requests yet")}
}

// clientConn returns a connection to an address that connects with its first call.
func (d *Dialer) clientConn(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return d.cfg.DialContext(ctx, address) }),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: d.cfg.ConnectTimeout}),
		grpc.WithIdleTimeout(0), grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithNoProxy(),
		grpc.WithStaticStreamWindowSize(streamWindow), grpc.WithStaticConnWindowSize(connWindow),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(MaxMessageBytes), grpc.MaxCallSendMsgSize(MaxMessageBytes)),
	)
}

// What may be under way to a receiver that does not read: so much of one stream,
// and of all streams of a connection together.
const (
	streamWindow = 4 << 20
	connWindow   = 32 << 20
)

// The keys of the header that begins each stream.
const (
	keyCluster = "holdfast-cluster-bin"
	keyFrom    = "holdfast-from"
	keyTo      = "holdfast-to"
)

func (d *Dialer) header(to kvpb.NodeID) metadata.MD {
	id := d.cfg.Identity()
	return metadata.Pairs(keyCluster, string(id.ClusterID[:]), keyFrom, formatNode(id.NodeID), keyTo, formatNode(to))
}

// ping compares identities and clocks with whoever is at the other end of client,
// who should be to. The sample of a clock that is refused is good.
func (d *Dialer) ping(ctx context.Context, client noderpcpb.NodeClient, to kvpb.NodeID) (clockSample, error) {
	id := d.cfg.Identity()
	now := tsToWire(d.cfg.Clock.Now())
	sent := d.cfg.Clock.PhysicalNow()
	if err := d.cfg.Faults.pass(ctx, Message{From: id.NodeID, To: to, Kind: KindPing}); err != nil {
		return clockSample{}, err
	}
	resp, err := client.Ping(ctx, &noderpcpb.PingRequest{Now: now, ClusterId: id.ClusterID[:], FromNode: int32(id.NodeID), ToNode: int32(to)})
	received := d.cfg.Clock.PhysicalNow()
	if err != nil {
		if r := refusal(err); r != nil {
			return clockSample{}, r
		}
		return clockSample{}, err
	}
	them := Identity{ClusterID: [16]byte(append(resp.GetClusterId(), make([]byte, 16)...)), NodeID: kvpb.NodeID(resp.GetNodeId())}
	if err := them.check("the caller", id.ClusterID[:], to); err != nil {
		return clockSample{}, err
	}
	sample := clockSample{
		offset: time.Duration(resp.GetReceived()-sent+resp.GetSent()-received) / 2,
		rtt:    time.Duration(received - sent - (resp.GetSent() - resp.GetReceived())),
	}
	if why := resp.GetClockRefused(); why != "" {
		return sample, &peerError{msg: why, mark: ErrClockOffset}
	}
	return sample, d.cfg.receive(to, resp.GetNow())
}

// clockSample is what one ping says of a peer's clock. The true offset is within
// half of rtt of it.
type clockSample struct {
	offset, rtt time.Duration
}

// Offsets returns how far the clocks of other nodes are ahead of this one: of those
// that are connected, and of those whose clock is the reason why they are not.
func (d *Dialer) Offsets() map[kvpb.NodeID]time.Duration {
	out := map[kvpb.NodeID]time.Duration{}
	d.eachSample(func(id kvpb.NodeID, s clockSample) { out[id] = s.offset })
	return out
}

// RoundTrips returns how long a message to a connected node and back takes.
func (d *Dialer) RoundTrips() map[kvpb.NodeID]time.Duration {
	out := map[kvpb.NodeID]time.Duration{}
	d.eachSample(func(id kvpb.NodeID, s clockSample) { out[id] = s.rtt })
	return out
}

func (d *Dialer) eachSample(f func(kvpb.NodeID, clockSample)) {
	d.mu.Lock()
	peers := make([]*peer, 0, len(d.mu.peers))
	for _, p := range d.mu.peers {
		peers = append(peers, p)
	}
	d.mu.Unlock()
	for _, p := range peers {
		if s, ok := p.bestSample(); ok {
			f(p.id, s)
		}
	}
}

// Join asks the node at an address, whoever it is, for a place in its cluster.
func (d *Dialer) Join(ctx context.Context, address string, req JoinRequest) (JoinResponse, error) {
	cc, err := d.clientConn(address)
	if err != nil {
		return JoinResponse{}, err
	}
	defer cc.Close()
	m := &noderpcpb.JoinRequest{
		Now: tsToWire(d.cfg.Clock.Now()), NodeId: int32(req.NodeID), StoreId: int32(req.StoreID), Address: req.Address,
		SqlAddress: req.SQLAddress, Locality: req.Locality, Attrs: req.Attrs, Version: req.Version,
		InitClaim: req.InitClaim, InitWithdrawn: req.InitWithdrawn, ClusterName: req.ClusterName, AnyClusterName: req.AnyClusterName,
	}
	if req.ClusterID != [16]byte{} {
		m.ClusterId = req.ClusterID[:]
	}
	resp, err := noderpcpb.NewNodeClient(cc).Join(ctx, m)
	if err != nil {
		if r := refusal(err); r != nil {
			err = r
		} else if ctx.Err() != nil {
			err = ctx.Err()
		}
		return JoinResponse{}, joinError(address, err)
	}
	if err := kvpb.ErrorFromWire(resp.GetError()); err != nil {
		return JoinResponse{}, joinError(address, err)
	}
	if err := d.cfg.receive(kvpb.NodeID(resp.GetNodeId()), resp.GetNow()); err != nil {
		return JoinResponse{}, joinError(address, err)
	}
	if len(resp.GetClusterId()) != 16 {
		return JoinResponse{}, joinError(address, errors.New("the answer names no cluster"))
	}
	return JoinResponse{
		ClusterID: [16]byte(resp.GetClusterId()), NodeID: kvpb.NodeID(resp.GetNodeId()), StoreID: kvpb.StoreID(resp.GetStoreId()),
		FirstRange: resp.GetFirstRange(),
	}, nil
}
