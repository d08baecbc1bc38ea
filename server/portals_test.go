package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// TestPortalsWithRowLimits fetches from two portals in turn, as JDBC does with a
// fetch size, and describes the portal of a cursor, as psycopg does.
func TestPortalsWithRowLimits(t *testing.T) {
	n := startNode(t, testConfig(t))
	c := connectNode(t, n, nil)
	fe := c.PgConn().Frontend()
	read := func() (lines []string) {
		t.Helper()
		fe.Send(&pgproto3.Sync{})
		if err := fe.Flush(); err != nil {
			t.Fatal(err)
		}
		for {
			msg, err := fe.Receive()
			if err != nil {
				t.Fatal(err)
			}
			switch m := msg.(type) {
			case *pgproto3.DataRow:
				line := make([]string, len(m.Values))
				for i, v := range m.Values {
					line[i] = string(v)
				}
				lines = append(lines, strings.Join(line, " "))
			case *pgproto3.RowDescription:
				lines = append(lines, fmt.Sprintf("%d columns", len(m.Fields)))
			case *pgproto3.PortalSuspended:
				lines = append(lines, "suspended")
			case *pgproto3.CommandComplete:
				lines = append(lines, string(m.CommandTag))
			case *pgproto3.ErrorResponse:
				lines = append(lines, m.Code)
			case *pgproto3.ReadyForQuery:
				return lines
			}
		}
	}
	want := func(got []string, want ...string) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	query := func(sql string) {
		fe.Send(&pgproto3.Parse{Query: sql})
		fe.Send(&pgproto3.Bind{})
		fe.Send(&pgproto3.Execute{})
	}
	query("BEGIN")
	want(read(), "BEGIN")
	fe.Send(&pgproto3.Parse{Name: "up", Query: "SELECT g, -g FROM generate_series(1, $1::int) AS t(g)"})
	fe.Send(&pgproto3.Bind{PreparedStatement: "up", DestinationPortal: "a", Parameters: [][]byte{[]byte("3")}})
	fe.Send(&pgproto3.Bind{PreparedStatement: "up", DestinationPortal: "b", Parameters: [][]byte{[]byte("4")}})
	fe.Send(&pgproto3.Execute{Portal: "a", MaxRows: 2})
	fe.Send(&pgproto3.Execute{Portal: "b", MaxRows: 1})
	fe.Send(&pgproto3.Execute{Portal: "a", MaxRows: 2})
	want(read(), "1 -1", "2 -2", "suspended", "1 -1", "suspended", "3 -3", "SELECT 1")
	fe.Send(&pgproto3.Execute{Portal: "b"})
	want(read(), "2 -2", "3 -3", "4 -4", "SELECT 3")

	// What writes is done in full, however few rows the client takes.
	query("COMMIT")
	want(read(), "COMMIT")
	query("CREATE TABLE t (a INT PRIMARY KEY)")
	want(read(), "CREATE TABLE")
	for _, q := range []string{"INSERT INTO t VALUES (1), (2), (3) RETURNING a", "UPDATE t SET a = a + 10 RETURNING a"} {
		fe.Send(&pgproto3.Parse{Query: q})
		fe.Send(&pgproto3.Bind{})
		fe.Send(&pgproto3.Execute{MaxRows: 1})
		if got := read(); len(got) != 2 || got[1] != "suspended" {
			t.Errorf("%s: %q", q, got)
		}
	}
	query("SELECT sum(a), count(*) FROM t")
	want(read(), "36 3", "SELECT 1")
	query("BEGIN")
	want(read(), "BEGIN")

	fe.Send(&pgproto3.Parse{Query: "DECLARE cur CURSOR FOR SELECT i, i FROM generate_series(1, $1) AS g(i)", ParameterOIDs: []uint32{23}})
	fe.Send(&pgproto3.Bind{Parameters: [][]byte{[]byte("3")}})
	fe.Send(&pgproto3.Execute{})
	fe.Send(&pgproto3.Describe{ObjectType: 'P', Name: "cur"})
	want(read(), "DECLARE CURSOR", "2 columns")
	query("FETCH 2 FROM cur")
	want(read(), "1 1", "2 2", "FETCH 2")

	// A portal of a transaction that has failed gives no more rows.
	fe.Send(&pgproto3.Bind{PreparedStatement: "up", DestinationPortal: "c", Parameters: [][]byte{[]byte("3")}})
	fe.Send(&pgproto3.Execute{Portal: "c", MaxRows: 1})
	want(read(), "1 -1", "suspended")
	query("SELECT 1/0")
	want(read(), "22012")
	fe.Send(&pgproto3.Execute{Portal: "c"})
	want(read(), "25P02")
	query("ROLLBACK")
	want(read(), "ROLLBACK")
}

