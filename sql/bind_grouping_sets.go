package sql

import (
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// GROUP BY with several grouping sets is one grouping of rows that are multiplied:
// each input row stands once per set, with the columns that the set lacks as NULL,
// and the number of the set is a group column too. Aggregates see the columns as they
// were.
//
// The multiplication is a join with a table of the sets. An empty set has a group
// even if there are no rows at all: then the join is an outer one, and aggregates
// leave out the row that is none.

const (
	// maxGroupingSets is PostgreSQL's limit too.
	maxGroupingSets = 4096
	maxCubeColumns  = 12
)

// groupingCall is one call of GROUPING(…), whose value is the column id.
type groupingCall struct {
	id   colID
	args []colID
}

// groupingFunc is the name of a function as GROUP BY and GROUPING know it.
func groupingFunc(t *tree.FuncExpr) string {
	n, ok := t.Func.FunctionReference.(*tree.UnresolvedName)
	if !ok || n.NumParts != 1 || t.WindowDef != nil {
		return ""
	}
	return n.Parts[0]
}

var groupingSetsName = strings.Trim(parser.GroupingSetsFunc, `"`)

func isGroupingSet(e tree.Expr) (*tree.FuncExpr, string) {
	if fn, ok := e.(*tree.FuncExpr); ok {
		switch name := groupingFunc(fn); name {
		case "rollup", "cube", groupingSetsName:
			return fn, name
		}
	}
	return nil, ""
}

func hasGroupingSets(groupBy tree.GroupBy) bool {
	for _, e := range groupBy {
		if fn, _ := isGroupingSet(e); fn != nil {
			return true
		}
	}
	return false
}

// bindGroupingSets binds GROUP BY: the sets of its elements are combined each with
// each.
func (sb *selectBinder) bindGroupingSets(groupBy tree.GroupBy, items []selectItem) error {
	sets := [][]colID{nil}
	for _, e := range groupBy {
		more, err := sb.groupingElement(e, items)
		if err != nil {
			return err
		}
		var next [][]colID
		for _, a := range sets {
			for _, b := range more {
				next = append(next, append(a[:len(a):len(a)], b...))
			}
			if len(next) > maxGroupingSets {
				return pgerr.Newf("54001", "too many grouping sets present (maximum %d)", maxGroupingSets)
			}
		}
		sets = next
	}
	sb.sets = sets
	return nil
}

// groupingElement returns the sets of one element of GROUP BY.
func (sb *selectBinder) groupingElement(e tree.Expr, items []selectItem) ([][]colID, error) {
	fn, name := isGroupingSet(e)
	if fn == nil {
		set, err := sb.groupingColumns(e, items)
		return [][]colID{set}, err
	}
	if name == groupingSetsName {
		var out [][]colID
		for _, a := range fn.Exprs {
			more, err := sb.groupingElement(a, items)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
		return out, nil
	}
	parts := make([][]colID, len(fn.Exprs))
	for i, a := range fn.Exprs {
		var err error
		if parts[i], err = sb.groupingColumns(a, items); err != nil {
			return nil, err
		}
	}
	join := func(pick func(i int) bool) []colID {
		var set []colID
		for i, p := range parts {
			if pick(i) {
				set = append(set, p...)
			}
		}
		return set
	}
	var out [][]colID
	if name == "rollup" {
		for n := len(parts); n >= 0; n-- {
			out = append(out, join(func(i int) bool { return i < n }))
		}
		return out, nil
	}
	if len(parts) > maxCubeColumns {
		return nil, pgerr.Newf("54011", "CUBE is limited to %d elements", maxCubeColumns)
	}
	for mask := 1<<len(parts) - 1; mask >= 0; mask-- {
		out = append(out, join(func(i int) bool { return mask>>i&1 == 1 }))
	}
	return out, nil
}

// groupingColumns binds an expression or (a, b, …).
func (sb *selectBinder) groupingColumns(e tree.Expr, items []selectItem) ([]colID, error) {
	exprs := tree.Exprs{e}
	if tup, ok := stripParens(e).(*tree.Tuple); ok && (!tup.Row || len(tup.Exprs) == 0) {
		exprs = tup.Exprs
	}
	var out []colID
	for _, x := range exprs {
		id, err := sb.bindGroupExpr(x, items)
		if err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	return out, nil
}

// groupingCall binds GROUPING(a, …).
func (r *resolver) groupingCall(t *tree.FuncExpr) (tree.TypedExpr, error) {
	sb := r.s.sel
	if sb == nil || !sb.grouped || !r.m.agg {
		return nil, pgerr.New(pgerr.GroupingError, "grouping operations are not allowed here")
	}
	if len(t.Exprs) > 31 {
		return nil, pgerr.New("54023", "GROUPING must have fewer than 32 arguments")
	}
	var args []colID
	for _, a := range t.Exprs {
		te, err := r.b.bindExpr(a, sb.from, exprMode{clause: "GROUPING"})
		if err != nil {
			return nil, err
		}
		id, ok := sb.groupExpr[exprKey(te)]
		if c, isCol := te.(*colRef); isCol && sb.groupCols.has(c.id) {
			id, ok = c.id, true
		}
		if !ok {
			return nil, pgerr.New(pgerr.GroupingError, "arguments to GROUPING must be grouping expressions of the associated query level")
		}
		args = append(args, id)
	}
	if sb.sets == nil {
		return tree.NewDInt(0), nil // One set, which has all.
	}
	id := r.b.newCol("grouping", types.Int4)
	sb.grouping = append(sb.grouping, groupingCall{id, args})
	return &colRef{id: id, typ: types.Int4, name: "grouping"}, nil
}

// groupSets builds the grouping and puts the masked columns where the others were
// used.
func (sb *selectBinder) groupSets(in rel, items []selectItem, having *tree.TypedExpr, orders []orderItem, distinctOn []tree.TypedExpr) (rel, error) {
	b := sb.b
	cols := sb.groupCols.ids()
	in, masks, number := sb.multiply(in, cols)

	// The columns that a set lacks are NULL.
	masked := map[colID]colID{}
	subst := map[colID]tree.TypedExpr{}
	var proj []item
	for i, id := range cols {
		m := b.md.cols[id]
		e, err := builtins.TypeCheck(&b.p.semaCtx, &tree.CaseExpr{Whens: []*tree.When{{
			Cond: &colRef{id: masks[i], typ: types.Bool, name: "in set"},
			Val:  &colRef{id: id, typ: m.typ, name: m.name},
		}}}, types.Any)
		if err != nil {
			return nil, err
		}
		masked[id] = b.newCol(m.name, m.typ)
		proj = append(proj, item{masked[id], e})
		subst[id] = &colRef{id: masked[id], typ: m.typ, name: m.name}
	}
	g := &groupNode{in: &projectNode{in: in, items: proj}, aggs: sb.aggs, groupCols: []colID{number}}
	for _, id := range cols {
		g.groupCols = append(g.groupCols, masked[id])
	}
	for _, c := range sb.grouping {
		g.groupCols = append(g.groupCols, c.id)
	}

	change := func(e tree.TypedExpr) tree.TypedExpr {
		if e == nil {
			return nil
		}
		return substitute(e, subst)
	}
	changeID := func(id *colID) {
		if m, ok := masked[*id]; ok {
			*id = m
		}
	}
	for i := range items {
		items[i].expr = change(items[i].expr)
	}
	*having = change(*having)
	for i := range orders {
		orders[i].expr = change(orders[i].expr)
	}
	for i := range distinctOn {
		distinctOn[i] = change(distinctOn[i])
	}
	for i := range sb.winPre {
		sb.winPre[i].expr = change(sb.winPre[i].expr)
	}
	for i := range sb.windows {
		w := &sb.windows[i]
		changeID(&w.filter)
		for j := range w.args {
			changeID(&w.args[j])
		}
		for j := range w.partition {
			changeID(&w.partition[j])
		}
		for j := range w.order {
			changeID(&w.order[j].id)
		}
	}
	for i := range sb.srfs {
		sb.srfs[i].expr = change(sb.srfs[i].expr)
	}
	return g, nil
}

// multiply joins the input with the grouping sets. It returns, per group column, the
// column that says whether the row's set has it, and the number of the set.
func (sb *selectBinder) multiply(in rel, cols []colID) (_ rel, masks []colID, number colID) {
	b := sb.b
	v := &valuesNode{}
	number = b.newCol("set", types.Int)
	empty := b.newCol("empty set", types.Bool)
	v.outCols = []colID{number, empty}
	for range cols {
		id := b.newCol("in set", types.Bool)
		masks = append(masks, id)
		v.outCols = append(v.outCols, id)
	}
	for _, c := range sb.grouping {
		v.outCols = append(v.outCols, c.id)
	}
	anyEmpty := false
	for i, set := range sb.sets {
		has := makeColSet(set...)
		anyEmpty = anyEmpty || len(set) == 0
		row := []tree.TypedExpr{tree.NewDInt(tree.DInt(i)), tree.MakeDBool(len(set) == 0)}
		for _, id := range cols {
			row = append(row, tree.MakeDBool(tree.DBool(has.has(id))))
		}
		for _, c := range sb.grouping {
			bits := 0
			for _, a := range c.args {
				bits <<= 1
				if !has.has(a) {
					bits |= 1
				}
			}
			row = append(row, tree.NewDInt(tree.DInt(bits)))
		}
		v.rows = append(v.rows, row)
	}
	if !anyEmpty {
		return &joinNode{kind: joinInner, left: in, right: v}, masks, number
	}
	present := b.newCol("present", types.Bool)
	some := &projectNode{in: in, items: []item{{present, tree.DBoolTrue}}}
	out := rel(&joinNode{kind: joinLeft, left: v, right: some})
	isRow := &colRef{id: present, typ: types.Bool, name: "present"}
	isEmpty := &colRef{id: empty, typ: types.Bool, name: "empty set"}
	out = &filterNode{in: out, conds: []tree.TypedExpr{tree.NewTypedOrExpr(
		tree.NewTypedComparisonExpr(tree.IsDistinctFrom, isRow, tree.DNull), isEmpty)}}
	// Aggregates count rows only.
	var proj []item
	for i := range sb.aggs {
		a := &sb.aggs[i]
		if a.filter == 0 {
			a.filter = present
			continue
		}
		id := b.newCol("filter", types.Bool)
		proj = append(proj, item{id, tree.NewTypedAndExpr(isRow, &colRef{id: a.filter, typ: types.Bool, name: "filter"})})
		a.filter = id
	}
	if proj != nil {
		out = &projectNode{in: out, items: proj}
	}
	return out, masks, number
}
