package test

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/test/node"
)

// TestKillDuringDrops kills the process at random moments of statements that drop
// and truncate, and of the collection that follows at once. After the restart the
// object is there as it was or gone wholly, its name can be taken again, a stranger
// beside it has not changed, and nothing is left in the store.
func TestKillDuringDrops(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	rounds := 4
	if testing.Short() {
		rounds = 1
	}
	n := node.Start(t, "--testing-gc-interval=20ms")
	n.Exec("defaultdb", "CREATE TABLE stranger (a INT PRIMARY KEY, b TEXT)", "INSERT INTO stranger SELECT i, 'b' || i FROM generate_series(1, 500) AS g(i)")
	stranger := n.Content("defaultdb")
	build := func() {
		t.Helper()
		n.Exec("defaultdb", "CREATE DATABASE d", "ALTER DATABASE d CONFIGURE ZONE USING gc.ttlseconds = 5")
		n.Exec("d", "CREATE TYPE mood AS ENUM ('sad', 'ok')", "CREATE SCHEMA s",
			"CREATE TABLE t (a SERIAL PRIMARY KEY, b TEXT, m mood, UNIQUE (b))", "CREATE INDEX i ON t (m, b)",
			"CREATE TABLE s.u (a INT PRIMARY KEY, t INT REFERENCES t (a))", "CREATE VIEW v AS SELECT a, b FROM t",
			"INSERT INTO t (b, m) SELECT 'b' || i, 'ok' FROM generate_series(1, 4000) AS g(i)",
			"INSERT INTO s.u SELECT i, i FROM generate_series(1, 1000) AS g(i)")
	}
	build()
	before := n.Content("d")
	for _, c := range []struct{ name, stmt, gone string }{
		{"drop database", "DROP DATABASE d CASCADE", "SELECT count(*) = 0 FROM pg_database WHERE datname = 'd'"},
		{"drop table", "DROP TABLE d.t CASCADE", "SELECT count(*) = 0 FROM d.information_schema.tables WHERE table_name = 't'"},
		{"drop schema", "DROP SCHEMA d.s CASCADE", "SELECT count(*) = 0 FROM d.information_schema.schemata WHERE schema_name = 's'"},
		{"truncate", "TRUNCATE d.t CASCADE", "SELECT count(*) = 0 FROM d.t"},
		{"drop index", "DROP INDEX d.t@i", "SELECT count(*) = 0 FROM d.pg_catalog.pg_indexes WHERE indexname = 'i'"},
	} {
		took := 100 * time.Millisecond
		acked, happened := 0, 0
		for round := range rounds {
			result := make(chan error, 1)
			began := time.Now()
			go func() { result <- n.TryExec("defaultdb", c.stmt) }()
			late := round%2 == 1
			var err error
			if late { // The statement is over, its garbage about to go.
				err = <-result
				took = time.Since(began)
				time.Sleep(time.Duration(rng.Intn(1300)) * time.Millisecond)
			} else {
				time.Sleep(time.Duration(rng.Int63n(int64(took))))
			}
			n.Kill()
			if !late {
				err = <-result
			}
			n.Restart()
			if late && err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			gone := n.Value("defaultdb", c.gone) == "t"
			if err == nil {
				acked++
				if !gone {
					t.Errorf("%s, round %d: it was acknowledged and has not happened", c.name, round)
				}
			}
			if !gone {
				same(t, fmt.Sprintf("%s, round %d: not done", c.name, round), n.Content("d"), before)
				sameIndexes(t, n, "d")
			} else {
				happened++
			}
			same(t, c.name+": a stranger", n.Content("defaultdb"), stranger)
			// What is left can be dropped, and made again.
			_ = n.TryExec("defaultdb", "DROP DATABASE IF EXISTS d CASCADE")
			if got := n.Value("defaultdb", "SELECT count(*) FROM pg_database WHERE datname = 'd'"); got != "0" {
				t.Fatalf("%s, round %d: the rest of the database cannot be dropped", c.name, round)
			}
			build()
			same(t, c.name+": made again", n.Content("d"), before)
		}
		t.Logf("%s: %d rounds, %d acknowledged, %d happened", c.name, rounds, acked, happened)
	}
	n.Exec("defaultdb", "DROP DATABASE d CASCADE")
	// The garbage goes, whichever life of the process made it.
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		rows := n.Rows("system", "SELECT job_id, status, description FROM crdb_internal.jobs WHERE job_type = 'SCHEMA CHANGE GC' AND status NOT IN ('succeeded')")
		if len(rows) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("garbage stays: %v", rows)
		}
	}
	checkLeftovers(t, n)
}
