package server

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver"
	"github.com/holdfastdb/holdfast/kv/kvtest"
	"github.com/holdfastdb/holdfast/sql"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// layers are several nodes' SQL layers over one keyspace, in one process: all that
// a cluster has above kv.
type layers struct {
	t     testing.TB
	kv    *kvtest.Node
	ioDir string
	nodes []*Node
}

// openLayers opens n SQL layers, with node ids from 1.
func openLayers(t testing.TB, n int, change func(id int, cfg *Config)) *layers {
	t.Helper()
	l := &layers{t: t, kv: kvtest.New(t, kvtest.Options{}), ioDir: t.TempDir()}
	for id := 1; id <= n; id++ {
		l.nodes = append(l.nodes, l.open(id, change))
	}
	return l
}

// open opens the SQL layer of one node. It has a clock of its own.
func (l *layers) open(id int, change func(id int, cfg *Config)) *Node {
	l.t.Helper()
	cfg := testConfig(l.t)
	cfg.Store = StoreSpec{InMemory: true}
	cfg.ExternalIODir = l.ioDir
	if change != nil {
		change(id, &cfg)
	}
	n, err := New(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	n.log = cfg.Testing.Log
	n.ident = kvserver.Ident{ClusterID: [16]byte{1}, NodeID: kvpb.NodeID(id), StoreID: 1}
	clock := hlc.NewSystemClock(cfg.MaxOffset)
	n.db = kv.NewDB(kv.Config{Sender: kv.NewRouter(l.kv.Store, l.kv.Store), Clock: clock, Log: n.log, UncertaintyInterval: cfg.MaxOffset})
	listener, err := n.listen("", "")
	if err != nil {
		l.t.Fatal(err)
	}
	n.sqlAddr = listener.Addr()
	metrics := prometheus.NewRegistry()
	if err := n.openSQL(context.Background(), metrics); err != nil {
		l.t.Fatal(err)
	}
	n.servePG(listener, metrics)
	l.t.Cleanup(func() { stopNode(l.t, n) })
	return n
}

// conn opens a connection to the i-th node, counted from 0.
func (l *layers) conn(i int) *pgx.Conn { return connectNode(l.t, l.nodes[i], nil) }

// queryOne returns the one value of a query as text.
func queryOne(t testing.TB, c *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	var out any
	if err := c.QueryRow(context.Background(), sql, args...).Scan(&out); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return fmt.Sprint(out)
}

// await waits for a condition.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// TestLayersSeeSchemaChanges: what one node has changed is what the next statement
// on another works with, prepared or not.
func TestLayersSeeSchemaChanges(t *testing.T) {
	l := openLayers(t, 2, nil)
	ctx := context.Background()
	a, b := l.conn(0), l.conn(1)
	exec1(t, a, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	exec1(t, b, "INSERT INTO t VALUES (1, 10)")
	for i := range 5 {
		began := time.Now()
		exec1(t, a, fmt.Sprintf("ALTER TABLE t ADD COLUMN c%d INT NOT NULL DEFAULT %d", i, i))
		took := time.Since(began)
		// The same text each time, so that it comes from the cache of statements.
		exec1(t, b, "INSERT INTO t (id, v) VALUES ($1, $2)", 100+i, i)
		if got := queryOne(t, b, fmt.Sprintf("SELECT c%d FROM t WHERE id = $1", i), 100+i); got != fmt.Sprint(i) {
			t.Errorf("a row written after ADD COLUMN has %s", got)
		}
		t.Logf("ALTER TABLE took %v", took)
	}
	exec1(t, a, "CREATE INDEX t_v ON t (v)")
	exec1(t, b, "INSERT INTO t (id, v) VALUES ($1, $2)", 200, 77)
	if got := queryOne(t, a, "SELECT id FROM t@t_v WHERE v = 77"); got != "200" {
		t.Errorf("the new index yields %s", got)
	}
	exec1(t, b, "DROP INDEX t_v")
	exec1(t, b, "ALTER TABLE t RENAME TO u")
	if _, err := a.Exec(ctx, "INSERT INTO t (id, v) VALUES (300, 1)"); pgCode(err) != "42P01" {
		t.Errorf("the old name: %v", err)
	}
	exec1(t, a, "INSERT INTO u (id, v) VALUES (301, 1)")
	exec1(t, a, "CREATE TABLE t (x INT)")
	exec1(t, b, "INSERT INTO t (x) VALUES (1)")
	exec1(t, a, "DROP TABLE t")
	exec1(t, a, "CREATE TABLE t (y INT)")
	exec1(t, b, "INSERT INTO t (y) VALUES (1)")
	exec1(t, a, "TRUNCATE t")
	if got := queryOne(t, b, "SELECT count(*) FROM t"); got != "0" {
		t.Errorf("%s rows after TRUNCATE", got)
	}
	exec1(t, b, "INSERT INTO t (y) VALUES (2)")
	if got := queryOne(t, a, "SELECT count(*) FROM t"); got != "1" {
		t.Errorf("%s rows after TRUNCATE and INSERT", got)
	}
}

// TestLayersSettingsAndRoles: settings, memberships and privileges that one node
// has changed hold on the other with its next statement.
func TestLayersSettingsAndRoles(t *testing.T) {
	l := openLayers(t, 2, nil)
	ctx := context.Background()
	a, b := l.conn(0), l.conn(1)
	for _, v := range []string{"123h0m0s", "321h0m0s"} {
		exec1(t, a, "SET CLUSTER SETTING jobs.retention_time = '"+v+"'")
		if got := queryOne(t, b, "SHOW CLUSTER SETTING jobs.retention_time"); got != v {
			t.Errorf("the other node has %s, not %s", got, v)
		}
	}
	exec1(t, a, "CREATE USER u")
	exec1(t, a, "CREATE ROLE r")
	exec1(t, a, "CREATE TABLE t (x INT)")
	exec1(t, a, "GRANT SELECT ON t TO r")
	u := connectNode(t, l.nodes[1], func(cfg *pgx.ConnConfig) { cfg.User = "u" })
	for range 3 {
		if _, err := u.Exec(ctx, "SELECT * FROM t"); pgCode(err) != "42501" {
			t.Fatalf("before GRANT: %v", err)
		}
		exec1(t, a, "GRANT r TO u")
		exec1(t, u, "SELECT * FROM t")
		exec1(t, a, "REVOKE r FROM u")
	}
	exec1(t, a, "GRANT SELECT ON t TO u")
	exec1(t, u, "SELECT * FROM t")
	exec1(t, b, "REVOKE SELECT ON t FROM u")
	if _, err := u.Exec(ctx, "SELECT * FROM t"); pgCode(err) != "42501" {
		t.Errorf("after REVOKE: %v", err)
	}
	// A change that is not committed holds nowhere, and is in nobody's way.
	tx, err := a.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	exec1(t, a, "GRANT r TO u")
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Exec(ctx, "SELECT * FROM t"); pgCode(err) != "42501" {
		t.Errorf("after a GRANT that was rolled back: %v", err)
	}
}

// TestLayersBootstrap: nodes that start at once on a new keyspace make one cluster.
func TestLayersBootstrap(t *testing.T) {
	k := kvtest.New(t, kvtest.Options{})
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			db := kv.NewDB(kv.Config{Sender: kv.NewRouter(k.Store, k.Store), Clock: hlc.NewSystemClock(500 * time.Millisecond), Log: slog.New(slog.DiscardHandler)})
			for range 3 {
				if err := sql.Bootstrap(context.Background(), db); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	l := &layers{t: t, kv: k, ioDir: t.TempDir()}
	l.nodes = append(l.nodes, l.open(1, nil), l.open(2, nil))
	if got := queryOne(t, l.conn(0), "SELECT count(*) FROM system.users"); got != "2" {
		t.Errorf("%s users", got)
	}
	exec1(t, l.conn(0), "CREATE TABLE t (x INT)")
	exec1(t, l.conn(1), "INSERT INTO t VALUES (1)")
}

// TestLayersSessions: sessions of two nodes have different names, PIDs and rows, and
// what only the other node can do is refused.
func TestLayersSessions(t *testing.T) {
	l := openLayers(t, 2, nil)
	ctx := context.Background()
	a, b := l.conn(0), l.conn(1)
	pidA, pidB := queryOne(t, a, "SELECT pg_backend_pid()"), queryOne(t, b, "SELECT pg_backend_pid()")
	if pidA == pidB || pidA != fmt.Sprint(a.PgConn().PID()) {
		t.Errorf("PIDs %s and %s; the client knows %d", pidA, pidB, a.PgConn().PID())
	}
	if got := queryOne(t, a, "SELECT pg_cancel_backend("+pidB+")"); got != "false" {
		t.Errorf("canceling a statement of another node: %s", got)
	}
	id := queryOne(t, b, "SELECT session_id FROM [SHOW SESSIONS] LIMIT 1")
	if _, err := a.Exec(ctx, "CANCEL QUERY '"+id+"'"); err == nil || !strings.Contains(err.Error(), "node 2, whose session it is, does not answer") {
		t.Errorf("canceling a query of another node: %v", err)
	}
	exec1(t, a, "CREATE TABLE r (x INT)")
	var wg sync.WaitGroup
	for _, c := range []*pgx.Conn{a, b} {
		wg.Go(func() {
			for range 50 {
				if _, err := c.Exec(ctx, "INSERT INTO r SELECT generate_series(1, 20)"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := queryOne(t, a, "SELECT count(*) FROM r"); got != "2000" {
		t.Errorf("%s rows, want 2000: two had one rowid", got)
	}
	if _, err := a.Exec(ctx, "BACKUP TABLE r INTO 'nodelocal://2/x'"); err == nil || !strings.Contains(err.Error(), "is on the disk of node 2") {
		t.Errorf("the disk of another node: %v", err)
	}
	if _, err := a.Exec(ctx, "BACKUP TABLE r INTO 'nodelocal://7/x'"); err == nil || !strings.Contains(err.Error(), "node 7 of nodelocal://7/x is not part of this cluster") {
		t.Errorf("the disk of no node: %v", err)
	}
}

// TestLayersLeftovers: a node that starts again clears what its former process left,
// and nothing of another's.
func TestLayersLeftovers(t *testing.T) {
	var frozen atomic.Bool
	l := openLayers(t, 2, func(id int, cfg *Config) {
		if id == 1 {
			cfg.Testing.Peers = func(p *catalog.PeersConfig) { p.Frozen = frozen.Load }
		}
	})
	ctx := context.Background()
	a, b := l.conn(0), l.conn(1)
	exec1(t, b, "CREATE TEMP TABLE mine (x INT)")
	exec1(t, b, "INSERT INTO mine VALUES (1)")
	exec1(t, a, "CREATE TEMP TABLE gone (x INT)")

	// Rows of a transaction that is still open, ingested beside it.
	tx, err := b.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	exec1(t, b, "CREATE TABLE loaded (id INT PRIMARY KEY, s TEXT)")
	var rows strings.Builder
	for i := range 40_000 {
		fmt.Fprintf(&rows, "%d\t%s\n", i, strings.Repeat("x", 50))
	}
	if _, err := b.PgConn().CopyFrom(ctx, strings.NewReader(rows.String()), "COPY loaded FROM STDIN"); err != nil {
		t.Fatal(err)
	}
	// The first node's process is gone without a word: another takes its place.
	frozen.Store(true)
	l.nodes = append(l.nodes, l.open(1, nil))
	c := l.conn(2)
	if got := queryOne(t, c, "SELECT count(*) FROM mine"); got != "1" {
		t.Errorf("%s rows in a temporary table of another node", got)
	}
	if _, err := c.Exec(ctx, "SELECT * FROM gone"); pgCode(err) != "42P01" {
		t.Errorf("a temporary table of the former process: %v", err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if got := queryOne(t, c, "SELECT count(*) FROM loaded"); got != "40000" {
		t.Errorf("%s loaded rows", got)
	}
	exec1(t, b, "INSERT INTO mine VALUES (2)")
	if got := queryOne(t, b, "SELECT count(*) FROM mine"); got != "2" {
		t.Errorf("%s rows in a temporary table of a living session", got)
	}
}

// TestLayersOpenTransaction: a transaction that used a table before another node
// changes it holds the change up, as on one node, and writes nothing that the new
// version does not know.
func TestLayersOpenTransaction(t *testing.T) {
	l := openLayers(t, 2, nil)
	ctx := context.Background()
	a, b := l.conn(0), l.conn(1)
	exec1(t, a, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	tx, err := b.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	exec1(t, b, "INSERT INTO t VALUES (1, 10)")
	done := make(chan error, 1)
	go func() {
		_, err := a.Exec(ctx, "CREATE INDEX t_v ON t (v)")
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("the index was made beside a transaction that writes: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	exec1(t, b, "INSERT INTO t VALUES (2, 20)")
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	checkEveryIndex(t, a, "t")
	if got := queryOne(t, a, "SELECT count(*) FROM t@t_v WHERE v > 0"); got != "2" {
		t.Errorf("%s entries", got)
	}
	exec1(t, a, "SET lock_timeout = '200ms'")
	if tx, err = b.Begin(ctx); err != nil {
		t.Fatal(err)
	}
	exec1(t, b, "INSERT INTO t VALUES (3, 30)")
	if _, err := a.Exec(ctx, "DROP INDEX t_v"); pgCode(err) != "55P03" {
		t.Errorf("with a lock timeout: %v", err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	exec1(t, a, "DROP INDEX t_v")
}

// TestLayersStaleSnapshot: a schema change in a transaction whose snapshot is older
// than rows others have committed sees them all the same.
func TestLayersStaleSnapshot(t *testing.T) {
	for _, n := range []int{1, 2} {
		l := openLayers(t, n, nil)
		a, b := l.conn(0), l.conn(n-1)
		ctx := context.Background()
		exec1(t, a, "CREATE TABLE o (x INT)")
		exec1(t, a, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		exec1(t, b, "INSERT INTO t VALUES (1, 1)")
		tx, err := a.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		exec1(t, a, "SELECT * FROM o")
		time.Sleep(600 * time.Millisecond) // Later than another clock could be ahead.
		exec1(t, b, "INSERT INTO t VALUES (2, 2)")
		exec1(t, a, "CREATE INDEX t_v ON t (v)")
		if err := tx.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		if got := queryOne(t, b, "SELECT count(*) FROM t@t_v WHERE v > 0"); got != "2" {
			t.Errorf("%d nodes: the index has %s entries of 2", n, got)
		}
		time.Sleep(600 * time.Millisecond)
		exec1(t, b, "INSERT INTO t VALUES (3, 3)") // With what is in the cache from here on.
		exec1(t, b, "INSERT INTO t VALUES (4, 4)")
		if tx, err = a.Begin(ctx); err != nil {
			t.Fatal(err)
		}
		exec1(t, a, "SELECT * FROM o")
		time.Sleep(600 * time.Millisecond)
		exec1(t, b, "INSERT INTO t VALUES (5, -1)")
		if _, err := a.Exec(ctx, "ALTER TABLE t ADD CONSTRAINT positive CHECK (v > 0)"); pgCode(err) != "23514" {
			t.Errorf("%d nodes: a constraint that a row violates: %v", n, err)
		}
		if err := tx.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLayersDeadNode: a node that is no more does not hold up schema changes for
// longer than its lease lasts, and a node that wakes after it lost the lease commits
// nothing that depended on it.
func TestLayersDeadNode(t *testing.T) {
	var frozen atomic.Bool
	l := openLayers(t, 2, func(id int, cfg *Config) {
		cfg.Testing.Peers = func(p *catalog.PeersConfig) {
			p.TTL, p.Heartbeat = 2*time.Second, 500*time.Millisecond
			if id == 2 {
				p.Frozen = frozen.Load
			}
		}
	})
	ctx := context.Background()
	a, b := l.conn(0), l.conn(1)
	exec1(t, a, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	exec1(t, b, "SELECT * FROM t")
	time.Sleep(time.Second) // From here on it is in the cache.
	tx, err := b.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	exec1(t, b, "SELECT * FROM t")
	frozen.Store(true)
	began := time.Now()
	exec1(t, a, "CREATE INDEX t_v ON t (v)")
	if took := time.Since(began); took < time.Second || took > 10*time.Second {
		t.Errorf("the change took %v", took)
	}
	exec1(t, b, "INSERT INTO t VALUES (1, 10)")
	if err := tx.Commit(ctx); pgCode(err) != "40001" {
		t.Errorf("the commit of a transaction that used the old version: %v", err)
	}
	checkEveryIndex(t, a, "t")
	// Without a lease, every transaction reads what it uses.
	exec1(t, b, "INSERT INTO t VALUES (2, 20)")
	exec1(t, a, "DROP INDEX t_v")
	exec1(t, b, "INSERT INTO t VALUES (3, 30)")
	frozen.Store(false)
	await(t, "another lease", func() bool { return l.nodes[0].sql.IsMember(2) })
	exec1(t, a, "ALTER TABLE t ADD COLUMN w INT NOT NULL DEFAULT 7")
	exec1(t, b, "INSERT INTO t (id, v) VALUES (4, 40)")
	if got := queryOne(t, a, "SELECT string_agg(id || ':' || w, ' ' ORDER BY id) FROM t"); got != "2:7 3:7 4:7" {
		t.Errorf("rows %s", got)
	}
}

// TestLayersAdvisoryLocks: an advisory lock keeps sessions of all nodes out, goes with
// its session, and does not outlive its node.
func TestLayersAdvisoryLocks(t *testing.T) {
	var frozen atomic.Bool
	l := openLayers(t, 2, func(id int, cfg *Config) {
		cfg.Testing.Peers = func(p *catalog.PeersConfig) {
			p.TTL, p.Heartbeat = 2*time.Second, 500*time.Millisecond
			if id == 2 {
				p.Frozen = frozen.Load
			}
		}
	})
	ctx := context.Background()
	a, a2, b := l.conn(0), l.conn(0), l.conn(1)
	exec1(t, a, "SELECT pg_advisory_lock(7)")
	try := func(c *pgx.Conn, fn string) string { return queryOne(t, c, "SELECT "+fn) }
	if try(b, "pg_try_advisory_lock(7)") != "false" || try(a2, "pg_try_advisory_lock(7)") != "false" || try(b, "pg_try_advisory_lock(8)") != "true" {
		t.Error("a lock that is held keeps out everybody else, and nobody from another lock")
	}
	got := make(chan error, 1)
	go func() {
		_, err := b.Exec(ctx, "SELECT pg_advisory_lock(7)")
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("got the lock of another node: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if try(a, "pg_advisory_unlock(7)") != "true" {
		t.Error("it was not held")
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if try(a, "pg_try_advisory_lock_shared(7)") != "false" {
		t.Error("shared with a lock that is not")
	}
	exec1(t, b, "SELECT pg_advisory_unlock_all()")
	if try(a, "pg_try_advisory_lock_shared(7)") != "true" || try(b, "pg_try_advisory_lock_shared(7)") != "true" || try(a2, "pg_try_advisory_lock(7)") != "false" {
		t.Error("not shared")
	}
	if err := a.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if try(a2, "pg_try_advisory_lock(7)") != "false" {
		t.Error("the other node's share is gone")
	}
	frozen.Store(true)
	exec1(t, a2, "SELECT pg_advisory_lock(7)")
}

// TestLayersDeadlock: of two nodes' schema changes that wait for each other one ends,
// soon.
func TestLayersDeadlock(t *testing.T) {
	l := openLayers(t, 2, nil)
	ctx := context.Background()
	a, b := l.conn(0), l.conn(1)
	exec1(t, a, "CREATE TABLE t1 (x INT)")
	exec1(t, a, "CREATE TABLE t2 (x INT)")
	for round, stmts := range [][2][2]string{
		{{"ALTER TABLE t1 ADD COLUMN y INT", "ALTER TABLE t2 ADD COLUMN y INT"}, {"ALTER TABLE t2 ADD COLUMN z INT", "ALTER TABLE t1 ADD COLUMN z INT"}},
		{{"INSERT INTO t1 (x) VALUES (1)", "ALTER TABLE t1 ADD COLUMN v INT"}, {"INSERT INTO t1 (x) VALUES (1)", "ALTER TABLE t1 ADD COLUMN w INT"}},
		{{"INSERT INTO t1 (x) VALUES (1)", "ALTER TABLE t2 ADD COLUMN q INT"}, {"INSERT INTO t2 (x) VALUES (1)", "ALTER TABLE t1 ADD COLUMN q INT"}},
	} {
		began := time.Now()
		errs := make([]error, 2)
		for i, c := range []*pgx.Conn{a, b} {
			exec1(t, c, "BEGIN")
			exec1(t, c, stmts[i][0])
		}
		var wg sync.WaitGroup
		for i, c := range []*pgx.Conn{a, b} {
			wg.Go(func() {
				_, errs[i] = c.Exec(ctx, stmts[i][1])
				end := "COMMIT"
				if errs[i] != nil {
					end = "ROLLBACK"
				}
				if _, err := c.Exec(ctx, end); err != nil && errs[i] == nil {
					errs[i] = err
				}
			})
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil && pgCode(err) != "40P01" && pgCode(err) != "40001" {
				t.Errorf("round %d: %v", round, err)
			}
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("round %d took %v: %v", round, took, errs)
		}
		t.Logf("round %d: %v in %v", round, errs, time.Since(began))
	}
}
