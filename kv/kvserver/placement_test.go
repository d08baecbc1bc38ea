package kvserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/testkit"
	"github.com/holdfastdb/holdfast/internal/zones"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/allocator"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// testPlaces is what the stores of a testCluster hear of each other, and what the
// zones of the keyspace are.
type testPlaces struct {
	regions   map[kvpb.NodeID]string
	deadAfter time.Duration
	merges    bool // small ranges are merged
	// Guarded by the cluster's lock.
	stopped bool
	left    map[kvpb.NodeID]time.Time // when a node was halted
	leaving map[kvpb.NodeID]bool
	starts  []keys.Key // of zones, in order, the first is MinKey
	configs []zones.Config
}

// newPlacedCluster starts n of the nodes that have a region. What is before table
// data of 0x90 wants five replicas, everything else three.
func newPlacedCluster(t *testing.T, n int, regions map[kvpb.NodeID]string) *testCluster {
	return startTestCluster(t, n, newPlaces(t, regions), nil)
}

func newPlaces(t *testing.T, regions map[kvpb.NodeID]string) *testPlaces {
	return &testPlaces{
		regions: regions, deadAfter: 300 * time.Millisecond, left: map[kvpb.NodeID]time.Time{}, leaving: map[kvpb.NodeID]bool{},
		starts: []keys.Key{keys.MinKey, {0x90}}, configs: []zones.Config{zone(t, 5, nil), zone(t, 3, nil)},
	}
}

