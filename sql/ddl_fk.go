package sql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// addForeignKey adds a foreign key to a table that is already written, and its
// copy to the parent. VALIDATING looks at existing rows and then becomes
// VALIDATED.
func (p *planner) addForeignKey(ctx context.Context, child catalog.ID, def *tree.ForeignKeyConstraintTableDef, validity catalogpb.ConstraintValidity) error {
	pb, err := p.mutableTable(ctx, child)
	if err != nil {
		return err
	}
	parent, err := p.resolveRelation(ctx, &def.Table, kindAny, false)
	if err != nil {
		return err
	}
	if !parent.IsTable() {
		return pgerr.Newf(pgerr.WrongObjectType, "referenced relation \"%s\" is not a table", parent.Name())
	}
	if parent.ParentID() != pb.ParentId {
		return pgerr.New(pgerr.FeatureNotSupported, "foreign references between databases are not allowed")
	}
	if parent.Proto().Temporary != pb.Temporary {
		return pgerr.New(pgerr.InvalidTableDefinition, "constraints on permanent tables may reference only permanent tables")
	}
	if parent.Proto().ExcludeDataFromBackup && parent.ID() != pb.Id {
		return pgerr.New(pgerr.ObjectNotInPrerequisiteState, "cannot reference a table whose data is excluded from backup")
	}
	if err := p.checkTablePrivilege(ctx, parent, catalog.References); err != nil {
		return err
	}
	if err := p.lockTable(ctx, parent.ID()); err != nil {
		return err
	}
	fk := &catalogpb.ForeignKeyConstraint{
		OriginTableId: child, ReferencedTableId: parent.ID(), Validity: catalogpb.ConstraintValidity_VALIDATED,
		OnDelete: fkActionOf(def.Actions.Delete), OnUpdate: fkActionOf(def.Actions.Update), Match: catalogpb.Match(def.Match),
	}
	if validity == catalogpb.ConstraintValidity_UNVALIDATED {
		fk.Validity = validity
	}
	if def.Match == tree.MatchPartial {
		return pgerr.New(pgerr.FeatureNotSupported, "MATCH PARTIAL not yet implemented")
	}
	var names []string
	var from []*catalogpb.ColumnDescriptor
	for _, n := range def.FromCols {
		c := findColumn(pb, string(n))
		if c == nil {
			return pgerr.Newf(pgerr.UndefinedColumn, "column \"%s\" referenced in foreign key constraint does not exist", string(n))
		}
		from = append(from, c)
		fk.OriginColumnIds = append(fk.OriginColumnIds, c.Id)
		names = append(names, c.Name)
	}
	if err := p.referencedColumns(parent, pb, def, fk); err != nil {
		return err
	}
	if len(fk.OriginColumnIds) != len(fk.ReferencedColumnIds) {
		return pgerr.New("42830", "number of referencing and referenced columns for foreign key disagree")
	}
	for i, c := range from {
		ct, err := catalog.UnmarshalType(c.Type)
		if err != nil {
			return err
		}
		pc := parent.ColumnByID(fk.ReferencedColumnIds[i])
		if !fkComparable(ct, pc.Type) {
			return pgerr.Newf(pgerr.DatatypeMismatch, "foreign key constraint \"%s\" cannot be implemented", fkName(pb, def, names)).
				WithDetail("Key columns \"%s\" and \"%s\" are of incompatible types: %s and %s.", c.Name, pc.Name, p.typeDisplay(ctx, ct), p.typeDisplay(ctx, pc.Type))
		}
		for _, a := range []catalogpb.ReferenceAction{fk.OnDelete, fk.OnUpdate} {
			if c.ComputeExpr != nil && a != catalogpb.ReferenceAction_NO_ACTION && a != catalogpb.ReferenceAction_RESTRICT {
				return pgerr.New(pgerr.SyntaxError, "invalid ON DELETE action for foreign key constraint containing generated column")
			}
		}
	}
	if fk.Name = fkName(pb, def, names); constraintNames(pb)[fk.Name] {
		return errConstraintExists(pb, fk.Name)
	}
	fk.ConstraintId = nextConstraintID(pb)
	pb.OutboundFks = append(pb.OutboundFks, fk)
	if parent.ID() == child {
		pb.InboundFks = append(pb.InboundFks, fk)
	}
	if err := p.writeTable(ctx, pb); err != nil {
		return err
	}
	if parent.ID() != child {
		ppb, err := p.mutableTable(ctx, parent.ID())
		if err != nil {
			return err
		}
		ppb.InboundFks = append(ppb.InboundFks, fk)
		if err := p.writeTable(ctx, ppb); err != nil {
			return err
		}
	}
	if validity == catalogpb.ConstraintValidity_VALIDATING {
		p.txn.Step(ctx)
		return p.checkForeignKey(ctx, child, fk)
	}
	return nil
}

func fkName(pb *catalogpb.TableDescriptor, def *tree.ForeignKeyConstraintTableDef, cols []string) string {
	if def.Name != "" {
		return string(def.Name)
	}
	return chooseConstraintName(pb, cols, "fkey")
}

func fkActionOf(a tree.ReferenceAction) catalogpb.ReferenceAction {
	return map[tree.ReferenceAction]catalogpb.ReferenceAction{
		tree.NoAction: catalogpb.ReferenceAction_NO_ACTION, tree.Restrict: catalogpb.ReferenceAction_RESTRICT,
		tree.SetNull: catalogpb.ReferenceAction_SET_NULL, tree.SetDefault: catalogpb.ReferenceAction_SET_DEFAULT,
		tree.Cascade: catalogpb.ReferenceAction_CASCADE,
	}[a]
}

