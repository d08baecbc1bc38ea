package sql

import (
	"context"
	"slices"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// apply turns the collected edits into the new state of the table:
//
//  1. indexes whose rows or keys change get new ids;
//  2. the rows are read once, through the old descriptor, and fill every new
//     index (index_build.go);
//  3. the new descriptor is written, and validations look at the table with it;
//  4. the data of indexes that are gone is given to garbage collection.
//
// All of it is one transaction, which nobody can look into or overtake: the table
// is locked (lockTable). A crash before the commit leaves the table as it was,
// and keys that no descriptor names.
func (a *tableAlter) apply(ctx context.Context) error {
	if a.rewrite && a.pb.PrimaryIndex.Id == a.old.PrimaryIndex().ID {
		a.renewPrimary()
	}
	if a.rebuild {
		for _, x := range a.pb.Indexes {
			a.renewIndex(x)
		}
	}
	if err := finishIndexes(a.pb); err != nil {
		return err
	}
	if err := a.p.checkPartitions(ctx, a.pb); err != nil {
		return err
	}
	if err := a.p.moveZones(ctx, a.pb.Id, a.replaced); err != nil {
		return err
	}
	if err := a.p.syncTypeReferences(ctx, a.old.Proto(), a.pb); err != nil {
		return err
	}
	if err := a.p.syncSequenceReferences(ctx, a.old.Proto(), a.pb); err != nil {
		return err
	}
	var ids []uint32
	if a.rewrite {
		ids = append(ids, a.pb.PrimaryIndex.Id)
	}
	ids = append(ids, a.build...)
	if len(ids) > 0 {
		if err := a.buildIndexes(ctx, ids); err != nil {
			return err
		}
	}
	if err := a.p.dropIndexData(ctx, a.pb, a.dropped); err != nil {
		return err
	}
	if err := a.p.writeTable(ctx, a.pb); err != nil {
		return err
	}
	a.p.txn.Step(ctx)
	if err := a.validate(ctx); err != nil {
		return err
	}
	for _, fn := range a.after {
		if err := fn(ctx); err != nil {
			return err
		}
	}
	return nil
}

// renewPrimary gives the primary index a new id.
func (a *tableAlter) renewPrimary() {
	a.dropped = append(a.dropped, a.pb.PrimaryIndex.Id)
	a.replace(a.pb.PrimaryIndex.Id, a.pb.NextIndexId)
	a.pb.PrimaryIndex.Id = a.pb.NextIndexId
	a.pb.NextIndexId++
}

// replace notes that an index goes on under another id.
func (a *tableAlter) replace(old, id uint32) {
	if a.replaced == nil {
		a.replaced = map[uint32]uint32{}
	}
	a.replaced[old] = id
}

// buildIndexes reads the table and fills the indexes.
func (a *tableAlter) buildIndexes(ctx context.Context, ids []uint32) error {
	newTable, err := a.p.hydrated(ctx, a.pb)
	if err != nil {
		return err
	}
	needed, err := neededColumns(newTable, ids)
	if err != nil {
		return err
	}
	b, err := a.p.newIndexBuilder(ctx, newTable, needed, ids)
	if err != nil {
		return err
	}
	defer b.close()
	var exprs []string
	for _, c := range needed {
		switch v, ok := a.values[c.ID]; {
		case ok:
			exprs = append(exprs, "("+v+")::"+catalog.SQLTypeName(c.Type, newTable.Enums()))
		case c.Virtual:
			exprs = append(exprs, "NULL") // The builder fills it in.
		case a.old.ColumnByID(c.ID) != nil:
			exprs = append(exprs, quoteIdent(a.old.ColumnByID(c.ID).Name))
		default:
			exprs = append(exprs, "NULL")
		}
	}
	if len(exprs) == 0 {
		exprs = []string{"NULL"}
	}
	name, err := a.p.qualifiedName(ctx, a.old)
	if err != nil {
		return err
	}
	query := "SELECT " + strings.Join(exprs, ", ") + " FROM " + name + " AS " + quoteIdent(a.old.Name())
	notNull := make([]bool, len(needed))
	for i, c := range needed {
		notNull[i] = !c.Nullable
	}
	if err := a.p.streamQuery(ctx, query, func(row tree.Datums) error {
		for i, d := range row[:len(needed)] {
			if d == tree.DNull {
				if notNull[i] {
					return errContainsNulls(a.pb.Name, needed[i].Name)
				}
				continue
			}
			// Expressions yield a type of the right family; width, scale and length
			// are those of the column.
			if _, computed := a.values[needed[i].ID]; computed {
				var err error
				if row[i], err = fitDatum(&a.p.evalCtx, d, needed[i].Type, needed[i].Name); err != nil {
					return err
				}
			}
		}
		return b.add(ctx, row)
	}); err != nil {
		return err
	}
	return b.finish(ctx)
}

func errContainsNulls(table, column string) error {
	e := pgerr.Newf(pgerr.NotNullViolation, "column \"%s\" of relation \"%s\" contains null values", column, table)
	e.TableName, e.ColumnName = table, column
	return e
}

// neededColumns are the columns that some indexes hold.
func neededColumns(t *catalog.Table, ids []uint32) ([]*catalog.Column, error) {
	var out []*catalog.Column
	add := func(cs []*catalog.Column) {
		for _, c := range cs {
			if !slices.Contains(out, c) {
				out = append(out, c)
			}
		}
	}
	for _, id := range ids {
		if x := t.IndexByID(id); x != nil {
			add(x.FullKeyColumns())
			add(x.StoredColumns)
			used, err := columnsOfIndexExprs(t.Proto(), x.PB)
			if err != nil {
				return nil, err
			}
			for _, id := range used {
				add([]*catalog.Column{t.ColumnByID(id)})
			}
		}
	}
	return out, nil
}

// hydrated wraps a message that is not written yet.
func (p *planner) hydrated(ctx context.Context, pb *catalogpb.TableDescriptor) (*catalog.Table, error) {
	t, err := catalog.NewTable(pb)
	if err != nil {
		return nil, err
	}
	set := catalog.EnumSet{}
	for _, c := range t.AllColumns() {
		more, err := p.enumSet(ctx, catalog.UserTypeOIDs(c.Type))
		if err != nil {
			return nil, err
		}
		for o, e := range more {
			set[o] = e
		}
	}
	return t.WithEnums(set), nil
}

// validate checks existing rows against new constraints.
func (a *tableAlter) validate(ctx context.Context) error {
	tbl, err := a.p.tableByID(ctx, a.pb.Id)
	if err != nil {
		return err
	}
	name, err := a.p.qualifiedName(ctx, tbl)
	if err != nil {
		return err
	}
	for _, id := range a.notNull {
		col := tbl.ColumnByID(id)
		if col == nil || col.Virtual {
			continue
		}
		rows, _, err := a.p.internalQuery(ctx, "SELECT 1 FROM "+name+" WHERE "+quoteIdent(col.Name)+" IS NULL LIMIT 1")
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			return errContainsNulls(tbl.Name(), col.Name)
		}
	}
	for _, c := range a.checks {
		rows, _, err := a.p.internalQuery(ctx, "SELECT 1 FROM "+name+" AS "+quoteIdent(tbl.Name())+" WHERE NOT ("+c.Expr+") LIMIT 1")
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			return pgerr.Newf(pgerr.CheckViolation, "check constraint \"%s\" of relation \"%s\" is violated by some row", c.Name, tbl.Name()).
				WithConstraint(a.p.schemaNameOf(ctx, tbl), tbl.Name(), c.Name)
		}
	}
	return nil
}
