package sql

import (
	"context"
	"slices"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// tableAlter collects the commands of one ALTER TABLE, so that the rows are read
// once however many commands there are. Commands edit pb; apply then builds the
// indexes that the edits call for, writes the descriptor and validates.
type tableAlter struct {
	p   *planner
	old *catalog.Table
	pb  *catalogpb.TableDescriptor

	// rewrite says that rows change: they go into a new primary index.
	rewrite bool
	// rebuild says that the key of rows changes: all indexes are built anew.
	rebuild bool
	// build lists new secondary indexes.
	build []uint32
	// dropped lists indexes whose data is no longer wanted.
	dropped []uint32
	// replaced maps the ids of indexes to those they have now: see replace.
	replaced map[uint32]uint32
	// values gives the SQL of a column's new value, over the old columns.
	values map[uint32]string
	// notNull columns and checks are validated on existing rows.
	notNull []uint32
	checks  []*catalogpb.CheckConstraint
	// after runs once the descriptor is written: foreign keys and sequences,
	// which touch other descriptors.
	after []func(ctx context.Context) error
}

// alterTable runs ALTER TABLE.
func (p *planner) alterTable(ctx context.Context, n *tree.AlterTable) error {
	tbl, err := p.resolveRelation(ctx, n.Table, kindAlterable, n.IfExists)
	if err != nil || tbl == nil {
		return err
	}
	if err := p.checkOwner(ctx, tbl); err != nil {
		return err
	}
	if tbl.IsView() || tbl.IsSequence() {
		return p.alterOther(ctx, tbl, n)
	}
	if tbl, err = p.lockForChange(ctx, tbl.ID()); err != nil {
		return err
	}
	n.HoistAddColumnConstraints()
	a := &tableAlter{p: p, old: tbl, pb: tbl.Mutable(), values: map[uint32]string{}}
	for _, cmd := range n.Cmds {
		if err := a.command(ctx, cmd); err != nil {
			return err
		}
	}
	return a.apply(ctx)
}

// alterOther is ALTER TABLE on a view or sequence, where PostgreSQL allows some
// commands.
func (p *planner) alterOther(ctx context.Context, tbl *catalog.Table, n *tree.AlterTable) error {
	for _, cmd := range n.Cmds {
		switch c := cmd.(type) {
		case *tree.AlterTableRenameTable:
			if err := p.renameRelation(ctx, tbl, c.NewName.Table()); err != nil {
				return err
			}
		case *tree.AlterTableRenameColumn:
			if !tbl.IsView() {
				return pgerr.Newf(pgerr.WrongObjectType, "\"%s\" is not a table", tbl.Name())
			}
			pb := tbl.Mutable()
			col, err := mustFindColumn(pb, string(c.Column))
			if err != nil {
				return err
			}
			col.Name = string(c.NewName)
			if err := p.writeTable(ctx, pb); err != nil {
				return err
			}
		default:
			return pgerr.Newf(pgerr.WrongObjectType, "\"%s\" is not a table", tbl.Name())
		}
	}
	return nil
}

func (a *tableAlter) command(ctx context.Context, cmd tree.AlterTableCmd) error {
	switch c := cmd.(type) {
	case *tree.AlterTableAddColumn:
		return a.addColumn(ctx, c)
	case *tree.AlterTableDropColumn:
		return a.dropColumn(ctx, string(c.Column), c.IfExists, c.DropBehavior)
	case *tree.AlterTableAddConstraint:
		return a.addConstraint(ctx, c)
	case *tree.AlterTableDropConstraint:
		return a.dropConstraint(ctx, string(c.Constraint), c.IfExists, c.DropBehavior)
	case *tree.AlterTableValidateConstraint:
		return a.validateConstraint(string(c.Constraint))
	case *tree.AlterTableAlterColumnType:
		return a.alterType(ctx, c)
	case *tree.AlterTableSetDefault:
		return a.setDefault(ctx, c)
	case *tree.AlterTableSetNotNull:
		col, err := mustFindColumn(a.pb, string(c.Column))
		if err != nil {
			return err
		}
		if col.Nullable {
			col.Nullable = false
			a.notNull = append(a.notNull, col.Id)
		}
		return nil
	case *tree.AlterTableDropNotNull:
		return a.dropNotNull(string(c.Column))
	case *tree.AlterTableDropStored:
		col, err := mustFindColumn(a.pb, string(c.Column))
		if err != nil {
			return err
		}
		if col.ComputeExpr == nil {
			return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "column \"%s\" of relation \"%s\" is not a stored generated column", col.Name, a.pb.Name)
		}
		col.ComputeExpr = nil
		return nil
	case *tree.AlterTableRenameColumn:
		return a.renameColumn(ctx, string(c.Column), string(c.NewName))
	case *tree.AlterTableRenameConstraint:
		return a.renameConstraint(string(c.Constraint), string(c.NewName))
	case *tree.AlterTableRenameTable:
		name := c.NewName.Table()
		a.after = append(a.after, func(ctx context.Context) error {
			tbl, err := a.p.tableByID(ctx, a.pb.Id)
			if err != nil {
				return err
			}
			return a.p.renameRelation(ctx, tbl, name)
		})
		return nil
	case *tree.AlterTableAlterPrimaryKey:
		return a.alterPrimaryKey(ctx, &tree.UniqueConstraintTableDef{PrimaryKey: true, IndexTableDef: tree.IndexTableDef{Columns: c.Columns, Sharded: c.Sharded, Interleave: c.Interleave}}, true)
	case *tree.AlterTablePartitionBy:
		return a.partitionBy(ctx, c.PartitionBy, a.pb.PrimaryIndex)
	case *parser.AlterTablePartitionAllBy:
		a.pb.PartitionAllBy = c.By != nil
		return a.partitionBy(ctx, c.By, allIndexes(a.pb)...)
	case *parser.AlterTableSetParams:
		return setStorageParams(a.pb, c.Params)
	case *parser.AlterTableResetParams:
		return resetStorageParams(a.pb, c.Params)
	case *parser.AlterTableAddIdentity:
		return a.addIdentity(ctx, c)
	case *parser.AlterTableDropIdentity:
		return a.dropIdentity(ctx, c)
	case *parser.AlterTableSetGenerated:
		return a.setGenerated(ctx, c)
	case *parser.AlterTableAddConstraintUsingIndex:
		return a.constraintUsingIndex(ctx, c)
	case *parser.AlterTableNoOp:
		a.p.notice("ALTER TABLE … %s has no effect", c.What)
		return nil
	}
	return pgerr.Newf(pgerr.FeatureNotSupported, "unimplemented: ALTER TABLE%s", tree.AsString(cmd))
}

