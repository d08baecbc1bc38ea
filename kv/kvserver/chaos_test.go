package kvserver

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

var (
	chaosDuration = flag.Duration("chaos.duration", 5*time.Second, "how long TestChaos runs")
	chaosSeed     = flag.Uint64("chaos.seed", 0, "seed of TestChaos; 0: any")
)

const (
	chaosAccounts = 40
	chaosBalance  = 100
)

func accountKey(i int) keys.Key { return keys.Key(fmt.Sprintf("\x90acct%03d", i)) }
func counterKey(i int) keys.Key { return keys.Key(fmt.Sprintf("\x91count%02d", i)) }

// counter is what is known of a key that clients only increment.
type counter struct {
	acked, unknown atomic.Int64 // increments that certainly, or perhaps, happened
	seen           atomic.Int64 // the highest value that a read has returned
}

// TestChaos moves money between accounts and counts, from all nodes, while nodes
// crash and are cut off and ranges are split, merged and moved. Reads at every timestamp
// see all the money; an increment that was acknowledged is never missing, and a
// counter never goes back; in the end all replicas are alike.
func TestChaos(t *testing.T) { chaos(t, *chaosSeed, nil, nil) }

// TestChaosPlacement is TestChaos while the stores themselves move and merge ranges,
// too.
func TestChaosPlacement(t *testing.T) {
	if testing.Short() {
		t.Skip("takes more than five seconds")
	}
	regions := map[kvpb.NodeID]string{1: "a", 2: "a", 3: "b", 4: "c"}
	places := newPlaces(t, regions)
	places.merges = true
	chaos(t, *chaosSeed, places, nil)
}

func chaos(t *testing.T, seed uint64, places *testPlaces, sim *simulation) {
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-chaos.seed=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const nodes = 4
	c := startTestCluster(t, nodes, places, sim)
	ctx := context.Background()
	for i := range chaosAccounts {
		if err := c.node(1).db.Put(ctx, accountKey(i), kvpb.EncodeInt(accountKey(i), chaosBalance)); err != nil {
			t.Fatal(err)
		}
	}
	c.replicate(accountKey(0), 2, 3)
	var counters [8]counter
	var transfers, scans, unknown atomic.Int64

	work, stopWork := context.WithCancel(ctx)
	var clients sync.WaitGroup
	client := func(fn func(ctx context.Context, rng *rand.Rand, n *testNode)) {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 1))
		clients.Go(func() {
			for work.Err() == nil {
				n := c.node(kvpb.NodeID(1 + rng.IntN(nodes)))
				if n == nil {
					time.Sleep(time.Millisecond)
					continue
				}
				ctx, cancel := context.WithTimeout(work, 3*time.Second)
				fn(ctx, rng, n)
				cancel()
				c.sim.think(rng)
			}
		})
	}
	for range 4 {
		client(func(ctx context.Context, rng *rand.Rand, n *testNode) {
			from, to, amount := rng.IntN(chaosAccounts), rng.IntN(chaosAccounts), rng.Int64N(10)
			err := n.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error { return transfer(ctx, txn, from, to, amount) })
			var amb *kvpb.AmbiguousResultError
			switch {
			case err == nil:
				transfers.Add(1)
			case errors.As(err, &amb):
				unknown.Add(1)
			}
		})
	}
	for range 2 {
		client(func(ctx context.Context, rng *rand.Rand, n *testNode) {
			i := rng.IntN(len(counters))
			k := &counters[i]
			if rng.IntN(3) == 0 {
				atLeast := max(k.acked.Load(), k.seen.Load())
				got, err := n.db.Get(ctx, counterKey(i))
				if err != nil {
					return
				}
				var v int64
				if got.Value != nil {
					if v, err = kvpb.DecodeInt(got.Value); err != nil {
						t.Error(err)
					}
				}
				if v < atLeast {
					t.Errorf("n%d reads %d from counter %d, which was %d before", n.id, v, i, atLeast)
				}
				for old := k.seen.Load(); old < v && !k.seen.CompareAndSwap(old, v); old = k.seen.Load() {
				}
				return
			}
			k.unknown.Add(1)
			err := n.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
				_, err := txn.Inc(ctx, counterKey(i), 1)
				return err
			})
			if err == nil {
				k.acked.Add(1)
				k.unknown.Add(-1)
			} else if _, retry := kvpb.IsRetry(err); retry {
				k.unknown.Add(-1)
			}
		})
	}
	client(func(ctx context.Context, rng *rand.Rand, n *testNode) {
		ts := n.store.clock.Now().Add(-time.Duration(rng.Int64N(int64(500 * time.Millisecond))))
		if ts.Less(n.store.started) {
			return
		}
		if sum, err := total(ctx, n.db, ts); err == nil {
			scans.Add(1)
			if sum != chaosAccounts*chaosBalance {
				t.Errorf("n%d sees %d in all accounts at %s", n.id, sum, ts)
			}
		}
	})

	duration := *chaosDuration
	if sim != nil {
		duration *= 4 // It costs nothing.
	}
	// Mistreatment from the first moment on can keep all from working for a while.
	idle := func() bool { return transfers.Load() == 0 || scans.Load() == 0 }
	for start := time.Now(); !t.Failed() && (time.Since(start) < duration || idle() && time.Since(start) < duration+time.Minute); {
		id := kvpb.NodeID(1 + rng.IntN(nodes))
		switch what := rng.IntN(16); what {
		case 0, 1:
			c.partition(id)
		case 2:
			c.cutOneWay(id, kvpb.NodeID(1+rng.IntN(nodes)))
		case 3, 4, 5:
			c.partition(0)
		case 6:
			c.crash(id)
		case 7:
			c.tryAdmin(kvpb.Request{Op: kvpb.OpAdminSplit, Key: accountKey(rng.IntN(chaosAccounts))})
		case 8, 9:
			c.tryAdmin(kvpb.Request{Op: kvpb.OpAdminTransferLease, Key: accountKey(rng.IntN(chaosAccounts)), Args: &kvpb.TransferLeaseArgs{To: kvpb.StoreID(id)}})
		case 10, 11:
			args := &kvpb.ChangeReplicasArgs{Add: []kvpb.ReplicaDescriptor{{NodeID: id, StoreID: kvpb.StoreID(id)}}}
			if other := kvpb.StoreID(1 + rng.IntN(nodes)); other != kvpb.StoreID(id) {
				args.Remove = []kvpb.StoreID{other}
			}
			c.tryAdmin(kvpb.Request{Op: kvpb.OpAdminChangeReplicas, Key: accountKey(rng.IntN(chaosAccounts)), Args: args})
		case 12, 13:
			c.tryAdmin(kvpb.Request{Op: kvpb.OpAdminSplit, Key: accountKey(rng.IntN(chaosAccounts))})
		case 14, 15:
			c.tryAdmin(kvpb.Request{Op: kvpb.OpAdminMerge, Key: accountKey(rng.IntN(chaosAccounts))})
		}
		time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
	}
	c.partition(0)
	time.Sleep(200 * time.Millisecond)
	stopWork()
	clients.Wait()
	if places != nil {
		c.eventually("settling", func(info kvpb.RangeInfo) string {
			if d := &info.Descriptor; len(d.Replicas) != 3 {
				return "three replicas are wanted"
			}
			return ""
		})
		c.mu.Lock()
		places.stopped = true
		c.mu.Unlock()
	}

	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for id := kvpb.NodeID(1); id <= nodes; id++ {
		sum, err := total(ctx, c.node(id).db, hlc.Timestamp{})
		if err != nil || sum != chaosAccounts*chaosBalance {
			t.Errorf("in the end n%d sees %d in all accounts, %v", id, sum, err)
		}
		for i := range counters {
			got, err := c.node(id).db.Get(ctx, counterKey(i))
			if err != nil {
				t.Fatal(err)
			}
			v := int64(0)
			if got.Value != nil {
				v, _ = kvpb.DecodeInt(got.Value)
			}
			if a, u := counters[i].acked.Load(), counters[i].unknown.Load(); v < a || v > a+u {
				t.Errorf("in the end n%d sees %d in counter %d; %d increments were acknowledged, %d are unknown", id, v, i, a, u)
			}
		}
	}
	for _, n := range c.nodes {
		for range orphanTurns { // What nobody has told of its end finds out in turn.
			n.store.removeOrphans(ctx)
		}
	}
	ranges := map[kvpb.RangeID]*kvpb.RangeDescriptor{}
	for _, n := range c.nodes {
		for _, r := range *n.store.replicas.byID.Load() {
			if old := ranges[r.id]; old == nil || old.Generation < r.Desc().Generation {
				ranges[r.id] = r.Desc()
			}
		}
	}
	for id, d := range ranges {
		c.checkReplicas(id, len(d.Replicas))
	}
	var followed int64
	for _, n := range c.nodes {
		followed += n.store.followerReads.Load()
	}
	t.Logf("%d transfers, %d unknown, %d scans, %d ranges, %d reads by followers", transfers.Load(), unknown.Load(), scans.Load(), len(ranges), followed)
	if idle() {
		t.Error("the test shows nothing")
	}
}

