package exec

import (
	"context"
	"slices"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/holdfastdb/holdfast/sql/builtins"
)

// AggSpec is one aggregate over columns of the input.
type AggSpec struct {
	// Func is the type-checked call; it decides the implementation, the types
	// and DISTINCT.
	Func *tree.FuncExpr
	// Args are the columns of the arguments.
	Args []int
	// Filter is the column of the FILTER condition, or -1.
	Filter int
	// Order is the ORDER BY inside the call (or WITHIN GROUP), over input columns.
	Order Ordering
}

// NewHashAggregate yields one row per group: the group columns, then the
// aggregates. Without group columns it yields exactly one row. Groups that do
// not fit into memory are worked on later, from disk. If the state of an
// aggregate grows with its rows (DISTINCT, ORDER BY, array_agg…) the input is
// sorted instead, so that only one group is in memory.
func NewHashAggregate(f *Flow, in Operator, groupCols []int, aggs []AggSpec) Operator {
	if len(groupCols) > 0 && slices.ContainsFunc(aggs, AggSpec.grows) {
		ord := make(Ordering, len(groupCols))
		for i, c := range groupCols {
			ord[i] = Order(c, false)
		}
		return NewOrderedAggregate(f, NewSort(f, in, ord), groupCols, aggs)
	}
	return &hashAgg{aggBase: newAggBase(f, in, groupCols, aggs)}
}

// grows says whether the aggregate keeps its rows.
func (a AggSpec) grows() bool {
	if a.Func.Type == tree.DistinctFuncType || len(a.Order) > 0 {
		return true
	}
	def, ok := a.Func.Func.FunctionReference.(*tree.FunctionDefinition)
	return ok && builtins.AggregateGrows(def.Name)
}

// NewOrderedAggregate is NewHashAggregate for an input in which the rows of a
// group are neighbours; it keeps one group at a time.
func NewOrderedAggregate(f *Flow, in Operator, groupCols []int, aggs []AggSpec) Operator {
	return &orderedAgg{aggBase: newAggBase(f, in, groupCols, aggs)}
}

type aggBase struct {
	unary
	groupCols []int
	aggs      []AggSpec
	typs      []*types.T
	out       tree.Datums
	key       []byte
	argBuf    tree.Datums
	n         int
	acc       account
}

func newAggBase(f *Flow, in Operator, groupCols []int, aggs []AggSpec) aggBase {
	b := aggBase{unary: unary{flow: f, in: in}, groupCols: groupCols, aggs: aggs, acc: account{b: f.Mem}}
	inTypes := in.Types()
	for _, c := range groupCols {
		b.typs = append(b.typs, inTypes[c])
	}
	for _, a := range aggs {
		b.typs = append(b.typs, a.Func.ResolvedType())
	}
	b.out = make(tree.Datums, len(b.typs))
	return b
}

func (b *aggBase) Types() []*types.T { return b.typs }

// group is the state of one group.
type group struct {
	key  tree.Datums // the group columns
	aggs []aggState
}

type aggState struct {
	fn   tree.AggregateFunc
	size int64 // charged so far
	seen map[string]struct{}
	rows []tree.Datums // held back for ORDER BY: arguments, then order columns
}

const groupBytes = 64 + mapEntryBytes

func (b *aggBase) newGroup(row tree.Datums) (*group, int64) {
	g := &group{key: make(tree.Datums, len(b.groupCols)), aggs: make([]aggState, len(b.aggs))}
	n := int64(groupBytes)
	for i, c := range b.groupCols {
		g.key[i] = row[c]
		n += int64(row[c].Size()) + datumPtrSize
	}
	for i := range b.aggs {
		s := &g.aggs[i]
		s.fn = b.newFunc(&b.aggs[i])
		s.size = s.fn.Size()
		n += s.size + 64
		if b.aggs[i].Func.Type == tree.DistinctFuncType {
			s.seen = map[string]struct{}{}
		}
	}
	return g, n
}

func (b *aggBase) newFunc(a *AggSpec) tree.AggregateFunc {
	argTypes := make([]*types.T, len(a.Func.Exprs))
	for i, e := range a.Func.Exprs {
		argTypes[i] = e.(tree.TypedExpr).ResolvedType()
	}
	return a.Func.ResolvedOverload().AggregateFunc(argTypes, b.flow.Eval, nil)
}

