package sql

import (
	"testing"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// A load into a table that others know is part of its transaction, with all
// indexes, in whatever order the keys come.
func TestBulkLoadIntoAnExistingTable(t *testing.T) {
	srv := newTestServer(t)
	s, other := newTestSession(t, srv), newTestSession(t, srv)
	mustExec(t, s, "CREATE TABLE t (id int PRIMARY KEY, k int UNIQUE, v text, FAMILY a (id, k), FAMILY b (v)); CREATE INDEX v ON t (v, k)")
	mustExec(t, s, "INSERT INTO t VALUES (50000, -1, 'old'), (1000000, -2, 'old')")
	const load = "INSERT INTO t SELECT (g * 7919) % 100003 + 100, g, repeat('x', 20) || g FROM generate_series(1, 20000) g"
	sum := "SELECT count(*), count(DISTINCT id), sum(k) FROM t"
	for _, end := range []string{"ROLLBACK", "COMMIT"} {
		mustExec(t, s, "BEGIN")
		mustExec(t, s, load)
		wantRows(t, textRows(s, mustExec(t, s, sum)), "20002|20002|200009997")
		mustExec(t, s, end)
		want := "2|2|-3"
		if end == "COMMIT" {
			want = "20002|20002|200009997"
		}
		wantRows(t, textRows(other, mustExec(t, other, sum)), want)
	}
	// Every index has every row.
	wantRows(t, textRows(s, mustExec(t, s, "SELECT count(*) FROM t WHERE v > 'x' AND v < 'y'")), "20000")
	wantRows(t, textRows(s, mustExec(t, s, "SELECT v FROM t WHERE k = 12345")), "xxxxxxxxxxxxxxxxxxxx12345")
	wantRows(t, textRows(s, mustExec(t, s, "SELECT k FROM t WHERE v = 'xxxxxxxxxxxxxxxxxxxx777'")), "777")
	// A duplicate anywhere fails it, by name, and leaves nothing.
	for _, c := range []struct{ sql, detail string }{
		{"INSERT INTO t SELECT 2000000 + g, CASE WHEN g = 15000 THEN 99 ELSE 2000000 + g END, repeat('y', 50) FROM generate_series(1, 20000) g", "Key (k)=(99) already exists."},
		{"INSERT INTO t SELECT 2000000 - g * 50, 2000000 + g, repeat('y', 50) FROM generate_series(1, 20000) g", "Key (id)=(1000000) already exists."},
		{"INSERT INTO t SELECT 3000000 + g % 19999, 3000000 + g, repeat('y', 50) FROM generate_series(1, 20000) g", "Key (id)=(3000001) already exists."},
	} {
		_, err := runSQL(t.Context(), s, c.sql)
		if pgerr.GetCode(err) != pgerr.UniqueViolation || pgerr.Flatten(err).Detail != c.detail {
			t.Errorf("%s: got %v, detail %q, want %q", c.sql, err, pgerr.Flatten(err).Detail, c.detail)
		}
		wantRows(t, textRows(s, mustExec(t, s, "SELECT count(*) FROM t WHERE v LIKE 'y%'")), "0")
	}
	// Over rows that the transaction has deleted, and with a savepoint.
	mustExec(t, s, "BEGIN")
	mustExec(t, s, "DELETE FROM t WHERE k < 0")
	mustExec(t, s, "INSERT INTO t SELECT 990000 + g, -g, repeat('w', 100) FROM generate_series(1, 12000) g")
	mustExec(t, s, "SAVEPOINT a")
	mustExec(t, s, "INSERT INTO t SELECT 2000000 + g, 2000000 + g, repeat('z', 100) FROM generate_series(1, 12000) g")
	mustExec(t, s, "ROLLBACK TO a")
	mustExec(t, s, "COMMIT")
	wantRows(t, textRows(other, mustExec(t, other, sum)), "32000|32000|128004000")
	wantRows(t, textRows(other, mustExec(t, other, "SELECT count(*) FROM t WHERE v LIKE 'z%'")), "0")
}
