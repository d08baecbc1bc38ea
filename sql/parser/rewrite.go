package parser

import (
	"fmt"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
)

// The module's grammar is older than PostgreSQL 15 and lacks parts of it. What
// can be said in its words is rewritten here, token by token; the text between
// tokens stays, so positions can be mapped back. Things that have no words at all
// are smuggled through:
//
//   - a user-defined type as VARBIT(udtWidth+n), where n indexes side.types
//   - a statement of our own inside another as SHOW "__own_n"
//   - GENERATED AS IDENTITY as DEFAULT "__identity"('always', '<options>')
//   - agg(DISTINCT a ORDER BY b) as agg("__distinct"(a) ORDER BY b)
//   - ON CONFLICT ON CONSTRAINT c as ON CONFLICT ("\x01c")
const (
	udtWidth         = 1000000000
	ownPrefix        = "__own_"
	identityFunc     = "__identity"
	distinctFunc     = "__distinct"
	constraintMarker = "\x01"
	exprMarker       = "\x02"
	predicateMarker  = "\x03"
)

// rewriter builds the text for the module and remembers where it came from.
type rewriter struct {
	out  strings.Builder
	segs []segment
}

// segment says that out[out:] begins at the source position src.
type segment struct{ out, src int }

// original maps an offset in the rewritten text to one in the source.
func (r *rewriter) original(off int) int {
	if len(r.segs) == 0 {
		return 0
	}
	s := r.segs[0]
	for _, x := range r.segs {
		if x.out > off {
			break
		}
		s = x
	}
	if off < s.out {
		return s.src
	}
	return s.src + off - s.out
}

// rewrite renders prefix and toks[lo:hi] for the module.
func (f *front) rewrite(prefix string, lo, hi int) *rewriter {
	r := &rewriter{}
	r.out.WriteString(prefix)
	w := &rewrites{f: f, r: r, i: lo, hi: hi}
	if lo < hi {
		w.last = f.toks[lo].pos
		w.first = f.toks[lo]
	}
	if strings.HasSuffix(prefix, "::") {
		w.typeName(false)
	}
	w.run()
	return r
}

// rewrites is the state of one pass over the tokens.
type rewrites struct {
	f     *front
	r     *rewriter
	i, hi int
	last  int // source position up to which text was copied
	first token
	// casts holds, for every open parenthesis, whether it is that of CAST(.
	casts []bool
	// later are things to do when the token of an index is reached.
	later map[int]func()
}

func (w *rewrites) tok(n int) token {
	if i := w.i + n; i >= 0 && i < w.hi {
		return w.f.toks[i]
	}
	return token{kind: tokEOF}
}

// keep copies the next n tokens with what precedes them.
func (w *rewrites) keep(n int) {
	for ; n > 0 && w.i < w.hi; n-- {
		t := w.f.toks[w.i]
		w.r.segs = append(w.r.segs, segment{w.r.out.Len(), w.last})
		w.r.out.WriteString(w.f.src[w.last:t.end])
		w.last = t.end
		w.i++
	}
}

// put writes s in place of the next n tokens.
func (w *rewrites) put(n int, s string) {
	if n > 0 {
		t := w.f.toks[w.i]
		w.r.segs = append(w.r.segs, segment{w.r.out.Len(), t.pos})
		w.i += n
		w.last = w.f.toks[w.i-1].end
	}
	w.r.out.WriteByte(' ')
	w.r.out.WriteString(s)
	if n > 0 {
		w.r.out.WriteByte(' ')
		w.r.segs = append(w.r.segs, segment{w.r.out.Len(), w.last})
	}
}

func (w *rewrites) drop(n int) { w.put(n, "") }

func (w *rewrites) run() {
	for w.i < w.hi {
		t := w.f.toks[w.i]
		if fn := w.later[w.i]; fn != nil {
			delete(w.later, w.i)
			fn()
			continue
		}
		switch t.kind {
		case tokError:
			bail(lexicalError(w.f.src, t))
		case tokString:
			if c := w.f.src[t.pos]; c == 'N' || c == 'n' {
				// N'…' is character(n): blanks at the end mean nothing.
				w.put(1, strings.TrimRight(w.f.src[t.pos+1:t.end-1], " ")+"'")
				continue
			}
		case tokOp:
			if w.op(t) {
				continue
			}
		case tokIdent:
			if w.word(t) {
				continue
			}
		}
		w.keep(1)
	}
}

