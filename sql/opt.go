package sql

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/sql/builtins"
)

// optimizer rewrites a bound plan. The passes are few and each is sound by
// itself, so that plans stay predictable:
//
//  1. WITH queries that are read once move to their place;
//  2. EXISTS and IN conditions become semi and anti joins;
//  3. conditions sink to the lowest node that has their columns;
//  4. inner joins are ordered, smallest connected input first (opt_join.go);
//  5. each scan chooses an index, joins choose a method, sorts that an index
//     makes needless disappear (opt_access.go).
type optimizer struct {
	p  *planner
	md *metadata
	// used are the columns that anything reads, in the whole statement.
	used colSet
}

// optimize rewrites the plan n, of which the columns out are wanted.
func (p *planner) optimize(md *metadata, n rel, out []colID) rel {
	o := &optimizer{p: p, md: md, used: makeColSet(out...)}
	n = o.rewrite(n)
	o.collectUsed(n, map[*cteDef]bool{})
	return o.choose(n, map[*cteDef]bool{})
}

// rewrite is the part that needs no costs of access: passes 1 to 4.
func (o *optimizer) rewrite(n rel) rel {
	n = o.inline(n)
	n = o.unnest(n)
	n = o.push(n, nil)
	n = o.joinOrder(n)
	o.eachSubplan(n, o.rewrite, func(d *cteDef) bool {
		seen := d.optimized
		d.optimized = true
		return !seen
	})
	return n
}

// choose is pass 5, for n and the plans inside of it.
func (o *optimizer) choose(n rel, seen map[*cteDef]bool) rel {
	n = o.access(n, nil, 0)
	o.eachSubplan(n, func(n rel) rel { return o.choose(n, seen) }, func(d *cteDef) bool {
		first := !seen[d]
		seen[d] = true
		return first
	})
	return n
}

// eachSubplan replaces the plans inside of expressions and of WITH queries.
func (o *optimizer) eachSubplan(n rel, fn func(rel) rel, visit func(*cteDef) bool) {
	cte := func(d *cteDef) {
		if !visit(d) {
			return
		}
		d.in = fn(d.in)
		if d.step != nil {
			d.step = fn(d.step)
		}
	}
	visitRel(n, func(n rel) {
		mapExprs(n, func(e tree.TypedExpr) tree.TypedExpr {
			if !hasSubquery(e) {
				return e
			}
			return rewriteExpr(e, func(x tree.TypedExpr) tree.TypedExpr {
				if s, ok := x.(*subqueryExpr); ok {
					c := *s
					c.in = fn(s.in)
					if s.left != nil && hasSubquery(s.left) {
						c.left = rewriteExpr(s.left, func(y tree.TypedExpr) tree.TypedExpr {
							if s2, ok := y.(*subqueryExpr); ok {
								c2 := *s2
								c2.in = fn(s2.in)
								return &c2
							}
							return nil
						})
					}
					return &c
				}
				return nil
			})
		})
		switch t := n.(type) {
		case *cteScanNode:
			cte(t.def)
		case *withNode:
			for _, d := range t.defs {
				cte(d)
			}
		}
	})
}

// collectUsed fills o.used.
func (o *optimizer) collectUsed(n rel, seen map[*cteDef]bool) {
	cte := func(d *cteDef) {
		if seen[d] {
			return
		}
		seen[d] = true
		o.used.union(makeColSet(d.inCols...))
		o.used.union(makeColSet(d.stepCols...))
		o.collectUsed(d.in, seen)
		if d.step != nil {
			o.collectUsed(d.step, seen)
		}
	}
	visitRel(n, func(n rel) {
		directCols(n, &o.used)
		mapExprsConst(n, func(e tree.TypedExpr) {
			exprCols(e, &o.used)
			if !hasSubquery(e) {
				return
			}
			rewriteExpr(e, func(x tree.TypedExpr) tree.TypedExpr {
				if s, ok := x.(*subqueryExpr); ok {
					o.used.union(makeColSet(s.out...))
					o.used.union(s.outer)
					o.collectUsed(s.in, seen)
				}
				return nil
			})
		})
		switch t := n.(type) {
		case *cteScanNode:
			cte(t.def)
		case *withNode:
			for _, d := range t.defs {
				cte(d)
			}
		}
	})
}

