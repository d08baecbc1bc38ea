package test

import (
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/test/node"
)

// fill makes a database with several tables, types, an index and a view.
func fill(n *node.Node, rows int) {
	n.Exec("defaultdb", "CREATE DATABASE shop")
	n.Exec("shop",
		"CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')",
		"CREATE TABLE customer (id SERIAL PRIMARY KEY, name TEXT NOT NULL, m mood, UNIQUE (name))",
		`CREATE TABLE purchase (id INT PRIMARY KEY, customer INT NOT NULL REFERENCES customer (id), total NUMERIC(10,2),
			at TIMESTAMPTZ, note JSONB, tags TEXT[])`,
		"CREATE INDEX ON purchase (customer, at DESC)",
		"CREATE VIEW rich AS SELECT c.name, sum(p.total) AS spent FROM customer c JOIN purchase p ON p.customer = c.id GROUP BY 1",
		fmt.Sprintf("INSERT INTO customer (name, m) SELECT 'customer ' || i, (ARRAY['sad','ok','happy'])[i %% 3 + 1]::mood FROM generate_series(1, %d) AS g(i)", rows/10),
		fmt.Sprintf(`INSERT INTO purchase SELECT i, i %% %d + 1, i * 1.25, '2024-01-01'::timestamptz + i * interval '1 minute',
			json_build_object('n', i)::jsonb, ARRAY['a' || i, NULL] FROM generate_series(1, %d) AS g(i)`, rows/10, rows))
}

func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%s:\n got %v\nwant %v", what, got, want)
	}
}

func TestWholeRoad(t *testing.T) {
	n := node.Start(t)
	fill(n, 2000)
	first := n.Content("shop")
	n.Exec("shop", "BACKUP DATABASE shop INTO 'nodelocal://1/c' WITH revision_history")
	moment := n.Value("shop", "SELECT cluster_logical_timestamp()")
	n.Exec("shop", "UPDATE purchase SET total = total + 1 WHERE id <= 10", "DELETE FROM purchase WHERE id BETWEEN 100 AND 200",
		"ALTER TABLE customer ADD COLUMN vip BOOL DEFAULT false", "INSERT INTO customer (name, m) VALUES ('new', 'ok')",
		"BACKUP DATABASE shop INTO LATEST IN 'nodelocal://1/c' WITH revision_history")
	second := n.Content("shop")
	n.Exec("shop", "TRUNCATE purchase", "CREATE TABLE extra (a INT)", "INSERT INTO extra VALUES (1), (1)",
		"BACKUP DATABASE shop INTO LATEST IN 'nodelocal://1/c' WITH revision_history")
	third := n.Content("shop")
	ends := n.Rows("defaultdb", `SELECT DISTINCT end_time::TEXT FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/c'] ORDER BY 1`)
	if len(ends) != 3 {
		t.Fatalf("%d layers, want 3: %v", len(ends), ends)
	}

	n.Exec("defaultdb", "DROP DATABASE shop CASCADE")
	n.Exec("defaultdb", "RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/c'")
	same(t, "latest", n.Content("shop"), third)
	n.Exec("defaultdb", "RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/c' AS OF SYSTEM TIME '"+moment+"' WITH new_db_name = 'shop1'")
	same(t, "inside the second layer, before its changes", n.Content("shop1"), first)
	n.Exec("defaultdb", "RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/c' AS OF SYSTEM TIME '"+ends[1][0]+"' WITH new_db_name = 'shop2'")
	same(t, "end of the second layer", n.Content("shop2"), second)

	// What was restored works: constraints hold, sequences go on, views answer.
	if err := n.TryExec("shop2", "INSERT INTO purchase VALUES (999999, 999999, 1)"); err == nil || !strings.Contains(err.Error(), "23503") {
		t.Errorf("foreign key after restore: %v", err)
	}
	if err := n.TryExec("shop2", "INSERT INTO customer (name) VALUES ('new')"); err == nil || !strings.Contains(err.Error(), "23505") {
		t.Errorf("unique constraint after restore: %v", err)
	}
	n.Exec("shop2", "INSERT INTO customer (name) VALUES ('newer')")
	if got := n.Value("shop2", "SELECT count(*) FROM rich"); got != "200" {
		t.Errorf("view after restore: %s groups, want 200", got)
	}
}

