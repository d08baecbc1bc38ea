// Package node runs real Holdfast processes for tests, which see them only
// through SQL, files and signals.
//
// Binary builds the program once per test binary; Start runs it on free ports
// with a directory of its own; Kill, Stop and Restart do what operators and power
// cuts do. Start reading at Start.
package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

var built struct {
	sync.Once
	path string
	err  error
}

// Binary builds the program from this module and returns its path; the one that
// HOLDFAST_BINARY names, if set, is taken as it is.
func Binary(t testing.TB) string {
	t.Helper()
	built.Do(func() {
		if built.path = os.Getenv("HOLDFAST_BINARY"); built.path != "" {
			return
		}
		dir, err := os.MkdirTemp("", "holdfast-bin-")
		if err != nil {
			built.err = err
			return
		}
		built.path = filepath.Join(dir, "holdfast")
		out, err := exec.Command("go", "build", "-o", built.path, "github.com/holdfastdb/holdfast/cmd/holdfast").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("building: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// Node is a process that may be killed and started again on the same directory.
type Node struct {
	t      testing.TB
	binary string
	Store  string
	Extern string // what nodelocal://1/ means
	port   int
	http   int
	flags  []string
	join   []string // not nil: one of a cluster
	place  Place

	cmd  *exec.Cmd
	out  *bytes.Buffer
	done chan error
}

// Start runs a node with a fresh store and waits until it answers. It is killed
// when the test ends.
func Start(t testing.TB, flags ...string) *Node {
	t.Helper()
	return start(t, filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "extern"), flags)
}

// StartOn is Start with directories of the test's own.
func StartOn(t testing.TB, store, extern string, flags ...string) *Node {
	t.Helper()
	return start(t, store, extern, flags)
}

// Beside runs another node, with a fresh store of its own, that reaches the same
// files under nodelocal://1/.
func (n *Node) Beside(flags ...string) *Node {
	n.t.Helper()
	return start(n.t, filepath.Join(n.t.TempDir(), "store"), n.Extern, flags)
}

func start(t testing.TB, store, extern string, flags []string) *Node {
	t.Helper()
	n := &Node{t: t, binary: Binary(t), Store: store, Extern: extern,
		port: freePort(t), http: freePort(t), flags: flags}
	n.cleanUp()
	n.Restart()
	return n
}

// cleanUp kills the process when the test ends.
func (n *Node) cleanUp() {
	n.t.Cleanup(func() {
		if n.cmd != nil {
			n.Kill()
		}
		if n.t.Failed() {
			n.t.Logf("node output:\n%s", n.out)
		}
	})
}

// Restart starts the process again, on the same store and ports.
func (n *Node) Restart() {
	n.t.Helper()
	if err := n.TryStart(); err != nil {
		n.t.Fatal(err)
	}
}

// SetFlags changes what the next start adds to the command line.
func (n *Node) SetFlags(flags ...string) { n.flags = flags }

// Wait waits until the process has ended by itself.
func (n *Node) Wait(timeout time.Duration) bool {
	select {
	case <-n.done:
		n.cmd = nil
		return true
	case <-time.After(timeout):
		return false
	}
}

// Command returns a command that would start this node.
func (n *Node) Command() *exec.Cmd {
	host := n.host()
	kind := "start-single-node"
	if n.join != nil {
		kind = "start"
	}
	args := append([]string{kind, "--insecure", "--store=" + n.Store, "--external-io-dir=" + n.Extern,
		fmt.Sprintf("--listen-addr=%s:%d", host, n.port), fmt.Sprintf("--http-addr=%s:%d", host, n.http)}, slices.Concat(n.place.Flags, n.flags)...)
	if n.join != nil {
		args = append(args, "--join="+strings.Join(n.join, ","))
	}
	within := append(slices.Clone(n.place.Within), n.binary)
	return exec.Command(within[0], append(within[1:], args...)...)
}

// TryStart is Restart that reports failure.
func (n *Node) TryStart() error {
	if err := n.launch(); err != nil {
		return err
	}
	return n.await(30 * time.Second)
}

// launch starts the process.
func (n *Node) launch() error {
	n.out = &bytes.Buffer{}
	n.cmd = n.Command()
	n.cmd.Stdout, n.cmd.Stderr = n.out, n.out
	if n.place.Log != "" {
		log, err := os.OpenFile(n.place.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer log.Close() // The process has it.
		fmt.Fprintf(log, "=== %s: %s\n", time.Now().UTC().Format(time.RFC3339Nano), n.cmd)
		n.cmd.Stdout, n.cmd.Stderr = log, log
	}
	if err := n.cmd.Start(); err != nil {
		n.cmd = nil
		return err
	}
	n.done = make(chan error, 1)
	go func(cmd *exec.Cmd, done chan error) { done <- cmd.Wait() }(n.cmd, n.done)
	return nil
}

// await waits until the process answers.
func (n *Node) await(timeout time.Duration) error {
	for deadline := time.Now().Add(timeout); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		// The other databases are offline while a whole cluster is restored.
		conn, err := pgx.Connect(ctx, n.URL("system"))
		if err == nil {
			conn.Close(ctx)
			cancel()
			return nil
		}
		cancel()
		select {
		case err := <-n.done:
			n.cmd = nil
			return fmt.Errorf("node ended at start: %v\n%s", err, n.out)
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("node does not answer: %w\n%s", err, n.out)
		}
	}
}

// URL returns a connection string.
func (n *Node) URL(database string) string {
	return fmt.Sprintf("postgresql://root@%s/%s?sslmode=disable", n.Addr(), database)
}

// HTTP returns the base of the node's HTTP addresses.
func (n *Node) HTTP() string { return fmt.Sprintf("http://%s:%d", n.host(), n.http) }

// PID returns the process id.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Signal sends a signal to the process, which must be running.
func (n *Node) Signal(sig os.Signal) error { return n.cmd.Process.Signal(sig) }

// Running says whether the process was started and nobody has seen it end.
func (n *Node) Running() bool { return n.cmd != nil }

// Kill ends the process at once, as a power cut does to a process.
func (n *Node) Kill() {
	if n.cmd == nil {
		return
	}
	n.cmd.Process.Kill()
	<-n.done
	n.cmd = nil
}

// Stop asks the process to drain and returns its exit code.
func (n *Node) Stop() int {
	n.t.Helper()
	n.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.done:
	case <-time.After(30 * time.Second):
		n.t.Fatalf("node did not drain within 30 s\n%s", n.out)
	}
	code := n.cmd.ProcessState.ExitCode()
	n.cmd = nil
	return code
}

// Conn opens a connection that closes with the test.
func (n *Node) Conn(database string) *pgx.Conn {
	n.t.Helper()
	conn, err := pgx.Connect(context.Background(), n.URL(database))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// Exec runs statements, each in its own transaction, on a connection of its own.
func (n *Node) Exec(database string, statements ...string) {
	n.t.Helper()
	for _, s := range statements {
		if err := n.TryExec(database, s); err != nil {
			n.t.Fatalf("%s: %v", s, err)
		}
	}
}

// TryExec is Exec of one statement that reports failure.
func (n *Node) TryExec(database, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, n.URL(database))
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(ctx, statement)
	return err
}

// Rows returns the rows of a query as text.
func (n *Node) Rows(database, query string) [][]string {
	n.t.Helper()
	rows, err := n.TryRows(database, query)
	if err != nil {
		n.t.Fatalf("%s: %v", query, err)
	}
	return rows
}

// TryRows is Rows that reports failure.
func (n *Node) TryRows(database, query string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, n.URL(database))
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.Background())
	res, err := conn.PgConn().Exec(ctx, query).ReadAll()
	if err != nil {
		return nil, err
	}
	var out [][]string
	for _, r := range res[len(res)-1].Rows {
		line := make([]string, len(r))
		for i, v := range r {
			line[i] = "NULL"
			if v != nil {
				line[i] = string(v)
			}
		}
		out = append(out, line)
	}
	return out, nil
}

