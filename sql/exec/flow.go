package exec

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/holdfastdb/holdfast/sql/builtins"
)

// Flow is what the operators of one statement share.
type Flow struct {
	// Eval evaluates expressions. Its IVarContainer is set by the operators.
	Eval *tree.EvalContext
	// Mem bounds the statement's memory. Nil means no bound.
	Mem *Budget
	// TempDir is where rows spill; it must exist. Empty means os.TempDir.
	TempDir string

	row rowSource
}

// NewFlow returns a flow for one statement.
func NewFlow(eval *tree.EvalContext, mem *Budget, tempDir string) *Flow {
	return &Flow{Eval: eval, Mem: mem, TempDir: tempDir}
}

// rowSource gives expressions the row they are evaluated on.
type rowSource struct {
	row tree.Datums
}

var _ tree.IndexedVarContainer = (*rowSource)(nil)

func (r *rowSource) IndexedVarEval(idx int, _ *tree.EvalContext) (tree.Datum, error) {
	return r.row[idx], nil
}
func (r *rowSource) IndexedVarResolvedType(idx int) *types.T            { return r.row[idx].ResolvedType() }
func (r *rowSource) IndexedVarNodeFormatter(idx int) tree.NodeFormatter { return nil }

// EvalRow evaluates e with the columns of row. Errors are PostgreSQL's.
func (f *Flow) EvalRow(e tree.TypedExpr, row tree.Datums) (tree.Datum, error) {
	switch t := e.(type) {
	case *tree.IndexedVar:
		return row[t.Idx], nil
	case tree.Datum:
		if _, ok := t.(*tree.Placeholder); !ok {
			return t, nil
		}
	}
	saved, savedRow := f.Eval.IVarContainer, f.row.row
	f.row.row = row
	f.Eval.IVarContainer = &f.row
	d, err := e.Eval(f.Eval)
	f.Eval.IVarContainer, f.row.row = saved, savedRow
	if err != nil {
		return nil, builtins.MapError(err)
	}
	return d, nil
}

// EvalBool says whether e is true (neither false nor NULL) on row.
func (f *Flow) EvalBool(e tree.TypedExpr, row tree.Datums) (bool, error) {
	d, err := f.EvalRow(e, row)
	if err != nil {
		return false, err
	}
	if d == tree.DNull {
		return false, nil
	}
	b, err := tree.GetBool(d)
	return bool(b), err
}

// OuterRow holds the current row of an enclosing plan for correlated inner
// plans. Apply and Subquery set it.
type OuterRow struct {
	row tree.Datums
}

// Set makes row the one that references see.
func (o *OuterRow) Set(row tree.Datums) { o.row = row }

// Ref returns an expression for column idx of the outer row.
func (o *OuterRow) Ref(idx int, typ *types.T) tree.TypedExpr {
	return &outerRef{outer: o, idx: idx, typ: typ}
}

type outerRef struct {
	outer *OuterRow
	idx   int
	typ   *types.T
}

var _ tree.TypedExpr = (*outerRef)(nil)

func (r *outerRef) String() string              { return tree.AsString(r) }
func (r *outerRef) Format(ctx *tree.FmtCtx)     { ctx.Printf("outer@%d", r.idx+1) }
func (r *outerRef) Walk(tree.Visitor) tree.Expr { return r }
func (r *outerRef) ResolvedType() *types.T      { return r.typ }
func (r *outerRef) Variable()                   {}
func (r *outerRef) TypeCheck(*tree.SemaContext, *types.T) (tree.TypedExpr, error) {
	return r, nil
}
func (r *outerRef) Eval(*tree.EvalContext) (tree.Datum, error) { return r.outer.row[r.idx], nil }

// checkCtx is called by loops that may run long without pulling a row.
func checkCtx(ctx context.Context, n *int) error {
	if *n++; *n&0x3ff == 0 {
		return ctx.Err()
	}
	return nil
}
