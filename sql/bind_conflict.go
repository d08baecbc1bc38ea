package sql

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// bindConflict binds ON CONFLICT and UPSERT.
func (b *binder) bindConflict(m *mutationNode, oc *tree.OnConflict, s *scope, ref *catalog.TableRef, alias string, targets []*catalog.Column) error {
	desc := m.desc
	c := &conflictPlan{nothing: oc.DoNothing, changed: map[int]bool{}}
	m.conflict = c
	unique := uniqueIndexes(desc)
	constraint, byName := parser.ConflictConstraint(oc)
	switch {
	case oc.IsUpsertAlias():
		c.arbiters = []*catalog.Index{desc.PrimaryIndex()}
	case byName:
		for _, x := range unique {
			if x.Name == constraint {
				c.arbiters = append(c.arbiters, x)
			}
		}
		if c.arbiters == nil {
			return pgerr.Newf(pgerr.UndefinedObject, "constraint %q for table %q does not exist", constraint, desc.Name())
		}
	case len(oc.Columns) > 0:
		if err := b.inferArbiters(c, oc, desc, unique); err != nil {
			return err
		}
		if c.arbiters == nil {
			return pgerr.New("42P10", "there is no unique or exclusion constraint matching the ON CONFLICT specification")
		}
	case oc.DoNothing:
		c.arbiters = unique
	default:
		return pgerr.New(pgerr.SyntaxError, "ON CONFLICT DO UPDATE requires inference specification or constraint name").
			WithHint("For example, ON CONFLICT (column_name).")
	}
	if c.nothing {
		return nil
	}
	cols := desc.AllColumns()
	c.existing = make([]colID, len(cols))
	for i, col := range cols {
		c.existing[i] = b.newCol(col.Name, col.Type)
	}
	c.updRow = append([]colID(nil), c.existing...)
	if oc.IsUpsertAlias() {
		pk := map[uint32]bool{}
		for _, k := range desc.PrimaryIndex().KeyColumns {
			pk[k.ID] = true
		}
		for _, col := range targets {
			if i := col.Ordinal; !pk[col.ID] && m.newRow[i] != 0 && !col.IsComputed() {
				c.updRow[i] = m.newRow[i]
				c.changed[i] = true
			}
		}
	} else {
		us := rowScope(s, ref, alias, c.existing)
		ex := rowScope(nil, ref, "excluded", m.newRow)
		for _, col := range ex.cols {
			col.schema, col.db = "", ""
			us.cols = append(us.cols, col)
		}
		// Unqualified names mean the existing row.
		us.preferTable = alias
		items, changed, err := b.bindSet(oc.Exprs, us, desc)
		if err != nil {
			return err
		}
		c.changed = changed
		for i, it := range items {
			c.updRow[i] = it.id
		}
		c.items = sortedItems(items)
		if oc.Where != nil {
			if c.where, err = b.bindBool(oc.Where.Expr, us, exprMode{clause: "WHERE"}); err != nil {
				return err
			}
		}
	}
	var err error
	if err = b.onUpdate(desc, c.updRow, c.changed, &c.items); err != nil {
		return err
	}
	if c.computed, err = b.computedItems(desc, c.updRow); err != nil {
		return err
	}
	for i, col := range cols {
		if col.IsComputed() {
			c.changed[i] = true
		}
	}
	c.checks, err = b.bindChecks(desc, c.updRow, c.changed)
	return err
}

// inferArbiters finds the unique indexes over the columns and expressions of ON
// CONFLICT (…). Partial ones fit if its WHERE implies their predicate.
func (b *binder) inferArbiters(c *conflictPlan, oc *tree.OnConflict, desc *catalog.Table, unique []*catalog.Index) error {
	cols, exprs, predicate := conflictExprs(oc)
	row := make([]colID, len(desc.AllColumns()))
	for i, col := range desc.AllColumns() {
		row[i] = b.newCol(col.Name, col.Type)
	}
	sc := tableRowScope(desc, row)
	want := map[uint32]bool{}
	for _, n := range cols {
		col := desc.ColumnByName(n)
		if col == nil {
			return b.p.locateName(errNoColumn(n), n)
		}
		want[col.ID] = true
	}
	texts := map[string]bool{}
	for _, s := range exprs {
		e, err := parser.ParseExpr(s)
		if err != nil {
			return err
		}
		te, err := b.bindExpr(e, sc, exprMode{clause: "ON CONFLICT"})
		if err != nil {
			return err
		}
		if r, ok := te.(*colRef); ok {
			for i, id := range row {
				if id == r.id {
					want[desc.AllColumns()[i].ID] = true
				}
			}
			continue
		}
		texts[tree.AsString(te)] = true
	}
	var given []tree.TypedExpr
	if predicate != "" {
		e, err := parser.ParseExpr(predicate)
		if err != nil {
			return err
		}
		te, err := b.bindBool(e, sc, exprMode{clause: "WHERE"})
		if err != nil {
			return err
		}
		given = splitAnd(te)
	}
	for _, x := range unique {
		if len(x.KeyColumns) != len(want)+len(texts) {
			continue
		}
		all := true
		for _, k := range x.KeyColumns {
			if !k.Virtual {
				all = all && want[k.ID]
				continue
			}
			te, err := b.virtualExpr(k, sc)
			if err != nil {
				return err
			}
			all = all && texts[tree.AsString(te)]
		}
		if all && x.Predicate != "" {
			te, err := b.predicate(x, sc)
			if err != nil {
				return err
			}
			all = impliesAll(given, splitAnd(te))
		}
		if all {
			c.arbiters = append(c.arbiters, x)
		}
	}
	return nil
}

// uniqueIndexes are the indexes that can be in the way of an insert.
func uniqueIndexes(desc *catalog.Table) []*catalog.Index {
	out := []*catalog.Index{desc.PrimaryIndex()}
	for _, x := range desc.SecondaryIndexes() {
		if x.Unique {
			out = append(out, x)
		}
	}
	return out
}

// internalItems are the columns that ON CONFLICT computes.
func (n *mutationNode) internalItems() []item {
	if n.conflict == nil {
		return nil
	}
	return append(n.conflict.items[:len(n.conflict.items):len(n.conflict.items)], n.conflict.computed...)
}
