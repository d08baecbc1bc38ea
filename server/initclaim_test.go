package server

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/server/adminpb"
)

func TestInitClaim(t *testing.T) {
	now := time.Unix(0, 0)
	claim := func(self string) *initClaim { return &initClaim{self: self, now: func() time.Time { return now }} }
	a, b, c := claim("a"), claim("b"), claim("c")
	if !a.take() || !b.take() {
		t.Fatal("nobody has claimed it yet")
	}
	if !b.yield("a") || a.yield("b") {
		t.Error("the lower address goes first")
	}
	if b.settle() || b.take() {
		t.Error("who has yielded goes on")
	}
	if !c.yield("a") || c.yield("b") || c.take() {
		t.Error("one that was asked by a node supports another one")
	}
	if !a.settle() || a.yield("0") {
		t.Error("one that has settled yields")
	}
	if a.drop(); !a.settle() {
		t.Error("what is settled was dropped")
	}
	now = now.Add(claimLasts + 1)
	if !b.take() || !b.settle() || !c.yield("b") {
		t.Error("a node that is not heard of is waited for")
	}
	d := claim("d")
	if d.take(); !d.yield("c") || d.settle() {
		t.Error("a claim that was yielded is settled")
	}
}

// unstarted returns n nodes, not started, that know each other's addresses.
func unstarted(t *testing.T, n int, change func(i int, cfg *Config)) []*Node {
	t.Helper()
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, l.Addr().String())
		_ = l.Close()
	}
	var nodes []*Node
	for i := range n {
		cfg := testConfig(t)
		cfg.Store, cfg.ExternalIODir = StoreSpec{InMemory: true}, t.TempDir()
		cfg.Cluster, cfg.Testing.NoHTTP, cfg.ListenAddr = true, true, addrs[i]
		cfg.Join = addrs
		cfg.Testing.Log = slog.New(slog.DiscardHandler)
		if change != nil {
			change(i, &cfg)
		}
		node, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// TestInitsAtOnce: nodes that are initialized at the same time make one cluster.
func TestInitsAtOnce(t *testing.T) {
	for round := range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		nodes := unstarted(t, 3, nil)
		var wg sync.WaitGroup
		begin := make(chan struct{})
		answers := make([]error, len(nodes))
		for i, n := range nodes {
			waiting := make(chan struct{})
			n.cfg.Waiting = func() error { close(waiting); return nil }
			wg.Go(func() {
				if err := n.Start(ctx); err != nil {
					t.Errorf("round %d: starting node %d: %v", round, i, err)
				}
			})
			wg.Go(func() {
				client, closeClient, err := DialAdmin(n.cfg.ListenAddr)
				if err != nil {
					t.Error(err)
					return
				}
				defer closeClient()
				<-waiting
				<-begin
				_, answers[i] = client.Init(ctx, &adminpb.InitRequest{})
			})
		}
		time.Sleep(300 * time.Millisecond)
		close(begin)
		wg.Wait()
		initialized := 0
		for i, err := range answers {
			if err == nil {
				initialized++
			} else if !strings.Contains(err.Error(), "cluster has already been initialized") {
				t.Errorf("round %d: init of node %d: %v", round, i, err)
			}
			if id := nodes[i].ident.ClusterID; id != nodes[0].ident.ClusterID || id == [16]byte{} {
				t.Errorf("round %d: node %d is of cluster %x, node 0 of %x", round, i, id, nodes[0].ident.ClusterID)
			}
		}
		if initialized != 1 {
			t.Errorf("round %d: %d inits succeeded: %v", round, initialized, answers)
		}
		stopNodes(t, nodes)
	}
}

// stopNodes stops nodes of a young cluster, the one that has its data last.
func stopNodes(t *testing.T, nodes []*Node) {
	slices.SortFunc(nodes, func(a, b *Node) int { return cmp.Compare(b.ID(), a.ID()) })
	for _, n := range nodes {
		stopNode(t, n)
	}
}

func TestClusterName(t *testing.T) {
	for _, tc := range []struct{ theirs, ours, want string }{
		{"", "", ""}, {"a", "a", ""},
		{"", "a", `peer node expects cluster name "a", use --cluster-name to configure`},
		{"a", "", "peer node does not have a cluster name configured, cannot use --cluster-name"},
		{"a", "b", `local cluster name "a" does not match peer cluster name "b"`},
	} {
		if err := checkClusterName(tc.theirs, tc.ours); fmt.Sprint(err) != tc.want && (err != nil || tc.want != "") {
			t.Errorf("%q asks %q: %v", tc.theirs, tc.ours, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	names := []string{"east", "west", "west"}
	nodes := unstarted(t, 3, func(i int, cfg *Config) {
		cfg.ClusterName, cfg.Initialize, cfg.AnyClusterName = names[i], i == 0, i == 2
	})
	if err := nodes[0].Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer stopNode(t, nodes[0])
	if err := nodes[1].Start(ctx); err == nil || !strings.Contains(err.Error(), `local cluster name "west" does not match peer cluster name "east"`) {
		t.Errorf("a node of another name: %v", err)
	}
	if err := nodes[2].Start(ctx); err != nil {
		t.Errorf("one that does not compare: %v", err)
	}
	defer stopNode(t, nodes[2])
	if got := queryOne(t, connectNode(t, nodes[0], nil), "SELECT string_agg(DISTINCT cluster_name, ',') FROM crdb_internal.gossip_nodes"); got != "east" {
		t.Errorf("gossip_nodes: %s", got)
	}
	cfg := nodes[0].cfg
	cfg.ClusterName = "-x"
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "--cluster-name") {
		t.Errorf("a name that is none: %v", err)
	}
}
