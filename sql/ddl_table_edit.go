package sql

import (
	"slices"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// The functions of this file edit the message of a table descriptor. They keep
// what the row encoding relies on: ids are given by counters that never go back,
// every column is in one family, and secondary indexes end in the primary key.

const (
	primaryFamilyName = "primary"
	indexVersion      = 4 // see docs/format
	rowidColumn       = "rowid"
)

// newTableDesc returns the message of a relation without columns.
func newTableDesc(id, db, schema catalog.ID, name string, privs *catalogpb.PrivilegeDescriptor) *catalogpb.TableDescriptor {
	return &catalogpb.TableDescriptor{
		Id: id, ParentId: db, UnexposedParentSchemaId: schema, Name: name,
		Version: 1, FormatVersion: 3, Privileges: privs,
		NextColumnId: 1, NextIndexId: 1, NextFamilyId: 0, NextMutationId: 1, NextConstraintId: 1,
	}
}

// addColumn appends a public column.
func addColumn(pb *catalogpb.TableDescriptor, col *catalogpb.ColumnDescriptor) (*catalogpb.ColumnDescriptor, error) {
	if findColumn(pb, col.Name) != nil {
		return nil, pgerr.Newf(pgerr.DuplicateColumn, "column \"%s\" of relation \"%s\" already exists", col.Name, pb.Name)
	}
	col.Id = pb.NextColumnId
	col.PgAttributeNum = col.Id
	pb.NextColumnId++
	pb.Columns = append(pb.Columns, col)
	return col, nil
}

// findColumn returns a public column by name, or nil.
func findColumn(pb *catalogpb.TableDescriptor, name string) *catalogpb.ColumnDescriptor {
	for _, c := range pb.Columns {
		if c.Name == name {
			return c
		}
	}
	return nil
}

func findColumnByID(pb *catalogpb.TableDescriptor, id uint32) *catalogpb.ColumnDescriptor {
	for _, c := range pb.Columns {
		if c.Id == id {
			return c
		}
	}
	return nil
}

// mustFindColumn is findColumn with PostgreSQL's error.
func mustFindColumn(pb *catalogpb.TableDescriptor, name string) (*catalogpb.ColumnDescriptor, error) {
	if c := findColumn(pb, name); c != nil {
		return c, nil
	}
	return nil, pgerr.Newf(pgerr.UndefinedColumn, "column \"%s\" of relation \"%s\" does not exist", name, pb.Name)
}

// namesOfColumns maps ids to names.
func namesOfColumns(pb *catalogpb.TableDescriptor, ids []uint32) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		if c := findColumnByID(pb, id); c != nil {
			out[i] = c.Name
		}
	}
	return out
}

// addToFamily puts a column into a family: the named one, or the first.
func addToFamily(pb *catalogpb.TableDescriptor, col *catalogpb.ColumnDescriptor, family string, create, ifNotExists bool) error {
	if col.Virtual {
		return nil
	}
	for _, f := range pb.Families {
		if f.Name == family && create && !ifNotExists {
			return pgerr.Newf(pgerr.DuplicateObject, "family \"%s\" already exists", family)
		}
		if f.Name == family || (family == "" && !create && f.Id == 0) {
			f.ColumnIds = append(f.ColumnIds, col.Id)
			f.ColumnNames = append(f.ColumnNames, col.Name)
			return nil
		}
	}
	if family != "" && !create && len(pb.Families) > 0 {
		return pgerr.Newf(pgerr.UndefinedObject, "unknown family \"%s\"", family)
	}
	if family == "" {
		family = primaryFamilyName
		if create && len(pb.Families) > 0 {
			family = chooseFamilyName(pb, col.Name)
		}
	}
	pb.Families = append(pb.Families, &catalogpb.ColumnFamilyDescriptor{
		Name: family, Id: pb.NextFamilyId, ColumnIds: []uint32{col.Id}, ColumnNames: []string{col.Name},
	})
	pb.NextFamilyId++
	return nil
}

func chooseFamilyName(pb *catalogpb.TableDescriptor, col string) string {
	return freeName("fam", col, "family", func(n string) bool {
		return slices.ContainsFunc(pb.Families, func(f *catalogpb.ColumnFamilyDescriptor) bool { return f.Name == n })
	})
}

