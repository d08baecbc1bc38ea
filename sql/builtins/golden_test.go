package builtins

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/parser"
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/sessiondata"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

func testEval(t testing.TB) *tree.EvalContext {
	t.Helper()
	Register()
	loc, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2024, 5, 6, 12, 0, 0, 0, time.UTC)
	return &tree.EvalContext{
		Context:       context.Background(),
		SessionData:   &sessiondata.SessionData{DataConversion: sessiondata.DataConversionConfig{Location: loc}},
		TxnTimestamp:  now,
		StmtTimestamp: now,
	}
}

// parseExpr reads an expression with PostgreSQL's size of INT.
func parseExpr(s string) (tree.Expr, error) {
	var p parser.Parser
	stmts, err := p.ParseWithInt("SELECT "+s, types.Int4)
	if err != nil {
		return nil, err
	}
	sel, ok := stmts[0].AST.(*tree.Select)
	if !ok {
		return nil, fmt.Errorf("not a select")
	}
	return sel.Select.(*tree.SelectClause).Exprs[0].Expr, nil
}

// evalString evaluates an expression and prints it like a golden line: type, tab,
// value, or ERROR, tab, code and message.
func evalString(ctx *tree.EvalContext, s string) (out string) {
	defer func() {
		if r := recover(); r != nil {
			out = fmt.Sprintf("PANIC\t%v", r)
		}
	}()
	fail := func(err error) string {
		return fmt.Sprintf("ERROR\t%s: %s", pgerr.GetCode(err), err)
	}
	e, err := parseExpr(s)
	if err != nil {
		return "PARSE\t" + err.Error()
	}
	sema := tree.MakeSemaContext()
	loc := ctx.GetLocation()
	sema.Location = &loc
	te, err := TypeCheck(&sema, e, types.Any)
	if err != nil {
		return fail(err)
	}
	d, err := te.Eval(ctx)
	if err != nil {
		return fail(MapError(err))
	}
	typ := TypeOf(te)
	if d == tree.DNull {
		return typeName(typ) + "\tNULL"
	}
	return typeName(typ) + "\t" + strings.ReplaceAll(FormatText(ctx, d, typ), "\n", `\n`)
}

// TestGolden compares the library with what PostgreSQL 15 computed
// (testdata/generate.sh). known.txt lists the lines that differ on purpose or
// for want of something, with the reason.
func TestGolden(t *testing.T) {
	ctx := testEval(t)
	known := map[string]bool{}
	for _, l := range readLines(t, "testdata/known.txt") {
		expr, _, _ := strings.Cut(l, "\t")
		known[expr] = true
	}
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			for _, line := range readLines(t, f) {
				expr, want, _ := strings.Cut(line, "\t")
				got := evalString(ctx, expr)
				if got == want == known[expr] {
					if known[expr] {
						t.Errorf("%s\n is right now: take it out of known.txt", expr)
					} else {
						t.Errorf("%s\n got  %s\n want %s", expr, got, want)
					}
				}
			}
		})
	}
}

func readLines(t *testing.T, name string) []string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if l := sc.Text(); l != "" && !strings.HasPrefix(l, "-- ") {
			out = append(out, l)
		}
	}
	return out
}
