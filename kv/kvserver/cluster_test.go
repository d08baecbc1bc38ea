package kvserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/testkit"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// testCluster is several stores in one process, and the network between them.
type testCluster struct {
	t     *testing.T
	mu    sync.Mutex
	nodes map[kvpb.NodeID]*testNode
	cut   map[[2]kvpb.NodeID]bool // nothing passes from the first to the second
	queue map[[2]kvpb.NodeID]chan func()
	// beforeSnapshot, if set, is called before a snapshot is sent to a node; messages
	// of raft to nodes for which drop is true get lost.
	beforeSnapshot func(to kvpb.NodeID)
	drop           func(to kvpb.NodeID) bool
	dropMessage    func(rangeID int64, m *RaftMessage) bool // the same for single ones
	stop           chan struct{}
	wg             sync.WaitGroup
	checkEvery     time.Duration // each range is checked so often
	// places, if set, has the stores keep ranges where they should be.
	places *testPlaces
	// sim, if set, is how long messages take.
	sim *simulation
}

type testNode struct {
	id    kvpb.NodeID
	fs    *testkit.CrashFS
	eng   *storage.Engine
	store *Store
	db    *kv.DB
}

// lost is how the network fails.
type lost struct{ sent bool }

func (e *lost) Error() string         { return "the connection broke" }
func (e *lost) MayHaveHappened() bool { return e.sent }

func newTestCluster(t *testing.T, n int) *testCluster { return startTestCluster(t, n, nil, nil) }

func startTestCluster(t *testing.T, n int, places *testPlaces, sim *simulation) *testCluster {
	c := &testCluster{
		t: t, nodes: map[kvpb.NodeID]*testNode{}, cut: map[[2]kvpb.NodeID]bool{}, queue: map[[2]kvpb.NodeID]chan func(){},
		stop: make(chan struct{}), places: places, sim: sim,
	}
	for id := kvpb.NodeID(1); id <= kvpb.NodeID(n); id++ {
		c.start(id, testkit.NewCrashFS())
		sim.drift(id)
	}
	t.Cleanup(func() {
		for id := range c.nodes {
			c.halt(id)
		}
		close(c.stop)
		c.wg.Wait()
	})
	return c
}

