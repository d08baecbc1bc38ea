package sql

import (
	"math"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// defaultTableRows is assumed of tables that nobody has counted.
const defaultTableRows = 1000

// estimate guesses how many rows n yields. It is used to compare plans, so only
// orders of magnitude matter.
func (o *optimizer) estimate(n rel) float64 {
	switch t := n.(type) {
	case *scanNode:
		return max(o.tableRows(t)*o.scanSelectivity(t), 1)
	case *virtualNode, *sourceNode:
		return 200
	case *valuesNode:
		return float64(len(t.rows))
	case *filterNode:
		r := o.estimate(t.in)
		for _, c := range t.conds {
			r *= selectivity(c)
		}
		return max(r, 1)
	case *joinNode:
		l, r := o.estimate(t.left), o.estimate(t.right)
		switch t.kind {
		case joinSemi, joinAnti:
			return max(l/2, 1)
		}
		est := l * r
		eq := false
		for _, c := range t.on {
			if isEquality(c) {
				if !eq {
					est = max(l, r)
					eq = true
				} else {
					est *= 0.5
				}
			} else {
				est *= selectivity(c)
			}
		}
		if t.lateral && !eq {
			est = l * max(r, 1)
		}
		switch t.kind {
		case joinLeft:
			est = max(est, l)
		case joinRight:
			est = max(est, r)
		case joinFull:
			est = max(est, l+r)
		}
		return max(est, 1)
	case *groupNode:
		if t.scalar {
			return 1
		}
		return max(o.estimate(t.in)/10, 1)
	case *distinctNode:
		return max(o.estimate(t.in)/2, 1)
	case *limitNode:
		r := o.estimate(t.in)
		if k, ok := intDatum(t.limit); ok && t.limit != nil {
			return max(min(r, float64(k)), 1)
		}
		return r
	case *setOpNode:
		return o.estimate(t.left) + o.estimate(t.right)
	case *projectSetNode:
		return o.estimate(t.in) * 10
	case *maxOneRowNode:
		return 1
	case *cteScanNode:
		return 100
	case *mutationNode:
		return 100
	}
	if in := inputs(n); len(in) > 0 {
		return o.estimate(in[0])
	}
	return 1
}

func (o *optimizer) tableRows(s *scanNode) float64 {
	if n, ok := o.p.srv.stats.rows(s.tab.desc.ID()); ok {
		return max(float64(n), 1)
	}
	return defaultTableRows
}

// scanSelectivity is the part of the table that a scan's filters leave.
func (o *optimizer) scanSelectivity(s *scanNode) float64 {
	sel := 1.0
	for _, f := range s.filters {
		sel *= selectivity(f)
	}
	// All columns of a unique index fixed: one row.
	own := s.cols()
	for _, x := range s.tab.desc.PublicIndexes() {
		if !x.Unique {
			continue
		}
		all := true
		for _, k := range x.KeyColumns {
			id, ok := s.tab.colOf(k)
			all = all && ok && hasEquality(s.filters, id, own)
		}
		if all {
			return math.Min(sel, 1/o.tableRows(s))
		}
	}
	return sel
}

func hasEquality(conds []tree.TypedExpr, id colID, own colSet) bool {
	for _, c := range conds {
		cmp, ok := c.(*tree.ComparisonExpr)
		if !ok || cmp.Operator != tree.EQ {
			continue
		}
		for _, side := range [][2]tree.Expr{{cmp.Left, cmp.Right}, {cmp.Right, cmp.Left}} {
			r, ok := side[0].(*colRef)
			if ok && r.id == id {
				if cols := colsOf(side[1].(tree.TypedExpr)); !cols.intersects(own) {
					return true
				}
			}
		}
	}
	return false
}

// selectivity guesses how often a condition holds.
func selectivity(c tree.TypedExpr) float64 {
	switch t := c.(type) {
	case *tree.ComparisonExpr:
		switch t.Operator {
		case tree.EQ, tree.IsNotDistinctFrom:
			return 0.01
		case tree.In:
			if tup, ok := t.Right.(*tree.Tuple); ok {
				return math.Min(0.01*float64(len(tup.Exprs)), 0.5)
			}
			return 0.05
		case tree.Any:
			return 0.05
		case tree.LT, tree.LE, tree.GT, tree.GE:
			return 0.3
		case tree.Like, tree.ILike:
			return 0.1
		case tree.IsDistinctFrom, tree.NE:
			return 0.9
		}
	case *tree.RangeCond:
		return 0.1
	case *tree.OrExpr:
		return math.Min(selectivity(t.TypedLeft())+selectivity(t.TypedRight()), 1)
	case *tree.AndExpr:
		return selectivity(t.TypedLeft()) * selectivity(t.TypedRight())
	}
	return 0.5
}

// joinOrder orders maximal groups of inner joins: it starts with the smallest
// input and goes on with the one that, being connected, gives the fewest rows.
func (o *optimizer) joinOrder(n rel) rel {
	j, ok := n.(*joinNode)
	if !ok || j.kind != joinInner || j.lateral || j.hint != "" {
		replaceInputs(n, o.joinOrder)
		return n
	}
	var leaves []rel
	var conds []tree.TypedExpr
	var flatten func(rel)
	flatten = func(n rel) {
		if j, ok := n.(*joinNode); ok && j.kind == joinInner && !j.lateral && j.hint == "" {
			flatten(j.left)
			flatten(j.right)
			conds = append(conds, j.on...)
			return
		}
		leaves = append(leaves, o.joinOrder(n))
	}
	flatten(n)
	if len(leaves) == 2 {
		j.left, j.right = leaves[0], leaves[1]
		return j
	}
	sizes := make([]float64, len(leaves))
	for i, l := range leaves {
		sizes[i] = o.estimate(l)
	}
	done := make([]bool, len(leaves))
	pick := func(i int) rel {
		done[i] = true
		return leaves[i]
	}
	first := 0
	for i := range leaves {
		if sizes[i] < sizes[first] {
			first = i
		}
	}
	cur := pick(first)
	curCols := cur.cols().copy()
	for range len(leaves) - 1 {
		best, bestSize, bestConnected := -1, math.Inf(1), false
		for i, l := range leaves {
			if done[i] {
				continue
			}
			connected := false
			both := curCols.copy()
			both.union(l.cols())
			for _, c := range conds {
				cols := colsOf(c)
				if cols.intersects(curCols) && cols.intersects(l.cols()) && localSubset(cols, both, allCols(leaves)) {
					connected = true
				}
			}
			if (connected && !bestConnected) || (connected == bestConnected && sizes[i] < bestSize) {
				best, bestSize, bestConnected = i, sizes[i], connected
			}
		}
		next := pick(best)
		nj := &joinNode{kind: joinInner, left: cur, right: next}
		curCols.union(next.cols())
		var rest []tree.TypedExpr
		for _, c := range conds {
			if localSubset(colsOf(c), curCols, allCols(leaves)) {
				nj.on = append(nj.on, c)
			} else {
				rest = append(rest, c)
			}
		}
		conds = rest
		cur = nj
	}
	return wrapFilter(cur, conds)
}

func allCols(leaves []rel) colSet {
	var s colSet
	for _, l := range leaves {
		s.union(l.cols())
	}
	return s
}
