package sql

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/sql/exec"
)

func (k joinKind) exec() exec.JoinType {
	switch k {
	case joinLeft:
		return exec.LeftJoin
	case joinRight:
		return exec.RightJoin
	case joinFull:
		return exec.FullJoin
	case joinSemi:
		return exec.SemiJoin
	case joinAnti:
		return exec.AntiJoin
	}
	return exec.InnerJoin
}

func (c *compiler) compileJoin(t *joinNode, need colSet) (exec.Operator, *layout, error) {
	nd := withCols(need, t.on...)
	if t.lateral {
		return c.compileApply(t, nd)
	}
	left, ll, err := c.compile(t.left, nd)
	if err != nil {
		return nil, nil, err
	}
	right, rl, err := c.compile(t.right, nd)
	if err != nil {
		return nil, nil, err
	}
	both := ll.concat(rl)
	out := both
	if t.kind == joinSemi || t.kind == joinAnti {
		out = ll
	}
	f := c.p.flow

	// Equalities between the sides become hash keys.
	lc, rc := t.left.cols(), t.right.cols()
	var lkeys, rkeys []tree.TypedExpr
	var rest []tree.TypedExpr
	for _, e := range t.on {
		l, r, ok := splitEquality(e, lc, rc)
		if !ok {
			rest = append(rest, e)
			continue
		}
		lb, err := c.bind(l, ll)
		if err != nil {
			return nil, nil, err
		}
		rb, err := c.bind(r, rl)
		if err != nil {
			return nil, nil, err
		}
		lkeys, rkeys = append(lkeys, lb), append(rkeys, rb)
	}
	if len(lkeys) == 0 {
		on, err := c.bindAnd(rest, both)
		if err != nil {
			return nil, nil, err
		}
		return exec.NewNestedLoopJoin(f, left, right, t.kind.exec(), on), out, nil
	}
	nl, nr := len(ll.ids), len(rl.ids)
	left, lpos := withKeys(f, left, lkeys)
	right, rpos := withKeys(f, right, rkeys)
	extended := len(left.Types()) != nl || len(right.Types()) != nr
	if extended {
		// Key columns that were added are anonymous.
		ll = newLayout(append(append([]colID(nil), ll.ids...), make([]colID, len(left.Types())-nl)...))
		rl = newLayout(append(append([]colID(nil), rl.ids...), make([]colID, len(right.Types())-nr)...))
		both = ll.concat(rl)
		out = both
		if t.kind == joinSemi || t.kind == joinAnti {
			out = ll
		}
	}
	on, err := c.bindAnd(rest, both)
	if err != nil {
		return nil, nil, err
	}
	kind := t.kind.exec()
	if t.nullAware && kind == exec.AntiJoin {
		kind = exec.NullAwareAntiJoin
	}
	return exec.NewHashJoin(f, left, right, kind, lpos, rpos, on), out, nil
}

// splitEquality takes a = b apart if a is of one side and b of the other.
func splitEquality(e tree.TypedExpr, lc, rc colSet) (l, r tree.TypedExpr, ok bool) {
	cmp, isCmp := e.(*tree.ComparisonExpr)
	if !isCmp || cmp.Operator != tree.EQ || hasVolatile(e) || hasSubquery(e) {
		return nil, nil, false
	}
	l, r = cmp.TypedLeft(), cmp.TypedRight()
	a, b := colsOf(l), colsOf(r)
	if a.intersects(rc) && b.intersects(lc) {
		l, r, a, b = r, l, b, a
	}
	if !a.intersects(lc) || a.intersects(rc) || !b.intersects(rc) || b.intersects(lc) {
		return nil, nil, false
	}
	lt, rt := l.ResolvedType(), r.ResolvedType()
	if lt.Family() == types.TupleFamily {
		return nil, nil, false
	}
	if lt.Equivalent(rt) {
		return l, r, true
	}
	// Numbers of different kinds meet at the wider one.
	rank := map[types.Family]int{types.IntFamily: 1, types.DecimalFamily: 2, types.FloatFamily: 3}
	if rank[lt.Family()] == 0 || rank[rt.Family()] == 0 {
		return nil, nil, false
	}
	cast := func(x tree.TypedExpr, to *types.T) tree.TypedExpr {
		if to.Family() == types.DecimalFamily {
			to = types.Decimal
		} else {
			to = types.Float
		}
		ce, err := tree.NewTypedCastExpr(x, to)
		if err != nil {
			ok = false
		}
		return ce
	}
	ok = true
	if rank[lt.Family()] < rank[rt.Family()] {
		l = cast(l, rt)
	} else {
		r = cast(r, lt)
	}
	return l, r, ok
}