// addColumn is ADD COLUMN with its constraints.
func (a *tableAlter) addColumn(ctx context.Context, c *tree.AlterTableAddColumn) error {
	d := c.ColumnDef
	if findColumn(a.pb, string(d.Name)) != nil {
		if c.IfNotExists {
			a.p.notice("column \"%s\" of relation \"%s\" already exists, skipping", string(d.Name), a.pb.Name)
			return nil
		}
		return pgerr.Newf(pgerr.DuplicateColumn, "column \"%s\" of relation \"%s\" already exists", string(d.Name), a.pb.Name)
	}
	db, schema, err := a.p.parents(ctx, a.old)
	if err != nil {
		return err
	}
	m := a.p.newTableMaker(db, schema, a.pb)
	family := ""
	if d.HasColumnFamily() {
		family = string(d.Family.Name)
	}
	if err := m.addColumnDef(ctx, d, family); err != nil {
		return err
	}
	col := a.pb.Columns[len(a.pb.Columns)-1]
	if err := a.p.checkComputed(ctx, a.pb); err != nil {
		return err
	}
	// A column is null in rows that do not hold it, so only a default or a
	// generated value makes rows change.
	switch {
	case col.Virtual:
	case col.ComputeExpr != nil:
		a.values[col.Id], a.rewrite = col.GetComputeExpr(), true
	case col.DefaultExpr != nil:
		a.values[col.Id], a.rewrite = col.GetDefaultExpr(), true
	}
	if !col.Nullable {
		a.notNull = append(a.notNull, col.Id)
	}
	for _, s := range m.sequences {
		if err := a.p.writeNew(ctx, s); err != nil {
			return err
		}
		if err := a.p.initSequence(ctx, s); err != nil {
			return err
		}
	}
	switch {
	case d.PrimaryKey.IsPrimaryKey:
		err = a.alterPrimaryKey(ctx, &tree.UniqueConstraintTableDef{PrimaryKey: true, IndexTableDef: tree.IndexTableDef{
			Name: d.UniqueConstraintName, Columns: tree.IndexElemList{{Column: d.Name}}}}, false)
	case d.Unique:
		err = a.addUnique(ctx, &tree.UniqueConstraintTableDef{IndexTableDef: tree.IndexTableDef{
			Name: d.UniqueConstraintName, Columns: tree.IndexElemList{{Column: d.Name}}}})
	}
	if err != nil {
		return err
	}
	for _, chk := range d.CheckExprs {
		if err := a.addCheck(ctx, string(chk.ConstraintName), chk.Expr, col.Name, false); err != nil {
			return err
		}
	}
	if d.HasFKConstraint() {
		fk := &tree.ForeignKeyConstraintTableDef{Name: d.References.ConstraintName, Table: *d.References.Table,
			FromCols: tree.NameList{d.Name}, Actions: d.References.Actions, Match: d.References.Match}
		if d.References.Col != "" {
			fk.ToCols = tree.NameList{d.References.Col}
		}
		a.addFK(fk, false)
	}
	return nil
}

func (a *tableAlter) addFK(def *tree.ForeignKeyConstraintTableDef, notValid bool) {
	validity := catalogpb.ConstraintValidity_VALIDATING
	if notValid {
		validity = catalogpb.ConstraintValidity_UNVALIDATED
	}
	a.after = append(a.after, func(ctx context.Context) error { return a.p.addForeignKey(ctx, a.pb.Id, def, validity) })
}

func (a *tableAlter) addUnique(ctx context.Context, d *tree.UniqueConstraintTableDef) error {
	x, err := makeUniqueIndex(a.pb, d)
	if err != nil {
		return err
	}
	if err := a.p.setPartitioning(ctx, a.pb, x, d.PartitionBy); err != nil {
		return err
	}
	a.p.noticeUnpartitioned(a.pb, x)
	a.pb.Indexes = append(a.pb.Indexes, x)
	a.build = append(a.build, x.Id)
	return nil
}

