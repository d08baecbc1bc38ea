package sql

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// bindUpdate binds UPDATE.
func (b *binder) bindUpdate(t *tree.Update, s *scope) (*query, error) {
	if err := b.p.checkWritable("UPDATE"); err != nil {
		return nil, err
	}
	s, defs, err := b.withScope(t.With, s)
	if err != nil {
		return nil, err
	}
	ref, alias, hint, err := b.target(t.Table, "update")
	if err != nil {
		return nil, err
	}
	desc := ref.Table
	if err := b.p.checkTablePrivileges(b.ctx, desc, "UPDATE"); err != nil {
		return nil, err
	}
	if t.Where == nil && t.Limit == nil && b.p.s.data.SafeUpdates {
		return nil, errUnsafe("UPDATE without WHERE clause")
	}
	m := &mutationNode{op: opUpdate, desc: desc, changed: map[int]bool{}}
	tab, fs, err := b.mutationSource(m, ref, alias, hint, t.From, t.Where, t.OrderBy, t.Limit, s)
	if err != nil {
		return nil, err
	}
	m.oldRow = append([]colID(nil), tab.colIDs...)
	m.newRow = append([]colID(nil), tab.colIDs...)
	items, changed, err := b.bindSet(t.Exprs, fs, desc)
	if err != nil {
		return nil, err
	}
	for i, it := range items {
		m.newRow[i] = it.id
	}
	m.changed = changed
	proj := sortedItems(items)
	if err := b.onUpdate(desc, m.newRow, changed, &proj); err != nil {
		return nil, err
	}
	m.in = &projectNode{in: m.in, items: proj}
	if err := b.recompute(m); err != nil {
		return nil, err
	}
	if m.checks, err = b.bindChecks(desc, m.newRow, m.changed); err != nil {
		return nil, err
	}
	m.outRow = make([]colID, len(m.newRow))
	for i, c := range desc.AllColumns() {
		m.outRow[i] = b.newCol(c.Name, c.Type)
	}
	rs := rowScope(s, ref, alias, m.outRow)
	for _, c := range fs.cols {
		if c.table != alias {
			rs.cols = append(rs.cols, c)
		}
	}
	q, err := b.returning(m, t.Returning, rs)
	if err != nil {
		return nil, err
	}
	return b.withEffects(q, defs), nil
}

func sortedItems(items map[int]item) []item {
	var out []item
	for i := 0; len(out) < len(items); i++ {
		if it, ok := items[i]; ok {
			out = append(out, it)
		}
	}
	return out
}

// onUpdate gives columns with ON UPDATE their value.
func (b *binder) onUpdate(desc *catalog.Table, row []colID, changed map[int]bool, proj *[]item) error {
	for i, c := range desc.AllColumns() {
		if c.OnUpdateExpr == "" || changed[i] || !c.Public() {
			continue
		}
		e, err := b.storedExpr(c.OnUpdateExpr)
		if err != nil {
			return err
		}
		te, err := b.assignedExpr(e, &scope{}, c, "ON UPDATE")
		if err != nil {
			return err
		}
		id := b.newCol(c.Name, c.Type)
		*proj = append(*proj, item{id, te})
		row[i] = id
		changed[i] = true
	}
	return nil
}

// recompute adds the generated columns of an updated row.
func (b *binder) recompute(m *mutationNode) error {
	computed, err := b.computedItems(m.desc, m.newRow)
	if err != nil || computed == nil {
		return err
	}
	for i, c := range m.desc.AllColumns() {
		if c.IsComputed() {
			m.changed[i] = true
		}
	}
	m.in = &projectNode{in: m.in, items: computed}
	return nil
}