// inline puts WITH queries with one reader in its place.
func (o *optimizer) inline(n rel) rel {
	if c, ok := n.(*cteScanNode); ok {
		d := c.def
		if d.refs != 1 || d.mutates || d.step != nil || c.working || hasVolatileRel(d.in) {
			return n
		}
		p := &projectNode{in: o.inline(d.in)}
		for i, id := range c.outCols {
			p.items = append(p.items, item{id, &colRef{id: d.inCols[i], typ: d.outTypes[i], name: d.outNames[i]}})
		}
		return p
	}
	replaceInputs(n, o.inline)
	return n
}

// unnest turns conditions with subqueries into joins.
func (o *optimizer) unnest(n rel) rel {
	replaceInputs(n, o.unnest)
	f, ok := n.(*filterNode)
	if !ok {
		return n
	}
	in := f.in
	var rest []tree.TypedExpr
	for _, c := range f.conds {
		if j := o.unnestCond(c, in); j != nil {
			in = j
			continue
		}
		rest = append(rest, c)
	}
	if len(rest) == 0 {
		return in
	}
	f.in, f.conds = in, rest
	return f
}

// unnestCond returns in joined with the subquery of c, or nil.
func (o *optimizer) unnestCond(c tree.TypedExpr, in rel) rel {
	anti := false
	if not, ok := c.(*tree.NotExpr); ok {
		anti = true
		c = not.TypedInnerExpr()
	}
	s, ok := c.(*subqueryExpr)
	if !ok {
		return nil
	}
	if hasVolatileRel(s.in) {
		return nil
	}
	j := &joinNode{kind: joinSemi, left: in}
	switch {
	case s.kind == subExists:
		j.right = stripForExists(s.in)
	case s.kind == subAny:
		if hasVolatile(s.left) || hasSubquery(s.left) {
			return nil
		}
		neg := s.negated != anti
		m := map[colID]tree.TypedExpr{}
		lefts := []tree.TypedExpr{s.left}
		if t, ok := s.left.(*tree.Tuple); ok {
			lefts = lefts[:0]
			for _, e := range t.Exprs {
				lefts = append(lefts, e.(tree.TypedExpr))
			}
		}
		for i, id := range s.leftIDs {
			m[id] = lefts[i]
		}
		j.right = s.in
		on := splitTuples(substitute(s.cmp, m))
		if neg {
			// NOT IN and NULLs: only a join that knows them, or columns that
			// have none.
			nulls := o.mayBeNull(s.left, in) || o.anyMayBeNull(s.out, s.in)
			if nulls {
				if len(lefts) != 1 || !s.outer.empty() || !isEquality(s.cmp) {
					return nil
				}
				j.nullAware = true
			}
		}
		anti = neg
		j.on = on
	default:
		return nil
	}
	if anti {
		j.kind = joinAnti
	}
	if !s.outer.empty() {
		right, conds := o.pullUp(j.right, in.cols())
		j.right = right
		if j.nullAware && len(conds) > 0 {
			return nil
		}
		j.on = append(j.on, conds...)
		j.lateral = freeCols(right).intersects(in.cols())
	}
	return j
}

func isEquality(e tree.TypedExpr) bool {
	c, ok := e.(*tree.ComparisonExpr)
	return ok && c.Operator == tree.EQ
}

