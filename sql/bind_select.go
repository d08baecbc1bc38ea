package sql

import (
	"fmt"
	"go/constant"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
)

// bindSelect binds any form of SELECT.
func (b *binder) bindSelect(stmt tree.SelectStatement, s *scope) (*query, error) {
	switch t := stmt.(type) {
	case *tree.ParenSelect:
		return b.bindFullSelect(t.Select, s)
	}
	return b.bindFullSelect(&tree.Select{Select: stmt}, s)
}

// bindFullSelect binds WITH, the body, ORDER BY and LIMIT.
func (b *binder) bindFullSelect(sel *tree.Select, s *scope) (*query, error) {
	var defs []*cteDef
	if sel.With != nil {
		var err error
		s = s.child()
		if defs, err = b.bindWith(sel.With, s); err != nil {
			return nil, err
		}
	}
	body := sel.Select
	if p, ok := body.(*tree.ParenSelect); ok {
		q, err := b.bindFullSelect(p.Select, s)
		if err != nil {
			return nil, err
		}
		if err := b.orderOutput(q, sel.OrderBy, s); err != nil {
			return nil, err
		}
		return b.finishSelect(q, sel, s, defs)
	}
	var q *query
	var err error
	switch t := body.(type) {
	case *tree.SelectClause:
		q, err = b.bindSelectClause(t, sel, s)
	case *tree.UnionClause:
		if q, err = b.bindSetOp(t, s); err == nil {
			err = b.orderOutput(q, sel.OrderBy, s)
		}
	case *tree.ValuesClause:
		if q, err = b.bindValues(t, s, nil); err == nil {
			err = b.orderOutput(q, sel.OrderBy, s)
		}
	default:
		return nil, pgerr.Newf(pgerr.FeatureNotSupported, "unimplemented: %s as a query", body.StatementTag())
	}
	if err != nil {
		return nil, err
	}
	return b.finishSelect(q, sel, s, defs)
}

// finishSelect adds LIMIT, row locks and the effects of WITH.
func (b *binder) finishSelect(q *query, sel *tree.Select, s *scope, defs []*cteDef) (*query, error) {
	if sel.Limit != nil {
		n := &limitNode{in: q.in}
		var err error
		if sel.Limit.Count != nil && !sel.Limit.LimitAll {
			if n.limit, err = b.bindCount(sel.Limit.Count, s, "LIMIT"); err != nil {
				return nil, err
			}
		}
		if sel.Limit.Offset != nil {
			if n.offset, err = b.bindCount(sel.Limit.Offset, s, "OFFSET"); err != nil {
				return nil, err
			}
		}
		if n.limit != nil || n.offset != nil {
			q.in = n
		}
	}
	if len(sel.Locking) > 0 {
		if err := b.lockRows(q.in, sel.Locking); err != nil {
			return nil, err
		}
	}
	return b.withEffects(q, defs), nil
}

// withEffects makes sure that data-modifying WITH queries run.
func (b *binder) withEffects(q *query, defs []*cteDef) *query {
	var mutating []*cteDef
	for _, d := range defs {
		if d.mutates {
			mutating = append(mutating, d)
		}
	}
	if mutating != nil {
		q.in = &withNode{in: q.in, defs: mutating}
	}
	return q
}

// bindCount binds a LIMIT or OFFSET expression.
func (b *binder) bindCount(e tree.Expr, s *scope, clause string) (tree.TypedExpr, error) {
	te, err := b.bindExpr(e, &scope{parent: s}, exprMode{clause: clause, desired: types.Int})
	if err != nil {
		return nil, err
	}
	switch te.ResolvedType().Family() {
	case types.IntFamily, types.UnknownFamily:
	case types.DecimalFamily, types.FloatFamily:
		return tree.NewTypedCastExpr(te, types.Int)
	default:
		return nil, pgerr.Newf(pgerr.DatatypeMismatch, "argument of %s must be type bigint, not type %s", clause, typeName(te.ResolvedType()))
	}
	if c := colsOf(te); !c.empty() && !c.subsetOf(outerCols(s)) {
		return nil, pgerr.Newf("42P10", "argument of %s must not contain variables", clause)
	}
	return te, nil
}