// likeOps are PostgreSQL's operators behind LIKE.
var likeOps = map[string]string{"~~": "LIKE", "!~~": "NOT LIKE", "~~*": "ILIKE", "!~~*": "NOT ILIKE"}

func (w *rewrites) op(t token) bool {
	switch t.str {
	case "~~", "!~~", "~~*", "!~~*":
		w.put(1, likeOps[t.str])
		return true
	case "::", ":::":
		w.keep(1)
		w.typeName(t.str == ":::")
		return true
	case "(":
		prev := w.tok(-1)
		if w.tok(1).op(")") && (prev.op("(") || prev.op(",") || prev.is("by")) {
			w.put(2, "ROW()") // An empty grouping set; the module knows no other form.
			return true
		}
		w.casts = append(w.casts, prev.is("cast") || prev.is("treat"))
		if w.tok(1).is("distinct") && w.distinctOrdered() {
			return true
		}
		// WITH x AS (SHOW …), and other statements of our own in parentheses.
		if prev.is("as") || prev.is("materialized") {
			if w.embedded(")") {
				return true
			}
		}
	case ")":
		if n := len(w.casts); n > 0 {
			w.casts = w.casts[:n-1]
		}
		if w.tok(1).is("within") && w.tok(2).is("group") && w.tok(3).op("(") && w.tok(4).is("order") && w.tok(5).is("by") {
			w.withinGroup()
			return true
		}
	case "[":
		switch {
		case w.tok(1).op("]") && w.tok(2).op("[") && w.tok(3).op("]") && !w.tok(-1).is("array"):
			// int[][] is int[].
			w.keep(2)
			for w.tok(0).op("[") && w.tok(1).op("]") {
				w.drop(2)
			}
			return true
		case w.tok(1).is("show") || w.tok(1).is("delete") || w.tok(1).is("insert"):
			return w.embedded("]")
		}
	}
	return false
}

// distinctOrdered marks agg(DISTINCT a, … ORDER BY …), which the module's grammar
// has not together, as agg("__distinct"(a), … ORDER BY …).
func (w *rewrites) distinctOrdered() bool {
	if prev := w.tok(-1); !prev.isName() || prev.kind == tokIdent && reserved(prev.str) {
		return false
	}
	end := w.f.skipParens(w.i)
	argEnd, ordered := 0, false
	for i := w.i + 2; i < end-1 && i < w.hi; i++ {
		t := w.f.toks[i]
		if t.op("(") || t.op("[") {
			i = w.f.skipParens(i) - 1
			continue
		}
		if argEnd == 0 && (t.op(",") || w.f.wordsAt(i, "order", "by")) {
			argEnd = i
		}
		ordered = ordered || w.f.wordsAt(i, "order", "by")
	}
	if !ordered || argEnd <= w.i+2 {
		return false
	}
	w.f.side.distinct = true
	w.keep(1)
	w.put(1, `"`+distinctFunc+`"(`)
	inner := &rewrites{f: w.f, r: w.r, i: w.i, hi: argEnd, last: w.last, first: w.first}
	inner.run()
	w.i, w.last = inner.i, inner.last
	w.put(0, ")")
	return true
}

// bareLabel says whether t is a keyword that labels a column without AS, as in
// SELECT 1 value.
func (w *rewrites) bareLabel(t token) bool {
	switch c := keywordCategory(t.str); {
	case c != "U" && c != "C":
		return false
	}
	switch t.str {
	case "day", "hour", "minute", "month", "second", "year", "nowait", "preceding", "following", "row", "rows", "locked", "ordinality",
		"insert", "update", "delete", "upsert":
		return false
	}
	switch prev := w.tok(-1); {
	case prev.kind == tokNumber, prev.kind == tokString, prev.kind == tokParam, prev.kind == tokQuoted, prev.op(")"), prev.op("]"):
	case prev.kind == tokIdent && keywordCategory(prev.str) == "":
	default:
		return false
	}
	if pp := w.tok(-2); pp.op("::") || pp.op(":::") || w.tok(-1).kind == tokString && pp.kind == tokIdent && moduleType(pp) {
		return false
	}
	next := w.tok(1)
	return next.op(",") || next.is("from") || next.op(")") && len(w.casts) > 0 || next.kind == tokEOF && w.first.is("select")
}