func transfer(ctx context.Context, txn *kv.Txn, from, to int, amount int64) error {
	if from == to {
		return nil
	}
	for _, leg := range [][2]int64{{int64(from), -amount}, {int64(to), amount}} {
		i, delta := int(leg[0]), leg[1]
		got, err := txn.Get(ctx, accountKey(i))
		if err != nil {
			return err
		}
		v, err := kvpb.DecodeInt(got.Value)
		if err != nil {
			return err
		}
		if err := txn.Put(ctx, accountKey(i), kvpb.EncodeInt(accountKey(i), v+delta)); err != nil {
			return err
		}
	}
	return nil
}

// total is the money in all accounts at a timestamp, or now.
func total(ctx context.Context, db *kv.DB, ts hlc.Timestamp) (int64, error) {
	var sum int64
	err := db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		sum = 0
		if !ts.IsEmpty() {
			if err := txn.SetFixedTimestamp(ctx, ts); err != nil {
				return err
			}
		}
		res, err := txn.Scan(ctx, accountKey(0), accountKey(chaosAccounts), kv.ScanOptions{})
		if err != nil {
			return err
		}
		if len(res.KVs) != chaosAccounts {
			return fmt.Errorf("%d accounts", len(res.KVs))
		}
		for _, kv := range res.KVs {
			v, err := kvpb.DecodeInt(kv.Value)
			if err != nil {
				return err
			}
			sum += v
		}
		return nil
	})
	return sum, err
}

func (c *testCluster) node(id kvpb.NodeID) *testNode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[id]
}

func (c *testCluster) cutOneWay(from, to kvpb.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if from != to {
		c.cut[[2]kvpb.NodeID{from, to}] = true
	}
}

// tryAdmin asks for a change of a range, which may fail.
func (c *testCluster) tryAdmin(q kvpb.Request) {
	ba := &kvpb.BatchRequest{}
	ba.Add(q)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if n := c.node(1 + kvpb.NodeID(time.Now().UnixNano()%4)); n != nil {
		if _, err := n.store.sender.Send(ctx, ba); err != nil {
			n.store.log.Debug("admin", "op", q.Op.String(), "err", err)
		}
	}
}