// outerCols are all columns visible from enclosing queries.
func outerCols(s *scope) colSet {
	var out colSet
	for ; s != nil; s = s.parent {
		out.union(s.colIDs())
	}
	return out
}

// lockRows applies FOR UPDATE and its kind to the tables of a query.
func (b *binder) lockRows(n rel, clause tree.LockingClause) error {
	if err := b.p.checkWritable("SELECT FOR UPDATE"); err != nil {
		return err
	}
	for _, item := range clause {
		if item.Strength == tree.ForNone {
			continue
		}
		mode := lockMode{on: true, skipLocked: item.WaitPolicy == tree.LockWaitSkip, noWait: item.WaitPolicy == tree.LockWaitError}
		left := map[string]bool{}
		for _, t := range item.Targets {
			left[string(t.TableName)] = true
		}
		only := len(left) > 0
		bad := ""
		visitRel(n, func(n rel) {
			switch t := n.(type) {
			case *scanNode:
				if !only || left[t.tab.alias] {
					t.lock = mode
					delete(left, t.tab.alias)
				}
			case *groupNode:
				bad = "GROUP BY clause"
				if t.scalar {
					bad = "aggregate functions"
				}
			case *distinctNode:
				bad = "DISTINCT clause"
			case *windowNode:
				bad = "window functions"
			case *setOpNode:
				bad = "UNION/INTERSECT/EXCEPT"
			}
		})
		if bad != "" {
			return pgerr.Newf(pgerr.FeatureNotSupported, "%s is not allowed with %s", item.Strength, bad)
		}
		for name := range left {
			return pgerr.Newf(pgerr.UndefinedTable, "relation %q in %s clause not found in FROM clause", name, item.Strength)
		}
	}
	return nil
}

// selectBinder collects what the expressions of one SELECT need computed
// before them.
type selectBinder struct {
	b    *binder
	from *scope
	// pre are computed from the FROM columns, before grouping.
	pre    []item
	preKey map[string]colID
	aggs   []aggItem
	aggKey map[string]colID

	grouped    bool
	groupCols  colSet
	groupExpr  map[string]colID // of GROUP BY expressions that are not columns
	groupItems map[int]colID    // of items that GROUP BY names by position or name
	// sets are the grouping sets, if there are several; grouping are the calls of
	// GROUPING().
	sets     [][]colID
	grouping []groupingCall

	windows []windowItem
	winPre  []item // computed after grouping, for window functions
	winKey  map[string]colID
	defs    tree.Window
	srfs    []srfItem
}

func (b *binder) newSelectBinder(from *scope) *selectBinder {
	sb := &selectBinder{
		b: b, from: from, preKey: map[string]colID{}, aggKey: map[string]colID{},
		groupExpr: map[string]colID{}, winKey: map[string]colID{},
	}
	from.sel = sb
	return sb
}

// column makes e a column of the rows before grouping and returns its id.
func (sb *selectBinder) column(e tree.TypedExpr) colID {
	if c, ok := e.(*colRef); ok && sb.from.colIDs().has(c.id) {
		return c.id
	}
	key := exprKey(e)
	if id, ok := sb.preKey[key]; ok {
		return id
	}
	id := sb.b.newCol("expr", e.ResolvedType())
	sb.pre = append(sb.pre, item{id, e})
	sb.preKey[key] = id
	return id
}

type selectItem struct {
	name string
	ast  tree.Expr // nil if expr is bound
	expr tree.TypedExpr
	id   colID
	lit  bool
}