func (a *tableAlter) addCheck(ctx context.Context, name string, e tree.Expr, column string, notValid bool) error {
	c, err := a.p.makeCheck(ctx, a.pb, name, e, column)
	if err != nil {
		return err
	}
	if notValid {
		c.Validity = catalogpb.ConstraintValidity_UNVALIDATED
	} else {
		a.checks = append(a.checks, c)
	}
	a.pb.Checks = append(a.pb.Checks, c)
	return nil
}

func (a *tableAlter) addConstraint(ctx context.Context, c *tree.AlterTableAddConstraint) error {
	notValid := c.ValidationBehavior == tree.ValidationSkip
	switch d := c.ConstraintDef.(type) {
	case *tree.UniqueConstraintTableDef:
		if d.PrimaryKey {
			return a.alterPrimaryKey(ctx, d, false)
		}
		return a.addUnique(ctx, d)
	case *tree.CheckConstraintTableDef:
		return a.addCheck(ctx, string(d.Name), d.Expr, "", notValid)
	case *tree.ForeignKeyConstraintTableDef:
		a.addFK(d, notValid)
		return nil
	}
	return pgerr.Newf(pgerr.FeatureNotSupported, "unimplemented: %s", tree.AsString(c.ConstraintDef))
}

// alterPrimaryKey gives the table another primary key. Without replace there may
// not be one yet. A former primary key stays as a unique index when replaced.
func (a *tableAlter) alterPrimaryKey(ctx context.Context, d *tree.UniqueConstraintTableDef, replace bool) error {
	hidden := hasHiddenPrimaryKey(a.pb)
	if !hidden && !replace {
		return pgerr.Newf(pgerr.InvalidTableDefinition, "multiple primary keys for table \"%s\" are not allowed", a.pb.Name)
	}
	former := a.pb.PrimaryIndex
	formerName := former.Name
	if hidden || d.Name == "" {
		former.Name = "" // frees the default name
	}
	x, err := makeUniqueIndex(a.pb, d)
	if err != nil {
		return err
	}
	x.StoreColumnIds = nil
	for _, id := range x.KeyColumnIds {
		if col := findColumnByID(a.pb, id); col.Nullable {
			if replace {
				return pgerr.Newf(pgerr.InvalidTableDefinition, "cannot use nullable column \"%s\" in primary key", col.Name)
			}
			col.Nullable = false
			a.notNull = append(a.notNull, id)
		}
	}
	if err := a.partitionPrimaryKey(ctx, x, former, d.PartitionBy); err != nil {
		return err
	}
	a.pb.PrimaryIndex = x
	a.rewrite, a.rebuild = true, true
	a.dropped = append(a.dropped, former.Id)
	if hidden {
		rowid := former.KeyColumnIds[0]
		if !slices.Contains(x.KeyColumnIds, rowid) {
			a.forgetIndexColumn(rowid)
			removeColumn(a.pb, rowid)
		}
		return nil
	}
	// The old key stays unique.
	x.Name = formerName
	if d.Name != "" {
		x.Name = string(d.Name)
	}
	names := namesOfColumns(a.pb, former.KeyColumnIds)
	var cols []*catalogpb.ColumnDescriptor
	for _, id := range former.KeyColumnIds {
		cols = append(cols, findColumnByID(a.pb, id))
	}
	u := newIndexDesc(a.pb, chooseConstraintName(a.pb, names, "key"), true, cols, former.KeyColumnDirections, nil)
	a.pb.Indexes = append(a.pb.Indexes, u)
	a.build = append(a.build, u.Id)
	return nil
}

// forgetIndexColumn takes a column out of the stored columns of indexes.
func (a *tableAlter) forgetIndexColumn(id uint32) {
	for _, x := range a.pb.Indexes {
		x.StoreColumnIds = slices.DeleteFunc(x.StoreColumnIds, func(c uint32) bool { return c == id })
	}
}

func (a *tableAlter) setDefault(ctx context.Context, c *tree.AlterTableSetDefault) error {
	col, err := mustFindColumn(a.pb, string(c.Column))
	if err != nil {
		return err
	}
	if col.ComputeExpr != nil {
		return pgerr.Newf(pgerr.SyntaxError, "column \"%s\" of relation \"%s\" is a generated column", col.Name, a.pb.Name)
	}
	if col.GeneratedAsIdentityType != catalogpb.IdentityType_NOT_IDENTITY {
		return pgerr.Newf(pgerr.SyntaxError, "column \"%s\" of relation \"%s\" is an identity column", col.Name, a.pb.Name).
			WithHint("Use ALTER TABLE ... ALTER COLUMN ... DROP IDENTITY instead.")
	}
	if c.Default == nil {
		col.DefaultExpr = nil
		return nil
	}
	typ, err := catalog.UnmarshalType(col.Type)
	if err != nil {
		return err
	}
	return a.p.setColumnDefault(ctx, a.pb, col, typ, c.Default)
}

func (a *tableAlter) dropNotNull(name string) error {
	col, err := mustFindColumn(a.pb, name)
	if err != nil {
		return err
	}
	if slices.Contains(a.pb.PrimaryIndex.KeyColumnIds, col.Id) {
		return pgerr.Newf(pgerr.InvalidTableDefinition, "column \"%s\" is in a primary key", name)
	}
	if col.GeneratedAsIdentityType != catalogpb.IdentityType_NOT_IDENTITY {
		return pgerr.Newf(pgerr.SyntaxError, "column \"%s\" of relation \"%s\" is an identity column", name, a.pb.Name)
	}
	col.Nullable = true
	return nil
}

