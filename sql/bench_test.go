package sql

import (
	"context"
	"strconv"
	"testing"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// discardResult drops rows.
type discardResult struct{ rows int }

func (r *discardResult) SetColumns(context.Context, []ResultColumn) error { return nil }
func (r *discardResult) AddRow(context.Context, tree.Datums) error        { r.rows++; return nil }
func (r *discardResult) Notice(*pgerr.Error)                              {}
func (r *discardResult) Complete(string)                                  {}
func (r *discardResult) Rewind() bool                                     { return true }
func (r *discardResult) StartCopyIn(context.Context, bool, int) (CopyReader, error) {
	return nil, errNoCopy
}
func (r *discardResult) StartCopyOut(context.Context, bool, int) (CopyWriter, error) {
	return nil, errNoCopy
}

func benchServer(b *testing.B, rows int) *Session {
	srv := newTestServer(b)
	s := newTestSession(b, srv)
	mustExec(b, s, "CREATE TABLE acc (aid int PRIMARY KEY, bid int, abalance int, filler char(84))")
	mustExec(b, s, "INSERT INTO acc SELECT g, 1, 0, '' FROM generate_series(1, "+strconv.Itoa(rows)+") g")
	return s
}

// BenchmarkPointSelect is pgbench -S -M prepared without the wire.
func BenchmarkPointSelect(b *testing.B) {
	ctx := context.Background()
	s := benchServer(b, 10000)
	stmts, err := s.Parse("SELECT abalance FROM acc WHERE aid = $1")
	if err != nil {
		b.Fatal(err)
	}
	prep, err := s.Prepare(ctx, "p", stmts[0], nil)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Sync(ctx); err != nil {
		b.Fatal(err)
	}
	res := &discardResult{}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		po, err := s.Bind(ctx, "", prep, [][]byte{[]byte(strconv.Itoa(i%10000 + 1))}, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		s.SyncFollows()
		if _, err := s.ExecutePortal(ctx, po, 0, res); err != nil {
			b.Fatal(err)
		}
		if err := s.Sync(ctx); err != nil {
			b.Fatal(err)
		}
	}
	if res.rows != b.N {
		b.Fatalf("%d rows of %d", res.rows, b.N)
	}
}

// BenchmarkPointSelectSimple is pgbench -S -M simple without the wire.
func BenchmarkPointSelectSimple(b *testing.B) {
	s := benchServer(b, 10000)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		mustExec(b, s, "SELECT abalance FROM acc WHERE aid = "+strconv.Itoa(i%10000+1))
	}
}

// BenchmarkUpdate is the statement of pgbench -N that changes an account.
func BenchmarkUpdate(b *testing.B) {
	ctx := context.Background()
	s := benchServer(b, 10000)
	stmts, err := s.Parse("UPDATE acc SET abalance = abalance + $1 WHERE aid = $2")
	if err != nil {
		b.Fatal(err)
	}
	prep, err := s.Prepare(ctx, "p", stmts[0], nil)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Sync(ctx); err != nil {
		b.Fatal(err)
	}
	res := &discardResult{}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		po, err := s.Bind(ctx, "", prep, [][]byte{[]byte("5"), []byte(strconv.Itoa(i%10000 + 1))}, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		s.SyncFollows()
		if _, err := s.ExecutePortal(ctx, po, 0, res); err != nil {
			b.Fatal(err)
		}
		if err := s.Sync(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkScan reads and counts rows.
func BenchmarkScan(b *testing.B) {
	s := benchServer(b, 100000)
	b.ResetTimer()
	for range b.N {
		mustExec(b, s, "SELECT sum(abalance) FROM acc")
	}
}

// BenchmarkInsertSelect writes rows.
func BenchmarkInsertSelect(b *testing.B) {
	s := benchServer(b, 1)
	b.ResetTimer()
	mustExec(b, s, "INSERT INTO acc SELECT g, 1, 0, '' FROM generate_series(2, "+strconv.Itoa(b.N+1)+") g")
}