// add feeds row to all aggregates of g.
func (b *aggBase) add(ctx context.Context, g *group, row tree.Datums) error {
	for i := range b.aggs {
		a, s := &b.aggs[i], &g.aggs[i]
		if a.Filter >= 0 && row[a.Filter] != tree.DBoolTrue {
			continue
		}
		if s.seen != nil {
			b.key, _ = appendKeyCols(b.key[:0], row, a.Args)
			if _, dup := s.seen[string(b.key)]; dup {
				continue
			}
			if err := b.acc.grow(int64(len(b.key)) + mapEntryBytes); err != nil {
				return err
			}
			s.seen[string(b.key)] = struct{}{}
		}
		if len(a.Order) > 0 {
			held := make(tree.Datums, 0, len(a.Args)+len(a.Order))
			for _, c := range a.Args {
				held = append(held, row[c])
			}
			for _, c := range a.Order {
				held = append(held, row[c.Col])
			}
			if err := b.acc.grow(rowSize(held)); err != nil {
				return err
			}
			s.rows = append(s.rows, held)
			continue
		}
		b.argBuf = b.argBuf[:0]
		for _, c := range a.Args {
			b.argBuf = append(b.argBuf, row[c])
		}
		if err := b.feed(ctx, s, b.argBuf); err != nil {
			return err
		}
	}
	return nil
}

func (b *aggBase) feed(ctx context.Context, s *aggState, args tree.Datums) error {
	var err error
	switch len(args) {
	case 0:
		err = s.fn.Add(ctx, nil)
	case 1:
		err = s.fn.Add(ctx, args[0])
	default:
		err = s.fn.Add(ctx, args[0], args[1:]...)
	}
	if err != nil {
		return builtins.MapError(err)
	}
	if n := s.fn.Size(); n > s.size {
		if err := b.acc.grow(n - s.size); err != nil {
			return err
		}
		s.size = n
	}
	return nil
}

// result computes the output row of g into b.out and releases g's functions.
func (b *aggBase) result(ctx context.Context, g *group) (tree.Datums, error) {
	copy(b.out, g.key)
	for i := range b.aggs {
		a, s := &b.aggs[i], &g.aggs[i]
		if len(a.Order) > 0 {
			ord := make(Ordering, len(a.Order))
			for j, c := range a.Order {
				ord[j] = OrderCol{Col: len(a.Args) + j, Desc: c.Desc, NullsFirst: c.NullsFirst}
			}
			slices.SortStableFunc(s.rows, func(x, y tree.Datums) int { return ord.Compare(b.flow.Eval, x, y) })
			for _, held := range s.rows {
				if err := b.feed(ctx, s, held[:len(a.Args)]); err != nil {
					return nil, err
				}
			}
			s.rows = nil
		}
		d, err := s.fn.Result()
		if err != nil {
			return nil, builtins.MapError(err)
		}
		b.out[len(g.key)+i] = d
		s.fn.Close(ctx)
	}
	return b.out, nil
}

type hashAgg struct {
	aggBase
	groups map[string]*group
	order  []*group // in order of appearance: results are then easier to read
	emit   int
	loaded bool
	full   bool
	depth  int
	rest   *partitions
	todo   []spilled
}

func (o *hashAgg) Open(ctx context.Context) error {
	o.reset()
	return o.in.Open(ctx)
}

func (o *hashAgg) reset() {
	o.drop()
	o.rest.close()
	for _, s := range o.todo {
		s.file.close()
	}
	o.rest, o.todo, o.loaded, o.depth = nil, nil, false, 0
}

func (o *hashAgg) drop() {
	o.acc.clear()
	o.groups, o.order, o.emit, o.full = map[string]*group{}, nil, 0, false
}

func (o *hashAgg) Close() {
	o.reset()
	o.in.Close()
}

