package test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/holdfastdb/holdfast/test/node"
)

// connectAs opens a connection that keeps its notices.
func connectAs(t *testing.T, n *node.Node, user string, notices *[]string) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(n.URL("defaultdb"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.User = user
	cfg.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		if notices != nil {
			*notices = append(*notices, notice.Message)
		}
	}
	conn, err := pgx.ConnectConfig(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

// sleeper runs a statement on a connection that takes a minute, and returns how it
// ended.
func sleeper(t *testing.T, c *pgx.Conn) func() error {
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(context.Background(), "SELECT pg_sleep(60)")
		done <- err
	}()
	return func() error {
		t.Helper()
		select {
		case err := <-done:
			return err
		case <-time.After(15 * time.Second):
			t.Fatal("the statement goes on")
			return nil
		}
	}
}

func sqlState(err error) string {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code
	}
	return fmt.Sprint(err)
}

// TestClusterSessions: every node sees and stops what clients do at the others.
func TestClusterSessions(t *testing.T) {
	if testing.Short() {
		t.Skip("takes more than ten seconds")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	nodes := node.StartCluster(t, 3)
	awaitLive(t, nodes[0], 3)
	nodes[0].Exec("defaultdb", "CREATE USER bob")
	var notices []string
	here := connectAs(t, nodes[0], "root", &notices)
	there := connectAs(t, nodes[1], "root", nil)
	bob := connectAs(t, nodes[2], "bob", nil)
	one := func(c *pgx.Conn, sql string, args ...any) string {
		t.Helper()
		var s string
		if err := c.QueryRow(ctx, sql, args...).Scan(&s); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return s
	}
	// query waits until the sleeper's query is seen, and returns its id.
	query := func() string {
		t.Helper()
		for range 100 {
			var id string
			err := here.QueryRow(ctx, "SELECT query_id FROM [SHOW CLUSTER QUERIES] WHERE node_id = 2 AND query LIKE 'SELECT pg_sleep%'").Scan(&id)
			if err == nil {
				return id
			}
			if !errors.Is(err, pgx.ErrNoRows) {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatal("nobody sees the query of the other node")
		return ""
	}

	if got := one(here, "SELECT string_agg(DISTINCT node_id::TEXT, ',' ORDER BY node_id::TEXT) FROM [SHOW SESSIONS]"); got != "1,2,3" {
		t.Errorf("SHOW SESSIONS lists those of nodes %s", got)
	}
	if got := one(here, "SELECT string_agg(DISTINCT node_id::TEXT, ',') FROM [SHOW LOCAL SESSIONS]"); got != "1" {
		t.Errorf("SHOW LOCAL SESSIONS lists those of nodes %s", got)
	}
	if got := one(bob, "SELECT string_agg(DISTINCT user_name, ',') FROM [SHOW SESSIONS]"); got != "bob" {
		t.Errorf("bob sees sessions of %s", got)
	}
	if got := one(here, "SELECT count(*)::TEXT FROM pg_stat_activity WHERE pid = $1", int64(there.PgConn().PID())); got != "1" {
		t.Errorf("pg_stat_activity has %s rows of the other node's session", got)
	}

	// CANCEL QUERY, by who may.
	wait := sleeper(t, there)
	id := query()
	if _, err := bob.Exec(ctx, "CANCEL QUERY '"+id+"'"); sqlState(err) != "42501" {
		t.Errorf("bob cancels a statement of root: %v", err)
	}
	if tag, err := here.Exec(ctx, "CANCEL QUERY '"+id+"'"); err != nil || tag.String() != "CANCEL QUERIES 1" {
		t.Errorf("CANCEL QUERY: %s %v", tag, err)
	}
	if err := wait(); sqlState(err) != "57014" {
		t.Errorf("the statement ended with %v", err)
	}
	if _, err := here.Exec(ctx, "CANCEL QUERY '00000000000000020000000000299999'"); sqlState(err) != "22023" {
		t.Errorf("canceling what is not there: %v", err)
	}
	// By PID.
	wait = sleeper(t, there)
	query()
	if got := one(here, "SELECT pg_cancel_backend($1)::TEXT", int32(there.PgConn().PID())); got != "true" {
		t.Errorf("pg_cancel_backend: %s", got)
	}
	if err := wait(); sqlState(err) != "57014" {
		t.Errorf("the statement ended with %v", err)
	}
	// By a client's cancel request, sent to another node.
	wait = sleeper(t, there)
	query()
	wrong := slices.Clone(there.PgConn().SecretKey())
	wrong[0]++
	sendCancel(t, nodes[2].Addr(), there.PgConn().PID(), wrong)
	time.Sleep(200 * time.Millisecond)
	query() // A wrong key does nothing.
	sendCancel(t, nodes[2].Addr(), there.PgConn().PID(), there.PgConn().SecretKey())
	if err := wait(); sqlState(err) != "57014" {
		t.Errorf("the statement ended with %v", err)
	}

	// Transactions.
	if _, err := there.Exec(ctx, "BEGIN; SELECT 1"); err != nil {
		t.Fatal(err)
	}
	if got := one(here, "SELECT count(*)::TEXT FROM [SHOW CLUSTER TRANSACTIONS] WHERE node_id = 2"); got != "1" {
		t.Errorf("SHOW CLUSTER TRANSACTIONS has %s of the other node", got)
	}
	if got := one(here, "SELECT count(*)::TEXT FROM [SHOW LOCAL TRANSACTIONS] WHERE node_id <> 1"); got != "0" {
		t.Errorf("SHOW LOCAL TRANSACTIONS has %s of other nodes", got)
	}
	if got := one(here, "SELECT state FROM pg_stat_activity WHERE pid = $1", int64(there.PgConn().PID())); got != "idle in transaction" {
		t.Errorf("pg_stat_activity: %s", got)
	}
	// CANCEL SESSION ends it, though it waits for its client.
	session := one(there, "SHOW session_id")
	if _, err := here.Exec(ctx, "CANCEL SESSION '"+session+"'"); err != nil {
		t.Errorf("CANCEL SESSION: %v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); !there.IsClosed(); time.Sleep(20 * time.Millisecond) {
		if _, err := there.Exec(ctx, "SELECT 1"); err != nil && sqlState(err) != "57P01" && !there.IsClosed() {
			t.Fatalf("the session ends with %v", err)
		}
		if time.Now().After(deadline) {
			t.Fatal("the session goes on")
		}
	}
	if got := one(here, "SELECT count(*)::TEXT FROM [SHOW SESSIONS] WHERE session_id = $1", session); got != "0" {
		t.Error("the session is still listed")
	}

	// A node that does not answer is left out, with a warning.
	away := one(bob, "SHOW session_id")
	if err := syscall.Kill(nodes[2].PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	notices = nil
	began := time.Now()
	if got := one(here, "SELECT string_agg(DISTINCT node_id::TEXT, ',' ORDER BY node_id::TEXT) FROM [SHOW SESSIONS]"); !strings.HasPrefix(got, "1") || strings.Contains(got, "3") {
		t.Errorf("SHOW SESSIONS lists those of nodes %s", got)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if !slices.ContainsFunc(notices, func(s string) bool {
		return strings.HasPrefix(s, "node 3 does not answer, its sessions are not listed")
	}) {
		t.Errorf("notices: %q", notices)
	}
	if _, err := here.Exec(ctx, "CANCEL SESSION '"+away+"'"); sqlState(err) != "08006" || !strings.Contains(err.Error(), "node 3, whose session it is, does not answer") {
		t.Errorf("canceling a session of a node that does not answer: %v", err)
	}
	if err := syscall.Kill(nodes[2].PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// sendCancel sends a cancel request as clients do, and waits for the end of the
// connection.
func sendCancel(t *testing.T, addr string, pid uint32, secret []byte) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf, err := (&pgproto3.CancelRequest{ProcessID: pid, SecretKey: secret}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(buf); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, _ = conn.Read(buf[:1])
}
