package builtins

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// binary resolves an arithmetic, string, bit or json operator: the overload that
// needs the fewest implicit casts, preferred types first.
func (c *checker) binary(e *tree.BinaryExpr) (tree.TypedExpr, error) {
	l, lu, err := c.operand(e.Left)
	if err != nil {
		return nil, err
	}
	r, ru, err := c.operand(e.Right)
	if err != nil {
		return nil, err
	}
	lt, rt := types.Unknown, types.Unknown
	if !lu {
		lt = l.ResolvedType()
	}
	if !ru {
		rt = r.ResolvedType()
	}
	op := e.Operator
	if op == tree.Concat {
		// text || anything (but arrays, json and bytes) is text.
		switch {
		case lu && ru:
			lt, rt = types.String, types.String
		case (isConcatText(lt) || lu && rt.Family() != types.BitFamily) && !ru && isScalarText(rt):
			r, rt, lt = castTo(r, types.String), types.String, types.String
		case (isConcatText(rt) || ru && lt.Family() != types.BitFamily) && !lu && isScalarText(lt):
			l, lt, rt = castTo(l, types.String), types.String, types.String
		case lt.Family() == types.ArrayFamily && ru:
			rt = lt // array || '{…}'
		case rt.Family() == types.ArrayFamily && lu:
			lt = rt
		case lt.Family() == types.ArrayFamily && rt.Family() == types.ArrayFamily:
			if t, ok := CommonType(lt, rt); ok {
				l, r, lt, rt = castTo(l, t), castTo(r, t), t, t
			}
		case lt.Family() == types.ArrayFamily && rt.Family() != types.ArrayFamily:
			if t, ok := CommonType(lt.ArrayContents(), rt); ok {
				l, r = castTo(l, types.MakeArray(t)), castTo(r, t)
				lt, rt = types.MakeArray(t), t
			}
		case rt.Family() == types.ArrayFamily && lt.Family() != types.ArrayFamily:
			if t, ok := CommonType(rt.ArrayContents(), lt); ok {
				l, r = castTo(l, t), castTo(r, types.MakeArray(t))
				lt, rt = t, types.MakeArray(t)
			}
		}
	}
	best, lp, rp := bestBinOp(op, lt, rt)
	if best == nil {
		return nil, pgerr.Newf(pgerr.UndefinedFunction, "operator does not exist: %s %s %s", typeName(lt), op, typeName(rt)).
			WithHint(hintOperator)
	}
	// An untyped operand takes the very type of the other: integer, not bigint.
	lw, rw := lp, rp
	if lu && !ru && rt.Family() == lp.Family() {
		lw = literalType(rt)
	}
	if ru && !lu && lt.Family() == rp.Family() {
		rw = literalType(lt)
	}
	if l, err = c.asParam(e.Left, l, lu, lw); err != nil {
		return nil, err
	}
	if r, err = c.asParam(e.Right, r, ru, rw); err != nil {
		return nil, err
	}
	if best.NullableArgs {
		// The overload is looked up by type again: a NULL needs one.
		if l == tree.DNull {
			l = &Cast{Expr: tree.DNull, Typ: lw, Context: ImplicitCast}
		}
		if r == tree.DNull {
			r = &Cast{Expr: tree.DNull, Typ: rw, Context: ImplicitCast}
		}
	}
	if (l == tree.DNull || r == tree.DNull) && !best.NullableArgs {
		return &Cast{Expr: tree.DNull, Typ: binOpType(op, best, l.ResolvedType(), r.ResolvedType()), Context: ImplicitCast}, nil
	}
	typ := binOpType(op, best, l.ResolvedType(), r.ResolvedType())
	node := tree.NewTypedBinaryExpr(op, l, r, typ)
	if typ.Family() == types.IntFamily && intWidth(typ) < 64 && lp.Family() == types.IntFamily && rp.Family() == types.IntFamily {
		return &intGuard{expr: node, typ: typ}, nil
	}
	return node, nil
}

