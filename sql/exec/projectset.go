package exec

import (
	"context"
	"slices"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
)

// NewProjectSet runs set-returning functions on each input row, side by side
// until all are exhausted; the shorter ones give NULLs, a row without results
// vanishes. It yields the input's columns and then the functions'. With expand
// a function that returns records gives its columns, else one tuple. With
// ordinality a last column counts from 1.
//
// Over a single empty row (NewRows with no columns) this is a function in FROM.
func NewProjectSet(f *Flow, in Operator, funcs []*tree.FuncExpr, expand, ordinality bool) Operator {
	o := &projectSet{unary: unary{flow: f, in: in}, ordinality: ordinality}
	o.typs = slices.Clone(in.Types())
	for _, fn := range funcs {
		t := fn.ResolvedType()
		g := genCall{fn: fn, width: 1}
		if t.Family() == types.TupleFamily && expand {
			g.expand, g.width = true, len(t.TupleContents())
			for i := range t.TupleContents() {
				o.typs = append(o.typs, &t.TupleContents()[i])
			}
		} else {
			o.typs = append(o.typs, t)
		}
		g.tuple = t.Family() == types.TupleFamily
		o.gens = append(o.gens, g)
	}
	if ordinality {
		o.typs = append(o.typs, types.Int)
	}
	o.out = make(tree.Datums, len(o.typs))
	return o
}

type genCall struct {
	fn     *tree.FuncExpr
	expand bool
	tuple  bool
	width  int
	gen    builtins.Generator // nil when exhausted
	args   tree.Datums
}

type projectSet struct {
	unary
	gens       []genCall
	ordinality bool
	typs       []*types.T
	out        tree.Datums
	active     bool
	ord        int64
	n          int
}

func (o *projectSet) Types() []*types.T { return o.typs }

func (o *projectSet) Open(ctx context.Context) error {
	o.stop()
	return o.in.Open(ctx)
}

func (o *projectSet) stop() {
	for i := range o.gens {
		if o.gens[i].gen != nil {
			o.gens[i].gen.Close()
			o.gens[i].gen = nil
		}
	}
	o.active = false
}

func (o *projectSet) Close() {
	o.stop()
	o.in.Close()
}

func (o *projectSet) Next(ctx context.Context) (tree.Datums, error) {
	for {
		if err := checkCtx(ctx, &o.n); err != nil {
			return nil, err
		}
		if !o.active {
			row, err := o.in.Next(ctx)
			if err != nil || row == nil {
				return nil, err
			}
			copy(o.out, row)
			if err := o.start(row); err != nil {
				return nil, err
			}
			o.active, o.ord = true, 0
		}
		any := false
		col := len(o.in.Types())
		for i := range o.gens {
			g := &o.gens[i]
			var vals tree.Datums
			if g.gen != nil {
				var err error
				if vals, err = g.gen.Next(ctx); err != nil {
					return nil, builtins.MapError(err)
				}
				if vals == nil {
					g.gen.Close()
					g.gen = nil
				}
			}
			any = any || vals != nil
			switch {
			case vals == nil:
				setNulls(o.out[col : col+g.width])
			case g.tuple && !g.expand:
				o.out[col] = tree.NewDTuple(g.fn.ResolvedType(), slices.Clone(vals)...)
			default:
				copy(o.out[col:], vals)
			}
			col += g.width
		}
		if !any {
			o.active = false
			continue
		}
		o.ord++
		if o.ordinality {
			o.out[col] = tree.NewDInt(tree.DInt(o.ord))
		}
		return o.out, nil
	}
}

// start evaluates the arguments on row and starts the calls. A NULL argument
// gives no rows, unless the function wants to see NULLs.
func (o *projectSet) start(row tree.Datums) error {
	for i := range o.gens {
		g := &o.gens[i]
		g.args = g.args[:0]
		strictNull := false
		for _, e := range g.fn.Exprs {
			d, err := o.flow.EvalRow(e.(tree.TypedExpr), row)
			if err != nil {
				return err
			}
			strictNull = strictNull || d == tree.DNull
			g.args = append(g.args, d)
		}
		if strictNull && !g.fn.CanHandleNulls() {
			continue
		}
		factory, ok := builtins.GeneratorOf(g.fn)
		if !ok {
			return pgerr.Newf(pgerr.Internal, "%s is not a set-returning function", g.fn)
		}
		gen, err := factory(o.flow.Eval, slices.Clone(g.args))
		if err != nil {
			return builtins.MapError(err)
		}
		g.gen = gen
	}
	return nil
}

// NewOrdinality adds a column that counts rows from 1 (WITH ORDINALITY).
func NewOrdinality(f *Flow, in Operator) Operator {
	typs := append(slices.Clone(in.Types()), types.Int)
	return &ordinality{unary: unary{flow: f, in: in}, typs: typs, out: make(tree.Datums, len(typs))}
}

type ordinality struct {
	unary
	typs []*types.T
	out  tree.Datums
	num  int64
}

func (o *ordinality) Types() []*types.T { return o.typs }

func (o *ordinality) Open(ctx context.Context) error {
	o.num = 0
	return o.in.Open(ctx)
}

func (o *ordinality) Next(ctx context.Context) (tree.Datums, error) {
	row, err := o.in.Next(ctx)
	if err != nil || row == nil {
		return nil, err
	}
	o.num++
	copy(o.out, row)
	o.out[len(o.out)-1] = tree.NewDInt(tree.DInt(o.num))
	return o.out, nil
}
