package builtins

import (
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/cockroachdb/apd"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// TypeCheck is how SQL expressions get types: like tree.TypeCheck, but with
// PostgreSQL's rules for literals (1 is int4, 1.0 numeric, no folding of 1/2
// to 0.5), implicit casts, common types (CASE, COALESCE, IN, ARRAY…) and integer
// widths. expr itself is not changed. Names and subqueries must have been
// replaced by typed expressions before. desired is a wish, types.Any for none:
// literals and placeholders without other hints follow it; the caller casts to
// what it requires. Errors are PostgreSQL's.
func TypeCheck(ctx *tree.SemaContext, expr tree.Expr, desired *types.T) (tree.TypedExpr, error) {
	if ctx == nil {
		c := tree.MakeSemaContext()
		ctx = &c
	}
	c := checker{ctx: ctx}
	e, err := c.check(expr, desired)
	if err != nil {
		return nil, MapError(err)
	}
	return e, nil
}

// TypeOf returns the type of e as a result column, in which an untyped literal
// or NULL is text.
func TypeOf(e tree.TypedExpr) *types.T {
	t := e.ResolvedType()
	if t.Family() == types.UnknownFamily {
		return types.String
	}
	return t
}

// AssignCast casts e to typ as INSERT, UPDATE and COPY do: with the casts
// PostgreSQL allows in assignments, checking ranges and lengths (22003, 22001).
// It returns e itself if there is nothing to do. The error (42804) does not name
// the column: callers that know it check CanCast first.
func AssignCast(e tree.TypedExpr, typ *types.T) (tree.TypedExpr, error) {
	from := e.ResolvedType()
	if from.Identical(typ) && !needsCheck(typ) {
		return e, nil
	}
	if e == tree.DNull {
		return e, nil
	}
	if !CanCast(from, typ, AssignmentCast) {
		return nil, pgerr.Newf(pgerr.DatatypeMismatch,
			"column is of type %s but expression is of type %s", typeName(typ), typeName(from)).
			WithHint("You will need to rewrite or cast the expression.")
	}
	if d, ok := e.(*tree.DInt); ok && typ.Family() == types.IntFamily {
		if err := checkIntRange(int64(*d), intWidth(typ)); err != nil {
			return nil, err
		}
		return e, nil
	}
	return &Cast{Expr: e, Typ: typ, Context: AssignmentCast}, nil
}

// needsCheck says whether values of type t may break its limits although their
// expression has the very same type: parameters are not checked when bound.
func needsCheck(t *types.T) bool {
	switch t.Family() {
	case types.StringFamily, types.DecimalFamily, types.BitFamily:
		return t.Width() > 0 || t.Precision() > 0
	}
	return false
}

type checker struct {
	ctx   *tree.SemaContext
	inAgg bool
}

// isUntyped says whether e takes its type from its surroundings: a string
// literal, NULL, or a parameter not yet typed.
func (c *checker) isUntyped(e tree.Expr) bool {
	switch t := tree.StripParens(e).(type) {
	case *tree.StrVal:
		return t.AvailableTypes()[0].Family() == types.StringFamily
	case *tree.Placeholder:
		_, ok, err := c.ctx.Placeholders.Type(t.Idx)
		return err == nil && !ok
	}
	return tree.StripParens(e) == tree.DNull
}

// resolveUntyped gives an untyped expression type t.
func (c *checker) resolveUntyped(e tree.Expr, t *types.T) (tree.TypedExpr, error) {
	if t.Family() == types.AnyFamily || t.Family() == types.UnknownFamily {
		t = types.String
	}
	switch v := tree.StripParens(e).(type) {
	case *tree.StrVal:
		return c.literal(v.RawString(), t)
	case *tree.Placeholder:
		return c.placeholder(v, t)
	}
	return tree.DNull, nil
}

// literal reads a quoted literal as type t. What depends on the session or on
// the time is read when the expression is evaluated.
func (c *checker) literal(s string, t *types.T) (tree.TypedExpr, error) {
	switch t.Family() {
	case types.StringFamily:
		if t.Width() == 0 && t.Oid() != oid.T_name && t.Oid() != oid.T_bpchar && t.Oid() != oid.T_char {
			return tree.NewDString(s), nil
		}
		if t.Oid() == oid.T_bpchar && t.Width() == 0 {
			return &Const{D: tree.NewDString(strings.TrimRight(s, " ")), T: t}, nil
		}
	case types.AnyFamily:
		return tree.NewDString(s), nil
	case types.IntFamily:
		d, err := parseText(s, t)
		if err != nil {
			return nil, err
		}
		return newIntConst(d, t), nil
	case types.FloatFamily, types.DecimalFamily, types.BoolFamily, types.BytesFamily, types.UuidFamily,
		types.JsonFamily, types.INetFamily, types.IntervalFamily, types.BitFamily:
		if t.Family() == types.FloatFamily && floatWidth(t) == 32 {
			break
		}
		if t.Family() == types.JsonFamily && t.Oid() == oid.T_json {
			break
		}
		d, err := parseText(s, t)
		if err != nil {
			return nil, err
		}
		if !d.ResolvedType().Identical(t) {
			return &Const{D: d, T: t}, nil
		}
		return d, nil
	}
	return &Cast{Expr: tree.NewDString(s), Typ: t, Context: ImplicitCast}, nil
}

// newIntConst returns d as a constant of integer type t.
func newIntConst(d tree.Datum, t *types.T) tree.TypedExpr {
	if intWidth(t) == 64 {
		return d.(tree.TypedExpr)
	}
	return &Const{D: d, T: t}
}

func (c *checker) placeholder(p *tree.Placeholder, desired *types.T) (tree.TypedExpr, error) {
	t, ok, err := c.ctx.Placeholders.Type(p.Idx)
	if err != nil {
		return nil, err
	}
	if !ok {
		t = desired
		if t.IsAmbiguous() {
			return nil, pgerr.Newf("42P18", "could not determine data type of parameter %s", p.Idx)
		}
	}
	cp := *p
	return cp.TypeCheck(c.ctx, t)
}

func (c *checker) check(expr tree.Expr, desired *types.T) (tree.TypedExpr, error) {
	switch e := expr.(type) {
	case *tree.ParenExpr:
		return c.check(e.Expr, desired)
	case *tree.NumVal:
		return c.number(e, false)
	case *tree.StrVal:
		if !c.isUntyped(e) {
			return e.TypeCheck(c.ctx, desired) // b'…' and x'…'
		}
		return c.resolveUntyped(e, desired)
	case *tree.Placeholder:
		if desired.Family() == types.AnyFamily {
			desired = types.String
		}
		return c.placeholder(e, desired)
	case *tree.DArray:
		return e.TypeCheck(c.ctx, desired)
	case tree.Datum:
		return e, nil
	case *Const, *Cast, *intGuard, *Slice, *NullIf, *RowNullTest, *tree.IndexedVar:
		return e.(tree.TypedExpr), nil
	case *tree.AndExpr:
		l, r, err := c.bools(e.Left, e.Right, "AND")
		if err != nil {
			return nil, err
		}
		return tree.NewTypedAndExpr(l, r), nil
	case *tree.OrExpr:
		l, r, err := c.bools(e.Left, e.Right, "OR")
		if err != nil {
			return nil, err
		}
		return tree.NewTypedOrExpr(l, r), nil
	case *tree.NotExpr:
		x, err := c.boolean(e.Expr, "NOT")
		if err != nil {
			return nil, err
		}
		return tree.NewTypedNotExpr(x), nil
	case *tree.UnaryExpr:
		return c.unary(e)
	case *tree.BinaryExpr:
		return c.binary(e)
	case *tree.ComparisonExpr:
		return c.comparison(e)
	case *tree.RangeCond:
		return c.between(e)
	case *tree.CastExpr:
		return c.cast(e.Expr, e.Type)
	case *tree.AnnotateTypeExpr:
		return c.cast(e.Expr, e.Type)
	case *tree.CollateExpr:
		x, err := c.check(e.Expr, types.String)
		if err != nil {
			return nil, err
		}
		if t := x.ResolvedType(); t.Family() != types.StringFamily && t.Family() != types.UnknownFamily && t.Family() != types.CollatedStringFamily {
			return nil, pgerr.Newf(pgerr.DatatypeMismatch, "collations are not supported by type %s", typeName(t))
		}
		return x, nil // All text compares by bytes.
	case *tree.CaseExpr:
		return c.caseExpr(e, desired)
	case *tree.CoalesceExpr:
		args, t, err := c.unify(e.Exprs, desired, "COALESCE")
		if err != nil {
			return nil, err
		}
		return tree.NewTypedCoalesceExpr(args, t), nil
	case *tree.NullIfExpr:
		l, r, err := c.pair(e.Expr1, e.Expr2, "=")
		if err != nil {
			return nil, err
		}
		eq, err := c.compareTyped(tree.EQ, l, r)
		if err != nil {
			return nil, err
		}
		val := l
		if cast, ok := l.(*Cast); ok && cast.Context == ImplicitCast && !c.isUntyped(e.Expr1) {
			val = cast.Expr // The value itself keeps its type.
		}
		return &NullIf{Value: val, Eq: eq}, nil
	case *tree.IfExpr:
		cond, err := c.boolean(e.Cond, "IF")
		if err != nil {
			return nil, err
		}
		args, t, err := c.unify(tree.Exprs{e.True, e.Else}, desired, "IF")
		if err != nil {
			return nil, err
		}
		return tree.NewTypedCaseExpr(nil, []*tree.When{{Cond: cond, Val: args[0]}}, args[1], t)
	case *tree.Array:
		return c.array(e, desired)
	case *tree.Tuple:
		return c.tuple(e, desired)
	case *tree.IndirectionExpr:
		return c.subscript(e)
	case *tree.ColumnAccessExpr:
		return c.columnAccess(e)
	case *tree.TupleStar:
		x, err := c.check(e.Expr, types.Any)
		if err != nil {
			return nil, err
		}
		return (&tree.TupleStar{Expr: x}).TypeCheck(c.ctx, desired)
	case *tree.FuncExpr:
		return c.call(e, desired)
	case *tree.IsOfTypeExpr:
		x, err := c.check(e.Expr, types.Any)
		if err != nil {
			return nil, err
		}
		cp := *e
		cp.Expr = x
		return cp.TypeCheck(c.ctx, desired)
	}
	return expr.TypeCheck(c.ctx, desired)
}

// number gives a numeric literal its PostgreSQL type: integer, bigint, or
// numeric if it is too large or has a point or an exponent.
func (c *checker) number(n *tree.NumVal, negate bool) (tree.TypedExpr, error) {
	if n.ShouldBeInt64() {
		v, err := n.AsInt64()
		if err == nil {
			if negate {
				v = -v // AsInt64 fits into 63 bits plus sign; -MinInt64 cannot come from a literal.
			}
			t := types.Int
			if v == int64(int32(v)) {
				t = types.Int4
			}
			return newIntConst(tree.NewDInt(tree.DInt(v)), t), nil
		}
	}
	d, err := n.ResolveAsType(c.ctx, types.Decimal)
	if err != nil {
		return nil, err
	}
	dd := &tree.DDecimal{}
	dd.Set(&d.(*tree.DDecimal).Decimal)
	if negate && !dd.IsZero() {
		dd.Negative = !dd.Negative
	}
	if negate && dd.Exponent == 0 {
		if i, err := dd.Int64(); err == nil {
			return tree.NewDInt(tree.DInt(i)), nil // -9223372036854775808
		}
	}
	if dd.Exponent > 0 {
		// 1e10 is 10000000000 with scale 0.
		if _, err := apd.BaseContext.WithPrecision(uint32(dd.NumDigits())+uint32(dd.Exponent)).Quantize(&dd.Decimal, &dd.Decimal, 0); err != nil {
			return nil, err
		}
	}
	return dd, nil
}

func (c *checker) bools(l, r tree.Expr, what string) (lt, rt tree.TypedExpr, err error) {
	if lt, err = c.boolean(l, what); err != nil {
		return nil, nil, err
	}
	rt, err = c.boolean(r, what)
	return lt, rt, err
}

func (c *checker) boolean(e tree.Expr, what string) (tree.TypedExpr, error) {
	x, err := c.check(e, types.Bool)
	if err != nil {
		return nil, err
	}
	if t := x.ResolvedType(); t.Family() != types.BoolFamily && t.Family() != types.UnknownFamily {
		return nil, pgerr.Newf(pgerr.DatatypeMismatch, "argument of %s must be type boolean, not type %s", what, typeName(t))
	}
	return x, nil
}

func (c *checker) cast(inner tree.Expr, t *types.T) (tree.TypedExpr, error) {
	if c.isUntyped(inner) {
		x, err := c.resolveUntyped(inner, t)
		if err != nil || x == tree.DNull {
			if x == tree.DNull {
				return &Cast{Expr: tree.DNull, Typ: t, Context: ExplicitCast}, nil
			}
			return nil, err
		}
		if cast, ok := x.(*Cast); ok {
			cast.Context = ExplicitCast
			return cast, nil
		}
		if x.ResolvedType().Identical(t) && !needsCheck(t) {
			return x, nil
		}
		return &Cast{Expr: x, Typ: t, Context: ExplicitCast}, nil
	}
	want := types.Any
	if _, ok := tree.StripParens(inner).(*tree.Array); ok {
		want = t
	}
	x, err := c.check(inner, want)
	if err != nil {
		return nil, err
	}
	from := x.ResolvedType()
	if from.Identical(t) && !needsCheck(t) {
		return x, nil
	}
	if !CanCast(from, t, ExplicitCast) {
		return nil, pgerr.Newf("42846", "cannot cast type %s to %s", typeName(from), typeName(t))
	}
	return &Cast{Expr: x, Typ: t, Context: ExplicitCast}, nil
}

// unify brings expressions to their common type, as in CASE, COALESCE and ARRAY.
func (c *checker) unify(exprs tree.Exprs, desired *types.T, what string) (tree.TypedExprs, *types.T, error) {
	out := make(tree.TypedExprs, len(exprs))
	typ := types.Unknown
	for i, e := range exprs {
		if c.isUntyped(e) {
			continue
		}
		x, err := c.check(e, desired)
		if err != nil {
			return nil, nil, err
		}
		out[i] = x
		t, ok := CommonType(typ, x.ResolvedType())
		if !ok {
			return nil, nil, pgerr.Newf(pgerr.DatatypeMismatch, "%s types %s and %s cannot be matched",
				what, typeName(typ), typeName(x.ResolvedType()))
		}
		typ = t
	}
	if typ.Family() == types.UnknownFamily {
		typ = types.String
		if !desired.IsAmbiguous() && desired.Family() != types.UnknownFamily {
			typ = desired
		}
		allNull := true
		for _, e := range exprs {
			allNull = allNull && tree.StripParens(e) == tree.DNull
		}
		_ = allNull
	}
	for i, e := range exprs {
		if out[i] == nil {
			x, err := c.resolveUntyped(e, typ)
			if err != nil {
				return nil, nil, err
			}
			out[i] = x
		}
		if out[i] != tree.DNull {
			out[i] = castTo(out[i], typ)
		}
	}
	return out, typ, nil
}

func (c *checker) caseExpr(e *tree.CaseExpr, desired *types.T) (tree.TypedExpr, error) {
	whens := make([]*tree.When, len(e.Whens))
	vals := make(tree.Exprs, 0, len(e.Whens)+1)
	for i, w := range e.Whens {
		// CASE x WHEN a is x = a, with its own coercions for each a.
		var cond tree.TypedExpr
		var err error
		if e.Expr != nil {
			cond, err = c.comparison(&tree.ComparisonExpr{Operator: tree.EQ, Left: e.Expr, Right: w.Cond})
		} else {
			cond, err = c.boolean(w.Cond, "CASE/WHEN")
		}
		if err != nil {
			return nil, err
		}
		whens[i] = &tree.When{Cond: cond}
		vals = append(vals, w.Val)
	}
	if e.Else != nil {
		vals = append(vals, e.Else)
	}
	typed, t, err := c.unify(vals, desired, "CASE")
	if err != nil {
		return nil, err
	}
	for i := range whens {
		whens[i].Val = typed[i]
	}
	var orElse tree.TypedExpr
	if e.Else != nil {
		orElse = typed[len(typed)-1]
	}
	if orElse == nil {
		// A nil TypedExpr in the Expr field would not compare equal to nil.
		orElse = tree.DNull
	}
	return tree.NewTypedCaseExpr(nil, whens, orElse, t)
}

func (c *checker) array(e *tree.Array, desired *types.T) (tree.TypedExpr, error) {
	elem := types.Any
	if desired.Family() == types.ArrayFamily {
		elem = desired.ArrayContents()
	}
	if len(e.Exprs) == 0 {
		if elem.IsAmbiguous() {
			return nil, pgerr.New("42P18", "cannot determine type of empty array").
				WithHint("Explicitly cast to the desired type, for example ARRAY[]::integer[].")
		}
		return tree.NewTypedArray(nil, types.MakeArray(elem)), nil
	}
	args, t, err := c.unify(e.Exprs, elem, "ARRAY")
	if err != nil {
		return nil, err
	}
	return tree.NewTypedArray(args, types.MakeArray(t)), nil
}

func (c *checker) tuple(e *tree.Tuple, desired *types.T) (tree.TypedExpr, error) {
	want := func(int) *types.T { return types.Any }
	if desired.Family() == types.TupleFamily && len(desired.TupleContents()) == len(e.Exprs) {
		want = func(i int) *types.T { return &desired.TupleContents()[i] }
	}
	exprs := make(tree.Exprs, len(e.Exprs))
	contents := make([]types.T, len(e.Exprs))
	for i, x := range e.Exprs {
		tx, err := c.check(x, want(i))
		if err != nil {
			return nil, err
		}
		exprs[i] = tx
		contents[i] = *tx.ResolvedType()
	}
	return tree.NewTypedTuple(types.MakeLabeledTuple(contents, e.Labels), exprs), nil
}

func (c *checker) subscript(e *tree.IndirectionExpr) (tree.TypedExpr, error) {
	x, err := c.check(e.Expr, types.Any)
	if err != nil {
		return nil, err
	}
	for i, sub := range e.Indirection {
		t := x.ResolvedType()
		if t.Family() == types.JsonFamily && !sub.Slice {
			idx, err := c.check(sub.Begin, types.String)
			if err != nil {
				return nil, err
			}
			x = tree.NewTypedBinaryExpr(tree.JSONFetchVal, x, idx, types.Jsonb)
			continue
		}
		if t.Oid() == oid.T_name && !sub.Slice && i == 0 {
			// A name is an array of characters that counts from zero.
			from := &tree.BinaryExpr{Operator: tree.Plus, Left: &tree.ParenExpr{Expr: sub.Begin}, Right: tree.NewDInt(1)}
			x, err = c.call(&tree.FuncExpr{Func: tree.WrapFunction("substr"), Exprs: tree.Exprs{e.Expr, from, tree.NewDInt(1)}}, types.Any)
			if err != nil {
				return nil, err
			}
			continue
		}
		if t.Family() != types.ArrayFamily {
			return nil, pgerr.Newf(pgerr.DatatypeMismatch, "cannot subscript type %s because it does not support subscripting", typeName(t))
		}
		bound := func(b tree.Expr) (tree.TypedExpr, error) {
			if b == nil {
				return nil, nil
			}
			i, err := c.check(b, types.Int)
			if err != nil {
				return nil, err
			}
			if f := i.ResolvedType().Family(); f != types.IntFamily && f != types.UnknownFamily {
				return nil, pgerr.New(pgerr.DatatypeMismatch, "array subscript must have type integer")
			}
			return i, nil
		}
		begin, err := bound(sub.Begin)
		if err != nil {
			return nil, err
		}
		if sub.Slice {
			end, err := bound(sub.End)
			if err != nil {
				return nil, err
			}
			x = &Slice{Expr: x, Lo: begin, Hi: end}
			continue
		}
		x = tree.NewTypedIndirectionExpr(x, begin, t.ArrayContents())
	}
	return x, nil
}

func (c *checker) columnAccess(e *tree.ColumnAccessExpr) (tree.TypedExpr, error) {
	x, err := c.check(e.Expr, types.Any)
	if err != nil {
		return nil, err
	}
	cp := *e
	cp.Expr = x
	typed, err := cp.TypeCheck(c.ctx, types.Any)
	if err != nil {
		return nil, err
	}
	return typed, nil
}

func (c *checker) unary(e *tree.UnaryExpr) (tree.TypedExpr, error) {
	if e.Operator == tree.UnaryMinus {
		if n, ok := tree.StripParens(e.Expr).(*tree.NumVal); ok {
			return c.number(n, true)
		}
	}
	want := types.Any
	if c.isUntyped(e.Expr) {
		want = types.Float // The preferred type of numbers, as PostgreSQL chooses.
	}
	x, err := c.check(e.Expr, want)
	if err != nil {
		return nil, err
	}
	t := x.ResolvedType()
	if t.Family() == types.UnknownFamily {
		return tree.DNull, nil
	}
	for _, o := range tree.UnaryOps[e.Operator] {
		op := o.(*tree.UnaryOp)
		if !op.Typ.Equivalent(t) {
			continue
		}
		rt := op.ReturnType
		if t.Family() == types.IntFamily {
			rt = intOfWidth(intWidth(t))
		}
		u := tree.NewTypedUnaryExpr(e.Operator, x, rt)
		if t.Family() == types.IntFamily && intWidth(t) < 64 {
			return &intGuard{expr: u, typ: rt}, nil
		}
		return u, nil
	}
	return nil, pgerr.Newf(pgerr.UndefinedFunction, "operator does not exist: %s %s", e.Operator, typeName(t)).
		WithHint(hintOperator)
}

const hintOperator = "No operator matches the given name and argument types. You might need to add explicit type casts."
