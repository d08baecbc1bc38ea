package sql

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
)

// bindGroupBy binds GROUP BY: positions, FROM columns before output names,
// expressions.
func (sb *selectBinder) bindGroupBy(groupBy tree.GroupBy, items []selectItem) error {
	if len(groupBy) == 0 {
		return nil
	}
	sb.grouped = true
	if hasGroupingSets(groupBy) {
		return sb.bindGroupingSets(groupBy, items)
	}
	var exprs []tree.Expr
	for _, e := range groupBy {
		// GROUP BY () is one group, GROUP BY (a, b) is two expressions.
		if tup, ok := stripParens(e).(*tree.Tuple); ok && (!tup.Row || len(tup.Exprs) == 0) {
			exprs = append(exprs, tup.Exprs...)
			continue
		}
		exprs = append(exprs, e)
	}
	for _, e := range exprs {
		if _, err := sb.bindGroupExpr(e, items); err != nil {
			return err
		}
	}
	return nil
}

// bindGroupExpr binds one expression of GROUP BY and returns its column.
func (sb *selectBinder) bindGroupExpr(e tree.Expr, items []selectItem) (colID, error) {
	pos, ok, err := ordinal(e, len(items), "GROUP BY")
	if err != nil {
		return 0, err
	}
	if !ok {
		if n, isName := stripParens(e).(*tree.UnresolvedName); isName && n.NumParts == 1 && !n.Star {
			if c, err := sb.from.resolveHere(n); err == nil && c == nil {
				if pos, ok, err = outputName(e, items, "GROUP BY"); err != nil {
					return 0, err
				}
			}
		}
	}
	var te tree.TypedExpr
	if ok {
		if it := &items[pos]; it.ast != nil {
			te, err = sb.b.bindExpr(it.ast, sb.from, exprMode{clause: "GROUP BY"})
		} else {
			te = it.expr
		}
	} else {
		te, err = sb.b.bindExpr(e, sb.from, exprMode{clause: "GROUP BY"})
	}
	if err != nil {
		return 0, err
	}
	if c, ok := te.(*colRef); ok && sb.from.colIDs().has(c.id) {
		sb.groupCols.add(c.id)
		return c.id, nil
	}
	id := sb.column(te)
	sb.groupCols.add(id)
	if ok {
		// The item is this expression; a subquery in it has no other name.
		if sb.groupItems == nil {
			sb.groupItems = map[int]colID{}
		}
		sb.groupItems[pos] = id
	}
	sb.groupExpr[exprKey(te)] = id
	return id, nil
}

// group builds the grouping of a SELECT and rewrites what is computed after it
// in terms of its output.
func (sb *selectBinder) group(in rel, items []selectItem, having *tree.TypedExpr, orders []orderItem, distinctOn []tree.TypedExpr) (rel, error) {
	var aggOut colSet
	for _, a := range sb.aggs {
		aggOut.add(a.id)
	}
	for _, w := range sb.windows {
		aggOut.add(w.id)
	}
	for _, f := range sb.srfs {
		for _, c := range f.cols {
			aggOut.add(c)
		}
	}
	for _, it := range sb.winPre {
		aggOut.add(it.id)
	}
	fromCols := sb.from.colIDs()
	var failed error
	fix := func(e tree.TypedExpr) tree.TypedExpr {
		return rewriteExpr(e, func(x tree.TypedExpr) tree.TypedExpr {
			if _, ok := x.(tree.Datum); ok {
				return x
			}
			if len(sb.groupExpr) > 0 {
				if id, ok := sb.groupExpr[exprKey(x)]; ok {
					return &colRef{id: id, typ: x.ResolvedType(), name: "group"}
				}
			}
			switch c := x.(type) {
			case *colRef:
				if !fromCols.has(c.id) || aggOut.has(c.id) || sb.groupCols.has(c.id) {
					return c
				}
				if sb.determined(c.id) {
					sb.groupCols.add(c.id)
					return c
				}
				if failed == nil {
					failed = sb.b.p.locateName(pgerr.Newf(pgerr.GroupingError,
						"column %q must appear in the GROUP BY clause or be used in an aggregate function", c.name), lastPart(c.name))
				}
				return c
			case *subqueryExpr:
				for _, id := range c.outer.ids() {
					if !fromCols.has(id) || sb.groupCols.has(id) || aggOut.has(id) {
						continue
					}
					if sb.determined(id) {
						sb.groupCols.add(id)
						continue
					}
					if failed == nil {
						failed = pgerr.Newf(pgerr.GroupingError,
							"subquery uses ungrouped column %q from outer query", sb.colName(id))
					}
				}
			}
			return nil
		})
	}
	for i := range items {
		if id, ok := sb.groupItems[i]; ok {
			items[i].expr = &colRef{id: id, typ: items[i].expr.ResolvedType(), name: "group"}
			continue
		}
		items[i].expr = fix(items[i].expr)
	}
	if *having != nil {
		*having = fix(*having)
	}
	for i := range orders {
		if orders[i].expr != nil {
			orders[i].expr = fix(orders[i].expr)
		}
	}
	for i := range distinctOn {
		distinctOn[i] = fix(distinctOn[i])
	}
	for i := range sb.winPre {
		sb.winPre[i].expr = fix(sb.winPre[i].expr)
	}
	fixID := func(id colID) {
		if id != 0 && fromCols.has(id) {
			fix(&colRef{id: id, typ: sb.b.md.cols[id].typ, name: sb.colName(id)})
		}
	}
	for _, w := range sb.windows {
		for _, c := range append(append([]colID{w.filter}, w.args...), w.partition...) {
			fixID(c)
		}
		for _, o := range w.order {
			fixID(o.id)
		}
	}
	for i := range sb.srfs {
		sb.srfs[i].expr = fix(sb.srfs[i].expr)
	}
	if failed != nil {
		return nil, failed
	}
	if len(sb.pre) > 0 {
		in = &projectNode{in: in, items: sb.pre}
	}
	if sb.sets != nil {
		return sb.groupSets(in, items, having, orders, distinctOn)
	}
	return &groupNode{in: in, groupCols: sb.groupCols.ids(), aggs: sb.aggs, scalar: sb.groupCols.empty()}, nil
}

