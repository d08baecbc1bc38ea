package test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfastdb/holdfast/test/node"
)

// replicate brings all ranges to nodes.
func replicate(t *testing.T, through *node.Node, ids string) {
	t.Helper()
	if out, err := through.Run("node", "relocate", "--to="+ids); err != nil {
		t.Fatalf("bringing ranges to n%s: %v\n%s", ids, err, out)
	}
}

// writers write rows through nodes, each row acknowledged or not.
type writers struct {
	mu    sync.Mutex
	acked map[int]bool
	last  map[int]time.Time // by writer: of the last acknowledgement
	worst map[int]time.Duration
	stop  chan struct{}
	wg    sync.WaitGroup
}

func newWriters() *writers {
	return &writers{acked: map[int]bool{}, last: map[int]time.Time{}, worst: map[int]time.Duration{}, stop: make(chan struct{})}
}

// run writes rows w, w+10, w+20, … through n until the end of the writers.
func (ws *writers) run(w int, n *node.Node) {
	ws.mu.Lock()
	ws.last[w] = time.Now()
	ws.mu.Unlock()
	ws.wg.Go(func() {
		var conn *pgx.Conn
		defer func() {
			if conn != nil {
				conn.Close(context.Background())
			}
		}()
		for id := w; ; id += 10 {
			select {
			case <-ws.stop:
				return
			default:
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			var err error
			if conn == nil || conn.IsClosed() {
				conn, err = pgx.Connect(ctx, n.URL("defaultdb"))
			}
			if err == nil {
				_, err = conn.Exec(ctx, "INSERT INTO t VALUES ($1, $2)", id, w)
			}
			cancel()
			if err != nil {
				time.Sleep(20 * time.Millisecond)
				continue
			}
			ws.mu.Lock()
			now := time.Now()
			ws.acked[id] = true
			ws.worst[w] = max(ws.worst[w], now.Sub(ws.last[w]))
			ws.last[w] = now
			ws.mu.Unlock()
		}
	})
}

// awaitRow waits until each of some writers has written one more row.
func (ws *writers) awaitRow(t *testing.T, within time.Duration, what string, writers ...int) {
	t.Helper()
	for asked, i := time.Now(), 0; i < len(writers); time.Sleep(10 * time.Millisecond) {
		ws.mu.Lock()
		last := ws.last[writers[i]]
		ws.mu.Unlock()
		if last.After(asked) {
			i++
		} else if d := time.Since(asked); d > within {
			t.Fatalf("%s: writer %d has written nothing for %s", what, writers[i], d)
		}
	}
}

func (ws *writers) end() {
	close(ws.stop)
	ws.wg.Wait()
}

// missing says which acknowledged rows a node does not have.
func (ws *writers) missing(n *node.Node) []int {
	have := map[string]bool{}
	for _, row := range n.Rows("defaultdb", "SELECT a FROM t") {
		have[row[0]] = true
	}
	var out []int
	for id := range ws.acked {
		if !have[fmt.Sprint(id)] {
			out = append(out, id)
		}
	}
	return out
}

// awaitLive waits until a node knows of so many that answer.
func awaitLive(t *testing.T, n *node.Node, want int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		got := n.Value("defaultdb", "SELECT count(*) FROM crdb_internal.gossip_nodes WHERE is_available")
		if got == fmt.Sprint(want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s nodes are alive, want %d", got, want)
		}
	}
}

