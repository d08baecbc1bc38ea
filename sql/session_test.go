package sql

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

func prepare(t *testing.T, s *Session, name, sql string, params ...oid.Oid) *Prepared {
	t.Helper()
	stmts, err := s.Parse(sql)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Prepare(context.Background(), name, stmts[0], params)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if err := s.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	return p
}

// execute binds text values and runs the portal to its end.
func execute(t *testing.T, s *Session, p *Prepared, args ...string) []string {
	t.Helper()
	ctx := context.Background()
	vals := make([][]byte, len(args))
	for i, a := range args {
		if a != "NULL" {
			vals[i] = []byte(a)
		}
	}
	po, err := s.Bind(ctx, "", p, vals, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	res := &bufferedResult{}
	s.SyncFollows()
	if _, err := s.ExecutePortal(ctx, po, 0, res); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	return textRows(s, res)
}

func wantRows(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, ";") != strings.Join(want, ";") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPreparedStatements(t *testing.T) {
	s := newTestSession(t, newTestServer(t))
	mustExec(t, s, "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric)")
	ins := prepare(t, s, "ins", "INSERT INTO t VALUES ($1, $2, $3)")
	if got := fmt.Sprint(ins.ParamTypes); got != fmt.Sprint([]oid.Oid{oid.T_int4, oid.T_text, oid.T_numeric}) {
		t.Errorf("parameter types %v", got)
	}
	execute(t, s, ins, "1", "one", "1.5")
	execute(t, s, ins, "2", "NULL", "2.5")
	sel := prepare(t, s, "sel", "SELECT v, n FROM t WHERE id = $1")
	wantRows(t, execute(t, s, sel, "1"), "one|1.5")
	wantRows(t, execute(t, s, sel, "2"), "NULL|2.5")
	wantRows(t, execute(t, s, sel, "3"))
	if len(sel.Columns) != 2 || sel.Columns[0].Name != "v" || sel.Columns[1].OID != oid.T_numeric || sel.Columns[0].TableID == 0 {
		t.Errorf("columns %+v", sel.Columns)
	}
	if sel.plan == nil || sel.plan.point == nil {
		t.Error("a row by its key has no shortcut")
	}

	// Parameters take their types from what surrounds them.
	for _, c := range []struct {
		sql  string
		want oid.Oid
	}{
		{"SELECT $1::int8 + 1", oid.T_int8},
		{"SELECT * FROM t WHERE v = $1", oid.T_text},
		{"SELECT * FROM t WHERE id = ANY($1)", oid.T__int4},
		{"SELECT * FROM t LIMIT $1", oid.T_int8},
		{"SELECT $1", oid.T_text},
		{"UPDATE t SET n = $1", oid.T_numeric},
		{"SELECT * FROM t WHERE id IN ($1, 2)", oid.T_int4},
		{"SELECT COALESCE(n, $1) FROM t", oid.T_numeric},
	} {
		p := prepare(t, s, "", c.sql)
		if len(p.ParamTypes) != 1 || p.ParamTypes[0] != c.want {
			t.Errorf("%s: parameter types %v, want %v", c.sql, p.ParamTypes, c.want)
		}
	}
	wantRows(t, execute(t, s, prepare(t, s, "any", "SELECT id FROM t WHERE id = ANY($1) ORDER BY id"), "{2,1,7}"), "1", "2")
	wantRows(t, execute(t, s, prepare(t, s, "lim", "SELECT id FROM t ORDER BY id LIMIT $1 OFFSET $2"), "1", "1"), "2")
}

// A plan is made anew when what it was made from has changed.
func TestPlanInvalidation(t *testing.T) {
	srv := newTestServer(t)
	s, other := newTestSession(t, srv), newTestSession(t, srv)
	mustExec(t, s, "CREATE TABLE t (id int PRIMARY KEY, v int)")
	mustExec(t, s, "INSERT INTO t VALUES (1, 10), (2, 20)")
	sel := prepare(t, s, "sel", "SELECT id FROM t WHERE v = $1")
	ins := prepare(t, s, "ins", "INSERT INTO t (id) VALUES ($1)")
	wantRows(t, execute(t, s, sel, "20"), "2")
	mustExec(t, other, "CREATE INDEX t_v ON t (v)")
	mustExec(t, other, "ALTER TABLE t ADD COLUMN d int NOT NULL DEFAULT 5")
	execute(t, s, ins, "3")
	wantRows(t, textRows(s, mustExec(t, s, "SELECT * FROM t ORDER BY id")), "1|10|5", "2|20|5", "3|NULL|5")
	mustExec(t, s, "UPDATE t SET v = 30 WHERE id = 3")
	wantRows(t, execute(t, s, sel, "30"), "3")
	plan := textRows(s, mustExec(t, s, "EXPLAIN SELECT id FROM t WHERE v = 30"))
	if !strings.Contains(strings.Join(plan, "\n"), "t_v") {
		t.Errorf("the new index is not used: %q", plan)
	}
	// A settings change can change what names mean.
	mustExec(t, s, "CREATE SCHEMA s2")
	mustExec(t, s, "CREATE TABLE s2.t (id int PRIMARY KEY, v int)")
	mustExec(t, s, "SET search_path = s2, public")
	wantRows(t, execute(t, s, sel, "30"))
}

func TestPortalSuspension(t *testing.T) {
	ctx := context.Background()
	s := newTestSession(t, newTestServer(t))
	mustExec(t, s, "CREATE TABLE t (id int PRIMARY KEY)")
	mustExec(t, s, "INSERT INTO t SELECT g FROM generate_series(1, 10) g")
	p := prepare(t, s, "p", "SELECT id FROM t ORDER BY id")
	po, err := s.Bind(ctx, "c1", p, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := 0
	for i := 0; ; i++ {
		res := &bufferedResult{}
		more, err := s.ExecutePortal(ctx, po, 4, res)
		if err != nil {
			t.Fatal(err)
		}
		all += len(res.rows)
		if i < 2 && len(res.rows) != 4 {
			t.Fatalf("%d rows in a fetch of 4", len(res.rows))
		}
		if !more {
			break
		}
	}
	if all != 10 {
		t.Errorf("%d rows of 10", all)
	}
	if err := s.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.LookupPortal("c1"); err == nil {
		t.Error("the portal survived its transaction")
	}
}

func TestStatementTimeoutAndCancel(t *testing.T) {
	s := newTestSession(t, newTestServer(t))
	mustExec(t, s, "SET statement_timeout = '50ms'")
	began := time.Now()
	_, err := runSQL(context.Background(), s, "SELECT count(*) FROM generate_series(1, 1000000000)")
	if pgerr.GetCode(err) != pgerr.QueryCanceled || !strings.Contains(err.Error(), "statement timeout") {
		t.Errorf("error %v", err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	mustExec(t, s, "SET statement_timeout = 0")
	mustExec(t, s, "SET transaction_timeout = '100ms'")
	mustExec(t, s, "BEGIN")
	mustExec(t, s, "SELECT pg_sleep(0.02)")
	if d, _ := s.IdleTimeout(); d <= 0 || d > 80*time.Millisecond {
		t.Errorf("a transaction of 100 ms may be silent for %v after 20", d)
	}
	if _, err = runSQL(context.Background(), s, "SELECT pg_sleep(30)"); pgerr.GetCode(err) != "25P04" {
		t.Errorf("error %v", err)
	}
	mustExec(t, s, "ROLLBACK")
	mustExec(t, s, "SET transaction_timeout = 0")
	time.AfterFunc(50*time.Millisecond, s.CancelQuery)
	if _, err = runSQL(context.Background(), s, "SELECT pg_sleep(30)"); pgerr.GetCode(err) != pgerr.QueryCanceled {
		t.Errorf("error %v", err)
	}
	mustExec(t, s, "SELECT 1")
}

// Increments by many sessions must all count, whether they are alone in their
// transaction or in a block that locks what it reads.
func TestConcurrentIncrements(t *testing.T) {
	srv := newTestServer(t)
	mustExec(t, newTestSession(t, srv), "CREATE TABLE c (id int PRIMARY KEY, n int); INSERT INTO c VALUES (1, 0), (2, 0)")
	var wg sync.WaitGroup
	const workers, rounds = 4, 25
	for w := range workers {
		s := newTestSession(t, srv)
		wg.Go(func() {
			for range rounds {
				if _, err := runSQL(context.Background(), s, "UPDATE c SET n = n + 1 WHERE id = 1"); err != nil {
					t.Errorf("worker %d: %v", w, err)
					return
				}
				if _, err := runSQL(context.Background(), s, "BEGIN; UPDATE c SET n = n + 1 WHERE id = 2; COMMIT"); err != nil {
					t.Errorf("worker %d: %v", w, err)
					return
				}
			}
		})
	}
	wg.Wait()
	s := newTestSession(t, srv)
	n := fmt.Sprint(workers * rounds)
	wantRows(t, textRows(s, mustExec(t, s, "SELECT n FROM c ORDER BY id")), n, n)
}

func TestAsOfSystemTime(t *testing.T) {
	s := newTestSession(t, newTestServer(t))
	mustExec(t, s, "CREATE TABLE t (id int PRIMARY KEY)")
	mustExec(t, s, "INSERT INTO t VALUES (1)")
	ts := textRows(s, mustExec(t, s, "SELECT cluster_logical_timestamp()"))[0]
	mustExec(t, s, "INSERT INTO t VALUES (2)")
	mustExec(t, s, "DELETE FROM t WHERE id = 1")
	wantRows(t, textRows(s, mustExec(t, s, "SELECT id FROM t")), "2")
	wantRows(t, textRows(s, mustExec(t, s, "SELECT id FROM t AS OF SYSTEM TIME '"+ts+"'")), "1")
	wantRows(t, textRows(s, mustExec(t, s, "SELECT id FROM t AS OF SYSTEM TIME "+ts)), "1")
	// Prepared, where the timestamp is not part of what is kept of the plan.
	for _, from := range []string{"FROM t AS OF SYSTEM TIME " + ts, "FROM t AS OF SYSTEM TIME " + ts + " WHERE id = 1"} {
		mustExec(t, s, "PREPARE old AS SELECT id "+from)
		for range 3 {
			wantRows(t, textRows(s, mustExec(t, s, "EXECUTE old")), "1")
		}
		mustExec(t, s, "DEALLOCATE old")
	}
	mustExec(t, s, "BEGIN AS OF SYSTEM TIME "+ts)
	wantRows(t, textRows(s, mustExec(t, s, "SELECT id FROM t")), "1")
	_, err := runSQL(context.Background(), s, "INSERT INTO t VALUES (3)")
	if pgerr.GetCode(err) != pgerr.ReadOnlySQLTransaction {
		t.Errorf("error %v", err)
	}
	mustExec(t, s, "ROLLBACK")
	for sql, code := range map[string]pgerr.Code{
		"SELECT id FROM t AS OF SYSTEM TIME '2000-01-01'":    pgerr.InvalidCatalogName, // Before the database was.
		"SELECT id FROM t AS OF SYSTEM TIME '1h'":            pgerr.InvalidParameterValue,
		"SELECT id FROM t AS OF SYSTEM TIME 'yesterday-ish'": pgerr.InvalidParameterValue,
		"SELECT id FROM t AS OF SYSTEM TIME random()":        pgerr.InvalidParameterValue,
	} {
		if _, err := runSQL(context.Background(), s, sql); pgerr.GetCode(err) != code {
			t.Errorf("%s: error %v, want %s", sql, err, code)
		}
	}
}

// The savepoint that clients retry with commits when it is released.
func TestRestartSavepoint(t *testing.T) {
	srv := newTestServer(t)
	s, other := newTestSession(t, srv), newTestSession(t, srv)
	mustExec(t, s, "CREATE TABLE t (id int PRIMARY KEY)")
	mustExec(t, s, "BEGIN")
	mustExec(t, s, "SAVEPOINT cockroach_restart")
	mustExec(t, s, "INSERT INTO t VALUES (1)")
	mustExec(t, s, "ROLLBACK TO SAVEPOINT cockroach_restart")
	mustExec(t, s, "INSERT INTO t VALUES (2)")
	mustExec(t, s, "RELEASE SAVEPOINT cockroach_restart")
	wantRows(t, textRows(s, mustExec(t, other, "SELECT id FROM t")), "2")
	if _, err := runSQL(context.Background(), s, "SELECT 1"); pgerr.GetCode(err) != pgerr.InFailedSQLTransaction {
		t.Errorf("error %v", err)
	}
	mustExec(t, s, "COMMIT")
	if s.TxnStatus() != 'I' {
		t.Errorf("status %c", s.TxnStatus())
	}
}

// A long INSERT … SELECT keeps no more memory than its budget lets it.
func TestMemoryBudget(t *testing.T) {
	srv := newTestServer(t)
	srv.cfg.StatementMemoryBytes = 4 << 20
	s := newTestSession(t, srv)
	mustExec(t, s, "CREATE TABLE t (id int PRIMARY KEY, v text)")
	mustExec(t, s, "INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 60000) g")
	wantRows(t, textRows(s, mustExec(t, s, "SELECT count(*) FROM t")), "60000")
	wantRows(t, textRows(s, mustExec(t, s, "SELECT id FROM t ORDER BY v, id DESC LIMIT 1")), "60000")
	_, err := runSQL(context.Background(), s, "SELECT length(string_agg(v, '')) FROM t")
	if pgerr.GetCode(err) != pgerr.OutOfMemory {
		t.Errorf("error %v", err)
	}
}

// A client that cancels a commit too late must not be told that nothing happened.
func TestCancellationDoesNotHideAnUnknownResult(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := mapError(ctx, fmt.Errorf("committing: %w", &kvpb.AmbiguousResultError{Cause: context.Canceled}))
	if pgerr.GetCode(err) != pgerr.StatementCompletionUnknown {
		t.Errorf("got %v", err)
	}
	if err := mapError(ctx, context.Canceled); pgerr.GetCode(err) != pgerr.QueryCanceled {
		t.Errorf("got %v", err)
	}
}