// Value returns the first column of the first row.
func (n *Node) Value(database, query string) string {
	n.t.Helper()
	rows := n.Rows(database, query)
	if len(rows) == 0 || len(rows[0]) == 0 {
		n.t.Fatalf("%s: no rows", query)
	}
	return rows[0][0]
}

// Content returns one line per table of a database: a hash of its rows, read by
// plain SELECTs and sorted here. It knows nothing of fingerprints, so it can
// judge them.
func (n *Node) Content(database string) map[string]string {
	n.t.Helper()
	content := make(map[string]string)
	for _, table := range n.Rows(database, `SELECT table_schema, table_name FROM information_schema.tables
		WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema', 'crdb_internal', 'pg_extension')`) {
		name := pgx.Identifier{table[0], table[1]}.Sanitize()
		var lines []string
		for _, row := range n.Rows(database, "SELECT * FROM "+name) {
			lines = append(lines, strings.Join(row, "\x00"))
		}
		sort.Strings(lines)
		sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
		content[name] = fmt.Sprintf("%d rows, %s", len(lines), hex.EncodeToString(sum[:8]))
	}
	return content
}

// ports are those that this process has given to nodes.
var ports struct {
	sync.Mutex
	given map[int]bool
}

// FreeAddr returns a loopback address for a server that a test runs beside nodes,
// and may stop and start again.
func FreeAddr(t testing.TB) string { return fmt.Sprintf("127.0.0.1:%d", freePort(t)) }

// freePort returns a port that nobody listens on. It lies below those that the
// system gives to outgoing connections: while a node is down, one of them could
// take its place.
func freePort(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	if ports.given == nil {
		ports.given = map[int]bool{}
	}
	for range 1000 {
		port := 10000 + rand.IntN(22000)
		if ports.given[port] {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		l.Close()
		ports.given[port] = true
		return port
	}
	t.Fatal("no port is free")
	return 0
}
