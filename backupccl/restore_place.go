package backupccl

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// maxListedDescriptors is how many names an error about a cluster that is not
// empty shows.
const maxListedDescriptors = 20

// restorePlacer decides in one transaction where each object of a backup goes:
// its new id and its parents, or the object of this cluster that takes its
// place. It fails if a name is taken.
type restorePlacer struct {
	d   *backuppb.RestoreDetails
	src *restoreSource
	sel *selection
	cat *catalog.Collection
	txn *kv.Txn
	ids *newIDs
}

func (p *restorePlacer) place(ctx context.Context) error {
	if p.d.Targets.Cluster {
		if err := p.emptyCluster(ctx); err != nil {
			return err
		}
	}
	if len(p.sel.dbs) > 0 {
		return p.placeDatabases(ctx)
	}
	return p.placeTables(ctx)
}

// emptyCluster checks that this cluster has nothing of its own, and takes its
// empty default databases away: the backup brings its own.
func (p *restorePlacer) emptyCluster(ctx context.Context) error {
	all, err := p.cat.All(ctx)
	if err != nil {
		return err
	}
	ignored := map[uint32]bool{}
	var defaults []catalog.Descriptor
	for _, d := range all {
		if systemDatabase(d) {
			ignored[d.ID()] = true
		}
		if db, ok := d.(*catalog.Database); ok && (db.Name() == catalog.DefaultDatabaseName || db.Name() == catalog.PostgresDatabaseName) {
			ignored[d.ID()] = true
			defaults = append(defaults, d)
			if id, ok := db.SchemaID(catalog.PublicSchemaName); ok {
				ignored[id] = true
			}
		}
	}
	var names []string
	for _, d := range all {
		if ignored[d.ID()] || d.State() == catalogpb.State_DROP {
			continue
		}
		names = append(names, d.Name())
	}
	if len(names) > 0 {
		list := names
		if len(list) > maxListedDescriptors {
			list = append(append([]string(nil), list[:maxListedDescriptors]...), "...")
		}
		return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState,
			"full cluster restore can only be run on a cluster with no tables or databases but found %d descriptors: %s",
			len(names), strings.Join(list, ", "))
	}
	for _, d := range all {
		if !ignored[d.ID()] || systemDatabase(d) {
			continue
		}
		if err := p.cat.RemoveName(ctx, d.ParentID(), d.ParentSchemaID(), d.Name()); err != nil {
			return err
		}
		if err := p.cat.Delete(ctx, d.ID()); err != nil {
			return err
		}
	}
	p.d.DroppedDefaultDatabases = len(defaults) > 0
	return nil
}

func (p *restorePlacer) rewrite(rw *backuppb.Rewrite) { p.d.Rewrites = append(p.d.Rewrites, rw) }

// placeDatabases gives whole databases new ids. A cluster restore keeps the ids
// when none of them was ever used here.
func (p *restorePlacer) placeDatabases(ctx context.Context) error {
	restoredTable := map[uint32]bool{}
	for _, t := range p.sel.tables {
		restoredTable[t.ID()] = true
	}
	var olds []uint32
	for _, id := range p.src.sch.closure(p.sel) {
		d := p.src.sch.byID[id]
		if d.Kind() == catalog.TableKind && !restoredTable[id] || systemDatabase(d) {
			continue
		}
		olds = append(olds, id)
	}
	keep := false
	if p.d.Targets.Cluster {
		var err error
		if keep, err = p.canKeepIDs(ctx, olds); err != nil {
			return err
		}
	}
	newID := func(old uint32) uint32 { return p.ids.byOld[old] }
	if keep {
		newID = func(old uint32) uint32 { return old }
	} else if err := p.ids.take(ctx, olds); err != nil {
		return err
	}
	for _, old := range olds {
		d := p.src.sch.byID[old]
		rw := &backuppb.Rewrite{OldId: old, NewId: newID(old)}
		if db, ok := d.(*catalog.Database); ok {
			name := db.Name()
			if p.d.NewDbName != "" {
				name, rw.NewName = p.d.NewDbName, p.d.NewDbName
			}
			id, err := storedName(ctx, p.txn, 0, 0, name)
			if err != nil {
				return err
			}
			if id != 0 {
				return pgerr.Newf(pgerr.DuplicateDatabase, "database %q already exists", name).
					WithHint("Drop it, or restore under another name WITH new_db_name.")
			}
		} else {
			rw.ParentId = newID(d.ParentID())
			rw.ParentSchemaId = p.schemaIn(d, newID)
		}
		p.rewrite(rw)
	}
	return nil
}

