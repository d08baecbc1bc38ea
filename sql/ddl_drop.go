package sql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// dropper carries one DROP statement: what it drops, so that objects which
// depend only on each other go together, and whether dependants go too.
type dropper struct {
	p        *planner
	behavior tree.DropBehavior
	// going are the relations that the statement names or has already dropped.
	going map[catalog.ID]bool
	// cascaded lists what CASCADE took along, for the notice.
	cascaded []string
	gone     []catalog.ID // relations with data
	zones    []catalog.ID // databases with a zone configuration
}

func (p *planner) newDropper(behavior tree.DropBehavior) *dropper {
	return &dropper{p: p, behavior: behavior, going: map[catalog.ID]bool{}}
}

// dropRelations runs DROP TABLE, VIEW, MATERIALIZED VIEW and SEQUENCE.
func (p *planner) dropRelations(ctx context.Context, names []any, kind relKind, ifExists bool, behavior tree.DropBehavior) error {
	d := p.newDropper(behavior)
	var tables []*catalog.Table
	for _, n := range names {
		t, err := p.resolveRelation(ctx, n, kind, ifExists)
		if err != nil {
			return err
		}
		if t == nil || d.going[t.ID()] {
			continue
		}
		if err := p.checkOwnerOr(ctx, t, catalog.Drop); err != nil {
			return err
		}
		d.going[t.ID()] = true
		tables = append(tables, t)
	}
	for _, t := range tables {
		if err := d.relation(ctx, t.ID()); err != nil {
			return err
		}
	}
	return d.finish(ctx)
}