// withKeys makes sure that the keys are columns of op and returns where.
func withKeys(f *exec.Flow, op exec.Operator, keys []tree.TypedExpr) (exec.Operator, []int) {
	typs := op.Types()
	pos := make([]int, len(keys))
	var exprs []tree.TypedExpr
	for i, k := range keys {
		if v, ok := k.(*tree.IndexedVar); ok {
			pos[i] = v.Idx
			continue
		}
		if exprs == nil {
			for j, t := range typs {
				exprs = append(exprs, tree.NewTypedOrdinalReference(j, t))
			}
		}
		pos[i] = len(exprs)
		exprs = append(exprs, k)
	}
	if exprs == nil {
		return op, pos
	}
	return exec.NewProject(f, op, exprs), pos
}

// compileApply runs the right side for each row of the left.
func (c *compiler) compileApply(t *joinNode, need colSet) (exec.Operator, *layout, error) {
	nd := need.copy()
	nd.union(freeCols(t.right))
	left, ll, err := c.compile(t.left, nd)
	if err != nil {
		return nil, nil, err
	}
	outer := &exec.OuterRow{}
	c.frames = append(c.frames, frame{ll, outer})
	right, rl, err := c.compile(t.right, need)
	c.frames = c.frames[:len(c.frames)-1]
	if err != nil {
		return nil, nil, err
	}
	both := ll.concat(rl)
	on, err := c.bindAnd(t.on, both)
	if err != nil {
		return nil, nil, err
	}
	out := both
	if t.kind == joinSemi || t.kind == joinAnti {
		out = ll
	}
	return exec.NewApply(c.p.flow, left, right, outer, t.kind.exec(), on), out, nil
}

// subquery compiles a subquery of an expression over rows of lay.
func (c *compiler) subquery(s *subqueryExpr, lay *layout) (tree.TypedExpr, error) {
	var outer *exec.OuterRow
	saved := c.frames
	if !s.outer.empty() {
		outer = &exec.OuterRow{}
		c.frames = append(c.frames[:len(c.frames):len(c.frames)], frame{lay, outer})
	}
	defer func() { c.frames = saved }()
	f := c.p.flow
	switch s.kind {
	case subAny, subAll:
		return c.quantified(s, lay, outer)
	case subExists:
		op, _, err := c.compile(s.in, colSet{})
		if err != nil {
			return nil, err
		}
		return c.track(exec.NewSubquery(f, op, exec.ExistsSubquery, outer), op), nil
	}
	op, err := c.compileOutput(s.in, s.out)
	if err != nil {
		return nil, err
	}
	kind := exec.ScalarSubquery
	if s.kind == subArray {
		kind = exec.ArraySubquery
	}
	return c.track(exec.NewSubquery(f, op, kind, outer), op), nil
}

// track closes a subquery's plan at the end of the statement.
func (c *compiler) track(e tree.TypedExpr, op exec.Operator) tree.TypedExpr {
	c.closers = append(c.closers, op.Close)
	return e
}

// quantified compiles x op ANY (…) and x op ALL (…).
func (c *compiler) quantified(s *subqueryExpr, lay *layout, outer *exec.OuterRow) (tree.TypedExpr, error) {
	op, err := c.compileOutput(s.in, s.out)
	if err != nil {
		return nil, err
	}
	q := &quantifiedExpr{flow: c.p.flow, plan: op, outer: outer, all: s.kind == subAll, negated: s.negated, nLeft: len(s.leftIDs)}
	// The operand is of the row around the subquery.
	inner := c.frames
	if outer != nil {
		c.frames = c.frames[:len(c.frames)-1]
	}
	q.left, err = c.bind(s.left, lay)
	c.frames = inner
	if err != nil {
		return nil, err
	}
	cmpLay := newLayout(append(append([]colID(nil), s.leftIDs...), s.out...))
	if q.cmp, err = c.bind(s.cmp, cmpLay); err != nil {
		return nil, err
	}
	if outer != nil {
		// The whole row is needed to set the inner plan's view of it.
		for _, id := range lay.ids {
			if id != 0 {
				q.rowTypes = append(q.rowTypes, c.typ(id))
			} else {
				q.rowTypes = append(q.rowTypes, types.Any)
			}
		}
	}
	c.closers = append(c.closers, op.Close)
	return q, nil
}