func isConcatText(t *types.T) bool {
	return t.Family() == types.StringFamily
}

func isScalarText(t *types.T) bool {
	switch t.Family() {
	case types.ArrayFamily, types.JsonFamily, types.BytesFamily, types.StringFamily:
		return false
	}
	return true
}

// operand checks e unless it is untyped.
func (c *checker) operand(e tree.Expr) (x tree.TypedExpr, untyped bool, err error) {
	if c.isUntyped(e) {
		return nil, true, nil
	}
	x, err = c.check(e, types.Any)
	if err == nil && x.ResolvedType().Family() == types.UnknownFamily {
		if _, isNull := x.(tree.Datum); isNull {
			return x, true, nil
		}
	}
	return x, false, err
}

// asParam brings an operand to the parameter type of the chosen overload.
func (c *checker) asParam(e tree.Expr, x tree.TypedExpr, untyped bool, param *types.T) (tree.TypedExpr, error) {
	if untyped {
		return c.resolveUntyped(e, param)
	}
	if x.ResolvedType().Equivalent(param) || param.Family() == types.AnyFamily || x == tree.DNull {
		return x, nil
	}
	return castTo(x, param), nil
}

// bestBinOp finds the overload for operand types, either of which may be unknown.
func bestBinOp(op tree.BinaryOperator, lt, rt *types.T) (best *tree.BinOp, lp, rp *types.T) {
	bestCost := 1 << 30
	for _, o := range tree.BinOps[op] {
		b := o.(*tree.BinOp)
		if hiddenOp(op, b) {
			continue
		}
		lc, ok := implicitCost(lt, b.LeftType)
		if !ok {
			continue
		}
		rc, ok := implicitCost(rt, b.RightType)
		if !ok {
			continue
		}
		cost := 10 * (lc + rc)
		// An unknown operand is taken to have the other one's type.
		if lt.Family() == types.UnknownFamily {
			cost += unknownCost(b.LeftType, rt)
		}
		if rt.Family() == types.UnknownFamily {
			cost += unknownCost(b.RightType, lt)
		}
		if cost < bestCost {
			best, bestCost = b, cost
		}
	}
	if best == nil {
		return nil, nil, nil
	}
	return best, best.LeftType, best.RightType
}

func unknownCost(param, other *types.T) int {
	switch {
	case other.Family() != types.UnknownFamily && param.Equivalent(other):
		return 0
	case param.Family() == types.StringFamily:
		return 1
	case isPreferred(param):
		return 2
	}
	return 3
}

// hiddenOp says which of the parser's overloads PostgreSQL lacks, such that they
// must not win a resolution.
func hiddenOp(op tree.BinaryOperator, b *tree.BinOp) bool {
	lf, rf := b.LeftType.Family(), b.RightType.Family()
	if op == tree.Minus && lf != rf && isInstant(lf) && isInstant(rf) {
		return true // timestamp - date: the date becomes a timestamp.
	}
	switch op {
	case tree.Pow:
		// 2 ^ 3 is float8: only float8 and numeric have it.
		return lf != rf || lf == types.IntFamily
	case tree.Plus, tree.Minus, tree.Mult, tree.Div, tree.Mod:
		// Mixed integer and numeric: both become numeric.
		return lf != rf && (lf == types.IntFamily && rf == types.DecimalFamily || lf == types.DecimalFamily && rf == types.IntFamily)
	case tree.FloorDiv:
		return false // // is not PostgreSQL's at all; it does no harm.
	}
	return false
}

func isInstant(f types.Family) bool {
	return f == types.DateFamily || f == types.TimestampFamily || f == types.TimestampTZFamily
}