// mutationSource binds the rows that UPDATE and DELETE work on: the target,
// joined with the other tables.
func (b *binder) mutationSource(m *mutationNode, ref *catalog.TableRef, alias string, hint *tree.IndexFlags,
	from tree.TableExprs, where *tree.Where, orderBy tree.OrderBy, limit *tree.Limit, s *scope,
) (*tableRef, *scope, error) {
	tab, cols := b.addTable(ref, alias, true)
	var in rel = &scanNode{tab: tab, hint: hint, target: true}
	fs := s.child()
	fs.cols = cols
	seen := map[string]bool{}
	if err := checkDuplicateAliases(seen, cols); err != nil {
		return nil, nil, err
	}
	for _, te := range from {
		r, rc, err := b.bindTable(te, s, fs.cols)
		if err != nil {
			return nil, nil, err
		}
		if err := checkDuplicateAliases(seen, rc); err != nil {
			return nil, nil, err
		}
		in = b.crossJoin(in, r)
		fs.cols = append(fs.cols, rc...)
	}
	if where != nil {
		cond, err := b.bindBool(where.Expr, fs, exprMode{clause: "WHERE"})
		if err != nil {
			return nil, nil, err
		}
		in = &filterNode{in: in, conds: splitAnd(cond)}
	}
	if len(from) > 0 {
		// A row that joins with several others is changed once.
		var pk []colID
		for _, k := range ref.Table.PrimaryIndex().KeyColumns {
			id, _ := tab.colOf(k)
			pk = append(pk, id)
		}
		in = &distinctNode{in: in, on: pk}
	}
	if len(orderBy) > 0 {
		sb := b.newSelectBinder(fs)
		orders, err := sb.bindOrderBy(orderBy, nil)
		if err != nil {
			return nil, nil, err
		}
		var order ordering
		var proj []item
		for _, o := range orders {
			id := b.newCol("order", o.expr.ResolvedType())
			if c, ok := o.expr.(*colRef); ok {
				id = c.id
			} else {
				proj = append(proj, item{id, o.expr})
			}
			order = append(order, orderCol{id: id, desc: o.desc, nullsFirst: o.nullsFirst})
		}
		if proj != nil {
			in = &projectNode{in: in, items: proj}
		}
		in = &sortNode{in: in, order: order}
		fs.sel = nil
	}
	if limit != nil && limit.Count != nil && !limit.LimitAll {
		l := &limitNode{in: in}
		var err error
		if l.limit, err = b.bindCount(limit.Count, s, "LIMIT"); err != nil {
			return nil, nil, err
		}
		if limit.Offset != nil {
			if l.offset, err = b.bindCount(limit.Offset, s, "OFFSET"); err != nil {
				return nil, nil, err
			}
		}
		in = l
	}
	m.in = in
	return tab, fs, nil
}

