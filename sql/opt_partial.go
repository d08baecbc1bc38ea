package sql

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// A query may use a partial index if its conditions imply the index's predicate:
// whenever all of them are true, so is the predicate. The proofs tried are simple
// ones: the same condition, ranges and lists of constants, and NOT NULL from what is
// never true of NULL. Two expressions are the same if their texts are.

// overIndex writes conditions in terms of an index's hidden columns where they use
// the expressions behind them.
func (t *tableRef) overIndex(filters []tree.TypedExpr, x *catalog.Index) []tree.TypedExpr {
	if len(t.exprs) == 0 {
		return filters
	}
	var byText map[string]*colRef
	for _, k := range x.KeyColumns {
		e := t.exprs[k.ID]
		if id, ok := t.colOf(k); ok && e != nil {
			if byText == nil {
				byText = map[string]*colRef{}
			}
			byText[tree.AsString(e)] = &colRef{id: id, typ: k.Type, name: k.Name}
		}
	}
	if byText == nil {
		return filters
	}
	out := make([]tree.TypedExpr, len(filters))
	for i, f := range filters {
		out[i] = rewriteExpr(f, func(e tree.TypedExpr) tree.TypedExpr {
			if _, isCol := e.(*colRef); isCol || e.ResolvedType() == nil {
				return nil
			}
			if r := byText[tree.AsString(e)]; r != nil && r.typ.Equivalent(e.ResolvedType()) {
				return r
			}
			return nil
		})
	}
	return out
}

// indexedExpr returns the hidden column that has the value of e in the scan below n.
func indexedExpr(n rel, e tree.TypedExpr) (colID, bool) {
	s := innerScan(n)
	if s == nil || len(s.tab.exprs) == 0 {
		return 0, false
	}
	text := tree.AsString(e)
	for i, c := range s.tab.columns {
		if x := s.tab.exprs[c.ID]; x != nil && tree.AsString(x) == text {
			return s.tab.colIDs[i], true
		}
	}
	return 0, false
}

// holdsInIndex says whether a condition is part of the predicate itself, so that
// every entry of the index satisfies it.
func holdsInIndex(f tree.TypedExpr, conds []tree.TypedExpr) bool {
	text := tree.AsString(f)
	for _, c := range conds {
		if tree.AsString(c) == text {
			return true
		}
	}
	return false
}

// impliesAll says whether the conditions in filters imply all of conds.
func impliesAll(filters, conds []tree.TypedExpr) bool {
	for _, c := range conds {
		if !implies(filters, c) {
			return false
		}
	}
	return true
}

// implies says whether the conditions in filters imply c.
func implies(filters []tree.TypedExpr, c tree.TypedExpr) bool {
	c = unparen(c)
	switch t := c.(type) {
	case *tree.AndExpr:
		return implies(filters, t.TypedLeft()) && implies(filters, t.TypedRight())
	case *tree.OrExpr:
		if implies(filters, t.TypedLeft()) || implies(filters, t.TypedRight()) {
			return true
		}
	}
	if v, ok := builtins.ConstValue(c); ok && v == tree.DBoolTrue {
		return true
	}
	for _, f := range filters {
		if impliedBy(f, c) {
			return true
		}
	}
	return impliedByRange(filters, c)
}

func unparen(e tree.TypedExpr) tree.TypedExpr {
	for {
		p, ok := e.(*tree.ParenExpr)
		if !ok {
			return e
		}
		e = p.TypedInnerExpr()
	}
}

