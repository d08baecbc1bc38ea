package test

import (
	"context"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfastdb/holdfast/test/node"
)

// TestCrashAtEveryPlace lets the process die at each place of a backup and of a
// restore that matters. After the restart the job goes on to its end: everything
// is as it should be, and nothing is left behind.
func TestCrashAtEveryPlace(t *testing.T) {
	for _, place := range []string{
		"backup.before.resolve", "backup.after.protect", "backup.after.checkpoint:2", "backup.before.metadata", "backup.after.manifest", "backup.after.latest",
		"restore.after.descriptors", "restore.before.piece:1", "restore.before.piece:3", "restore.before.publish", "restore.after.publish",
		"restore.undo.after.data",
	} {
		if testing.Short() && !strings.HasSuffix(place, "publish") && !strings.HasSuffix(place, "manifest") {
			continue
		}
		t.Run(strings.ReplaceAll(place, ":", "-"), func(t *testing.T) {
			t.Parallel()
			crashAt(t, place)
		})
	}
}

func crashAt(t *testing.T, place string) {
	n := node.Start(t)
	fill(n, 3000)
	want := n.Content("shop")
	n.Exec("shop", "SET CLUSTER SETTING bulkio.backup.checkpoint_interval = '1ms'", "SET CLUSTER SETTING bulkio.backup.file_size = '4KiB'", "BACKUP DATABASE shop INTO 'nodelocal://1/c'",
		"DELETE FROM purchase WHERE id BETWEEN 100 AND 900", "CREATE INDEX more ON purchase (total)")
	wantInc := n.Content("shop")

	n.Stop()
	n.SetFlags("--testing-crash-at=" + place)
	n.Restart()
	undo := strings.HasPrefix(place, "restore.undo")
	stmt := "BACKUP DATABASE shop INTO LATEST IN 'nodelocal://1/c' WITH detached"
	switch {
	case strings.Contains(place, "latest"):
		stmt = "BACKUP DATABASE shop INTO 'nodelocal://1/full' WITH detached"
	case undo:
		n.Exec("shop", "SET CLUSTER SETTING jobs.debug.pausepoints = 'restore.before_flow'")
		stmt = "RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/c' WITH new_db_name = 'copy', detached"
	case strings.HasPrefix(place, "restore."):
		stmt = "RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/c' WITH new_db_name = 'copy', detached"
	}
	rows, err := n.TryRows("system", stmt)
	if err == nil && undo {
		waitJob(t, n, rows[0][0], "paused")
		n.Exec("system", "CANCEL JOB "+rows[0][0])
	}
	if !n.Wait(30 * time.Second) {
		t.Fatalf("%s was never reached", place)
	}
	n.SetFlags()
	n.Restart()
	if rows == nil { // The process died before it could answer.
		rows = n.Rows("system", "SELECT job_id FROM [SHOW JOBS] WHERE status NOT IN ('succeeded', 'failed', 'canceled') AND job_type IN ('BACKUP', 'RESTORE')")
	}
	if len(rows) > 0 {
		waitJob(t, n, rows[0][0], map[bool]string{false: "succeeded", true: "canceled"}[undo])
	}
	same(t, "the source", n.Content("shop"), wantInc)
	switch {
	case undo:
		if rows := n.Rows("system", "SELECT database_name FROM [SHOW DATABASES] WHERE database_name = 'copy'"); len(rows) > 0 {
			t.Errorf("the canceled restore left a database")
		}
	case strings.HasPrefix(place, "backup."):
		dest := "c"
		if strings.Contains(place, "latest") {
			dest = "full"
		}
		n.Exec("system", "RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/"+dest+"' WITH new_db_name = 'copy'")
		same(t, "restored", n.Content("copy"), wantInc)
		sameIndexes(t, n, "copy")
	default:
		same(t, "restored", n.Content("copy"), want)
		sameIndexes(t, n, "copy")
	}
	checkLeftovers(t, n)
}