// binOpType is the result type: integers have the wider operand's width.
func binOpType(op tree.BinaryOperator, b *tree.BinOp, lt, rt *types.T) *types.T {
	if b.ReturnType.Family() == types.IntFamily && b.LeftType.Family() == types.IntFamily && b.RightType.Family() == types.IntFamily {
		if op == tree.LShift || op == tree.RShift {
			return intOfWidth(intWidth(lt))
		}
		switch {
		case lt.Family() == types.UnknownFamily:
			return intOfWidth(intWidth(rt))
		case rt.Family() == types.UnknownFamily:
			return intOfWidth(intWidth(lt))
		}
		return intOfWidth(max(intWidth(lt), intWidth(rt)))
	}
	if op == tree.Minus && b.LeftType.Family() == types.DateFamily && b.RightType.Family() == types.DateFamily {
		return types.Int4
	}
	if b.ReturnType.Family() == types.ArrayFamily && lt.Family() == types.ArrayFamily {
		return lt
	}
	if b.ReturnType.Family() == types.ArrayFamily && rt.Family() == types.ArrayFamily {
		return rt
	}
	return b.ReturnType
}

// foldOp maps a comparison to the one that tree.CmpOps holds; swap says that
// the sides change places.
func foldOp(op tree.ComparisonOperator) (_ tree.ComparisonOperator, swap bool) {
	switch op {
	case tree.NE:
		return tree.EQ, false
	case tree.GT:
		return tree.LT, true
	case tree.GE:
		return tree.LE, true
	case tree.NotIn:
		return tree.In, false
	case tree.NotLike:
		return tree.Like, false
	case tree.NotILike:
		return tree.ILike, false
	case tree.NotSimilarTo:
		return tree.SimilarTo, false
	case tree.NotRegMatch:
		return tree.RegMatch, false
	case tree.NotRegIMatch:
		return tree.RegIMatch, false
	case tree.IsDistinctFrom:
		return tree.IsNotDistinctFrom, false
	}
	return op, false
}

func cmpExists(op tree.ComparisonOperator, l, r *types.T) bool {
	f, swap := foldOp(op)
	if swap {
		l, r = r, l
	}
	_, ok := tree.CmpOps[f].LookupImpl(l, r)
	return ok
}

func (c *checker) comparison(e *tree.ComparisonExpr) (tree.TypedExpr, error) {
	left, right := tree.StripParens(e.Left), tree.StripParens(e.Right)
	switch e.Operator {
	case tree.In, tree.NotIn:
		return c.in(e.Operator, left, right)
	case tree.Any, tree.Some, tree.All:
		return c.quantified(e.Operator, e.SubOperator, left, right)
	}
	lt, lok := left.(*tree.Tuple)
	rt, rok := right.(*tree.Tuple)
	if lok && rok {
		if len(lt.Exprs) != len(rt.Exprs) {
			return nil, pgerr.New(pgerr.SyntaxError, "unequal number of entries in row expressions")
		}
		l, r, err := c.rows(lt, rt, e.Operator.String())
		if err != nil {
			return nil, err
		}
		return c.compareTyped(e.Operator, l, r)
	}
	switch e.Operator {
	case tree.Like, tree.NotLike, tree.ILike, tree.NotILike, tree.SimilarTo, tree.NotSimilarTo,
		tree.RegMatch, tree.NotRegMatch, tree.RegIMatch, tree.NotRegIMatch:
		return c.pattern(e.Operator, left, right)
	case tree.JSONExists:
		return c.jsonExists(e.Operator, left, right, types.String)
	case tree.JSONSomeExists, tree.JSONAllExists:
		return c.jsonExists(e.Operator, left, right, types.StringArray)
	}
	l, r, err := c.pair(left, right, e.Operator.String())
	if err != nil {
		return nil, err
	}
	return c.compareTyped(e.Operator, l, r)
}

