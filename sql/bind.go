package sql

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
)

var errUnboundColumn = pgerr.New(pgerr.Internal, "a column was evaluated outside of its plan")

// binder turns syntax into a plan: it finds what names mean and which types
// expressions have.
type binder struct {
	ctx context.Context
	p   *planner
	md  *metadata
	// deps are the descriptors the plan was made from.
	deps []planDep
	// uncacheable plans depend on more than descriptors and settings.
	uncacheable bool
	// viewDepth counts views inside of views.
	viewDepth int
	// mutating are the WITH queries that change something.
	mutating []*cteDef
	// owner is set inside of a view: its owner must be allowed to read what it
	// reads.
	owner string
	// recursive are the WITH queries whose step is being bound.
	recursive []*cteDef
}

// planDep is a descriptor version that a plan depends on.
type planDep struct {
	id      catalog.ID
	version uint64
}

// outCol is a column of a query's result.
type outCol struct {
	name   string
	id     colID
	typ    *types.T
	hidden bool
	// untyped columns are literals that may still become any type.
	literal bool
}

// query is a bound query: its plan and its columns in order.
type query struct {
	in   rel
	cols []outCol
}

func (q *query) ids() []colID {
	out := make([]colID, len(q.cols))
	for i, c := range q.cols {
		out[i] = c.id
	}
	return out
}

// newCol makes a column id.
func (b *binder) newCol(name string, typ *types.T) colID {
	return b.md.add(colMeta{name: name, typ: typ})
}

// exprMode says what an expression may contain.
type exprMode struct {
	clause  string // for messages, "WHERE"
	agg     bool
	window  bool
	srf     bool
	desired *types.T
}

// bindExpr resolves the names of an expression and gives it types.
func (b *binder) bindExpr(e tree.Expr, s *scope, m exprMode) (tree.TypedExpr, error) {
	r := &resolver{b: b, s: s, m: m}
	resolved, err := r.resolve(e)
	if err != nil {
		return nil, err
	}
	want := m.desired
	if want == nil {
		want = types.Any
	}
	te, err := builtins.TypeCheck(&b.p.semaCtx, resolved, want)
	if err != nil {
		return nil, b.p.locate(err)
	}
	return te, nil
}

// bindBool is bindExpr for conditions.
func (b *binder) bindBool(e tree.Expr, s *scope, m exprMode) (tree.TypedExpr, error) {
	m.desired = types.Bool
	te, err := b.bindExpr(e, s, m)
	if err != nil {
		return nil, err
	}
	switch te.ResolvedType().Family() {
	case types.BoolFamily:
		return te, nil
	case types.UnknownFamily:
		return tree.NewTypedCastExpr(te, types.Bool)
	}
	return nil, pgerr.Newf(pgerr.DatatypeMismatch, "argument of %s must be type boolean, not type %s",
		m.clause, typeName(te.ResolvedType()))
}

// resolver replaces names, subqueries and special functions in an expression.
type resolver struct {
	b   *binder
	s   *scope
	m   exprMode
	err error
	// inAgg and inWindow bound nesting.
	inAgg, inWindow bool
	depth           int
}

func (r *resolver) resolve(e tree.Expr) (tree.Expr, error) {
	out, _ := tree.WalkExpr(r, e)
	return out, r.err
}

func (r *resolver) fail(err error) (bool, tree.Expr) {
	if r.err == nil {
		r.err = err
	}
	return false, tree.DNull
}

// maxExprDepth keeps deep expressions from exhausting the stack.
const maxExprDepth = 10000

// VisitPre implements tree.Visitor.
func (r *resolver) VisitPre(e tree.Expr) (bool, tree.Expr) {
	if r.err != nil {
		return false, e
	}
	if r.depth++; r.depth > maxExprDepth {
		return r.fail(pgerr.New("54001", "stack depth limit exceeded"))
	}
	deeper, out := r.visit(e)
	if !deeper {
		r.depth-- // VisitPost is not called.
	}
	return deeper, out
}

