package test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfastdb/holdfast/test/node"
)

// TestWrongS3Places: what is wrong about a place is said within seconds, with a
// SQLSTATE, the place without its secrets, and the service's words.
func TestWrongS3Places(t *testing.T) {
	g := startGateway(t, "bucket")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	n := node.Start(t)
	n.Exec("defaultdb", "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY, b TEXT)", "INSERT INTO d.t SELECT i, 'row ' || i FROM generate_series(1, 100) AS g(i)",
		"BACKUP DATABASE d INTO '"+g.uri("bucket/c")+"'")
	want := n.Content("d")
	for _, c := range []struct{ name, uri, state, words, hint string }{
		{"wrong secret", g.uri("bucket/c", "AWS_SECRET_ACCESS_KEY", "sesame99"), "58030", "SignatureDoesNotMatch: ", "check the credentials"},
		{"unknown key", g.uri("bucket/c", "AWS_ACCESS_KEY_ID", "stranger"), "58030", "No user exists with the provided access key ID", "check the credentials"},
		{"no such bucket", g.uri("bouquet/c"), "58P01", "NoSuchBucket: ", "correct its name"},
		{"wrong region", g.uri("bucket/c", "AWS_REGION", "eu-west-3"), "58030", "us-east-1", "AWS_REGION"},
		{"nothing listens", g.uri("bucket/c", "AWS_ENDPOINT", "http://127.0.0.1:1"), "58030", "connection refused", "endpoint"},
		{"no implicit credentials", g.uri("bucket/c", "AUTH", "implicit", "AWS_ACCESS_KEY_ID", "", "AWS_SECRET_ACCESS_KEY", ""), "58030", "AUTH=implicit gives no credentials for s3://bucket/c", "AWS_ACCESS_KEY_ID"},
		{"missing secret", g.uri("bucket/c", "AWS_SECRET_ACCESS_KEY", ""), "22023", "AUTH is set to 'specified', but AWS_SECRET_ACCESS_KEY is not set", ""},
	} {
		statements := []string{
			"BACKUP DATABASE d INTO '%s'", "BACKUP DATABASE d INTO LATEST IN '%s'", "RESTORE DATABASE d FROM LATEST IN '%s' WITH new_db_name = 'e'",
			"SHOW BACKUPS IN '%s'", "SHOW BACKUP FROM LATEST IN '%s'",
		}
		limit := 4 * time.Second
		if c.name == "nothing listens" { // It may be on its way up.
			statements, limit = statements[:1], 30*time.Second
		}
		for _, stmt := range statements {
			began := time.Now()
			err := n.TryExec("defaultdb", fmt.Sprintf(stmt, c.uri))
			took := time.Since(began)
			what := c.name + ", " + strings.SplitN(stmt, " '", 2)[0]
			var e *pgconn.PgError
			if !errors.As(err, &e) {
				t.Errorf("%s: %v", what, err)
				continue
			}
			if e.Code != c.state || !strings.Contains(e.Message, c.words) || !strings.Contains(e.Hint, c.hint) {
				t.Errorf("%s:\n got %s %s\n    %s\nwant %s …%s…\n    …%s…", what, e.Code, e.Message, e.Hint, c.state, c.words, c.hint)
			}
			if c.state != "22023" && !strings.Contains(e.Message, "s3://b") {
				t.Errorf("%s: the error does not name the place: %s", what, e.Message)
			}
			if all := fmt.Sprint(e.Message, e.Detail, e.Hint); strings.Contains(all, gatewaySecret) || strings.Contains(all, "sesame99") {
				t.Errorf("%s: the error has a secret: %s", what, all)
			}
			if took > limit {
				t.Errorf("%s took %s", what, took)
			}
		}
	}
	// What the environment has is enough, and what the jobs keep has no secret.
	n.Stop()
	t.Setenv("AWS_ACCESS_KEY_ID", gatewayKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", gatewaySecret)
	n.Restart()
	n.Exec("defaultdb", "RESTORE DATABASE d FROM LATEST IN '"+
		g.uri("bucket/c", "AUTH", "implicit", "AWS_ACCESS_KEY_ID", "", "AWS_SECRET_ACCESS_KEY", "")+"' WITH new_db_name = 'e'")
	same(t, "restored", n.Content("e"), want)
	for _, row := range n.Rows("defaultdb", "SELECT description, statement, error FROM crdb_internal.jobs") {
		if s := fmt.Sprint(row); strings.Contains(s, gatewaySecret) || strings.Contains(s, "sesame99") {
			t.Errorf("a job shows a secret: %s", s)
		}
	}
	checkLeftovers(t, n)
}

// TestBucketComesBack takes the bucket away, or the whole service, in the midst of
// a backup and of a restore. A backup fails clearly, and the next one is whole. A
// restore that has brought something in waits for a service that does not answer,
// pauses when the bucket is gone, and when all is mended ends with the right rows.
func TestBucketComesBack(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for retries")
	}
	g := startGateway(t, "bucket")
	n := node.Start(t)
	fill(n, 20000)
	want := n.Content("shop")
	n.Exec("defaultdb", "SET CLUSTER SETTING backup.restore_span.target_size = '1'", "SET CLUSTER SETTING bulkio.backup.file_size = '64KiB'")
	slow := func(direction string) {
		n.Exec("defaultdb", "SET CLUSTER SETTING cloudstorage.s3."+direction+".node_rate_limit = '150KiB'")
	}
	fast := func(direction string) {
		n.Exec("defaultdb", "RESET CLUSTER SETTING cloudstorage.s3."+direction+".node_rate_limit")
	}

	for _, how := range []string{"bucket", "service"} {
		take, bring := func() { g.hide("bucket") }, func() { g.show("bucket") }
		if how == "service" {
			take, bring = g.stop, g.start
		}
		place := g.uri("bucket/" + how)
		slow("write")
		id := n.Value("defaultdb", "BACKUP DATABASE shop INTO '"+place+"' WITH detached")
		waitProgress(t, n, id)
		fast("write")
		take()
		if how == "bucket" {
			waitJob(t, n, id, "failed")
			if e := n.Value("defaultdb", "SELECT error FROM crdb_internal.jobs WHERE job_id = "+id); !strings.Contains(e, "NoSuchBucket") || strings.Contains(e, gatewaySecret) {
				t.Errorf("%s: the backup says: %s", how, e)
			}
			bring()
		} else {
			time.Sleep(2 * time.Second)
			bring() // A restart is bridged.
			waitJob(t, n, id, "succeeded")
		}
		n.Exec("defaultdb", "BACKUP DATABASE shop INTO '"+place+"'")

		slow("read")
		db := "copy_" + how
		id = n.Value("defaultdb", "RESTORE DATABASE shop FROM LATEST IN '"+place+"' WITH detached, new_db_name = '"+db+"'")
		waitProgress(t, n, id)
		take()
		if how == "bucket" {
			waitJob(t, n, id, "paused")
			n.Exec("defaultdb", "RESUME JOB "+id) // Too early: nothing is thrown away.
			waitJob(t, n, id, "paused")
		} else {
			time.Sleep(5 * time.Second)
			if s := n.Value("defaultdb", "SELECT status FROM crdb_internal.jobs WHERE job_id = "+id); s != "running" {
				t.Errorf("the restore is %s while the service is away", s)
			}
		}
		if got := n.Value("defaultdb", "SELECT count(*) FROM pg_database WHERE datname = '"+db+"'"); got != "0" {
			t.Error("half a restore is visible")
		}
		bring()
		fast("read")
		if how == "bucket" {
			n.Exec("defaultdb", "RESUME JOB "+id)
		}
		waitJob(t, n, id, "succeeded")
		same(t, how, n.Content(db), want)
		sameIndexes(t, n, db)
	}
	checkLeftovers(t, n)
}

// waitProgress waits until a job has saved some of its work.
func waitProgress(t *testing.T, n *node.Node, id string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		row := n.Rows("defaultdb", "SELECT fraction_completed, status, error FROM crdb_internal.jobs WHERE job_id = "+id)[0]
		if row[1] != "running" || time.Now().After(deadline) {
			t.Fatalf("job %s: %v", id, row)
		}
		if row[0] != "0" && row[0] != "NULL" {
			return
		}
	}
}