func TestCursorsWithHold(t *testing.T) {
	n := startNode(t, testConfig(t))
	c := connectNode(t, n, func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol })
	value := func(sql string) (v int, err error) { return v, c.QueryRow(context.Background(), sql).Scan(&v) }
	exec1(t, c, "CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 10) AS g")
	exec1(t, c, "DECLARE auto CURSOR WITH HOLD FOR SELECT a FROM t ORDER BY a")
	exec1(t, c, "BEGIN")
	exec1(t, c, "DECLARE kept CURSOR WITH HOLD FOR SELECT a FROM t ORDER BY a")
	exec1(t, c, "DECLARE gone CURSOR FOR SELECT a FROM t")
	if v, err := value("FETCH 1 FROM kept"); v != 1 || err != nil {
		t.Fatal(v, err)
	}
	exec1(t, c, "DELETE FROM t")
	exec1(t, c, "COMMIT")
	for _, cur := range []string{"kept", "auto"} {
		if v, err := value("FETCH RELATIVE 1 FROM " + cur); v == 0 || err != nil {
			t.Error(cur, v, err)
		}
	}
	if _, err := value("FETCH 1 FROM gone"); pgCode(err) != "34000" {
		t.Error(err)
	}
	exec1(t, c, "CLOSE auto")
	if _, err := value("FETCH 1 FROM auto"); pgCode(err) != "34000" {
		t.Error(err)
	}
	exec1(t, c, "BEGIN")
	exec1(t, c, "DECLARE undone CURSOR WITH HOLD FOR SELECT 1")
	exec1(t, c, "ROLLBACK")
	if _, err := value("FETCH 1 FROM undone"); pgCode(err) != "34000" {
		t.Error(err)
	}
	exec1(t, c, "DISCARD ALL")
	if _, err := value("FETCH 1 FROM kept"); pgCode(err) != "34000" {
		t.Error(err)
	}
}