// quantifiedExpr compares a value with the rows of a plan.
type quantifiedExpr struct {
	flow     *exec.Flow
	plan     exec.Operator
	outer    *exec.OuterRow
	left     tree.TypedExpr
	cmp      tree.TypedExpr
	nLeft    int
	all      bool
	negated  bool
	rowTypes []*types.T

	kept   []tree.Datums // rows of a plan that does not depend on the row
	loaded bool
}

var _ tree.TypedExpr = (*quantifiedExpr)(nil)
var _ tree.VariableExpr = (*quantifiedExpr)(nil)

func (q *quantifiedExpr) String() string              { return "(subquery)" }
func (q *quantifiedExpr) Format(ctx *tree.FmtCtx)     { ctx.WriteString("(subquery)") }
func (q *quantifiedExpr) Walk(tree.Visitor) tree.Expr { return q }
func (q *quantifiedExpr) ResolvedType() *types.T      { return types.Bool }
func (q *quantifiedExpr) Variable()                   {}
func (q *quantifiedExpr) TypeCheck(*tree.SemaContext, *types.T) (tree.TypedExpr, error) {
	return q, nil
}

// Eval implements tree.TypedExpr, with SQL's logic of three values.
func (q *quantifiedExpr) Eval(ctx *tree.EvalContext) (tree.Datum, error) {
	left, err := q.left.Eval(ctx)
	if err != nil {
		return nil, err
	}
	row := make(tree.Datums, q.nLeft, q.nLeft+4)
	if t, ok := left.(*tree.DTuple); ok && q.nLeft > 1 {
		copy(row, t.D)
	} else if q.nLeft == 1 {
		row[0] = left
	} else {
		for i := range row {
			row[i] = tree.DNull
		}
	}
	sawNull, decided := false, false
	check := func(r tree.Datums) (bool, error) {
		d, err := q.flow.EvalRow(q.cmp, append(row[:q.nLeft], r...))
		if err != nil {
			return false, err
		}
		if d == tree.DNull {
			sawNull = true
			return false, nil
		}
		b, err := tree.GetBool(d)
		if err != nil {
			return false, err
		}
		// ANY is decided by a true comparison, ALL by a false one.
		decided = bool(b) != q.all
		return decided, nil
	}
	if q.outer == nil {
		if err := q.load(ctx.Context); err != nil {
			return nil, err
		}
		for _, r := range q.kept {
			if stop, err := check(r); err != nil {
				return nil, err
			} else if stop {
				break
			}
		}
	} else if err := q.runCorrelated(ctx, check); err != nil {
		return nil, err
	}
	var out tree.Datum
	switch {
	case decided:
		out = tree.MakeDBool(tree.DBool(!q.all))
	case sawNull:
		return tree.DNull, nil
	default:
		out = tree.MakeDBool(tree.DBool(q.all))
	}
	if q.negated {
		return tree.MakeDBool(!*out.(*tree.DBool)), nil
	}
	return out, nil
}

func (q *quantifiedExpr) load(ctx context.Context) error {
	if q.loaded {
		return nil
	}
	q.loaded = true
	return exec.Drain(ctx, q.plan, func(r tree.Datums) error {
		n := int64(64)
		for _, d := range r {
			n += int64(d.Size()) + 16
		}
		if err := q.flow.Mem.Grow(n); err != nil {
			return err
		}
		q.kept = append(q.kept, append(tree.Datums(nil), r...))
		return nil
	})
}

// runCorrelated runs the plan for the row that the expression is evaluated on.
func (q *quantifiedExpr) runCorrelated(ctx *tree.EvalContext, check func(tree.Datums) (bool, error)) error {
	cur := make(tree.Datums, len(q.rowTypes))
	for i := range cur {
		d, err := ctx.IVarContainer.IndexedVarEval(i, ctx)
		if err != nil {
			return err
		}
		cur[i] = d
	}
	q.outer.Set(cur)
	defer q.plan.Close()
	if err := q.plan.Open(ctx.Context); err != nil {
		return err
	}
	for {
		r, err := q.plan.Next(ctx.Context)
		if err != nil || r == nil {
			return err
		}
		if stop, err := check(r); err != nil || stop {
			return err
		}
	}
}