// rows pairs the elements of two row expressions.
func (c *checker) rows(lt, rt *tree.Tuple, op string) (l, r tree.TypedExpr, err error) {
	le, re := make(tree.Exprs, len(lt.Exprs)), make(tree.Exprs, len(lt.Exprs))
	lc, rc := make([]types.T, len(le)), make([]types.T, len(le))
	for i := range lt.Exprs {
		a, b, err := c.pair(lt.Exprs[i], rt.Exprs[i], op)
		if err != nil {
			return nil, nil, err
		}
		le[i], re[i] = a, b
		lc[i], rc[i] = *a.ResolvedType(), *b.ResolvedType()
	}
	return tree.NewTypedTuple(types.MakeTuple(lc), le), tree.NewTypedTuple(types.MakeTuple(rc), re), nil
}

// pair checks two expressions that are compared with each other.
func (c *checker) pair(left, right tree.Expr, op string) (l, r tree.TypedExpr, err error) {
	if lt, ok := tree.StripParens(left).(*tree.Tuple); ok {
		if rt, ok := tree.StripParens(right).(*tree.Tuple); ok && len(lt.Exprs) == len(rt.Exprs) {
			return c.rows(lt, rt, op)
		}
	}
	l, lu, err := c.operand(left)
	if err != nil {
		return nil, nil, err
	}
	r, ru, err := c.operand(right)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case lu && ru:
		if l, err = c.resolveUntyped(left, types.String); err != nil {
			return nil, nil, err
		}
		r, err = c.resolveUntyped(right, types.String)
		return l, r, err
	case lu:
		l, err = c.resolveUntyped(left, literalType(r.ResolvedType()))
		return l, r, err
	case ru:
		r, err = c.resolveUntyped(right, literalType(l.ResolvedType()))
		return l, r, err
	}
	lt, rt := l.ResolvedType(), r.ResolvedType()
	if lt.Family() == rt.Family() && lt.Family() != types.ArrayFamily {
		return l, r, nil
	}
	if cmpExists(tree.EQ, lt, rt) && lt.Family() != types.ArrayFamily {
		return l, r, nil // Numbers and times compare across types.
	}
	if t, ok := CommonType(lt, rt); ok {
		return castTo(l, t), castTo(r, t), nil
	}
	return nil, nil, noOperator(lt, op, rt)
}

// bpchar is char(n) of any length.
var bpchar = types.MakeScalar(types.StringFamily, oid.T_bpchar, 0, 0, "")

// literalType is what an unknown literal beside a value of type t is read as:
// t without a length, which must not cut the literal.
func literalType(t *types.T) *types.T {
	switch t.Family() {
	case types.StringFamily:
		if t.Oid() == oid.T_bpchar {
			return bpchar // Trailing blanks of the literal mean nothing.
		}
		return types.String
	case types.DecimalFamily:
		return types.Decimal
	case types.BitFamily:
		return types.VarBit
	case types.TimestampFamily:
		return types.Timestamp
	case types.TimestampTZFamily:
		return types.TimestampTZ
	}
	return t
}

func noOperator(l *types.T, op string, r *types.T) error {
	return pgerr.Newf(pgerr.UndefinedFunction, "operator does not exist: %s %s %s", typeName(l), op, typeName(r)).
		WithHint(hintOperator)
}

func (c *checker) compareTyped(op tree.ComparisonOperator, l, r tree.TypedExpr) (tree.TypedExpr, error) {
	lt, rt := l.ResolvedType(), r.ResolvedType()
	if lt.Family() == types.UnknownFamily || rt.Family() == types.UnknownFamily {
		if op != tree.IsDistinctFrom && op != tree.IsNotDistinctFrom {
			return &Cast{Expr: tree.DNull, Typ: types.Bool, Context: ImplicitCast}, nil
		}
	}
	if lt.Family() == types.TupleFamily && r == tree.DNull && (op == tree.IsNotDistinctFrom || op == tree.IsDistinctFrom) {
		return &RowNullTest{Expr: l, NotNull: op == tree.IsDistinctFrom}, nil
	}
	if !cmpExists(op, lt, rt) {
		name := op.String()
		if op == tree.IsDistinctFrom || op == tree.IsNotDistinctFrom {
			name = "="
		}
		return nil, noOperator(lt, name, rt)
	}
	return tree.NewTypedComparisonExpr(op, l, r), nil
}

