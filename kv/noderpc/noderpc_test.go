package noderpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// handlerFuncs is a Handler of functions; those that are nil fail.
type handlerFuncs struct {
	batch    func(context.Context, *kvpb.BatchRequest) (*kvpb.BatchResponse, error)
	raft     func(kvpb.NodeID, int64, *pb.Message)
	snapshot func(context.Context, int64, *pb.Message, io.Reader) error
	join     func(context.Context, JoinRequest) (JoinResponse, error)
}

func (h handlerFuncs) HandleBatch(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	if h.batch == nil {
		return nil, errors.New("no batches here")
	}
	return h.batch(ctx, ba)
}

func (h handlerFuncs) HandleRaft(from kvpb.NodeID, rangeID int64, m *pb.Message) {
	if h.raft != nil {
		h.raft(from, rangeID, m)
	}
}

func (h handlerFuncs) HandleSnapshot(ctx context.Context, rangeID int64, m *pb.Message, body io.Reader) error {
	if h.snapshot == nil {
		return errors.New("no snapshots here")
	}
	return h.snapshot(ctx, rangeID, m, body)
}

func (h handlerFuncs) HandleJoin(ctx context.Context, req JoinRequest) (JoinResponse, error) {
	if h.join == nil {
		return JoinResponse{}, errors.New("nobody joins here")
	}
	return h.join(ctx, req)
}

// echo answers each request with its key.
func echo(_ context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	br := &kvpb.BatchResponse{Responses: make([]kvpb.Response, len(ba.Requests))}
	for i := range ba.Requests {
		br.Responses[i].KVs = []kvpb.KeyValue{{Key: ba.Requests[i].Key, Value: ba.Requests[i].Key}}
	}
	return br, nil
}

func get(key string) *kvpb.BatchRequest {
	return &kvpb.BatchRequest{Header: kvpb.Header{RangeID: 1}, Requests: []kvpb.Request{{Op: kvpb.OpGet, Key: []byte(key)}}}
}

func put(key string) *kvpb.BatchRequest {
	return &kvpb.BatchRequest{Header: kvpb.Header{RangeID: 1}, Requests: []kvpb.Request{{Op: kvpb.OpPut, Key: []byte(key), Value: []byte("v")}}}
}

// testNode is a node of a test: a Dialer, and a Server while it is up.
type testNode struct {
	*Dialer
	t       testing.TB
	id      kvpb.NodeID
	cluster byte
	cfg     Config
	log     lockedBuffer
	skew    atomic.Int64 // of its wall clock
	address atomic.Pointer[string]
	server  *Server
	stop    func() // ends server
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type testCluster struct {
	t      testing.TB
	nodes  map[kvpb.NodeID]*testNode
	faults Faults
}

// newCluster starts nodes 1 to n with the same handler.
func newCluster(t testing.TB, n int, h Handler) *testCluster {
	c := &testCluster{t: t, nodes: map[kvpb.NodeID]*testNode{}}
	t.Cleanup(func() { checkLeaks(t) })
	for id := kvpb.NodeID(1); id <= kvpb.NodeID(n); id++ {
		c.add(id, 1, h)
	}
	return c
}

func (c *testCluster) add(id kvpb.NodeID, cluster byte, h Handler) *testNode {
	n := &testNode{t: c.t, id: id, cluster: cluster, stop: func() {}}
	clock := hlc.NewClock(func() int64 { return time.Now().UnixNano() + n.skew.Load() }, 500*time.Millisecond)
	n.cfg = Config{
		Identity: func() Identity { return Identity{ClusterID: [16]byte{n.cluster}, NodeID: n.id} },
		Clock:    clock, Log: slog.New(slog.NewTextHandler(&n.log, nil)), Faults: &c.faults,
		Address: func(id kvpb.NodeID) (string, error) {
			if n := c.nodes[id]; n != nil {
				return *n.address.Load(), nil
			}
			return "", fmt.Errorf("n%d is unknown", id)
		},
		ConnectTimeout: 500 * time.Millisecond, MaxBackoff: 100 * time.Millisecond,
		PingInterval: 20 * time.Millisecond, PingTimeout: 500 * time.Millisecond,
	}
	n.Dialer = NewDialer(n.cfg)
	n.SetLocal(h)
	c.nodes[id] = n
	n.serve(h)
	c.t.Cleanup(func() {
		n.Close()
		n.stop()
	})
	return n
}

// serve starts the node's Server at a new port.
func (n *testNode) serve(h Handler) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	address := l.Addr().String()
	n.address.Store(&address)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	n.server = NewServer(n.cfg, h)
	server := n.server
	go func() { done <- server.Serve(ctx, l) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Error(err)
		}
	})
}

// checkLeaks fails if goroutines of this package or of gRPC are left.
func checkLeaks(t testing.TB) {
	var left []string
	for range 100 {
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		left = left[:0]
		for _, g := range strings.Split(string(buf), "\n\n")[1:] {
			if strings.Contains(g, "/noderpc.") && !strings.Contains(g, "testing.(*") || strings.Contains(g, "google.golang.org/grpc") {
				left = append(left, g)
			}
		}
		if len(left) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("goroutines are left:\n%s", strings.Join(left, "\n\n"))
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until f holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("waited too long until %s", what)
}