func (r *resolver) visit(e tree.Expr) (bool, tree.Expr) {
	switch t := e.(type) {
	case *tree.UnresolvedName:
		return r.name(t)
	case *tree.ColumnItem:
		n := &tree.UnresolvedName{NumParts: 1}
		n.Parts[0] = string(t.ColumnName)
		if t.TableName != nil {
			n.NumParts = 1 + t.TableName.NumParts
			for i := range t.TableName.NumParts {
				n.Parts[i+1] = t.TableName.Parts[i]
			}
		}
		return r.name(n)
	case *tree.AllColumnsSelector:
		cols, err := r.b.tableStar(r.s, t)
		if err != nil {
			return r.fail(err)
		}
		return false, rowOf(cols)
	case tree.UnqualifiedStar:
		return r.fail(pgerr.New(pgerr.SyntaxError, `cannot use "*" in this context`))
	case *tree.TupleStar:
		return true, t
	case *tree.Subquery:
		sub, err := r.subquery(t)
		if err != nil {
			return r.fail(err)
		}
		return false, sub
	case *tree.ArrayFlatten:
		if sq, ok := t.Subquery.(*tree.Subquery); ok {
			sub, err := r.arraySubquery(sq)
			if err != nil {
				return r.fail(err)
			}
			return false, sub
		}
	case *tree.ComparisonExpr:
		if sub, ok := stripParens(t.Right).(*tree.Subquery); ok && !sub.Exists {
			if x, handled, err := r.quantified(t, sub); err != nil {
				return r.fail(err)
			} else if handled {
				return false, x
			}
		}
	case *tree.FuncExpr:
		return r.function(t)
	case *parser.UDTCast:
		x, err := r.userCast(t)
		if err != nil {
			return r.fail(err)
		}
		return false, x
	case *tree.CastExpr:
		if x, ok, err := r.cast(t); err != nil {
			return r.fail(err)
		} else if ok {
			return false, x
		}
	case *tree.Placeholder:
		if int(t.Idx) >= len(r.b.p.semaCtx.Placeholders.Types) {
			return r.fail(pgerr.Newf(pgerr.UndefinedParameter, "there is no parameter $%d", t.Idx+1))
		}
		// A copy: type checking writes into it, and the syntax tree is kept.
		c := *t
		return false, &c
	case *tree.IndexedVar:
		return r.fail(pgerr.New(pgerr.SyntaxError, "ordinal column references are not supported"))
	}
	return true, e
}

// VisitPost implements tree.Visitor.
func (r *resolver) VisitPost(e tree.Expr) tree.Expr {
	r.depth--
	if c, ok := e.(*tree.ComparisonExpr); ok && r.err == nil {
		return r.enumComparison(c)
	}
	return e
}

func stripParens(e tree.Expr) tree.Expr {
	for {
		p, ok := e.(*tree.ParenExpr)
		if !ok {
			return e
		}
		e = p.Expr
	}
}

// name resolves a column, or a table used as a value.
func (r *resolver) name(n *tree.UnresolvedName) (bool, tree.Expr) {
	if n.Star {
		vn, err := n.NormalizeVarName()
		if err != nil {
			return r.fail(err)
		}
		return r.visit(vn)
	}
	c, err := r.s.resolve(n)
	if err != nil {
		// A bare table name is its row; a pseudo-function may lack its
		// parentheses.
		if n.NumParts == 1 {
			if from, cols := r.s.resolveTable(n.Parts[0]); from != nil {
				return false, rowOf(cols)
			}
		}
		if n.Parts[0] == "tableoid" {
			if id, ok := r.s.tableOID(n); ok {
				return false, tree.NewDOid(tree.DInt(id))
			}
		}
		return r.fail(r.b.p.locateName(err, n.Parts[0]))
	}
	return false, c.ref()
}

// rowOf builds the row value of some columns.
func rowOf(cols []scopeCol) tree.Expr {
	if len(cols) == 1 && cols[0].scalar {
		return cols[0].ref()
	}
	t := &tree.Tuple{Row: true}
	for i := range cols {
		t.Exprs = append(t.Exprs, cols[i].ref())
		t.Labels = append(t.Labels, cols[i].name)
	}
	return t
}

// tableStar expands t.*.
func (b *binder) tableStar(s *scope, sel *tree.AllColumnsSelector) ([]scopeCol, error) {
	table := sel.TableName.Parts[0]
	_, cols := s.resolveTable(table)
	if cols == nil {
		return nil, pgerr.Newf(pgerr.UndefinedTable, "missing FROM-clause entry for table %q", table)
	}
	return cols, nil
}

