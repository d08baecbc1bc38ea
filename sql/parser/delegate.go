package parser

import (
	"fmt"
	"strings"
	"sync"

	"github.com/auxten/postgresql-parser/pkg/sql/lex"
	"github.com/auxten/postgresql-parser/pkg/sql/parser"
	"github.com/auxten/postgresql-parser/pkg/sql/pgwire/pgerror"
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/cockroachdb/errors"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

func keywordCategory(w string) string { return lex.KeywordsCategories[w] }

var parsers = sync.Pool{New: func() any { return new(parser.Parser) }}

// moduleParse parses one statement with the module's parser.
func moduleParse(sql string) (stmt parser.Statement, err error) {
	defer func() {
		if r := recover(); r != nil {
			// The module panics on some malformed input.
			err = pgerr.Newf(pgerr.SyntaxError, "syntax error: %v", r)
		}
	}()
	p := parsers.Get().(*parser.Parser)
	stmts, err := p.ParseWithInt(sql, types.Int4)
	if err != nil {
		parsers.Put(p)
		return stmt, err
	}
	if len(stmts) == 1 {
		stmt = stmts[0]
	} else {
		err = pgerr.New(pgerr.SyntaxError, "syntax error: expected one statement")
	}
	parsers.Put(p)
	return stmt, err
}

// statement parses all tokens as one statement: by our own grammar, else by the
// module's.
func (f *front) statement() tree.Statement {
	f.side.depth++
	defer func() { f.side.depth-- }()
	if f.side.depth > 100 {
		bail(pgerr.New("54001", "statement is nested too deeply"))
	}
	if len(f.toks) == 0 {
		f.fail("")
	}
	if s := f.own(); s != nil {
		return s
	}
	f.i = 0
	return f.delegate("", 0, len(f.toks), "")
}

// delegate gives prefix + toks[lo:hi] + suffix to the module's parser.
func (f *front) delegate(prefix string, lo, hi int, suffix string) tree.Statement {
	r := f.rewrite(prefix, lo, hi)
	r.out.WriteString(suffix)
	stmt, err := moduleParse(r.out.String())
	if err != nil {
		bail(f.moduleError(err, r))
	}
	f.side.ann = max(f.side.ann, stmt.NumAnnotations)
	if len(f.side.types)+len(f.side.stmts) > 0 || f.side.distinct {
		return f.side.fix(stmt.AST)
	}
	return stmt.AST
}

// parseExpr parses toks[lo:hi] as an expression.
func (f *front) parseExpr(lo, hi int) tree.Expr {
	es := f.parseExprs(lo, hi)
	if len(es) != 1 {
		bail(f.errorAt(f.toks[lo], "expected one expression"))
	}
	return es[0]
}

// parseExprs parses toks[lo:hi] as expressions separated by commas.
func (f *front) parseExprs(lo, hi int) tree.Exprs {
	stmt := f.delegate("SET ROW (", lo, hi, ")")
	s, ok := stmt.(*tree.SetVar)
	if !ok {
		bail(f.errorAt(f.toks[lo], "expected an expression"))
	}
	return s.Values
}

// parseType parses toks[lo:hi] as a type.
func (f *front) parseType(lo, hi int) *types.T {
	if lo >= hi {
		f.fail("expected a type")
	}
	switch e := f.parseExprText("NULL::", lo, hi).(type) {
	case *tree.CastExpr:
		return e.Type
	case *UDTCast:
		if e.Name == nil {
			return unresolvedType(fmt.Sprintf("@%d", e.OID), e.Array)
		}
		return unresolvedType(strings.Join(partsOf(e.Name), "\x00"), e.Array)
	}
	bail(f.errorAt(f.toks[lo], "expected a type"))
	return nil
}

func partsOf(n *tree.UnresolvedObjectName) []string {
	out := make([]string, n.NumParts)
	for i := range out {
		out[i] = n.Parts[n.NumParts-1-i]
	}
	return out
}

func (f *front) parseExprText(prefix string, lo, hi int) tree.Expr {
	stmt := f.delegate("SET ROW ("+prefix, lo, hi, ")")
	if s, ok := stmt.(*tree.SetVar); ok && len(s.Values) == 1 {
		return s.Values[0]
	}
	bail(f.errorAt(f.toks[lo], ""))
	return nil
}

// moduleError turns an error of the module into ours, with its position in f.src.
func (f *front) moduleError(err error, r *rewriter) *pgerr.Error {
	if e := (*pgerr.Error)(nil); errors.As(err, &e) {
		if e.Position == 0 && len(f.toks) > 0 {
			locate(e, f.src, f.toks[0].pos)
		}
		return e
	}
	flat := pgerror.Flatten(err)
	code := pgerr.Code(flat.Code)
	msg := flat.Message
	if code == "" || code == "XXUUU" || strings.HasPrefix(string(code), "XX") {
		code = pgerr.SyntaxError
	}
	if strings.Contains(msg, "unimplemented") {
		code = pgerr.FeatureNotSupported
	}
	if code == pgerr.FeatureNotSupported {
		msg = strings.Replace(msg, "syntax error: unimplemented: this syntax", "this syntax is not supported", 1)
	}
	out := pgerr.New(code, msg)
	if off, ok := caretOffset(flat.Detail); ok {
		locate(out, f.src, r.original(off))
	} else if len(f.toks) > 0 {
		locate(out, f.src, f.toks[0].pos)
	}
	for _, line := range strings.Split(flat.Hint, "\n") {
		line = strings.TrimSpace(line)
		if line != "" && !strings.Contains(line, "http") && !strings.Contains(line, "cockroach") && !strings.HasPrefix(line, "--") && !strings.HasPrefix(line, "You have attempted") {
			out.Hint = line
			break
		}
	}
	return out
}

// caretOffset reads where the module saw an error: its detail shows the source
// up to the end of the line, and a caret below.
func caretOffset(detail string) (int, bool) {
	src, ok := strings.CutPrefix(detail, "source SQL:\n")
	if !ok {
		return 0, false
	}
	if i := strings.Index(src, "^\n--\n"); i >= 0 {
		src = src[:i+1]
	}
	i := strings.LastIndexByte(src, '\n')
	if i < 0 || !strings.HasSuffix(src, "^") {
		return 0, false
	}
	col := len(src) - i - 2
	line := strings.LastIndexByte(src[:i], '\n') + 1
	return line + col, true
}