// TestKillDuringBackupAndRestore kills the process at random moments of a backup
// and of a restore. After the restart the job goes on or fails cleanly; what it
// says it did is true, and nothing half-restored is ever visible.
func TestKillDuringBackupAndRestore(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	n := node.Start(t)
	fill(n, 20000)
	want := n.Content("shop")
	for round := range rounds {
		dest := fmt.Sprintf("'nodelocal://1/k%d'", round)
		backup := n.Value("defaultdb", "BACKUP DATABASE shop INTO "+dest+" WITH detached")
		time.Sleep(time.Duration(rng.Intn(150)) * time.Millisecond)
		n.Kill()
		n.Restart()
		waitJob(t, n, backup, "succeeded")

		db := fmt.Sprintf("copy%d", round)
		restore := n.Value("defaultdb", "RESTORE DATABASE shop FROM LATEST IN "+dest+" WITH detached, new_db_name = '"+db+"'")
		time.Sleep(time.Duration(rng.Intn(150)) * time.Millisecond)
		n.Kill()
		n.Restart()
		// Until it is published, the database is not there.
		if rows, err := n.TryRows(db, "SELECT count(*) FROM purchase"); err == nil && rows[0][0] != "20000" {
			t.Fatalf("round %d: half a restore is visible: %s rows", round, rows[0][0])
		}
		waitJob(t, n, restore, "succeeded")
		same(t, fmt.Sprintf("round %d", round), n.Content(db), want)
	}
}