// schemaIn returns the new id of the schema of a table or type.
func (p *restorePlacer) schemaIn(d catalog.Descriptor, newID func(uint32) uint32) uint32 {
	if d.Kind() != catalog.TableKind && d.Kind() != catalog.TypeKind {
		return 0
	}
	sid := d.ParentSchemaID()
	if sid == catalog.PublicSchemaID {
		if s := p.src.sch.schemas[d.ParentID()][catalog.PublicSchemaName]; p.src.sch.byID[s] != nil {
			sid = s
		} else {
			return catalog.PublicSchemaID
		}
	}
	return newID(sid)
}

// canKeepIDs says whether the ids of a backup can be used as they are: no
// descriptor has them, in any state, and none was ever handed out here, so no
// garbage collection of an old table can hit a new one.
func (p *restorePlacer) canKeepIDs(ctx context.Context, olds []uint32) (bool, error) {
	if p.ids.kept {
		return true, nil
	}
	got, err := p.ids.db.Inc(ctx, catalog.IDCounterKey, 0)
	if err != nil {
		return false, err
	}
	if got >= int64(catalog.FirstAllocatableID) {
		return false, nil
	}
	highest := uint32(0)
	for _, id := range olds {
		highest = max(highest, id)
	}
	// Later objects come after the restored ones.
	if highest >= catalog.FirstAllocatableID {
		if _, err := catalog.AllocateIDRange(ctx, p.ids.db, int(highest-catalog.FirstAllocatableID)+1); err != nil {
			return false, fmt.Errorf("raising the descriptor id counter: %w", err)
		}
		p.ids.kept = true
	}
	return true, nil
}

// placeTables puts tables into databases that exist.
func (p *restorePlacer) placeTables(ctx context.Context) error {
	sch := p.src.sch
	byOld := map[uint32]*backuppb.Rewrite{}
	add := func(rw *backuppb.Rewrite) {
		byOld[rw.OldId] = rw
		p.rewrite(rw)
	}
	var fresh []uint32 // olds that get new ids
	types := map[uint32]bool{}
	for _, t := range p.sel.tables {
		for _, id := range sch.typeIDs(t) {
			types[id] = true
		}
	}
	objects := make([]catalog.Descriptor, 0, len(p.sel.tables)+len(types))
	for id := range types {
		objects = append(objects, sch.byID[id])
	}
	for _, t := range p.sel.tables {
		objects = append(objects, t)
	}
	// Enums, then the array types that go with them, then tables.
	rank := func(d catalog.Descriptor) int {
		switch t, ok := d.(*catalog.Type); {
		case !ok:
			return 2
		case t.IsEnum():
			return 0
		}
		return 1
	}
	sort.Slice(objects, func(i, j int) bool {
		if a, b := rank(objects[i]), rank(objects[j]); a != b {
			return a < b
		}
		return objects[i].ID() < objects[j].ID()
	})
	type spot struct{ db, schema uint32 } // schema 0: to be created
	spots := map[uint32]spot{}
	newSchemas := map[string]uint32{} // database and name → old id
	for _, o := range objects {
		db, err := p.targetDatabase(ctx, o)
		if err != nil {
			return err
		}
		name := sch.schemaName(o)
		ref, ok, err := p.cat.Schema(ctx, db, name)
		if err != nil {
			return err
		}
		sp := spot{db: db.ID()}
		switch {
		case ok && ref.Virtual:
			return pgerr.Newf(pgerr.InvalidSchemaName, "schema %q of %q is virtual", name, o.Name())
		case ok:
			sp.schema = ref.ID
			if old := o.ParentSchemaID(); byOld[old] == nil && old != catalog.PublicSchemaID {
				add(&backuppb.Rewrite{OldId: old, NewId: ref.ID, ParentId: db.ID(), ToExisting: true})
			}
		default:
			// One new schema stands for those of the same name in one database.
			key := fmt.Sprintf("%d/%s", db.ID(), name)
			if _, ok := newSchemas[key]; !ok {
				newSchemas[key] = o.ParentSchemaID()
				fresh = append(fresh, o.ParentSchemaID())
			}
		}
		spots[o.ID()] = sp
		if typ, isType := o.(*catalog.Type); isType && sp.schema != 0 {
			reused, err := p.reuseType(ctx, typ, sp.db, sp.schema, byOld)
			if err != nil {
				return err
			}
			if reused != nil {
				add(reused)
				continue
			}
		}
		if sp.schema != 0 {
			if id, err := storedName(ctx, p.txn, sp.db, sp.schema, o.Name()); err != nil {
				return err
			} else if id != 0 {
				if o.Kind() == catalog.TypeKind {
					return pgerr.Newf(pgerr.DuplicateObject, "name collision for %q's array type", strings.TrimPrefix(o.Name(), "_"))
				}
				return pgerr.Newf(pgerr.DuplicateRelation, "relation %q already exists", o.Name()).
					WithHint("Drop or rename it, or restore into another database WITH into_db.")
			}
		}
		fresh = append(fresh, o.ID())
	}
	if err := p.ids.take(ctx, fresh); err != nil {
		return err
	}
	for key, old := range newSchemas {
		var db uint32
		if _, err := fmt.Sscanf(key, "%d/", &db); err != nil {
			return err
		}
		add(&backuppb.Rewrite{OldId: old, NewId: p.ids.byOld[old], ParentId: db})
	}
	for _, o := range objects {
		if byOld[o.ID()] != nil {
			continue
		}
		sp := spots[o.ID()]
		if sp.schema == 0 {
			sp.schema = p.ids.byOld[newSchemas[fmt.Sprintf("%d/%s", sp.db, sch.schemaName(o))]]
		}
		add(&backuppb.Rewrite{OldId: o.ID(), NewId: p.ids.byOld[o.ID()], ParentId: sp.db, ParentSchemaId: sp.schema})
	}
	sort.Slice(p.d.Rewrites, func(i, j int) bool { return p.d.Rewrites[i].OldId < p.d.Rewrites[j].OldId })
	return nil
}