func (sb *selectBinder) colName(id colID) string {
	for i := range sb.from.cols {
		if sb.from.cols[i].id == id {
			return sb.from.cols[i].ref().name
		}
	}
	return sb.b.md.cols[id].name
}

// determined says that a column follows from the grouped ones: its table's
// primary key is among them.
func (sb *selectBinder) determined(id colID) bool {
	m := &sb.b.md.cols[id]
	if m.tab == nil || sb.sets != nil {
		return false
	}
	for _, ord := range primaryKeyOrdinals(m.tab.desc) {
		if !sb.groupCols.has(m.tab.colIDs[ord]) {
			return false
		}
	}
	return true
}

func lastPart(name string) string {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '.' {
			return name[i+1:]
		}
	}
	return name
}

// function treats the calls that cannot be evaluated where they stand.
func (r *resolver) function(t *tree.FuncExpr) (bool, tree.Expr) {
	t = r.withoutVoid(t)
	if groupingFunc(t) == "grouping" {
		e, err := r.groupingCall(t)
		if err != nil {
			return r.fail(r.b.p.locate(err))
		}
		return false, e
	}
	def, err := t.Func.Resolve(r.b.p.s.data.SearchPath)
	if err != nil {
		// The type checker says it better, with the argument types.
		c := *t
		c.Exprs = append(tree.Exprs(nil), t.Exprs...)
		return true, &c
	}
	if t.WindowDef != nil {
		e, err := r.window(t, def)
		if err != nil {
			return r.fail(r.b.p.locate(err))
		}
		return false, e
	}
	switch def.Class {
	case tree.AggregateClass:
		e, err := r.aggregate(t, def)
		if err != nil {
			return r.fail(r.b.p.locate(err))
		}
		return false, e
	case tree.GeneratorClass:
		e, err := r.generator(t, def)
		if err != nil {
			return r.fail(r.b.p.locate(err))
		}
		return false, e
	case tree.WindowClass:
		return r.fail(pgerr.Newf(pgerr.WrongObjectType, "window function %s requires an OVER clause", def.Name))
	}
	// A copy: type checking writes into it, and the syntax tree is kept.
	c := *t
	c.Exprs = append(tree.Exprs(nil), t.Exprs...)
	return true, &c
}

// withoutVoid drops arguments that are parameters of type void, as PostgreSQL
// does for pgJDBC: those stand for the OUT parameters of {? = call f(?)}.
func (r *resolver) withoutVoid(t *tree.FuncExpr) *tree.FuncExpr {
	void := r.b.p.voidParams
	if void == nil {
		return t
	}
	c := *t
	c.Exprs = nil
	for _, e := range t.Exprs {
		if ph, ok := e.(*tree.Placeholder); !ok || int(ph.Idx) >= len(void) || !void[ph.Idx] {
			c.Exprs = append(c.Exprs, e)
		}
	}
	return &c
}