// bindSelectClause binds SELECT … FROM … WHERE … GROUP BY … HAVING … with the
// ORDER BY of sel.
func (b *binder) bindSelectClause(t *tree.SelectClause, sel *tree.Select, s *scope) (*query, error) {
	in, fs, err := b.bindFrom(&t.From, s)
	if err != nil {
		return nil, err
	}
	sb := b.newSelectBinder(fs)
	sb.defs = t.Window
	if t.Where != nil {
		cond, err := b.bindBool(t.Where.Expr, fs, exprMode{clause: "WHERE"})
		if err != nil {
			return nil, err
		}
		in = &filterNode{in: in, conds: splitAnd(cond)}
	}

	items, err := b.expandStars(t.Exprs, fs)
	if err != nil {
		return nil, err
	}
	if err := sb.bindGroupBy(t.GroupBy, items); err != nil {
		return nil, err
	}
	for i := range items {
		it := &items[i]
		if it.ast == nil {
			continue
		}
		if it.expr, err = b.bindExpr(it.ast, fs, exprMode{clause: "SELECT", agg: true, window: true, srf: true}); err != nil {
			return nil, err
		}
		it.lit = isLiteral(it.ast)
	}
	var having tree.TypedExpr
	if t.Having != nil {
		sb.grouped = true
		if having, err = b.bindBool(t.Having.Expr, fs, exprMode{clause: "HAVING", agg: true}); err != nil {
			return nil, err
		}
	}
	orders, err := sb.bindOrderBy(sel.OrderBy, items)
	if err != nil {
		return nil, err
	}
	var distinctOn []tree.TypedExpr
	for _, e := range t.DistinctOn {
		te, err := sb.bindOutputExpr(e, items, "DISTINCT ON")
		if err != nil {
			return nil, err
		}
		distinctOn = append(distinctOn, te)
	}

	// Grouping.
	if len(sb.aggs) > 0 || sb.grouped {
		if in, err = sb.group(in, items, &having, orders, distinctOn); err != nil {
			return nil, err
		}
		if having != nil {
			in = &filterNode{in: in, conds: splitAnd(having)}
		}
	} else if len(sb.pre) > 0 {
		in = &projectNode{in: in, items: sb.pre}
	}
	if len(sb.windows) > 0 {
		if len(sb.winPre) > 0 {
			in = &projectNode{in: in, items: sb.winPre}
		}
		in = &windowNode{in: in, funcs: sb.windows}
	}
	if len(sb.srfs) > 0 {
		in = &projectSetNode{in: in, funcs: sb.srfs}
	}

	// The select list.
	q := &query{}
	avail := in.cols()
	var proj []item
	for i := range items {
		it := &items[i]
		typ := builtins.TypeOf(it.expr)
		if c, ok := it.expr.(*colRef); ok && avail.has(c.id) {
			it.id = c.id
		} else {
			it.id = b.newCol(it.name, typ)
			proj = append(proj, item{it.id, it.expr})
		}
		q.cols = append(q.cols, outCol{name: it.name, id: it.id, typ: typ, literal: it.lit})
	}
	colFor := func(te tree.TypedExpr) colID {
		if c, ok := te.(*colRef); ok && (avail.has(c.id) || inItems(proj, c.id)) {
			return c.id
		}
		key := exprKey(te)
		for _, it := range items {
			if exprKey(it.expr) == key {
				return it.id
			}
		}
		id := b.newCol("order", te.ResolvedType())
		proj = append(proj, item{id, te})
		return id
	}
	var order ordering
	for _, o := range orders {
		id := o.item
		if o.expr != nil {
			if t.Distinct && len(distinctOn) == 0 {
				key := exprKey(o.expr)
				for _, it := range items {
					if exprKey(it.expr) == key {
						id = it.id
					}
				}
				if id == 0 {
					return nil, pgerr.New("42P10", "for SELECT DISTINCT, ORDER BY expressions must appear in select list")
				}
			} else {
				id = colFor(o.expr)
			}
		} else {
			id = items[int(o.item)].id
		}
		order = append(order, orderCol{id: id, desc: o.desc, nullsFirst: o.nullsFirst})
	}
	var onCols []colID
	for _, te := range distinctOn {
		onCols = append(onCols, colFor(te))
	}
	if len(proj) > 0 {
		in = &projectNode{in: in, items: proj}
	}
	switch {
	case t.Distinct && onCols == nil:
		in = &distinctNode{in: in, on: q.ids()}
		if order != nil {
			in = &sortNode{in: in, order: order}
		}
	case onCols != nil:
		if order != nil {
			on := makeColSet(onCols...)
			n := min(len(order), on.len())
			for _, o := range order[:n] {
				if !on.has(o.id) {
					return nil, pgerr.New("42P10", "SELECT DISTINCT ON expressions must match initial ORDER BY expressions")
				}
			}
			in = &sortNode{in: in, order: order}
		}
		in = &distinctNode{in: in, on: onCols}
	case order != nil:
		in = &sortNode{in: in, order: order}
	}
	q.in = in
	return q, nil
}

