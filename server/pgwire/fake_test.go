package pgwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql"
	"github.com/holdfastdb/holdfast/sql/parser"
	"github.com/holdfastdb/holdfast/sql/pgcodec"
)

// fakeSession answers a handful of statements, chosen by their first words, with
// the transaction rules of a real one. The protocol is tested against it.
type fakeSession struct {
	id       uint64
	args     sql.SessionArgs
	status   byte
	prepared map[string]*sql.Prepared
	texts    map[*sql.Prepared]string
	portals  map[string]*sql.Portal
	bound    map[*sql.Portal]*fakePortal
	syncs    int
	follows  int
	copied   []byte

	mu     sync.Mutex
	cancel context.CancelCauseFunc
}

type fakePortal struct {
	text string
	args tree.Datums
	next int
}

var fakeIDs atomic.Uint64

func newFakeSession(args sql.SessionArgs) *fakeSession {
	s := &fakeSession{
		id: fakeIDs.Add(1), args: args, status: 'I', prepared: map[string]*sql.Prepared{},
		texts: map[*sql.Prepared]string{}, portals: map[string]*sql.Portal{}, bound: map[*sql.Portal]*fakePortal{},
	}
	return s
}

func (s *fakeSession) ID() uint64                                 { return s.id }
func (s *fakeSession) TextSettings() *pgcodec.Settings            { return pgcodec.DefaultSettings() }
func (s *fakeSession) TxnStatus() byte                            { return s.status }
func (s *fakeSession) IdleTimeout() (time.Duration, *pgerr.Error) { return 0, nil }
func (s *fakeSession) Close(context.Context)                      {}
func (s *fakeSession) SyncFollows()                               { s.follows++ }

func (s *fakeSession) ReportedParameters() map[string]string {
	return map[string]string{
		"client_encoding": "UTF8", "server_encoding": "UTF8", "server_version": "15.0", "DateStyle": "ISO, MDY",
		"integer_datetimes": "on", "standard_conforming_strings": "on", "TimeZone": "UTC", "IntervalStyle": "postgres",
		"session_authorization": s.args.User, "is_superuser": "on", "application_name": s.args.ApplicationName,
	}
}

func (s *fakeSession) CancelQuery() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel(pgerr.New(pgerr.QueryCanceled, "canceling statement due to user request"))
	}
}

func (s *fakeSession) Fail(err error) error {
	if s.status == 'T' {
		s.status = 'E'
	}
	return err
}

func (s *fakeSession) Parse(text string) ([]parser.Statement, error) {
	var out []parser.Statement
	for _, one := range strings.Split(text, ";") {
		if one = strings.TrimSpace(one); one != "" {
			out = append(out, parser.Statement{SQL: one, NumPlaceholders: strings.Count(one, "$")})
		}
	}
	return out, nil
}

func (s *fakeSession) Sync(context.Context) error {
	s.syncs++
	if s.status == 'I' {
		clear(s.portals)
	}
	return nil
}

func fakeColumns(text string) []sql.ResultColumn {
	switch {
	case strings.HasPrefix(text, "rows"):
		return []sql.ResultColumn{sql.MakeResultColumn("n", types.Int), sql.MakeResultColumn("s", types.String)}
	case strings.HasPrefix(text, "echo"):
		return []sql.ResultColumn{sql.MakeResultColumn("v", types.Int4), sql.MakeResultColumn("t", types.String)}
	case strings.HasPrefix(text, "select 1"), strings.HasPrefix(text, "sleep"):
		return []sql.ResultColumn{sql.MakeResultColumn("?column?", types.Int4)}
	}
	return nil
}

func (s *fakeSession) Prepare(_ context.Context, name string, stmt parser.Statement, _ []oid.Oid) (*sql.Prepared, error) {
	if s.status == 'E' {
		return nil, pgerr.New(pgerr.InFailedSQLTransaction, "current transaction is aborted, commands ignored until end of transaction block")
	}
	if strings.HasPrefix(stmt.SQL, "bad") {
		return nil, s.Fail(pgerr.New(pgerr.SyntaxError, "syntax error").WithPosition(1))
	}
	if name != "" && s.prepared[name] != nil {
		return nil, s.Fail(pgerr.Newf(pgerr.DuplicatePreparedStatement, "prepared statement \"%s\" already exists", name))
	}
	cols := fakeColumns(stmt.SQL)
	p := &sql.Prepared{Columns: cols, ReturnsRows: cols != nil}
	if strings.HasPrefix(stmt.SQL, "echo") {
		p.ParamTypes = []oid.Oid{oid.T_int4, oid.T_text}
	}
	s.prepared[name], s.texts[p] = p, stmt.SQL
	return p, nil
}

func (s *fakeSession) LookupPrepared(name string) (*sql.Prepared, error) {
	if p := s.prepared[name]; p != nil {
		return p, nil
	}
	return nil, pgerr.Newf(pgerr.InvalidSQLStatementName, "prepared statement %q does not exist", name)
}

func (s *fakeSession) LookupPortal(name string) (*sql.Portal, error) {
	if p := s.portals[name]; p != nil {
		return p, nil
	}
	return nil, pgerr.Newf(pgerr.InvalidCursorName, "portal %q does not exist", name)
}

func (s *fakeSession) CloseStatement(name string) { delete(s.prepared, name) }
func (s *fakeSession) ClosePortal(name string)    { delete(s.portals, name) }