// resolveCall resolves the arguments, FILTER and ORDER BY of a call and types it.
func (r *resolver) resolveCall(t *tree.FuncExpr, inner *resolver) (*tree.FuncExpr, tree.TypedExpr, error) {
	c := *t
	c.WindowDef = nil
	c.Exprs = make(tree.Exprs, len(t.Exprs))
	var err error
	if len(t.Exprs) == 1 {
		if n, ok := t.Exprs[0].(*tree.UnresolvedName); ok && n.Star && n.NumParts == 1 {
			c.Exprs = nil
		}
		if _, ok := t.Exprs[0].(tree.UnqualifiedStar); ok {
			c.Exprs = nil
		}
		if c.Exprs == nil {
			// count(*) counts rows.
			def, ok := tree.FunDefs["count_rows"]
			if d, rerr := t.Func.Resolve(r.b.p.s.data.SearchPath); rerr != nil || d.Name != "count" || !ok {
				return nil, nil, pgerr.Newf(pgerr.UndefinedFunction, "function %s() does not exist", t.Func.String())
			}
			c.Func = tree.ResolvableFunctionReference{FunctionReference: def}
			c.Exprs = tree.Exprs{}
		}
	}
	for i := range c.Exprs {
		if c.Exprs[i], err = inner.resolve(t.Exprs[i]); err != nil {
			return nil, nil, err
		}
	}
	if t.Filter != nil {
		if c.Filter, err = inner.resolve(t.Filter); err != nil {
			return nil, nil, err
		}
	}
	c.OrderBy = nil
	for _, o := range t.OrderBy {
		oc := *o
		if oc.Expr, err = inner.resolve(o.Expr); err != nil {
			return nil, nil, err
		}
		c.OrderBy = append(c.OrderBy, &oc)
	}
	te, err := builtins.TypeCheck(&r.b.p.semaCtx, &c, types.Any)
	if err != nil {
		return nil, nil, err
	}
	return callIn(te), te, nil
}

// callIn finds the call in what the type checker made of it: it may have put a
// cast around.
func callIn(te tree.TypedExpr) *tree.FuncExpr {
	var fe *tree.FuncExpr
	rewriteExpr(te, func(x tree.TypedExpr) tree.TypedExpr {
		if f, ok := x.(*tree.FuncExpr); ok && fe == nil {
			fe = f
			return f
		}
		return nil
	})
	return fe
}

// replaceCall puts a column in the place of a call.
func replaceCall(te tree.TypedExpr, fe *tree.FuncExpr, ref tree.TypedExpr) tree.TypedExpr {
	return rewriteExpr(te, func(x tree.TypedExpr) tree.TypedExpr {
		if f, ok := x.(*tree.FuncExpr); ok && f == fe {
			return ref
		}
		return nil
	})
}

// aggregate makes an aggregate call a column of the grouped rows.
func (r *resolver) aggregate(t *tree.FuncExpr, def *tree.FunctionDefinition) (tree.Expr, error) {
	sb := r.s.sel
	if r.inAgg {
		return nil, pgerr.New(pgerr.GroupingError, "aggregate function calls cannot be nested")
	}
	if !r.m.agg || sb == nil {
		return nil, pgerr.Newf(pgerr.GroupingError, "aggregate functions are not allowed in %s", r.m.clause)
	}
	inner := &resolver{b: r.b, s: r.s, m: exprMode{clause: "aggregate"}, inAgg: true}
	fe, te, err := r.resolveCall(t, inner)
	if err != nil {
		return nil, err
	}
	if fe == nil {
		return te, nil // NULL, whatever the rows.
	}
	key := exprKey(fe)
	id, ok := sb.aggKey[key]
	if !ok {
		a := aggItem{fn: fe, distinct: t.Type == tree.DistinctFuncType}
		for _, e := range fe.Exprs {
			a.args = append(a.args, sb.column(e.(tree.TypedExpr)))
		}
		if fe.Filter != nil {
			f := fe.Filter.(tree.TypedExpr)
			a.filter = sb.column(f)
		}
		for _, o := range fe.OrderBy {
			oi := makeOrderItem(o)
			a.order = append(a.order, orderCol{id: sb.column(o.Expr.(tree.TypedExpr)), desc: oi.desc, nullsFirst: oi.nullsFirst})
		}
		if a.distinct && len(a.order) > 0 && (len(a.order) > 1 || len(a.args) == 0 || a.order[0].id != a.args[0]) {
			return nil, pgerr.New("42P10", "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list")
		}
		if a.distinct && len(a.order) == 0 {
			// PostgreSQL finds the distinct values by sorting, and that shows.
			for _, arg := range a.args {
				a.order = append(a.order, orderCol{id: arg})
			}
		}
		a.id = r.b.newCol(def.Name, fe.ResolvedType())
		id = a.id
		sb.aggs = append(sb.aggs, a)
		sb.aggKey[key] = id
	}
	ref := &colRef{id: id, typ: fe.ResolvedType(), name: def.Name}
	return replaceCall(te, fe, ref), nil
}