func inItems(items []item, id colID) bool {
	for _, it := range items {
		if it.id == id {
			return true
		}
	}
	return false
}

// isLiteral says that an expression is a bare string or NULL, whose type
// PostgreSQL leaves open for a while.
func isLiteral(e tree.Expr) bool {
	e = stripParens(e)
	if _, ok := e.(*tree.StrVal); ok {
		return true
	}
	return e == tree.DNull
}

// expandStars lists the items of a select list.
func (b *binder) expandStars(exprs tree.SelectExprs, fs *scope) ([]selectItem, error) {
	var items []selectItem
	addCols := func(cols []scopeCol) {
		for i := range cols {
			items = append(items, selectItem{name: cols[i].name, expr: cols[i].ref()})
		}
	}
	for i := range exprs {
		e := exprs[i]
		if err := e.NormalizeTopLevelVarName(); err != nil {
			return nil, err
		}
		switch v := e.Expr.(type) {
		case tree.UnqualifiedStar:
			if len(fs.cols) == 0 {
				return nil, pgerr.New(pgerr.SyntaxError, "SELECT * with no tables specified is not valid")
			}
			var cols []scopeCol
			for _, c := range fs.cols {
				if !c.hidden && !c.merged {
					cols = append(cols, c)
				}
			}
			addCols(cols)
			continue
		case *tree.AllColumnsSelector:
			cols, err := b.tableStar(fs, v)
			if err != nil {
				return nil, err
			}
			addCols(cols)
			continue
		case *tree.TupleStar:
			te, err := b.bindExpr(v.Expr, fs, exprMode{clause: "SELECT", agg: true})
			if err != nil {
				return nil, err
			}
			typ := te.ResolvedType()
			if typ.Family() != types.TupleFamily {
				return nil, pgerr.Newf(pgerr.WrongObjectType, "type %s is not composite", typeName(typ))
			}
			for j := range typ.TupleContents() {
				name := fmt.Sprintf("column%d", j+1)
				if l := typ.TupleLabels(); j < len(l) {
					name = l[j]
				}
				items = append(items, selectItem{name: name, expr: tree.NewTypedColumnAccessExpr(te, name, j)})
			}
			continue
		}
		items = append(items, selectItem{name: b.outputColumnName(e), ast: e.Expr})
	}
	return items, nil
}

// outputColumnName is the name of an output column: PostgreSQL's, where the
// grammar has put another function in place of what was written.
func (b *binder) outputColumnName(e tree.SelectExpr) string {
	if e.As == "" {
		switch t := stripParens(e.Expr).(type) {
		case *tree.DBool:
			return "?column?"
		case *tree.DInterval:
			return "interval"
		case *tree.FuncExpr:
			if def, ok := t.Func.FunctionReference.(*tree.FunctionDefinition); ok {
				switch def.Name {
				case "strpos":
					return "position"
				case "json_remove_path":
					return "?column?"
				}
			}
		}
	}
	name, err := tree.GetRenderColName(b.p.s.data.SearchPath, e)
	if err != nil {
		return "?column?"
	}
	return name
}

