package sql

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// copyClient sends n rows of about 50 kB: an id and a text.
type copyClient struct {
	bufferedResult
	n, next int
	before  func(row int) // a row leaves
}

func (c *copyClient) StartCopyIn(context.Context, bool, int) (CopyReader, error) { return c, nil }

func (c *copyClient) Next(context.Context) ([]byte, error) {
	if c.next == c.n {
		return nil, io.EOF
	}
	if c.before != nil {
		c.before(c.next)
	}
	c.next++
	return fmt.Appendf(nil, "%d\t%s\n", c.next, strings.Repeat("x", 50_000)), nil
}

// runCopy runs a COPY whose rows c sends.
func runCopy(s *Session, sql string, c *copyClient) error {
	stmts, err := s.Parse(sql)
	if err != nil {
		return err
	}
	ctx := context.Background()
	s.SyncFollows()
	err = s.ExecStmt(ctx, stmts[0], c)
	if serr := s.Sync(ctx); err == nil {
		err = serr
	}
	return err
}

func tableID(t *testing.T, s *Session, name string) catalog.ID {
	t.Helper()
	var id catalog.ID
	if _, err := fmt.Sscan(textRows(s, mustExec(t, s, fmt.Sprintf("SELECT '%s'::regclass::oid::int", name)))[0], &id); err != nil {
		t.Fatal(err)
	}
	return id
}

// stored returns everything that is in the store of a table, by whichever index.
func stored(t *testing.T, srv *Server, table catalog.ID) []kv.KeyValue {
	t.Helper()
	sp := keys.TableSpan(table)
	res, err := srv.db.Scan(context.Background(), sp.Key, sp.EndKey, srv.clock.Now(), kv.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return res.KVs
}

// Rows that are ingested beside a transaction are visible to it, and it commits
// above them: else a backup that ends in between would have half of it.
func TestIngestingCopyCommitsAboveItsRows(t *testing.T) {
	srv := newTestServer(t)
	s := newTestSession(t, srv)
	mustExec(t, s, "CREATE TABLE other (id int PRIMARY KEY); CREATE TABLE old (id int PRIMARY KEY, v text); INSERT INTO old VALUES (7, 'x')")
	for _, make := range []string{"CREATE TABLE t (id int PRIMARY KEY, v text)", "TRUNCATE t", "TRUNCATE old"} {
		mustExec(t, s, "DELETE FROM other")
		mustExec(t, s, "BEGIN")
		mustExec(t, s, "INSERT INTO other VALUES (1)")
		mustExec(t, s, make)
		name := "t"
		if make == "TRUNCATE old" {
			name = "old"
		}
		const n = 100 // more than is written in the transaction
		if err := runCopy(s, "COPY "+name+" FROM STDIN", &copyClient{n: n}); err != nil {
			t.Fatal(err)
		}
		if got := textRows(s, mustExec(t, s, "SELECT count(*) FROM "+name))[0]; got != fmt.Sprint(n) {
			t.Errorf("%s: the transaction sees %s of its %d rows", make, got, n)
		}
		mustExec(t, s, "COMMIT")
		commit := stored(t, srv, tableID(t, s, "other"))[0].Timestamp
		var last hlc.Timestamp
		rows := stored(t, srv, tableID(t, s, name))
		for _, p := range rows {
			last.Forward(p.Timestamp)
		}
		if len(rows) < n || commit.Less(last) {
			t.Errorf("%s: %d rows, the last at %s; the transaction committed at %s", make, len(rows), last, commit)
		}
	}
}

// A transaction that another has aborted stops ingesting, though it has no reason
// to ask anybody anything.
func TestAbortedCopyStopsIngesting(t *testing.T) {
	srv := newTestServer(t)
	s, rival := newTestSession(t, srv), newTestSession(t, srv)
	mustExec(t, s, "CREATE TABLE other (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, v text)")
	id := tableID(t, s, "t")
	mustExec(t, s, "BEGIN")
	mustExec(t, s, "INSERT INTO other VALUES (1)")
	mustExec(t, s, "TRUNCATE t")
	ingested := 0
	client := &copyClient{n: 1200, before: func(row int) {
		if row > 500 && row%25 == 0 {
			if n := len(stored(t, srv, id)); n > ingested {
				t.Errorf("%d rows were ingested before the transaction was aborted, %d after", ingested, n-ingested)
			}
		}
		if row != 500 {
			return
		}
		mustExec(t, rival, "BEGIN PRIORITY HIGH; INSERT INTO other VALUES (1); COMMIT")
		if ingested = len(stored(t, srv, id)); ingested == 0 {
			t.Error("nothing was ingested before the abort: the test shows nothing")
		}
	}}
	err := runCopy(s, "COPY t FROM STDIN", client)
	if pgerr.GetCode(err) != pgerr.SerializationFailure {
		t.Errorf("got %v, want a serialization failure", err)
	}
	if n := len(stored(t, srv, id)); n != 0 {
		t.Errorf("%d rows of a transaction that was aborted are left", n)
	}
	mustExec(t, s, "ROLLBACK")
	wantRows(t, textRows(s, mustExec(t, s, "SELECT count(*) FROM t")), "0")
}

// The index ids of a transaction that does not commit are not given again:
// something may still be on its way to them.
func TestIndexIDsAreNotReused(t *testing.T) {
	srv := newTestServer(t)
	s := newTestSession(t, srv)
	mustExec(t, s, "CREATE TABLE t (id int PRIMARY KEY, v text)")
	seen := map[uint32]string{}
	for _, make := range []string{"TRUNCATE t", "CREATE INDEX v ON t (v)", "ALTER TABLE t ALTER COLUMN v TYPE int USING length(v)", "TRUNCATE t"} {
		mustExec(t, s, "BEGIN")
		mustExec(t, s, make)
		desc, err := s.tx.cat.TableByID(context.Background(), tableID(t, s, "t"), catalog.Flags{})
		if err != nil {
			t.Fatal(err)
		}
		next := uint32(0)
		for _, x := range desc.Indexes() {
			if x.ID == 1 {
				continue // The one that is committed.
			}
			if former := seen[x.ID]; former != "" {
				t.Errorf("%s uses index id %d, which %s used", make, x.ID, former)
			}
			seen[x.ID] = make
			next = max(next, x.ID)
		}
		mustExec(t, s, "ROLLBACK")
	}
	if len(seen) < 3 {
		t.Errorf("index ids %v: the test shows nothing", seen)
	}
}