// bindSet binds the SET list over the scope fs.
func (b *binder) bindSet(exprs tree.UpdateExprs, fs *scope, desc *catalog.Table) (map[int]item, map[int]bool, error) {
	items, changed := map[int]item{}, map[int]bool{}
	set := func(name tree.Name, bind func(*catalog.Column) (tree.TypedExpr, error)) error {
		c := desc.ColumnByName(string(name))
		if c == nil {
			return b.p.locateName(pgerr.Newf(pgerr.UndefinedColumn, "column %q of relation %q does not exist", string(name), desc.Name()), string(name))
		}
		if changed[c.Ordinal] {
			return pgerr.Newf(pgerr.SyntaxError, "multiple assignments to same column %q", string(name))
		}
		te, err := bind(c)
		if err != nil {
			return err
		}
		items[c.Ordinal] = item{b.newCol(c.Name, c.Type), te}
		changed[c.Ordinal] = true
		return nil
	}
	value := func(e tree.Expr) func(*catalog.Column) (tree.TypedExpr, error) {
		return func(c *catalog.Column) (tree.TypedExpr, error) {
			if _, ok := e.(tree.DefaultVal); ok {
				return b.defaultExpr(c)
			}
			if c.IsComputed() || c.Identity == catalogpb.IdentityType_GENERATED_ALWAYS {
				return nil, pgerr.Newf("428C9", "column %q can only be updated to DEFAULT", c.Name)
			}
			return b.assignedExpr(e, fs, c, "UPDATE")
		}
	}
	for _, ue := range exprs {
		if !ue.Tuple {
			if err := set(ue.Names[0], value(ue.Expr)); err != nil {
				return nil, nil, err
			}
			continue
		}
		switch t := stripParens(ue.Expr).(type) {
		case *tree.Tuple:
			if len(t.Exprs) != len(ue.Names) {
				return nil, nil, pgerr.New(pgerr.SyntaxError, "number of columns does not match number of values")
			}
			for i, n := range ue.Names {
				if err := set(n, value(t.Exprs[i])); err != nil {
					return nil, nil, err
				}
			}
		case *tree.Subquery:
			q, err := b.bindSelect(t.Select, fs.child())
			if err != nil {
				return nil, nil, err
			}
			if len(q.cols) != len(ue.Names) {
				return nil, nil, pgerr.New(pgerr.SyntaxError, "number of columns does not match number of values")
			}
			sq := &subqueryExpr{kind: subTuple, in: &maxOneRowNode{q.in}, out: q.ids(), outer: freeCols(q.in)}
			elems := make([]types.T, len(q.cols))
			for i, c := range q.cols {
				elems[i] = *c.typ
			}
			sq.typ = types.MakeTuple(elems)
			for i, n := range ue.Names {
				var e tree.TypedExpr = tree.NewTypedColumnAccessExpr(sq, "", i)
				if len(q.cols) == 1 {
					sq.kind, sq.typ = subScalar, q.cols[0].typ
					e = sq
				}
				if err := set(n, func(c *catalog.Column) (tree.TypedExpr, error) { return b.assign(e, c) }); err != nil {
					return nil, nil, err
				}
			}
		default:
			if len(ue.Names) != 1 {
				return nil, nil, pgerr.New(pgerr.SyntaxError, "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression")
			}
			if err := set(ue.Names[0], value(ue.Expr)); err != nil {
				return nil, nil, err
			}
		}
	}
	return items, changed, nil
}

func errUnsafe(what string) error {
	return pgerr.Newf(pgerr.Warning, "rejected (sql_safe_updates = true): %s", what)
}

// bindDelete binds DELETE.
func (b *binder) bindDelete(t *tree.Delete, s *scope) (*query, error) { return b.delete(t, nil, s) }

func (b *binder) bindDeletePlus(t *parser.DeleteUsing, s *scope) (*query, error) {
	return b.delete(t.Delete, t.Using, s)
}

func (b *binder) delete(t *tree.Delete, using tree.TableExprs, s *scope) (*query, error) {
	if err := b.p.checkWritable("DELETE"); err != nil {
		return nil, err
	}
	s, defs, err := b.withScope(t.With, s)
	if err != nil {
		return nil, err
	}
	ref, alias, hint, err := b.target(t.Table, "delete from")
	if err != nil {
		return nil, err
	}
	desc := ref.Table
	if err := b.p.checkTablePrivileges(b.ctx, desc, "DELETE"); err != nil {
		return nil, err
	}
	if t.Where == nil && t.Limit == nil && b.p.s.data.SafeUpdates {
		return nil, errUnsafe("DELETE without WHERE clause")
	}
	m := &mutationNode{op: opDelete, desc: desc}
	tab, fs, err := b.mutationSource(m, ref, alias, hint, using, t.Where, t.OrderBy, t.Limit, s)
	if err != nil {
		return nil, err
	}
	m.oldRow = append([]colID(nil), tab.colIDs...)
	m.outRow = make([]colID, len(m.oldRow))
	for i, c := range desc.AllColumns() {
		m.outRow[i] = b.newCol(c.Name, c.Type)
	}
	rs := rowScope(s, ref, alias, m.outRow)
	for _, c := range fs.cols {
		if c.table != alias {
			rs.cols = append(rs.cols, c)
		}
	}
	q, err := b.returning(m, t.Returning, rs)
	if err != nil {
		return nil, err
	}
	_, whole := m.in.(*scanNode)
	m.all = whole && !m.returning && len(desc.InboundFKs()) == 0
	return b.withEffects(q, defs), nil
}