// splitTuples turns (a, b) = (c, d) into a = c AND b = d.
func splitTuples(e tree.TypedExpr) []tree.TypedExpr {
	c, ok := e.(*tree.ComparisonExpr)
	if !ok || c.Operator != tree.EQ {
		return []tree.TypedExpr{e}
	}
	l, lok := c.Left.(*tree.Tuple)
	r, rok := c.Right.(*tree.Tuple)
	if !lok || !rok || len(l.Exprs) != len(r.Exprs) {
		return []tree.TypedExpr{e}
	}
	var out []tree.TypedExpr
	for i := range l.Exprs {
		out = append(out, tree.NewTypedComparisonExpr(tree.EQ, l.Exprs[i].(tree.TypedExpr), r.Exprs[i].(tree.TypedExpr)))
	}
	return out
}

// stripForExists removes what does not matter to whether there is a row.
func stripForExists(n rel) rel {
	for {
		switch t := n.(type) {
		case *projectNode:
			n = t.in
		case *sortNode:
			n = t.in
		case *distinctNode:
			n = t.in
		case *groupNode:
			if t.scalar {
				return n
			}
			n = t.in
		case *limitNode:
			if k, ok := intDatum(t.limit); ok && k > 0 && t.offset == nil {
				n = t.in
				continue
			}
			return n
		default:
			return n
		}
	}
}

// pullUp takes the conditions that use columns of outer out of the upper nodes
// of a subquery's plan, so that they can become join conditions.
func (o *optimizer) pullUp(n rel, outer colSet) (rel, []tree.TypedExpr) {
	switch t := n.(type) {
	case *filterNode:
		in, conds := o.pullUp(t.in, outer)
		var keep []tree.TypedExpr
		for _, c := range t.conds {
			cols := colsOf(c)
			if cols.intersects(outer) {
				conds = append(conds, c)
			} else {
				keep = append(keep, c)
			}
		}
		if len(keep) == 0 {
			return in, conds
		}
		return &filterNode{in: in, conds: keep}, conds
	case *projectNode:
		// The conditions below may use columns that the projection passes on:
		// it passes on all of its input.
		in, conds := o.pullUp(t.in, outer)
		t.in = in
		return t, conds
	case *sortNode:
		in, conds := o.pullUp(t.in, outer)
		return in, conds
	case *joinNode:
		if t.kind != joinInner || t.lateral {
			return n, nil
		}
		l, lc := o.pullUp(t.left, outer)
		r, rc := o.pullUp(t.right, outer)
		t.left, t.right = l, r
		conds := append(lc, rc...)
		var keep []tree.TypedExpr
		for _, c := range t.on {
			cols := colsOf(c)
			if cols.intersects(outer) {
				conds = append(conds, c)
			} else {
				keep = append(keep, c)
			}
		}
		t.on = keep
		return t, conds
	}
	return n, nil
}

// mayBeNull says whether an expression over rows of in can be NULL.
func (o *optimizer) mayBeNull(e tree.TypedExpr, in rel) bool {
	switch t := e.(type) {
	case *colRef:
		return o.anyMayBeNull([]colID{t.id}, in)
	case tree.Datum:
		return t == tree.DNull
	case *tree.Tuple:
		for _, x := range t.Exprs {
			if o.mayBeNull(x.(tree.TypedExpr), in) {
				return true
			}
		}
		return false
	}
	return true
}

// anyMayBeNull is true unless all ids are NOT NULL columns that no outer join of
// n makes NULL.
func (o *optimizer) anyMayBeNull(ids []colID, n rel) bool {
	nullable := false
	var padded colSet
	visitRel(n, func(n rel) {
		j, ok := n.(*joinNode)
		if !ok {
			return
		}
		switch j.kind {
		case joinLeft:
			padded.union(j.right.cols())
		case joinRight:
			padded.union(j.left.cols())
		case joinFull:
			padded.union(j.cols())
		}
	})
	for _, id := range ids {
		m := &o.md.cols[id]
		if m.tab == nil || padded.has(id) || m.tab.columns[m.ord].Nullable {
			nullable = true
		}
	}
	return nullable
}

// hasVolatile says whether evaluating e twice, or not at all, could matter.
func hasVolatile(e tree.TypedExpr) bool {
	if e == nil {
		return false
	}
	v := &volatileVisitor{}
	tree.WalkExprConst(v, e)
	return v.found
}