func (c *checker) pattern(op tree.ComparisonOperator, left, right tree.Expr) (tree.TypedExpr, error) {
	name := map[tree.ComparisonOperator]string{
		tree.Like: "~~", tree.NotLike: "!~~", tree.ILike: "~~*", tree.NotILike: "!~~*", tree.RegMatch: "~",
		tree.NotRegMatch: "!~", tree.RegIMatch: "~*", tree.NotRegIMatch: "!~*",
	}[op]
	if name == "" {
		name = op.String()
	}
	l, err := c.check(left, types.String)
	if err != nil {
		return nil, err
	}
	r, err := c.check(right, types.String)
	if err != nil {
		return nil, err
	}
	for _, x := range []*tree.TypedExpr{&l, &r} {
		t := (*x).ResolvedType()
		switch {
		case t.Family() == types.CollatedStringFamily && !isEnumType(t):
			*x = castTo(*x, types.String)
		case t.Family() != types.StringFamily && t.Family() != types.UnknownFamily:
			return nil, noOperator(l.ResolvedType(), name, r.ResolvedType())
		}
	}
	if isPadded(l.ResolvedType()) {
		l = &output{expr: l} // character(n) matches with its blanks.
	}
	return c.compareTyped(op, l, r)
}

func (c *checker) jsonExists(op tree.ComparisonOperator, left, right tree.Expr, key *types.T) (tree.TypedExpr, error) {
	l, err := c.check(left, types.Jsonb)
	if err != nil {
		return nil, err
	}
	r, err := c.check(right, key)
	if err != nil {
		return nil, err
	}
	return c.compareTyped(op, l, r)
}

// in resolves x IN (a, b, …) and x IN (subquery).
func (c *checker) in(op tree.ComparisonOperator, left, right tree.Expr) (tree.TypedExpr, error) {
	list, isList := right.(*tree.Tuple)
	if !isList {
		r, err := c.check(right, types.Any)
		if err != nil {
			return nil, err
		}
		rt := r.ResolvedType()
		if rt.Family() != types.TupleFamily || len(rt.TupleContents()) != 1 {
			return nil, pgerr.New(pgerr.SyntaxError, "IN requires a list or a subquery on its right side")
		}
		elem := &rt.TupleContents()[0]
		l, err := c.checkBeside(left, elem)
		if err != nil {
			return nil, err
		}
		lt := l.ResolvedType()
		if lt.Family() != types.TupleFamily && lt.Family() != elem.Family() && lt.Family() != types.UnknownFamily {
			if !cmpExists(tree.EQ, lt, elem) {
				if !CanCast(lt, elem, ImplicitCast) {
					return nil, noOperator(lt, "=", elem)
				}
				l = castTo(l, elem)
			}
		}
		return c.finishIn(op, l, r, lt)
	}
	if lt, ok := left.(*tree.Tuple); ok {
		return c.rowIn(op, lt, list)
	}
	all := append(tree.Exprs{left}, list.Exprs...)
	// Mixed types that compare with each other (int and numeric) need no cast,
	// which keeps the left side a plain column for the planner.
	args, t, err := c.unify(all, types.Any, "IN")
	if err != nil {
		var pe *pgerr.Error
		if l, lerr := c.check(left, types.Any); lerr == nil && asPGErr(err, &pe) && pe.Code == pgerr.DatatypeMismatch {
			for _, x := range list.Exprs {
				if r, rerr := c.check(x, types.Any); rerr == nil {
					if _, ok := CommonType(l.ResolvedType(), r.ResolvedType()); !ok {
						return nil, noOperator(l.ResolvedType(), "=", r.ResolvedType())
					}
				}
			}
		}
		return nil, err
	}
	l := args[0]
	if cast, ok := l.(*Cast); ok && cast.Context == ImplicitCast && !c.isUntyped(left) && cast.Expr.ResolvedType().Family() == t.Family() {
		l = cast.Expr
	}
	exprs := make(tree.Exprs, len(list.Exprs))
	contents := make([]types.T, len(list.Exprs))
	for i, x := range args[1:] {
		exprs[i] = x
		contents[i] = *t
	}
	return c.finishIn(op, l, tree.NewTypedTuple(types.MakeTuple(contents), exprs), t)
}