// referencedColumns resolves the columns of the parent, by default its primary
// key, and requires that they are unique.
func (p *planner) referencedColumns(parent *catalog.Table, child *catalogpb.TableDescriptor, def *tree.ForeignKeyConstraintTableDef, fk *catalogpb.ForeignKeyConstraint) error {
	// A table that refers to itself may just have got the index.
	if parent.ID() == child.Id {
		t, err := catalog.NewTable(child)
		if err != nil {
			return err
		}
		parent = t
	}
	if len(def.ToCols) == 0 {
		if parent.HasImplicitPrimaryKey() {
			return pgerr.Newf(pgerr.UndefinedObject, "there is no primary key for referenced table \"%s\"", parent.Name())
		}
		for _, c := range parent.PrimaryIndex().KeyColumns {
			fk.ReferencedColumnIds = append(fk.ReferencedColumnIds, c.ID)
		}
		return nil
	}
	for _, n := range def.ToCols {
		c := parent.ColumnByName(string(n))
		if c == nil {
			return pgerr.Newf(pgerr.UndefinedColumn, "column \"%s\" referenced in foreign key constraint does not exist", string(n))
		}
		fk.ReferencedColumnIds = append(fk.ReferencedColumnIds, c.ID)
	}
	if x, _ := referencedIndex(parent, fk.ReferencedColumnIds); x == nil {
		return pgerr.Newf("42830", "there is no unique constraint matching given keys for referenced table \"%s\"", parent.Name())
	}
	return nil
}

// fkComparable says whether values of two types can be compared by key.
func fkComparable(a, b *types.T) bool {
	if a.Equivalent(b) {
		return true
	}
	num := func(t *types.T) bool {
		return t.Family() == types.IntFamily || t.Family() == types.DecimalFamily || t.Family() == types.FloatFamily
	}
	return num(a) && num(b)
}

// validateForeignKey is VALIDATE CONSTRAINT.
func (p *planner) validateForeignKey(ctx context.Context, child catalog.ID, name string) error {
	pb, err := p.mutableTable(ctx, child)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(pb.OutboundFks, func(f *catalogpb.ForeignKeyConstraint) bool { return f.Name == name })
	if i < 0 {
		return pgerr.Newf(pgerr.UndefinedObject, "constraint \"%s\" of relation \"%s\" does not exist", name, pb.Name)
	}
	fk := pb.OutboundFks[i]
	if err := p.checkForeignKey(ctx, child, fk); err != nil {
		return err
	}
	fk.Validity = catalogpb.ConstraintValidity_VALIDATED
	for _, in := range pb.InboundFks {
		if sameFK(in, fk) {
			in.Validity = fk.Validity
		}
	}
	if err := p.writeTable(ctx, pb); err != nil {
		return err
	}
	if fk.ReferencedTableId == child {
		return nil
	}
	ppb, err := p.mutableTable(ctx, fk.ReferencedTableId)
	if err != nil {
		return err
	}
	for _, in := range ppb.InboundFks {
		if sameFK(in, fk) {
			in.Validity = fk.Validity
		}
	}
	return p.writeTable(ctx, ppb)
}

// checkForeignKey looks for rows of the child without a parent.
func (p *planner) checkForeignKey(ctx context.Context, childID catalog.ID, fk *catalogpb.ForeignKeyConstraint) error {
	child, err := p.tableByID(ctx, childID)
	if err != nil {
		return err
	}
	parent, err := p.tableByID(ctx, fk.ReferencedTableId)
	if err != nil {
		return err
	}
	childName, err := p.qualifiedName(ctx, child)
	if err != nil {
		return err
	}
	parentName, err := p.qualifiedName(ctx, parent)
	if err != nil {
		return err
	}
	var cols, on, notNull, someNull []string
	for i, id := range fk.OriginColumnIds {
		c := "c." + quoteIdent(child.ColumnByID(id).Name)
		r := "p." + quoteIdent(parent.ColumnByID(fk.ReferencedColumnIds[i]).Name)
		cols = append(cols, c)
		on = append(on, c+" = "+r)
		notNull = append(notNull, c+" IS NOT NULL")
		someNull = append(someNull, c+" IS NULL")
	}
	first := "p." + quoteIdent(parent.ColumnByID(fk.ReferencedColumnIds[0]).Name)
	query := fmt.Sprintf("SELECT %s FROM %s AS c LEFT JOIN %s AS p ON %s WHERE %s AND %s IS NULL LIMIT 1",
		strings.Join(cols, ", "), childName, parentName, strings.Join(on, " AND "), strings.Join(notNull, " AND "), first)
	rows, _, err := p.internalQuery(ctx, query)
	if err != nil {
		return err
	}
	e := pgerr.Newf(pgerr.ForeignKeyViolation, "insert or update on table \"%s\" violates foreign key constraint \"%s\"", child.Name(), fk.Name).
		WithConstraint(p.schemaNameOf(ctx, child), child.Name(), fk.Name)
	if len(rows) > 0 {
		return e.WithDetail("Key (%s)=(%s) is not present in table \"%s\".", joinColumns(child, fk.OriginColumnIds), p.keyText(child, fk.OriginColumnIds, rows[0]), parent.Name())
	}
	if fk.Match != catalogpb.Match_FULL || len(cols) == 1 {
		return nil
	}
	rows, _, err = p.internalQuery(ctx, fmt.Sprintf("SELECT 1 FROM %s AS c WHERE (%s) AND NOT (%s) LIMIT 1",
		childName, strings.Join(someNull, " OR "), strings.Join(someNull, " AND ")))
	if err != nil {
		return err
	}
	if len(rows) > 0 {
		return e.WithDetail("MATCH FULL does not allow mixing of null and nonnull key values.")
	}
	return nil
}
