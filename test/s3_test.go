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