type volatileVisitor struct {
	found bool
	sub   bool
}

func (v *volatileVisitor) VisitPre(e tree.Expr) (bool, tree.Expr) {
	switch t := e.(type) {
	case *tree.FuncExpr:
		if t.IsImpure() {
			v.found = true
		}
	case *subqueryExpr:
		v.sub = true
		if hasVolatileRel(t.in) {
			v.found = true
		}
	case tree.Datum:
		return false, e
	}
	return !v.found, e
}

func (v *volatileVisitor) VisitPost(e tree.Expr) tree.Expr { return e }

func hasVolatileRel(n rel) bool {
	found := false
	visitRel(n, func(n rel) {
		if _, ok := n.(*mutationNode); ok {
			found = true
		}
		if s, ok := n.(*scanNode); ok && s.lock.on {
			found = true
		}
		if c, ok := n.(*cteScanNode); ok && c.def.mutates {
			found = true
		}
		mapExprsConst(n, func(e tree.TypedExpr) {
			if !found && hasVolatile(e) {
				found = true
			}
		})
	})
	return found
}

func hasSubquery(e tree.TypedExpr) bool {
	if e == nil {
		return false
	}
	v := &volatileVisitor{}
	tree.WalkExprConst(v, e)
	return v.sub
}

// push sends conds, which hold above n, as far down as they can go.
func (o *optimizer) push(n rel, conds []tree.TypedExpr) rel {
	switch t := n.(type) {
	case *filterNode:
		return o.push(t.in, append(append([]tree.TypedExpr(nil), t.conds...), conds...))

	case *scanNode:
		var keep []tree.TypedExpr
		for _, c := range conds {
			if hasVolatile(c) {
				keep = append(keep, c)
			} else {
				t.filters = append(t.filters, c)
			}
		}
		return wrapFilter(t, keep)

	case *projectNode:
		m := map[colID]tree.TypedExpr{}
		var fixed colSet
		for _, it := range t.items {
			if hasVolatile(it.expr) || hasSubquery(it.expr) {
				fixed.add(it.id)
			} else {
				m[it.id] = it.expr
			}
		}
		down, keep := divide(conds, func(c tree.TypedExpr, cols colSet) bool {
			return !cols.intersects(fixed) && !hasVolatile(c)
		})
		for i := range down {
			down[i] = substitute(down[i], m)
		}
		t.in = o.push(t.in, down)
		return wrapFilter(t, keep)

	case *joinNode:
		return o.pushJoin(t, conds)

	case *groupNode:
		gc := makeColSet(t.groupCols...)
		down, keep := divide(conds, func(c tree.TypedExpr, cols colSet) bool {
			if t.scalar || hasVolatile(c) {
				return false
			}
			return localSubset(cols, gc, t.cols())
		})
		t.in = o.push(t.in, down)
		return wrapFilter(t, keep)

	case *distinctNode:
		on := makeColSet(t.on...)
		down, keep := divide(conds, func(c tree.TypedExpr, cols colSet) bool {
			return !hasVolatile(c) && localSubset(cols, on, t.cols())
		})
		t.in = o.push(t.in, down)
		return wrapFilter(t, keep)

	case *windowNode:
		var part colSet
		for i, f := range t.funcs {
			p := makeColSet(f.partition...)
			if i == 0 {
				part = p
				continue
			}
			for _, c := range part.ids() {
				if !p.has(c) {
					part.remove(c)
				}
			}
		}
		down, keep := divide(conds, func(c tree.TypedExpr, cols colSet) bool {
			return !hasVolatile(c) && localSubset(cols, part, t.cols())
		})
		t.in = o.push(t.in, down)
		return wrapFilter(t, keep)

	case *sortNode:
		t.in = o.push(t.in, conds)
		return t

	case *setOpNode:
		outs := makeColSet(t.outCols...)
		down, keep := divide(conds, func(c tree.TypedExpr, cols colSet) bool {
			return !hasVolatile(c) && !hasSubquery(c) && cols.intersects(outs)
		})
		side := func(in rel, ids []colID) rel {
			m := map[colID]tree.TypedExpr{}
			for i, id := range ids {
				meta := o.md.cols[t.outCols[i]]
				m[t.outCols[i]] = &colRef{id: id, typ: meta.typ, name: meta.name}
			}
			var cs []tree.TypedExpr
			for _, c := range down {
				cs = append(cs, substitute(c, m))
			}
			return o.push(in, cs)
		}
		t.left = side(t.left, t.leftCols)
		t.right = side(t.right, t.rightCols)
		return wrapFilter(t, keep)

	case *projectSetNode:
		inCols := t.in.cols()
		down, keep := divide(conds, func(c tree.TypedExpr, cols colSet) bool {
			return !hasVolatile(c) && localSubset(cols, inCols, t.cols())
		})
		t.in = o.push(t.in, down)
		return wrapFilter(t, keep)
	}
	replaceInputs(n, func(in rel) rel { return o.push(in, nil) })
	return wrapFilter(n, conds)
}