func (c *checker) finishIn(op tree.ComparisonOperator, l, r tree.TypedExpr, t *types.T) (tree.TypedExpr, error) {
	if t.Family() == types.UnknownFamily {
		return &Cast{Expr: tree.DNull, Typ: types.Bool, Context: ImplicitCast}, nil
	}
	if t.Family() == types.ArrayFamily {
		// The parser has no IN for arrays: = ANY compares them one by one.
		if op == tree.In {
			return tree.NewTypedComparisonExprWithSubOp(tree.Any, tree.EQ, l, r), nil
		}
		return tree.NewTypedComparisonExprWithSubOp(tree.All, tree.NE, l, r), nil
	}
	if _, ok := tree.CmpOps[tree.In].LookupImpl(l.ResolvedType(), types.AnyTuple); !ok {
		return nil, noOperator(t, "=", t)
	}
	return tree.NewTypedComparisonExpr(op, l, r), nil
}

func (c *checker) rowIn(op tree.ComparisonOperator, left *tree.Tuple, list *tree.Tuple) (tree.TypedExpr, error) {
	var l tree.TypedExpr
	exprs := make(tree.Exprs, len(list.Exprs))
	contents := make([]types.T, len(list.Exprs))
	for i, x := range list.Exprs {
		rt, ok := tree.StripParens(x).(*tree.Tuple)
		if !ok || len(rt.Exprs) != len(left.Exprs) {
			return nil, pgerr.New(pgerr.SyntaxError, "unequal number of entries in row expressions")
		}
		li, r, err := c.rows(left, rt, "=")
		if err != nil {
			return nil, err
		}
		l, exprs[i], contents[i] = li, r, *r.ResolvedType()
	}
	return tree.NewTypedComparisonExpr(op, l, tree.NewTypedTuple(types.MakeTuple(contents), exprs)), nil
}

// checkBeside checks e, which takes type t if it is untyped.
func (c *checker) checkBeside(e tree.Expr, t *types.T) (tree.TypedExpr, error) {
	if tup, ok := e.(*tree.Tuple); ok && t.Family() == types.TupleFamily && len(t.TupleContents()) == len(tup.Exprs) {
		exprs := make(tree.Exprs, len(tup.Exprs))
		contents := make([]types.T, len(tup.Exprs))
		for i, x := range tup.Exprs {
			want := &t.TupleContents()[i]
			tx, err := c.checkBeside(x, want)
			if err != nil {
				return nil, err
			}
			if tx.ResolvedType().Family() != want.Family() && !cmpExists(tree.EQ, tx.ResolvedType(), want) {
				if !CanCast(tx.ResolvedType(), want, ImplicitCast) {
					return nil, noOperator(tx.ResolvedType(), "=", want)
				}
				tx = castTo(tx, want)
			}
			exprs[i], contents[i] = tx, *tx.ResolvedType()
		}
		return tree.NewTypedTuple(types.MakeTuple(contents), exprs), nil
	}
	if c.isUntyped(e) {
		return c.resolveUntyped(e, literalType(t))
	}
	return c.check(e, types.Any)
}