func testLog() *slog.Logger {
	if os.Getenv("TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// start opens a node's store, as a new one if there is nothing in fs.
func (c *testCluster) start(id kvpb.NodeID, fs *testkit.CrashFS) *testNode {
	c.t.Helper()
	cfg := storage.DefaultConfig("store")
	cfg.FS, cfg.ReserveBytes, cfg.MemTableBytes = fs, 0, 1<<20
	eng, err := storage.Open(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	ident := Ident{ClusterID: [16]byte{1}, NodeID: id, StoreID: kvpb.StoreID(id)}
	if _, err := ReadIdent(eng); errors.Is(err, ErrNotBootstrapped) {
		make := Join
		if id == 1 {
			make = Bootstrap
		}
		if err := make(eng, ident); err != nil {
			c.t.Fatal(err)
		}
	}
	clock := hlc.NewSystemClock(100 * time.Millisecond)
	storeCfg := Config{
		Engine: eng, Clock: clock, NodeID: id, Log: testLog().With("n", id), TickInterval: 20*time.Millisecond + c.sim.odd(),
		ClosedTimestampTarget: func() time.Duration { return 200 * time.Millisecond },
		Network:               testNetwork{c, id}, Transport: testNetwork{c, id}, FirstRange: c.firstRange,
	}
	storeCfg.CheckInterval = func() time.Duration {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.checkEvery
	}
	if c.places != nil {
		storeCfg.Stores, storeCfg.ZoneConfig, storeCfg.PlacementTick = c.stores, c.zoneConfig, 20*time.Millisecond
		storeCfg.MergeQueue = func() bool { return c.places.merges }
	}
	store, err := Open(context.Background(), storeCfg)
	if err != nil {
		c.t.Fatal(err)
	}
	n := &testNode{id: id, fs: fs, eng: eng, store: store}
	n.db = kv.NewDB(kv.Config{Sender: store.Sender(), Clock: clock, UncertaintyInterval: 100 * time.Millisecond})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[id] = n
	return n
}

// halt takes a node out of the network and closes it.
func (c *testCluster) halt(id kvpb.NodeID) *testNode {
	c.mu.Lock()
	n := c.nodes[id]
	delete(c.nodes, id)
	if c.places != nil {
		c.places.left[id] = time.Now()
	}
	c.mu.Unlock()
	if n == nil {
		return nil
	}
	if err := n.store.Close(); err != nil {
		c.t.Errorf("closing n%d: %v", id, err)
	}
	if err := n.eng.Close(); err != nil {
		c.t.Errorf("closing the engine of n%d: %v", id, err)
	}
	return n
}

// crash ends a node without what it has not synced, and starts it again.
func (c *testCluster) crash(id kvpb.NodeID) *testNode {
	c.mu.Lock()
	n := c.nodes[id]
	fs := n.fs.CrashClone(vfs.CrashCloneCfg{})
	c.mu.Unlock()
	c.halt(id)
	return c.start(id, fs)
}

func (c *testCluster) firstRange(context.Context) (*kvpb.RangeDescriptor, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var best *kvpb.RangeDescriptor
	for _, n := range c.nodes {
		if r := n.store.replica(1); r != nil && (best == nil || best.Generation < r.Desc().Generation) {
			best = r.Desc()
		}
	}
	if best == nil {
		return nil, errors.New("nobody has the first range")
	}
	return best, nil
}

// reach returns a node that can be reached from another.
func (c *testCluster) reach(from, to kvpb.NodeID) *testNode {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut[[2]kvpb.NodeID{from, to}] || c.nodes[from] == nil {
		return nil
	}
	return c.nodes[to]
}

// partition cuts one node off, both ways; nobody: all is well.
func (c *testCluster) partition(id kvpb.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.cut)
	for o := range c.nodes {
		if id != 0 && o != id {
			c.cut[[2]kvpb.NodeID{o, id}], c.cut[[2]kvpb.NodeID{id, o}] = true, true
		}
	}
}

// testNetwork is the network as one node sees it.
type testNetwork struct {
	c    *testCluster
	from kvpb.NodeID
}

func (n testNetwork) SendTo(ctx context.Context, to kvpb.ReplicaDescriptor, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	n.c.sim.request(n.from, to.NodeID, ba)
	node := n.c.reach(n.from, to.NodeID)
	if node == nil {
		return nil, &lost{}
	}
	resp, err := node.store.HandleBatch(ctx, ba)
	n.c.sim.answer(to.NodeID, n.from, err)
	if n.c.reach(to.NodeID, n.from) == nil {
		return nil, &lost{sent: true}
	}
	if errors.Is(err, ErrStopped) {
		return nil, &lost{sent: true}
	}
	return resp, err
}

func (n testNetwork) SendRaft(to kvpb.NodeID, rangeID int64, m *pb.Message) {
	m = proto.CloneOf(m)
	pair := [2]kvpb.NodeID{n.from, to}
	n.c.mu.Lock()
	if n.c.drop != nil && n.c.drop(to) || n.c.dropMessage != nil && n.c.dropMessage(rangeID, m) {
		n.c.mu.Unlock()
		return
	}
	q := n.c.queue[pair]
	if q == nil {
		q = make(chan func(), 1000)
		n.c.queue[pair] = q
		n.c.wg.Go(func() {
			for {
				select {
				case fn := <-q:
					fn()
				case <-n.c.stop:
					return
				}
			}
		})
	}
	n.c.mu.Unlock()
	arrive := n.c.sim.raft(n.from, to, rangeID, m)
	select {
	case q <- func() {
		arrive()
		if node := n.c.reach(n.from, to); node != nil {
			node.store.HandleRaft(n.from, rangeID, m)
		}
	}:
	default:
	}
}

func (n testNetwork) SendSnapshot(ctx context.Context, to kvpb.NodeID, rangeID int64, m *pb.Message, snap io.WriterTo) error {
	n.c.mu.Lock()
	before := n.c.beforeSnapshot
	n.c.mu.Unlock()
	if before != nil {
		before(to)
	}
	n.c.sim.snapshot(n.from, to, rangeID)
	node := n.c.reach(n.from, to)
	if node == nil {
		return &lost{}
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := node.store.HandleSnapshot(ctx, rangeID, proto.CloneOf(m), r)
		_ = r.CloseWithError(errors.Join(io.ErrClosedPipe, err))
		done <- err
	}()
	_, err := snap.WriteTo(w)
	_ = w.CloseWithError(err)
	return errors.Join(err, <-done)
}

// admin sends a request that changes the range of key, until it succeeds.
func (c *testCluster) admin(from kvpb.NodeID, q kvpb.Request) {
	c.t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		ba := &kvpb.BatchRequest{}
		ba.Add(q)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		_, err = c.nodes[from].store.sender.Send(ctx, ba)
		cancel()
		if err == nil {
			return
		}
	}
	c.t.Fatalf("%s: %v", q.Op, err)
}

// replicate brings the range of key to more stores.
func (c *testCluster) replicate(key keys.Key, stores ...kvpb.StoreID) {
	c.t.Helper()
	args := &kvpb.ChangeReplicasArgs{}
	for _, s := range stores {
		args.Add = append(args.Add, kvpb.ReplicaDescriptor{NodeID: kvpb.NodeID(s), StoreID: s})
	}
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminChangeReplicas, Key: key, Args: args})
}

