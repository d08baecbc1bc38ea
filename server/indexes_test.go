package server

import (
	"context"
	"fmt"
	"math/rand"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// indexChecks compare what each special index answers with what the rows say. The
// sums make a missing entry as visible as one too many.
var indexChecks = []struct{ byIndex, byRows string }{
	{"SELECT count(*), sum(id) FROM t@t_part WHERE v > 50", "SELECT count(*), sum(id) FROM t@t_pkey WHERE v > 50"},
	{"SELECT count(*), sum(id) FROM t@t_upart WHERE live", "SELECT count(*), sum(id) FROM t@t_pkey WHERE live"},
	{"SELECT count(*), sum(id) FROM t@t_expr WHERE lower(s) >= ''", "SELECT count(*), sum(id) FROM t@t_pkey WHERE lower(s) >= ''"},
	{"SELECT count(*), sum(id) FROM t@t_uexpr WHERE md5(id::text || s) > ''", "SELECT count(*), sum(id) FROM t@t_pkey WHERE md5(id::text || s) > ''"},
}

func checkIndexes(t *testing.T, c *pgx.Conn, what string) {
	t.Helper()
	ctx := context.Background()
	for _, q := range indexChecks {
		var n1, n2 int64
		var s1, s2 *int64
		if err := c.QueryRow(ctx, q.byIndex).Scan(&n1, &s1); err != nil {
			t.Fatalf("%s: %s: %v", what, q.byIndex, err)
		}
		if err := c.QueryRow(ctx, q.byRows).Scan(&n2, &s2); err != nil {
			t.Fatalf("%s: %s: %v", what, q.byRows, err)
		}
		if n1 != n2 || (s1 == nil) != (s2 == nil) || s1 != nil && *s1 != *s2 {
			t.Fatalf("%s: %s yields %d rows, the table has %d (or other ones)", what, q.byIndex, n1, n2)
		}
	}
}

// TestSpecialIndexes writes to a table with partial indexes and indexes on
// expressions in every way there is, and takes it through backup and restore. The
// indexes must hold what the rows say at each step, and go on being kept afterwards.
func TestSpecialIndexes(t *testing.T) {
	n := startNode(t, testConfig(t))
	c := connectNode(t, n, nil)
	exec1(t, c, "CREATE DATABASE d")
	c = connectNode(t, n, func(cfg *pgx.ConnConfig) { cfg.Database = "d" })
	exec1(t, c, `CREATE TABLE t (id int PRIMARY KEY, s text, v int, live bool,
		INDEX t_part (v) WHERE v > 50, UNIQUE INDEX t_upart (s) WHERE live, INDEX t_expr (lower(s), v DESC))`)
	ctx := context.Background()

	// COPY into a table of the same transaction is ingested as sstables.
	tx, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	exec1(t, c, "TRUNCATE t")
	var b strings.Builder
	const rows = 30_000
	for i := range rows {
		fmt.Fprintf(&b, "%d\tNAME-%d-%s\t%d\t%v\n", i, i, strings.Repeat("x", 30), i%100, i%3 == 0)
	}
	if _, err := c.PgConn().CopyFrom(ctx, strings.NewReader(b.String()), "COPY t FROM STDIN"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	exec1(t, c, "CREATE UNIQUE INDEX t_uexpr ON t (md5(id::text || s))") // A backfill of many rows.
	checkIndexes(t, c, "after COPY")

	exec1(t, c, "BACKUP DATABASE d INTO 'nodelocal://1/c' WITH revision_history")
	rng := rand.New(rand.NewSource(7))
	for i := range 300 {
		id := rng.Intn(rows + 50)
		var sql string
		switch rng.Intn(7) {
		case 0:
			sql = fmt.Sprintf("DELETE FROM t WHERE id = %d", id)
		case 1:
			sql = fmt.Sprintf("UPDATE t SET v = %d WHERE id = %d", rng.Intn(100), id)
		case 2:
			sql = fmt.Sprintf("UPDATE t SET live = NOT live WHERE id BETWEEN %d AND %d", id, id+5)
		case 3:
			sql = fmt.Sprintf("UPDATE t SET s = NULL, id = id + 100000 WHERE id = %d", id)
		case 4:
			sql = fmt.Sprintf("INSERT INTO t VALUES (%d, 'u%d', %d, true) ON CONFLICT (id) DO UPDATE SET s = excluded.s || '!', v = t.v + 1, live = NULL", id, i, rng.Intn(100))
		case 5:
			sql = fmt.Sprintf("INSERT INTO t VALUES (%d, 'U%d', 60, true) ON CONFLICT (s) WHERE live DO UPDATE SET v = 77", 200000+i, i/2)
		case 6:
			sql = fmt.Sprintf("UPSERT INTO t VALUES (%d, 'w%d', %d, %v)", id, i, rng.Intn(100), i%2 == 0)
		}
		exec1(t, c, sql)
	}
	checkIndexes(t, c, "after writes")
	exec1(t, c, "BACKUP DATABASE d INTO LATEST IN 'nodelocal://1/c' WITH revision_history")

	exec1(t, c, "RESTORE DATABASE d FROM LATEST IN 'nodelocal://1/c' WITH new_db_name = 'e'")
	e := connectNode(t, n, func(cfg *pgx.ConnConfig) { cfg.Database = "e" })
	checkIndexes(t, e, "after RESTORE")
	for _, x := range []string{"t_part", "t_upart", "t_expr", "t_uexpr"} {
		var was, is string
		for conn, out := range map[*pgx.Conn]*string{c: &was, e: &is} {
			err := conn.QueryRow(ctx, "SELECT fingerprint FROM [SHOW EXPERIMENTAL_FINGERPRINTS FROM TABLE t] WHERE index_name = $1", x).Scan(out)
			if err != nil {
				t.Fatal(err)
			}
		}
		if was != is {
			t.Errorf("index %s has fingerprint %s after restore, not %s", x, is, was)
		}
		var def1, def2 string
		for conn, out := range map[*pgx.Conn]*string{c: &def1, e: &def2} {
			if err := conn.QueryRow(ctx, "SELECT indexdef FROM pg_indexes WHERE indexname = $1", x).Scan(out); err != nil {
				t.Fatal(err)
			}
		}
		if def1 != def2 {
			t.Errorf("index %s was %s and is %s", x, def1, def2)
		}
	}
	var plan strings.Builder
	rowsOf, err := e.Query(ctx, "EXPLAIN SELECT id FROM t WHERE lower(s) = 'a'")
	if err != nil {
		t.Fatal(err)
	}
	for rowsOf.Next() {
		var l string
		if err := rowsOf.Scan(&l); err != nil {
			t.Fatal(err)
		}
		plan.WriteString(l + "\n")
	}
	if !strings.Contains(plan.String(), "using t_expr") {
		t.Errorf("a restored index is not used:\n%s", plan.String())
	}
	exec1(t, e, "INSERT INTO t VALUES (900000, 'fresh', 99, true)")
	if _, err := e.Exec(ctx, "INSERT INTO t VALUES (900001, 'fresh', 99, true)"); pgCode(err) != "23505" {
		t.Errorf("a restored unique partial index let a second row in: %v", err)
	}
	exec1(t, e, "INSERT INTO t VALUES (900001, 'fresh', 99, false)")
	exec1(t, e, "UPDATE t SET s = upper(s) WHERE v = 99")
	checkIndexes(t, e, "after writes to the restored table")
}