// relation drops one table, view or sequence.
func (d *dropper) relation(ctx context.Context, id catalog.ID) error {
	d.going[id] = true
	pb, err := d.p.mutableTable(ctx, id)
	if err != nil {
		return err
	}
	if pb.State == catalogpb.State_DROP {
		return nil
	}
	self, err := catalog.NewTable(pb)
	if err != nil {
		return err
	}
	if err := d.dependants(ctx, self); err != nil {
		return err
	}
	if pb, err = d.p.mutableTable(ctx, id); err != nil { // dependants changed it
		return err
	}
	for _, fk := range pb.OutboundFks {
		if !d.going[fk.ReferencedTableId] {
			if err := d.p.forgetInboundFK(ctx, fk); err != nil {
				return err
			}
		}
	}
	for _, dep := range pb.DependsOn { // a view's sources
		if d.going[dep] {
			continue
		}
		src, err := d.p.mutableTable(ctx, dep)
		if err != nil {
			return err
		}
		src.DependedOnBy = slices.DeleteFunc(src.DependedOnBy, func(r *catalogpb.Reference) bool { return r.Id == id })
		if err := d.p.writeTable(ctx, src); err != nil {
			return err
		}
	}
	var owned []catalog.ID
	for _, c := range pb.Columns {
		owned = append(owned, c.OwnsSequenceIds...)
		for _, s := range c.UsesSequenceIds {
			if slices.Contains(c.OwnsSequenceIds, s) || d.going[s] {
				continue
			}
			if err := d.p.forgetReference(ctx, s, id); err != nil {
				return err
			}
		}
	}
	if o := pb.SequenceOpts.GetOwner(); o.GetTableId() != 0 && !d.going[o.TableId] {
		if err := d.p.editColumn(ctx, o.TableId, o.ColumnId, func(c *catalogpb.ColumnDescriptor) {
			c.OwnsSequenceIds = slices.DeleteFunc(c.OwnsSequenceIds, func(s uint32) bool { return s == id })
		}); err != nil {
			return err
		}
	}
	if err := d.p.syncTypeReferences(ctx, pb, nil); err != nil {
		return err
	}
	for _, typ := range []int64{commentTable, commentColumn, commentIndex, commentConstraint} {
		if err := d.p.deleteComments(ctx, typ, id, -1); err != nil {
			return err
		}
	}
	if err := d.remove(ctx, pb); err != nil {
		return err
	}
	if pb.Temporary {
		if err := d.p.txn.Del(ctx, ownedThing{d.p.srv.process(), ownedTemporary, id, 0}.key()); err != nil {
			return err
		}
	}
	for _, s := range owned {
		if !d.going[s] {
			if err := d.relation(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove takes the name and marks the descriptor as dropped. Relations with data
// keep it until the data are collected.
func (d *dropper) remove(ctx context.Context, pb *catalogpb.TableDescriptor) error {
	if err := d.p.cat.RemoveName(ctx, pb.ParentId, pb.UnexposedParentSchemaId, pb.Name); err != nil {
		return err
	}
	d.p.schemaChanged()
	hasData := pb.ViewQuery == "" || pb.IsMaterializedView
	if !hasData {
		return d.p.cat.Delete(ctx, pb.Id)
	}
	pb.State = catalogpb.State_DROP
	pb.DropTime = d.p.srv.clock.Now().WallTime
	pb.InboundFks, pb.OutboundFks, pb.DependedOnBy = nil, nil, nil
	d.gone = append(d.gone, pb.Id)
	return d.p.writeTable(ctx, pb)
}

// dependants drops, or refuses because of, what depends on a relation.
func (d *dropper) dependants(ctx context.Context, t *catalog.Table) error {
	for _, fk := range t.InboundFKs() {
		if d.going[fk.OriginTableId] {
			continue
		}
		child, err := d.p.tableByID(ctx, fk.OriginTableId)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("constraint %s on table %s", fk.Name, child.Name())
		if d.behavior != tree.DropCascade {
			return d.refuse(t, what)
		}
		d.cascaded = append(d.cascaded, what)
		cpb, err := d.p.mutableTable(ctx, fk.OriginTableId)
		if err != nil {
			return err
		}
		cpb.OutboundFks = slices.DeleteFunc(cpb.OutboundFks, func(f *catalogpb.ForeignKeyConstraint) bool { return sameFK(f, fk) })
		if err := d.p.writeTable(ctx, cpb); err != nil {
			return err
		}
	}
	for _, ref := range t.Proto().DependedOnBy {
		if d.going[ref.Id] {
			continue
		}
		dep, err := d.p.cat.TableByID(ctx, ref.Id, catalog.Flags{})
		if err != nil {
			return err
		}
		if dep == nil {
			continue
		}
		if t.IsSequence() && !dep.IsView() {
			if err := d.sequenceDefault(ctx, t, dep, ref.ColumnIds); err != nil {
				return err
			}
			continue
		}
		what := kindWord(dep) + " " + dep.Name()
		if d.behavior != tree.DropCascade {
			return d.refuse(t, what)
		}
		d.cascaded = append(d.cascaded, what)
		if err := d.relation(ctx, dep.ID()); err != nil {
			return err
		}
	}
	return nil
}

// sequenceDefault handles the column defaults that call a dropped sequence.
func (d *dropper) sequenceDefault(ctx context.Context, seq, table *catalog.Table, cols []uint32) error {
	for _, id := range cols {
		c := table.ColumnByID(id)
		if c == nil {
			continue
		}
		what := fmt.Sprintf("default value for column %s of table %s", c.Name, table.Name())
		if d.behavior != tree.DropCascade {
			return d.refuse(seq, what)
		}
		d.cascaded = append(d.cascaded, what)
		if err := d.p.editColumn(ctx, table.ID(), id, func(c *catalogpb.ColumnDescriptor) {
			c.DefaultExpr = nil
			c.UsesSequenceIds = slices.DeleteFunc(c.UsesSequenceIds, func(s uint32) bool { return s == seq.ID() })
		}); err != nil {
			return err
		}
	}
	return nil
}

func (d *dropper) refuse(t *catalog.Table, dependant string) error {
	self := kindWord(t) + " " + t.Name()
	return pgerr.Newf(pgerr.DependentObjectsStillExist, "cannot drop %s because other objects depend on it", self).
		WithDetail("%s depends on %s", dependant, self).
		WithHint("Use DROP ... CASCADE to drop the dependent objects too.")
}

// finish tells what CASCADE took along and hands the data to the collector.
func (d *dropper) finish(ctx context.Context) error {
	switch len(d.cascaded) {
	case 0:
	case 1:
		d.p.notice("drop cascades to %s", d.cascaded[0])
	default:
		n := pgerr.Notice("drop cascades to %d other objects", len(d.cascaded)).WithDetail("%s", "drop cascades to "+strings.Join(d.cascaded, "\ndrop cascades to "))
		if d.p.res != nil {
			d.p.s.sendNotice(d.p.res, n)
		}
	}
	return d.p.collectTables(ctx, d.gone, d.zones)
}

// dropSequenceByID drops a sequence whose column is going.
func (p *planner) dropSequenceByID(ctx context.Context, id catalog.ID) error {
	d := p.newDropper(tree.DropCascade)
	if err := d.relation(ctx, id); err != nil {
		return err
	}
	d.cascaded = nil
	return d.finish(ctx)
}

// forgetReference removes the back reference of one relation to another.
func (p *planner) forgetReference(ctx context.Context, from, to catalog.ID) error {
	t, err := p.cat.TableByID(ctx, from, catalog.Flags{})
	if err != nil || t == nil {
		return err
	}
	pb, err := p.mutableTable(ctx, from)
	if err != nil {
		return err
	}
	pb.DependedOnBy = slices.DeleteFunc(pb.DependedOnBy, func(r *catalogpb.Reference) bool { return r.Id == to })
	return p.writeTable(ctx, pb)
}

// dropViewsOf drops, or refuses because of, the views that use a column.
func (p *planner) dropViewsOf(ctx context.Context, pb *catalogpb.TableDescriptor, column uint32, behavior tree.DropBehavior, what string) error {
	for _, ref := range slices.Clone(pb.DependedOnBy) {
		if len(ref.ColumnIds) > 0 && !slices.Contains(ref.ColumnIds, column) {
			continue
		}
		v, err := p.cat.TableByID(ctx, ref.Id, catalog.Flags{})
		if err != nil {
			return err
		}
		if v == nil || !v.IsView() {
			continue
		}
		if behavior != tree.DropCascade {
			return pgerr.Newf(pgerr.DependentObjectsStillExist, "cannot drop %s because other objects depend on it", what).
				WithDetail("%s %s depends on %s", kindWord(v), v.Name(), what).
				WithHint("Use DROP ... CASCADE to drop the dependent objects too.")
		}
		d := p.newDropper(behavior)
		d.cascaded = append(d.cascaded, kindWord(v)+" "+v.Name())
		if err := d.relation(ctx, v.ID()); err != nil {
			return err
		}
		if err := d.finish(ctx); err != nil {
			return err
		}
	}
	return nil
}

// dropIndexes runs DROP INDEX.
func (p *planner) dropIndexes(ctx context.Context, n *tree.DropIndex) error {
	for _, name := range n.IndexList {
		tbl, x, err := p.findIndex(ctx, name)
		if err != nil {
			if n.IfExists && pgerr.GetCode(err) == pgerr.UndefinedObject {
				p.notice("index \"%s\" does not exist, skipping", string(name.Index))
				continue
			}
			return err
		}
		if err := p.checkOwner(ctx, tbl); err != nil {
			return err
		}
		if tbl, err = p.lockForChange(ctx, tbl.ID()); err != nil {
			return err
		}
		a := &tableAlter{p: p, old: tbl, pb: tbl.Mutable(), values: map[uint32]string{}}
		d := findIndex(a.pb, x.Name)
		switch {
		case d == nil:
			continue
		case d == a.pb.PrimaryIndex, isUniqueConstraint(d) && n.DropBehavior != tree.DropCascade:
			return pgerr.Newf(pgerr.DependentObjectsStillExist, "cannot drop index %s because constraint %s on table %s requires it", d.Name, d.Name, tbl.Name()).
				WithHint("You can drop constraint %s on table %s instead.", d.Name, tbl.Name())
		}
		if err := a.dropIndex(ctx, d, n.DropBehavior); err != nil {
			return err
		}
		if err := a.apply(ctx); err != nil {
			return err
		}
	}
	return nil
}

// findIndex resolves table@index, or an index by its own name.
func (p *planner) findIndex(ctx context.Context, name *tree.TableIndexName) (*catalog.Table, *catalog.Index, error) {
	idx := string(name.Index)
	if name.Table.Table() != "" {
		tbl, err := p.resolveTable(ctx, &name.Table)
		if err != nil {
			return nil, nil, err
		}
		if x := tbl.IndexByName(idx); x != nil {
			return tbl, x, nil
		}
		return nil, nil, pgerr.Newf(pgerr.UndefinedObject, "index \"%s\" does not exist", idx)
	}
	var only string
	if name.Table.ExplicitSchema {
		only = string(name.Table.SchemaName)
	}
	refs, err := p.resolver().Schemas(ctx)
	if err != nil {
		return nil, nil, err
	}
	if only != "" {
		db, err := p.cat.MustDatabase(ctx, p.s.data.Database)
		if err != nil {
			return nil, nil, err
		}
		ref, ok, err := p.cat.Schema(ctx, db, only)
		if err != nil {
			return nil, nil, err
		}
		refs = nil
		if ok {
			refs = append(refs, ref)
		}
	}
	for _, ref := range refs {
		if ref.Virtual {
			continue
		}
		all, err := p.cat.AllInDatabase(ctx, ref.Database.ID())
		if err != nil {
			return nil, nil, err
		}
		for _, d := range all {
			t, ok := d.(*catalog.Table)
			if !ok || t.ParentSchemaID() != ref.ID || t.State() != catalogpb.State_PUBLIC || t.IsSequence() {
				continue
			}
			if x := t.IndexByName(idx); x != nil && (!x.Primary || !t.HasImplicitPrimaryKey()) {
				return t, x, nil
			}
		}
	}
	return nil, nil, pgerr.Newf(pgerr.UndefinedObject, "index \"%s\" does not exist", idx)
}

// truncate runs TRUNCATE: all indexes get new ids, the old data are collected.
func (p *planner) truncate(ctx context.Context, n *tree.Truncate, restartIdentity bool) error {
	going := map[catalog.ID]*catalog.Table{}
	var order []catalog.ID
	add := func(t *catalog.Table) error {
		if going[t.ID()] != nil {
			return nil
		}
		if !t.IsTable() {
			return pgerr.Newf(pgerr.WrongObjectType, "\"%s\" is not a table", t.Name())
		}
		if err := p.checkTablePrivilege(ctx, t, catalog.TruncatePriv, catalog.Drop); err != nil {
			return err
		}
		going[t.ID()] = t
		order = append(order, t.ID())
		return nil
	}
	for i := range n.Tables {
		t, err := p.resolveRelation(ctx, &n.Tables[i], kindAny, false)
		if err != nil {
			return err
		}
		if err := add(t); err != nil {
			return err
		}
	}
	for i := 0; i < len(order); i++ {
		t := going[order[i]]
		for _, fk := range t.InboundFKs() {
			if going[fk.OriginTableId] != nil {
				continue
			}
			child, err := p.tableByID(ctx, fk.OriginTableId)
			if err != nil {
				return err
			}
			if n.DropBehavior == tree.DropCascade {
				p.notice("truncate cascades to table \"%s\"", child.Name())
				if err := add(child); err != nil {
					return err
				}
				continue
			}
			if slices.ContainsFunc(n.Tables, func(tn tree.TableName) bool { return tn.Table() == child.Name() }) {
				continue // Named later in the same statement.
			}
			return pgerr.New(pgerr.FeatureNotSupported, "cannot truncate a table referenced in a foreign key constraint").
				WithDetail("Table \"%s\" references \"%s\".", child.Name(), t.Name()).
				WithHint("Truncate table \"%s\" at the same time, or use TRUNCATE ... CASCADE.", child.Name())
		}
	}
	for _, id := range order {
		if err := p.truncateTable(ctx, id, restartIdentity); err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) truncateTable(ctx context.Context, id catalog.ID, restartIdentity bool) error {
	pb, err := p.mutableTable(ctx, id)
	if err != nil {
		return err
	}
	var old, fresh []uint32
	next := map[uint32]uint32{}
	for _, x := range allIndexes(pb) {
		old, next[x.Id] = append(old, x.Id), pb.NextIndexId
		x.Id = pb.NextIndexId
		pb.NextIndexId++
		fresh = append(fresh, x.Id)
		p.s.tx.noteFreshIndex(pb.Id, x.Id)
	}
	if err := p.claimIndexIDs(ctx, pb.Id, fresh); err != nil {
		return err
	}
	for _, id := range fresh {
		// What an attempt that failed may have left under the new id.
		if err := p.clearUnpublished(ctx, pb.Id, id); err != nil {
			return err
		}
	}
	if err := p.dropIndexData(ctx, pb, old); err != nil {
		return err
	}
	if err := p.moveZones(ctx, pb.Id, next); err != nil {
		return err
	}
	if err := p.writeTable(ctx, pb); err != nil {
		return err
	}
	p.noteTruncated(pb.Id)
	if !restartIdentity {
		return nil
	}
	for _, c := range pb.Columns {
		for _, s := range c.OwnsSequenceIds {
			seq, err := p.mutableTable(ctx, s)
			if err != nil {
				return err
			}
			if err := p.setSequenceCounter(ctx, seq, seq.SequenceOpts.Start-seq.SequenceOpts.Increment); err != nil {
				return err
			}
			p.s.forgetSequence(s)
		}
	}
	return nil
}

// dropDatabase runs DROP DATABASE.
func (p *planner) dropDatabase(ctx context.Context, n *tree.DropDatabase) error {
	name := string(n.Name)
	db, err := p.cat.Database(ctx, name)
	if err != nil {
		return err
	}
	if db == nil {
		if n.IfExists {
			p.notice("database \"%s\" does not exist, skipping", name)
			return nil
		}
		return pgerr.Newf(pgerr.InvalidCatalogName, "database \"%s\" does not exist", name)
	}
	if db.ID() == catalog.SystemDatabaseID {
		return pgerr.New(pgerr.InsufficientPrivilege, "cannot drop the system database")
	}
	if err := p.checkOwnerOrPrivilege(ctx, db.Privileges(), catalog.Drop, "database", name); err != nil {
		return err
	}
	all, err := p.cat.AllInDatabase(ctx, db.ID())
	if err != nil {
		return err
	}
	var contents []catalog.Descriptor
	for _, o := range all {
		if o.State() == catalogpb.State_OFFLINE {
			return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "cannot drop database \"%s\": relation \"%s\" is offline: %s", name, o.Name(), o.OfflineReason())
		}
		if o.State() != catalogpb.State_DROP && o.Kind() != catalog.SchemaKind {
			contents = append(contents, o)
		}
	}
	// PostgreSQL drops a database with all that is in it; RESTRICT has to be said.
	if len(contents) > 0 {
		if n.DropBehavior == tree.DropRestrict {
			return pgerr.Newf(pgerr.DependentObjectsStillExist, "database \"%s\" is not empty and RESTRICT was specified", name)
		}
		if n.DropBehavior != tree.DropCascade && p.s.data.SafeUpdates {
			return errSafeUpdates("DROP DATABASE on non-empty database without explicit CASCADE")
		}
	}
	d := p.newDropper(tree.DropCascade)
	for _, o := range contents {
		if o.Kind() == catalog.TableKind {
			d.going[o.ID()] = true
		}
	}
	for _, o := range contents {
		if o.Kind() == catalog.TableKind {
			if err := d.relation(ctx, o.ID()); err != nil {
				return err
			}
		}
	}
	d.cascaded = nil
	for _, o := range contents {
		if o.Kind() == catalog.TypeKind {
			if err := p.deleteComments(ctx, commentType, o.ID(), 0); err != nil {
				return err
			}
			if err := p.removeObject(ctx, o); err != nil {
				return err
			}
		}
	}
	for _, o := range all {
		if o.Kind() == catalog.SchemaKind && o.State() != catalogpb.State_DROP {
			if err := p.deleteComments(ctx, commentSchema, o.ID(), 0); err != nil {
				return err
			}
			if err := p.removeObject(ctx, o); err != nil {
				return err
			}
		}
	}
	if err := p.removeObject(ctx, db); err != nil {
		return err
	}
	if _, own, err := p.zoneRow(ctx, db.ID()); err != nil {
		return err
	} else if own != nil {
		d.zones = append(d.zones, db.ID())
	}
	if err := p.deleteComments(ctx, commentDatabase, db.ID(), 0); err != nil {
		return err
	}
	if err := d.finish(ctx); err != nil {
		return err
	}
	if p.s.data.Database == name {
		p.warn("01000", "the current database \"%s\" has been dropped", name)
	}
	return nil
}

// removeObject takes an object without data out of the catalog.
func (p *planner) removeObject(ctx context.Context, o catalog.Descriptor) error {
	if err := p.cat.RemoveName(ctx, o.ParentID(), o.ParentSchemaID(), o.Name()); err != nil {
		return err
	}
	p.schemaChanged()
	return p.cat.Delete(ctx, o.ID())
}

// dropSchemas runs DROP SCHEMA.
func (p *planner) dropSchemas(ctx context.Context, n *parser.DropSchema) error {
	for _, name := range n.Names {
		ref, ok, err := p.resolver().FindSchema(ctx, string(name.Database), string(name.Schema))
		if err != nil {
			return err
		}
		if !ok {
			if n.IfExists {
				p.notice("schema \"%s\" does not exist, skipping", string(name.Schema))
				continue
			}
			return pgerr.Newf(pgerr.InvalidSchemaName, "schema \"%s\" does not exist", string(name.Schema))
		}
		if ref.Virtual || ref.Desc == nil {
			return pgerr.Newf(pgerr.DependentObjectsStillExist, "cannot drop schema %s because it is required by the database system", ref.Name)
		}
		if err := p.checkOwnerOrPrivilege(ctx, ref.Desc.Privileges(), catalog.Drop, "schema", ref.Name); err != nil {
			return err
		}
		if err := p.dropSchema(ctx, ref, n.DropBehavior); err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) dropSchema(ctx context.Context, ref catalog.SchemaRef, behavior tree.DropBehavior) error {
	all, err := p.cat.AllInDatabase(ctx, ref.Database.ID())
	if err != nil {
		return err
	}
	d := p.newDropper(behavior)
	var inside []catalog.Descriptor
	for _, o := range all {
		if o.ParentSchemaID() == ref.ID && o.State() != catalogpb.State_DROP {
			inside = append(inside, o)
		}
	}
	if len(inside) > 0 && behavior != tree.DropCascade {
		o := inside[0]
		word := "type"
		if t, ok := o.(*catalog.Table); ok {
			word = kindWord(t)
		}
		return pgerr.Newf(pgerr.DependentObjectsStillExist, "cannot drop schema %s because other objects depend on it", ref.Name).
			WithDetail("%s %s.%s depends on schema %s", word, ref.Name, o.Name(), ref.Name).
			WithHint("Use DROP ... CASCADE to drop the dependent objects too.")
	}
	for _, o := range inside {
		if t, ok := o.(*catalog.Table); ok {
			d.going[o.ID()] = true
			d.cascaded = append(d.cascaded, kindWord(t)+" "+ref.Name+"."+t.Name())
		}
	}
	for _, o := range inside {
		if o.Kind() == catalog.TableKind {
			if err := d.relation(ctx, o.ID()); err != nil {
				return err
			}
		}
	}
	for _, o := range inside {
		if t, ok := o.(*catalog.Type); ok && t.IsEnum() {
			if err := p.dropType(ctx, t, tree.DropCascade); err != nil {
				return err
			}
		}
	}
	db, err := p.cat.MutableDatabase(ctx, ref.Database.ID())
	if err != nil {
		return err
	}
	delete(db.Schemas, ref.Name)
	if _, err := p.cat.Write(ctx, db); err != nil {
		return err
	}
	if err := p.deleteComments(ctx, commentSchema, ref.ID, 0); err != nil {
		return err
	}
	if err := p.removeObject(ctx, ref.Desc); err != nil {
		return err
	}
	return d.finish(ctx)
}
