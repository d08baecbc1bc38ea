package sql

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/exec"
)

// compiler makes operators from a plan, for one execution: it gives columns
// their positions and placeholders their values.
type compiler struct {
	ctx    context.Context
	p      *planner
	md     *metadata
	frames []frame
	ctes   map[*cteDef]*compiledCTE
	// closers are run at the end of the statement.
	closers []func()
	// mutations are the operators that count changed rows.
	mutations []*mutationOpr
	// explain, if set, is told of each node's operator.
	explain map[rel]exec.Operator
}

// frame is an enclosing query's row.
type frame struct {
	lay   *layout
	outer *exec.OuterRow
}

type compiledCTE struct {
	spool *exec.Spool
	work  *exec.WorkTable
	typs  []*types.T
}

// layout says which column is where in the rows of an operator.
type layout struct {
	ids []colID
	pos map[colID]int
}

func newLayout(ids []colID) *layout {
	l := &layout{ids: ids, pos: make(map[colID]int, len(ids))}
	for i, id := range ids {
		if _, ok := l.pos[id]; !ok {
			l.pos[id] = i
		}
	}
	return l
}

func (l *layout) concat(o *layout) *layout {
	return newLayout(append(append(make([]colID, 0, len(l.ids)+len(o.ids)), l.ids...), o.ids...))
}

func (p *planner) newCompiler(ctx context.Context, md *metadata) *compiler {
	return &compiler{ctx: ctx, p: p, md: md, ctes: map[*cteDef]*compiledCTE{}}
}

func (c *compiler) close() {
	for i := len(c.closers) - 1; i >= 0; i-- {
		c.closers[i]()
	}
	c.closers = nil
}

func (c *compiler) typ(id colID) *types.T { return c.md.cols[id].typ }

func (c *compiler) typs(ids []colID) []*types.T {
	out := make([]*types.T, len(ids))
	for i, id := range ids {
		out[i] = c.typ(id)
	}
	return out
}

// compileOutput compiles a plan whose rows are the given columns in order.
func (c *compiler) compileOutput(n rel, out []colID) (exec.Operator, error) {
	op, lay, err := c.compile(n, makeColSet(out...))
	if err != nil {
		return nil, err
	}
	return c.project(op, lay, out), nil
}

// project reorders columns if it has to.
func (c *compiler) project(op exec.Operator, lay *layout, out []colID) exec.Operator {
	same := len(lay.ids) == len(out)
	for i := 0; same && i < len(out); i++ {
		same = lay.ids[i] == out[i]
	}
	if same {
		return op
	}
	exprs := make([]tree.TypedExpr, len(out))
	for i, id := range out {
		exprs[i] = c.ref(lay, id)
	}
	return exec.NewProject(c.p.flow, op, exprs)
}

func (c *compiler) ref(lay *layout, id colID) tree.TypedExpr {
	if i, ok := lay.pos[id]; ok {
		return tree.NewTypedOrdinalReference(i, c.typ(id))
	}
	for i := len(c.frames) - 1; i >= 0; i-- {
		f := &c.frames[i]
		if pos, ok := f.lay.pos[id]; ok {
			return f.outer.Ref(pos, c.typ(id))
		}
	}
	return &colRef{id: id, typ: c.typ(id), name: c.md.cols[id].name}
}

// bind makes an expression over rows of lay ready for evaluation.
func (c *compiler) bind(e tree.TypedExpr, lay *layout) (tree.TypedExpr, error) {
	if e == nil {
		return nil, nil
	}
	var failed error
	out := rewriteExpr(e, func(x tree.TypedExpr) tree.TypedExpr {
		switch t := x.(type) {
		case *colRef:
			r := c.ref(lay, t.id)
			if _, unbound := r.(*colRef); unbound && failed == nil {
				failed = pgerr.Newf(pgerr.Internal, "column %q (%d) is not in scope of its plan", t.name, t.id)
			}
			return r
		case *tree.Placeholder:
			d, err := c.p.argument(t)
			if err != nil && failed == nil {
				failed = err
				return tree.DNull
			}
			return d
		case *subqueryExpr:
			s, err := c.subquery(t, lay)
			if err != nil && failed == nil {
				failed = err
				return tree.DNull
			}
			return s
		}
		return nil
	})
	if failed != nil {
		return nil, failed
	}
	return c.fold(out), nil
}

