package test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfastdb/holdfast/test/node"
)

// demo is a running demonstration.
type demo struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
	temp  string
}

func startDemo(t *testing.T, flags ...string) *demo {
	t.Helper()
	d := &demo{t: t, temp: t.TempDir()}
	d.cmd = exec.Command(node.Binary(t), append([]string{"demo"}, flags...)...)
	d.cmd.Env = append(os.Environ(), "TMPDIR="+d.temp)
	var err error
	if d.stdin, err = d.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.out = bufio.NewReader(out)
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.cmd.Process.Kill() })
	return d
}

// listed asks for the list of nodes and returns its lines.
func (d *demo) listed() [][]string {
	d.t.Helper()
	if _, err := io.WriteString(d.stdin, "\\demo ls\n\\set display_format=tsv\n\\echo end\n"); err != nil {
		d.t.Fatal(err)
	}
	var lines [][]string
	for {
		line, err := d.out.ReadString('\n')
		if err != nil {
			d.t.Fatalf("%v after %v", err, lines)
		}
		if line == "end\n" {
			return lines
		}
		lines = append(lines, strings.Fields(line))
	}
}

// end waits for the end of the process, which has been asked for.
func (d *demo) end() {
	d.t.Helper()
	late := time.AfterFunc(20*time.Second, func() { _ = d.cmd.Process.Kill() })
	_, _ = io.Copy(io.Discard, d.out)
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("the demonstration ends with: %v", err)
	}
	late.Stop()
	left, err := os.ReadDir(d.temp)
	if err != nil || len(left) > 0 {
		d.t.Errorf("what is left: %v %v", left, err)
	}
}

// highWater is the most memory that a process has used, in bytes.
func highWater(t *testing.T, pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip("no /proc")
	}
	for line := range strings.Lines(string(b)) {
		var kb int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	t.Fatalf("no VmHWM in\n%s", b)
	return 0
}

// TestDemoGlobal starts nine nodes in three regions, and looks whether they are
// there and how far from each other.
func TestDemoGlobal(t *testing.T) {
	if testing.Short() {
		t.Skip("takes more than ten seconds")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	d := startDemo(t, "--global")
	nodes := d.listed()
	if len(nodes) != 9 {
		t.Fatalf("nodes: %v", nodes)
	}
	conns := make([]*pgx.Conn, len(nodes))
	region := make([]string, len(nodes))
	for i, n := range nodes {
		if len(n) != 4 || n[0] != fmt.Sprintf("n%d", i+1) {
			t.Fatalf("node %d: %v", i+1, n)
		}
		region[i], _, _ = strings.Cut(n[1], ",")
		conn, err := pgx.Connect(ctx, n[2])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		conns[i] = conn
		var locality string
		var live int
		if err := conn.QueryRow(ctx, "SHOW LOCALITY").Scan(&locality); err != nil || locality != n[1] {
			t.Errorf("n%d is in %q, %v, and was said to be in %s", i+1, locality, err, n[1])
		}
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM crdb_internal.gossip_nodes WHERE is_available").Scan(&live); err != nil || live != 9 {
			t.Errorf("n%d knows %d nodes, %v", i+1, live, err)
		}
	}
	if got := len(slices.Compact(slices.Sorted(slices.Values(region)))); got != 3 {
		t.Errorf("%d regions: %v", got, region)
	}

	// A row is as far away as the node that serves it.
	var holder int
	fastest := func(i int) time.Duration {
		best := time.Hour
		for range 5 {
			began := time.Now()
			var n int
			if err := conns[i].QueryRow(ctx, "SELECT count(*) FROM (SELECT 1 FROM movr.users LIMIT 1) AS x").Scan(&n); err != nil || n != 1 {
				t.Fatalf("%d %v", n, err)
			}
			best = min(best, time.Since(began))
		}
		return best
	}
	if err := conns[0].QueryRow(ctx, "SELECT lease_holder FROM [SHOW RANGES FROM TABLE movr.users WITH DETAILS] LIMIT 1").Scan(&holder); err != nil {
		t.Fatal(err)
	}
	near := fastest(holder - 1)
	for i, r := range region {
		if r == region[holder-1] {
			continue
		}
		if far := fastest(i); far < 60*time.Millisecond || near > far/2 {
			t.Errorf("a row of n%d in %s takes %s at n%d in %s, and %s at home", holder, region[holder-1], far, i+1, r, near)
		}
	}
	used := highWater(t, d.cmd.Process.Pid)
	t.Logf("memory at most %d MiB; a row at home: %s", used>>20, near)
	if used > 2<<30 {
		t.Errorf("nine nodes use %d MiB", used>>20)
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	d.end()
}

// TestDemoNodes: the nodes of a small demonstration come and go, and it ends with
// its input.
func TestDemoNodes(t *testing.T) {
	d := startDemo(t, "bank", "--demo-locality=region=a,zone=x:region=b,zone=y:region=b,zone=z")
	nodes := d.listed()
	if len(nodes) != 3 || nodes[0][1] != "region=a,zone=x" || nodes[2][1] != "region=b,zone=z" {
		t.Fatalf("nodes: %v", nodes)
	}
	before := nodes[2][2]
	_, _ = io.WriteString(d.stdin, "\\demo shutdown 3\n\\demo ls\nSELECT count(*) FROM bank.bank;\n\\demo restart 3\n")
	nodes = d.listed()
	if len(nodes) < 8 || strings.Join(nodes[3], " ") != "n3 region=b,zone=z "+before+" not running" ||
		nodes[4][0] != "count" || nodes[5][0] != "1000" || strings.Join(nodes[len(nodes)-4], " ") != "node 3 has been restarted" || nodes[len(nodes)-1][2] != before {
		t.Errorf("output: %v", nodes)
	}
	_ = d.stdin.Close()
	d.end()
}
