package builtins

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
)

// FoldConstants evaluates the parts of e that do not depend on a row, once
// instead of once per row: now() - interval '1 hour', parameters, the list of an
// IN. A part whose evaluation fails stays, since it may never be reached. The
// result holds for one execution; e is not changed.
func FoldConstants(ctx *tree.EvalContext, e tree.TypedExpr) tree.TypedExpr {
	v := folder{ctx: ctx}
	out, changed := tree.WalkExpr(&v, e)
	if !changed {
		return e
	}
	return out.(tree.TypedExpr)
}

// Foldable says whether FoldConstants could do anything for e.
func Foldable(e tree.TypedExpr) bool {
	if e == nil {
		return false
	}
	v := folder{}
	tree.WalkExprConst(&v, e)
	return v.found
}

type folder struct {
	ctx   *tree.EvalContext // nil: only look
	found bool
}

func (v *folder) VisitPre(e tree.Expr) (recurse bool, newExpr tree.Expr) {
	te, ok := e.(tree.TypedExpr)
	if !ok || v.found && v.ctx == nil {
		return ok, e
	}
	if _, isConst := ConstValue(e); isConst {
		return false, e
	}
	if !rowIndependent(te) {
		if cmp, ok := te.(*tree.ComparisonExpr); ok && isConstList(cmp) {
			v.found = true
			if v.ctx != nil {
				return true, v.listAsDatum(cmp)
			}
		}
		return true, e
	}
	v.found = true
	if v.ctx == nil {
		return false, e
	}
	d, err := te.Eval(v.ctx)
	if err != nil {
		return false, e
	}
	return false, &Const{D: d, T: te.ResolvedType()}
}

func (v *folder) VisitPost(e tree.Expr) tree.Expr { return e }

// rowIndependent says whether e gives one value throughout an execution. Nodes it
// does not know are taken to depend on the row.
func rowIndependent(e tree.Expr) bool {
	switch t := e.(type) {
	case *tree.Placeholder, *Const:
		return true
	case *Cast:
		return rowIndependent(t.Expr)
	case *intGuard:
		return rowIndependent(t.expr)
	case *tree.UnaryExpr:
		return rowIndependent(t.Expr)
	case *tree.BinaryExpr:
		return rowIndependent(t.Left) && rowIndependent(t.Right)
	case *tree.NotExpr:
		return rowIndependent(t.Expr)
	case *tree.Array:
		return allIndependent(t.Exprs)
	case *tree.CoalesceExpr:
		return allIndependent(t.Exprs)
	case *tree.FuncExpr:
		def, ok := t.Func.FunctionReference.(*tree.FunctionDefinition)
		return ok && def.Class == tree.NormalClass && !def.Impure && t.WindowDef == nil && allIndependent(t.Exprs)
	case tree.Datum:
		return true
	}
	return false
}

func allIndependent(es tree.Exprs) bool {
	for _, e := range es {
		if !rowIndependent(e) {
			return false
		}
	}
	return true
}

// inListMin is the length from which an IN list is searched, not scanned.
const inListMin = 3

func isConstList(c *tree.ComparisonExpr) bool {
	if c.Operator != tree.In && c.Operator != tree.NotIn {
		return false
	}
	tup, ok := c.Right.(*tree.Tuple)
	return ok && len(tup.Exprs) >= inListMin && allIndependent(tup.Exprs)
}

// listAsDatum makes the list of an IN one datum, sorted if that keeps the meaning.
func (v *folder) listAsDatum(c *tree.ComparisonExpr) tree.Expr {
	tup := c.Right.(*tree.Tuple)
	ds := make(tree.Datums, len(tup.Exprs))
	sortable := true
	for i, e := range tup.Exprs {
		d, err := e.(tree.TypedExpr).Eval(v.ctx)
		if err != nil {
			return c
		}
		ds[i] = d
		switch d.(type) {
		case *tree.DInt, *tree.DString, *tree.DUuid, *tree.DDate, *tree.DTimestamp, *tree.DTimestampTZ:
		default:
			sortable = false // NULLs and NaN have no place in the parser's order.
		}
	}
	switch c.Left.(tree.TypedExpr).ResolvedType().Family() {
	case types.IntFamily, types.StringFamily, types.UuidFamily, types.DateFamily, types.TimestampFamily, types.TimestampTZFamily:
	default:
		sortable = false
	}
	list := tree.NewDTuple(tup.ResolvedType(), ds...)
	if sortable {
		list.Normalize(v.ctx)
	}
	return tree.NewTypedComparisonExpr(c.Operator, c.Left.(tree.TypedExpr), list)
}
