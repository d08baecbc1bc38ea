package backupccl

import (
	"fmt"

	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// restoringReason is shown for objects that are being restored.
const restoringReason = "restoring"

// rewriter makes descriptors of a backup fit into this cluster: new ids, and no
// reference to anything that is not there.
type rewriter struct {
	d       *backuppb.RestoreDetails
	sch     *schema // of the backup
	byOld   map[uint32]*backuppb.Rewrite
	dropped []string // what was left out, for the log
}

func newRewriter(d *backuppb.RestoreDetails, sch *schema) *rewriter {
	r := &rewriter{d: d, sch: sch, byOld: map[uint32]*backuppb.Rewrite{}}
	for _, rw := range d.Rewrites {
		r.byOld[rw.OldId] = rw
	}
	return r
}

func (r *rewriter) newID(old uint32) (uint32, bool) {
	rw := r.byOld[old]
	if rw == nil {
		return 0, false
	}
	return rw.NewId, true
}

// checkDependencies says what the restored tables need that is not restored and
// may not be left out. want holds the ids to be restored. Views without their
// tables go off the list and out of want if the user agreed to that.
func checkDependencies(d *backuppb.RestoreDetails, sch *schema, sel *selection, want map[uint32]bool) error {
	for changed := true; changed; { // A view may need a view that goes.
		changed = false
		var kept []*catalog.Table
		for _, t := range sel.tables {
			missing := false
			if t.IsView() {
				for _, id := range t.Proto().DependsOn {
					missing = missing || !want[id]
				}
			}
			if !missing {
				kept = append(kept, t)
				continue
			}
			if !d.SkipMissingViews {
				return pgerr.Newf(pgerr.DependentObjectsStillExist,
					`cannot restore view %q without restoring referenced table (or "skip_missing_views" option)`, t.Name())
			}
			delete(want, t.ID())
			sel.skipped = append(sel.skipped, fmt.Sprintf("view %s, which needs what is not restored", sch.qualified(t)))
			changed = true
		}
		sel.tables = kept
	}
	for _, t := range sel.tables {
		pb := t.Proto()
		for _, fk := range pb.OutboundFks {
			if !want[fk.ReferencedTableId] && !d.SkipMissingForeignKeys {
				return pgerr.Newf(pgerr.DependentObjectsStillExist,
					`cannot restore table %q without referenced table %d (or "skip_missing_foreign_keys" option)`, t.Name(), fk.ReferencedTableId)
			}
		}
		for _, c := range pb.Columns {
			for _, id := range c.UsesSequenceIds {
				if !want[id] && !d.SkipMissingSequences {
					return pgerr.Newf(pgerr.DependentObjectsStillExist,
						`cannot restore table %q without referenced sequence %d (or "skip_missing_sequences" option)`, t.Name(), id)
				}
			}
			for _, id := range c.OwnsSequenceIds {
				if !want[id] && !d.SkipMissingSequenceOwners && !d.SkipMissingSequences {
					return pgerr.Newf(pgerr.DependentObjectsStillExist,
						`cannot restore table %q without referenced sequence %d (or "skip_missing_sequence_owners" option)`, t.Name(), id)
				}
			}
			if len(c.UsesFunctionIds) > 0 && !d.SkipMissingUdfs {
				return pgerr.Newf(pgerr.DependentObjectsStillExist,
					`cannot restore table %q without referenced function %d (or "skip_missing_udfs" option)`, t.Name(), c.UsesFunctionIds[0])
			}
		}
		if owner := pb.GetSequenceOpts().GetOwner(); owner.GetTableId() != 0 && !want[owner.GetTableId()] && !d.SkipMissingSequenceOwners {
			return pgerr.Newf(pgerr.DependentObjectsStillExist,
				`cannot restore sequence %q without referenced owner table %d (or "skip_missing_sequence_owners" option)`, t.Name(), owner.GetTableId())
		}
		for _, id := range sch.typeIDs(t) {
			if sch.byID[id] == nil {
				return pgerr.Newf(pgerr.DependentObjectsStillExist, "cannot restore table %q without referenced type %d", t.Name(), id)
			}
		}
	}
	return nil
}

// privileges returns what a restored object starts with. A cluster restore
// brings the users too and keeps their grants; others can know none of them.
func (r *rewriter) privileges(old *catalogpb.PrivilegeDescriptor, fresh func(owner string) *catalogpb.PrivilegeDescriptor) *catalogpb.PrivilegeDescriptor {
	if r.d.Targets.Cluster && old != nil {
		return old
	}
	return fresh(r.d.User)
}

func (r *rewriter) database(db *catalog.Database) *catalogpb.DatabaseDescriptor {
	pb := db.Mutable()
	rw := r.byOld[pb.Id]
	pb.Id = rw.NewId
	if rw.NewName != "" {
		pb.Name = rw.NewName
	}
	pb.State, pb.OfflineReason = catalogpb.State_OFFLINE, restoringReason
	pb.Privileges = r.privileges(pb.Privileges, catalog.NewDatabasePrivileges)
	if !r.d.Targets.Cluster {
		pb.DefaultPrivileges = nil // It names users that may not exist here.
	}
	for name, s := range pb.Schemas {
		id, ok := r.newID(s.GetId())
		if !ok {
			delete(pb.Schemas, name)
			continue
		}
		s.Id = id
	}
	if r.d.RemoveRegions {
		pb.RegionConfig = nil
	} else if rc := pb.RegionConfig; rc != nil {
		if id, ok := r.newID(rc.RegionEnumId); ok {
			rc.RegionEnumId = id
		}
	}
	return pb
}

func (r *rewriter) schema(sc *catalog.Schema) *catalogpb.SchemaDescriptor {
	pb := sc.Mutable()
	rw := r.byOld[pb.Id]
	pb.Id, pb.ParentId = rw.NewId, rw.ParentId
	pb.State, pb.OfflineReason = catalogpb.State_OFFLINE, restoringReason
	fresh := catalog.NewPrivileges
	if pb.Name == catalog.PublicSchemaName {
		fresh = catalog.NewPublicSchemaPrivileges
	}
	pb.Privileges = r.privileges(pb.Privileges, fresh)
	if !r.d.Targets.Cluster {
		pb.DefaultPrivileges = nil
	}
	pb.Functions = nil
	return pb
}

func (r *rewriter) typ(t *catalog.Type) (*catalogpb.TypeDescriptor, error) {
	pb := t.Mutable()
	rw := r.byOld[pb.Id]
	pb.Id, pb.ParentId, pb.ParentSchemaId = rw.NewId, rw.ParentId, rw.ParentSchemaId
	pb.State, pb.OfflineReason = catalogpb.State_OFFLINE, restoringReason
	pb.Privileges = r.privileges(pb.Privileges, catalog.NewTypePrivileges)
	if pb.ArrayTypeId != 0 {
		id, ok := r.newID(pb.ArrayTypeId)
		if !ok {
			return nil, fmt.Errorf("type %q: its array type %d is not in the backup", pb.Name, pb.ArrayTypeId)
		}
		pb.ArrayTypeId = id
	}
	if len(pb.Alias) > 0 {
		b, err := r.columnType(pb.Alias)
		if err != nil {
			return nil, fmt.Errorf("type %q: %w", pb.Name, err)
		}
		pb.Alias = b
	}
	pb.ReferencingDescriptorIds = r.mapIDs(pb.ReferencingDescriptorIds)
	for _, m := range pb.EnumMembers {
		// A label that was being added or removed is decided by the backup: it is
		// in the data or it is not, so it stays readable and becomes writable.
		m.Capability, m.Direction = catalogpb.TypeDescriptor_EnumMember_ALL, catalogpb.TypeDescriptor_EnumMember_NONE
	}
	return pb, nil
}

// mapIDs translates references and leaves out those to what is not restored.
func (r *rewriter) mapIDs(ids []uint32) []uint32 {
	var out []uint32
	for _, id := range ids {
		if n, ok := r.newID(id); ok {
			out = append(out, n)
		}
	}
	return out
}

// columnType gives the user-defined types in a stored column type their new ids.
func (r *rewriter) columnType(b []byte) ([]byte, error) {
	t, err := catalog.UnmarshalType(b)
	if err != nil {
		return nil, err
	}
	if len(catalog.UserTypeOIDs(t)) == 0 {
		return b, nil
	}
	t, err = r.rewriteType(t)
	if err != nil {
		return nil, err
	}
	return catalog.MarshalType(t)
}

func (r *rewriter) rewriteType(t *types.T) (*types.T, error) {
	if t.Family() == types.ArrayFamily {
		el, err := r.rewriteType(t.ArrayContents())
		if err != nil {
			return nil, err
		}
		return catalog.ArrayOf(el), nil
	}
	o, ok := catalog.EnumOID(t)
	if !ok {
		return t, nil
	}
	old, ok := catalog.TypeIDFromOID(o)
	if !ok {
		return nil, fmt.Errorf("type with OID %d", o)
	}
	id, ok := r.newID(old)
	if !ok {
		return nil, fmt.Errorf("type %d is not restored", old)
	}
	return catalog.EnumType(oid.Oid(catalog.OIDFromTypeID(id))), nil
}

func (r *rewriter) table(t *catalog.Table) (*catalogpb.TableDescriptor, error) {
	pb := t.Mutable()
	rw := r.byOld[pb.Id]
	oldID := pb.Id
	pb.Id, pb.ParentId, pb.UnexposedParentSchemaId = rw.NewId, rw.ParentId, rw.ParentSchemaId
	pb.State, pb.OfflineReason = catalogpb.State_OFFLINE, restoringReason
	if pb.RowLevelTtl != nil {
		r.dropped = append(r.dropped, "row-level TTL of table "+pb.Name)
	}
	pb.DropTime, pb.DropJobId, pb.DroppedIndexes, pb.RowLevelTtl = 0, 0, nil, nil
	pb.Privileges = r.privileges(pb.Privileges, catalog.NewPrivileges)
	if r.d.RemoveRegions {
		pb.LocalityConfig = nil
	}
	r.removeMutations(pb)
	for _, c := range pb.Columns {
		if err := r.column(pb, c); err != nil {
			return nil, fmt.Errorf("table %q, column %q: %w", pb.Name, c.Name, err)
		}
	}
	for _, fk := range pb.OutboundFks {
		if _, ok := r.newID(fk.ReferencedTableId); !ok {
			r.dropped = append(r.dropped, fmt.Sprintf("foreign key %s of table %s, whose other table is not restored", fk.Name, pb.Name))
		}
	}
	pb.OutboundFks = r.foreignKeys(pb.OutboundFks, oldID, func(fk *catalogpb.ForeignKeyConstraint) uint32 { return fk.ReferencedTableId })
	pb.InboundFks = r.foreignKeys(pb.InboundFks, oldID, func(fk *catalogpb.ForeignKeyConstraint) uint32 { return fk.OriginTableId })
	for _, u := range pb.UniqueWithoutIndexConstraints {
		u.TableId = pb.Id
	}
	pb.DependsOn = r.mapIDs(pb.DependsOn)
	pb.DependsOnTypes = r.mapIDs(pb.DependsOnTypes)
	var back []*catalogpb.Reference
	for _, ref := range pb.DependedOnBy {
		if id, ok := r.newID(ref.Id); ok {
			ref.Id = id
			back = append(back, ref)
		}
	}
	pb.DependedOnBy = back
	r.databaseName(pb, r.sch.dbName(t), r.newDatabaseName(t))
	if o := pb.GetSequenceOpts().GetOwner(); o.GetTableId() != 0 {
		if id, ok := r.newID(o.TableId); ok {
			o.TableId = id
		} else {
			pb.SequenceOpts.Owner = nil
			r.dropped = append(r.dropped, "owner of sequence "+pb.Name)
		}
	}
	return pb, nil
}

// newDatabaseName is the name of the database that an object is restored into.
func (r *rewriter) newDatabaseName(d catalog.Descriptor) string {
	if rw := r.byOld[d.ParentID()]; rw != nil && rw.NewName != "" {
		return rw.NewName
	}
	if r.d.IntoDb != "" {
		return r.d.IntoDb
	}
	return r.sch.dbName(d)
}

// databaseName takes the name of the old database, where the new one has another,
// off what stands in queries and expressions: left there, it would mean objects of
// the old database, or none.
func (r *rewriter) databaseName(pb *catalogpb.TableDescriptor, old, now string) {
	if old == now {
		return
	}
	expr := func(text *string) *string {
		if text == nil {
			return nil
		}
		s := parser.WithoutDatabase(*text, old, true)
		return &s
	}
	for _, c := range pb.Columns {
		c.DefaultExpr, c.ComputeExpr, c.OnUpdateExpr = expr(c.DefaultExpr), expr(c.ComputeExpr), expr(c.OnUpdateExpr)
	}
	for _, c := range pb.Checks {
		c.Expr = *expr(&c.Expr)
	}
	for _, x := range pb.Indexes {
		if x.Predicate != "" {
			x.Predicate = *expr(&x.Predicate)
		}
	}
	for _, u := range pb.UniqueWithoutIndexConstraints {
		if u.Predicate != "" {
			u.Predicate = *expr(&u.Predicate)
		}
	}
	if pb.ViewQuery != "" {
		pb.ViewQuery = parser.WithoutDatabase(pb.ViewQuery, old, false)
	}
}

func (r *rewriter) column(pb *catalogpb.TableDescriptor, c *catalogpb.ColumnDescriptor) (err error) {
	if c.Type, err = r.columnType(c.Type); err != nil {
		return err
	}
	uses := r.mapIDs(c.UsesSequenceIds)
	if len(uses) < len(c.UsesSequenceIds) {
		c.DefaultExpr = nil
		r.dropped = append(r.dropped, fmt.Sprintf("default of column %s of table %s, which needs a sequence that is not restored", c.Name, pb.Name))
	}
	c.UsesSequenceIds, c.OwnsSequenceIds = uses, r.mapIDs(c.OwnsSequenceIds)
	if len(c.UsesFunctionIds) > 0 {
		c.UsesFunctionIds, c.DefaultExpr = nil, nil
		r.dropped = append(r.dropped, fmt.Sprintf("default of column %s of table %s, which needs a function that is not restored", c.Name, pb.Name))
	}
	return nil
}

// foreignKeys keeps the constraints whose other side is restored too.
func (r *rewriter) foreignKeys(
	fks []*catalogpb.ForeignKeyConstraint, self uint32, other func(*catalogpb.ForeignKeyConstraint) uint32,
) []*catalogpb.ForeignKeyConstraint {
	var out []*catalogpb.ForeignKeyConstraint
	for _, fk := range fks {
		if _, ok := r.newID(other(fk)); !ok {
			continue
		}
		fk.OriginTableId, _ = r.newID(fk.OriginTableId)
		fk.ReferencedTableId, _ = r.newID(fk.ReferencedTableId)
		out = append(out, fk)
	}
	return out
}

// removeMutations takes schema changes that were under way out of a table. What
// was being added is not there yet, and what was being dropped is not there any
// more: nobody could see either. Column ids that are no longer described stay in
// old rows, where readers pass over them.
func (r *rewriter) removeMutations(pb *catalogpb.TableDescriptor) {
	if len(pb.Mutations) == 0 {
		return
	}
	gone := map[uint32]bool{}
	for _, m := range pb.Mutations {
		if m.Column != nil {
			gone[m.Column.Id] = true
		}
	}
	for _, f := range pb.Families {
		var ids []uint32
		var names []string
		for i, id := range f.ColumnIds {
			if gone[id] {
				continue
			}
			ids = append(ids, id)
			if i < len(f.ColumnNames) {
				names = append(names, f.ColumnNames[i])
			}
		}
		f.ColumnIds, f.ColumnNames = ids, names
	}
	if pb.PrimaryIndex != nil {
		var ids []uint32
		var names []string
		for i, id := range pb.PrimaryIndex.StoreColumnIds {
			if gone[id] {
				continue
			}
			ids = append(ids, id)
			if i < len(pb.PrimaryIndex.StoreColumnNames) {
				names = append(names, pb.PrimaryIndex.StoreColumnNames[i])
			}
		}
		pb.PrimaryIndex.StoreColumnIds, pb.PrimaryIndex.StoreColumnNames = ids, names
	}
	r.dropped = append(r.dropped, fmt.Sprintf("%d schema changes of table %s that were under way", len(pb.Mutations), pb.Name))
	pb.Mutations = nil
}

// sameEnum says whether values of a backed-up type mean the same in a type that
// exists here.
func sameEnum(a, b *catalogpb.TypeDescriptor) bool {
	if a.Kind != b.Kind || len(a.EnumMembers) != len(b.EnumMembers) {
		return false
	}
	for i, m := range a.EnumMembers {
		n := b.EnumMembers[i]
		if m.LogicalRepresentation != n.LogicalRepresentation || string(m.PhysicalRepresentation) != string(n.PhysicalRepresentation) {
			return false
		}
	}
	return true
}

// descriptors returns everything the restore creates, rewritten and offline,
// parents first.
func (r *rewriter) descriptors() ([]proto.Message, error) {
	var dbs, schemas, typs, tables []proto.Message
	for _, id := range r.sch.ids() {
		rw := r.byOld[id]
		if rw == nil || rw.ToExisting {
			continue
		}
		switch d := r.sch.byID[id].(type) {
		case *catalog.Database:
			dbs = append(dbs, r.database(d))
		case *catalog.Schema:
			schemas = append(schemas, r.schema(d))
		case *catalog.Type:
			pb, err := r.typ(d)
			if err != nil {
				return nil, err
			}
			typs = append(typs, pb)
		case *catalog.Table:
			pb, err := r.table(d)
			if err != nil {
				return nil, err
			}
			tables = append(tables, pb)
		}
	}
	return append(append(append(dbs, schemas...), typs...), tables...), nil
}
