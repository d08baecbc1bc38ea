package parser

import (
	"strconv"
	"unicode/utf8"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// Statement is one statement of a query text.
type Statement struct {
	AST tree.Statement
	// SQL is the text of this statement alone. It may hold secrets.
	SQL string
	// NumPlaceholders is the highest $n that occurs.
	NumPlaceholders int
	NumAnnotations  tree.AnnotationIdx
	// Offset is where SQL begins in the text given to Parse, in bytes.
	Offset int
}

// Parse splits sql into statements and parses each. INT means INT4, as in
// PostgreSQL. Text without statements gives none.
func Parse(sql string) ([]Statement, error) {
	toks := scanAll(sql)
	var out []Statement
	for lo := 0; lo < len(toks); {
		hi := lo
		for hi < len(toks) && !toks[hi].op(";") {
			hi++
		}
		if hi > lo {
			s, err := parseOne(sql, toks[lo:hi])
			if err != nil {
				return nil, err
			}
			out = append(out, s)
		}
		lo = hi + 1
	}
	return out, nil
}

// ParseOne parses text that must hold exactly one statement.
func ParseOne(sql string) (Statement, error) {
	stmts, err := Parse(sql)
	if err != nil {
		return Statement{}, err
	}
	if len(stmts) != 1 {
		return Statement{}, pgerr.Newf(pgerr.SyntaxError, "expected one statement, found %d", len(stmts))
	}
	return stmts[0], nil
}

// maxDepth bounds the nesting of parentheses, since trees are walked by recursion.
const maxDepth = 1000

// maxPlaceholders is PostgreSQL's limit.
const maxPlaceholders = 65535

// parseOne parses the statement that consists of toks of the text whole.
func parseOne(whole string, toks []token) (s Statement, err error) {
	start, end := toks[0].pos, toks[len(toks)-1].end
	s.SQL, s.Offset = whole[start:end], start
	local := make([]token, len(toks))
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*pgerr.Error)
			if !ok {
				// A bug of ours or of the module must not take the node down.
				e = pgerr.Newf(pgerr.SyntaxError, "syntax error: %v", r)
			}
			wordAsPostgres(e, local, s.SQL)
			if e.Position > 0 {
				at := min(start+e.Position-1, len(whole))
				e.Position = utf8.RuneCountInString(whole[:at]) + 1
			}
			s, err = Statement{}, e
		}
	}()
	depth := 0
	for i, t := range toks {
		if t.op("(") || t.op("[") {
			if depth++; depth > maxDepth {
				bail(pgerr.New("54001", "statement is nested too deeply").
					WithHint("At most %d levels of parentheses are allowed.", maxDepth))
			}
		} else if t.op(")") || t.op("]") {
			depth--
		}
		t.pos -= start
		t.end -= start
		local[i] = t
		if t.kind == tokParam {
			n, perr := strconv.Atoi(t.str)
			if perr != nil || n < 1 || n > maxPlaceholders {
				bail(locate(pgerr.Newf("42P02", "there is no parameter $%s", t.str), s.SQL, t.pos))
			}
			s.NumPlaceholders = max(s.NumPlaceholders, n)
		}
		if t.kind == tokError {
			bail(lexicalError(s.SQL, t))
		}
	}
	f := &front{src: s.SQL, toks: local, side: &side{}}
	s.AST = f.statement()
	s.NumAnnotations = f.side.ann
	if s.AST == nil {
		f.i = len(f.toks)
		f.fail("")
	}
	return s, nil
}

// part runs fn on the tokens of a text that is not a statement.
func part(text string, fn func(f *front)) (err error) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*pgerr.Error)
			if !ok {
				e = pgerr.Newf(pgerr.SyntaxError, "syntax error: %v", r)
			}
			err = e
		}
	}()
	f := &front{src: text, toks: scanAll(text), side: &side{}}
	if n := len(f.toks); n > 0 && f.toks[n-1].kind == tokError {
		bail(lexicalError(text, f.toks[n-1]))
	}
	fn(f)
	return nil
}

// ParseExpr parses an expression.
func ParseExpr(text string) (e tree.Expr, err error) {
	err = part(text, func(f *front) {
		e = f.exprRange(len(f.toks))
	})
	return e, err
}

// ParseType parses the name of a type. A user-defined one comes out as
// UserDefinedType expects it.
func ParseType(text string) (t *types.T, err error) {
	err = part(text, func(f *front) { t = f.parseType(0, len(f.toks)) })
	return t, err
}

// ParseObjectName parses [[database.]schema.]name.
func ParseObjectName(text string) (n *tree.UnresolvedObjectName, err error) {
	err = part(text, func(f *front) {
		n = f.object()
		f.done()
	})
	return n, err
}

// ParseSequenceOptions parses the options of CREATE SEQUENCE.
func ParseSequenceOptions(text string) (o tree.SequenceOptions, err error) {
	err = part(text, func(f *front) {
		o = f.sequenceOptions()
		f.done()
	})
	return o, err
}
