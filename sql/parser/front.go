package parser

import (
	"strconv"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// front parses one statement, or a part of one: the tokens toks[i:] of src. Its
// methods panic with *pgerr.Error on a syntax error; parseOne recovers.
type front struct {
	src  string
	toks []token
	i    int
	side *side
}

// side holds what rewritten text refers to: names of user-defined types and
// statements of our own inside statements of the module.
type side struct {
	types []udtRef
	stmts []tree.Statement
	// distinct: an aggregate was marked with distinctFunc.
	distinct bool
	depth    int
	// ann is the highest annotation number of the parts.
	ann tree.AnnotationIdx
}

type udtRef struct{ name string }

// bail stops parsing with an error.
func bail(err *pgerr.Error) { panic(err) }

// peek returns the current token; an EOF token at the end.
func (f *front) peek() token { return f.at(0) }

// at returns the token n places ahead.
func (f *front) at(n int) token {
	if f.i+n < len(f.toks) {
		return f.toks[f.i+n]
	}
	return token{kind: tokEOF, str: "EOF", pos: f.endPos(), end: f.endPos()}
}

func (f *front) endPos() int {
	if len(f.toks) == 0 {
		return len(f.src)
	}
	return f.toks[len(f.toks)-1].end
}

func (f *front) next() token {
	t := f.peek()
	if f.i < len(f.toks) {
		f.i++
	}
	return t
}

func (f *front) eof() bool { return f.i >= len(f.toks) }

// looking says whether the next tokens are these words.
func (f *front) looking(words ...string) bool {
	for n, w := range words {
		if !f.at(n).is(w) {
			return false
		}
	}
	return true
}

// accept takes the words if they are next.
func (f *front) accept(words ...string) bool {
	if !f.looking(words...) {
		return false
	}
	f.i += len(words)
	return true
}

// expect takes the words or fails.
func (f *front) expect(words ...string) {
	for _, w := range words {
		if !f.accept(w) {
			f.fail("expected %s", strings.ToUpper(w))
		}
	}
}

func (f *front) acceptOp(s string) bool {
	if f.peek().op(s) {
		f.i++
		return true
	}
	return false
}

func (f *front) expectOp(s string) {
	if !f.acceptOp(s) {
		f.fail("expected %q", s)
	}
}

// fail reports a syntax error at the current token.
func (f *front) fail(hint string, args ...any) { bail(f.errorAt(f.peek(), hint, args...)) }

func (f *front) errorAt(t token, hint string, args ...any) *pgerr.Error {
	text := "EOF"
	switch t.kind {
	case tokEOF:
	case tokError:
		return lexicalError(f.src, t)
	case tokString, tokIdent, tokQuoted:
		text = t.str
	default:
		text = f.src[t.pos:t.end]
	}
	err := pgerr.Newf(pgerr.SyntaxError, "at or near \"%s\": syntax error", text)
	locate(err, f.src, t.pos)
	if hint != "" {
		err = err.WithHint(hint, args...)
	}
	return err
}

func lexicalError(src string, t token) *pgerr.Error {
	end := min(t.pos+20, len(src))
	err := pgerr.Newf(pgerr.SyntaxError, "%s at or near \"%s\"", t.str, strings.ToValidUTF8(src[t.pos:end], "?"))
	return locate(err, src, t.pos)
}

// locate adds position and the source line with a caret.
func locate(err *pgerr.Error, src string, pos int) *pgerr.Error {
	pos = min(pos, len(src))
	lineStart := strings.LastIndexByte(src[:pos], '\n') + 1
	lineEnd := len(src)
	if i := strings.IndexByte(src[pos:], '\n'); i >= 0 {
		lineEnd = pos + i
	}
	err.Position = pos + 1 // In bytes, of this statement; Parse turns it into characters of the whole.
	return err.WithDetail("source SQL:\n%s\n%s^", src[:lineEnd], strings.Repeat(" ", len([]rune(src[lineStart:pos]))))
}

// unsupported reports something that is known and not done.
func (f *front) unsupported(t token, format string, args ...any) {
	bail(locate(pgerr.Newf(pgerr.FeatureNotSupported, format, args...), f.src, t.pos))
}

// name takes an identifier. Reserved words are taken only when quoted.
func (f *front) name() string {
	t := f.peek()
	if !t.isName() || t.kind == tokIdent && reserved(t.str) {
		f.fail("expected a name")
	}
	f.i++
	return t.str
}

// anyName takes an identifier, reserved or not, as after a dot.
func (f *front) anyName() string {
	t := f.peek()
	if !t.isName() {
		f.fail("expected a name")
	}
	f.i++
	return t.str
}

// reserved says whether an unquoted word cannot be a name.
func reserved(w string) bool {
	switch keywordCategory(w) {
	case "R":
		return w != "index" && w != "nothing" && w != "public"
	}
	return false
}

// dotted takes a name of up to max parts.
func (f *front) dotted(max int) []string {
	parts := []string{f.name()}
	for len(parts) < max && f.acceptOp(".") {
		parts = append(parts, f.anyName())
	}
	return parts
}

// object takes the name of an object: [[database.]schema.]name.
func (f *front) object() *tree.UnresolvedObjectName { return objectName(f.dotted(3)) }

// objects takes names separated by commas.
func (f *front) objects() []*tree.UnresolvedObjectName {
	out := []*tree.UnresolvedObjectName{f.object()}
	for f.acceptOp(",") {
		out = append(out, f.object())
	}
	return out
}

func (f *front) nameList() tree.NameList {
	out := tree.NameList{tree.Name(f.name())}
	for f.acceptOp(",") {
		out = append(out, tree.Name(f.name()))
	}
	return out
}

// schemaName takes [database.]schema.
func (f *front) schemaName() SchemaName {
	p := f.dotted(2)
	if len(p) == 2 {
		return SchemaName{Database: tree.Name(p[0]), Schema: tree.Name(p[1])}
	}
	return SchemaName{Schema: tree.Name(p[0])}
}

// role takes a role name: an identifier, a string, CURRENT_USER or SESSION_USER.
func (f *front) role() string {
	switch t := f.peek(); {
	case t.is("current_user"), t.is("session_user"), t.is("current_role"), t.is("public"):
		f.i++
		return t.str
	case t.kind == tokString:
		f.i++
		return t.str
	case t.kind == tokParam:
		f.fail("expected a role name")
	}
	return f.name()
}

func (f *front) roles() []string {
	out := []string{f.role()}
	for f.acceptOp(",") {
		out = append(out, f.role())
	}
	return out
}

func (f *front) dropBehavior() tree.DropBehavior {
	switch {
	case f.accept("cascade"):
		return tree.DropCascade
	case f.accept("restrict"):
		return tree.DropRestrict
	}
	return tree.DropDefault
}

func (f *front) ifExists() bool { return f.accept("if", "exists") }

func (f *front) ifNotExists() bool { return f.accept("if", "not", "exists") }

// str takes a string literal.
func (f *front) str() string {
	t := f.peek()
	if t.kind != tokString {
		f.fail("expected a string")
	}
	f.i++
	return t.str
}

// strOrParam takes a string literal or a placeholder.
func (f *front) strOrParam() tree.Expr {
	switch t := f.peek(); t.kind {
	case tokString:
		f.i++
		return tree.NewStrVal(t.str)
	case tokParam:
		f.i++
		p, err := tree.NewPlaceholder(t.str)
		if err != nil {
			bail(locate(pgerr.Newf(pgerr.SyntaxError, "%s", err), f.src, t.pos))
		}
		return p
	}
	f.fail("expected a string or a placeholder")
	return nil
}

// integer takes a signed integer literal.
func (f *front) integer() int64 {
	neg := f.acceptOp("-")
	if !neg {
		f.acceptOp("+")
	}
	t := f.peek()
	s := t.str
	if neg {
		s = "-" + s
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if t.kind != tokNumber || err != nil {
		f.fail("expected an integer")
	}
	f.i++
	return v
}

// boolean takes TRUE, FALSE, ON, OFF, 0, 1, bare or quoted. ok is false if none is next.
func (f *front) boolean() (v, ok bool) {
	switch t := f.peek(); {
	case t.kind == tokIdent || t.kind == tokString || t.kind == tokNumber:
		switch strings.ToLower(t.str) {
		case "true", "on", "1", "yes":
			f.i++
			return true, true
		case "false", "off", "0", "no":
			f.i++
			return false, true
		}
	}
	return false, false
}

// done fails unless the statement ends here.
func (f *front) done() {
	if !f.eof() {
		f.fail("")
	}
}

// skipParens returns the index after the closing parenthesis or bracket that
// matches the opening one at index i, or len(toks).
func (f *front) skipParens(i int) int {
	depth := 0
	for ; i < len(f.toks); i++ {
		if t := f.toks[i]; t.kind == tokOp {
			switch t.str {
			case "(", "[":
				depth++
			case ")", "]":
				if depth--; depth <= 0 {
					return i + 1
				}
			}
		}
	}
	return i
}

// until returns the index of the first token at depth 0 from f.i on for which stop
// is true, or len(toks). A closing parenthesis at depth 0 stops too.
func (f *front) until(stop func(i int) bool) int {
	for i := f.i; i < len(f.toks); i++ {
		t := f.toks[i]
		if stop(i) || t.op(")") || t.op("]") {
			return i
		}
		if t.op("(") || t.op("[") {
			i = f.skipParens(i) - 1
		}
	}
	return len(f.toks)
}

// wordsAt says whether the words stand at index i.
func (f *front) wordsAt(i int, words ...string) bool {
	for n, w := range words {
		if i+n >= len(f.toks) || !f.toks[i+n].is(w) {
			return false
		}
	}
	return true
}

// exprUntil parses the expression up to the first of the words or a comma at
// depth 0.
func (f *front) exprUntil(words ...string) tree.Expr {
	end := f.until(func(i int) bool {
		if f.toks[i].op(",") {
			return true
		}
		for _, w := range words {
			if f.toks[i].is(w) {
				return true
			}
		}
		return false
	})
	return f.exprRange(end)
}

// exprRange parses toks[f.i:end] as an expression.
func (f *front) exprRange(end int) tree.Expr {
	if end == f.i {
		f.fail("expected an expression")
	}
	e := f.parseExpr(f.i, end)
	f.i = end
	return e
}

// selectRest parses the remaining tokens as a query.
func (f *front) selectRest() *tree.Select { return f.selectRange(len(f.toks)) }

// selectRange parses toks[f.i:end] as a query. Parentheses around all of it may
// stay.
func (f *front) selectRange(end int) *tree.Select {
	if end == f.i {
		f.fail("expected a query")
	}
	stmt := f.sub(f.i, end).statement()
	f.i = end
	switch s := stmt.(type) {
	case *tree.Select:
		return s
	case *tree.ParenSelect:
		return s.Select
	}
	f.fail("expected a query")
	return nil
}

// sub returns a parser for toks[lo:hi].
func (f *front) sub(lo, hi int) *front {
	return &front{src: f.src, toks: f.toks[lo:hi:hi], side: f.side}
}

// text returns the source of toks[lo:hi].
func (f *front) text(lo, hi int) string {
	if lo >= hi {
		return ""
	}
	return f.src[f.toks[lo].pos:f.toks[hi-1].end]
}

// all returns the source of all tokens.
func (f *front) all() string { return f.text(0, len(f.toks)) }

func (f *front) node(typ tree.StatementType, tag string) node {
	return node{typ: typ, tag: tag, text: f.all()}
}