// orderItem is an ORDER BY item: an output column by position or an expression.
type orderItem struct {
	item       colID // index into the select list if expr is nil
	expr       tree.TypedExpr
	desc       bool
	nullsFirst bool
}

func makeOrderItem(o *tree.Order) orderItem {
	it := orderItem{desc: o.Direction == tree.Descending}
	// PostgreSQL: NULLs are larger than everything.
	it.nullsFirst = it.desc
	switch o.NullsOrder {
	case tree.NullsFirst:
		it.nullsFirst = true
	case tree.NullsLast:
		it.nullsFirst = false
	}
	return it
}

// ordinal returns the select list position that a bare integer means.
func ordinal(e tree.Expr, n int, clause string) (int, bool, error) {
	num, ok := stripParens(e).(*tree.NumVal)
	if !ok {
		return 0, false, nil
	}
	if num.Kind() != constant.Int {
		return 0, false, pgerr.Newf(pgerr.SyntaxError, "non-integer constant in %s", clause)
	}
	i, err := num.AsInt64()
	if err != nil || i < 1 || i > int64(n) {
		return 0, false, pgerr.Newf("42P10", "%s position %s is not in select list", clause, num.OrigString())
	}
	return int(i) - 1, true, nil
}

// bindOrderBy binds ORDER BY: positions, output names, expressions.
func (sb *selectBinder) bindOrderBy(orderBy tree.OrderBy, items []selectItem) ([]orderItem, error) {
	var out []orderItem
	for _, o := range orderBy {
		it := makeOrderItem(o)
		if o.OrderType == tree.OrderByIndex {
			return nil, pgerr.New(pgerr.FeatureNotSupported, "ORDER BY INDEX is not supported")
		}
		pos, isPos, err := ordinal(o.Expr, len(items), "ORDER BY")
		if err != nil {
			return nil, err
		}
		if isPos {
			it.item = colID(pos)
			out = append(out, it)
			continue
		}
		if pos, ok, err := outputName(o.Expr, items, "ORDER BY"); err != nil {
			return nil, err
		} else if ok {
			it.item = colID(pos)
			out = append(out, it)
			continue
		}
		if it.expr, err = sb.b.bindExpr(o.Expr, sb.from, exprMode{clause: "ORDER BY", agg: true, window: true, srf: true}); err != nil {
			return nil, err
		}
		out = append(out, it)
	}
	return out, nil
}

// outputName finds the select item that a bare name means in ORDER BY.
func outputName(e tree.Expr, items []selectItem, clause string) (int, bool, error) {
	n, ok := stripParens(e).(*tree.UnresolvedName)
	if !ok || n.NumParts != 1 || n.Star {
		return 0, false, nil
	}
	found := -1
	for i := range items {
		if items[i].name != n.Parts[0] {
			continue
		}
		if found >= 0 && exprText(&items[i]) != exprText(&items[found]) {
			return 0, false, pgerr.Newf(pgerr.AmbiguousColumn, "%s %q is ambiguous", clause, n.Parts[0])
		}
		if found < 0 {
			found = i
		}
	}
	return found, found >= 0, nil
}

func exprText(it *selectItem) string {
	if it.expr != nil {
		return exprKey(it.expr)
	}
	return tree.AsString(it.ast)
}

// bindOutputExpr binds an expression of DISTINCT ON, by the rules of ORDER BY.
func (sb *selectBinder) bindOutputExpr(e tree.Expr, items []selectItem, clause string) (tree.TypedExpr, error) {
	pos, ok, err := ordinal(e, len(items), clause)
	if err != nil {
		return nil, err
	}
	if !ok {
		if pos, ok, err = outputName(e, items, clause); err != nil {
			return nil, err
		}
	}
	if ok {
		return items[pos].expr, nil
	}
	return sb.b.bindExpr(e, sb.from, exprMode{clause: clause, agg: true, window: true})
}