// generator makes a set-returning function of the select list a column.
func (r *resolver) generator(t *tree.FuncExpr, def *tree.FunctionDefinition) (tree.Expr, error) {
	sb := r.s.sel
	if !r.m.srf || sb == nil {
		return nil, pgerr.Newf(pgerr.FeatureNotSupported, "set-returning functions are not allowed in %s", r.m.clause)
	}
	if r.inAgg {
		return nil, pgerr.New(pgerr.FeatureNotSupported, "aggregate function calls cannot contain set-returning function calls")
	}
	inner := &resolver{b: r.b, s: r.s, m: r.m}
	fe, te, err := r.resolveCall(t, inner)
	if err != nil {
		return nil, err
	}
	if fe == nil {
		return te, nil
	}
	typ := fe.ResolvedType()
	id := r.b.newCol(def.Name, typ)
	sb.srfs = append(sb.srfs, srfItem{expr: fe, cols: []colID{id}})
	return replaceCall(te, fe, &colRef{id: id, typ: typ, name: def.Name}), nil
}

// window makes a window function call a column.
func (r *resolver) window(t *tree.FuncExpr, def *tree.FunctionDefinition) (tree.Expr, error) {
	sb := r.s.sel
	if r.inAgg {
		return nil, pgerr.New(pgerr.GroupingError, "aggregate function calls cannot contain window function calls")
	}
	if !r.m.window || sb == nil {
		return nil, pgerr.Newf("42P20", "window functions are not allowed in %s", r.m.clause)
	}
	if r.inWindow {
		return nil, pgerr.New("42P20", "window function calls cannot be nested")
	}
	if def.Class != tree.WindowClass && def.Class != tree.AggregateClass {
		return nil, pgerr.Newf(pgerr.WrongObjectType, "OVER specified, but %s is not a window function nor an aggregate function", def.Name)
	}
	if t.Type == tree.DistinctFuncType {
		return nil, pgerr.New(pgerr.FeatureNotSupported, "DISTINCT is not implemented for window functions")
	}
	wd, err := sb.windowDef(t.WindowDef)
	if err != nil {
		return nil, err
	}
	inner := &resolver{b: r.b, s: r.s, m: exprMode{clause: "window", agg: true}, inWindow: true}
	// The type checker must see a window application.
	call := *t
	fe, te, err := r.resolveWindowCall(&call, inner)
	if err != nil {
		return nil, err
	}
	if fe == nil {
		return te, nil
	}
	w := windowItem{fn: fe, frame: wd.Frame}
	col := func(e tree.TypedExpr) colID { return sb.windowColumn(e) }
	for _, e := range fe.Exprs {
		w.args = append(w.args, col(e.(tree.TypedExpr)))
	}
	if fe.Filter != nil {
		w.filter = col(fe.Filter.(tree.TypedExpr))
	}
	typed := func(e tree.Expr) (tree.TypedExpr, error) {
		x, err := inner.resolve(e)
		if err != nil {
			return nil, err
		}
		return builtins.TypeCheck(&r.b.p.semaCtx, x, types.Any)
	}
	for _, e := range wd.Partitions {
		te, err := typed(e)
		if err != nil {
			return nil, err
		}
		w.partition = append(w.partition, col(te))
	}
	for _, o := range wd.OrderBy {
		te, err := typed(o.Expr)
		if err != nil {
			return nil, err
		}
		oi := makeOrderItem(o)
		w.order = append(w.order, orderCol{id: col(te), desc: oi.desc, nullsFirst: oi.nullsFirst})
	}
	if f := wd.Frame; f != nil {
		offset := func(bd *tree.WindowFrameBound) (tree.TypedExpr, error) {
			if bd == nil || !bd.HasOffset() {
				return nil, nil
			}
			want := types.Int
			if f.Mode == tree.RANGE && len(w.order) == 1 {
				want = offsetType(r.b.md.cols[w.order[0].id].typ)
			}
			x, err := inner.resolve(bd.OffsetExpr)
			if err != nil {
				return nil, err
			}
			typed, err := builtins.TypeCheck(&r.b.p.semaCtx, x, want)
			if err != nil || typed.ResolvedType().Family() == want.Family() || !builtins.CanCast(typed.ResolvedType(), want, builtins.ImplicitCast) {
				return typed, err
			}
			return builtins.AssignCast(typed, want)
		}
		if w.startOffset, err = offset(f.Bounds.StartBound); err != nil {
			return nil, err
		}
		if w.endOffset, err = offset(f.Bounds.EndBound); err != nil {
			return nil, err
		}
	}
	w.id = r.b.newCol(def.Name, fe.ResolvedType())
	sb.windows = append(sb.windows, w)
	return replaceCall(te, fe, &colRef{id: w.id, typ: fe.ResolvedType(), name: def.Name}), nil
}