func zone(t *testing.T, replicas int32, edit func(*zones.Config)) zones.Config {
	t.Helper()
	c := zones.Config{NumReplicas: &replicas}
	if edit != nil {
		edit(&c)
	}
	c.Inherit(zones.Default())
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

func mustConstraints(t *testing.T, s string) []zones.Conjunction {
	t.Helper()
	c, err := zones.ParseConstraints(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// stores says what is known of all stores that were ever seen.
func (c *testCluster) stores() []allocator.Store {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []allocator.Store
	if c.places.stopped {
		return nil
	}
	for id, region := range c.places.regions {
		st := allocator.Store{
			NodeID: id, StoreID: kvpb.StoreID(id), Capacity: 1 << 40, Available: 1 << 39,
			Locality: []allocator.Tier{{Key: "region", Value: region}}, Decommissioning: c.places.leaving[id],
		}
		if n := c.nodes[id]; n != nil {
			for _, r := range *n.store.replicas.byID.Load() {
				st.Ranges++
				if r.inCharge() {
					st.Leases++
				}
			}
		} else if since, ok := c.places.left[id]; !ok {
			continue // It has not come yet.
		} else if st.Liveness = allocator.Suspect; time.Since(since) > c.places.deadAfter {
			st.Liveness = allocator.Dead
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b allocator.Store) int { return int(a.StoreID - b.StoreID) })
	return out
}

func (c *testCluster) zoneConfig(_ context.Context, span keys.Span) (zones.Config, []keys.Key, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var cuts []keys.Key
	var z zones.Config
	for i, k := range c.places.starts {
		if k.Compare(span.Key) <= 0 {
			z = c.places.configs[i]
		} else if k.Less(span.EndKey) {
			cuts = append(cuts, k)
		}
	}
	return z, cuts, nil
}

// setZone changes the zone that starts at a key, or begins one.
func (c *testCluster) setZone(start keys.Key, z zones.Config) {
	c.mu.Lock()
	i, found := slices.BinarySearchFunc(c.places.starts, start, keys.Key.Compare)
	if !found {
		c.places.starts = slices.Insert(c.places.starts, i, start)
		c.places.configs = slices.Insert(c.places.configs, i, zones.Config{})
	}
	c.places.configs[i] = z
	nodes := make([]*testNode, 0, len(c.nodes))
	for _, n := range c.nodes {
		nodes = append(nodes, n)
	}
	c.mu.Unlock()
	for _, n := range nodes {
		n.store.RecheckPlacement()
	}
}

// ranges returns the newest descriptor of each range in key order, with who acts
// for it.
func (c *testCluster) ranges() (out []kvpb.RangeInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	newest := map[kvpb.RangeID]kvpb.RangeInfo{}
	for _, n := range c.nodes {
		for id, r := range *n.store.replicas.byID.Load() {
			info := newest[id]
			if d := r.Desc(); info.Descriptor.Generation < d.Generation {
				info.Descriptor = *d
			}
			if r.inCharge() {
				info.Leaseholder = n.id
			}
			newest[id] = info
		}
	}
	for _, info := range newest {
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b kvpb.RangeInfo) int { return a.Descriptor.StartKey.Compare(b.Descriptor.StartKey) })
	return out
}

func (c *testCluster) regionsOf(d *kvpb.RangeDescriptor) []string {
	var out []string
	for _, r := range d.Replicas {
		out = append(out, c.places.regions[r.NodeID])
	}
	slices.Sort(out)
	return out
}

// eventually waits until no range is wrong.
func (c *testCluster) eventually(what string, wrong func(kvpb.RangeInfo) string) {
	c.t.Helper()
	start := time.Now()
	for {
		var bad []string
		for _, info := range c.ranges() {
			if w := wrong(info); w != "" {
				bad = append(bad, fmt.Sprintf("%s %v, lease n%d: %s", &info.Descriptor, info.Descriptor.Replicas, info.Leaseholder, w))
			}
		}
		if len(bad) == 0 {
			c.t.Logf("%s: %s", what, time.Since(start).Round(time.Millisecond))
			return
		}
		if time.Since(start) > 40*time.Second {
			c.t.Fatalf("%s: not yet:\n%s", what, strings.Join(bad, "\n"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestPlacement lets a cluster of one grow to five stores in three regions, loses
// one, empties one, changes zones and adds a store, while clients move money.
func TestPlacement(t *testing.T) {
	if testing.Short() {
		t.Skip("takes more than five seconds")
	}
	c := newPlacedCluster(t, 5, map[kvpb.NodeID]string{1: "a", 2: "a", 3: "b", 4: "b", 5: "c", 6: "c", 7: "a"})
	ctx := context.Background()
	for i := range chaosAccounts {
		if err := c.node(1).db.Put(ctx, accountKey(i), kvpb.EncodeInt(accountKey(i), chaosBalance)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 { // Ranges enough to see whether they are spread.
		c.admin(1, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(i)})
	}
	work, stop := context.WithCancel(ctx)
	var transfers atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; work.Err() == nil; i++ {
			n := c.node(kvpb.NodeID(1 + i%4))
			if n == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(work, 5*time.Second)
			err := n.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
				return transfer(ctx, txn, i%chaosAccounts, (i*7+1)%chaosAccounts, 3)
			})
			cancel()
			if err == nil {
				transfers.Add(1)
			}
		}
	}()

	voters := func(d *kvpb.RangeDescriptor) (n int) {
		for _, r := range d.Replicas {
			if r.Type == kvpb.ReplicaVoter {
				n++
			}
		}
		return n
	}
	table := keys.Key{0x90}
	placed := func(info kvpb.RangeInfo) string {
		d := &info.Descriptor
		want := 3
		if d.StartKey.Less(table) {
			want = 5
		}
		switch {
		case d.StartKey.Less(table) && table.Less(d.EndKey):
			return "it spans two zones"
		case len(d.Replicas) != want || voters(d) != want:
			return fmt.Sprintf("%d replicas are wanted", want)
		case len(slices.Compact(c.regionsOf(d))) != 3:
			return "it is not in three regions"
		}
		return ""
	}
	c.eventually("up-replication", placed)

	c.halt(5)
	c.eventually("replacing a dead store", func(info kvpb.RangeInfo) string {
		d := &info.Descriptor
		if _, ok := d.ReplicaOn(5); ok && !d.StartKey.Less(table) { // For the fifth replica there is no store.
			return "it is still on s5"
		}
		if !d.StartKey.Less(table) && len(d.Replicas) != 3 {
			return "three replicas are wanted"
		}
		return ""
	})
	c.start(6, testkit.NewCrashFS())
	c.eventually("a store in its place", placed)

	c.start(7, testkit.NewCrashFS())
	c.mu.Lock()
	c.places.leaving[2] = true
	c.mu.Unlock()
	c.eventually("decommission", func(info kvpb.RangeInfo) string {
		if _, ok := info.Descriptor.ReplicaOn(2); ok || info.Leaseholder == 2 {
			return "it is still on s2"
		}
		return placed(info)
	})
	c.mu.Lock()
	delete(c.places.leaving, 2)
	c.mu.Unlock()

	c.setZone(table, zone(t, 3, func(z *zones.Config) {
		z.Constraints, z.ConstraintsSet = mustConstraints(t, "{+region=a: 2}"), true
		prefs, err := zones.ParseLeasePreferences("[[+region=a]]")
		if err != nil {
			t.Fatal(err)
		}
		z.LeasePreferences, z.LeasePreferencesSet = prefs, true
	}))
	c.eventually("constraints and lease preferences", func(info kvpb.RangeInfo) string {
		d := &info.Descriptor
		if d.StartKey.Less(table) {
			return ""
		}
		if rs := c.regionsOf(d); len(rs) != 3 || rs[0] != "a" || rs[1] != "a" || rs[2] == "a" {
			return "two replicas in region a are wanted"
		}
		if c.places.regions[info.Leaseholder] != "a" {
			return "it is not served in region a"
		}
		return ""
	})
	c.setZone(table, zone(t, 5, func(z *zones.Config) { n := int32(3); z.NumVoters = &n }))
	c.eventually("non-voters", func(info kvpb.RangeInfo) string {
		if d := &info.Descriptor; !d.StartKey.Less(table) && (len(d.Replicas) != 5 || voters(d) != 3) {
			return "three voters of five replicas are wanted"
		}
		return ""
	})
	c.setZone(table, zone(t, 3, nil))
	c.eventually("back to three", placed)

	stop()
	<-done
	if transfers.Load() == 0 {
		t.Error("nobody could work")
	}
	sum, err := total(ctx, c.node(3).db, hlc.Timestamp{})
	if err != nil || sum != chaosAccounts*chaosBalance {
		t.Errorf("%d in all accounts, %v", sum, err)
	}
	for _, info := range c.ranges() {
		c.checkPlaced(info.Descriptor.RangeID)
	}
	var report PlacementReport
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		// A range without a leader may be electing one.
		var wrong string
		report = PlacementReport{}
		for _, n := range c.nodes {
			r := n.store.Placement()
			report.ReplicaChanges += r.ReplicaChanges
			report.LeaseTransfers += r.LeaseTransfers
			report.Failures += r.Failures
			if r.UnderReplicated+r.Unavailable+r.ConstraintViolations > 0 {
				wrong += fmt.Sprintf(" n%d reports %+v", n.id, r)
			}
		}
		if wrong == "" {
			break
		}
		if time.Since(start) > 20*time.Second {
			t.Error(wrong)
			break
		}
	}
	t.Logf("%d transfers of money; %+v", transfers.Load(), report)
}

// TestPlacementBalance adds a store to a cluster of three: it gets its share of
// ranges and leases, and then there is peace.
func TestPlacementBalance(t *testing.T) {
	if testing.Short() {
		t.Skip("takes more than five seconds")
	}
	c := newPlacedCluster(t, 3, map[kvpb.NodeID]string{1: "a", 2: "a", 3: "a", 4: "a"})
	for i := range 30 {
		c.admin(1, kvpb.Request{Op: kvpb.OpAdminSplit, Key: tableKey(i)})
	}
	three := func(info kvpb.RangeInfo) string {
		if len(info.Descriptor.Replicas) != 3 {
			return "three replicas are wanted"
		}
		return ""
	}
	c.eventually("up-replication", three)
	c.start(4, testkit.NewCrashFS())
	start := time.Now()
	for ; ; time.Sleep(50 * time.Millisecond) {
		even := true
		var seen string
		for _, st := range c.stores() {
			seen += fmt.Sprintf(" s%d: %d ranges, %d leases;", st.StoreID, st.Ranges, st.Leases)
			even = even && st.Ranges >= 20 && st.Ranges <= 28 && st.Leases >= 5 && st.Leases <= 11
		}
		if even {
			t.Logf("%s:%s", time.Since(start), seen)
			break
		}
		if time.Since(start) > 40*time.Second {
			t.Fatalf("not even:%s", seen)
		}
	}
	c.eventually("all moves have ended", three)
	// Peace: for a while nothing moves.
	time.Sleep(time.Second)
	steps := func() (n int64) {
		for id := kvpb.NodeID(1); id <= 4; id++ {
			r := c.node(id).store.Placement()
			n += r.ReplicaChanges + r.LeaseTransfers
		}
		return n
	}
	before := steps()
	time.Sleep(2 * time.Second)
	if after := steps(); after-before > 2 {
		t.Errorf("%d steps while nothing changed", after-before)
	}
}

// TestSplitBySize fills a range above its limit.
func TestSplitBySize(t *testing.T) {
	c := newPlacedCluster(t, 1, map[kvpb.NodeID]string{1: "a"})
	c.setZone(keys.Key{0x90}, zone(t, 1, func(z *zones.Config) {
		lo, hi := int64(0), int64(64<<10)
		z.RangeMinBytes, z.RangeMaxBytes = &lo, &hi
	}))
	value := func(k keys.Key) []byte {
		b := append([]byte{0, 0, 0, 0, 3}, make([]byte, 1000)...)
		kvpb.SetChecksum(k, b)
		return b
	}
	for i := range 400 {
		if err := c.node(1).db.Put(context.Background(), tableKey(i), value(tableKey(i))); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("splits", func(info kvpb.RangeInfo) string {
		if info.Descriptor.StartKey.Less(keys.Key{0x90}) {
			return "" // Another zone.
		}
		r := c.node(1).store.replica(info.Descriptor.RangeID)
		if st := r.Stats(); st.Total() > 64<<10 {
			return fmt.Sprintf("it has %d bytes", st.Total())
		}
		return ""
	})
	if n := len(c.ranges()); n < 7 || n > 20 {
		t.Errorf("%d ranges for 400 kB in ranges of 64 kB", n)
	}
	for i := range 400 {
		if got, err := c.node(1).db.Get(context.Background(), tableKey(i)); err != nil || len(got.Value) == 0 {
			t.Fatalf("key %d: %v", i, err)
		}
	}
}

// TestStickySplit splits by hand and takes it back.
func TestStickySplit(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			c := newTestCluster(t, nodes)
			ctx := context.Background()
			if nodes == 3 {
				c.replicate(tableKey(0), 2, 3)
			}
			db := c.node(1).db
			until := hlc.Timestamp{WallTime: time.Now().Add(time.Hour).UnixNano()}
			sticky := func() hlc.Timestamp {
				infos, err := db.Ranges(ctx, keys.Span{Key: tableKey(5)})
				if err != nil {
					t.Fatal(err)
				}
				if !infos[0].Descriptor.StartKey.Equal(tableKey(5)) {
					t.Fatalf("%s does not start at %s", &infos[0].Descriptor, tableKey(5))
				}
				return infos[0].Descriptor.StickyUntil
			}
			for _, c := range []struct {
				do   func() error
				want hlc.Timestamp
			}{
				{func() error { return db.AdminSplit(ctx, tableKey(5)) }, hlc.Timestamp{}},
				{func() error { return db.AdminSplitUntil(ctx, tableKey(5), until) }, until},
				{func() error { return db.AdminSplit(ctx, tableKey(5)) }, until},
				{func() error { return db.AdminSplitUntil(ctx, tableKey(5), until.Add(-time.Minute)) }, until},
				{func() error { return db.AdminSplitUntil(ctx, tableKey(5), hlc.MaxTimestamp) }, hlc.MaxTimestamp},
				{func() error { return db.AdminUnsplit(ctx, tableKey(5)) }, hlc.Timestamp{}},
			} {
				if err := c.do(); err != nil {
					t.Fatal(err)
				}
				if got := sticky(); got != c.want {
					t.Errorf("sticky until %s, want %s", got, c.want)
				}
			}
			if err := db.AdminUnsplit(ctx, tableKey(6)); err == nil {
				t.Error("a key inside a range was unsplit")
			}
			if nodes == 3 {
				for _, info := range c.ranges() {
					c.checkReplicas(info.Descriptor.RangeID, 3)
				}
			}
		})
	}
}

// TestRelocate names where replicas and leases go, and demotes a voter.
func TestRelocate(t *testing.T) {
	c := newTestCluster(t, 4)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	db := c.node(2).db
	on := func(ids ...kvpb.StoreID) (out []kvpb.ReplicaDescriptor) {
		for _, id := range ids {
			out = append(out, kvpb.ReplicaDescriptor{NodeID: kvpb.NodeID(id), StoreID: id})
		}
		return out
	}
	for _, x := range []struct{ voters, nonVoters []kvpb.StoreID }{
		{[]kvpb.StoreID{1, 2, 3}, nil},
		{[]kvpb.StoreID{2, 3, 4}, nil}, // The leaseholder goes.
		{[]kvpb.StoreID{4}, []kvpb.StoreID{2, 3}},
		{[]kvpb.StoreID{2}, []kvpb.StoreID{1}},
		{[]kvpb.StoreID{3, 1, 2}, nil},
	} {
		if err := db.AdminRelocate(ctx, tableKey(0), on(x.voters...), on(x.nonVoters...), true); err != nil {
			t.Fatalf("%v: %v", x, err)
		}
		infos, err := db.Ranges(ctx, keys.Span{Key: tableKey(0)})
		if err != nil {
			t.Fatal(err)
		}
		d := infos[0].Descriptor
		for _, id := range x.voters {
			if r, ok := d.ReplicaOn(id); !ok || r.Type != kvpb.ReplicaVoter {
				t.Errorf("%v: s%d has no voter: %v", x, id, d.Replicas)
			}
		}
		for _, id := range x.nonVoters {
			if r, ok := d.ReplicaOn(id); !ok || r.Type != kvpb.ReplicaNonVoter {
				t.Errorf("%v: s%d has no non-voter: %v", x, id, d.Replicas)
			}
		}
		if len(d.Replicas) != len(x.voters)+len(x.nonVoters) {
			t.Errorf("%v: %v", x, d.Replicas)
		}
		if infos[0].Leaseholder != kvpb.NodeID(x.voters[0]) {
			t.Errorf("%v: n%d serves", x, infos[0].Leaseholder)
		}
		if err := db.Put(ctx, tableKey(1), kvpb.EncodeInt(tableKey(1), 1)); err != nil {
			t.Fatal(err)
		}
		c.checkReplicas(1, len(d.Replicas))
	}
}

// TestScatter moves replicas to other stores.
func TestScatter(t *testing.T) {
	c := newPlacedCluster(t, 5, map[kvpb.NodeID]string{1: "a", 2: "a", 3: "a", 4: "a", 5: "a"})
	c.eventually("up-replication", func(info kvpb.RangeInfo) string {
		if d := &info.Descriptor; len(d.Replicas) != 3 && !d.StartKey.Less(keys.Key{0x90}) {
			return "three replicas are wanted"
		}
		return ""
	})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	seen := map[string]bool{}
	for i := 0; len(seen) < 3; i++ {
		if err := c.node(1).db.AdminScatter(ctx, tableKey(0)); err != nil && ctx.Err() != nil {
			t.Fatalf("after %d times: %v; %v", i, err, seen)
		}
		infos, err := c.node(1).db.Ranges(ctx, keys.Span{Key: tableKey(0)})
		if err != nil {
			t.Fatal(err)
		}
		seen[fmt.Sprint(infos[0].Descriptor.Replicas, infos[0].Leaseholder)] = true
	}
}

// TestFindSplitKeyTables prefers the start of a table to the middle of another.
func TestFindSplitKeyTables(t *testing.T) {
	c := newTestCluster(t, 1)
	ctx := context.Background()
	row := func(table uint32, i int) keys.Key {
		return append(keys.IndexPrefix(table, 1), 0x89+byte(i), 0x88)
	}
	for i := range 60 {
		table := uint32(5)
		if i >= 20 {
			table = 6
		}
		k := row(table, i)
		if err := c.node(1).db.Put(ctx, k, kvpb.EncodeInt(k, 1)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := storage.FindSplitKey(ctx, c.node(1).eng, keys.TableDataMin, keys.MaxKey)
	if err != nil || !got.Equal(keys.TablePrefix(6)) {
		t.Errorf("%s, %v", got, err)
	}
	got, err = storage.FindSplitKey(ctx, c.node(1).eng, keys.TablePrefix(6), keys.MaxKey)
	if want := keys.RowPrefix(row(6, 40)); err != nil || !got.Equal(want) {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}