// checkReplicas waits until all replicas of a range are alike and so many.
func (c *testCluster) checkReplicas(id kvpb.RangeID, want int) {
	c.t.Helper()
	c.checkAlike(id, func(*kvpb.RangeDescriptor) int { return want })
}

// checkPlaced waits until the replicas of a range are alike and those of its
// descriptor, of which there may be another one meanwhile.
func (c *testCluster) checkPlaced(id kvpb.RangeID) {
	c.t.Helper()
	c.checkAlike(id, func(newest *kvpb.RangeDescriptor) int { return len(newest.Replicas) })
}

func (c *testCluster) checkAlike(id kvpb.RangeID, want func(newest *kvpb.RangeDescriptor) int) {
	c.t.Helper()
	var seen string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		sums := map[[16]byte]int{}
		stats := map[storage.Stats]int{}
		seen = ""
		newest := &kvpb.RangeDescriptor{}
		for _, n := range c.nodes {
			r := n.store.replica(id)
			if r == nil {
				continue
			}
			if d := r.Desc(); newest.Generation < d.Generation {
				newest = d
			}
			sum, counts, err := n.eng.ChecksumSpans(context.Background(), replicatedSpans(r.Desc()))
			if err != nil {
				c.t.Fatal(err)
			}
			sums[sum]++
			st := r.Stats()
			if st.Estimates {
				st = storage.Stats{}
			}
			stats[st]++
			seen += fmt.Sprintf("\nn%d: %s %v, frozen %v, %+v, %+v", n.id, r.Desc(), r.Desc().Replicas, r.frozen.Load(), counts, r.Stats())
		}
		if len(sums) == 1 && len(stats) == 1 {
			for _, n := range sums {
				if n == want(newest) {
					return
				}
			}
		}
	}
	c.t.Fatalf("r%d: replicas differ or are not as many as they should be:%s", id, seen)
}

func tableKey(i int) keys.Key { return keys.Key(fmt.Sprintf("\x90key%06d", i)) }

func TestReplication(t *testing.T) {
	c := newTestCluster(t, 3)
	ctx := context.Background()
	for i := range 100 {
		if err := c.nodes[1].db.Put(ctx, tableKey(i), kvpb.EncodeInt(tableKey(i), int64(i))); err != nil {
			t.Fatal(err)
		}
	}
	c.replicate(tableKey(0), 2, 3)
	c.checkReplicas(1, 3)
	// Writes from every node.
	for i := range 300 {
		if err := c.nodes[kvpb.NodeID(i%3+1)].db.Put(ctx, tableKey(i), kvpb.EncodeInt(tableKey(i), int64(1000+i))); err != nil {
			t.Fatal(err)
		}
	}
	c.checkReplicas(1, 3)
	// The range is split; both halves have three replicas.
	c.admin(2, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(150)})
	for i := range 300 {
		if err := c.nodes[kvpb.NodeID(i%3+1)].db.Put(ctx, tableKey(i), kvpb.EncodeInt(tableKey(i), int64(2000+i))); err != nil {
			t.Fatal(err)
		}
	}
	c.checkReplicas(1, 3)
	c.checkReplicas(2, 3)
	// The leaseholder dies; the others go on and lose nothing.
	start := time.Now()
	c.halt(1)
	for i := range 300 {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		key := tableKey(i)
		got, err := c.nodes[2].db.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := kvpb.DecodeInt(got.Value); err != nil || n != int64(2000+i) {
			t.Fatalf("%s is %d, %v", key, n, err)
		}
		if err := c.nodes[3].db.Put(ctx, key, kvpb.EncodeInt(key, int64(3000+i))); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	t.Logf("after the leaseholder's death: %s", time.Since(start))
	c.checkReplicas(1, 2)
	c.checkReplicas(2, 2)
}

