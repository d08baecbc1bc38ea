package catalog

import (
	"fmt"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// Versions that new descriptors are written with.
const (
	FormatVersion         = 3
	PrimaryIndexVersion   = 4
	SecondaryIndexVersion = 4
)

// AllocateIDs completes a table descriptor that names columns but lacks ids: it
// gives ids to columns, families, indexes and constraints by counters that never
// go back, fills the column ids of indexes from their names, puts columns
// without a family into one, adds the suffix of secondary indexes, and lists the
// columns that need composite copies. What has an id keeps it, so it also serves
// after ALTER TABLE. A table without a primary index gets a hidden rowid.
func AllocateIDs(d *catalogpb.TableDescriptor) error {
	if d.FormatVersion == 0 {
		d.FormatVersion = FormatVersion
	}
	d.NextColumnId = max(d.NextColumnId, 1)
	d.NextIndexId = max(d.NextIndexId, 1)
	d.NextConstraintId = max(d.NextConstraintId, 1)
	d.NextMutationId = max(d.NextMutationId, 1)
	if d.ViewQuery != "" && !d.IsMaterializedView {
		allocateColumns(d)
		return nil
	}
	ensurePrimaryKey(d)
	allocateColumns(d)
	byName := make(map[string]*catalogpb.ColumnDescriptor)
	for _, c := range tableColumns(d) {
		byName[c.Name] = c
	}
	if err := allocatePrimary(d, byName); err != nil {
		return err
	}
	for _, x := range secondaryIndexes(d) {
		if err := allocateIndex(d, x, byName); err != nil {
			return err
		}
	}
	if err := allocateFamilies(d, byName); err != nil {
		return err
	}
	setPrimaryStored(d)
	allocateConstraints(d)
	return nil
}

// tableColumns returns all columns, those of mutations included.
func tableColumns(d *catalogpb.TableDescriptor) []*catalogpb.ColumnDescriptor {
	out := d.Columns[:len(d.Columns):len(d.Columns)]
	for _, m := range d.Mutations {
		if m.Column != nil {
			out = append(out, m.Column)
		}
	}
	return out
}

func secondaryIndexes(d *catalogpb.TableDescriptor) []*catalogpb.IndexDescriptor {
	out := d.Indexes[:len(d.Indexes):len(d.Indexes)]
	for _, m := range d.Mutations {
		if m.Index != nil {
			out = append(out, m.Index)
		}
	}
	return out
}

func allocateColumns(d *catalogpb.TableDescriptor) {
	for _, c := range tableColumns(d) {
		d.NextColumnId = max(d.NextColumnId, c.Id+1)
	}
	for _, c := range tableColumns(d) {
		if c.Id == 0 {
			c.Id = d.NextColumnId
			d.NextColumnId++
		}
	}
}

// RowIDColumnName is the name of the hidden primary key column.
const RowIDColumnName = "rowid"

func ensurePrimaryKey(d *catalogpb.TableDescriptor) {
	if d.PrimaryIndex != nil && (len(d.PrimaryIndex.KeyColumnNames) > 0 || len(d.PrimaryIndex.KeyColumnIds) > 0) {
		return
	}
	name := RowIDColumnName
	taken := func(n string) bool {
		for _, c := range tableColumns(d) {
			if c.Name == n {
				return true
			}
		}
		return false
	}
	for i := 1; taken(name); i++ {
		name = fmt.Sprintf("%s_%d", RowIDColumnName, i)
	}
	typ, _ := types.Int.Marshal() // A built-in type marshals.
	def := "unique_rowid()"
	d.Columns = append(d.Columns, &catalogpb.ColumnDescriptor{Name: name, Type: typ, Hidden: true, DefaultExpr: &def})
	d.PrimaryIndex = &catalogpb.IndexDescriptor{
		Name: d.Name + "_pkey", Unique: true, KeyColumnNames: []string{name},
		KeyColumnDirections: []catalogpb.Direction{catalogpb.Direction_ASC},
	}
}

func columnIDs(byName map[string]*catalogpb.ColumnDescriptor, names []string) ([]uint32, error) {
	out := make([]uint32, len(names))
	for i, n := range names {
		c := byName[n]
		if c == nil {
			return nil, pgerr.Newf(pgerr.UndefinedColumn, "column \"%s\" named in key does not exist", n)
		}
		out[i] = c.Id
	}
	return out, nil
}

func allocatePrimary(d *catalogpb.TableDescriptor, byName map[string]*catalogpb.ColumnDescriptor) (err error) {
	x := d.PrimaryIndex
	x.Unique = true
	x.EncodingType = catalogpb.IndexEncoding_PRIMARY_ENCODING
	if x.Id == 0 {
		x.Id = d.NextIndexId
	}
	if len(x.KeyColumnIds) == 0 {
		x.Version = PrimaryIndexVersion
	}
	d.NextIndexId = max(d.NextIndexId, x.Id+1)
	if len(x.KeyColumnIds) == 0 {
		if x.KeyColumnIds, err = columnIDs(byName, x.KeyColumnNames); err != nil {
			return err
		}
	}
	fillDirections(x)
	for _, n := range x.KeyColumnNames {
		if c := byName[n]; c != nil {
			c.Nullable = false
		}
	}
	x.CompositeColumnIds, err = compositeIDs(byName, x.KeyColumnIds)
	return err
}

func fillDirections(x *catalogpb.IndexDescriptor) {
	for len(x.KeyColumnDirections) < len(x.KeyColumnIds) {
		x.KeyColumnDirections = append(x.KeyColumnDirections, catalogpb.Direction_ASC)
	}
}

func allocateIndex(d *catalogpb.TableDescriptor, x *catalogpb.IndexDescriptor, byName map[string]*catalogpb.ColumnDescriptor) (err error) {
	// An index that names columns only is new, even when its id was chosen.
	isNew := len(x.KeyColumnIds) == 0
	if x.Id == 0 {
		x.Id = d.NextIndexId
	}
	if isNew && x.Version == 0 {
		x.Version = SecondaryIndexVersion
	}
	d.NextIndexId = max(d.NextIndexId, x.Id+1)
	if len(x.KeyColumnIds) == 0 {
		if x.KeyColumnIds, err = columnIDs(byName, x.KeyColumnNames); err != nil {
			return err
		}
	}
	fillDirections(x)
	if isNew && x.EncodingType == catalogpb.IndexEncoding_SECONDARY_ENCODING {
		x.KeySuffixColumnIds = nil
		for _, id := range d.PrimaryIndex.KeyColumnIds {
			if !contains(x.KeyColumnIds, id) {
				x.KeySuffixColumnIds = append(x.KeySuffixColumnIds, id)
			}
		}
		if x.Type == catalogpb.IndexType_INVERTED && len(x.KeyColumnIds) > 0 {
			// The inverted column is in the key only as its elements.
			last := x.KeyColumnIds[len(x.KeyColumnIds)-1]
			if contains(d.PrimaryIndex.KeyColumnIds, last) {
				x.KeySuffixColumnIds = append(x.KeySuffixColumnIds, last)
			}
		}
		// Columns of the key or of the primary key need not be stored.
		ids, err := columnIDs(byName, x.StoreColumnNames)
		if err != nil {
			return err
		}
		var names []string
		x.StoreColumnIds = nil
		for i, id := range ids {
			if contains(x.KeyColumnIds, id) || contains(x.KeySuffixColumnIds, id) || contains(x.StoreColumnIds, id) {
				continue
			}
			x.StoreColumnIds = append(x.StoreColumnIds, id)
			names = append(names, x.StoreColumnNames[i])
		}
		x.StoreColumnNames = names
	}
	if isNew && x.Type != catalogpb.IndexType_INVERTED {
		full := append(append([]uint32(nil), x.KeyColumnIds...), x.KeySuffixColumnIds...)
		x.CompositeColumnIds, err = compositeIDs(byName, full)
	}
	return err
}

// compositeIDs returns those of ids whose type cannot always be read back from a
// key.
func compositeIDs(byName map[string]*catalogpb.ColumnDescriptor, ids []uint32) ([]uint32, error) {
	var out []uint32
	for _, id := range ids {
		for _, c := range byName {
			if c.Id != id {
				continue
			}
			t, err := UnmarshalType(c.Type)
			if err != nil {
				return nil, err
			}
			if isCompositeType(t) {
				out = append(out, id)
			}
		}
	}
	return out, nil
}

func isCompositeType(t *types.T) bool {
	switch t.Family() {
	case types.CollatedStringFamily:
		_, enum := EnumOID(t)
		return !enum
	case types.DecimalFamily, types.FloatFamily, types.JsonFamily:
		return true
	case types.ArrayFamily:
		return isCompositeType(t.ArrayContents())
	}
	return false
}

// allocateFamilies puts every stored column into a family: the first one, unless
// FAMILY said otherwise.
func allocateFamilies(d *catalogpb.TableDescriptor, byName map[string]*catalogpb.ColumnDescriptor) error {
	if len(d.Families) == 0 {
		d.Families = []*catalogpb.ColumnFamilyDescriptor{{Name: "primary", Id: 0}}
		d.NextFamilyId = max(d.NextFamilyId, 1)
	}
	inFamily := make(map[uint32]bool)
	names := make(map[string]bool)
	for i, f := range d.Families {
		if f.Id == 0 && i > 0 {
			f.Id = max(d.NextFamilyId, 1)
		}
		d.NextFamilyId = max(d.NextFamilyId, f.Id+1)
		ids, err := columnIDs(byName, f.ColumnNames)
		if err != nil {
			return err
		}
		if len(f.ColumnNames) > 0 {
			f.ColumnIds = ids
		}
		if f.Name == "" {
			f.Name = fmt.Sprintf("fam_%d_%s", f.Id, strings.Join(f.ColumnNames, "_"))
		}
		if names[f.Name] {
			return pgerr.Newf(pgerr.DuplicateObject, "duplicate family name: \"%s\"", f.Name)
		}
		names[f.Name] = true
		for _, id := range f.ColumnIds {
			if inFamily[id] {
				return pgerr.Newf(pgerr.InvalidTableDefinition, "column %d is in two families", id)
			}
			inFamily[id] = true
		}
	}
	first := d.Families[0]
	for _, c := range tableColumns(d) {
		if c.Virtual || inFamily[c.Id] {
			continue
		}
		first.ColumnIds = append(first.ColumnIds, c.Id)
		first.ColumnNames = append(first.ColumnNames, c.Name)
	}
	for _, f := range d.Families {
		// A family of one column outside the key stores it bare.
		f.DefaultColumnId = 0
		n := 0
		for _, id := range f.ColumnIds {
			if !contains(d.PrimaryIndex.KeyColumnIds, id) {
				f.DefaultColumnId, n = id, n+1
			}
		}
		if n != 1 {
			f.DefaultColumnId = 0
		}
	}
	return nil
}

// setPrimaryStored lists all value columns of the primary index.
func setPrimaryStored(d *catalogpb.TableDescriptor) {
	x := d.PrimaryIndex
	x.StoreColumnIds, x.StoreColumnNames = nil, nil
	for _, c := range d.Columns {
		if !c.Virtual && !contains(x.KeyColumnIds, c.Id) {
			x.StoreColumnIds = append(x.StoreColumnIds, c.Id)
			x.StoreColumnNames = append(x.StoreColumnNames, c.Name)
		}
	}
	// Columns being added are written, so they have a place too.
	for _, m := range d.Mutations {
		if c := m.Column; c != nil && !c.Virtual && !contains(x.KeyColumnIds, c.Id) {
			x.StoreColumnIds = append(x.StoreColumnIds, c.Id)
			x.StoreColumnNames = append(x.StoreColumnNames, c.Name)
		}
	}
}

func allocateConstraints(d *catalogpb.TableDescriptor) {
	next := func(id *uint32) {
		if *id != 0 {
			d.NextConstraintId = max(d.NextConstraintId, *id+1)
			return
		}
		*id = d.NextConstraintId
		d.NextConstraintId++
	}
	// First those that have an id, so that a new one never takes theirs.
	for pass := 0; pass < 2; pass++ {
		visit := func(id *uint32) {
			if (*id != 0) == (pass == 0) {
				next(id)
			}
		}
		visit(&d.PrimaryIndex.ConstraintId)
		for _, x := range secondaryIndexes(d) {
			if x.Unique {
				visit(&x.ConstraintId)
			}
		}
		for _, c := range d.Checks {
			visit(&c.ConstraintId)
		}
		for _, f := range d.OutboundFks {
			visit(&f.ConstraintId)
		}
		for _, u := range d.UniqueWithoutIndexConstraints {
			visit(&u.ConstraintId)
		}
	}
}