// dropColumn is DROP COLUMN: indexes and constraints over it go too, foreign
// keys of others only with CASCADE. Rows keep the value until they are rewritten;
// readers skip columns they do not know.
func (a *tableAlter) dropColumn(ctx context.Context, name string, ifExists bool, behavior tree.DropBehavior) error {
	col := findColumn(a.pb, name)
	if col == nil {
		if ifExists {
			a.p.notice("column \"%s\" of relation \"%s\" does not exist, skipping", name, a.pb.Name)
			return nil
		}
		_, err := mustFindColumn(a.pb, name)
		return err
	}
	if a.p.s.data.SafeUpdates {
		return errSafeUpdates("ALTER TABLE DROP COLUMN will remove all data in that column")
	}
	id := col.Id
	uses := func(ids []uint32) bool { return slices.Contains(ids, id) }
	if uses(a.pb.PrimaryIndex.KeyColumnIds) {
		if err := a.dropPrimaryKey(); err != nil {
			return err
		}
	}
	for _, x := range slices.Clone(a.pb.Indexes) {
		used, err := columnsOfIndexExprs(a.pb, x)
		if err != nil {
			return err
		}
		if uses(x.KeyColumnIds) || uses(x.StoreColumnIds) || uses(used) {
			if err := a.dropIndex(ctx, x, behavior); err != nil {
				return err
			}
		}
	}
	a.pb.Checks = slices.DeleteFunc(a.pb.Checks, func(c *catalogpb.CheckConstraint) bool { return uses(c.ColumnIds) })
	for _, fk := range slices.Clone(a.pb.OutboundFks) {
		if uses(fk.OriginColumnIds) {
			a.dropOutboundFK(fk)
		}
	}
	for _, o := range a.pb.Columns {
		if o.ComputeExpr == nil || o.Id == id || o.Inaccessible {
			continue
		}
		e, err := parseExpr(o.GetComputeExpr())
		if err != nil {
			return err
		}
		if ids, err := columnsUsed(a.pb, e); err != nil {
			return err
		} else if uses(ids) {
			if behavior != tree.DropCascade {
				return pgerr.Newf(pgerr.DependentObjectsStillExist, "cannot drop column %s of table %s because other objects depend on it", name, a.pb.Name).
					WithDetail("column %s of table %s depends on column %s of table %s", o.Name, a.pb.Name, name, a.pb.Name).
					WithHint("Use DROP ... CASCADE to drop the dependent objects too.")
			}
			if err := a.dropColumn(ctx, o.Name, false, behavior); err != nil {
				return err
			}
		}
	}
	if err := a.p.dropViewsOf(ctx, a.pb, id, behavior, "column "+name+" of table "+a.pb.Name); err != nil {
		return err
	}
	// dropViewsOf changes back references in the stored descriptor.
	if err := a.reloadBackReferences(ctx); err != nil {
		return err
	}
	owned := slices.Clone(col.OwnsSequenceIds)
	a.after = append(a.after, func(ctx context.Context) error {
		for _, s := range owned {
			if err := a.p.dropSequenceByID(ctx, s); err != nil {
				return err
			}
		}
		return nil
	})
	if err := a.p.deleteComments(ctx, commentColumn, a.pb.Id, int64(id)); err != nil {
		return err
	}
	delete(a.values, id)
	a.notNull = slices.DeleteFunc(a.notNull, func(c uint32) bool { return c == id })
	removeColumn(a.pb, id)
	return nil
}

// reloadBackReferences takes over what other commands wrote to the descriptor.
func (a *tableAlter) reloadBackReferences(ctx context.Context) error {
	cur, err := a.p.tableByID(ctx, a.pb.Id)
	if err != nil {
		return err
	}
	m := cur.Mutable()
	a.pb.DependedOnBy, a.pb.InboundFks, a.pb.Version = m.DependedOnBy, m.InboundFks, m.Version
	return nil
}

// dropPrimaryKey replaces the primary key by a hidden rowid.
func (a *tableAlter) dropPrimaryKey() error {
	if hasHiddenPrimaryKey(a.pb) {
		return nil
	}
	old := a.pb.PrimaryIndex
	for _, fk := range a.pb.InboundFks {
		if sameSet(fk.ReferencedColumnIds, old.KeyColumnIds) {
			return a.referencedError("constraint "+old.Name+" on table "+a.pb.Name, fk, "index "+old.Name)
		}
	}
	a.dropped = append(a.dropped, old.Id)
	a.pb.PrimaryIndex = nil
	if err := ensurePrimaryKey(a.pb); err != nil {
		return err
	}
	a.values[a.pb.PrimaryIndex.KeyColumnIds[0]] = "unique_rowid()"
	a.rewrite, a.rebuild = true, true
	return nil
}