// newIndexDesc returns the message of an index with a fresh id. Its suffix and
// composite columns are filled by finishIndexes.
func newIndexDesc(pb *catalogpb.TableDescriptor, name string, unique bool, cols []*catalogpb.ColumnDescriptor,
	dirs []catalogpb.Direction, storing []*catalogpb.ColumnDescriptor) *catalogpb.IndexDescriptor {
	x := &catalogpb.IndexDescriptor{
		Name: name, Id: pb.NextIndexId, Unique: unique, Version: indexVersion, KeyColumnDirections: dirs,
		CreatedAtNanos: time.Now().UnixNano(),
	}
	pb.NextIndexId++
	for _, c := range cols {
		x.KeyColumnIds = append(x.KeyColumnIds, c.Id)
		x.KeyColumnNames = append(x.KeyColumnNames, c.Name)
	}
	for _, c := range storing {
		x.StoreColumnIds = append(x.StoreColumnIds, c.Id)
		x.StoreColumnNames = append(x.StoreColumnNames, c.Name)
	}
	if unique {
		x.ConstraintId = nextConstraintID(pb)
	}
	return x
}

func nextConstraintID(pb *catalogpb.TableDescriptor) uint32 {
	if pb.NextConstraintId == 0 {
		pb.NextConstraintId = 1
	}
	id := pb.NextConstraintId
	pb.NextConstraintId++
	return id
}

// ensurePrimaryKey gives a table without a primary key the hidden rowid.
func ensurePrimaryKey(pb *catalogpb.TableDescriptor) error {
	if pb.PrimaryIndex != nil {
		return nil
	}
	name := rowidColumn
	for i := 1; findColumn(pb, name) != nil; i++ {
		name = rowidColumn + "_" + string(rune('0'+i%10))
	}
	typ, err := catalog.MarshalType(types.Int)
	if err != nil {
		return err
	}
	def := "unique_rowid()"
	col, err := addColumn(pb, &catalogpb.ColumnDescriptor{Name: name, Type: typ, DefaultExpr: &def, Hidden: true})
	if err != nil {
		return err
	}
	if err := addToFamily(pb, col, "", false, false); err != nil {
		return err
	}
	pb.PrimaryIndex = newIndexDesc(pb, chooseConstraintName(pb, nil, "pkey"), true,
		[]*catalogpb.ColumnDescriptor{col}, []catalogpb.Direction{catalogpb.Direction_ASC}, nil)
	return nil
}