// impliedBy says whether f alone implies c.
func impliedBy(f, c tree.TypedExpr) bool {
	f = unparen(f)
	if tree.AsString(f) == tree.AsString(c) {
		return true
	}
	switch t := f.(type) {
	case *tree.AndExpr:
		return impliedBy(t.TypedLeft(), c) || impliedBy(t.TypedRight(), c)
	case *tree.OrExpr:
		return implies([]tree.TypedExpr{t.TypedLeft()}, c) && implies([]tree.TypedExpr{t.TypedRight()}, c)
	}
	// Boolean columns: b, b = true, b IS TRUE; NOT b, b = false.
	if col, val, ok := boolCondition(f); ok {
		if col2, val2, ok := boolCondition(c); ok && col == col2 && val == val2 {
			return true
		}
	}
	// x IS NOT NULL follows from what is not true of a NULL.
	if n, ok := c.(*tree.ComparisonExpr); ok && n.Operator == tree.IsDistinctFrom && n.Right == tree.DNull {
		if r, ok := n.Left.(*colRef); ok && rejectsNulls(f, makeColSet(r.id)) {
			return true
		}
		// Also of an expression: (e op …) implies e IS NOT NULL. Not of a row, which
		// may differ from another by one value and have NULLs beside it.
		if fc, ok := f.(*tree.ComparisonExpr); ok && strictComparison(fc.Operator) && tree.AsString(fc.Left) == tree.AsString(n.Left) &&
			fc.TypedLeft().ResolvedType().Family() != types.TupleFamily {
			return true
		}
	}
	return false
}

func strictComparison(op tree.ComparisonOperator) bool {
	switch op {
	case tree.EQ, tree.LT, tree.LE, tree.GT, tree.GE, tree.NE, tree.In, tree.Like, tree.ILike:
		return true
	}
	return false
}

// boolCondition recognizes a condition that fixes a boolean column. NOT (b IS TRUE)
// does not: it is true of NULL.
func boolCondition(e tree.TypedExpr) (col colID, val, ok bool) {
	switch t := unparen(e).(type) {
	case *colRef:
		return t.id, true, t.typ.Family() == types.BoolFamily
	case *tree.NotExpr:
		inner := unparen(t.TypedInnerExpr())
		if cmp, isCmp := inner.(*tree.ComparisonExpr); isCmp && cmp.Operator == tree.IsNotDistinctFrom {
			return 0, false, false
		}
		c, v, ok := boolCondition(inner)
		return c, !v, ok
	case *tree.ComparisonExpr:
		r, isCol := t.Left.(*colRef)
		d, isConst := builtins.ConstValue(t.TypedRight())
		if isCol && isConst && (t.Operator == tree.EQ || t.Operator == tree.IsNotDistinctFrom) {
			if b, isBool := d.(*tree.DBool); isBool {
				return r.id, bool(*b), true
			}
		}
	}
	return 0, false, false
}

// valueSet is a set of values of one expression: a list, or a range.
type valueSet struct {
	expr           string
	list           []tree.Datum // nil: a range
	lo, hi         tree.Datum   // nil: open
	loExcl, hiExcl bool
	not            tree.Datum // with nothing else: all but this
}

// setOf reads a condition as membership of an expression in a set of constants.
func setOf(e tree.TypedExpr) (valueSet, bool) {
	switch t := unparen(e).(type) {
	case *tree.RangeCond:
		if t.Not || t.Symmetric {
			return valueSet{}, false
		}
		lo, ok1 := builtins.ConstValue(t.TypedFrom())
		hi, ok2 := builtins.ConstValue(t.TypedTo())
		if !ok1 || !ok2 || lo == tree.DNull || hi == tree.DNull {
			return valueSet{}, false
		}
		l, ok := t.Left.(tree.TypedExpr)
		if !ok || !comparableTypes(l.ResolvedType(), lo.ResolvedType()) || !comparableTypes(l.ResolvedType(), hi.ResolvedType()) {
			return valueSet{}, false
		}
		return valueSet{expr: typedText(l), lo: lo, hi: hi}, true
	case *tree.ComparisonExpr:
		l, r, op := t.TypedLeft(), t.TypedRight(), t.Operator
		if op == tree.In {
			return listOf(l, r)
		}
		if _, ok := builtins.ConstValue(l); ok {
			l, r = r, l
			switch op {
			case tree.LT:
				op = tree.GT
			case tree.LE:
				op = tree.GE
			case tree.GT:
				op = tree.LT
			case tree.GE:
				op = tree.LE
			case tree.EQ, tree.NE:
			default:
				return valueSet{}, false
			}
		}
		d, ok := builtins.ConstValue(r)
		if !ok || d == tree.DNull || !comparableTypes(l.ResolvedType(), d.ResolvedType()) {
			return valueSet{}, false
		}
		s := valueSet{expr: typedText(l)}
		switch op {
		case tree.EQ:
			s.list = []tree.Datum{d}
		case tree.NE:
			s.not = d
		case tree.LT:
			s.hi, s.hiExcl = d, true
		case tree.LE:
			s.hi = d
		case tree.GT:
			s.lo, s.loExcl = d, true
		case tree.GE:
			s.lo = d
		default:
			return valueSet{}, false
		}
		return s, true
	}
	return valueSet{}, false
}