func (s *fakeSession) Bind(_ context.Context, name string, p *sql.Prepared, args [][]byte, formats, resultFormats []int16) (*sql.Portal, error) {
	if len(args) != len(p.ParamTypes) {
		return nil, s.Fail(pgerr.New(pgerr.ProtocolViolation, "wrong number of parameters"))
	}
	datums := make(tree.Datums, len(args))
	for i, data := range args {
		if data == nil {
			datums[i] = tree.DNull
			continue
		}
		c, _ := pgcodec.ForOID(p.ParamTypes[i])
		d, err := c.Decode(data, formatOf(formats, i), pgcodec.DefaultSettings())
		if err != nil {
			return nil, s.Fail(err)
		}
		datums[i] = d
	}
	po := &sql.Portal{Name: name, Prep: p, ResultFormats: resultFormats}
	s.portals[name], s.bound[po] = po, &fakePortal{text: s.texts[p], args: datums}
	return po, nil
}

func (s *fakeSession) ExecutePortal(ctx context.Context, po *sql.Portal, max int, res sql.ResultWriter) (bool, error) {
	return s.run(ctx, s.bound[po], max, res)
}

func (s *fakeSession) ExecStmt(ctx context.Context, stmt parser.Statement, res sql.ResultWriter) error {
	_, err := s.run(ctx, &fakePortal{text: stmt.SQL}, 0, res)
	return err
}

func (s *fakeSession) run(ctx context.Context, p *fakePortal, max int, res sql.ResultWriter) (suspended bool, err error) {
	defer func() {
		if err != nil {
			err = s.Fail(err)
		}
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.mu.Lock()
	s.cancel = cancel
	s.mu.Unlock()
	if s.status == 'E' && p.text != "rollback" {
		return false, pgerr.New(pgerr.InFailedSQLTransaction, "current transaction is aborted, commands ignored until end of transaction block")
	}
	if cols := fakeColumns(p.text); cols != nil {
		if err := res.SetColumns(ctx, cols); err != nil {
			return false, err
		}
	}
	words := strings.Fields(p.text)
	switch words[0] {
	case "begin":
		s.status = 'T'
		res.Complete("BEGIN")
	case "commit", "rollback":
		s.status = 'I'
		res.Complete(strings.ToUpper(words[0]))
	case "select":
		if err := res.AddRow(ctx, tree.Datums{tree.NewDInt(1)}); err != nil {
			return false, err
		}
		res.Complete("SELECT 1")
	case "echo":
		if err := res.AddRow(ctx, p.args); err != nil {
			return false, err
		}
		res.Complete("SELECT 1")
	case "rows":
		var n int
		_, _ = fmt.Sscan(words[1], &n)
		for sent := 0; p.next < n; sent++ {
			if max > 0 && sent == max {
				return true, nil
			}
			p.next++
			if err := res.AddRow(ctx, tree.Datums{tree.NewDInt(tree.DInt(p.next)), tree.NewDString("row")}); err != nil {
				return false, err
			}
		}
		res.Complete(fmt.Sprintf("SELECT %d", n))
	case "sleep": // the fuzzer may find it, its deadline ends it
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-time.After(10 * time.Second):
		}
		res.Complete("SELECT 0")
	case "notice":
		res.Notice(pgerr.Notice("take note"))
		res.Complete("DO")
	case "retry":
		if err := res.SetColumns(ctx, fakeColumns("select 1")); err != nil {
			return false, err
		}
		_ = res.AddRow(ctx, tree.Datums{tree.NewDInt(7)})
		if !res.Rewind() {
			return false, errors.New("nothing had left, and Rewind refused")
		}
		_ = res.SetColumns(ctx, fakeColumns("select 1"))
		_ = res.AddRow(ctx, tree.Datums{tree.NewDInt(8)})
		res.Complete("SELECT 1")
	case "set":
		s.args.Notify("application_name", words[1])
		res.Complete("SET")
	case "copyin":
		in, err := res.StartCopyIn(ctx, false, 1)
		if err != nil {
			return false, err
		}
		s.copied = nil
		for {
			data, err := in.Next(ctx)
			if err == io.EOF {
				break
			}
			if err != nil {
				return false, err
			}
			if strings.HasPrefix(string(data), "bad") {
				return false, pgerr.New(pgerr.BadCopyFileFormat, "bad row").WithWhere("COPY t, line 1")
			}
			s.copied = append(s.copied, data...)
		}
		res.Complete(fmt.Sprintf("COPY %d", strings.Count(string(s.copied), "\n")))
	case "copyout":
		out, err := res.StartCopyOut(ctx, false, 1)
		if err != nil {
			return false, err
		}
		for i := range 1000 {
			if err := out.Write(ctx, fmt.Appendf(nil, "line %d\n", i)); err != nil {
				return false, err
			}
		}
		if err := out.Close(ctx); err != nil {
			return false, err
		}
		res.Complete("COPY 1000")
	case "panic":
		panic("a bug")
	default:
		return false, pgerr.Newf(pgerr.UndefinedTable, "relation \"%s\" does not exist", words[0]).WithPosition(1).WithHint("none")
	}
	return false, nil
}

// startServer serves fake sessions on a free port.
func startServer(t testing.TB, change func(*Config)) (addr string, srv *Server) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.NewSession = func(_ context.Context, args sql.SessionArgs) (Session, error) {
		if args.User == "nobody" {
			return nil, pgerr.New("28000", "role \"nobody\" does not exist")
		}
		return newFakeSession(args), nil
	}
	if change != nil {
		change(&cfg)
	}
	srv = NewServer(cfg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Serve did not return")
		}
	})
	return l.Addr().String(), srv
}
