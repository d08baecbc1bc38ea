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
// when its statement returns, and the dead node holds nothing up for long: a change,
// and who writes to the table, wait for it until its lease on the catalog ends.
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
	ws.awaitRow(t, writersStall, "before the first change", 1, 2, 3, 4)
	var longest time.Duration
	for i := range 8 {
		if i == 4 {
			ws.awaitRow(t, writersStall, "before the kill", 1, 2, 3, 4)
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
		ws.awaitRow(t, writersStall, fmt.Sprint("after change ", i), 2, 4)
	}
	ws.end()
	t.Logf("%d rows; the longest pair of changes took %v; the longest time without a row: %v", len(ws.acked), longest, ws.worst)
	if longest > 40*time.Second {
		t.Errorf("a change took %v", longest)
	}
	for _, w := range []int{2, 4} {
		if ws.worst[w] > writersStall {
			t.Errorf("writer %d saw a stall of %v", w, ws.worst[w])
		}
	}
	for i := range 8 {
		checkIndex(t, ctx, conn, fmt.Sprint("x", i))
	}
	if m := ws.missing(nodes[1]); len(m) > 0 {
		t.Errorf("%d acknowledged rows are missing: %v", len(m), m)
	}
}

// writersStall is how long writers may wait beside changes: for the lease of a dead
// node, of 9 s, and the change that waited for it.
const writersStall = 15 * time.Second

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
