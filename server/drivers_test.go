package server

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	_ "github.com/lib/pq"
)

// TestPgxTypes sends values through every query mode of pgx and expects them back:
// text and binary, both ways.
func TestPgxTypes(t *testing.T) {
	n := startNode(t, testConfig(t))
	exec1(t, connectNode(t, n, nil), "CREATE TYPE mood AS ENUM ('sad', 'happy')")
	ts := time.Date(2024, 2, 29, 12, 30, 45, 123456000, time.UTC)
	values := []struct {
		typ string
		in  any
	}{
		{"int2", int16(-7)}, {"int4", int32(math.MaxInt32)}, {"int8", int64(math.MinInt64)}, {"float4", float32(1.5)}, {"float8", math.Pi},
		{"bool", true}, {"text", "grüße \" \\ '"}, {"varchar", ""}, {"bytea", []byte{0, 255, 1}},
		{"numeric", pgtype.Numeric{Int: big.NewInt(-1234567890123), Exp: -5, Valid: true}},
		{"date", time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC)}, {"timestamp", ts}, {"timestamptz", ts},
		{"time", pgtype.Time{Microseconds: 86399999999, Valid: true}},
		{"interval", pgtype.Interval{Months: 14, Days: -3, Microseconds: 4567, Valid: true}},
		{"uuid", pgtype.UUID{Bytes: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, Valid: true}},
		{"inet", netip.MustParsePrefix("192.168.1.0/24")}, {"jsonb", `{"a": [1, null, "x"]}`},
		{"int4[]", []int32{1, -2, 3}}, {"text[]", []string{"a", "b c", `q"\`, ""}}, {"float8[]", []float64{}},
		{"mood", "happy"}, {"oid", uint32(4294967295)},
	}
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			ctx := context.Background()
			c := connectNode(t, n, func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = mode })
			for _, v := range values {
				if v.typ == "oid" && mode == pgx.QueryExecModeSimpleProtocol {
					continue // pgx has no literal for it
				}
				for range 2 { // The second time statements come from caches.
					out := reflect.New(reflect.TypeOf(v.in))
					if err := c.QueryRow(ctx, "SELECT $1::"+v.typ, v.in).Scan(out.Interface()); err != nil {
						t.Errorf("%s: %v", v.typ, err)
						break
					}
					got, want := out.Elem().Interface(), v.in
					if g, ok := got.(time.Time); ok {
						got = g.UTC()
					}
					if n, ok := got.(pgtype.Numeric); ok {
						if fmt.Sprint(n.Int, n.Exp) != fmt.Sprint(v.in.(pgtype.Numeric).Int, v.in.(pgtype.Numeric).Exp) {
							t.Errorf("%s: got %v, want %v", v.typ, got, want)
						}
					} else if !reflect.DeepEqual(got, want) {
						t.Errorf("%s: got %#v, want %#v", v.typ, got, want)
					}
				}
				var null *string
				if err := c.QueryRow(ctx, "SELECT ($1::"+v.typ+")::text", nil).Scan(&null); err != nil || null != nil {
					t.Errorf("NULL %s: %v %v", v.typ, null, err)
				}
			}
		})
	}
}

func TestPgxBatchAndCopy(t *testing.T) {
	n := startNode(t, testConfig(t))
	ctx := context.Background()
	c := connectNode(t, n, nil)
	exec1(t, c, "CREATE TABLE t (a INT8 PRIMARY KEY, b TEXT, c TIMESTAMPTZ, d NUMERIC, e UUID, f BYTEA, g BOOL, h INT4[], i JSONB)")
	now := time.Now().UTC().Truncate(time.Microsecond)
	var rows [][]any
	for i := range 1000 {
		rows = append(rows, []any{int64(i), fmt.Sprint("row ", i), now, pgtype.Numeric{Int: big.NewInt(int64(i)), Exp: -2, Valid: true},
			[16]byte{byte(i)}, []byte{byte(i)}, i%2 == 0, []int32{int32(i)}, map[string]any{"i": i}})
	}
	if n, err := c.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}, pgx.CopyFromRows(rows)); err != nil || n != 1000 {
		t.Fatal(n, err)
	}
	b := &pgx.Batch{}
	for i := range 50 {
		b.Queue("SELECT b, c, d::float8, f, g, h, i->>'i' FROM t WHERE a = $1", i)
	}
	b.Queue("UPDATE t SET b = 'changed' WHERE a < $1", 10)
	b.Queue("SELECT count(*) FROM t WHERE b = 'changed'")
	res := c.SendBatch(ctx, b)
	for i := range 50 {
		var s, j string
		var at time.Time
		var f float64
		var data []byte
		var even bool
		var arr []int32
		if err := res.QueryRow().Scan(&s, &at, &f, &data, &even, &arr, &j); err != nil {
			t.Fatal(err)
		}
		if s != fmt.Sprint("row ", i) || !at.Equal(now) || f != float64(i)/100 || data[0] != byte(i) || even != (i%2 == 0) || arr[0] != int32(i) || j != fmt.Sprint(i) {
			t.Fatalf("row %d: %v %v %v %v %v %v %v", i, s, at, f, data, even, arr, j)
		}
	}
	if tag, err := res.Exec(); err != nil || tag.RowsAffected() != 10 {
		t.Fatal(tag, err)
	}
	var count int
	if err := res.QueryRow().Scan(&count); err != nil || count != 10 {
		t.Fatal(count, err)
	}
	if err := res.Close(); err != nil {
		t.Fatal(err)
	}

	// A batch is one transaction: the error of its last statement undoes it.
	b = &pgx.Batch{}
	b.Queue("INSERT INTO t (a) VALUES (5000)")
	b.Queue("INSERT INTO t (a) VALUES (1)")
	if err := c.SendBatch(ctx, b).Close(); err == nil {
		t.Error("a duplicate key was accepted")
	}
	if err := c.QueryRow(ctx, "SELECT count(*) FROM t WHERE a = 5000").Scan(&count); err != nil || count != 0 {
		t.Error(count, err)
	}
}

func TestLibPQ(t *testing.T) {
	n := startNode(t, testConfig(t))
	for _, binary := range []string{"no", "yes"} {
		db, err := sql.Open("postgres", n.SQLURL()+"&binary_parameters="+binary)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec("CREATE TABLE IF NOT EXISTS t (a INT PRIMARY KEY, b TEXT, c TIMESTAMPTZ)"); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("DELETE FROM t"); err != nil {
			t.Fatal(err)
		}
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		stmt, err := tx.Prepare("INSERT INTO t VALUES ($1, $2, $3)")
		if err != nil {
			t.Fatal(err)
		}
		at := time.Date(2024, 2, 29, 1, 2, 3, 4000, time.UTC)
		for i := range 10 {
			if _, err := stmt.Exec(i, fmt.Sprint(i), at); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		rows, err := db.Query("SELECT a, b, c FROM t WHERE a >= $1 ORDER BY a", 5)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for rows.Next() {
			var a int
			var b string
			var c time.Time
			if err := rows.Scan(&a, &b, &c); err != nil || b != fmt.Sprint(a) || !c.Equal(at) {
				t.Errorf("%d %s %v %v", a, b, c, err)
			}
			count++
		}
		if err := rows.Err(); err != nil || count != 5 {
			t.Error(count, err)
		}
	}
}

// TestStatementTimeoutAndCancel stops statements by their limit and by their client.
func TestStatementTimeoutAndCancel(t *testing.T) {
	n := startNode(t, testConfig(t))
	c := connectNode(t, n, nil)
	exec1(t, c, "SET statement_timeout = '100ms'")
	start := time.Now()
	if _, err := c.Exec(context.Background(), "SELECT pg_sleep(10)"); pgCode(err) != "57014" || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	exec1(t, c, "RESET statement_timeout")
	go func() {
		time.Sleep(100 * time.Millisecond)
		_ = c.PgConn().CancelRequest(context.Background())
	}()
	start = time.Now()
	if _, err := c.Exec(context.Background(), "SELECT pg_sleep(10)"); pgCode(err) != "57014" || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	exec1(t, c, "SELECT 1")
}