func waitJob(t *testing.T, n *node.Node, id, want string) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		// A restore of the whole cluster takes the other databases offline.
		rows := n.Rows("system", "SELECT status, coalesce(error, '') FROM [SHOW JOB "+id+"]")
		if len(rows) == 1 && rows[0][0] == want {
			return
		}
		terminal := len(rows) == 1 && strings.Contains("succeeded failed canceled revert-failed paused", rows[0][0])
		if terminal || time.Now().After(deadline) {
			t.Fatalf("job %s: %v, want %s", id, rows, want)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestDamagedFilesAreNoticed damages every file of a backup in turn: flips a
// byte, cuts the end, removes it, swaps it with another. Each restore then gives
// the right rows or an error, never other rows.
func TestDamagedFilesAreNoticed(t *testing.T) {
	n := node.Start(t)
	fill(n, 300)
	want := n.Content("shop")
	n.Exec("shop", "BACKUP DATABASE shop INTO 'nodelocal://1/d'", "UPDATE purchase SET total = 0 WHERE id < 50")
	wantInc := n.Content("shop")
	n.Exec("shop", "BACKUP DATABASE shop INTO LATEST IN 'nodelocal://1/d'")
	if fmt.Sprint(want) == fmt.Sprint(wantInc) {
		t.Fatal("the update changed nothing")
	}
	root := filepath.Join(n.Extern, "d")
	var files []string
	if err := filepath.Walk(root, func(p string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			files = append(files, p)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(files) < 6 {
		t.Fatalf("only %d files: %v", len(files), files)
	}
	rng := rand.New(rand.NewSource(1))
	noticed, round := 0, 0
	for i, f := range files {
		original, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		other, err := os.ReadFile(files[(i+1)%len(files)])
		if err != nil {
			t.Fatal(err)
		}
		damages := map[string]func() error{
			"removed": func() error { return os.Remove(f) },
			"swapped": func() error { return os.WriteFile(f, other, 0o644) },
		}
		if len(original) > 0 {
			damages["flipped"] = func() error {
				b := append([]byte(nil), original...)
				b[rng.Intn(len(b))] ^= 0x10
				return os.WriteFile(f, b, 0o644)
			}
			damages["cut"] = func() error { return os.WriteFile(f, original[:len(original)*2/3], 0o644) }
		}
		for what, damage := range damages {
			os.Remove(f) // Files may be read-only or linked; each damage writes anew.
			if err := damage(); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			round++
			db := fmt.Sprintf("r%d", round)
			err := n.TryExec("defaultdb", "RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/d' WITH new_db_name = '"+db+"'")
			rel, _ := filepath.Rel(root, f)
			if err == nil {
				// A lost or damaged layer pointer may leave an older, whole state: never anything else.
				if got := fmt.Sprint(n.Content(db)); got != fmt.Sprint(wantInc) && got != fmt.Sprint(want) {
					t.Errorf("%s %s: restored other rows without an error: %s", what, rel, got)
				} else if got != fmt.Sprint(wantInc) && !strings.Contains(rel, "MANIFEST") {
					t.Errorf("%s %s: the newest layer was left out without an error", what, rel)
				}
				n.Exec("defaultdb", "DROP DATABASE "+db+" CASCADE")
			} else {
				noticed++
				if strings.Contains(err.Error(), "XX000") {
					t.Errorf("%s %s: an error without a code: %v", what, rel, err)
				}
				if rows := n.Rows("defaultdb", "SELECT database_name FROM [SHOW DATABASES] WHERE database_name = '"+db+"'"); len(rows) > 0 {
					t.Errorf("%s %s: the failed restore left database %s", what, rel, db)
				}
			}
			if err := os.WriteFile(f, original, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d damages, %d noticed", round, noticed)
	if noticed < round/2 {
		t.Errorf("only %d of %d damages were noticed", noticed, round)
	}
	n.Exec("defaultdb", "RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/d' WITH new_db_name = 'whole'")
	same(t, "undamaged again", n.Content("whole"), wantInc)
}

func TestPauseResumeCancel(t *testing.T) {
	n := node.Start(t)
	fill(n, 2000)
	want := n.Content("shop")
	n.Exec("shop", "SET CLUSTER SETTING jobs.debug.pausepoints = 'backup.before.flow'")
	id := n.Value("shop", "BACKUP DATABASE shop INTO 'nodelocal://1/p' WITH detached")
	waitJob(t, n, id, "paused")
	n.Exec("shop", "SET CLUSTER SETTING jobs.debug.pausepoints = ''", "RESUME JOB "+id)
	waitJob(t, n, id, "succeeded")

	n.Exec("shop", "SET CLUSTER SETTING jobs.debug.pausepoints = 'restore.before_flow'")
	err := n.TryExec("defaultdb", "RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/p' WITH new_db_name = 'c'")
	if err == nil || !strings.Contains(err.Error(), `pause point "restore.before_flow" hit`) {
		t.Fatalf("attached statement of a paused job: %v", err)
	}
	restore := n.Value("defaultdb", "SELECT job_id FROM [SHOW JOBS] WHERE job_type = 'RESTORE'")
	if _, err := n.TryRows("c", "SELECT * FROM purchase"); err == nil {
		t.Fatal("a paused restore can be read")
	}
	n.Exec("defaultdb", "CANCEL JOB "+restore)
	waitJob(t, n, restore, "canceled")
	n.Exec("shop", "SET CLUSTER SETTING jobs.debug.pausepoints = ''")
	n.Exec("defaultdb", "RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/p' WITH new_db_name = 'c'")
	same(t, "after a canceled restore of the same name", n.Content("c"), want)
	if err := n.TryExec("defaultdb", "CANCEL JOB "+id); err == nil || !strings.Contains(err.Error(), "job with state succeeded cannot be requested to be canceled") {
		t.Errorf("canceling a finished job: %v", err)
	}
}