// typedText names an expression with the kind of its value: casts that nobody wrote
// do not show in the text.
func typedText(e tree.TypedExpr) string {
	return e.ResolvedType().Family().String() + " " + tree.AsString(e)
}

// comparableTypes: constants of the same type compare as the column does. The types
// that compare otherwise than their values are left out.
func comparableTypes(a, b *types.T) bool {
	if a.Family() != b.Family() {
		return false
	}
	switch a.Family() {
	case types.JsonFamily, types.ArrayFamily, types.TupleFamily, types.UnknownFamily:
		return false
	}
	return true
}

func listOf(l, r tree.TypedExpr) (valueSet, bool) {
	s := valueSet{expr: typedText(l), list: []tree.Datum{}}
	add := func(d tree.Datum) bool {
		if d == tree.DNull {
			return true // Equal to nothing.
		}
		s.list = append(s.list, d)
		return comparableTypes(l.ResolvedType(), d.ResolvedType())
	}
	switch t := r.(type) {
	case *tree.DTuple:
		for _, d := range t.D {
			if !add(d) {
				return s, false
			}
		}
		return s, true
	case *tree.Tuple:
		for _, e := range t.Exprs {
			te, ok := e.(tree.TypedExpr)
			if !ok {
				return s, false
			}
			d, ok := builtins.ConstValue(te)
			if !ok || !add(d) {
				return s, false
			}
		}
		return s, true
	}
	return s, false
}

// impliedByRange proves c, a set of values, from the sets that the filters bound the
// same expression to.
func impliedByRange(filters []tree.TypedExpr, c tree.TypedExpr) bool {
	want, ok := setOf(c)
	if !ok {
		return false
	}
	// Lower and upper bounds may come from different conditions.
	have := valueSet{expr: want.expr}
	for _, f := range filters {
		for _, part := range splitAnd(f) {
			s, ok := setOf(part)
			if !ok || s.expr != want.expr {
				continue
			}
			if s.within(want) {
				return true
			}
			if s.lo != nil {
				have.lo, have.loExcl = s.lo, s.loExcl
			}
			if s.hi != nil {
				have.hi, have.hiExcl = s.hi, s.hiExcl
			}
		}
	}
	return (have.lo != nil || have.hi != nil) && have.within(want)
}

// constCtx compares constants; no type compared here needs a session.
var constCtx = &tree.EvalContext{}

// within says whether every value of s is in o.
func (s valueSet) within(o valueSet) bool {
	cmp := func(a, b tree.Datum) int { return builtins.Compare(constCtx, a, b) }
	if s.list != nil {
		for _, d := range s.list {
			if !o.contains(d, cmp) {
				return false
			}
		}
		return true
	}
	if s.not != nil {
		return o.not != nil && cmp(s.not, o.not) == 0
	}
	switch {
	case o.not != nil:
		return !s.contains(o.not, cmp)
	case o.list != nil:
		return false
	}
	if o.lo != nil {
		if s.lo == nil {
			return false
		}
		if k := cmp(s.lo, o.lo); k < 0 || k == 0 && o.loExcl && !s.loExcl {
			return false
		}
	}
	if o.hi != nil {
		if s.hi == nil {
			return false
		}
		if k := cmp(s.hi, o.hi); k > 0 || k == 0 && o.hiExcl && !s.hiExcl {
			return false
		}
	}
	return true
}

func (s valueSet) contains(d tree.Datum, cmp func(a, b tree.Datum) int) bool {
	if s.not != nil {
		return cmp(d, s.not) != 0
	}
	if s.list != nil {
		for _, v := range s.list {
			if cmp(d, v) == 0 {
				return true
			}
		}
		return false
	}
	if s.lo != nil {
		if k := cmp(d, s.lo); k < 0 || k == 0 && s.loExcl {
			return false
		}
	}
	if s.hi != nil {
		if k := cmp(d, s.hi); k > 0 || k == 0 && s.hiExcl {
			return false
		}
	}
	return true
}