// TestCrashInClusterRestore lets the process die between the steps that make a
// restored cluster.
func TestCrashInClusterRestore(t *testing.T) {
	n := node.Start(t)
	fill(n, 300)
	n.Exec("shop", "CREATE ROLE clerk", "CREATE TABLE defaultdb.public.x (a INT PRIMARY KEY)", "INSERT INTO defaultdb.public.x VALUES (7)")
	want := n.Content("shop")
	n.Exec("shop", "BACKUP INTO 'nodelocal://1/all'")
	places := []string{"restore.after.publish", "restore.after.system_table:1", "restore.after.system_table:4", "restore.before.publish"}
	if testing.Short() {
		places = places[:1]
	}
	for _, place := range places {
		t.Run(strings.ReplaceAll(place, ":", "-"), func(t *testing.T) {
			fresh := n.Beside("--testing-crash-at=" + place)
			defer fresh.Kill()
			rows, _ := fresh.TryRows("system", "RESTORE FROM LATEST IN 'nodelocal://1/all' WITH detached")
			if !fresh.Wait(30 * time.Second) {
				t.Fatalf("%s was never reached", place)
			}
			fresh.SetFlags()
			fresh.Restart()
			if rows != nil {
				waitJob(t, fresh, rows[0][0], "succeeded")
			}
			same(t, "restored", fresh.Content("shop"), want)
			sameIndexes(t, fresh, "shop")
			if got := fresh.Value("defaultdb", "SELECT a FROM x"); got != "7" {
				t.Errorf("defaultdb.x holds %s", got)
			}
			if got := fresh.Value("system", "SELECT count(*) FROM pg_roles WHERE rolname = 'clerk'"); got != "1" {
				t.Errorf("%s roles named clerk", got)
			}
			checkLeftovers(t, fresh)
		})
	}
}

// sameIndexes compares what each index of each table says with the table.
func sameIndexes(t *testing.T, n *node.Node, db string) {
	t.Helper()
	for _, x := range n.Rows(db, `SELECT schemaname || '.' || tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'`) {
		def := x[2][strings.Index(x[2], "(")+1:]
		def, _, _ = strings.Cut(def, ")")
		var cols []string
		for _, c := range strings.Split(def, ", ") {
			c, _, _ = strings.Cut(c, " ")
			cols = append(cols, c)
		}
		list := strings.Join(cols, ", ")
		pkey := n.Value(db, fmt.Sprintf("SELECT indexname FROM pg_indexes WHERE schemaname || '.' || tablename = '%s' AND indexname LIKE '%%pkey'", x[0]))
		got := n.Rows(db, fmt.Sprintf("SELECT %s FROM %s@%s ORDER BY %s", list, x[0], x[1], list))
		want := n.Rows(db, fmt.Sprintf("SELECT %s FROM %s@%s ORDER BY %s", list, x[0], pkey, list))
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("index %s of %s.%s has %d entries that are not those of the %d rows", x[1], db, x[0], len(got), len(want))
		}
	}
}

