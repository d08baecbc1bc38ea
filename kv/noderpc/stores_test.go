package noderpc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver"
	"github.com/holdfastdb/holdfast/kv/storage"
)

var _ kvserver.Network = (*Dialer)(nil)

// storeHandler is what a server makes of a store.
type storeHandler struct{ *kvserver.Store }

func (storeHandler) HandleJoin(context.Context, JoinRequest) (JoinResponse, error) {
	return JoinResponse{}, errors.New("nobody joins here")
}

// storeCluster is nodes with stores that talk over loopback.
type storeCluster struct {
	*testCluster
	mu     sync.Mutex
	stores map[kvpb.NodeID]*kvserver.Store
	dbs    map[kvpb.NodeID]*kv.DB
}

func rowKey(i int) keys.Key { return keys.Key(fmt.Sprintf("\x90key%06d", i)) }

// start opens the store of a node and serves it.
func (c *storeCluster) start(n *testNode, fs vfs.FS) {
	cfg := storage.DefaultConfig("store")
	cfg.FS, cfg.ReserveBytes, cfg.MemTableBytes = fs, 0, 1<<20
	eng, err := storage.Open(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := kvserver.ReadIdent(eng); errors.Is(err, kvserver.ErrNotBootstrapped) {
		first := kvserver.Join
		if n.id == 1 {
			first = kvserver.Bootstrap
		}
		if err := first(eng, kvserver.Ident{ClusterID: [16]byte{1}, NodeID: n.id, StoreID: kvpb.StoreID(n.id)}); err != nil {
			c.t.Fatal(err)
		}
	}
	s, err := kvserver.Open(context.Background(), kvserver.Config{
		Engine: eng, Clock: n.cfg.Clock, NodeID: n.id, Log: n.cfg.Log, TickInterval: 20 * time.Millisecond,
		Network: n.Dialer, Transport: n.Dialer, FirstRange: c.firstRange,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	n.SetLocal(storeHandler{s})
	n.serve(storeHandler{s})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stores[n.id] = s
	c.dbs[n.id] = kv.NewDB(kv.Config{Sender: s.Sender(), Clock: n.cfg.Clock, UncertaintyInterval: 500 * time.Millisecond})
}

func (c *storeCluster) halt(n *testNode) {
	c.mu.Lock()
	s := c.stores[n.id]
	delete(c.stores, n.id)
	c.mu.Unlock()
	if s == nil {
		return
	}
	n.stop()
	if err := errors.Join(s.Close(), s.Engine().Close()); err != nil {
		c.t.Errorf("closing n%d: %v", n.id, err)
	}
}

// firstRange asks all stores, which gossip will do for a server.
func (c *storeCluster) firstRange(ctx context.Context) (*kvpb.RangeDescriptor, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var best *kvpb.RangeDescriptor
	for _, s := range c.stores {
		// No range holds these keys, so each says what it holds.
		ba := &kvpb.BatchRequest{Header: kvpb.Header{RangeID: 1}}
		ba.Add(kvpb.Request{Op: kvpb.OpScan, Key: keys.Key{0}, EndKey: keys.Key{0xff, 0xff, 0xff}})
		_, err := s.HandleBatch(ctx, ba)
		var mismatch *kvpb.RangeKeyMismatchError
		if errors.As(err, &mismatch) && mismatch.Descriptor.RangeID == 1 && (best == nil || best.Generation < mismatch.Descriptor.Generation) {
			best = &mismatch.Descriptor
		}
	}
	if best == nil {
		return nil, errors.New("nobody has the first range")
	}
	return best, nil
}

// put writes a row through a node, again if nobody knows whether it was written.
func (c *storeCluster) put(n kvpb.NodeID, i, v int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		err := c.dbs[n].Put(ctx, rowKey(i), kvpb.EncodeInt(rowKey(i), int64(v)))
		var ambiguous *kvpb.AmbiguousResultError
		if err == nil {
			return
		}
		if !errors.As(err, &ambiguous) {
			c.t.Fatalf("row %d through n%d: %v", i, n, err)
		}
	}
}

func (c *storeCluster) admin(from kvpb.NodeID, q kvpb.Request) {
	c.t.Helper()
	var err error
	eventually(c.t, fmt.Sprintf("%s succeeds (%v)", q.Op, err), func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		ba := &kvpb.BatchRequest{}
		ba.Add(q)
		if _, err = c.stores[from].Sender().Send(ctx, ba); err != nil {
			c.t.Log(err)
		}
		return err == nil
	})
}

// Three stores replicate over real connections: all roads at once, and what
// becomes of them when a node dies and comes back.
func TestStoresReplicateOverTheWire(t *testing.T) {
	c := &storeCluster{testCluster: newCluster(t, 3, handlerFuncs{}), stores: map[kvpb.NodeID]*kvserver.Store{}, dbs: map[kvpb.NodeID]*kv.DB{}}
	fs := map[kvpb.NodeID]*vfs.MemFS{}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			c.halt(n)
		}
	})
	for id := kvpb.NodeID(1); id <= 3; id++ {
		c.nodes[id].stop()
		fs[id] = vfs.NewMem()
		c.start(c.nodes[id], fs[id])
	}
	const rows = 60
	for i := range rows {
		c.put(1, i, i)
	}
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminChangeReplicas, Key: rowKey(0), Args: &kvpb.ChangeReplicasArgs{Add: []kvpb.ReplicaDescriptor{
		{NodeID: 2, StoreID: 2}, {NodeID: 3, StoreID: 3},
	}}})
	for i := range rows {
		c.put(kvpb.NodeID(i%3+1), i, 1000+i)
	}
	c.admin(2, kvpb.Request{Op: kvpb.OpAdminSplit, Key: rowKey(rows / 2)})
	for i := range rows {
		c.put(kvpb.NodeID(i%3+1), i, 2000+i)
	}
	// A node dies, most likely the one that serves; the others go on.
	c.halt(c.nodes[1])
	for i := range rows {
		c.put(kvpb.NodeID(i%2+2), i, 3000+i)
	}
	c.start(c.nodes[1], fs[1])
	for i := range rows {
		c.put(kvpb.NodeID(i%3+1), i, 4000+i)
	}
	for id := kvpb.NodeID(1); id <= 3; id++ {
		var kvs []kvpb.KeyValue
		err := c.dbs[id].Txn(testContext(t), func(ctx context.Context, txn *kv.Txn) error {
			res, err := txn.Scan(ctx, rowKey(0), rowKey(rows), kv.ScanOptions{})
			kvs = res.KVs
			return err
		})
		if err != nil || len(kvs) != rows {
			t.Fatalf("n%d reads %d rows, %v", id, len(kvs), err)
		}
		for i, p := range kvs {
			if v, err := kvpb.DecodeInt(p.Value); err != nil || v != int64(4000+i) {
				t.Errorf("n%d reads %d in row %d, %v", id, v, i, err)
			}
		}
	}
}