func (a *tableAlter) referencedError(what string, fk *catalogpb.ForeignKeyConstraint, on string) error {
	child := ""
	if t, err := a.p.tableByID(context.Background(), fk.OriginTableId); err == nil {
		child = t.Name()
	}
	return pgerr.Newf(pgerr.DependentObjectsStillExist, "cannot drop %s because other objects depend on it", what).
		WithDetail("constraint %s on table %s depends on %s", fk.Name, child, on).
		WithHint("Use DROP ... CASCADE to drop the dependent objects too.")
}

func sameSet(a, b []uint32) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}

// dropIndex removes a secondary index. A foreign key of another table that needs
// it goes with CASCADE only.
func (a *tableAlter) dropIndex(ctx context.Context, x *catalogpb.IndexDescriptor, behavior tree.DropBehavior) error {
	if x.Unique {
		for _, fk := range slices.Clone(a.pb.InboundFks) {
			if !sameSet(fk.ReferencedColumnIds, x.KeyColumnIds) || a.otherUnique(fk, x) {
				continue
			}
			if behavior != tree.DropCascade {
				what := "index " + x.Name
				if isUniqueConstraint(x) {
					what = "constraint " + x.Name + " on table " + a.pb.Name
				}
				return a.referencedError(what, fk, "index "+x.Name)
			}
			if err := a.dropInboundFK(ctx, fk); err != nil {
				return err
			}
		}
	}
	a.pb.Indexes = slices.DeleteFunc(a.pb.Indexes, func(y *catalogpb.IndexDescriptor) bool { return y.Id == x.Id })
	a.build = slices.DeleteFunc(a.build, func(id uint32) bool { return id == x.Id })
	a.dropped = append(a.dropped, x.Id)
	dropUnusedExprColumns(a.pb)
	return a.p.deleteComments(ctx, commentIndex, a.pb.Id, int64(x.Id))
}

// otherUnique says whether the columns a foreign key refers to stay unique
// without x.
func (a *tableAlter) otherUnique(fk *catalogpb.ForeignKeyConstraint, x *catalogpb.IndexDescriptor) bool {
	return slices.ContainsFunc(allIndexes(a.pb), func(y *catalogpb.IndexDescriptor) bool {
		return y.Id != x.Id && y.Unique && sameSet(y.KeyColumnIds, fk.ReferencedColumnIds)
	})
}

// dropInboundFK removes a foreign key of another table (or this one) to this one.
func (a *tableAlter) dropInboundFK(ctx context.Context, fk *catalogpb.ForeignKeyConstraint) error {
	a.pb.InboundFks = slices.DeleteFunc(a.pb.InboundFks, func(f *catalogpb.ForeignKeyConstraint) bool { return sameFK(f, fk) })
	if fk.OriginTableId == a.pb.Id {
		a.pb.OutboundFks = slices.DeleteFunc(a.pb.OutboundFks, func(f *catalogpb.ForeignKeyConstraint) bool { return sameFK(f, fk) })
		return nil
	}
	child, err := a.p.mutableTable(ctx, fk.OriginTableId)
	if err != nil {
		return err
	}
	child.OutboundFks = slices.DeleteFunc(child.OutboundFks, func(f *catalogpb.ForeignKeyConstraint) bool { return sameFK(f, fk) })
	return a.p.writeTable(ctx, child)
}

// dropOutboundFK removes a foreign key of this table.
func (a *tableAlter) dropOutboundFK(fk *catalogpb.ForeignKeyConstraint) {
	same := func(f *catalogpb.ForeignKeyConstraint) bool { return sameFK(f, fk) }
	a.pb.OutboundFks = slices.DeleteFunc(a.pb.OutboundFks, same)
	if fk.ReferencedTableId == a.pb.Id {
		a.pb.InboundFks = slices.DeleteFunc(a.pb.InboundFks, same)
		return
	}
	a.after = append(a.after, func(ctx context.Context) error { return a.p.forgetInboundFK(ctx, fk) })
}

// forgetInboundFK removes the parent's copy of a foreign key.
func (p *planner) forgetInboundFK(ctx context.Context, fk *catalogpb.ForeignKeyConstraint) error {
	parent, err := p.mutableTable(ctx, fk.ReferencedTableId)
	if err != nil {
		return err
	}
	parent.InboundFks = slices.DeleteFunc(parent.InboundFks, func(f *catalogpb.ForeignKeyConstraint) bool { return sameFK(f, fk) })
	return p.writeTable(ctx, parent)
}

// sameFK compares the two copies that child and parent hold of a foreign key.
func sameFK(a, b *catalogpb.ForeignKeyConstraint) bool {
	return a.OriginTableId == b.OriginTableId && a.Name == b.Name
}

