package exec

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
)

// NewValues yields the given rows of expressions, each evaluated when it is
// pulled.
func NewValues(f *Flow, typs []*types.T, rows [][]tree.TypedExpr) Operator {
	return &values{flow: f, typs: typs, rows: rows, out: make(tree.Datums, len(typs))}
}

type values struct {
	flow *Flow
	typs []*types.T
	rows [][]tree.TypedExpr
	next int
	out  tree.Datums
}

func (v *values) Types() []*types.T          { return v.typs }
func (v *values) Open(context.Context) error { v.next = 0; return nil }
func (v *values) Close()                     {}
func (v *values) Next(ctx context.Context) (tree.Datums, error) {
	if v.next >= len(v.rows) {
		return nil, nil
	}
	if err := checkCtx(ctx, &v.next); err != nil {
		return nil, err
	}
	for i, e := range v.rows[v.next-1] {
		d, err := v.flow.EvalRow(e, nil)
		if err != nil {
			return nil, err
		}
		v.out[i] = d
	}
	return v.out, nil
}

// NewRows yields rows that are already there.
func NewRows(typs []*types.T, rows []tree.Datums) Operator {
	return &fixedRows{typs: typs, rows: rows}
}

type fixedRows struct {
	typs []*types.T
	rows []tree.Datums
	next int
}

func (v *fixedRows) Types() []*types.T          { return v.typs }
func (v *fixedRows) Open(context.Context) error { v.next = 0; return nil }
func (v *fixedRows) Close()                     {}
func (v *fixedRows) Next(context.Context) (tree.Datums, error) {
	if v.next >= len(v.rows) {
		return nil, nil
	}
	v.next++
	return v.rows[v.next-1], nil
}

// NewFilter passes the rows on which pred is true.
func NewFilter(f *Flow, in Operator, pred tree.TypedExpr) Operator {
	return &filter{unary: unary{flow: f, in: in}, pred: newFoldedExpr(pred)}
}

type filter struct {
	unary
	pred foldedExpr
	n    int
}

func (o *filter) Open(ctx context.Context) error {
	o.pred.open(o.flow)
	return o.in.Open(ctx)
}

func (o *filter) Next(ctx context.Context) (tree.Datums, error) {
	for {
		row, err := o.in.Next(ctx)
		if err != nil || row == nil {
			return nil, err
		}
		ok, err := o.flow.EvalBool(o.pred.cur, row)
		if err != nil {
			return nil, err
		}
		if ok {
			return row, nil
		}
		if err := checkCtx(ctx, &o.n); err != nil {
			return nil, err
		}
	}
}

// NewProject computes exprs over each row.
func NewProject(f *Flow, in Operator, exprs []tree.TypedExpr) Operator {
	typs := make([]*types.T, len(exprs))
	folded := make([]foldedExpr, len(exprs))
	for i, e := range exprs {
		typs[i] = e.ResolvedType()
		folded[i] = newFoldedExpr(e)
	}
	return &project{unary: unary{flow: f, in: in}, exprs: folded, typs: typs, out: make(tree.Datums, len(exprs))}
}

type project struct {
	unary
	exprs []foldedExpr
	typs  []*types.T
	out   tree.Datums
}

func (o *project) Types() []*types.T { return o.typs }

func (o *project) Open(ctx context.Context) error {
	for i := range o.exprs {
		o.exprs[i].open(o.flow)
	}
	return o.in.Open(ctx)
}

func (o *project) Next(ctx context.Context) (tree.Datums, error) {
	row, err := o.in.Next(ctx)
	if err != nil || row == nil {
		return nil, err
	}
	for i := range o.exprs {
		if o.out[i], err = o.flow.EvalRow(o.exprs[i].cur, row); err != nil {
			return nil, err
		}
	}
	return o.out, nil
}

// NewLimit skips offset rows and passes at most limit of the rest; a nil
// expression, or one that is NULL, sets no bound. Both are evaluated at Open.
func NewLimit(f *Flow, in Operator, limit, offset tree.TypedExpr) Operator {
	return &limitOp{unary: unary{flow: f, in: in}, limit: limit, offset: offset}
}

type limitOp struct {
	unary
	limit, offset tree.TypedExpr
	skip, left    int64
	n             int
}

func (o *limitOp) Open(ctx context.Context) error {
	var err error
	if o.left, err = evalCount(o.flow, o.limit, -1, "LIMIT", "2201W"); err != nil {
		return err
	}
	if o.skip, err = evalCount(o.flow, o.offset, 0, "OFFSET", "2201X"); err != nil {
		return err
	}
	return o.in.Open(ctx)
}

func (o *limitOp) Next(ctx context.Context) (tree.Datums, error) {
	if o.left == 0 {
		return nil, nil
	}
	for ; o.skip > 0; o.skip-- {
		row, err := o.in.Next(ctx)
		if err != nil || row == nil {
			return nil, err
		}
		if err := checkCtx(ctx, &o.n); err != nil {
			return nil, err
		}
	}
	row, err := o.in.Next(ctx)
	if err != nil || row == nil {
		return nil, err
	}
	if o.left > 0 {
		o.left--
	}
	return row, nil
}
