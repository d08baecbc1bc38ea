// Package workload makes data and load for tests and demonstrations: movr, bank
// and kv, as the documents of their origin describe them.
//
// A Workload knows its tables, their initial rows and its operations. Init
// creates and fills the tables; Run keeps the operations going on several
// connections and reports rates and latencies.
package workload

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/pflag"
)

// Workload is one kind of data and load.
type Workload interface {
	Name() string
	// Flags registers what can be changed.
	Flags(*pflag.FlagSet)
	// Check says what is wrong with the flags.
	Check() error
	// Database is where the tables go.
	Database() string
	Tables() []Table
	// AfterLoad are the statements that run when all rows are in.
	AfterLoad() []string
	// Worker returns the operations of one connection.
	Worker(id int, seed uint64) Worker
}

// Worker makes the operations of one connection, one at a time.
type Worker interface {
	// Do runs one operation and returns its kind.
	Do(ctx context.Context, conn *pgx.Conn) (op string, err error)
}

// Table is a table with its initial rows.
type Table struct {
	Name    string
	Schema  string // what follows CREATE TABLE name
	Columns []string
	Rows    int
	// Row returns the i-th row. The same i gives the same row, always.
	Row func(i int) []any
}

// ByName returns a new workload, or nil.
func ByName(name string) Workload {
	switch name {
	case "movr":
		return newMovr()
	case "bank":
		return newBank()
	case "kv":
		return newKV()
	}
	return nil
}

// Names lists the workloads.
func Names() []string { return []string{"bank", "kv", "movr"} }

// InitOptions change how Init works.
type InitOptions struct {
	Drop bool // drop the database first
	// Progress, if set, is told of each table.
	Progress io.Writer
}

// batchRows is how many rows one INSERT carries.
const batchRows = 250

// Init creates and fills the tables of w. conn may be connected to any database;
// afterwards it uses that of w.
func Init(ctx context.Context, conn *pgx.Conn, w Workload, opts InitOptions) error {
	if err := w.Check(); err != nil {
		return err
	}
	db := quoteIdent(w.Database())
	var stmts []string
	if opts.Drop {
		stmts = append(stmts, "DROP DATABASE IF EXISTS "+db+" CASCADE")
	}
	stmts = append(stmts, "CREATE DATABASE IF NOT EXISTS "+db, "SET database = "+db)
	for _, s := range stmts {
		if _, err := conn.Exec(ctx, s, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	for _, t := range w.Tables() {
		if _, err := conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS "+t.Name+" "+t.Schema, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("creating table %s: %w", t.Name, err)
		}
	}
	for _, t := range w.Tables() {
		if err := load(ctx, conn, t, opts.Progress); err != nil {
			return fmt.Errorf("filling table %s: %w", t.Name, err)
		}
	}
	for _, s := range w.AfterLoad() {
		if _, err := conn.Exec(ctx, s, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

func load(ctx context.Context, conn *pgx.Conn, t Table, progress io.Writer) error {
	if t.Rows == 0 {
		return nil
	}
	start, shown := time.Now(), time.Now()
	for from := 0; from < t.Rows; from += batchRows {
		to := min(from+batchRows, t.Rows)
		var b strings.Builder
		b.WriteString("INSERT INTO " + t.Name + " (" + strings.Join(t.Columns, ", ") + ") VALUES ")
		for i := from; i < to; i++ {
			if i > from {
				b.WriteByte(',')
			}
			b.WriteByte('(')
			for k, v := range t.Row(i) {
				if k > 0 {
					b.WriteByte(',')
				}
				b.WriteString(literal(v))
			}
			b.WriteByte(')')
		}
		if _, err := conn.Exec(ctx, b.String(), pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		if progress != nil && time.Since(shown) > 2*time.Second {
			shown = time.Now()
			fmt.Fprintf(progress, "  %s: %d of %d rows (%d%%)\n", t.Name, to, t.Rows, 100*to/t.Rows)
		}
	}
	if progress != nil {
		fmt.Fprintf(progress, "imported %s (%s, %d rows)\n", t.Name, time.Since(start).Round(time.Millisecond), t.Rows)
	}
	return nil
}

// literal writes v as SQL.
func literal(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case int:
		return fmt.Sprint(v)
	case int64:
		return fmt.Sprint(v)
	case float64:
		return fmt.Sprint(v)
	case []byte:
		return fmt.Sprintf(`'\x%x'`, v)
	case time.Time:
		return v.UTC().Format("'2006-01-02 15:04:05.999999'")
	case string:
		return "'" + strings.ReplaceAll(v, "'", "''") + "'"
	}
	panic(fmt.Sprintf("no literal for %T", v)) // A bug in a Row function.
}

func quoteIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// rowRand returns the random numbers of one row of one table.
func rowRand(seed uint64, table string, row int) *rand.Rand {
	h := seed
	for _, c := range table {
		h = h*1099511628211 ^ uint64(c)
	}
	return rand.New(rand.NewPCG(h, uint64(row)))
}
