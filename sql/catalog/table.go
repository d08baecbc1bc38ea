package catalog

import (
	"fmt"

	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// Table is an immutable table, view or sequence descriptor with its lookups
// prepared. It is safe for concurrent use.
type Table struct {
	pb *catalogpb.TableDescriptor

	all      []*Column // public columns, then those of mutations
	public   int       // how many of all are public
	visible  []*Column
	writable []*Column

	byID   map[uint32]*Column
	byName map[string]*Column // public only

	primary   *Index
	secondary []*Index // public
	mutIdx    []*Index // being added or dropped
	enums     EnumSet
}

// Mutation says how far a column or index has come in a schema change.
type Mutation struct {
	State     catalogpb.DescriptorMutation_MutationState
	Direction catalogpb.DescriptorMutation_MutationDirection
	ID        uint32
	Rollback  bool
}

// Column is one column of a Table.
type Column struct {
	ID   uint32
	Name string
	Type *types.T
	// Ordinal is the position in Table.AllColumns; public columns come first.
	Ordinal      int
	Nullable     bool
	Hidden       bool
	Virtual      bool // computed on read, not stored
	Inaccessible bool // made for an expression index
	// DefaultExpr, ComputeExpr and OnUpdateExpr are SQL text, "" if there is none.
	DefaultExpr  string
	ComputeExpr  string
	OnUpdateExpr string
	Identity     catalogpb.IdentityType
	// Mutation is nil for public columns.
	Mutation *Mutation
	PB       *catalogpb.ColumnDescriptor
}

// HasDefault says whether the column has a DEFAULT expression.
func (c *Column) HasDefault() bool { return c.DefaultExpr != "" }

// IsComputed says whether the column is computed, stored or virtual.
func (c *Column) IsComputed() bool { return c.ComputeExpr != "" }

// Public says whether readers see the column.
func (c *Column) Public() bool { return c.Mutation == nil }

// PGAttributeNum returns the number of the column in pg_attribute.
func (c *Column) PGAttributeNum() uint32 {
	if n := c.PB.PgAttributeNum; n != 0 {
		return n
	}
	return c.ID
}

// Index is one index of a Table.
type Index struct {
	ID       uint32
	Name     string
	Unique   bool
	Primary  bool
	Inverted bool
	// KeyColumns are the indexed columns, KeyDirections their directions.
	KeyColumns    []*Column
	KeyDirections []catalogpb.Direction
	// SuffixColumns complete the key of a secondary index with the primary key
	// columns that it lacks, ascending.
	SuffixColumns []*Column
	// StoredColumns are in the value: of a secondary index those of STORING, of the
	// primary index all stored columns outside the key.
	StoredColumns []*Column
	// Predicate is SQL text; "" for a full index.
	Predicate string
	Mutation  *Mutation
	PB        *catalogpb.IndexDescriptor

	table *Table
}

// Table returns the table that the index belongs to.
func (x *Index) Table() *Table { return x.table }

// Span returns the span of the index's keys.
func (x *Index) Span() keys.Span { return keys.IndexSpan(x.table.pb.Id, x.ID) }

// Prefix returns the prefix of the index's keys.
func (x *Index) Prefix() keys.Key { return keys.IndexPrefix(x.table.pb.Id, x.ID) }

// PrimaryEncoding says whether entries are written like rows: the primary
// index, or a future or former one.
func (x *Index) PrimaryEncoding() bool {
	return x.Primary || x.PB.EncodingType == catalogpb.IndexEncoding_PRIMARY_ENCODING
}

// FullKeyColumns returns the key columns followed by the suffix columns.
func (x *Index) FullKeyColumns() []*Column {
	return append(append(make([]*Column, 0, len(x.KeyColumns)+len(x.SuffixColumns)), x.KeyColumns...), x.SuffixColumns...)
}

// NewTable wraps pb, which must not change afterwards.
func NewTable(pb *catalogpb.TableDescriptor) (*Table, error) {
	t := &Table{
		pb:     pb,
		byID:   make(map[uint32]*Column, len(pb.Columns)),
		byName: make(map[string]*Column, len(pb.Columns)),
	}
	add := func(c *catalogpb.ColumnDescriptor, m *Mutation) error {
		typ, err := UnmarshalType(c.Type)
		if err != nil {
			return pgerr.Wrapf(err, pgerr.DataCorrupted, "column %q of table %q", c.Name, pb.Name)
		}
		col := &Column{
			ID: c.Id, Name: c.Name, Type: typ, Ordinal: len(t.all),
			Nullable: c.Nullable, Hidden: c.Hidden, Virtual: c.Virtual, Inaccessible: c.Inaccessible,
			DefaultExpr: c.GetDefaultExpr(), ComputeExpr: c.GetComputeExpr(), OnUpdateExpr: c.GetOnUpdateExpr(),
			Identity: c.GeneratedAsIdentityType, Mutation: m, PB: c,
		}
		t.all = append(t.all, col)
		t.byID[c.Id] = col
		return nil
	}
	for _, c := range pb.Columns {
		if err := add(c, nil); err != nil {
			return nil, err
		}
	}
	t.public = len(t.all)
	for _, c := range t.all {
		t.byName[c.Name] = c
		if !c.Hidden && !c.Inaccessible {
			t.visible = append(t.visible, c)
		}
	}
	t.writable = append(t.writable, t.all...)
	for _, m := range pb.Mutations {
		if m.Column == nil {
			continue
		}
		if err := add(m.Column, mutation(m)); err != nil {
			return nil, err
		}
		if m.State != catalogpb.DescriptorMutation_DELETE_ONLY {
			t.writable = append(t.writable, t.all[len(t.all)-1])
		}
	}
	if pb.PrimaryIndex.GetId() != 0 {
		t.primary = t.newIndex(pb.PrimaryIndex, nil)
		t.primary.Primary = true
		if len(pb.PrimaryIndex.StoreColumnIds) == 0 {
			for _, c := range t.all {
				if !c.Virtual && !contains(pb.PrimaryIndex.KeyColumnIds, c.ID) {
					t.primary.StoredColumns = append(t.primary.StoredColumns, c)
				}
			}
		}
	}
	for _, x := range pb.Indexes {
		t.secondary = append(t.secondary, t.newIndex(x, nil))
	}
	for _, m := range pb.Mutations {
		if m.Index != nil {
			t.mutIdx = append(t.mutIdx, t.newIndex(m.Index, mutation(m)))
		}
	}
	for _, x := range t.Indexes() {
		if len(x.KeyColumns) != len(x.PB.KeyColumnIds) || len(x.SuffixColumns) != len(x.PB.KeySuffixColumnIds) {
			return nil, pgerr.Newf(pgerr.DataCorrupted, "index %q of table %q names a column that does not exist", x.Name, pb.Name)
		}
	}
	return t, nil
}

func mutation(m *catalogpb.DescriptorMutation) *Mutation {
	return &Mutation{State: m.State, Direction: m.Direction, ID: m.MutationId, Rollback: m.Rollback}
}

func (t *Table) newIndex(pb *catalogpb.IndexDescriptor, m *Mutation) *Index {
	x := &Index{
		ID: pb.Id, Name: pb.Name, Unique: pb.Unique, Inverted: pb.Type == catalogpb.IndexType_INVERTED,
		Predicate: pb.Predicate, Mutation: m, PB: pb, table: t,
		KeyColumns:    t.columnsByID(pb.KeyColumnIds),
		SuffixColumns: t.columnsByID(pb.KeySuffixColumnIds),
		StoredColumns: t.columnsByID(pb.StoreColumnIds),
		KeyDirections: pb.KeyColumnDirections,
	}
	for len(x.KeyDirections) < len(x.KeyColumns) {
		x.KeyDirections = append(x.KeyDirections[:len(x.KeyDirections):len(x.KeyDirections)], catalogpb.Direction_ASC)
	}
	return x
}

func (t *Table) columnsByID(ids []uint32) []*Column {
	out := make([]*Column, 0, len(ids))
	for _, id := range ids {
		if c := t.byID[id]; c != nil {
			out = append(out, c)
		}
	}
	return out
}

func contains(ids []uint32, id uint32) bool {
	for _, v := range ids {
		if v == id {
			return true
		}
	}
	return false
}

func (t *Table) ID() ID                                     { return t.pb.Id }
func (t *Table) Name() string                               { return t.pb.Name }
func (t *Table) Kind() Kind                                 { return TableKind }
func (t *Table) ParentID() ID                               { return t.pb.ParentId }
func (t *Table) Version() uint64                            { return t.pb.Version }
func (t *Table) ModificationTime() hlc.Timestamp            { return timestamp(t.pb.ModificationTime) }
func (t *Table) State() catalogpb.State                     { return t.pb.State }
func (t *Table) OfflineReason() string                      { return t.pb.OfflineReason }
func (t *Table) Privileges() *catalogpb.PrivilegeDescriptor { return t.pb.Privileges }

// ParentSchemaID is the schema's id. Old descriptors leave it out for public.
func (t *Table) ParentSchemaID() ID {
	if t.pb.UnexposedParentSchemaId == 0 {
		return PublicSchemaID
	}
	return t.pb.UnexposedParentSchemaId
}

// Message returns the descriptor message.
func (t *Table) Message() *catalogpb.Descriptor {
	return &catalogpb.Descriptor{Union: &catalogpb.Descriptor_Table{Table: t.pb}}
}

// Proto returns the shared message: clone before changing.
func (t *Table) Proto() *catalogpb.TableDescriptor { return t.pb }

// Mutable returns a deep copy of the message, for changing.
func (t *Table) Mutable() *catalogpb.TableDescriptor { return proto.CloneOf(t.pb) }

// IsView says whether this is a view, materialized or not.
func (t *Table) IsView() bool { return t.pb.ViewQuery != "" }

// IsMaterializedView says whether this is a view whose rows are stored.
func (t *Table) IsMaterializedView() bool { return t.pb.IsMaterializedView }

// IsSequence says whether this is a sequence.
func (t *Table) IsSequence() bool { return t.pb.SequenceOpts != nil }

// IsTable says whether this is a table proper: rows and nothing else.
func (t *Table) IsTable() bool { return !t.IsView() && !t.IsSequence() }

// HasData says whether keys exist for this object.
func (t *Table) HasData() bool { return !t.IsView() || t.pb.IsMaterializedView }

// Columns returns the public columns in order, hidden ones included.
func (t *Table) Columns() []*Column { return t.all[:t.public:t.public] }

// VisibleColumns returns what SELECT * shows.
func (t *Table) VisibleColumns() []*Column { return t.visible }

// AllColumns returns the public columns and then those being added or dropped.
func (t *Table) AllColumns() []*Column { return t.all }

// WritableColumns returns the columns that INSERT and UPDATE must write: the
// public ones and those of schema changes past delete-only.
func (t *Table) WritableColumns() []*Column { return t.writable }

// ColumnByID returns a column, public or not, or nil.
func (t *Table) ColumnByID(id uint32) *Column { return t.byID[id] }

// ColumnByName returns a public column, or nil.
func (t *Table) ColumnByName(name string) *Column { return t.byName[name] }

// MustColumn returns a public column or the error that PostgreSQL gives.
func (t *Table) MustColumn(name string) (*Column, error) {
	if c := t.byName[name]; c != nil {
		return c, nil
	}
	return nil, pgerr.Newf(pgerr.UndefinedColumn, "column \"%s\" of relation \"%s\" does not exist", name, t.pb.Name)
}

// PrimaryIndex returns the primary index; nil for views.
func (t *Table) PrimaryIndex() *Index { return t.primary }

// SecondaryIndexes returns the public secondary indexes.
func (t *Table) SecondaryIndexes() []*Index { return t.secondary }

// PublicIndexes returns the primary index and the public secondary ones.
func (t *Table) PublicIndexes() []*Index {
	if t.primary == nil {
		return nil
	}
	return append([]*Index{t.primary}, t.secondary...)
}

// Indexes returns all indexes: primary, public, and those of schema changes.
func (t *Table) Indexes() []*Index { return append(t.PublicIndexes(), t.mutIdx...) }

// WritableIndexes returns the secondary indexes that must receive new entries.
func (t *Table) WritableIndexes() []*Index {
	out := t.secondary[:len(t.secondary):len(t.secondary)]
	for _, x := range t.mutIdx {
		if x.Mutation.State == catalogpb.DescriptorMutation_WRITE_ONLY || x.Mutation.State == catalogpb.DescriptorMutation_MERGING {
			out = append(out, x)
		}
	}
	return out
}

// DeletableIndexes returns the secondary indexes whose entries must be deleted
// with their rows: the writable ones and the delete-only ones.
func (t *Table) DeletableIndexes() []*Index {
	return append(t.secondary[:len(t.secondary):len(t.secondary)], t.mutIdx...)
}

// IndexByID returns an index, public or not, or nil.
func (t *Table) IndexByID(id uint32) *Index {
	for _, x := range t.Indexes() {
		if x.ID == id {
			return x
		}
	}
	return nil
}

// IndexByName returns a public index, or nil.
func (t *Table) IndexByName(name string) *Index {
	for _, x := range t.PublicIndexes() {
		if x.Name == name {
			return x
		}
	}
	return nil
}

// HasImplicitPrimaryKey says whether the primary key is the hidden rowid
// because the table was made without one.
func (t *Table) HasImplicitPrimaryKey() bool {
	return t.primary != nil && len(t.primary.KeyColumns) == 1 && t.primary.KeyColumns[0].Hidden &&
		t.primary.KeyColumns[0].DefaultExpr == "unique_rowid()"
}

// Families returns the column families.
func (t *Table) Families() []*catalogpb.ColumnFamilyDescriptor { return t.pb.Families }

// OutboundFKs returns the foreign keys of this table.
func (t *Table) OutboundFKs() []*catalogpb.ForeignKeyConstraint { return t.pb.OutboundFks }

// InboundFKs returns the foreign keys that refer to this table.
func (t *Table) InboundFKs() []*catalogpb.ForeignKeyConstraint { return t.pb.InboundFks }

// Checks returns the check constraints.
func (t *Table) Checks() []*catalogpb.CheckConstraint { return t.pb.Checks }

// Span returns the span of all keys of the table.
func (t *Table) Span() keys.Span { return keys.TableSpan(t.pb.Id) }

// Enums returns the enums that the table's columns use, once hydrated.
func (t *Table) Enums() EnumSet { return t.enums }

// EnumOIDs returns the OIDs of the enums that the table's columns use.
func (t *Table) EnumOIDs() []uint32 {
	var out []uint32
	for _, c := range t.all {
		for _, o := range UserTypeOIDs(c.Type) {
			if !contains(out, uint32(o)) {
				out = append(out, uint32(o))
			}
		}
	}
	return out
}

// WithEnums returns a copy of t that knows the enums its columns use. Rows of a
// table that uses enums can only be read and written with them.
func (t *Table) WithEnums(enums EnumSet) *Table {
	if len(enums) == 0 {
		return t
	}
	u := *t
	u.enums = enums
	u.primary = reparent(&u, t.primary)
	u.secondary = reparentAll(&u, t.secondary)
	u.mutIdx = reparentAll(&u, t.mutIdx)
	return &u
}

func reparent(t *Table, x *Index) *Index {
	if x == nil {
		return nil
	}
	y := *x
	y.table = t
	return &y
}

func reparentAll(t *Table, xs []*Index) []*Index {
	out := make([]*Index, len(xs))
	for i, x := range xs {
		out[i] = reparent(t, x)
	}
	return out
}

func (t *Table) String() string {
	return fmt.Sprintf("%s (%d, version %d)", t.pb.Name, t.pb.Id, t.pb.Version)
}