// embedded replaces "( statement )" or "[ statement ]" by a stand-in when the
// statement is one of our own.
func (w *rewrites) embedded(closing string) bool {
	first := w.tok(1)
	switch {
	case first.is("show"), first.is("delete"), first.is("insert"), first.is("update"), first.is("with"):
	default:
		return false
	}
	end := w.f.skipParens(w.i)
	if end > w.hi || !w.f.toks[end-1].op(closing) || end-1 <= w.i+1 {
		return false
	}
	if first.is("insert") || first.is("update") || first.is("with") || first.is("delete") {
		if !w.f.needsOwn(w.i+1, end-1) {
			return false
		}
	}
	sub := w.f.sub(w.i+1, end-1)
	stmt := sub.statement()
	n := len(w.f.side.stmts)
	w.f.side.stmts = append(w.f.side.stmts, stmt)
	if n := len(w.casts); n > 0 && closing == ")" {
		w.casts = w.casts[:n-1]
	}
	open := "["
	if closing == ")" {
		open = "("
	}
	w.put(end-w.i, fmt.Sprintf(`%s SHOW "%s%d" %s`, open, ownPrefix, n, closing))
	return true
}

// needsOwn says whether a data-modifying statement inside another uses what only
// our own grammar has.
func (f *front) needsOwn(lo, hi int) bool {
	switch t := f.toks[lo]; {
	case t.is("delete"):
		for i := lo; i < hi; i++ {
			if f.toks[i].is("using") {
				return true
			}
		}
	case t.is("insert"):
		for i := lo; i < hi; i++ {
			if f.toks[i].is("overriding") {
				return true
			}
		}
	}
	return false
}

// withinGroup turns f(args) WITHIN GROUP (ORDER BY e [DESC]) into f(args, e [, true]).
func (w *rewrites) withinGroup() {
	end := w.f.skipParens(w.i + 3)
	if end > w.hi {
		w.keep(1)
		return
	}
	sep := ", "
	if w.tok(-1).op("(") {
		sep = ""
	}
	w.put(6, sep)
	stop := end - 1
	desc := w.f.toks[stop-1].is("desc")
	if desc || w.f.toks[stop-1].is("asc") {
		stop--
	}
	inner := &rewrites{f: w.f, r: w.r, i: w.i, hi: stop, last: w.last, first: w.first}
	inner.run()
	w.i, w.last = inner.i, inner.last
	s := ")"
	if desc {
		s = ", true)"
	}
	w.put(end-w.i, s)
}

