// Package kvtest gives tests a keyspace of their own: a store in memory with one
// node's clock. Start reading at New.
package kvtest

import (
	"context"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvserver"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// Node is a store in this process and a DB over it.
type Node struct {
	DB     *kv.DB
	Store  *kvserver.Store
	Engine *storage.Engine
	Clock  *hlc.Clock

	closed bool
}

// Options change what New makes.
type Options struct {
	FS    storage.FS // nil: a new file system in memory
	Clock *hlc.Clock // nil: the machine's
	GC    *kvserver.GCConfig
}

// NewDB returns a DB over an empty keyspace that lasts until the test ends.
func NewDB(t testing.TB) *kv.DB { return New(t, Options{}).DB }

// New starts a node that is closed when the test ends.
func New(t testing.TB, o Options) *Node {
	t.Helper()
	n, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// Start is New without a test: for benchmarks and for several lives of a store.
func Start(o Options) (*Node, error) {
	if o.FS == nil {
		o.FS = storage.NewMemFS()
	}
	if o.Clock == nil {
		o.Clock = hlc.NewSystemClock(500 * time.Millisecond)
	}
	cfg := storage.DefaultConfig("store")
	cfg.FS = o.FS
	cfg.CacheBytes = 16 << 20
	cfg.ReserveBytes = 0
	eng, err := storage.Open(cfg)
	if err != nil {
		return nil, err
	}
	store, db, err := kvserver.OpenLocal(context.Background(), kvserver.Config{
		Engine: eng, Clock: o.Clock, NodeID: 1, GC: o.GC,
	}, kvserver.Ident{ClusterID: [16]byte{1}, NodeID: 1, StoreID: 1})
	if err != nil {
		_ = eng.Close()
		return nil, err
	}
	return &Node{DB: db, Store: store, Engine: eng, Clock: o.Clock}, nil
}

// Close stops the node in order.
func (n *Node) Close() error {
	if n.closed {
		return nil
	}
	n.closed = true
	if err := n.Store.Close(); err != nil {
		return err
	}
	return n.Engine.Close()
}