// output is what a process prints that is to end by itself, soon.
func output(cmd *exec.Cmd) (string, error) {
	stop := time.AfterFunc(40*time.Second, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestClusterLosesANode(t *testing.T) {
	if testing.Short() {
		t.Skip("takes more than ten seconds")
	}
	nodes := node.StartCluster(t, 3)
	nodes[0].Exec("defaultdb", "CREATE TABLE t (a INT PRIMARY KEY, b INT)")
	for i, n := range nodes {
		n.Exec("defaultdb", fmt.Sprintf("INSERT INTO t VALUES (%d, 0)", -1-i))
	}
	for i, n := range nodes {
		if got := n.Value("defaultdb", "SELECT count(*) FROM t"); got != "3" {
			t.Fatalf("n%d counts %s rows, want 3", i+1, got)
		}
	}
	replicate(t, nodes[0], "1,2,3")
	if got := nodes[1].Value("defaultdb", "SELECT count(*) FROM crdb_internal.ranges_no_leases WHERE array_length(voting_replicas, 1) = 3"); got == "0" {
		t.Fatal("no range has three replicas")
	}

	ws := newWriters()
	ws.run(1, nodes[1])
	ws.run(2, nodes[2])
	time.Sleep(time.Second)
	nodes[0].Kill() // It holds all leases.
	killed := time.Now()
	time.Sleep(12 * time.Second)
	ws.end()
	t.Logf("%d rows; the longest time without one: %v", len(ws.acked), ws.worst)
	for w := 1; w <= 2; w++ {
		if ws.worst[w] > 10*time.Second || ws.last[w].Sub(killed) < 5*time.Second {
			t.Errorf("writer %d: %s without a row, the last one %s after the kill", w, ws.worst[w], ws.last[w].Sub(killed))
		}
	}
	for _, n := range nodes[1:] {
		if m := ws.missing(n); len(m) > 0 {
			t.Fatalf("%d acknowledged rows are missing: %v", len(m), m)
		}
	}

	// It comes back and has what it missed: without it and another node's, there
	// would be no majority.
	nodes[0].Restart()
	awaitLive(t, nodes[0], 3)
	nodes[1].Kill()
	for _, i := range []int{0, 2} {
		if m := ws.missing(nodes[i]); len(m) > 0 {
			t.Fatalf("n%d: %d acknowledged rows are missing: %v", i+1, len(m), m)
		}
	}
}

// A node that is asked to end hands its leases over: its clients' neighbours see no
// stall.
func TestClusterNodeQuits(t *testing.T) {
	nodes := node.StartCluster(t, 3)
	nodes[0].Exec("defaultdb", "CREATE TABLE t (a INT PRIMARY KEY, b INT)")
	replicate(t, nodes[0], "1,2,3")
	ws := newWriters()
	ws.run(1, nodes[1])
	ws.run(2, nodes[2])
	time.Sleep(4 * time.Second) // All have heard that all are alive.
	if code := nodes[0].Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	time.Sleep(2 * time.Second)
	ws.end()
	t.Logf("%d rows; the longest time without one: %v", len(ws.acked), ws.worst)
	for w := 1; w <= 2; w++ {
		if ws.worst[w] > 2500*time.Millisecond {
			t.Errorf("writer %d saw a stall of %s", w, ws.worst[w])
		}
	}
	if m := ws.missing(nodes[1]); len(m) > 0 {
		t.Fatalf("%d acknowledged rows are missing: %v", len(m), m)
	}
}

// Nodes find each other though they move, and though the flags name nobody any more.
func TestNodesMove(t *testing.T) {
	if testing.Short() {
		t.Skip("takes more than ten seconds")
	}
	nodes := node.StartCluster(t, 3)
	nodes[0].Exec("defaultdb", "CREATE TABLE t (a INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
	replicate(t, nodes[0], "1,2,3")
	awaitLive(t, nodes[0], 3)
	for i, n := range nodes {
		if i == 2 {
			n.Kill() // Its former process has to be forgotten first.
		} else {
			n.Stop()
		}
		n.Move()
		n.JoinThrough()
		n.SetFlags("--join=" + nodes[(i+1)%3].Addr()) // Replaces none: the store remembers.
		if i == 0 {
			n.SetFlags()
		}
		n.Launch()
		n.Await()
		if got := n.Value("defaultdb", "SELECT a FROM t"); got != "1" {
			t.Errorf("n%d at its new address: got %s", i+1, got)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		got := nodes[0].Value("defaultdb", "SELECT string_agg(address, ',' ORDER BY node_id) FROM crdb_internal.gossip_nodes WHERE is_available")
		want := nodes[0].Addr() + "," + nodes[1].Addr() + "," + nodes[2].Addr()
		if got == want {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("addresses: got %s, want %s", got, want)
		}
	}
}

func TestNodeWaitsForInit(t *testing.T) {
	waiting := node.NewMember(t, nil, t.TempDir())
	out, err := output(waiting.Command())
	if err == nil || !strings.Contains(out, "no --join flags provided to 'holdfast start'") || !strings.Contains(out, "HINT: Consider using 'holdfast init'") {
		t.Fatalf("start without --join: %v\n%s", err, out)
	}
	// Somebody at the wrong address, and later there.
	other := node.NewMember(t, nil, t.TempDir())
	waiting.JoinThrough(other)
	waiting.Launch()
	health := func() (int, string) {
		res, err := http.Get(waiting.HTTP() + "/health?ready=1")
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(body)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		if code, body := health(); code == http.StatusServiceUnavailable && strings.Contains(body, "node is waiting for cluster initialization") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("health: %d %s", code, body)
		}
		time.Sleep(50 * time.Millisecond)
	}
	other.JoinThrough(waiting)
	other.Launch()
	other.Init()
	waiting.Await()
	for _, n := range []*node.Node{other, waiting} {
		out, err := n.Run("init")
		if err == nil || !strings.Contains(out, "cluster has already been initialized") {
			t.Errorf("second init: %v\n%s", err, out)
		}
	}
	if out, err := waiting.Run("node", "ls"); err != nil || out != "id\n1\n2" {
		t.Errorf("node ls: %v\n%s", err, out)
	}
	if out, err := waiting.Run("node", "status"); err != nil || strings.Count(out, "\n") != 2 || !strings.Contains(out, other.Addr()) {
		t.Errorf("node status: %v\n%s", err, out)
	}
	waiting.Stop()
	for _, want := range []string{"initial startup completed.", "wait for `holdfast init`", "initialized new node, joined pre-existing cluster"} {
		if !strings.Contains(waiting.Output(), want) {
			t.Errorf("%q is not in the output:\n%s", want, waiting.Output())
		}
	}
}

func TestDuplicateAndForeignNodesAreRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("takes more than ten seconds")
	}
	nodes := node.StartCluster(t, 2)
	// A copy of a node's directory.
	nodes[1].Stop()
	dir := t.TempDir() + "/copy"
	if out, err := exec.Command("cp", "-a", nodes[1].Store, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	nodes[1].Restart()
	copied := node.NewMember(t, nodes[:1], t.TempDir())
	copied.Store = dir
	began := time.Now()
	out, err := output(copied.Command())
	if err == nil || !strings.Contains(out, "n2 runs already, at "+nodes[1].Addr()) {
		t.Fatalf("a copy of n2: %v\n%s", err, out)
	}
	t.Logf("the copy was refused after %s", time.Since(began))

	// A store of another cluster.
	single := node.Start(t)
	single.Stop()
	foreign := node.NewMember(t, nodes, t.TempDir())
	foreign.Store = single.Store
	out, err = output(foreign.Command())
	if err == nil || !strings.Contains(out, "but is attempting to connect to a gossip network for cluster ") {
		t.Fatalf("a store of another cluster: %v\n%s", err, out)
	}
	if out, err := single.Run("init"); err == nil || strings.Contains(out, "initialized") {
		t.Errorf("init of a node that does not run: %v\n%s", err, out)
	}
	single.Restart()
	if out, err := single.Run("init"); err == nil || !strings.Contains(out, "it was started with start-single-node") {
		t.Errorf("init of a single node: %v\n%s", err, out)
	}
	// A node of the cluster alone.
	nodes[1].Stop()
	cmd := exec.Command(node.Binary(t), "start-single-node", "--insecure", "--store="+nodes[1].Store, "--listen-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0")
	if out, err := output(cmd); err == nil || !strings.Contains(out, "this is node 2 of a cluster") {
		t.Fatalf("a node of a cluster alone: %v\n%s", err, out)
	}
	nodes[1].Restart()
	for _, n := range nodes {
		if got := n.Value("defaultdb", "SELECT 1"); got != "1" {
			t.Errorf("got %s", got)
		}
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}

func TestNodeWithAWrongClockStops(t *testing.T) {
	nodes := node.StartCluster(t, 3)
	nodes[2].Stop()
	nodes[2].SetFlags("--testing-clock-offset=3s")
	err := nodes[2].TryStart()
	if err == nil && !nodes[2].Wait(20*time.Second) {
		t.Fatal("the node goes on")
	}
	if out := nodes[2].Output(); !strings.Contains(out, "clock synchronization error: this node is more than 500ms away from at least half of the known nodes") {
		t.Fatalf("output:\n%s", out)
	}
	for _, n := range nodes[:2] {
		if got := n.Value("defaultdb", "SELECT 1"); got != "1" {
			t.Errorf("got %s", got)
		}
	}
}

func TestNodeIsDecommissioned(t *testing.T) {
	nodes := node.StartCluster(t, 2)
	nodes[0].Exec("defaultdb", "CREATE TABLE t (a INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
	replicate(t, nodes[0], "1,2")
	if out, err := nodes[0].Run("node", "decommission", "2"); err == nil || !strings.Contains(out, "ERROR: Cannot decommission nodes.") {
		t.Fatalf("with nowhere to go: %v\n%s", err, out)
	}
	if out, err := nodes[0].Run("node", "decommission", "2", "--checks=skip", "--wait=none"); err != nil || !strings.HasPrefix(out, "id\tis_live\treplicas\tis_decommissioning\tmembership\tis_draining\n2\t") ||
		!strings.Contains(out, "\ttrue\tdecommissioning\tfalse") {
		t.Fatalf("without waiting: %v\n%s", err, out)
	}
	if out, err := nodes[1].Run("node", "recommission", "--self"); err != nil || !strings.Contains(out, "\tfalse\tactive\tfalse") {
		t.Fatalf("recommission: %v\n%s", err, out)
	}
	// One node is enough for what it takes over.
	for _, target := range []string{"RANGE default", "RANGE meta", "RANGE system", "RANGE liveness", "DATABASE system"} {
		nodes[0].Exec("defaultdb", "ALTER "+target+" CONFIGURE ZONE USING num_replicas = 1")
	}
	replicate(t, nodes[0], "1")
	if out, err := nodes[0].Run("node", "drain", "2"); err != nil || !strings.HasPrefix(out, "node is draining... remaining: ") || !strings.HasSuffix(out, "\nok") {
		t.Fatalf("drain: %v\n%s", err, out)
	}
	if err := nodes[1].TryExec("defaultdb", "SELECT 1"); err == nil {
		t.Error("a drained node serves clients")
	}
	out, err := nodes[0].Run("node", "decommission", "2")
	if err != nil || !strings.HasSuffix(out, "No more data reported on target nodes. Please verify cluster health before removing the nodes.") {
		t.Fatalf("decommission: %v\n%s", err, out)
	}
	if !nodes[1].Wait(20 * time.Second) {
		t.Error("the decommissioned node goes on")
	}
	if err := nodes[1].TryStart(); err == nil || !strings.Contains(err.Error(), "this node was decommissioned") {
		t.Errorf("it starts again: %v", err)
	}
	if out, err := nodes[0].Run("node", "ls"); err != nil || out != "id\n1" {
		t.Errorf("node ls: %v\n%s", err, out)
	}
	if out, err := nodes[0].Run("node", "status", "2", "--all"); err != nil || !strings.Contains(out, "decommissioned") {
		t.Errorf("node status: %v\n%s", err, out)
	}
	if got := nodes[0].Value("defaultdb", "SELECT a FROM t"); got != "1" {
		t.Errorf("got %s", got)
	}
}
