package sql

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// inputs returns the input nodes of n.
func inputs(n rel) []rel {
	switch t := n.(type) {
	case *projectNode:
		return []rel{t.in}
	case *filterNode:
		return []rel{t.in}
	case *joinNode:
		return []rel{t.left, t.right}
	case *groupNode:
		return []rel{t.in}
	case *windowNode:
		return []rel{t.in}
	case *projectSetNode:
		return []rel{t.in}
	case *ordinalityNode:
		return []rel{t.in}
	case *sortNode:
		return []rel{t.in}
	case *limitNode:
		return []rel{t.in}
	case *distinctNode:
		return []rel{t.in}
	case *setOpNode:
		return []rel{t.left, t.right}
	case *withNode:
		return []rel{t.in}
	case *maxOneRowNode:
		return []rel{t.in}
	case *mutationNode:
		if t.in != nil {
			return []rel{t.in}
		}
	}
	return nil
}

// replaceInputs calls fn for each input of n and stores what it returns.
func replaceInputs(n rel, fn func(rel) rel) {
	switch t := n.(type) {
	case *projectNode:
		t.in = fn(t.in)
	case *filterNode:
		t.in = fn(t.in)
	case *joinNode:
		t.left, t.right = fn(t.left), fn(t.right)
	case *groupNode:
		t.in = fn(t.in)
	case *windowNode:
		t.in = fn(t.in)
	case *projectSetNode:
		t.in = fn(t.in)
	case *ordinalityNode:
		t.in = fn(t.in)
	case *sortNode:
		t.in = fn(t.in)
	case *limitNode:
		t.in = fn(t.in)
	case *distinctNode:
		t.in = fn(t.in)
	case *setOpNode:
		t.left, t.right = fn(t.left), fn(t.right)
	case *withNode:
		t.in = fn(t.in)
	case *maxOneRowNode:
		t.in = fn(t.in)
	case *mutationNode:
		if t.in != nil {
			t.in = fn(t.in)
		}
	}
}

// mapExprs calls fn for each expression of n itself, not of its inputs, and
// stores what it returns.
func mapExprs(n rel, fn func(tree.TypedExpr) tree.TypedExpr) {
	list := func(l []tree.TypedExpr) {
		for i, e := range l {
			l[i] = fn(e)
		}
	}
	one := func(e *tree.TypedExpr) {
		if *e != nil {
			*e = fn(*e)
		}
	}
	switch t := n.(type) {
	case *scanNode:
		list(t.filters)
	case *valuesNode:
		for _, r := range t.rows {
			list(r)
		}
	case *projectNode:
		for i := range t.items {
			t.items[i].expr = fn(t.items[i].expr)
		}
	case *filterNode:
		list(t.conds)
	case *joinNode:
		list(t.on)
	case *windowNode:
		for i := range t.funcs {
			one(&t.funcs[i].startOffset)
			one(&t.funcs[i].endOffset)
		}
	case *projectSetNode:
		for i := range t.funcs {
			t.funcs[i].expr = fn(t.funcs[i].expr)
		}
	case *limitNode:
		one(&t.limit)
		one(&t.offset)
	case *mutationNode:
		t.mapExprs(fn)
	}
}

// directCols adds the columns that n uses by id rather than in expressions.
func directCols(n rel, s *colSet) {
	add := func(ids ...colID) {
		for _, c := range ids {
			if c != 0 {
				s.add(c)
			}
		}
	}
	addOrder := func(o ordering) {
		for _, c := range o {
			add(c.id)
		}
	}
	switch t := n.(type) {
	case *groupNode:
		add(t.groupCols...)
		for _, a := range t.aggs {
			add(a.args...)
			add(a.filter)
			addOrder(a.order)
		}
	case *windowNode:
		for _, f := range t.funcs {
			add(f.args...)
			add(f.filter)
			add(f.partition...)
			addOrder(f.order)
		}
	case *sortNode:
		addOrder(t.order)
	case *distinctNode:
		add(t.on...)
	case *setOpNode:
		add(t.leftCols...)
		add(t.rightCols...)
	case *mutationNode:
		t.directCols(s)
	}
}

// exprCols adds the columns an expression uses, those that its subqueries take
// from outside included.
func exprCols(e tree.TypedExpr, s *colSet) {
	if e == nil {
		return
	}
	v := colCollector{s: s}
	tree.WalkExprConst(&v, e)
}

