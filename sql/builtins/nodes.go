package builtins

import (
	"math"
	"strconv"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// Const is a constant whose type is narrower than its datum says: an integer
// literal is a DInt, whose own type is bigint, but PostgreSQL's type is integer.
type Const struct {
	D tree.Datum
	T *types.T
}

// Cast is a type-checked cast with PostgreSQL's semantics. It takes the place of
// tree.CastExpr.
type Cast struct {
	Expr    tree.TypedExpr
	Typ     *types.T
	Context CastContext
}

// intGuard checks the range of integer arithmetic of less than 64 bits.
type intGuard struct {
	expr tree.TypedExpr
	typ  *types.T
}

// Slice is a[lo:hi].
type Slice struct {
	Expr   tree.TypedExpr
	Lo, Hi tree.TypedExpr // nil: to the end
}

// NullIf is NULLIF(a, b): the comparison, and the value if it is not true.
type NullIf struct {
	Value tree.TypedExpr
	Eq    tree.TypedExpr
}

// RowNullTest is row IS NULL (all fields are) or IS NOT NULL (no field is).
type RowNullTest struct {
	Expr    tree.TypedExpr
	NotNull bool
}

var (
	_ tree.TypedExpr = (*RowNullTest)(nil)
	_ tree.TypedExpr = (*Const)(nil)
	_ tree.TypedExpr = (*Cast)(nil)
	_ tree.TypedExpr = (*intGuard)(nil)
	_ tree.TypedExpr = (*Slice)(nil)
	_ tree.TypedExpr = (*NullIf)(nil)
)

// ConstValue returns the datum of a constant expression: a datum or a Const.
func ConstValue(e tree.Expr) (tree.Datum, bool) {
	switch t := e.(type) {
	case *Const:
		return t.D, true
	case *tree.Placeholder:
		return nil, false
	case tree.Datum:
		return t, true
	}
	return nil, false
}

func (c *Const) String() string              { return tree.AsString(c) }
func (c *Const) Format(ctx *tree.FmtCtx)     { ctx.FormatNode(c.D) }
func (c *Const) Walk(tree.Visitor) tree.Expr { return c }
func (c *Const) ResolvedType() *types.T      { return c.T }
func (c *Const) TypeCheck(*tree.SemaContext, *types.T) (tree.TypedExpr, error) {
	return c, nil
}
func (c *Const) Eval(*tree.EvalContext) (tree.Datum, error) { return c.D, nil }

func (c *Cast) String() string { return tree.AsString(c) }
func (c *Cast) Format(ctx *tree.FmtCtx) {
	if c.Context != ExplicitCast {
		ctx.FormatNode(c.Expr)
		return
	}
	ctx.WriteString("CAST(")
	ctx.FormatNode(c.Expr)
	ctx.WriteString(" AS ")
	ctx.WriteString(c.Typ.SQLString())
	ctx.WriteByte(')')
}
func (c *Cast) Walk(v tree.Visitor) tree.Expr {
	e, changed := tree.WalkExpr(v, c.Expr)
	if changed {
		return &Cast{Expr: e.(tree.TypedExpr), Typ: c.Typ, Context: c.Context}
	}
	return c
}
func (c *Cast) ResolvedType() *types.T { return c.Typ }
func (c *Cast) TypeCheck(*tree.SemaContext, *types.T) (tree.TypedExpr, error) {
	return c, nil
}
func (c *Cast) Eval(ctx *tree.EvalContext) (tree.Datum, error) {
	d, err := c.Expr.Eval(ctx)
	if err != nil || d == tree.DNull {
		return d, err
	}
	if huge(d) {
		return leave(ctx, func(ctx *tree.EvalContext) (tree.Datum, error) {
			return castFrom(ctx, d, c.Expr.ResolvedType(), c.Typ, c.Context)
		})
	}
	return castFrom(ctx, d, c.Expr.ResolvedType(), c.Typ, c.Context)
}

func (g *intGuard) String() string          { return tree.AsString(g) }
func (g *intGuard) Format(ctx *tree.FmtCtx) { ctx.FormatNode(g.expr) }
func (g *intGuard) Walk(v tree.Visitor) tree.Expr {
	e, changed := tree.WalkExpr(v, g.expr)
	if changed {
		return &intGuard{expr: e.(tree.TypedExpr), typ: g.typ}
	}
	return g
}
func (g *intGuard) ResolvedType() *types.T { return g.typ }
func (g *intGuard) TypeCheck(*tree.SemaContext, *types.T) (tree.TypedExpr, error) {
	return g, nil
}
func (g *intGuard) Eval(ctx *tree.EvalContext) (tree.Datum, error) {
	d, err := g.expr.Eval(ctx)
	if err != nil {
		return nil, err
	}
	if i, ok := d.(*tree.DInt); ok {
		if err := checkIntRange(int64(*i), intWidth(g.typ)); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func checkIntRange(i int64, width int32) error {
	switch {
	case width == 16 && (i < math.MinInt16 || i > math.MaxInt16):
		return errIntRange(16)
	case width == 32 && (i < math.MinInt32 || i > math.MaxInt32):
		return errIntRange(32)
	}
	return nil
}

func errIntRange(width int32) error {
	name := map[int32]string{16: "smallint", 32: "integer", 64: "bigint"}[width]
	return pgerr.New(pgerr.NumericValueOutOfRange, name+" out of range")
}

func (s *Slice) String() string { return tree.AsString(s) }
func (s *Slice) Format(ctx *tree.FmtCtx) {
	ctx.FormatNode(s.Expr)
	ctx.WriteByte('[')
	if s.Lo != nil {
		ctx.FormatNode(s.Lo)
	}
	ctx.WriteByte(':')
	if s.Hi != nil {
		ctx.FormatNode(s.Hi)
	}
	ctx.WriteByte(']')
}
func (s *Slice) Walk(v tree.Visitor) tree.Expr {
	out := *s
	changed := false
	walk := func(e tree.TypedExpr) tree.TypedExpr {
		if e == nil {
			return nil
		}
		n, c := tree.WalkExpr(v, e)
		changed = changed || c
		return n.(tree.TypedExpr)
	}
	out.Expr, out.Lo, out.Hi = walk(s.Expr), walk(s.Lo), walk(s.Hi)
	if changed {
		return &out
	}
	return s
}
func (s *Slice) ResolvedType() *types.T { return s.Expr.ResolvedType() }
func (s *Slice) TypeCheck(*tree.SemaContext, *types.T) (tree.TypedExpr, error) {
	return s, nil
}
func (s *Slice) Eval(ctx *tree.EvalContext) (tree.Datum, error) {
	d, err := s.Expr.Eval(ctx)
	if err != nil || d == tree.DNull {
		return d, err
	}
	arr := tree.MustBeDArray(d)
	lo, hi := 1, len(arr.Array)
	for _, b := range []struct {
		e tree.TypedExpr
		v *int
	}{{s.Lo, &lo}, {s.Hi, &hi}} {
		if b.e == nil {
			continue
		}
		bd, err := b.e.Eval(ctx)
		if err != nil || bd == tree.DNull {
			return bd, err
		}
		*b.v = int(tree.MustBeDInt(bd))
	}
	out := tree.NewDArray(arr.ParamTyp)
	for i := max(lo, 1); i <= min(hi, len(arr.Array)); i++ {
		if err := out.Append(arr.Array[i-1]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (n *NullIf) String() string { return tree.AsString(n) }
func (n *NullIf) Format(ctx *tree.FmtCtx) {
	ctx.WriteString("NULLIF(")
	if c, ok := n.Eq.(*tree.ComparisonExpr); ok {
		ctx.FormatNode(c.Left)
		ctx.WriteString(", ")
		ctx.FormatNode(c.Right)
	}
	ctx.WriteByte(')')
}
func (n *NullIf) Walk(v tree.Visitor) tree.Expr {
	val, c1 := tree.WalkExpr(v, n.Value)
	eq, c2 := tree.WalkExpr(v, n.Eq)
	if c1 || c2 {
		return &NullIf{Value: val.(tree.TypedExpr), Eq: eq.(tree.TypedExpr)}
	}
	return n
}
func (n *NullIf) ResolvedType() *types.T { return n.Value.ResolvedType() }
func (n *NullIf) TypeCheck(*tree.SemaContext, *types.T) (tree.TypedExpr, error) {
	return n, nil
}
func (n *NullIf) Eval(ctx *tree.EvalContext) (tree.Datum, error) {
	eq, err := n.Eq.Eval(ctx)
	if err != nil {
		return nil, err
	}
	if eq == tree.DBoolTrue {
		return tree.DNull, nil
	}
	return n.Value.Eval(ctx)
}

func (n *RowNullTest) String() string { return tree.AsString(n) }
func (n *RowNullTest) Format(ctx *tree.FmtCtx) {
	ctx.FormatNode(n.Expr)
	if n.NotNull {
		ctx.WriteString(" IS NOT NULL")
		return
	}
	ctx.WriteString(" IS NULL")
}
func (n *RowNullTest) Walk(v tree.Visitor) tree.Expr {
	e, changed := tree.WalkExpr(v, n.Expr)
	if changed {
		return &RowNullTest{Expr: e.(tree.TypedExpr), NotNull: n.NotNull}
	}
	return n
}
func (n *RowNullTest) ResolvedType() *types.T { return types.Bool }
func (n *RowNullTest) TypeCheck(*tree.SemaContext, *types.T) (tree.TypedExpr, error) {
	return n, nil
}
func (n *RowNullTest) Eval(ctx *tree.EvalContext) (tree.Datum, error) {
	d, err := n.Expr.Eval(ctx)
	if err != nil {
		return nil, err
	}
	tup, ok := d.(*tree.DTuple)
	if !ok {
		return tree.MakeDBool(tree.DBool(d != tree.DNull == n.NotNull)), nil
	}
	for _, f := range tup.D {
		if (f != tree.DNull) != n.NotNull {
			return tree.DBoolFalse, nil
		}
	}
	return tree.DBoolTrue, nil
}

// enumList is enum_first, enum_last and enum_range of an enum type.
type enumList struct {
	enum, typ *types.T
	name      string
}

func (n *enumList) String() string { return tree.AsString(n) }
func (n *enumList) Format(ctx *tree.FmtCtx) {
	ctx.WriteString(n.name)
	ctx.WriteString("()")
}
func (n *enumList) Walk(tree.Visitor) tree.Expr { return n }
func (n *enumList) ResolvedType() *types.T      { return n.typ }
func (n *enumList) TypeCheck(*tree.SemaContext, *types.T) (tree.TypedExpr, error) {
	return n, nil
}
func (n *enumList) Eval(ctx *tree.EvalContext) (tree.Datum, error) {
	env, err := getEnv(ctx)
	if err != nil {
		return nil, err
	}
	id, err := strconv.ParseUint(n.enum.Locale()[1:], 10, 32)
	if err != nil {
		return nil, err
	}
	vals, _, err := env.EnumValues(ctx.Context, oid.Oid(id))
	switch {
	case err != nil:
		return nil, err
	case n.name == "enum_range":
		return newArray(n.enum, vals)
	case len(vals) == 0:
		return tree.DNull, nil
	case n.name == "enum_first":
		return vals[0], nil
	}
	return vals[len(vals)-1], nil
}