func (a *tableAlter) dropConstraint(ctx context.Context, name string, ifExists bool, behavior tree.DropBehavior) error {
	if pk := a.pb.PrimaryIndex; pk.Name == name && !hasHiddenPrimaryKey(a.pb) {
		return a.dropPrimaryKey()
	}
	for _, x := range a.pb.Indexes {
		if x.Name == name && isUniqueConstraint(x) {
			if err := a.p.deleteComments(ctx, commentConstraint, a.pb.Id, int64(x.ConstraintId)); err != nil {
				return err
			}
			return a.dropIndex(ctx, x, behavior)
		}
	}
	for _, c := range a.pb.Checks {
		if c.Name == name {
			a.pb.Checks = slices.DeleteFunc(a.pb.Checks, func(d *catalogpb.CheckConstraint) bool { return d == c })
			a.checks = slices.DeleteFunc(a.checks, func(d *catalogpb.CheckConstraint) bool { return d == c })
			return a.p.deleteComments(ctx, commentConstraint, a.pb.Id, int64(c.ConstraintId))
		}
	}
	for _, fk := range a.pb.OutboundFks {
		if fk.Name == name {
			a.dropOutboundFK(fk)
			return a.p.deleteComments(ctx, commentConstraint, a.pb.Id, int64(fk.ConstraintId))
		}
	}
	if ifExists {
		a.p.notice("constraint \"%s\" of relation \"%s\" does not exist, skipping", name, a.pb.Name)
		return nil
	}
	return pgerr.Newf(pgerr.UndefinedObject, "constraint \"%s\" of relation \"%s\" does not exist", name, a.pb.Name)
}

func (a *tableAlter) validateConstraint(name string) error {
	for _, c := range a.pb.Checks {
		if c.Name == name {
			if c.Validity != catalogpb.ConstraintValidity_VALIDATED {
				c.Validity = catalogpb.ConstraintValidity_VALIDATED
				a.checks = append(a.checks, c)
			}
			return nil
		}
	}
	for _, fk := range a.pb.OutboundFks {
		if fk.Name == name {
			if fk.Validity != catalogpb.ConstraintValidity_VALIDATED {
				a.after = append(a.after, func(ctx context.Context) error { return a.p.validateForeignKey(ctx, a.pb.Id, name) })
			}
			return nil
		}
	}
	return pgerr.Newf(pgerr.UndefinedObject, "constraint \"%s\" of relation \"%s\" does not exist", name, a.pb.Name)
}

// alterType is ALTER COLUMN … TYPE. Rows are rewritten unless the old encoding
// is that of the new type too.
func (a *tableAlter) alterType(ctx context.Context, c *tree.AlterTableAlterColumnType) error {
	col, err := mustFindColumn(a.pb, string(c.Column))
	if err != nil {
		return err
	}
	to, err := a.p.columnType(ctx, c.ToType)
	if err != nil {
		return err
	}
	if c.Collation != "" {
		to = types.MakeCollatedString(to, c.Collation)
	}
	from, err := catalog.UnmarshalType(col.Type)
	if err != nil {
		return err
	}
	if err := a.keepPartitions(col); err != nil {
		return err
	}
	if col.ComputeExpr != nil && c.Using != nil {
		return pgerr.Newf(pgerr.InvalidTableDefinition, "cannot specify USING when altering type of generated column")
	}
	for _, o := range a.pb.Columns {
		if o.ComputeExpr == nil || o.Id == col.Id || o.Inaccessible {
			continue
		}
		e, err := parseExpr(o.GetComputeExpr())
		if err != nil {
			return err
		}
		if ids, err := columnsUsed(a.pb, e); err == nil && slices.Contains(ids, col.Id) {
			return pgerr.New(pgerr.FeatureNotSupported, "cannot alter type of a column used by a generated column").
				WithDetail("Column \"%s\" is used by generated column \"%s\".", col.Name, o.Name)
		}
	}
	for _, ref := range a.pb.DependedOnBy {
		if slices.Contains(ref.ColumnIds, col.Id) {
			return pgerr.New(pgerr.FeatureNotSupported, "cannot alter type of a column used by a view or rule")
		}
	}
	if c.Using == nil && !assignable(from, to) {
		return pgerr.Newf(pgerr.DatatypeMismatch, "column \"%s\" cannot be cast automatically to type %s", col.Name, a.p.typeDisplay(ctx, to)).
			WithHint("You might need to specify \"USING %s::%s\".", quoteIdent(col.Name), a.p.typeDisplay(ctx, to))
	}
	enc, err := catalog.MarshalType(to)
	if err != nil {
		return err
	}
	col.Type = enc
	if d := col.DefaultExpr; d != nil && len(col.OwnsSequenceIds) == 0 {
		e, err := parseExpr(*d)
		if err != nil {
			return err
		}
		if err := a.p.setColumnDefault(ctx, a.pb, col, to, e); err != nil {
			return pgerr.Newf(pgerr.DatatypeMismatch, "default for column \"%s\" cannot be cast automatically to type %s", col.Name, a.p.typeDisplay(ctx, to))
		}
	}
	if c.Using == nil && sameEncoding(from, to) {
		return nil
	}
	expr := quoteIdent(col.Name)
	if c.Using != nil {
		expr = "(" + tree.AsString(c.Using) + ")"
	}
	a.values[col.Id] = expr + "::" + catalog.SQLTypeName(to, a.p.enumsOfType(ctx, to))
	a.rewrite = true
	if slices.Contains(a.pb.PrimaryIndex.KeyColumnIds, col.Id) {
		a.rebuild = true
	}
	for _, x := range a.pb.Indexes {
		if slices.Contains(x.KeyColumnIds, col.Id) || slices.Contains(x.StoreColumnIds, col.Id) {
			a.renewIndex(x)
		}
	}
	return a.retypeIndexExprs(ctx, col.Id)
}