func (c *compiler) bindAll(es []tree.TypedExpr, lay *layout) ([]tree.TypedExpr, error) {
	out := make([]tree.TypedExpr, len(es))
	var err error
	for i, e := range es {
		if out[i], err = c.bind(e, lay); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// bindAnd binds conditions as one predicate; nil if there is none.
func (c *compiler) bindAnd(es []tree.TypedExpr, lay *layout) (tree.TypedExpr, error) {
	var out tree.TypedExpr
	for _, e := range es {
		b, err := c.bind(e, lay)
		if err != nil {
			return nil, err
		}
		if b == tree.DBoolTrue {
			continue
		}
		if out == nil {
			out = b
		} else {
			out = tree.NewTypedAndExpr(out, b)
		}
	}
	return out, nil
}

// fold evaluates the parts of an expression that are the same for all rows.
// What fails is left for when a row asks for it.
func (c *compiler) fold(e tree.TypedExpr) tree.TypedExpr {
	switch t := e.(type) {
	case *builtins.Const:
		return t.D
	case tree.Datum, *tree.IndexedVar:
		return e
	}
	return rewriteExpr(e, func(x tree.TypedExpr) tree.TypedExpr {
		switch t := x.(type) {
		case *builtins.Const:
			return t.D
		case tree.Datum, *tree.IndexedVar, *tree.Tuple, *tree.Array:
			return nil
		}
		if !isConstant(x) {
			return nil
		}
		d, err := x.Eval(c.p.flow.Eval)
		if err != nil {
			return nil
		}
		return d
	})
}

// isConstant says that an expression has no variable part.
func isConstant(e tree.TypedExpr) bool {
	v := &constVisitor{ok: true}
	tree.WalkExprConst(v, e)
	return v.ok
}

type constVisitor struct{ ok bool }

func (v *constVisitor) VisitPre(e tree.Expr) (bool, tree.Expr) {
	switch t := e.(type) {
	case *tree.Placeholder:
		v.ok = false
	case tree.Datum:
		return false, e
	case tree.VariableExpr:
		v.ok = false
	case *tree.FuncExpr:
		if t.IsImpure() || t.ResolvedOverload() == nil || t.ResolvedOverload().Fn == nil {
			v.ok = false
		}
	case tree.DefaultVal:
		v.ok = false
	}
	return v.ok, e
}

func (v *constVisitor) VisitPost(e tree.Expr) tree.Expr { return e }

// compile makes the operator of n, with at least the columns of need that n has.
func (c *compiler) compile(n rel, need colSet) (exec.Operator, *layout, error) {
	op, lay, err := c.compileNode(n, need)
	if err == nil && c.explain != nil {
		w := &countingOp{Operator: op}
		c.explain[n] = w
		op = w
	}
	return op, lay, err
}

func (c *compiler) compileNode(n rel, need colSet) (exec.Operator, *layout, error) {
	f := c.p.flow
	switch t := n.(type) {
	case *scanNode:
		return c.compileScan(t, need)

	case *virtualNode:
		typs := c.typs(t.outCols)
		return &virtualReader{p: c.p, table: t.table, db: t.db, rows: newRowSink(c.p, typs)}, newLayout(t.outCols), nil

	case *sourceNode:
		if t.src.stream != nil {
			return t.src.stream, newLayout(t.outCols), nil
		}
		typs := c.typs(t.outCols)
		return &sourceReader{p: c.p, src: t.src, rows: newRowSink(c.p, typs)}, newLayout(t.outCols), nil

	case *valuesNode:
		lay := newLayout(t.outCols)
		empty := newLayout(nil)
		rows := make([][]tree.TypedExpr, len(t.rows))
		for i, r := range t.rows {
			var err error
			if rows[i], err = c.bindAll(r, empty); err != nil {
				return nil, nil, err
			}
		}
		return exec.NewValues(f, c.typs(t.outCols), rows), lay, nil

	case *filterNode:
		in, lay, err := c.compile(t.in, withCols(need, t.conds...))
		if err != nil {
			return nil, nil, err
		}
		pred, err := c.bindAnd(t.conds, lay)
		if err != nil {
			return nil, nil, err
		}
		if pred == nil {
			return in, lay, nil
		}
		return exec.NewFilter(f, in, pred), lay, nil

	case *projectNode:
		return c.compileProject(t, need)

	case *joinNode:
		return c.compileJoin(t, need)

	case *groupNode:
		return c.compileGroup(t)

	case *windowNode:
		return c.compileWindow(t, need)

	case *projectSetNode:
		return c.compileProjectSet(t, need)

	case *ordinalityNode:
		in, lay, err := c.compile(t.in, need)
		if err != nil {
			return nil, nil, err
		}
		return exec.NewOrdinality(f, in), lay.concat(newLayout([]colID{t.id})), nil

	case *sortNode:
		in, lay, ord, err := c.compileSortInput(t, need)
		if err != nil {
			return nil, nil, err
		}
		return exec.NewSort(f, in, ord), lay, nil

	case *limitNode:
		limit, err := c.bind(t.limit, newLayout(nil))
		if err != nil {
			return nil, nil, err
		}
		offset, err := c.bind(t.offset, newLayout(nil))
		if err != nil {
			return nil, nil, err
		}
		if s, ok := t.in.(*sortNode); ok && t.limit != nil {
			in, lay, ord, err := c.compileSortInput(s, need)
			if err != nil {
				return nil, nil, err
			}
			return exec.NewTopN(f, in, ord, limit, offset), lay, nil
		}
		in, lay, err := c.compile(t.in, need)
		if err != nil {
			return nil, nil, err
		}
		return exec.NewLimit(f, in, limit, offset), lay, nil

	case *distinctNode:
		nd := need.copy()
		nd.union(makeColSet(t.on...))
		in, lay, err := c.compile(t.in, nd)
		if err != nil {
			return nil, nil, err
		}
		return exec.NewDistinct(f, in, positions(lay, t.on)), lay, nil

	case *setOpNode:
		return c.compileSetOp(t)

	case *cteScanNode:
		return c.compileCTE(t)

	case *withNode:
		return c.compileWith(t, need)

	case *maxOneRowNode:
		in, lay, err := c.compile(t.in, need)
		if err != nil {
			return nil, nil, err
		}
		return &maxOneRow{Operator: in}, lay, nil

	case *mutationNode:
		return c.compileMutation(t)
	}
	return nil, nil, pgerr.Newf(pgerr.Internal, "no operator for %T", n)
}

func withCols(need colSet, es ...tree.TypedExpr) colSet {
	s := need.copy()
	for _, e := range es {
		exprCols(e, &s)
	}
	return s
}

func positions(lay *layout, ids []colID) []int {
	out := make([]int, len(ids))
	for i, id := range ids {
		out[i] = lay.pos[id]
	}
	return out
}

func (c *compiler) order(lay *layout, o ordering) exec.Ordering {
	var out exec.Ordering
	for _, oc := range o {
		if pos, ok := lay.pos[oc.id]; ok {
			out = append(out, exec.OrderCol{Col: pos, Desc: oc.desc, NullsFirst: oc.nullsFirst})
		}
	}
	return out
}

func (c *compiler) compileSortInput(t *sortNode, need colSet) (exec.Operator, *layout, exec.Ordering, error) {
	nd := need.copy()
	for _, o := range t.order {
		nd.add(o.id)
	}
	in, lay, err := c.compile(t.in, nd)
	if err != nil {
		return nil, nil, nil, err
	}
	return in, lay, c.order(lay, t.order), nil
}

func (c *compiler) compileProject(t *projectNode, need colSet) (exec.Operator, *layout, error) {
	inCols := t.in.cols()
	var nd colSet
	for _, id := range need.ids() {
		if inCols.has(id) {
			nd.add(id)
		}
	}
	pass := nd.copy()
	var items []item
	for _, it := range t.items {
		if need.has(it.id) || hasVolatile(it.expr) {
			items = append(items, it)
			exprCols(it.expr, &nd)
		}
	}
	in, lay, err := c.compile(t.in, nd)
	if err != nil {
		return nil, nil, err
	}
	if len(items) == 0 {
		return in, lay, nil
	}
	var ids []colID
	var exprs []tree.TypedExpr
	for i, id := range lay.ids {
		if pass.has(id) {
			ids = append(ids, id)
			exprs = append(exprs, tree.NewTypedOrdinalReference(i, c.typ(id)))
		}
	}
	for _, it := range items {
		e, err := c.bind(it.expr, lay)
		if err != nil {
			return nil, nil, err
		}
		ids = append(ids, it.id)
		exprs = append(exprs, e)
	}
	return exec.NewProject(c.p.flow, in, exprs), newLayout(ids), nil
}

func (c *compiler) compileGroup(t *groupNode) (exec.Operator, *layout, error) {
	if op := c.compileCount(t); op != nil {
		return op, newLayout([]colID{t.aggs[0].id}), nil
	}
	var nd colSet
	directCols(t, &nd)
	in, lay, err := c.compile(t.in, nd)
	if err != nil {
		return nil, nil, err
	}
	ids := append([]colID(nil), t.groupCols...)
	var specs []exec.AggSpec
	for _, a := range t.aggs {
		ids = append(ids, a.id)
		s := exec.AggSpec{Func: a.fn, Args: positions(lay, a.args), Filter: -1, Order: c.order(lay, a.order)}
		if a.filter != 0 {
			s.Filter = lay.pos[a.filter]
		}
		specs = append(specs, s)
	}
	return exec.NewHashAggregate(c.p.flow, in, positions(lay, t.groupCols), specs), newLayout(ids), nil
}

func (c *compiler) compileWindow(t *windowNode, need colSet) (exec.Operator, *layout, error) {
	nd := need.copy()
	directCols(t, &nd)
	in, lay, err := c.compile(t.in, nd)
	if err != nil {
		return nil, nil, err
	}
	var specs []exec.WindowSpec
	ids := append([]colID(nil), lay.ids...)
	for _, w := range t.funcs {
		s := exec.WindowSpec{
			Func: w.fn, Args: positions(lay, w.args), Filter: -1,
			Partition: positions(lay, w.partition), Order: c.order(lay, w.order), Frame: w.frame,
		}
		if w.filter != 0 {
			s.Filter = lay.pos[w.filter]
		}
		if w.startOffset != nil || w.endOffset != nil {
			fr := *w.frame
			bound := func(b *tree.WindowFrameBound, e tree.TypedExpr) (*tree.WindowFrameBound, error) {
				if e == nil {
					return b, nil
				}
				x, err := c.bind(e, newLayout(nil))
				if err != nil {
					return nil, err
				}
				nb := *b
				nb.OffsetExpr = x
				return &nb, nil
			}
			if fr.Bounds.StartBound, err = bound(fr.Bounds.StartBound, w.startOffset); err != nil {
				return nil, nil, err
			}
			if fr.Bounds.EndBound, err = bound(fr.Bounds.EndBound, w.endOffset); err != nil {
				return nil, nil, err
			}
			s.Frame = &fr
		}
		specs = append(specs, s)
		ids = append(ids, w.id)
	}
	return exec.NewWindow(c.p.flow, in, specs), newLayout(ids), nil
}

func (c *compiler) compileProjectSet(t *projectSetNode, need colSet) (exec.Operator, *layout, error) {
	nd := need.copy()
	for _, fn := range t.funcs {
		exprCols(fn.expr, &nd)
	}
	in, lay, err := c.compile(t.in, nd)
	if err != nil {
		return nil, nil, err
	}
	// Calls that return one value are computed before the sets.
	ids := append([]colID(nil), lay.ids...)
	var funcs []*tree.FuncExpr
	var plain []srfItem
	for _, fn := range t.funcs {
		fe, ok := fn.expr.(*tree.FuncExpr)
		if !ok || !isGenerator(fe) {
			plain = append(plain, fn)
			continue
		}
		b, err := c.bindGenerator(fe, lay)
		if err != nil {
			return nil, nil, err
		}
		funcs = append(funcs, b)
		ids = append(ids, fn.cols...)
	}
	if len(plain) > 0 {
		if len(funcs) > 0 {
			return nil, nil, pgerr.New(pgerr.FeatureNotSupported, "ROWS FROM cannot mix functions that return sets with others")
		}
		return c.plainFunctions(in, lay, plain, t.ordinality)
	}
	if t.ordinality != 0 {
		ids = append(ids, t.ordinality)
	}
	return exec.NewProjectSet(c.p.flow, in, funcs, t.expand, t.ordinality != 0), newLayout(ids), nil
}

// plainFunctions makes the columns of function calls in FROM that return one row.
func (c *compiler) plainFunctions(in exec.Operator, lay *layout, funcs []srfItem, ordinality colID) (exec.Operator, *layout, error) {
	ids := append([]colID(nil), lay.ids...)
	var exprs []tree.TypedExpr
	for i, id := range lay.ids {
		exprs = append(exprs, tree.NewTypedOrdinalReference(i, c.typ(id)))
	}
	for _, fn := range funcs {
		e, err := c.bind(fn.expr, lay)
		if err != nil {
			return nil, nil, err
		}
		if len(fn.cols) == 1 && e.ResolvedType().Family() != types.TupleFamily {
			exprs = append(exprs, e)
		} else {
			for i := range fn.cols {
				exprs = append(exprs, tree.NewTypedColumnAccessExpr(e, "", i))
			}
		}
		ids = append(ids, fn.cols...)
	}
	var op exec.Operator = exec.NewProject(c.p.flow, in, exprs)
	if ordinality != 0 {
		op = exec.NewOrdinality(c.p.flow, op)
		ids = append(ids, ordinality)
	}
	return op, newLayout(ids), nil
}

func isGenerator(fe *tree.FuncExpr) bool {
	def, ok := fe.Func.FunctionReference.(*tree.FunctionDefinition)
	return ok && def.Class == tree.GeneratorClass
}

func (c *compiler) bindGenerator(fe *tree.FuncExpr, lay *layout) (*tree.FuncExpr, error) {
	b := *fe
	b.Exprs = make(tree.Exprs, len(fe.Exprs))
	for i, e := range fe.Exprs {
		x, err := c.bind(e.(tree.TypedExpr), lay)
		if err != nil {
			return nil, err
		}
		b.Exprs[i] = x
	}
	return &b, nil
}

func (c *compiler) compileSetOp(t *setOpNode) (exec.Operator, *layout, error) {
	l, err := c.compileOutput(t.left, t.leftCols)
	if err != nil {
		return nil, nil, err
	}
	r, err := c.compileOutput(t.right, t.rightCols)
	if err != nil {
		return nil, nil, err
	}
	f, lay, typs := c.p.flow, newLayout(t.outCols), c.typs(t.outCols)
	switch t.op {
	case tree.UnionOp:
		op := exec.NewConcat(typs, l, r)
		if !t.all {
			all := make([]int, len(typs))
			for i := range all {
				all[i] = i
			}
			op = exec.NewDistinct(f, op, all)
		}
		return op, lay, nil
	case tree.IntersectOp:
		return exec.NewSetOp(f, exec.Intersect, t.all, l, r), lay, nil
	}
	return exec.NewSetOp(f, exec.Except, t.all, l, r), lay, nil
}

// compileCTE makes a reader of a WITH query's rows.
func (c *compiler) compileCTE(t *cteScanNode) (exec.Operator, *layout, error) {
	lay := newLayout(t.outCols)
	d := t.def
	if t.working {
		cc := c.ctes[d]
		if cc == nil || cc.work == nil {
			return nil, nil, pgerr.Newf(pgerr.Internal, "recursive reference to %q outside of it", d.name)
		}
		return cc.work.Reader(), lay, nil
	}
	if d.step == nil && !d.mutates {
		if free := freeCols(d.in); !free.empty() {
			// It depends on the row around it: each reader runs it.
			op, err := c.compileOutput(d.in, d.inCols)
			return op, lay, err
		}
	}
	cc, err := c.cte(d)
	if err != nil {
		return nil, nil, err
	}
	return cc.spool.Reader(), lay, nil
}

func (c *compiler) cte(d *cteDef) (*compiledCTE, error) {
	if cc := c.ctes[d]; cc != nil {
		return cc, nil
	}
	cc := &compiledCTE{}
	for _, id := range d.inCols {
		cc.typs = append(cc.typs, c.typ(id))
	}
	c.ctes[d] = cc
	op, err := c.compileOutput(d.in, d.inCols)
	if err != nil {
		return nil, err
	}
	if d.step != nil {
		cc.work = exec.NewWorkTable(c.p.flow, cc.typs)
		step, err := c.compileOutput(d.step, d.stepCols)
		if err != nil {
			return nil, err
		}
		op = exec.NewRecursive(c.p.flow, op, step, cc.work, !d.dedup)
	}
	cc.spool = exec.NewSpool(c.p.flow, op)
	c.closers = append(c.closers, cc.spool.Close)
	return cc, nil
}

func (c *compiler) compileWith(t *withNode, need colSet) (exec.Operator, *layout, error) {
	var spools []*exec.Spool
	for _, d := range t.defs {
		cc, err := c.cte(d)
		if err != nil {
			return nil, nil, err
		}
		spools = append(spools, cc.spool)
	}
	in, lay, err := c.compile(t.in, need)
	if err != nil {
		return nil, nil, err
	}
	return &fillSpools{Operator: in, spools: spools}, lay, nil
}

// fillSpools runs data-modifying WITH queries before the main query.
type fillSpools struct {
	exec.Operator
	spools []*exec.Spool
}

func (o *fillSpools) Open(ctx context.Context) error {
	for _, s := range o.spools {
		if err := s.Fill(ctx); err != nil {
			return err
		}
	}
	return o.Operator.Open(ctx)
}

// maxOneRow fails when a second row comes.
type maxOneRow struct {
	exec.Operator
	n int
}

func (o *maxOneRow) Open(ctx context.Context) error {
	o.n = 0
	return o.Operator.Open(ctx)
}

func (o *maxOneRow) Next(ctx context.Context) (tree.Datums, error) {
	row, err := o.Operator.Next(ctx)
	if row != nil {
		if o.n++; o.n > 1 {
			return nil, pgerr.New("21000", "more than one row returned by a subquery used as an expression")
		}
	}
	return row, err
}

// countingOp counts rows for EXPLAIN ANALYZE.
type countingOp struct {
	exec.Operator
	rows  int64
	opens int64
}

func (o *countingOp) Open(ctx context.Context) error {
	o.opens++
	return o.Operator.Open(ctx)
}

func (o *countingOp) Next(ctx context.Context) (tree.Datums, error) {
	row, err := o.Operator.Next(ctx)
	if row != nil {
		o.rows++
	}
	return row, err
}

// readableColumns are the columns that queries see: public ones, in order.
func readableColumns(desc *catalog.Table) []*catalog.Column { return desc.Columns() }

// primaryKeyOrdinals are the positions of the primary key's columns among the
// readable ones.
func primaryKeyOrdinals(desc *catalog.Table) []int {
	x := desc.PrimaryIndex()
	if x == nil {
		return nil
	}
	var out []int
	for _, k := range x.KeyColumns {
		for i, c := range readableColumns(desc) {
			if c.ID == k.ID {
				out = append(out, i)
			}
		}
	}
	return out
}