// Two transactions wait for each other at different leaseholders: one of them gives
// way, and both get done in the end.
func TestDeadlockAcrossStores(t *testing.T) {
	c := newTestCluster(t, 3)
	left, right := tableKey(1), tableKey(9)
	c.replicate(left, 2, 3)
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(5)})
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminTransferLease, Key: left, Args: &kvpb.TransferLeaseArgs{To: 2}})
	c.admin(1, kvpb.Request{Op: kvpb.OpAdminTransferLease, Key: right, Args: &kvpb.TransferLeaseArgs{To: 3}})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var ready sync.WaitGroup
	ready.Add(2)
	results := make(chan error, 2)
	for i, order := range [][2]keys.Key{{left, right}, {right, left}} {
		db := c.nodes[kvpb.NodeID(i+1)].db
		go func() {
			first := true
			results <- db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
				for j, k := range order {
					if err := txn.Put(ctx, k, kvpb.EncodeInt(k, 1)); err != nil {
						return err
					}
					if j == 0 && first {
						first = false
						ready.Done()
						ready.Wait()
					}
				}
				return nil
			})
		}()
	}
	start := time.Now()
	for range 2 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("resolved after %s", time.Since(start))
}

// Replicas that do not hold the lease serve reads of the past, also while the
// leaseholder is gone, and never less than what was there.
func TestFollowerReads(t *testing.T) {
	c := newTestCluster(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	key := tableKey(1)
	c.replicate(key, 2, 3)
	if err := c.nodes[1].db.Put(ctx, key, kvpb.EncodeInt(key, 1)); err != nil {
		t.Fatal(err)
	}
	then := c.nodes[1].store.clock.Now()
	read := func(node kvpb.NodeID) (int64, error) {
		ba := &kvpb.BatchRequest{Header: kvpb.Header{RangeID: 1, Timestamp: then}}
		ba.Add(kvpb.Request{Op: kvpb.OpGet, Key: key})
		resp, err := c.nodes[node].store.HandleBatch(ctx, ba)
		if err != nil || len(resp.Responses[0].KVs) == 0 {
			return 0, err
		}
		return kvpb.DecodeInt(resp.Responses[0].KVs[0].Value)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, err := read(2)
		if err == nil {
			break
		}
		var not *kvpb.NotLeaseholderError
		if !errors.As(err, &not) || time.Now().After(deadline) {
			t.Fatal(err)
		}
		// The lease is used, so that timestamps are closed.
		if err := c.nodes[1].db.Put(ctx, key, kvpb.EncodeInt(key, 2)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := read(2); err != nil || n != 1 {
		t.Fatalf("a follower reads %d, %v", n, err)
	}
	c.halt(1)
	for _, id := range []kvpb.NodeID{2, 3} {
		if n, err := read(id); err != nil || n != 1 {
			t.Fatalf("without the leaseholder, n%d reads %d, %v", id, n, err)
		}
	}
	if c.nodes[2].store.followerReads.Load() == 0 {
		t.Error("no read was served without the lease")
	}
}

// TestNoBlankWhileSplitting: a message for a range whose split is being applied here
// makes no blank replica, which would be in its way.
func TestNoBlankWhileSplitting(t *testing.T) {
	c := newTestCluster(t, 2)
	c.replicate(tableKey(0), 2)
	s := c.node(2).store
	d := *s.replica(1).Desc()
	d.RangeID, d.StartKey = 77, tableKey(5)
	me, _ := d.ReplicaOn(2)
	if _, err := s.blankReplica(77, me.ReplicaID); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.makeRoomFor(&d); !ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
	if _, err := s.blankReplica(77, me.ReplicaID); err == nil || s.blank(77) != nil {
		t.Errorf("there is a blank replica in the way: %v", err)
	}
}

// A store that comes back does not run ahead of its machine: what it writes would lie
// beyond what other nodes' readers take for uncertain.
func TestClockIsNotAheadAfterACrash(t *testing.T) {
	c := newTestCluster(t, 2)
	for range 3 {
		if err := c.node(1).db.Put(context.Background(), accountKey(0), kvpb.EncodeInt(accountKey(0), 1)); err != nil {
			t.Fatal(err)
		}
		n := c.crash(1)
		if ahead := time.Duration(n.store.clock.Now().WallTime - time.Now().UnixNano()); ahead > 0 {
			t.Errorf("the clock is %s ahead", ahead)
		}
	}
}