// quantified resolves x op ANY (array or subquery) and ALL.
func (c *checker) quantified(op, sub tree.ComparisonOperator, left, right tree.Expr) (tree.TypedExpr, error) {
	if list, ok := right.(*tree.Tuple); ok {
		// ANY (a, b) is not PostgreSQL's; read it as an array.
		right = &tree.Array{Exprs: list.Exprs}
	}
	var l, r tree.TypedExpr
	var err error
	switch {
	case c.isUntyped(right):
		// ANY($1), ANY('{…}'): an array of the left side's type.
		if l, err = c.check(left, types.String); err != nil {
			return nil, err
		}
		lt := l.ResolvedType()
		if lt.Family() == types.UnknownFamily {
			lt = types.String
		}
		if r, err = c.resolveUntyped(right, types.MakeArray(literalType(lt))); err != nil {
			return nil, err
		}
	default:
		want := types.Any
		if arr, ok := right.(*tree.Array); ok && !c.isUntyped(left) {
			if l, err = c.check(left, types.Any); err != nil {
				return nil, err
			}
			untyped := true
			for _, x := range arr.Exprs {
				untyped = untyped && c.isUntyped(x)
			}
			if untyped {
				want = types.MakeArray(literalType(l.ResolvedType()))
			}
		}
		if r, err = c.check(right, want); err != nil {
			return nil, err
		}
	}
	rt := r.ResolvedType()
	var elem *types.T
	switch rt.Family() {
	case types.ArrayFamily:
		elem = rt.ArrayContents()
	case types.TupleFamily:
		if len(rt.TupleContents()) != 1 {
			return nil, pgerr.New(pgerr.SyntaxError, "subquery must return only one column")
		}
		elem = &rt.TupleContents()[0]
	case types.UnknownFamily:
		return &Cast{Expr: tree.DNull, Typ: types.Bool, Context: ImplicitCast}, nil
	default:
		return nil, pgerr.New(pgerr.WrongObjectType, "op ANY/ALL (array) requires array on right side")
	}
	if l == nil {
		if l, err = c.checkBeside(left, elem); err != nil {
			return nil, err
		}
	}
	lt := l.ResolvedType()
	if lt.Family() == types.UnknownFamily {
		return &Cast{Expr: tree.DNull, Typ: types.Bool, Context: ImplicitCast}, nil
	}
	if lt.Family() != elem.Family() || !cmpExists(sub, lt, elem) {
		switch {
		case cmpExists(sub, lt, elem):
		case CanCast(lt, elem, ImplicitCast):
			l = castTo(l, elem)
		case rt.Family() == types.ArrayFamily && CanCast(elem, lt, ImplicitCast):
			r = castTo(r, types.MakeArray(lt))
			elem = lt
		}
	}
	if !cmpExists(sub, l.ResolvedType(), elem) {
		return nil, noOperator(lt, sub.String(), elem)
	}
	return tree.NewTypedComparisonExprWithSubOp(op, sub, l, r), nil
}

// between is two comparisons joined by AND, as in PostgreSQL.
func (c *checker) between(e *tree.RangeCond) (tree.TypedExpr, error) {
	within := func(lo, hi tree.Expr) (tree.TypedExpr, error) {
		a, err := c.comparison(&tree.ComparisonExpr{Operator: tree.GE, Left: e.Left, Right: lo})
		if err != nil {
			return nil, err
		}
		b, err := c.comparison(&tree.ComparisonExpr{Operator: tree.LE, Left: e.Left, Right: hi})
		if err != nil {
			return nil, err
		}
		return tree.NewTypedAndExpr(a, b), nil
	}
	x, err := within(e.From, e.To)
	if err != nil {
		return nil, err
	}
	if e.Symmetric {
		y, err := within(e.To, e.From)
		if err != nil {
			return nil, err
		}
		x = tree.NewTypedOrExpr(x, y)
	}
	if e.Not {
		return tree.NewTypedNotExpr(x), nil
	}
	return x, nil
}

var regclassLike = map[oid.Oid]bool{
	oid.T_regclass: true, oid.T_regtype: true, oid.T_regproc: true, oid.T_regprocedure: true, oid.T_regnamespace: true,
}
