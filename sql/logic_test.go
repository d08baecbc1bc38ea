package sql

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvtest"
)

// newTestServer returns a server over an in-memory store.
func newTestServer(t testing.TB) *Server {
	t.Helper()
	node := kvtest.New(t, kvtest.Options{})
	ctx := context.Background()
	if err := Bootstrap(ctx, node.DB); err != nil {
		t.Fatal(err)
	}
	srv, err := NewServer(ServerConfig{DB: node.DB, NodeID: 1, Version: "Holdfast test", TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close(ctx) })
	return srv
}

func newTestSession(t testing.TB, srv *Server) *Session {
	t.Helper()
	s, err := srv.NewSession(context.Background(), SessionArgs{User: "root", Database: "defaultdb"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// runSQL runs a query string as the simple protocol does.
func runSQL(ctx context.Context, s *Session, sql string) ([]*bufferedResult, error) {
	var out []*bufferedResult
	stmts, err := s.Parse(sql)
	if err == nil {
		for i, stmt := range stmts {
			res := &bufferedResult{}
			if i == len(stmts)-1 {
				s.SyncFollows()
			}
			if err = s.ExecStmt(ctx, stmt, res); err != nil {
				break
			}
			out = append(out, res)
		}
	}
	if serr := s.Sync(ctx); err == nil {
		err = serr
	}
	return out, err
}

func mustExec(t testing.TB, s *Session, sql string) *bufferedResult {
	t.Helper()
	res, err := runSQL(context.Background(), s, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if len(res) == 0 {
		return &bufferedResult{}
	}
	return res[len(res)-1]
}

// textRows prints rows as psql -At does, with NULL spelled out.
func textRows(s *Session, r *bufferedResult) []string {
	var out []string
	for _, row := range r.rows {
		vals := make([]string, len(row))
		for i, d := range row {
			if d == tree.DNull {
				vals[i] = "NULL"
			} else {
				vals[i] = datumToText(d, r.cols[i].Typ, &s.data)
			}
		}
		out = append(out, strings.Join(vals, "|"))
	}
	return out
}

// TestLogic runs the scripts of testdata/logic. A script is a list of blocks:
//
//	statement ok | statement error [SQLSTATE] text | statement tag TAG
//	SQL
//
//	query [sort]
//	SQL
//	----
//	rows, columns divided by |
//
// "session NAME" switches to another connection. REWRITE=1 rewrites the rows.
func TestLogic(t *testing.T) {
	files, err := filepath.Glob("testdata/logic/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			t.Parallel()
			runScript(t, f)
		})
	}
}

func runScript(t *testing.T, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	srv := newTestServer(t)
	sessions := map[string]*Session{"": newTestSession(t, srv)}
	cur := ""
	lines := strings.Split(string(data), "\n")
	rewrite := os.Getenv("REWRITE") != ""
	var out []string
	for i := 0; i < len(lines); {
		line := lines[i]
		head := strings.Fields(line)
		if len(head) == 0 || strings.HasPrefix(line, "#") {
			out = append(out, line)
			i++
			continue
		}
		at := i + 1
		out = append(out, line)
		i++
		if head[0] == "session" {
			cur = head[1]
			if sessions[cur] == nil {
				sessions[cur] = newTestSession(t, srv)
			}
			continue
		}
		var sql []string
		for i < len(lines) && strings.TrimSpace(lines[i]) != "" && lines[i] != "----" {
			sql = append(sql, lines[i])
			out = append(out, lines[i])
			i++
		}
		s := sessions[cur]
		text := strings.Join(sql, "\n")
		results, err := runSQL(context.Background(), s, text)
		where := fmt.Sprintf("%s:%d: %s", path, at, text)
		switch head[0] {
		case "statement":
			checkStatement(t, where, head, line, results, err)
		case "query":
			var want []string
			if i < len(lines) && lines[i] == "----" {
				i++
			}
			for i < len(lines) && strings.TrimSpace(lines[i]) != "" {
				want = append(want, lines[i])
				i++
			}
			var got []string
			if err != nil {
				got = []string{"error: " + errText(err)}
			} else if len(results) > 0 {
				got = textRows(s, results[len(results)-1])
			}
			if len(head) > 1 && head[1] == "sort" {
				sort.Strings(got)
			}
			// Rows may hold newlines.
			got = strings.Split(strings.Join(got, "\n"), "\n")
			if len(got) == 1 && got[0] == "" {
				got = nil
			}
			for j := range got {
				if got[j] == "" {
					got[j] = "·" // An empty line would end the block.
				}
			}
			out = append(append(out, "----"), got...)
			if !rewrite && strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("%s\ngot:\n%s\nwant:\n%s", where, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		default:
			t.Fatalf("%s: unknown block %q", where, head[0])
		}
	}
	if rewrite {
		if err := os.WriteFile(path, []byte(strings.Join(out, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func errText(err error) string {
	pe := pgerr.Flatten(err)
	return fmt.Sprintf("%s %s", pe.Code, pe.Message)
}

func checkStatement(t *testing.T, where string, head []string, line string, results []*bufferedResult, err error) {
	switch head[1] {
	case "ok":
		if err != nil {
			t.Errorf("%s\nfailed: %s", where, errText(err))
		}
	case "tag":
		want := strings.TrimPrefix(line, "statement tag ")
		got := ""
		if len(results) > 0 {
			got = results[len(results)-1].tag
		}
		if err != nil || got != want {
			t.Errorf("%s\ngot tag %q (error %v), want %q", where, got, err, want)
		}
	case "error":
		want := strings.TrimPrefix(line, "statement error ")
		if err == nil {
			t.Errorf("%s\nsucceeded, want error %s", where, want)
		} else if !strings.Contains(errText(err), want) {
			t.Errorf("%s\ngot error %s\nwant %s", where, errText(err), want)
		}
	default:
		t.Errorf("%s: unknown expectation %q", where, head[1])
	}
}