// orderOutput sorts the rows of VALUES and set operations: only output columns
// can be named.
func (b *binder) orderOutput(q *query, orderBy tree.OrderBy, s *scope) error {
	if len(orderBy) == 0 {
		return nil
	}
	os := &scope{parent: s}
	items := make([]selectItem, len(q.cols))
	for i, c := range q.cols {
		os.cols = append(os.cols, scopeCol{name: c.name, id: c.id, typ: c.typ})
		items[i] = selectItem{name: c.name, expr: &colRef{id: c.id, typ: c.typ, name: c.name}, id: c.id}
	}
	sb := b.newSelectBinder(os)
	orders, err := sb.bindOrderBy(orderBy, items)
	if err != nil {
		return err
	}
	var order ordering
	var proj []item
	for _, o := range orders {
		id := colID(0)
		if o.expr == nil {
			id = items[o.item].id
		} else {
			id = b.newCol("order", o.expr.ResolvedType())
			proj = append(proj, item{id, o.expr})
		}
		order = append(order, orderCol{id: id, desc: o.desc, nullsFirst: o.nullsFirst})
	}
	if proj != nil {
		q.in = &projectNode{in: q.in, items: proj}
	}
	q.in = &sortNode{in: q.in, order: order}
	return nil
}

// splitAnd lists the conjuncts of a condition.
func splitAnd(e tree.TypedExpr) []tree.TypedExpr {
	var out []tree.TypedExpr
	var walk func(tree.TypedExpr)
	walk = func(e tree.TypedExpr) {
		if a, ok := e.(*tree.AndExpr); ok {
			walk(a.TypedLeft())
			walk(a.TypedRight())
			return
		}
		if d, ok := builtins.ConstValue(e); ok && d == tree.DBoolTrue {
			return
		}
		out = append(out, e)
	}
	walk(e)
	return out
}

// bindValues binds a VALUES list. desired, if given, are the types of the
// columns it is meant for.
func (b *binder) bindValues(v *tree.ValuesClause, s *scope, desired []*types.T) (*query, error) {
	n := &valuesNode{}
	q := &query{in: n}
	if len(v.Rows) == 0 {
		return q, nil
	}
	width := len(v.Rows[0])
	typs := make([]*types.T, width)
	lits := make([]bool, width)
	for j := range lits {
		lits[j] = true
	}
	for _, row := range v.Rows {
		if len(row) != width {
			return nil, pgerr.New(pgerr.SyntaxError, "VALUES lists must all be the same length")
		}
		out := make([]tree.TypedExpr, width)
		for j, e := range row {
			m := exprMode{clause: "VALUES"}
			if desired != nil && j < len(desired) {
				m.desired = desired[j]
			}
			te, err := b.bindExpr(e, s, m)
			if err != nil {
				return nil, err
			}
			out[j] = te
			lit := isLiteral(e)
			lits[j] = lits[j] && lit
			t := te.ResolvedType() // Not TypeOf: a NULL must not decide for text.
			switch {
			case typs[j] == nil || typs[j].Family() == types.UnknownFamily:
				typs[j] = t
			case lit && t.Family() != typs[j].Family():
				// Brought to the others' type below.
			default:
				ct, ok := builtins.CommonType(typs[j], t)
				if !ok {
					return nil, pgerr.Newf(pgerr.DatatypeMismatch, "VALUES types %s and %s cannot be matched", typeName(typs[j]), typeName(t))
				}
				typs[j] = ct
			}
		}
		n.rows = append(n.rows, out)
	}
	// A literal before the first typed value must not decide.
	for j := range typs {
		if lits[j] || desired != nil {
			continue
		}
		var t *types.T
		for i, row := range v.Rows {
			if isLiteral(row[j]) {
				continue
			}
			rt := n.rows[i][j].ResolvedType()
			if t == nil || t.Family() == types.UnknownFamily {
				t = rt
			} else if ct, ok := builtins.CommonType(t, rt); ok {
				t = ct
			}
		}
		typs[j] = t
	}
	for j, t := range typs {
		if t == nil || t.Family() == types.UnknownFamily {
			typs[j] = types.String
		}
	}
	for i, row := range n.rows {
		for j, te := range row {
			if desired != nil {
				continue // Each value is brought to its column on its own.
			}
			c, err := b.castLiteral(te, typs[j], isLiteral(v.Rows[i][j]))
			if err != nil {
				return nil, err
			}
			row[j] = c
		}
	}
	for j := range width {
		name := fmt.Sprintf("column%d", j+1)
		id := b.newCol(name, typs[j])
		n.outCols = append(n.outCols, id)
		q.cols = append(q.cols, outCol{name: name, id: id, typ: typs[j], literal: lits[j]})
	}
	return q, nil
}