// targetDatabase returns the database that an object is restored into.
func (p *restorePlacer) targetDatabase(ctx context.Context, o catalog.Descriptor) (*catalog.Database, error) {
	name := p.d.IntoDb
	if name == "" {
		name = p.src.sch.dbName(o)
	}
	db, err := p.cat.Database(ctx, name)
	if err != nil {
		return nil, err
	}
	if db == nil {
		return nil, pgerr.Newf(pgerr.InvalidCatalogName, "a database named %q needs to exist to restore %s %q", name, o.Kind(), o.Name()).
			WithHint("Create it, or name another one WITH into_db.")
	}
	return db, nil
}

// reuseType returns the rewrite to a type of this cluster that has the same name
// and means the same, or nil if there is none of that name.
func (p *restorePlacer) reuseType(ctx context.Context, t *catalog.Type, db, schemaID uint32, byOld map[uint32]*backuppb.Rewrite) (*backuppb.Rewrite, error) {
	id, err := storedName(ctx, p.txn, db, schemaID, t.Name())
	if err != nil || id == 0 {
		return nil, err
	}
	here, err := p.cat.TypeByID(ctx, id)
	if err != nil {
		return nil, err
	}
	if here == nil {
		return nil, nil // A table has the name; the caller reports it.
	}
	if !t.IsEnum() {
		// An array type goes with its enum.
		reused := false
		for old, rw := range byOld {
			if enum, ok := p.src.sch.byID[old].(*catalog.Type); ok && rw.ToExisting && enum.Proto().ArrayTypeId == t.ID() {
				reused = true
			}
		}
		if here.IsEnum() || !reused {
			return nil, pgerr.Newf(pgerr.DuplicateObject, "name collision for %q's array type", strings.TrimPrefix(t.Name(), "_"))
		}
	} else if !sameEnum(t.Proto(), here.Proto()) {
		return nil, pgerr.Newf(pgerr.InvalidObjectDefinition, "%q is not compatible with type %q existing in cluster", t.Name(), here.Name())
	}
	return &backuppb.Rewrite{OldId: t.ID(), NewId: id, ParentId: db, ParentSchemaId: schemaID, ToExisting: true}, nil
}
