package builtins

import (
	"math"
	"strconv"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"
)

// A datum does not know that it is real, whose text has fewer digits than that of
// double precision, or character(n), whose text is filled with blanks. Where a value
// turns into text or JSON, the type of its expression decides.

// shortFloat is the double that reads as a real does.
func shortFloat(d tree.Datum) tree.Datum {
	f, ok := d.(*tree.DFloat)
	if !ok || math.IsNaN(float64(*f)) || math.IsInf(float64(*f), 0) {
		return d
	}
	g, err := strconv.ParseFloat(strconv.FormatFloat(float64(*f), 'g', -1, 32), 64)
	if err != nil {
		return d
	}
	return tree.NewDFloat(tree.DFloat(g))
}

func isReal(t *types.T) bool { return t.Family() == types.FloatFamily && floatWidth(t) == 32 }

func isPadded(t *types.T) bool { return t.Oid() == oid.T_bpchar && t.Width() > 0 }

// output is an argument of a function that renders any type.
type output struct {
	expr   tree.TypedExpr
	asJSON bool
}

var (
	rendersText = map[string]bool{"concat": true, "concat_ws": true, "format": true}
	rendersJSON = map[string]bool{
		"to_json": true, "to_jsonb": true, "json_agg": true, "jsonb_agg": true, "json_build_array": true, "jsonb_build_array": true,
		"json_build_object": true, "jsonb_build_object": true, "json_object_agg": true, "jsonb_object_agg": true,
	}
)

// rendered wraps an argument of function name if its type shapes its text.
func rendered(name string, e tree.TypedExpr) tree.TypedExpr {
	asJSON := rendersJSON[name]
	if !asJSON && !rendersText[name] {
		return e
	}
	if t := e.ResolvedType(); isPadded(t) || isReal(t) {
		return &output{expr: e, asJSON: asJSON}
	}
	return e
}

func (o *output) String() string          { return tree.AsString(o) }
func (o *output) Format(ctx *tree.FmtCtx) { ctx.FormatNode(o.expr) }
func (o *output) Walk(v tree.Visitor) tree.Expr {
	e, changed := tree.WalkExpr(v, o.expr)
	if changed {
		return &output{expr: e.(tree.TypedExpr), asJSON: o.asJSON}
	}
	return o
}
func (o *output) ResolvedType() *types.T {
	if o.asJSON && isReal(o.expr.ResolvedType()) {
		return types.Float
	}
	return types.String
}
func (o *output) TypeCheck(*tree.SemaContext, *types.T) (tree.TypedExpr, error) { return o, nil }
func (o *output) Eval(ctx *tree.EvalContext) (tree.Datum, error) {
	d, err := o.expr.Eval(ctx)
	if err != nil || d == tree.DNull {
		return d, err
	}
	t := o.expr.ResolvedType()
	if o.asJSON && isReal(t) {
		return shortFloat(d), nil
	}
	return tree.NewDString(FormatText(ctx, d, t)), nil
}

// castFrom casts a value of an expression of type from.
func castFrom(ctx *tree.EvalContext, d tree.Datum, from, to *types.T, in CastContext) (tree.Datum, error) {
	if isReal(from) {
		switch to.Family() {
		case types.StringFamily:
			return limitString(FormatText(ctx, unwrap(d), from), to, in)
		case types.DecimalFamily:
			if f, ok := d.(*tree.DFloat); ok && !math.IsNaN(float64(*f)) && !math.IsInf(float64(*f), 0) {
				// As PostgreSQL: six significant digits.
				g, err := strconv.ParseFloat(strconv.FormatFloat(float64(*f), 'g', 6, 32), 64)
				if err != nil {
					return nil, err
				}
				d = tree.NewDFloat(tree.DFloat(g))
			}
		}
	}
	return CastDatum(ctx, d, to, in)
}