// localSubset says whether those of cols that node makes (all) are among want;
// others are of enclosing queries.
func localSubset(cols, want, all colSet) bool {
	for _, c := range cols.ids() {
		if all.has(c) && !want.has(c) {
			return false
		}
	}
	return true
}

func divide(conds []tree.TypedExpr, ok func(tree.TypedExpr, colSet) bool) (yes, no []tree.TypedExpr) {
	for _, c := range conds {
		if ok(c, colsOf(c)) {
			yes = append(yes, c)
		} else {
			no = append(no, c)
		}
	}
	return yes, no
}

func wrapFilter(n rel, conds []tree.TypedExpr) rel {
	if len(conds) == 0 {
		return n
	}
	return &filterNode{in: n, conds: conds}
}

// pushJoin distributes conditions over a join and its inputs.
func (o *optimizer) pushJoin(t *joinNode, conds []tree.TypedExpr) rel {
	lc, rc := t.left.cols(), t.right.cols()
	// A condition above that no NULL row satisfies makes an outer join an inner
	// one.
	for _, c := range conds {
		if (t.kind == joinLeft || t.kind == joinFull) && rejectsNulls(c, rc) {
			if t.kind == joinLeft {
				t.kind = joinInner
			} else {
				t.kind = joinRight
			}
		}
		if (t.kind == joinRight || t.kind == joinFull) && rejectsNulls(c, lc) {
			if t.kind == joinRight {
				t.kind = joinInner
			} else {
				t.kind = joinLeft
			}
		}
	}
	var left, right, keep []tree.TypedExpr
	for _, c := range conds {
		cols := colsOf(c)
		usesL, usesR := cols.intersects(lc), cols.intersects(rc)
		switch {
		case hasVolatile(c):
			keep = append(keep, c)
		case !usesR && (t.kind == joinInner || t.kind == joinLeft || t.kind == joinSemi || t.kind == joinAnti):
			left = append(left, c)
		case !usesL && (t.kind == joinInner || t.kind == joinRight):
			right = append(right, c)
		case t.kind == joinInner:
			t.on = append(t.on, c)
		default:
			keep = append(keep, c)
		}
	}
	var on []tree.TypedExpr
	for _, c := range t.on {
		cols := colsOf(c)
		usesL, usesR := cols.intersects(lc), cols.intersects(rc)
		switch {
		case hasVolatile(c):
			on = append(on, c)
		case !usesL && usesR && (t.kind == joinInner || t.kind == joinLeft || t.kind == joinSemi || (t.kind == joinAnti && !t.nullAware)):
			right = append(right, c)
		case usesL && !usesR && (t.kind == joinInner || t.kind == joinRight || t.kind == joinSemi):
			left = append(left, c)
		case !usesL && !usesR && t.kind == joinInner:
			left = append(left, c)
		default:
			on = append(on, c)
		}
	}
	t.on = on
	// x = y AND x = 1 gives y = 1.
	if t.kind == joinInner || t.kind == joinSemi {
		left, right = o.transfer(t, left, right)
	} else if t.kind == joinLeft {
		_, right = o.transfer(t, left, right)
	}
	t.left = o.push(t.left, left)
	t.right = o.push(t.right, right)
	return wrapFilter(t, keep)
}