func (w *rewrites) word(t token) bool {
	prev := w.tok(-1)
	switch t.str {
	case "operator":
		return w.operator()
	case "collate":
		return w.collate()
	case "materialized":
		// Hints of CTEs: AS [NOT] MATERIALIZED (.
		if w.tok(1).op("(") && (prev.is("as") || prev.is("not") && w.tok(-2).is("as")) {
			w.drop(1)
			return true
		}
	case "not":
		if prev.is("as") && w.tok(1).is("materialized") && w.tok(2).op("(") {
			w.drop(2)
			return true
		}
		if w.tok(1).is("deferrable") {
			w.drop(2)
			return true
		}
	case "deferrable", "initially":
		// Constraints are checked at the end of each statement, deferred or not: what
		// would only hold at COMMIT is an error earlier.
		n := 0
		if t.str == "deferrable" {
			n = 1
		}
		if w.tok(n).is("initially") && (w.tok(n+1).is("immediate") || w.tok(n+1).is("deferred")) {
			n += 2
		}
		if n > 0 && w.first.kind == tokIdent && (w.first.str == "create" || w.first.str == "alter") {
			w.drop(n)
			return true
		}
	case "as":
		if n := len(w.casts); n > 0 && w.casts[n-1] {
			w.keep(1)
			w.typeName(false)
			return true
		}
	case "on":
		if prev.is("conflict") {
			return w.conflict()
		}
	case "conflict":
		if prev.is("on") && w.conflictTarget() {
			return true
		}
	case "json_to_record", "jsonb_to_record", "json_to_recordset", "jsonb_to_recordset":
		return w.recordFunc(t.str)
	case "grouping":
		switch {
		case w.tok(1).is("sets") && w.tok(2).op("("):
			w.put(2, GroupingSetsFunc)
			return true
		case w.tok(1).op("("):
			w.put(1, `"grouping"`)
			return true
		}
	case "session_user":
		// The module takes it for current_user.
		if !w.tok(1).op("(") && !prev.op(".") && !prev.is("as") {
			w.put(1, `"session_user"()`)
			return true
		}
	case "generated":
		return w.generated()
	case "nulls":
		// NULLS LAST is the default of ASC, NULLS FIRST that of DESC.
		if w.tok(1).is("last") && !prev.is("desc") || w.tok(1).is("first") && prev.is("desc") {
			w.drop(2)
			return true
		}
	case "only":
		next := w.tok(1)
		if next.isName() && !next.is("from") &&
			(prev.is("from") || prev.is("join") || prev.is("update") || prev.is("table") || prev.is("exists") ||
				prev.is("references") || prev.is("truncate") || prev.is("on") && w.first.is("create")) {
			w.drop(1)
			return true
		}
	case "unlogged":
		if prev.is("create") && w.tok(1).is("table") {
			w.drop(1)
			return true
		}
	case "tablespace":
		if w.first.is("create") && w.tok(1).isName() && prev.op(")") {
			w.drop(2)
			return true
		}
	case "select":
		if w.tok(1).is("from") {
			w.keep(1)
			w.put(0, "NULL ")
			return true
		}
	case "pg_catalog":
		// As in column definitions: a pg_catalog.int4. Functions keep their schema.
		if w.tok(1).op(".") && w.tok(2).isName() && !w.tok(3).op("(") && !w.tok(3).op(".") && moduleType(w.tok(2)) && w.inColumnDef() {
			w.drop(2)
			return true
		}
	case "index", "family", "nothing":
		// Words that this grammar reserves and PostgreSQL does not.
		if w.dml() && !prev.is("do") && !prev.is("returning") && !prev.op("@") && !prev.op("{") {
			w.put(1, `"`+t.str+`"`)
			return true
		}
	}
	if w.dml() && w.bareLabel(t) {
		w.put(0, "AS")
		w.keep(1)
		return true
	}
	return false
}

func (w *rewrites) dml() bool {
	switch w.first.str {
	case "select", "insert", "update", "delete", "with", "values":
		return w.first.kind == tokIdent
	}
	return w.first.op("(")
}

// inColumnDef says whether a type may stand here in DDL.
func (w *rewrites) inColumnDef() bool {
	return (w.first.is("create") || w.first.is("alter")) && w.tok(-1).isName() || w.tok(-1).is("as")
}

// operator rewrites OPERATOR(schema.op).
func (w *rewrites) operator() bool {
	if !w.tok(1).op("(") {
		return false
	}
	i := 2
	for w.tok(i).isName() && w.tok(i+1).op(".") {
		i += 2
	}
	var op strings.Builder
	for w.tok(i).kind == tokOp && !w.tok(i).op(")") {
		op.WriteString(w.tok(i).str)
		i++
	}
	if !w.tok(i).op(")") || op.Len() == 0 {
		return false
	}
	s := op.String()
	if like, ok := likeOps[s]; ok {
		s = like
	}
	w.put(i+1, s)
	return true
}

// collate drops collations that mean the order of bytes.
func (w *rewrites) collate() bool {
	i := 1
	if w.tok(1).isName() && w.tok(2).op(".") {
		i = 3
	}
	if t := w.tok(i); t.isName() {
		switch strings.ToLower(t.str) {
		case "default", "c", "posix", "ucs_basic", "c.utf8", "c.utf-8":
			w.drop(i + 1)
			return true
		}
		if i == 3 {
			w.keep(1)
			w.drop(2)
			w.keep(1)
			return true
		}
	}
	return false
}

