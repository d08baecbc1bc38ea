package exec

import (
	"context"
	"slices"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/holdfastdb/holdfast/sql/builtins"
)

// WindowSpec is one window function call over columns of the input.
type WindowSpec struct {
	Func      *tree.FuncExpr // type-checked; a window function or an aggregate
	Args      []int
	Filter    int // column of the FILTER condition, or -1
	Partition []int
	Order     Ordering
	// Frame may be nil: the default. Offsets in it must be typed and constant.
	Frame *tree.WindowFrame
}

// NewWindow adds one column per spec to the input's. Specs that share
// partitioning and order are computed in one pass over the sorted input; a
// partition is kept in memory. The rows come in the order of the last pass.
func NewWindow(f *Flow, in Operator, specs []WindowSpec) Operator {
	type pass struct {
		specs []WindowSpec
		idx   []int
	}
	var passes []*pass
	for i, s := range specs {
		j := slices.IndexFunc(passes, func(p *pass) bool {
			return slices.Equal(p.specs[0].Partition, s.Partition) && slices.Equal(p.specs[0].Order, s.Order)
		})
		if j < 0 {
			passes = append(passes, &pass{})
			j = len(passes) - 1
		}
		passes[j].specs = append(passes[j].specs, s)
		passes[j].idx = append(passes[j].idx, i)
	}
	nIn := len(in.Types())
	op := in
	at := make([]int, len(specs)) // where each spec's column ended up
	col := nIn
	for _, p := range passes {
		op = newWindowPass(f, op, p.specs)
		for _, i := range p.idx {
			at[i] = col
			col++
		}
	}
	if len(passes) <= 1 {
		return op
	}
	exprs := make([]tree.TypedExpr, 0, col)
	for i, t := range in.Types() {
		exprs = append(exprs, tree.NewTypedOrdinalReference(i, t))
	}
	for i, s := range specs {
		exprs = append(exprs, tree.NewTypedOrdinalReference(at[i], s.Func.ResolvedType()))
	}
	return NewProject(f, op, exprs)
}

type windowPass struct {
	unary
	specs   []WindowSpec
	sorter  *sorter
	typs    []*types.T
	out     tree.Datums
	acc     account
	iter    func() (tree.Datums, error)
	pending tree.Datums // first row of the next partition
	eof     bool

	part windowPartition
	vals []tree.Datums // results by spec
	emit int
	n    int
}

func newWindowPass(f *Flow, in Operator, specs []WindowSpec) *windowPass {
	w := &windowPass{unary: unary{flow: f, in: in}, specs: specs, acc: account{b: f.Mem}}
	var ord Ordering
	for _, c := range specs[0].Partition {
		ord = append(ord, Order(c, false))
	}
	w.sorter = newSorter(f, append(ord, specs[0].Order...))
	w.typs = slices.Clone(in.Types())
	for _, s := range specs {
		w.typs = append(w.typs, s.Func.ResolvedType())
	}
	w.out = make(tree.Datums, len(w.typs))
	return w
}

func (w *windowPass) Types() []*types.T { return w.typs }

func (w *windowPass) Open(ctx context.Context) error {
	w.reset()
	return w.in.Open(ctx)
}

func (w *windowPass) reset() {
	w.sorter.clear()
	w.acc.clear()
	w.part = windowPartition{}
	w.iter, w.pending, w.eof, w.vals, w.emit = nil, nil, false, nil, 0
}

func (w *windowPass) Close() {
	w.reset()
	w.in.Close()
}

func (w *windowPass) Next(ctx context.Context) (tree.Datums, error) {
	if w.iter == nil {
		for {
			row, err := w.in.Next(ctx)
			if err != nil {
				return nil, err
			}
			if row == nil {
				break
			}
			if err := w.sorter.add(row); err != nil {
				return nil, err
			}
		}
		w.in.Close()
		var err error
		if w.iter, err = w.sorter.finish(ctx); err != nil {
			return nil, err
		}
	}
	if w.emit >= len(w.part.rows) {
		if w.eof {
			return nil, nil
		}
		if err := w.loadPartition(ctx); err != nil {
			return nil, err
		}
		if len(w.part.rows) == 0 {
			return nil, nil
		}
	}
	row := w.part.rows[w.emit]
	copy(w.out, row)
	for i := range w.specs {
		w.out[len(row)+i] = w.vals[i][w.emit]
	}
	w.emit++
	return w.out, nil
}

// loadPartition reads the rows of the next partition and computes all specs.
func (w *windowPass) loadPartition(ctx context.Context) error {
	w.acc.clear()
	w.part = windowPartition{flow: w.flow, order: w.specs[0].Order}
	w.emit = 0
	inMemory := len(w.sorter.runs) == 0 // then the sorter's rows stay valid
	partCols := w.specs[0].Partition
	keep := func(row tree.Datums) (tree.Datums, error) {
		extra := int64(len(w.specs)) * (datumPtrSize + 16)
		if inMemory {
			return row, w.acc.grow(extra)
		}
		return slices.Clone(row), w.acc.grow(rowSize(row) + extra)
	}
	var key, first []byte
	if w.pending != nil {
		w.part.rows = append(w.part.rows, w.pending)
		first, _ = appendKeyCols(nil, w.pending, partCols)
		w.pending = nil
	}
	for {
		if err := checkCtx(ctx, &w.n); err != nil {
			return err
		}
		row, err := w.iter()
		if err != nil {
			return err
		}
		if row == nil {
			w.eof = true
			break
		}
		if row, err = keep(row); err != nil {
			return err
		}
		key, _ = appendKeyCols(key[:0], row, partCols)
		if len(w.part.rows) == 0 {
			first = append(first, key...)
		} else if string(key) != string(first) {
			w.pending = row
			break
		}
		w.part.rows = append(w.part.rows, row)
	}
	if len(w.part.rows) == 0 {
		return nil
	}
	w.part.findPeers()
	w.vals = make([]tree.Datums, len(w.specs))
	for i := range w.specs {
		vals, err := w.part.compute(ctx, &w.specs[i])
		if err != nil {
			return builtins.MapError(err)
		}
		w.vals[i] = vals
	}
	return nil
}