// offsetType is the type of a RANGE offset over an ordering column.
func offsetType(t *types.T) *types.T {
	switch t.Family() {
	case types.DateFamily, types.TimestampFamily, types.TimestampTZFamily, types.TimeFamily, types.TimeTZFamily:
		return types.Interval
	case types.FloatFamily:
		return types.Float
	}
	return t
}

// resolveWindowCall is resolveCall with the OVER clause kept, without its
// contents, so that type checking allows window functions.
func (r *resolver) resolveWindowCall(t *tree.FuncExpr, inner *resolver) (*tree.FuncExpr, tree.TypedExpr, error) {
	c := *t
	c.WindowDef = nil
	// resolveCall builds a fresh call; it is typed with an empty window.
	c.Exprs = make(tree.Exprs, len(t.Exprs))
	star := false
	for i, e := range t.Exprs {
		if n, ok := e.(*tree.UnresolvedName); ok && n.Star && n.NumParts == 1 {
			star = true
			continue
		}
		if _, ok := e.(tree.UnqualifiedStar); ok {
			star = true
			continue
		}
		x, err := inner.resolve(e)
		if err != nil {
			return nil, nil, err
		}
		c.Exprs[i] = x
	}
	if star {
		def, ok := tree.FunDefs["count_rows"]
		if !ok || len(t.Exprs) != 1 {
			return nil, nil, pgerr.Newf(pgerr.UndefinedFunction, "function %s(*) does not exist", t.Func.String())
		}
		c.Func = tree.ResolvableFunctionReference{FunctionReference: def}
		c.Exprs = tree.Exprs{}
	}
	if t.Filter != nil {
		x, err := inner.resolve(t.Filter)
		if err != nil {
			return nil, nil, err
		}
		c.Filter = x
	}
	c.WindowDef = &tree.WindowDef{}
	te, err := builtins.TypeCheck(&r.b.p.semaCtx, &c, types.Any)
	if err != nil {
		return nil, nil, err
	}
	return callIn(te), te, nil
}

// windowColumn makes e a column of the rows that window functions see.
func (sb *selectBinder) windowColumn(e tree.TypedExpr) colID {
	if c, ok := e.(*colRef); ok {
		return c.id
	}
	key := exprKey(e)
	if id, ok := sb.winKey[key]; ok {
		return id
	}
	id := sb.b.newCol("expr", e.ResolvedType())
	sb.winPre = append(sb.winPre, item{id, e})
	sb.winKey[key] = id
	return id
}

// windowDef resolves references to the WINDOW clause.
func (sb *selectBinder) windowDef(w *tree.WindowDef) (*tree.WindowDef, error) {
	name := w.RefName
	if name == "" && w.Name != "" {
		name = w.Name // OVER w
	}
	if name == "" {
		return w, nil
	}
	for _, d := range sb.defs {
		if d.Name != name {
			continue
		}
		base, err := sb.windowDef(&tree.WindowDef{RefName: d.RefName, Partitions: d.Partitions, OrderBy: d.OrderBy, Frame: d.Frame})
		if err != nil {
			return nil, err
		}
		if w.RefName == "" {
			return base, nil
		}
		merged, err := tree.OverrideWindowDef(base, *w)
		if err != nil {
			return nil, err
		}
		return &merged, nil
	}
	return nil, pgerr.Newf(pgerr.UndefinedObject, "window %q does not exist", string(name))
}