// conflict rewrites ON CONFLICT ON CONSTRAINT c. It is called at the second ON.
func (w *rewrites) conflict() bool {
	if !w.tok(1).is("constraint") || !w.tok(2).isName() {
		return false
	}
	name := strings.ReplaceAll(w.tok(2).str, `"`, `""`)
	w.put(3, `("`+constraintMarker+name+`")`)
	return true
}

// conflictTarget rewrites ON CONFLICT (…) [WHERE p] DO where the list has more than
// names of columns: expressions and the predicate become names with a mark. It is
// called at CONFLICT.
func (w *rewrites) conflictTarget() bool {
	if !w.tok(1).op("(") {
		return false
	}
	f := w.f
	open := w.i + 1
	end := f.skipParens(open)
	if end > w.hi {
		return false
	}
	var names []string
	plain := true
	saved := f.i
	defer func() { f.i = saved }()
	for f.i = open + 1; f.i < end-1; f.i++ {
		stop := min(f.until(func(i int) bool { return f.toks[i].op(",") }), end-1)
		if stop == f.i {
			return false
		}
		first := f.toks[f.i]
		// Operator classes and collations choose nothing here.
		if first.isName() && (stop == f.i+1 || !f.toks[f.i+1].op("(") && !f.toks[f.i+1].op(".")) && (stop == f.i+1 || f.toks[f.i+1].isName()) {
			plain = plain && stop == f.i+1
			names = append(names, f.src[first.pos:first.end])
		} else {
			plain = false
			names = append(names, markedName(exprMarker, f.text(f.i, stop)))
		}
		f.i = stop
	}
	hi := end
	if end < w.hi && f.toks[end].is("where") {
		for hi = end + 1; hi < w.hi && !f.toks[hi].is("do"); hi++ {
			if f.toks[hi].op("(") {
				hi = f.skipParens(hi) - 1
			}
		}
		if hi >= w.hi {
			return false
		}
		names = append(names, markedName(predicateMarker, f.text(end+1, hi)))
		plain = false
	}
	if plain {
		return false
	}
	w.keep(1)
	w.put(hi-w.i, "("+strings.Join(names, ", ")+")")
	return true
}

func markedName(mark, text string) string {
	return `"` + mark + strings.ReplaceAll(text, `"`, `""`) + `"`
}

// generated rewrites GENERATED … AS IDENTITY [(…)] and GENERATED ALWAYS AS (…).
func (w *rewrites) generated() bool {
	i, kind := 0, ""
	switch {
	case w.tok(1).is("always"):
		i, kind = 2, "always"
	case w.tok(1).is("by") && w.tok(2).is("default"):
		i, kind = 3, "by default"
	default:
		return false
	}
	if !w.tok(i).is("as") {
		return false
	}
	if !w.tok(i + 1).is("identity") {
		w.drop(i)
		return true
	}
	i += 2
	opts := ""
	if w.tok(i).op("(") {
		end := w.f.skipParens(w.i + i)
		if end > w.hi {
			return false
		}
		opts = w.f.text(w.i+i+1, end-1)
		i = end - w.i
	}
	w.put(i, fmt.Sprintf(`DEFAULT "%s"('%s', '%s')`, identityFunc, kind, strings.ReplaceAll(opts, "'", "''")))
	return true
}

// typeWords are the types that the module's grammar has words for.
var typeWords = func() map[string]bool {
	m := make(map[string]bool)
	for _, w := range strings.Fields(`bigint bigserial bit blob bool boolean bytea bytes char character date dec decimal
		double float float4 float8 inet int int2 int2vector int4 int8 int64 integer interval json jsonb name numeric oid
		oidvector real regclass regproc regprocedure regnamespace regtype serial serial2 serial4 serial8 smallint
		smallserial string text time timetz timestamp timestamptz uuid varbit varchar`) {
		m[w] = true
	}
	return m
}()

// catalogTypes are PostgreSQL's types that only its catalogs use, and what shows
// them here.
var catalogTypes = map[string]string{
	"regoper": "oid", "regoperator": "oid", "regrole": "oid", "regconfig": "oid", "regdictionary": "oid", "regcollation": "oid",
	"xid": "int8", "xid8": "int8", "cid": "int8", "pg_node_tree": "text", "aclitem": "text", "cstring": "text", "refcursor": "text",
}

