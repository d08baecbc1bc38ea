package catalog

import (
	"fmt"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// Validate checks one descriptor and its references. RESTORE calls it on
// rewritten descriptors before they are written, tests on whole catalogs. An
// error has SQLSTATE XX001 and names the object and what is wrong with it.
func Validate(d Descriptor, find func(id ID) Descriptor) error {
	v := &validator{d: d, find: find}
	switch d := d.(type) {
	case *Database:
		v.database(d)
	case *Schema:
		v.parentDatabase(d.ParentID())
	case *Type:
		v.typ(d)
	case *Table:
		v.table(d)
	}
	if d.Name() == "" {
		v.fail("has no name")
	}
	if d.ID() == InvalidID {
		v.fail("has no id")
	}
	if d.Version() == 0 {
		v.fail("has no version")
	}
	return v.err
}

// ValidateAll checks descriptors that refer to each other.
func ValidateAll(all []Descriptor) error {
	byID := make(map[ID]Descriptor, len(all))
	names := make(map[namespaceKey]ID, len(all))
	for _, d := range all {
		if byID[d.ID()] != nil {
			return pgerr.Newf(pgerr.DataCorrupted, "two descriptors have id %d", d.ID())
		}
		byID[d.ID()] = d
		if d.State() == catalogpb.State_DROP {
			continue
		}
		if other, ok := names[nameOf(d)]; ok {
			return pgerr.Newf(pgerr.DataCorrupted, "descriptors %d and %d have one name, %s", other, d.ID(), nameOf(d))
		}
		names[nameOf(d)] = d.ID()
	}
	for _, d := range all {
		if d.State() == catalogpb.State_DROP {
			continue
		}
		if err := Validate(d, func(id ID) Descriptor { return byID[id] }); err != nil {
			return err
		}
	}
	return nil
}

type validator struct {
	d    Descriptor
	find Finder
	err  error
}

// fail keeps the first error.
func (v *validator) fail(format string, args ...any) {
	if v.err == nil {
		v.err = pgerr.Newf(pgerr.DataCorrupted, "%s \"%s\" (%d) %s", v.d.Kind(), v.d.Name(), v.d.ID(), fmt.Sprintf(format, args...))
	}
}

func (v *validator) parentDatabase(id ID) *Database {
	db, ok := v.find(id).(*Database)
	if !ok {
		v.fail("is in database %d, which does not exist", id)
		return nil
	}
	return db
}

func (v *validator) parentSchema(db *Database, id ID) {
	if db == nil || id == PublicSchemaID {
		return
	}
	s, ok := v.find(id).(*Schema)
	if !ok {
		v.fail("is in schema %d, which does not exist", id)
		return
	}
	if s.ParentID() != db.ID() {
		v.fail("is in schema %d of another database", id)
	}
}

func (v *validator) database(d *Database) {
	for name, s := range d.pb.Schemas {
		if s.GetDropped() || s.GetId() == PublicSchemaID {
			continue
		}
		sd, ok := v.find(s.GetId()).(*Schema)
		if !ok {
			v.fail("lists schema \"%s\" (%d), which does not exist", name, s.GetId())
			continue
		}
		if sd.Name() != name || sd.ParentID() != d.ID() {
			v.fail("lists schema \"%s\" (%d), which is \"%s\" of database %d", name, s.GetId(), sd.Name(), sd.ParentID())
		}
	}
}

func (v *validator) typ(d *Type) {
	v.parentSchema(v.parentDatabase(d.ParentID()), d.ParentSchemaID())
	seen := make(map[string]bool)
	for i, m := range d.pb.EnumMembers {
		if seen[m.LogicalRepresentation] {
			v.fail("has the value '%s' twice", m.LogicalRepresentation)
		}
		seen[m.LogicalRepresentation] = true
		if i > 0 && string(d.pb.EnumMembers[i-1].PhysicalRepresentation) >= string(m.PhysicalRepresentation) {
			v.fail("has values out of order at '%s'", m.LogicalRepresentation)
		}
	}
	if id := d.pb.ArrayTypeId; id != 0 && d.IsEnum() {
		if _, ok := v.find(id).(*Type); !ok {
			v.fail("has array type %d, which does not exist", id)
		}
	}
}

func (v *validator) table(t *Table) {
	v.parentSchema(v.parentDatabase(t.ParentID()), t.ParentSchemaID())
	v.columns(t)
	if t.HasData() {
		if t.PrimaryIndex() == nil {
			v.fail("has no primary index")
			return
		}
		v.indexes(t)
		if !t.IsSequence() {
			v.families(t)
		}
	}
	v.constraints(t)
	for _, o := range t.EnumOIDs() {
		id := ID(o - UserTypeOIDBase)
		if _, ok := v.find(id).(*Type); !ok {
			v.fail("uses type %d, which does not exist", id)
		}
	}
	for _, id := range t.pb.DependsOn {
		if _, ok := v.find(id).(*Table); !ok {
			v.fail("depends on relation %d, which does not exist", id)
		}
	}
	for _, ref := range t.pb.DependedOnBy {
		if _, ok := v.find(ref.Id).(*Table); !ok {
			v.fail("is depended on by relation %d, which does not exist", ref.Id)
		}
	}
	if o := t.pb.SequenceOpts; o != nil && o.GetOwner().GetTableId() != 0 {
		owner, ok := v.find(o.Owner.TableId).(*Table)
		if !ok {
			v.fail("is owned by table %d, which does not exist", o.Owner.TableId)
		} else if owner.ColumnByID(o.Owner.ColumnId) == nil {
			v.fail("is owned by column %d of table \"%s\", which does not exist", o.Owner.ColumnId, owner.Name())
		}
	}
}

func (v *validator) columns(t *Table) {
	names, ids := make(map[string]bool), make(map[uint32]bool)
	for _, c := range t.AllColumns() {
		if c.Name == "" || c.ID == 0 {
			v.fail("has a column without name or id")
		}
		if c.Public() && names[c.Name] {
			v.fail("has two columns \"%s\"", c.Name)
		}
		names[c.Name] = true
		if ids[c.ID] {
			v.fail("has two columns with id %d", c.ID)
		}
		ids[c.ID] = true
		if c.ID >= t.pb.NextColumnId {
			v.fail("has column %d, but hands out %d next", c.ID, t.pb.NextColumnId)
		}
		for _, id := range append(append([]uint32(nil), c.PB.UsesSequenceIds...), c.PB.OwnsSequenceIds...) {
			s, ok := v.find(id).(*Table)
			if !ok || !s.IsSequence() {
				v.fail("uses or owns sequence %d in column \"%s\", which does not exist", id, c.Name)
			}
		}
	}
}

func (v *validator) indexes(t *Table) {
	names, ids := make(map[string]bool), make(map[uint32]bool)
	for _, x := range t.Indexes() {
		if x.Name == "" || x.ID == 0 {
			v.fail("has an index without name or id")
		}
		if x.Mutation == nil && names[x.Name] {
			v.fail("has two indexes \"%s\"", x.Name)
		}
		names[x.Name] = true
		if ids[x.ID] {
			v.fail("has two indexes with id %d", x.ID)
		}
		ids[x.ID] = true
		if x.ID >= t.pb.NextIndexId {
			v.fail("has index %d, but hands out %d next", x.ID, t.pb.NextIndexId)
		}
		if len(x.KeyColumns) == 0 {
			v.fail("has index \"%s\" without columns", x.Name)
		}
		for _, id := range x.PB.StoreColumnIds {
			if t.ColumnByID(id) == nil {
				v.fail("stores column %d in index \"%s\", which does not exist", id, x.Name)
			}
		}
	}
	for _, c := range t.PrimaryIndex().KeyColumns {
		if c.Nullable {
			v.fail("has the nullable column \"%s\" in its primary key", c.Name)
		}
	}
}

func (v *validator) families(t *Table) {
	in := make(map[uint32]bool)
	hasZero := false
	for _, f := range t.Families() {
		hasZero = hasZero || f.Id == 0
		for _, id := range f.ColumnIds {
			if in[id] {
				v.fail("has column %d in two families", id)
			}
			in[id] = true
		}
	}
	if !hasZero {
		v.fail("has no column family 0")
	}
	for _, c := range t.Columns() {
		if !c.Virtual && !in[c.ID] {
			v.fail("has column \"%s\" in no family", c.Name)
		}
	}
}

func (v *validator) constraints(t *Table) {
	for _, c := range t.Checks() {
		for _, id := range c.ColumnIds {
			if t.ColumnByID(id) == nil {
				v.fail("has column %d in constraint \"%s\", which does not exist", id, c.Name)
			}
		}
	}
	matching := func(fks []*catalogpb.ForeignKeyConstraint, fk *catalogpb.ForeignKeyConstraint) bool {
		for _, o := range fks {
			if o.Name == fk.Name && o.OriginTableId == fk.OriginTableId && o.ReferencedTableId == fk.ReferencedTableId {
				return true
			}
		}
		return false
	}
	for _, fk := range t.OutboundFKs() {
		if fk.OriginTableId != t.ID() || len(fk.OriginColumnIds) == 0 || len(fk.OriginColumnIds) != len(fk.ReferencedColumnIds) {
			v.fail("has a malformed foreign key \"%s\"", fk.Name)
		}
		for _, id := range fk.OriginColumnIds {
			if t.ColumnByID(id) == nil {
				v.fail("has column %d in foreign key \"%s\", which does not exist", id, fk.Name)
			}
		}
		ref, ok := v.find(fk.ReferencedTableId).(*Table)
		if !ok {
			v.fail("refers to table %d in foreign key \"%s\", which does not exist", fk.ReferencedTableId, fk.Name)
			continue
		}
		for _, id := range fk.ReferencedColumnIds {
			if ref.ColumnByID(id) == nil {
				v.fail("refers to column %d of table \"%s\" in foreign key \"%s\", which does not exist", id, ref.Name(), fk.Name)
			}
		}
		if !matching(ref.InboundFKs(), fk) {
			v.fail("has foreign key \"%s\", which table \"%s\" knows nothing of", fk.Name, ref.Name())
		}
	}
	for _, fk := range t.InboundFKs() {
		origin, ok := v.find(fk.OriginTableId).(*Table)
		if !ok {
			v.fail("is referred to by table %d in foreign key \"%s\", which does not exist", fk.OriginTableId, fk.Name)
			continue
		}
		if !matching(origin.OutboundFKs(), fk) {
			v.fail("is referred to by foreign key \"%s\", which table \"%s\" knows nothing of", fk.Name, origin.Name())
		}
	}
}