type colCollector struct{ s *colSet }

func (v *colCollector) VisitPre(e tree.Expr) (bool, tree.Expr) {
	switch t := e.(type) {
	case *colRef:
		v.s.add(t.id)
		return false, e
	case *subqueryExpr:
		v.s.union(t.outer)
		return true, e
	case tree.Datum:
		return false, e
	}
	return true, e
}

func (v *colCollector) VisitPost(e tree.Expr) tree.Expr { return e }

// colsOf is exprCols for several expressions.
func colsOf(exprs ...tree.TypedExpr) colSet {
	var s colSet
	for _, e := range exprs {
		exprCols(e, &s)
	}
	return s
}

// freeCols are the columns that a plan uses but does not make: those of
// enclosing queries.
func freeCols(n rel) colSet {
	var used, made colSet
	seen := map[*cteDef]bool{}
	var walk func(rel)
	walk = func(n rel) {
		if n == nil {
			return
		}
		made.union(n.cols())
		if m, ok := n.(*mutationNode); ok {
			made.union(m.internalCols())
			for _, it := range m.internalItems() {
				made.add(it.id)
			}
		}
		mapExprsConst(n, func(e tree.TypedExpr) { exprCols(e, &used) })
		directCols(n, &used)
		if c, ok := n.(*cteScanNode); ok && !seen[c.def] {
			seen[c.def] = true
			walk(c.def.in)
			if c.def.step != nil {
				walk(c.def.step)
			}
		}
		for _, in := range inputs(n) {
			walk(in)
		}
	}
	walk(n)
	return used.minus(made)
}

// mapExprsConst visits the expressions of n.
func mapExprsConst(n rel, fn func(tree.TypedExpr)) {
	mapExprs(n, func(e tree.TypedExpr) tree.TypedExpr { fn(e); return e })
}

// rewriteExpr replaces parts of an expression: fn returns the replacement, or
// nil to go on below. The plans of subqueries are rewritten with it too.
func rewriteExpr(e tree.TypedExpr, fn func(tree.TypedExpr) tree.TypedExpr) tree.TypedExpr {
	if e == nil {
		return nil
	}
	v := exprRewriter{fn: fn}
	out, _ := tree.WalkExpr(&v, e)
	return out.(tree.TypedExpr)
}

type exprRewriter struct {
	fn func(tree.TypedExpr) tree.TypedExpr
}

func (v *exprRewriter) VisitPre(e tree.Expr) (bool, tree.Expr) {
	te, ok := e.(tree.TypedExpr)
	if !ok {
		return true, e
	}
	if r := v.fn(te); r != nil {
		return false, r
	}
	if _, ok := e.(tree.Datum); ok {
		return false, e
	}
	return true, e
}

func (v *exprRewriter) VisitPost(e tree.Expr) tree.Expr { return e }

// substitute replaces columns by expressions, in e and in the subqueries of e.
func substitute(e tree.TypedExpr, m map[colID]tree.TypedExpr) tree.TypedExpr {
	if len(m) == 0 {
		return e
	}
	return rewriteExpr(e, func(x tree.TypedExpr) tree.TypedExpr {
		switch t := x.(type) {
		case *colRef:
			return m[t.id]
		case *subqueryExpr:
			hit := false
			for c := range m {
				if t.outer.has(c) {
					hit = true
				}
			}
			if !hit {
				return nil
			}
			c := *t
			c.left = substitute(t.left, m)
			substituteRel(c.in, m)
			c.cmp = substitute(t.cmp, m)
			c.outer = freeCols(c.in)
			return &c
		}
		return nil
	})
}

// substituteRel replaces columns of enclosing queries in a plan, in place.
func substituteRel(n rel, m map[colID]tree.TypedExpr) {
	mapExprs(n, func(e tree.TypedExpr) tree.TypedExpr { return substitute(e, m) })
	for _, in := range inputs(n) {
		substituteRel(in, m)
	}
}

// exprKey is a text that is equal for equal expressions.
func exprKey(e tree.TypedExpr) string {
	return tree.AsStringWithFlags(e, tree.FmtParsable)
}

// visitRel calls fn for n and all nodes below it, subqueries excluded.
func visitRel(n rel, fn func(rel)) {
	if n == nil {
		return
	}
	fn(n)
	for _, in := range inputs(n) {
		visitRel(in, fn)
	}
}