// TestKillDuringSchemaChanges kills the process at random moments of statements
// that change a table with data. Afterwards the statement has happened or not, the
// rows and indexes are those of before or after, it can be run again, and nothing
// is left behind.
func TestKillDuringSchemaChanges(t *testing.T) {
	type change struct{ name, stmt, undo, done string }
	const columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 't' AND column_name = "
	const indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = 't' AND indexname = "
	changes := []change{
		{"create index", "CREATE INDEX i ON t (b, a)", "DROP INDEX i", indexes + "'i'"},
		{"create unique index", "CREATE UNIQUE INDEX u ON t (a DESC)", "DROP INDEX u CASCADE", indexes + "'u'"},
		{"add column", "ALTER TABLE t ADD COLUMN d TEXT DEFAULT 'some default text'", "ALTER TABLE t DROP COLUMN d", columns + "'d'"},
		{"drop column", "ALTER TABLE t DROP COLUMN e", "ALTER TABLE t ADD COLUMN e INT DEFAULT 5", "SELECT 1 - count(*) FROM information_schema.columns WHERE table_name = 't' AND column_name = 'e'"},
		{"change type", "ALTER TABLE t ALTER COLUMN e TYPE TEXT", "ALTER TABLE t DROP COLUMN e; ALTER TABLE t ADD COLUMN e INT DEFAULT 5", columns + "'e' AND data_type = 'text'"},
		{"truncate", "TRUNCATE t", "INSERT INTO t SELECT i, 'b' || i, 5 FROM generate_series(1, 8000) AS g(i)", "SELECT count(*) - count(*) + CASE WHEN count(*) = 0 THEN 1 ELSE 0 END FROM t"},
		{"drop table", "DROP TABLE t", "CREATE TABLE t (a INT PRIMARY KEY, b TEXT, e INT); CREATE INDEX first ON t (b); INSERT INTO t SELECT i, 'b' || i, 5 FROM generate_series(1, 8000) AS g(i)",
			"SELECT 1 - count(*) FROM information_schema.tables WHERE table_name = 't'"},
		{"copy of a table", "CREATE TABLE t2 AS SELECT * FROM t", "DROP TABLE t2", "SELECT count(*) FROM information_schema.tables WHERE table_name = 't2'"},
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rounds := 2
	if testing.Short() {
		changes, rounds = changes[:1], 1
	}
	for i, c := range changes {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewSource(seed + int64(i)))
			n := node.Start(t, "--testing-gc-interval=50ms")
			n.Exec("defaultdb", "ALTER DATABASE defaultdb CONFIGURE ZONE USING gc.ttlseconds = 20",
				"CREATE TABLE t (a INT PRIMARY KEY, b TEXT, e INT)", "CREATE INDEX first ON t (b)",
				"INSERT INTO t SELECT i, 'b' || i, 5 FROM generate_series(1, 8000) AS g(i)")
			before := n.Content("defaultdb")
			began := time.Now()
			n.Exec("defaultdb", c.stmt)
			took := time.Since(began)
			after := n.Content("defaultdb")
			n.Exec("defaultdb", strings.Split(c.undo, "; ")...)
			same(t, "undone", n.Content("defaultdb"), before)
			for round := range rounds {
				result := make(chan error, 1)
				go func() { result <- n.TryExec("defaultdb", c.stmt) }()
				time.Sleep(time.Duration(rng.Int63n(int64(took) + 1)))
				n.Kill()
				err := <-result
				n.Restart()
				done := n.Value("defaultdb", c.done) == "1"
				if err == nil && !done {
					t.Fatalf("round %d: it was acknowledged and has not happened", round)
				}
				want := before
				if done {
					want = after
				}
				same(t, fmt.Sprintf("round %d, done %t", round, done), n.Content("defaultdb"), want)
				sameIndexes(t, n, "defaultdb")
				if !done {
					n.Exec("defaultdb", c.stmt)
					same(t, fmt.Sprintf("round %d, run again", round), n.Content("defaultdb"), after)
					sameIndexes(t, n, "defaultdb")
				}
				n.Exec("defaultdb", strings.Split(c.undo, "; ")...)
				same(t, fmt.Sprintf("round %d, undone", round), n.Content("defaultdb"), before)
			}
			checkLeftovers(t, n)
		})
	}
}