// retypeIndexExprs rebuilds the indexes whose expressions or predicates use a column
// that got another type, and gives their hidden columns the type that follows.
func (a *tableAlter) retypeIndexExprs(ctx context.Context, id uint32) error {
	for _, x := range a.pb.Indexes {
		used, err := columnsOfIndexExprs(a.pb, x)
		if err != nil {
			return err
		}
		if !slices.Contains(used, id) {
			continue
		}
		if x.Predicate != "" {
			e, err := parseExpr(x.Predicate)
			if err != nil {
				return err
			}
			if x.Predicate, err = a.p.indexPredicate(ctx, a.pb, e); err != nil {
				return err
			}
		}
		for _, kid := range x.KeyColumnIds {
			c := findColumnByID(a.pb, kid)
			if !c.Inaccessible {
				continue
			}
			e, err := parseExpr(c.GetComputeExpr())
			if err != nil {
				return err
			}
			if c.Type, err = a.p.exprType(ctx, a.pb, e); err != nil {
				return err
			}
		}
		a.renewIndex(x)
	}
	return nil
}

// sameEncoding says whether every stored value of type from is also that of type
// to, as it stands.
func sameEncoding(from, to *types.T) bool {
	if from.Family() != to.Family() {
		return false
	}
	switch from.Family() {
	case types.StringFamily:
		wider := to.Width() == 0 || (from.Width() != 0 && to.Width() >= from.Width())
		return wider && strings.EqualFold(from.SQLStandardName(), to.SQLStandardName()) || (to.Width() == 0 && to.Oid() == types.String.Oid())
	case types.IntFamily:
		return to.Width() >= from.Width()
	case types.DecimalFamily:
		return to.Precision() == 0 || (from.Precision() != 0 && to.Scale() == from.Scale() && to.Precision() >= from.Precision())
	}
	return from.Identical(to)
}

// renewIndex gives an index a new id, so that it is built anew.
func (a *tableAlter) renewIndex(x *catalogpb.IndexDescriptor) {
	if slices.Contains(a.build, x.Id) {
		return
	}
	a.dropped = append(a.dropped, x.Id)
	a.replace(x.Id, a.pb.NextIndexId)
	x.Id = a.pb.NextIndexId
	a.pb.NextIndexId++
	a.build = append(a.build, x.Id)
}

// renameColumn changes a column's name everywhere in this table, and in the
// texts of views that use it.
func (a *tableAlter) renameColumn(ctx context.Context, from, to string) error {
	col := findColumn(a.pb, from)
	if col == nil {
		return pgerr.Newf(pgerr.UndefinedColumn, "column \"%s\" does not exist", from)
	}
	if findColumn(a.pb, to) != nil {
		return pgerr.Newf(pgerr.DuplicateColumn, "column \"%s\" of relation \"%s\" already exists", to, a.pb.Name)
	}
	for _, ref := range a.pb.DependedOnBy {
		if slices.Contains(ref.ColumnIds, col.Id) {
			if v, err := a.p.tableByID(ctx, ref.Id); err == nil && v.IsView() {
				return pgerr.Newf(pgerr.DependentObjectsStillExist, "cannot rename column \"%s\" because view \"%s\" depends on it", from, v.Name()).
					WithHint("you can drop %s instead.", v.Name())
			}
		}
	}
	for _, c := range a.pb.Checks {
		s, err := renameInExpr(c.Expr, from, to)
		if err != nil {
			return err
		}
		c.Expr = s
	}
	for _, c := range a.pb.Columns {
		if c.ComputeExpr != nil {
			s, err := renameInExpr(*c.ComputeExpr, from, to)
			if err != nil {
				return err
			}
			c.ComputeExpr = &s
		}
	}
	for _, x := range a.pb.Indexes {
		if x.Predicate != "" {
			s, err := renameInExpr(x.Predicate, from, to)
			if err != nil {
				return err
			}
			x.Predicate = s
		}
	}
	col.Name = to
	return nil
}

func (a *tableAlter) renameConstraint(from, to string) error {
	pb := a.pb
	if constraintNames(pb)[to] {
		return errConstraintExists(pb, to)
	}
	for _, x := range allIndexes(pb) {
		if x.Name == from && x.Unique {
			x.Name = to
			return nil
		}
	}
	for _, c := range pb.Checks {
		if c.Name == from {
			c.Name = to
			return nil
		}
	}
	for _, fk := range pb.OutboundFks {
		if fk.Name != from {
			continue
		}
		rename := func(fks []*catalogpb.ForeignKeyConstraint) {
			for _, in := range fks {
				if in.OriginTableId == pb.Id && in.Name == from {
					in.Name = to
				}
			}
		}
		fk.Name = to
		if fk.ReferencedTableId == pb.Id {
			rename(pb.InboundFks)
			return nil
		}
		// The parent has a copy.
		a.after = append(a.after, func(ctx context.Context) error {
			parent, err := a.p.mutableTable(ctx, fk.ReferencedTableId)
			if err != nil {
				return err
			}
			rename(parent.InboundFks)
			return a.p.writeTable(ctx, parent)
		})
		return nil
	}
	return pgerr.Newf(pgerr.UndefinedObject, "constraint \"%s\" for table \"%s\" does not exist", from, pb.Name)
}