// castLiteral brings te to typ; string literals are read as typ's input.
func (b *binder) castLiteral(te tree.TypedExpr, typ *types.T, literal bool) (tree.TypedExpr, error) {
	from := te.ResolvedType()
	if typ == nil || typ.Family() == types.UnknownFamily || from.Identical(typ) {
		return te, nil
	}
	if from.Family() == types.UnknownFamily && te == tree.DNull {
		return te, nil
	}
	if from.Equivalent(typ) && from.Oid() == typ.Oid() {
		return te, nil
	}
	c, err := b.p.castExpr(te, typ)
	if err != nil {
		return nil, b.p.locate(err)
	}
	return c, nil
}

// bindSetOp binds UNION, INTERSECT and EXCEPT.
func (b *binder) bindSetOp(u *tree.UnionClause, s *scope) (*query, error) {
	l, err := b.bindFullSelect(u.Left, s)
	if err != nil {
		return nil, err
	}
	r, err := b.bindFullSelect(u.Right, s)
	if err != nil {
		return nil, err
	}
	return b.makeSetOp(u.Type, u.All, l, r)
}

func (b *binder) makeSetOp(op tree.UnionType, all bool, l, r *query) (*query, error) {
	if len(l.cols) != len(r.cols) {
		return nil, pgerr.Newf(pgerr.SyntaxError, "each %s query must have the same number of columns", op)
	}
	n := &setOpNode{op: op, all: all}
	out := &query{in: n}
	var lproj, rproj []item
	for i := range l.cols {
		lc, rc := l.cols[i], r.cols[i]
		var typ *types.T
		switch {
		case lc.literal && !rc.literal && rc.typ.Family() != types.UnknownFamily:
			typ = rc.typ
		case rc.literal && !lc.literal && lc.typ.Family() != types.UnknownFamily:
			typ = lc.typ
		default:
			ct, ok := builtins.CommonType(lc.typ, rc.typ)
			if !ok {
				return nil, pgerr.Newf(pgerr.DatatypeMismatch, "%s types %s and %s cannot be matched", op, typeName(lc.typ), typeName(rc.typ))
			}
			typ = ct
		}
		if typ.Family() == types.UnknownFamily {
			typ = types.String
		}
		conv := func(c outCol, proj *[]item) (colID, error) {
			ref := &colRef{id: c.id, typ: c.typ, name: c.name}
			e, err := b.castLiteral(ref, typ, c.literal)
			if err != nil || e == tree.TypedExpr(ref) {
				return c.id, err
			}
			id := b.newCol(c.name, typ)
			*proj = append(*proj, item{id, e})
			return id, nil
		}
		lid, err := conv(lc, &lproj)
		if err != nil {
			return nil, err
		}
		rid, err := conv(rc, &rproj)
		if err != nil {
			return nil, err
		}
		id := b.newCol(lc.name, typ)
		n.leftCols, n.rightCols, n.outCols = append(n.leftCols, lid), append(n.rightCols, rid), append(n.outCols, id)
		out.cols = append(out.cols, outCol{name: lc.name, id: id, typ: typ, literal: lc.literal && rc.literal})
	}
	n.left, n.right = l.in, r.in
	if lproj != nil {
		n.left = &projectNode{in: l.in, items: lproj}
	}
	if rproj != nil {
		n.right = &projectNode{in: r.in, items: rproj}
	}
	return out, nil
}
