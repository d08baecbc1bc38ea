package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfastdb/holdfast/kv/storage"
)

func testConfig(t testing.TB) Config {
	cfg := DefaultConfig()
	cfg.Insecure = true
	cfg.Store = StoreSpec{Path: filepath.Join(t.TempDir(), "store")}
	cfg.ListenAddr, cfg.HTTPAddr = "127.0.0.1:0", "127.0.0.1:0"
	cfg.CacheBytes = 16 << 20
	cfg.DrainTransactions = 200 * time.Millisecond
	cfg.Testing.Log = slog.New(slog.DiscardHandler)
	return cfg
}

func startNode(t testing.TB, cfg Config) *Node {
	t.Helper()
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopNode(t, n) })
	return n
}

func stopNode(t testing.TB, n *Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		t.Errorf("stopping: %v", err)
	}
}

func connectNode(t testing.TB, n *Node, change func(*pgx.ConnConfig)) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(n.SQLURL())
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(cfg)
	}
	conn, err := pgx.ConnectConfig(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec1(t testing.TB, c *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := c.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func httpGet(t testing.TB, n *Node, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + n.HTTPAddr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestRestartKeepsData(t *testing.T) {
	cfg := testConfig(t)
	n := startNode(t, cfg)
	c := connectNode(t, n, nil)
	exec1(t, c, "CREATE TABLE t (a INT PRIMARY KEY, b TEXT)")
	exec1(t, c, "INSERT INTO t VALUES (1, 'one'), (2, NULL)")
	id := n.ident.ClusterID

	if _, err := New(cfg); err != nil {
		t.Fatal(err)
	}
	second, _ := New(cfg)
	if err := second.Start(context.Background()); !errors.Is(err, storage.ErrStoreLocked) {
		t.Errorf("a second node on the same store: %v", err)
	}

	stopNode(t, n)
	n = startNode(t, cfg)
	if n.origin != restarted || n.ident.ClusterID != id {
		t.Errorf("the cluster is another one after a restart")
	}
	c = connectNode(t, n, nil)
	var count int
	if err := c.QueryRow(context.Background(), "SELECT count(*) FROM t").Scan(&count); err != nil || count != 2 {
		t.Errorf("%d rows, %v", count, err)
	}
	var text strings.Builder
	n.Describe(&text)
	if !strings.Contains(text.String(), "restarted pre-existing node") {
		t.Error(text.String())
	}
}

func TestHTTP(t *testing.T) {
	n := startNode(t, testConfig(t))
	for _, path := range []string{"/health", "/health?ready=1"} {
		if code, body := httpGet(t, n, path); code != 200 || strings.TrimSpace(body) != "{}" {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, body := httpGet(t, n, "/_status/vars"); code != 200 || !strings.Contains(body, `sql_conns{node_id="1"} 0`) {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := httpGet(t, n, "/debug/pprof/goroutine?debug=1"); code != 200 {
		t.Error(code)
	}
	n.ready.set(stateDraining)
	code, body := httpGet(t, n, "/health?ready=1")
	var msg map[string]any
	if err := json.Unmarshal([]byte(body), &msg); err != nil || code != 503 || msg["error"] != "node is shutting down" || msg["code"] != float64(14) {
		t.Errorf("%d %s %v", code, body, err)
	}
	if code, _ := httpGet(t, n, "/health"); code != 200 {
		t.Error("a draining node is alive")
	}
}

func TestRunDrains(t *testing.T) {
	cfg := testConfig(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ready := make(chan *Node, 1)
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, context.Background(), cfg, func(n *Node) error { ready <- n; return nil })
	}()
	n := <-ready
	idle, busy := connectNode(t, n, nil), connectNode(t, n, nil)
	exec1(t, busy, "CREATE TABLE t (a INT PRIMARY KEY)")
	exec1(t, busy, "BEGIN")
	exec1(t, busy, "INSERT INTO t VALUES (1)")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	for _, c := range []*pgx.Conn{idle, busy} {
		if _, err := c.Exec(context.Background(), "SELECT 1"); err == nil {
			t.Error("a connection survived its node")
		}
	}
}

func TestUsers(t *testing.T) {
	n := startNode(t, testConfig(t))
	c := connectNode(t, n, nil)
	exec1(t, c, "CREATE USER alice")
	exec1(t, c, "CREATE ROLE readers")
	for user, code := range map[string]string{"alice": "", "root": "", "nobody": "28P01", "readers": "28000"} {
		cfg, _ := pgx.ParseConfig(n.SQLURL())
		cfg.User = user
		conn, err := pgx.ConnectConfig(context.Background(), cfg)
		got := ""
		if err == nil {
			_ = conn.Close(context.Background())
		} else if pe := new(pgconn.PgError); errors.As(err, &pe) {
			got = pe.Code
		} else {
			got = err.Error()
		}
		if got != code {
			t.Errorf("%s: got %q, want %q", user, got, code)
		}
	}
}

// TestCopy loads and unloads through the whole stack: into a table of the same
// transaction, which is ingested if it is large, and into an older one.
func TestCopy(t *testing.T) {
	n := startNode(t, testConfig(t))
	ctx := context.Background()
	c := connectNode(t, n, nil)
	const rows = 20000
	data := func() io.Reader {
		r, w := io.Pipe()
		go func() {
			for i := range rows {
				// Out of order, so that chunks must be sorted.
				_, _ = fmt.Fprintf(w, "%d\t%s\t\\N\n", (i*7919)%rows, strings.Repeat("x", 50))
			}
			_ = w.Close()
		}()
		return r
	}
	check := func(what string, want int) {
		t.Helper()
		var count, distinct int
		if err := c.QueryRow(ctx, "SELECT count(*), count(DISTINCT a) FROM t").Scan(&count, &distinct); err != nil || count != want || distinct != want {
			t.Fatalf("%s: %d rows, %d distinct, %v; want %d", what, count, distinct, err, want)
		}
		if err := c.QueryRow(ctx, "SELECT count(*) FROM t@t_b_idx WHERE b = $1", strings.Repeat("x", 50)).Scan(&count); err != nil || count != want {
			t.Fatalf("%s: %d rows in the index, %v", what, count, err)
		}
	}
	copyIn := func() error {
		_, err := c.PgConn().CopyFrom(ctx, data(), "COPY t (a, b, c) FROM STDIN")
		return err
	}
	ddl := "CREATE TABLE t (a INT PRIMARY KEY, b TEXT, c INT, d INT DEFAULT 7, INDEX t_b_idx (b))"

	exec1(t, c, "BEGIN")
	exec1(t, c, ddl)
	if err := copyIn(); err != nil {
		t.Fatal(err)
	}
	check("inside of the transaction", rows)
	exec1(t, c, "INSERT INTO t VALUES (-1, 'y')")
	exec1(t, c, "DELETE FROM t WHERE a = -1")
	exec1(t, c, "COMMIT")
	check("a new table", rows)
	var d int
	if err := c.QueryRow(ctx, "SELECT d FROM t WHERE a = 5").Scan(&d); err != nil || d != 7 {
		t.Errorf("default %d, %v", d, err)
	}

	var pe *pgconn.PgError
	if err := copyIn(); !errors.As(err, &pe) || pe.Code != "23505" {
		t.Errorf("the same rows again: %v", err)
	}
	exec1(t, c, "BEGIN")
	exec1(t, c, "TRUNCATE t")
	if err := copyIn(); err != nil {
		t.Fatal(err)
	}
	if err := copyIn(); !errors.As(err, &pe) || pe.Code != "23505" {
		t.Errorf("the same rows again after TRUNCATE: %v", err)
	}
	exec1(t, c, "ROLLBACK")
	check("after a rollback", rows)

	exec1(t, c, "BEGIN")
	exec1(t, c, "TRUNCATE t")
	check("truncated", 0)
	if err := copyIn(); err != nil {
		t.Fatal(err)
	}
	exec1(t, c, "COMMIT")
	check("after TRUNCATE and COPY", rows)

	exec1(t, c, "BEGIN")
	exec1(t, c, "DROP TABLE t")
	exec1(t, c, ddl)
	exec1(t, c, "INSERT INTO t VALUES (-1, 'in the way', 0)")
	if err := copyIn(); err != nil {
		t.Fatal(err)
	}
	exec1(t, c, "DELETE FROM t WHERE a = -1")
	exec1(t, c, "COMMIT")
	check("rows before the COPY", rows)

	exec1(t, c, "BEGIN")
	exec1(t, c, "DROP TABLE t")
	exec1(t, c, ddl)
	exec1(t, c, "SAVEPOINT s")
	if err := copyIn(); err != nil {
		t.Fatal(err)
	}
	exec1(t, c, "ROLLBACK TO SAVEPOINT s")
	check("rolled back to a savepoint", 0)
	exec1(t, c, "ROLLBACK")

	exec1(t, c, "DELETE FROM t")
	if err := copyIn(); err != nil {
		t.Fatal(err)
	}
	check("into an old table", rows)

	var out strings.Builder
	tag, err := c.PgConn().CopyTo(ctx, &out, "COPY (SELECT * FROM t ORDER BY a LIMIT 2) TO STDOUT (FORMAT csv, HEADER)")
	want := "a,b,c,d\n0," + strings.Repeat("x", 50) + ",,7\n1," + strings.Repeat("x", 50) + ",,7\n"
	if err != nil || tag.String() != "COPY 2" || out.String() != want {
		t.Errorf("%s %v\n%s", tag, err, out.String())
	}
	for _, tc := range []struct{ data, code, where string }{
		{"x\ta\tb\n", "22P02", `COPY t, line 1, column a: "x"`},
		{"100001\ta\t1\n100002\tb\n", "22P04", `COPY t, line 2: "100002	b"`},
		{"\\N\ta\t1\n", "23502", "COPY t, line 1: \"\\N\ta\t1\""},
		{"100001\t\xff\t1\n", "22021", "COPY t, line 1, column b: \"\xff\""},
	} {
		_, err := c.PgConn().CopyFrom(ctx, strings.NewReader(tc.data), "COPY t (a, b, c) FROM STDIN")
		if !errors.As(err, &pe) || pe.Code != tc.code || pe.Where != tc.where {
			t.Errorf("%q: %v, %q; want %s %q", tc.data, err, pe.Where, tc.code, tc.where)
		}
	}
	check("after failed COPYs", rows)
}

func TestPsql(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is not installed")
	}
	n := startNode(t, testConfig(t))
	run := func(args ...string) string {
		cmd := exec.Command(psql, append([]string{"-X", "-v", "ON_ERROR_STOP=1", n.SQLURL()}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("psql %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run("-c", "CREATE TABLE t (a BIGINT PRIMARY KEY CHECK (a > 0), b VARCHAR(10) DEFAULT 'x'); CREATE INDEX e ON t ((a + 1)); CREATE VIEW v AS SELECT a FROM t; CREATE SEQUENCE s; CREATE INDEX i ON t (b)")
	for _, meta := range strings.Fields(`\l \l+ \d \d+ \dS \da \dA \dA+ \dAc \dAf \dAo \dAp \db \db+ \dc \dc+ \dC \dC+ \dd \dD \dD+ \ddp \dE \dE+ \des \det \deu
		\dew \dconfig \dconfig+ \df \dfa \dfn \dfp \dft \dfw \df+ \dF \dFd \dFp \dFt \dg \dg+ \di \di+ \dl \dL \dL+ \dm \dm+ \dn \dn+ \do \do+ \dO \dO+ \dp \dP \dP+
		\dPi \drds \dRp \dRs \dRs+ \ds \ds+ \dt \dt+ \dtS \dT \dT+ \dTS+ \du \du+ \dv \dv+ \dx \dx+ \dX \dX+ \dy \dy+ \z \conninfo`) {
		if out := run("-c", meta); strings.Contains(out, "ERROR") {
			t.Errorf("%s: %s", meta, out)
		}
	}
	for meta, want := range map[string]string{
		`\d+ t`: `Check constraints:
    "t_a_check" CHECK (a > 0)`,
		`\d v`:         "View \"public.v\"",
		`\d e`:         "expr   | bigint | yes  | (a + 1)",
		`\sv v`:        "CREATE OR REPLACE VIEW public.v AS\n SELECT a FROM public.t",
		`\sf pg_sleep`: "CREATE OR REPLACE FUNCTION pg_catalog.pg_sleep(double precision)",
		`\df lower`:    "| text             | text                | func",
	} {
		if out := run("-c", meta); !strings.Contains(out, want) {
			t.Errorf("%s: %s", meta, out)
		}
	}
	if out := run("-At", "-c", "SELECT a FROM t UNION SELECT 1"); out != "1\n" {
		t.Errorf("%q", out)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := testConfig(t)
	cfg.ListenAddr = l.Addr().String()
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(context.Background()); err == nil || !strings.HasPrefix(err.Error(), "--listen-addr: ") {
		t.Errorf("got %v", err)
	}
}

func TestConfig(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   string // beginning of the error
	}{
		{"secure", func(c *Config) { c.Insecure = false }, "--insecure: a node without it needs certificates"},
		{"no store", func(c *Config) { c.Store.Path = "" }, "--store: "},
		{"home", func(c *Config) { c.Store.Path = "~/x" }, "--store: "},
		{"cache", func(c *Config) { c.CacheBytes = 1 }, "--cache: "},
		{"offset", func(c *Config) { c.MaxOffset = 0 }, "--max-offset: "},
		{"listen", func(c *Config) { c.ListenAddr = "a:b:c" }, "--listen-addr: "},
		{"locality", func(c *Config) { c.Locality = Locality{{"a", "b"}, {"a", "c"}} }, "--locality: duplicate key"},
	} {
		cfg := testConfig(t)
		tc.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestParseStoreSpec(t *testing.T) {
	size := func(s string) (int64, error) {
		if s == "1GiB" {
			return 1 << 30, nil
		}
		return 0, errors.New("no size")
	}
	for _, tc := range []struct{ in, want, err string }{
		{"/data", "path=/data", ""},
		{"path=/data,attrs=ssd:fast", "path=/data", ""},
		{"type=mem,size=1GiB", "type=mem", ""},
		{"", "", "no value specified"},
		{"type=mem", "", "size must be specified for an in memory store"},
		{"type=mem,size=1GiB,path=x", "", "path specified for in memory store"},
		{"colour=red", "", "colour is not a valid store field"},
		{"path=", "", "no value specified for path"},
	} {
		s, err := ParseStoreSpec(tc.in, size)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != tc.err || err == nil && s.String() != tc.want {
			t.Errorf("%q: %v %q, want %v %q", tc.in, s, got, tc.want, tc.err)
		}
	}
}

func TestParseLocality(t *testing.T) {
	if l, err := ParseLocality("region=eu,zone=a"); err != nil || l.String() != "region=eu,zone=a" {
		t.Error(l, err)
	}
	for _, bad := range []string{"region", "region=", "=eu", "a=b,a=c", "a=b c", "a=b=c"} {
		if l, err := ParseLocality(bad); err == nil {
			t.Errorf("%q was read as %v", bad, l)
		}
	}
}

func pgCode(err error) string {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code
	}
	return ""
}

func TestUpload(t *testing.T) {
	cfg := testConfig(t)
	cfg.ExternalIODir = t.TempDir()
	n := startNode(t, cfg)
	ctx := context.Background()
	c := connectNode(t, n, nil)
	upload := func(name, data string) error {
		_, err := c.PgConn().CopyFrom(ctx, strings.NewReader(data), `COPY crdb_internal.nodelocal_file_upload ("`+name+`") FROM STDIN`)
		return err
	}
	if err := upload("dir/file.csv", "a\\b\n\x00"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(cfg.ExternalIODir, "dir", "file.csv")); err != nil || string(b) != "a\\b\n\x00" {
		t.Errorf("%q %v", b, err)
	}
	if err := upload("dir/file.csv", "other"); pgCode(err) != "42C01" {
		t.Errorf("a file that exists: %v", err)
	}
	if err := upload("../outside", "x"); pgCode(err) != "22023" {
		t.Errorf("a file outside: %v", err)
	}
	exec1(t, c, "CREATE USER alice")
	c = connectNode(t, n, func(c *pgx.ConnConfig) { c.User = "alice" })
	if err := upload("alice", "x"); pgCode(err) != "42501" {
		t.Errorf("a user who is no admin: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(cfg.ExternalIODir, "*", ".upload-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