// TestWhatDriversExpect has one line per surprise that a driver has met.
func TestWhatDriversExpect(t *testing.T) {
	n := startNode(t, testConfig(t))
	ctx := context.Background()
	c := connectNode(t, n, nil)

	// More parameters and names than expressions may be deep.
	args := make([]any, 12000)
	marks := make([]string, len(args))
	for i := range args {
		args[i], marks[i] = i, fmt.Sprintf("$%d::int", i+1)
	}
	var count int
	if err := c.QueryRow(ctx, "SELECT count(*) FROM generate_series(1, 20000) AS g(i) WHERE i IN ("+strings.Join(marks, ",")+")", args...).Scan(&count); err != nil || count != len(args)-1 {
		t.Error(count, err)
	}

	// DateStyle shapes literals and casts, not only parameters.
	exec1(t, c, "SET DateStyle = 'ISO, DMY'")
	var a, b string
	if err := c.QueryRow(ctx, "SELECT ('02/03/2024'::date)::text, ('02/03/2024'::text::date)::text").Scan(&a, &b); err != nil || a != "2024-03-02" || b != a {
		t.Error(a, b, err)
	}
	exec1(t, c, "SET timezone = 'GMT-05:30'")
	if err := c.QueryRow(ctx, "SELECT ('2024-01-01 00:00:00+00'::timestamptz)::text").Scan(&a); err != nil || a != "2024-01-01 05:30:00+05:30" {
		t.Error(a, err)
	}

	exec1(t, c, "CREATE TYPE mood AS ENUM ('sad', 'happy')")
	res := c.PgConn().ExecParams(ctx, "SELECT typname FROM pg_type WHERE oid = $1::regtype", [][]byte{[]byte("public.mood")}, nil, nil, nil).Read()
	if res.Err != nil || len(res.Rows) != 1 || string(res.Rows[0][0]) != "mood" {
		t.Error("a type's name as a parameter", res.Err)
	}
	res = c.PgConn().ExecParams(ctx, "SELECT ARRAY['sad']::mood[], 'mood'::regtype::oid::text", nil, nil, nil, []int16{1, 0}).Read()
	if res.Err != nil || fmt.Sprint(binary.BigEndian.Uint32(res.Rows[0][0][8:])) != string(res.Rows[0][1]) {
		t.Error("the element type within a binary array of enums", res.Err)
	}
	var elem uint32
	if err := c.QueryRow(ctx, "SELECT 'mood'::regtype::oid::int8").Scan(&elem); err != nil {
		t.Fatal(err)
	}
	array := binary.BigEndian.AppendUint32(nil, 1) // one dimension, no NULLs, mood, one element from 1
	for _, n := range []uint32{0, elem, 1, 1, 3} {
		array = binary.BigEndian.AppendUint32(array, n)
	}
	res = c.PgConn().ExecParams(ctx, "SELECT $1::mood[]", [][]byte{append(array, "sad"...)}, nil, []int16{1}, nil).Read()
	if res.Err != nil || string(res.Rows[0][0]) != "{sad}" {
		t.Error("a binary array of enums as a parameter", res.Err)
	}
	res = c.PgConn().ExecParams(ctx, "SELECT * FROM upper($1, $2) AS result", [][]byte{nil, []byte("x")}, []uint32{2278, 1043}, nil, nil).Read()
	if res.Err != nil || string(res.Rows[0][0]) != "X" {
		t.Error("an OUT parameter of JDBC", res.Err)
	}

	// Drivers read the header of a binary COPY from the message of the first row.
	first := make([]byte, 0)
	_, err := c.PgConn().CopyTo(ctx, writerFunc(func(p []byte) (int, error) {
		if len(first) == 0 {
			first = append(first, p...)
		}
		return len(p), nil
	}), "COPY (SELECT 7::int4) TO STDOUT (FORMAT binary)")
	if err != nil || len(first) <= 19 || binary.BigEndian.Uint16(first[19:]) != 1 {
		t.Errorf("%q %v", first, err)
	}

	for _, q := range []string{"LISTEN ch", "NOTIFY ch, 'x'"} {
		if _, err := c.Exec(ctx, q); pgCode(err) != "0A000" {
			t.Error(q, err)
		}
	}
	exec1(t, c, "UNLISTEN *")
	exec1(t, c, `SET client_encoding = '''utf-8'''`) // with quotes in it, as asyncpg sends it

	if _, err := pgx.Connect(ctx, strings.Replace(n.SQLURL(), "defaultdb", "nosuch", 1)); pgCode(err) != "3D000" {
		t.Error("connecting to a database that does not exist:", err)
	}

	// pgJDBC prepares again when it sees this routine.
	exec1(t, c, "CREATE TABLE d (a INT)")
	if _, err := c.Prepare(ctx, "s", "SELECT * FROM d"); err != nil {
		t.Fatal(err)
	}
	exec1(t, c, "ALTER TABLE d ADD COLUMN b INT")
	err = c.PgConn().ExecPrepared(ctx, "s", nil, nil, nil).Read().Err
	if e, ok := err.(*pgconn.PgError); !ok || e.Code != "0A000" || e.Routine != "RevalidateCachedQuery" {
		t.Errorf("%#v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