// quantified binds x IN (SELECT …) and x op ANY/SOME/ALL (SELECT …), and row
// comparisons with a subquery.
func (r *resolver) quantified(t *tree.ComparisonExpr, sub *tree.Subquery) (tree.Expr, bool, error) {
	op, kind, negated := t.Operator, subAny, false
	switch t.Operator {
	case tree.In:
		op = tree.EQ
	case tree.NotIn:
		op, negated = tree.EQ, true
	case tree.Any, tree.Some:
		op = t.SubOperator
	case tree.All:
		op, kind = t.SubOperator, subAll
	default:
		if _, ok := stripParens(t.Left).(*tree.Tuple); !ok {
			return nil, false, nil
		}
		kind = subTuple
	}
	left, err := r.sub(t.Left)
	if err != nil {
		return nil, false, err
	}
	q, err := r.b.bindSelect(sub.Select, r.s.child())
	if err != nil {
		return nil, false, err
	}
	var lefts tree.Exprs
	if tup, ok := stripParens(left).(*tree.Tuple); ok {
		lefts = tup.Exprs
	} else {
		lefts = tree.Exprs{left}
	}
	if len(lefts) < len(q.cols) {
		return nil, false, pgerr.New(pgerr.SyntaxError, "subquery has too many columns")
	}
	if len(lefts) > len(q.cols) {
		return nil, false, pgerr.New(pgerr.SyntaxError, "subquery has too few columns")
	}
	if kind == subTuple {
		// One row on the right: a scalar subquery that yields a row.
		one := &subqueryExpr{kind: subTuple, in: &maxOneRowNode{q.in}, out: q.ids()}
		elems := make([]types.T, len(q.cols))
		for i, c := range q.cols {
			elems[i] = *c.typ
		}
		one.typ = types.MakeTuple(elems)
		cmp := *t
		cmp.Left, cmp.Right = left, one
		return &cmp, true, nil
	}

	sq := &subqueryExpr{kind: kind, in: q.in, out: q.ids(), typ: types.Bool, negated: negated}
	// The comparison is typed over columns standing for the operand, so that
	// both sides meet at the types that a plain comparison would have.
	ltup, rtup := &tree.Tuple{}, &tree.Tuple{}
	for i, le := range lefts {
		rt := q.cols[i].typ
		lt, err := builtins.TypeCheck(&r.b.p.semaCtx, le, rt)
		if err != nil {
			return nil, false, r.b.p.locate(err)
		}
		id := r.b.newCol("operand", lt.ResolvedType())
		sq.leftIDs = append(sq.leftIDs, id)
		lefts[i] = lt
		var lref tree.Expr = &colRef{id: id, typ: lt.ResolvedType(), name: "operand"}
		if d, ok := lt.(tree.Datum); ok && d != tree.DNull {
			lref = d
		}
		ltup.Exprs = append(ltup.Exprs, lref)
		rtup.Exprs = append(rtup.Exprs, &colRef{id: q.cols[i].id, typ: rt, name: q.cols[i].name})
	}
	var cmp tree.Expr
	if len(lefts) == 1 {
		cmp = &tree.ComparisonExpr{Operator: op, Left: ltup.Exprs[0], Right: rtup.Exprs[0]}
		sq.left = lefts[0].(tree.TypedExpr)
	} else {
		cmp = &tree.ComparisonExpr{Operator: op, Left: ltup, Right: rtup}
		tup := &tree.Tuple{Exprs: lefts}
		if sq.left, err = tup.TypeCheck(&r.b.p.semaCtx, types.Any); err != nil {
			return nil, false, err
		}
	}
	if sq.cmp, err = builtins.TypeCheck(&r.b.p.semaCtx, cmp, types.Bool); err != nil {
		return nil, false, r.b.p.locate(err)
	}
	r.b.setOuter(sq, r.s)
	return sq, true, nil
}

// sub resolves a part of the expression.
func (r *resolver) sub(e tree.Expr) (tree.Expr, error) {
	c := &resolver{b: r.b, s: r.s, m: r.m, inAgg: r.inAgg, inWindow: r.inWindow, depth: r.depth}
	return c.resolve(e)
}

// subquery binds EXISTS and scalar subqueries.
func (r *resolver) subquery(t *tree.Subquery) (tree.Expr, error) {
	q, err := r.b.bindSelect(t.Select, r.s.child())
	if err != nil {
		return nil, err
	}
	sq := &subqueryExpr{in: q.in, out: q.ids()}
	if t.Exists {
		sq.kind, sq.typ = subExists, types.Bool
	} else {
		if len(q.cols) != 1 {
			return nil, pgerr.New(pgerr.SyntaxError, "subquery must return only one column")
		}
		sq.kind, sq.typ = subScalar, q.cols[0].typ
		sq.in = &maxOneRowNode{q.in}
	}
	r.b.setOuter(sq, r.s)
	return sq, nil
}

func (r *resolver) arraySubquery(t *tree.Subquery) (tree.Expr, error) {
	q, err := r.b.bindSelect(t.Select, r.s.child())
	if err != nil {
		return nil, err
	}
	if len(q.cols) != 1 {
		return nil, pgerr.New(pgerr.SyntaxError, "subquery must return only one column")
	}
	sq := &subqueryExpr{kind: subArray, in: q.in, out: q.ids(), typ: types.MakeArray(q.cols[0].typ)}
	r.b.setOuter(sq, r.s)
	return sq, nil
}

// setOuter finds the columns of enclosing queries that a subquery uses.
func (b *binder) setOuter(sq *subqueryExpr, s *scope) {
	sq.outer = freeCols(sq.in)
}

// typeName is PostgreSQL's name of a type.
func typeName(t *types.T) string {
	if t.Family() == types.UnknownFamily {
		return "unknown"
	}
	return catalog.PGTypeName(t, nil)
}
