package server

import (
	"context"
	"strings"
	"testing"
)

// TestRangeStatements splits, unsplits and scatters on a node alone.
func TestRangeStatements(t *testing.T) {
	n := startNode(t, testConfig(t))
	c := connectNode(t, n, nil)
	ctx := context.Background()
	rows := func(sql string) (out []string) {
		t.Helper()
		r, err := c.Query(ctx, sql)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		defer r.Close()
		for r.Next() {
			vals, err := r.Values()
			if err != nil {
				t.Fatal(err)
			}
			s, _ := vals[len(vals)-1].(string)
			out = append(out, s)
		}
		if err := r.Err(); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return out
	}
	fails := func(sql, want string) {
		t.Helper()
		if _, err := c.Exec(ctx, sql); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", sql, err, want)
		}
	}
	exec1(t, c, "CREATE TABLE t (a INT, b TEXT, c INT, PRIMARY KEY (a, b), INDEX t_c (c))")
	if got := rows("ALTER TABLE t SPLIT AT VALUES (10), (20)"); len(got) != 2 {
		t.Errorf("SPLIT AT returns %q", got)
	}
	rows("ALTER INDEX t@t_c SPLIT AT SELECT 5 WITH EXPIRATION '2200-01-01'")
	sticky := func() string {
		return strings.Join(rows("SELECT count(split_enforced_until)::text FROM crdb_internal.ranges"), "")
	}
	if got := sticky(); got != "3" {
		t.Errorf("%s sticky splits", got)
	}
	if got := rows("SHOW RANGES FROM TABLE t"); len(got) != 4 {
		t.Errorf("%d ranges", len(got))
	}
	if got := rows("ALTER TABLE t UNSPLIT AT VALUES (10)"); len(got) != 1 {
		t.Errorf("UNSPLIT AT returns %q", got)
	}
	if got := rows("ALTER INDEX t@t_c UNSPLIT ALL"); len(got) != 1 {
		t.Errorf("UNSPLIT ALL returns %q", got)
	}
	if got := sticky(); got != "1" {
		t.Errorf("%s sticky splits", got)
	}
	if got := rows("ALTER TABLE t SCATTER"); len(got) != 4 {
		t.Errorf("SCATTER returns %q", got)
	}
	if got := rows("ALTER TABLE t SCATTER FROM (0) TO (10)"); len(got) != 2 {
		t.Errorf("SCATTER FROM returns %q", got)
	}
	fails("ALTER TABLE t UNSPLIT AT VALUES (11)", "not the start of a range")
	fails("ALTER TABLE t SPLIT AT VALUES (1, 'x', 3)", "too many columns")
	fails("ALTER TABLE t SPLIT AT VALUES ('x')", "is of type integer")
	fails("ALTER TABLE t SPLIT AT VALUES (7) WITH EXPIRATION '2001-01-01'", "expiration time")
	fails("ALTER TABLE t RELOCATE VALUES (ARRAY[9], 1)", "store 9 is not part of the cluster")
	fails("ALTER INDEX t@t_c RELOCATE LEASE VALUES (9, 1)", "store 9 is not part of the cluster")
	if got := rows("ALTER RANGE 1 RELOCATE LEASE TO 9"); len(got) != 1 || !strings.Contains(got[0], "store 9") {
		t.Errorf("RELOCATE LEASE returns %q", got)
	}
	if got := rows("ALTER RANGE RELOCATE VOTERS FROM 1 TO 9 FOR SELECT 1"); len(got) != 1 || !strings.Contains(got[0], "store 9") {
		t.Errorf("RELOCATE returns %q", got)
	}
	if got := rows("ALTER TABLE t RELOCATE VALUES (ARRAY[1], 1)"); len(got) != 1 {
		t.Errorf("RELOCATE to where it is returns %q", got)
	}
}