// finishIndexes computes what follows from the columns of the indexes: stored
// columns of the primary index, key suffixes, composite columns, names, and the
// default columns of families. It may be called after every edit.
func finishIndexes(pb *catalogpb.TableDescriptor) error {
	composite := map[uint32]bool{}
	virtual := map[uint32]bool{}
	all := slices.Clone(pb.Columns)
	for _, m := range pb.Mutations {
		if m.Column != nil {
			all = append(all, m.Column)
		}
	}
	names := map[uint32]string{}
	for _, c := range all {
		t, err := catalog.UnmarshalType(c.Type)
		if err != nil {
			return err
		}
		composite[c.Id] = isCompositeType(t)
		virtual[c.Id] = c.Virtual
		names[c.Id] = c.Name
	}
	rename := func(ids []uint32) []string {
		out := make([]string, len(ids))
		for i, id := range ids {
			out[i] = names[id]
		}
		return out
	}
	if pb.PrimaryIndex == nil {
		return nil
	}
	primaryLike := func(x *catalogpb.IndexDescriptor) {
		x.EncodingType, x.Unique, x.Version = catalogpb.IndexEncoding_PRIMARY_ENCODING, true, indexVersion
		x.StoreColumnIds = nil
		for _, c := range all {
			if !virtual[c.Id] && !slices.Contains(x.KeyColumnIds, c.Id) {
				x.StoreColumnIds = append(x.StoreColumnIds, c.Id)
			}
		}
	}
	finish := func(x *catalogpb.IndexDescriptor) {
		x.CompositeColumnIds = nil
		for _, id := range append(slices.Clone(x.KeyColumnIds), x.KeySuffixColumnIds...) {
			if composite[id] {
				x.CompositeColumnIds = append(x.CompositeColumnIds, id)
			}
		}
		x.KeyColumnNames, x.StoreColumnNames = rename(x.KeyColumnIds), rename(x.StoreColumnIds)
	}
	pk := pb.PrimaryIndex
	primaryLike(pk)
	finish(pk)
	secondary := slices.Clone(pb.Indexes)
	for _, m := range pb.Mutations {
		if m.Index != nil {
			secondary = append(secondary, m.Index)
		}
	}
	for _, x := range secondary {
		if x.EncodingType == catalogpb.IndexEncoding_PRIMARY_ENCODING {
			primaryLike(x)
		} else {
			x.KeySuffixColumnIds = nil
			for _, id := range pk.KeyColumnIds {
				if !slices.Contains(x.KeyColumnIds, id) {
					x.KeySuffixColumnIds = append(x.KeySuffixColumnIds, id)
				}
			}
			// A primary key column needs no second copy.
			x.StoreColumnIds = slices.DeleteFunc(x.StoreColumnIds, func(id uint32) bool {
				return slices.Contains(x.KeyColumnIds, id) || slices.Contains(x.KeySuffixColumnIds, id)
			})
		}
		finish(x)
	}
	for _, f := range pb.Families {
		f.ColumnNames = rename(f.ColumnIds)
		f.DefaultColumnId = 0
		var values []uint32
		for _, id := range f.ColumnIds {
			if !slices.Contains(pk.KeyColumnIds, id) {
				values = append(values, id)
			}
		}
		if len(values) == 1 {
			f.DefaultColumnId = values[0]
		}
	}
	return nil
}

// isCompositeType says whether key encodings of t may have to be stored a second
// time as values.
func isCompositeType(t *types.T) bool {
	switch t.Family() {
	case types.DecimalFamily, types.FloatFamily, types.JsonFamily:
		return true
	case types.CollatedStringFamily:
		_, enum := catalog.EnumOID(t)
		return !enum
	case types.ArrayFamily:
		return isCompositeType(t.ArrayContents())
	}
	return false
}

// removeColumn deletes a public column and its place in its family. Indexes and
// constraints that use it must be gone.
func removeColumn(pb *catalogpb.TableDescriptor, id uint32) {
	pb.Columns = slices.DeleteFunc(pb.Columns, func(c *catalogpb.ColumnDescriptor) bool { return c.Id == id })
	for _, f := range pb.Families {
		f.ColumnIds = slices.DeleteFunc(f.ColumnIds, func(c uint32) bool { return c == id })
	}
	pb.Families = slices.DeleteFunc(pb.Families, func(f *catalogpb.ColumnFamilyDescriptor) bool {
		return f.Id != 0 && len(f.ColumnIds) == 0
	})
}

// allIndexes returns the primary and the public secondary indexes.
func allIndexes(pb *catalogpb.TableDescriptor) []*catalogpb.IndexDescriptor {
	if pb.PrimaryIndex == nil {
		return nil
	}
	return append([]*catalogpb.IndexDescriptor{pb.PrimaryIndex}, pb.Indexes...)
}

func findIndex(pb *catalogpb.TableDescriptor, name string) *catalogpb.IndexDescriptor {
	for _, x := range allIndexes(pb) {
		if x.Name == name {
			return x
		}
	}
	return nil
}

// isUniqueConstraint says whether an index came from a UNIQUE constraint rather
// than from CREATE UNIQUE INDEX.
func isUniqueConstraint(x *catalogpb.IndexDescriptor) bool { return x.Unique && !x.CreatedExplicitly }

// hasHiddenPrimaryKey says whether the table was made without a primary key.
func hasHiddenPrimaryKey(pb *catalogpb.TableDescriptor) bool {
	if pb.PrimaryIndex == nil || len(pb.PrimaryIndex.KeyColumnIds) != 1 {
		return false
	}
	c := findColumnByID(pb, pb.PrimaryIndex.KeyColumnIds[0])
	return c != nil && c.Hidden && c.GetDefaultExpr() == "unique_rowid()"
}