// transfer copies comparisons of a join column with a constant to the other
// side of the join.
func (o *optimizer) transfer(t *joinNode, left, right []tree.TypedExpr) (l, r []tree.TypedExpr) {
	l, r = left, right
	lc := t.left.cols()
	for _, c := range t.on {
		cmp, ok := c.(*tree.ComparisonExpr)
		if !ok || cmp.Operator != tree.EQ {
			continue
		}
		a, aok := cmp.Left.(*colRef)
		b, bok := cmp.Right.(*colRef)
		if !aok || !bok || !a.typ.Identical(b.typ) {
			continue
		}
		if !lc.has(a.id) {
			a, b = b, a
		}
		if !lc.has(a.id) || lc.has(b.id) {
			continue
		}
		for _, x := range left {
			if constComparison(x, a.id) {
				r = append(r, substitute(x, map[colID]tree.TypedExpr{a.id: b}))
			}
		}
		for _, x := range right {
			if constComparison(x, b.id) {
				l = append(l, substitute(x, map[colID]tree.TypedExpr{b.id: a}))
			}
		}
	}
	return l, r
}

// constComparison says that e compares column id with something that has no
// columns.
func constComparison(e tree.TypedExpr, id colID) bool {
	c, ok := e.(*tree.ComparisonExpr)
	if !ok || hasSubquery(e) {
		return false
	}
	switch c.Operator {
	case tree.EQ, tree.LT, tree.LE, tree.GT, tree.GE, tree.In:
	default:
		return false
	}
	cols := colsOf(e)
	return cols.len() == 1 && cols.has(id)
}

// rejectsNulls says that c cannot be true on a row whose columns in s are all
// NULL.
func rejectsNulls(c tree.TypedExpr, s colSet) bool {
	switch t := c.(type) {
	case *tree.ComparisonExpr:
		switch t.Operator {
		case tree.EQ, tree.LT, tree.LE, tree.GT, tree.GE, tree.NE, tree.In, tree.Like, tree.NotLike,
			tree.ILike, tree.RegMatch, tree.RegIMatch:
			if strictIn(t.TypedLeft(), s) {
				return true
			}
			if t.Operator == tree.In {
				return false
			}
			return strictIn(t.TypedRight(), s)
		case tree.IsDistinctFrom:
			return t.Right == tree.DNull && strictIn(t.TypedLeft(), s)
		}
	case *tree.AndExpr:
		return rejectsNulls(t.TypedLeft(), s) || rejectsNulls(t.TypedRight(), s)
	case *tree.OrExpr:
		return rejectsNulls(t.TypedLeft(), s) && rejectsNulls(t.TypedRight(), s)
	case *colRef:
		return s.has(t.id)
	}
	return false
}

// strictIn says that e is NULL whenever the columns of s are.
func strictIn(e tree.TypedExpr, s colSet) bool {
	switch t := e.(type) {
	case *colRef:
		return s.has(t.id)
	case *tree.CastExpr:
		x, ok := t.Expr.(tree.TypedExpr)
		return ok && strictIn(x, s)
	case *builtins.Cast:
		return strictIn(t.Expr, s)
	case *tree.BinaryExpr:
		if t.Operator == tree.Concat {
			return false
		}
		return strictIn(t.TypedLeft(), s) || strictIn(t.TypedRight(), s)
	}
	return false
}

// intDatum reads a constant integer.
func intDatum(e tree.TypedExpr) (int64, bool) {
	if v, ok := builtins.ConstValue(e); ok {
		if d, ok := v.(*tree.DInt); ok {
			return int64(*d), true
		}
	}
	return 0, false
}