// constraintUsingIndex is ADD CONSTRAINT … USING INDEX.
func (a *tableAlter) constraintUsingIndex(ctx context.Context, c *parser.AlterTableAddConstraintUsingIndex) error {
	x := findIndex(a.pb, string(c.Index))
	if x == nil || x == a.pb.PrimaryIndex {
		return pgerr.Newf(pgerr.UndefinedObject, "index \"%s\" does not exist", string(c.Index))
	}
	if !x.Unique {
		return pgerr.Newf(pgerr.WrongObjectType, "\"%s\" is not a unique index", x.Name)
	}
	const cannot = "Cannot create a primary key or unique constraint using such an index."
	if x.Predicate != "" {
		return pgerr.Newf(pgerr.WrongObjectType, "\"%s\" is a partial index", x.Name).WithDetail(cannot)
	}
	for _, id := range x.KeyColumnIds {
		if findColumnByID(a.pb, id).Inaccessible {
			return pgerr.Newf(pgerr.WrongObjectType, "index \"%s\" contains expressions", x.Name).WithDetail(cannot)
		}
	}
	name := string(c.Name)
	if name == "" {
		name = x.Name
	}
	if !c.PrimaryKey {
		if name != x.Name && constraintNames(a.pb)[name] {
			return errConstraintExists(a.pb, name)
		}
		x.Name, x.CreatedExplicitly = name, false
		return nil
	}
	d := &tree.UniqueConstraintTableDef{PrimaryKey: true, IndexTableDef: tree.IndexTableDef{Name: tree.Name(name)}}
	for i, id := range x.KeyColumnIds {
		e := tree.IndexElem{Column: tree.Name(findColumnByID(a.pb, id).Name)}
		if x.KeyColumnDirections[i] == catalogpb.Direction_DESC {
			e.Direction = tree.Descending
		}
		d.Columns = append(d.Columns, e)
	}
	a.pb.Indexes = slices.DeleteFunc(a.pb.Indexes, func(y *catalogpb.IndexDescriptor) bool { return y == x })
	a.dropped = append(a.dropped, x.Id)
	return a.alterPrimaryKey(ctx, d, false)
}

func (a *tableAlter) addIdentity(ctx context.Context, c *parser.AlterTableAddIdentity) error {
	col, err := mustFindColumn(a.pb, string(c.Column))
	if err != nil {
		return err
	}
	switch {
	case col.GeneratedAsIdentityType != catalogpb.IdentityType_NOT_IDENTITY:
		return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "column \"%s\" of relation \"%s\" is already an identity column", col.Name, a.pb.Name)
	case col.Nullable:
		return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "column \"%s\" of relation \"%s\" must be declared NOT NULL before identity can be added", col.Name, a.pb.Name)
	case col.DefaultExpr != nil:
		return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "column \"%s\" of relation \"%s\" already has a default value", col.Name, a.pb.Name)
	}
	db, schema, err := a.p.parents(ctx, a.old)
	if err != nil {
		return err
	}
	typ, err := catalog.UnmarshalType(col.Type)
	if err != nil {
		return err
	}
	m := a.p.newTableMaker(db, schema, a.pb)
	if err := m.addOwnedSequence(ctx, col, typ, &c.Identity); err != nil {
		return err
	}
	for _, s := range m.sequences {
		if err := a.p.writeNew(ctx, s); err != nil {
			return err
		}
		if err := a.p.initSequence(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (a *tableAlter) dropIdentity(_ context.Context, c *parser.AlterTableDropIdentity) error {
	col, err := mustFindColumn(a.pb, string(c.Column))
	if err != nil {
		return err
	}
	if col.GeneratedAsIdentityType == catalogpb.IdentityType_NOT_IDENTITY {
		if c.IfExists {
			a.p.notice("column \"%s\" of relation \"%s\" is not an identity column, skipping", col.Name, a.pb.Name)
			return nil
		}
		return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "column \"%s\" of relation \"%s\" is not an identity column", col.Name, a.pb.Name)
	}
	col.GeneratedAsIdentityType = catalogpb.IdentityType_NOT_IDENTITY
	col.DefaultExpr = nil
	owned := col.OwnsSequenceIds
	col.OwnsSequenceIds, col.UsesSequenceIds = nil, nil
	a.after = append(a.after, func(ctx context.Context) error {
		for _, s := range owned {
			if err := a.p.dropSequenceByID(ctx, s); err != nil {
				return err
			}
		}
		return nil
	})
	return nil
}

func (a *tableAlter) setGenerated(_ context.Context, c *parser.AlterTableSetGenerated) error {
	col, err := mustFindColumn(a.pb, string(c.Column))
	if err != nil {
		return err
	}
	if col.GeneratedAsIdentityType == catalogpb.IdentityType_NOT_IDENTITY {
		return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "column \"%s\" of relation \"%s\" is not an identity column", col.Name, a.pb.Name)
	}
	if c.Always != nil {
		col.GeneratedAsIdentityType = catalogpb.IdentityType_GENERATED_BY_DEFAULT
		if *c.Always {
			col.GeneratedAsIdentityType = catalogpb.IdentityType_GENERATED_ALWAYS
		}
	}
	if len(c.Options) > 0 && len(col.OwnsSequenceIds) > 0 {
		id := col.OwnsSequenceIds[0]
		a.after = append(a.after, func(ctx context.Context) error {
			seq, err := a.p.tableByID(ctx, id)
			if err != nil {
				return err
			}
			return a.p.alterSequenceOptions(ctx, seq, c.Options)
		})
	}
	return nil
}
