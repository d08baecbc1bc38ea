package test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfastdb/holdfast/test/node"
)

// TestClusterSchemaChanges changes the schema of a table through one node while
// others write to it, of which one is killed. Each index holds what the table does
// when its statement returns, and the dead node holds nothing up for long.
func TestClusterSchemaChanges(t *testing.T) {
	nodes := node.StartCluster(t, 3)
	nodes[0].Exec("defaultdb", "CREATE TABLE t (a INT PRIMARY KEY, b INT)")
	replicate(t, nodes[0], "1,2,3")
	ws := newWriters()
	for w := 1; w <= 4; w++ {
		ws.run(w, nodes[1+w%2])
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, nodes[0].URL("defaultdb"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var longest time.Duration
	for i := range 8 {
		if i == 4 {
			nodes[2].Kill()
		}
		began := time.Now()
		for _, sql := range []string{
			fmt.Sprintf("ALTER TABLE t ADD COLUMN c%d INT NOT NULL DEFAULT %d", i, i),
			fmt.Sprintf("CREATE INDEX x%d ON t (b, c%d)", i, i),
		} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
		longest = max(longest, time.Since(began))
		checkIndex(t, ctx, conn, fmt.Sprint("x", i))
	}
	ws.end()
	t.Logf("%d rows; the longest pair of changes took %v", len(ws.acked), longest)
	if longest > 40*time.Second {
		t.Errorf("a change took %v", longest)
	}
	if len(ws.acked) < 50 {
		t.Errorf("only %d rows were written", len(ws.acked))
	}
	for i := range 8 {
		checkIndex(t, ctx, conn, fmt.Sprint("x", i))
	}
	if m := ws.missing(nodes[1]); len(m) > 0 {
		t.Errorf("%d acknowledged rows are missing: %v", len(m), m)
	}
}

// checkIndex compares an index of t with the table.
func checkIndex(t *testing.T, ctx context.Context, conn *pgx.Conn, index string) {
	t.Helper()
	var inIndex, inTable int
	const q = "SELECT (SELECT count(*) FROM t@%s WHERE b >= 0), (SELECT count(*) FROM t@t_pkey)"
	if err := conn.QueryRow(ctx, fmt.Sprintf(q, index)).Scan(&inIndex, &inTable); err != nil {
		t.Fatal(err)
	}
	if inIndex != inTable {
		t.Errorf("index %s has %d entries, the table %d rows", index, inIndex, inTable)
	}
}