// TestKillDuringCollection kills the process while it collects old versions. A
// paused backup still finds all it needs, and what is live stays.
func TestKillDuringCollection(t *testing.T) {
	rounds := 2
	if testing.Short() {
		rounds = 1
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	n := node.Start(t, "--testing-gc-interval=20ms")
	n.Exec("defaultdb", "CREATE DATABASE shop", "ALTER DATABASE shop CONFIGURE ZONE USING gc.ttlseconds = 1")
	n.Exec("shop", "CREATE TABLE t (a INT PRIMARY KEY, b TEXT, c INT)", "CREATE INDEX i ON t (b)",
		"INSERT INTO t SELECT i, 'b' || i, 0 FROM generate_series(1, 3000) AS g(i)")
	for round := range rounds {
		into := fmt.Sprintf("INTO 'nodelocal://1/g%d'", round)
		if round > 0 { // An incremental needs what was deleted since the full.
			n.Exec("shop", "BACKUP DATABASE shop "+into)
			into = fmt.Sprintf("INTO LATEST IN 'nodelocal://1/g%d'", round)
		}
		n.Exec("shop", fmt.Sprintf("UPDATE t SET b = b || '%d', c = c + 1 WHERE a %% 3 = 0", round), fmt.Sprintf("DELETE FROM t WHERE a %% 17 = %d", round),
			"SET CLUSTER SETTING jobs.debug.pausepoints = 'backup.before.flow'")
		then := n.Content("shop")
		id := n.Value("shop", "BACKUP DATABASE shop "+into+" WITH detached")
		waitJob(t, n, id, "paused")
		n.Exec("shop", "SET CLUSTER SETTING jobs.debug.pausepoints = ''", "UPDATE t SET b = 'x' || a, c = c + 1", "DELETE FROM t WHERE a > 2900",
			"INSERT INTO t SELECT i, 'b' || i, 0 FROM generate_series(2901, 3000) AS g(i)")
		want := n.Content("shop")
		for range 2 {
			time.Sleep(time.Duration(600+rng.Intn(700)) * time.Millisecond)
			n.Kill()
			n.Restart()
			same(t, fmt.Sprintf("round %d", round), n.Content("shop"), want)
		}
		n.Exec("shop", "RESUME JOB "+id)
		waitJob(t, n, id, "succeeded")
		n.Exec("defaultdb", fmt.Sprintf("RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/g%d' WITH new_db_name = 'copy'", round))
		same(t, fmt.Sprintf("restored in round %d", round), n.Content("copy"), then)
		sameIndexes(t, n, "copy")
		sameIndexes(t, n, "shop")
		n.Exec("defaultdb", "DROP DATABASE copy CASCADE")
	}
	checkLeftovers(t, n)
}

// TestNothingOutlivesTheProcess leaves behind what only a living session would
// clean up: temporary relations, and rows ingested beside transactions that were
// still open. The next start takes them away.
func TestNothingOutlivesTheProcess(t *testing.T) {
	n := node.Start(t)
	n.Exec("defaultdb", "CREATE TABLE t (a INT PRIMARY KEY, b TEXT)", "INSERT INTO t SELECT i, repeat('x', 60) || i FROM generate_series(1, 9000) AS g(i)")
	want := n.Content("defaultdb")
	ctx := context.Background()
	open := func(statements ...string) *pgx.Conn {
		conn := n.Conn("defaultdb")
		for _, s := range statements {
			if _, err := conn.Exec(ctx, s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
		return conn
	}
	open("CREATE TEMP TABLE tt (a SERIAL PRIMARY KEY, b TEXT)", "INSERT INTO tt (b) SELECT 'x' || i FROM generate_series(1, 100) AS g(i)",
		"CREATE TEMP SEQUENCE ts", "CREATE INDEX ON tt (b)")
	open("BEGIN", "CREATE INDEX i ON t (b)")
	conn := open("BEGIN", "CREATE TABLE fresh (a INT PRIMARY KEY, b TEXT)")
	var rows strings.Builder
	for i := range 6000 {
		fmt.Fprintf(&rows, "%d\t%s\n", i, strings.Repeat("y", 300))
	}
	if _, err := conn.PgConn().CopyFrom(ctx, strings.NewReader(rows.String()), "COPY fresh FROM STDIN"); err != nil {
		t.Fatal(err)
	}
	n.Kill()
	if left := leftBytes(t, n.Store); !strings.Contains(left, "index 1 of table") || !strings.Contains(left, "index 2 of table") {
		t.Errorf("the test leaves nothing behind, so it tests nothing: %q", left)
	}
	n.Restart()
	if got := n.Rows("defaultdb", "SELECT relname FROM pg_class WHERE relname IN ('tt', 'ts', 'tt_a_seq', 'fresh', 'i')"); len(got) > 0 {
		t.Errorf("after the restart there are %v", got)
	}
	same(t, "what was committed", n.Content("defaultdb"), want)
	sameIndexes(t, n, "defaultdb")
	checkLeftovers(t, n)
}