func (o *hashAgg) Next(ctx context.Context) (tree.Datums, error) {
	if !o.loaded {
		if err := o.load(ctx, func() (tree.Datums, error) { return o.in.Next(ctx) }); err != nil {
			return nil, err
		}
		o.in.Close()
		o.loaded = true
		if len(o.groupCols) == 0 && len(o.order) == 0 {
			g, _ := o.newGroup(nil)
			o.order = append(o.order, g)
		}
	}
	for o.emit >= len(o.order) {
		if len(o.todo) == 0 {
			return nil, nil
		}
		next := o.todo[len(o.todo)-1]
		o.todo = o.todo[:len(o.todo)-1]
		o.drop()
		o.depth = next.depth
		r, err := next.file.reader()
		if err == nil {
			err = o.load(ctx, r.next)
		}
		next.file.close()
		if err != nil {
			return nil, err
		}
	}
	g := o.order[o.emit]
	o.order[o.emit] = nil
	o.emit++
	return o.result(ctx, g)
}

func (o *hashAgg) load(ctx context.Context, next func() (tree.Datums, error)) error {
	var key []byte
	for {
		row, err := next()
		if err != nil {
			return err
		}
		if row == nil {
			break
		}
		if err := checkCtx(ctx, &o.n); err != nil {
			return err
		}
		key, _ = appendKeyCols(key[:0], row, o.groupCols)
		g := o.groups[string(key)]
		if g == nil {
			if !o.full {
				ng, n := o.newGroup(row)
				n += int64(len(key))
				if o.acc.growFloor(n) {
					g = ng
					o.groups[string(key)] = g
					o.order = append(o.order, g)
				} else if len(o.order) == 0 || o.depth >= maxDepth {
					return ErrBudgetExceeded(n, o.flow.Mem)
				} else {
					o.full = true
					o.rest = &partitions{flow: o.flow}
				}
			}
			if g == nil {
				file, err := o.rest.file(partitionOf(key, o.depth))
				if err != nil {
					return err
				}
				if err := file.append(row); err != nil {
					return err
				}
				continue
			}
		}
		if err := o.add(ctx, g, row); err != nil {
			return err
		}
	}
	if o.rest != nil {
		for i := range fanout {
			if f := o.rest.take(i); f != nil {
				o.todo = append(o.todo, spilled{f, o.depth + 1})
			}
		}
		o.rest = nil
	}
	return nil
}

type orderedAgg struct {
	aggBase
	cur     *group
	curKey  []byte
	rowKey  []byte
	pending tree.Datums // first row of the next group
	done    bool
	any     bool
}

func (o *orderedAgg) Open(ctx context.Context) error {
	o.acc.clear()
	o.cur, o.pending, o.done, o.any = nil, nil, false, false
	return o.in.Open(ctx)
}

func (o *orderedAgg) Close() {
	o.acc.clear()
	o.cur = nil
	o.in.Close()
}

func (o *orderedAgg) Next(ctx context.Context) (tree.Datums, error) {
	if o.done {
		return nil, nil
	}
	if o.pending != nil {
		if err := o.start(ctx, o.pending); err != nil {
			return nil, err
		}
		o.pending = nil
	}
	for {
		row, err := o.in.Next(ctx)
		if err != nil {
			return nil, err
		}
		if err := checkCtx(ctx, &o.n); err != nil {
			return nil, err
		}
		if row == nil {
			o.done = true
			if o.cur == nil {
				if len(o.groupCols) > 0 || o.any {
					return nil, nil
				}
				o.cur, _ = o.newGroup(nil)
			}
			return o.result(ctx, o.cur)
		}
		o.any = true
		o.rowKey, _ = appendKeyCols(o.rowKey[:0], row, o.groupCols)
		if o.cur == nil {
			o.curKey = append(o.curKey[:0], o.rowKey...)
			if err := o.start(ctx, row); err != nil {
				return nil, err
			}
			continue
		}
		if string(o.rowKey) == string(o.curKey) {
			if err := o.add(ctx, o.cur, row); err != nil {
				return nil, err
			}
			continue
		}
		o.curKey = append(o.curKey[:0], o.rowKey...)
		o.pending = append(tree.Datums{}, row...)
		return o.result(ctx, o.cur)
	}
}

func (o *orderedAgg) start(ctx context.Context, row tree.Datums) error {
	o.acc.clear()
	g, n := o.newGroup(row)
	if err := o.acc.grow(n); err != nil {
		return err
	}
	o.cur = g
	return o.add(ctx, g, row)
}