// moduleType says whether the module knows a type of this name.
func moduleType(t token) bool {
	if t.kind == tokIdent && typeWords[t.str] {
		return true
	}
	if t.str == "char" {
		return true
	}
	_, ok, _ := types.TypeForNonKeywordTypeName(t.str)
	return ok
}

// typeName is called before a type: it drops pg_catalog and replaces the names of
// types that the module does not know.
func (w *rewrites) typeName(annotation bool) {
	if w.tok(0).op("@") && w.tok(1).kind == tokNumber {
		w.udt(2, "@"+w.tok(1).str)
		return
	}
	if !w.tok(0).isName() {
		return
	}
	var parts []string
	n := 0
	for {
		parts = append(parts, w.tok(n).str)
		n++
		if !w.tok(n).op(".") || !w.tok(n+1).isName() {
			break
		}
		n++
	}
	last := w.tok(n - 1)
	if as, ok := catalogTypes[last.str]; ok && (len(parts) == 1 || len(parts) == 2 && parts[0] == "pg_catalog") {
		w.put(n, as)
		return
	}
	if len(parts) == 2 && parts[0] == "pg_catalog" && moduleType(last) {
		w.drop(2)
		if last.kind == tokQuoted && last.str != "char" {
			w.put(1, last.str)
		} else {
			w.keep(1)
		}
		return
	}
	if len(parts) == 1 {
		if last.kind == tokQuoted && last.str != "char" && typeWords[last.str] {
			w.put(1, last.str) // "text" is text.
			return
		}
		if moduleType(last) || last.kind == tokIdent && reserved(last.str) {
			w.keep(1)
			return
		}
	}
	w.udt(n, strings.Join(parts, "\x00"))
}

func (w *rewrites) udt(n int, name string) {
	k := len(w.f.side.types)
	w.f.side.types = append(w.f.side.types, udtRef{name: name})
	w.put(n, fmt.Sprintf("VARBIT(%d)", udtWidth+k))
}

// ConflictConstraint returns the name in ON CONFLICT ON CONSTRAINT name.
func ConflictConstraint(oc *tree.OnConflict) (string, bool) {
	if oc == nil || len(oc.Columns) != 1 {
		return "", false
	}
	return strings.CutPrefix(string(oc.Columns[0]), constraintMarker)
}

// GroupingSetsFunc is the function that GROUPING SETS becomes.
const GroupingSetsFunc = `"grouping sets"`

// ConflictKind says what an element of ON CONFLICT (…) WHERE p is.
type ConflictKind int

// The kinds of elements.
const (
	ConflictColumn ConflictKind = iota
	ConflictExpr
	ConflictPredicate
)

// ConflictTarget reads an element of ON CONFLICT: the name of a column, or the text
// of an expression or of the predicate.
func ConflictTarget(n tree.Name) (ConflictKind, string) {
	if s, ok := strings.CutPrefix(string(n), exprMarker); ok {
		return ConflictExpr, s
	}
	if s, ok := strings.CutPrefix(string(n), predicateMarker); ok {
		return ConflictPredicate, s
	}
	return ConflictColumn, string(n)
}

// IdentityOf returns the GENERATED … AS IDENTITY clause of a column. Its
// DefaultExpr must not be used then.
func IdentityOf(col *tree.ColumnTableDef) (*Identity, error) {
	fn, ok := col.DefaultExpr.Expr.(*tree.FuncExpr)
	if !ok || len(fn.Exprs) != 2 {
		return nil, nil
	}
	name, ok := fn.Func.FunctionReference.(*tree.UnresolvedName)
	if !ok || name.NumParts != 1 || name.Parts[0] != identityFunc {
		return nil, nil
	}
	kind, ok1 := fn.Exprs[0].(*tree.StrVal)
	opts, ok2 := fn.Exprs[1].(*tree.StrVal)
	if !ok1 || !ok2 {
		return nil, nil
	}
	id := &Identity{Always: kind.RawString() == "always"}
	var err error
	id.Options, err = ParseSequenceOptions(opts.RawString())
	return id, err
}
