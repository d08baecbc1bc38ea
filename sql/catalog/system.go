package catalog

import (
	"fmt"
	"strconv"

	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// RoleIDSequenceID is the descriptor id of system.role_id_seq.
const RoleIDSequenceID ID = 48

// systemTypes maps the column types of internal/systables.
var systemTypes = map[systables.Type]*types.T{
	systables.Int: types.Int, systables.Bool: types.Bool, systables.Float: types.Float, systables.String: types.String,
	systables.Bytes: types.Bytes, systables.Timestamp: types.Timestamp, systables.TimestampTZ: types.TimestampTZ,
	systables.UUID: types.Uuid, systables.Decimal: types.Decimal, systables.OID: types.Oid,
	systables.StringArray: types.StringArray,
}

// SystemTable returns the descriptor of a table of internal/systables: SQL reads
// and writes with it the very bytes that the layers below do.
func SystemTable(st *systables.Table) (*Table, error) {
	pb := &catalogpb.TableDescriptor{
		Name: st.Name, Id: st.ID, ParentId: SystemDatabaseID, UnexposedParentSchemaId: PublicSchemaID, Version: 1,
		FormatVersion: FormatVersion, NextMutationId: 1, Privileges: systemPrivileges(),
	}
	for _, c := range st.Columns {
		typ, err := MarshalType(systemTypes[c.Type])
		if err != nil {
			return nil, err
		}
		col := &catalogpb.ColumnDescriptor{Name: c.Name, Id: c.ID, Type: typ, Nullable: c.Nullable}
		if c.Default != "" {
			col.DefaultExpr = &c.Default
		}
		pb.Columns = append(pb.Columns, col)
	}
	pk := &catalogpb.IndexDescriptor{Name: st.Name + "_pkey", Id: 1, Unique: true}
	for _, p := range st.PrimaryKey {
		pk.KeyColumnNames = append(pk.KeyColumnNames, st.Columns[p].Name)
		pk.KeyColumnDirections = append(pk.KeyColumnDirections, catalogpb.Direction_ASC)
	}
	pb.PrimaryIndex = pk
	for _, x := range st.Indexes {
		ix := &catalogpb.IndexDescriptor{Name: x.Name, Id: x.ID, Version: SecondaryIndexVersion}
		for _, p := range x.Columns {
			ix.KeyColumnNames = append(ix.KeyColumnNames, st.Columns[p].Name)
			ix.KeyColumnDirections = append(ix.KeyColumnDirections, catalogpb.Direction_ASC)
		}
		for _, p := range x.Storing {
			ix.StoreColumnNames = append(ix.StoreColumnNames, st.Columns[p].Name)
		}
		pb.Indexes = append(pb.Indexes, ix)
	}
	if err := AllocateIDs(pb); err != nil {
		return nil, fmt.Errorf("system.%s: %w", st.Name, err)
	}
	return NewTable(pb)
}

func systemPrivileges() *catalogpb.PrivilegeDescriptor {
	p := &catalogpb.PrivilegeDescriptor{Owner: NodeUser, Version: currentPrivilegeVersion}
	mask := Select.Mask() | Insert.Mask() | Update.Mask() | Delete.Mask() | Backup.Mask()
	GrantPrivileges(p, AdminRole, mask, true)
	GrantPrivileges(p, RootUser, mask, true)
	return p
}

// SystemDescriptors returns the descriptors of database system and what is in it,
// by id. They are the same on every node and never change while it runs.
func SystemDescriptors() ([]Descriptor, error) {
	out := []Descriptor{
		NewDatabase(&catalogpb.DatabaseDescriptor{
			Name: SystemDatabaseName, Id: SystemDatabaseID, Version: 1, Privileges: systemPrivileges(),
			Schemas: map[string]*catalogpb.DatabaseDescriptor_SchemaInfo{PublicSchemaName: {Id: PublicSchemaID}},
		}),
		NewSchema(&catalogpb.SchemaDescriptor{
			Name: PublicSchemaName, Id: PublicSchemaID, ParentId: SystemDatabaseID, Version: 1,
			Privileges: systemSchemaPrivileges(),
		}),
	}
	for _, st := range systables.All() {
		t, err := SystemTable(st)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	seq := NewSequence("role_id_seq", RoleIDSequenceID, SystemDatabaseID, PublicSchemaID, &catalogpb.SequenceOpts{
		Increment: 1, MinValue: 100, MaxValue: 1<<31 - 1, Start: 100, CacheSize: 1,
	}, systemPrivileges())
	t, err := NewTable(seq)
	if err != nil {
		return nil, err
	}
	return append(out, t), nil
}

func systemSchemaPrivileges() *catalogpb.PrivilegeDescriptor {
	p := NewPrivileges(NodeUser)
	GrantPrivileges(p, PublicRole, Usage.Mask(), false)
	return p
}

// InitialDescriptors returns what a new store begins with: the system database,
// defaultdb and postgres, each with its schema public.
func InitialDescriptors() ([]Descriptor, error) {
	out, err := SystemDescriptors()
	if err != nil {
		return nil, err
	}
	for _, d := range []struct {
		name       string
		id, public ID
	}{{DefaultDatabaseName, DefaultDBID, DefaultDBPublicID}, {PostgresDatabaseName, PostgresDBID, PostgresPublicID}} {
		db, public := NewDatabaseDescriptors(d.name, d.id, d.public, RootUser)
		out = append(out, NewDatabase(db), NewSchema(public))
	}
	return out, nil
}

// NewDatabaseDescriptors returns the descriptors of a new database and of its
// schema public.
func NewDatabaseDescriptors(name string, id, publicID ID, owner string) (*catalogpb.DatabaseDescriptor, *catalogpb.SchemaDescriptor) {
	return &catalogpb.DatabaseDescriptor{
			Name: name, Id: id, Version: 1, Privileges: NewDatabasePrivileges(owner),
			Schemas: map[string]*catalogpb.DatabaseDescriptor_SchemaInfo{PublicSchemaName: {Id: publicID}},
		}, &catalogpb.SchemaDescriptor{
			Name: PublicSchemaName, Id: publicID, ParentId: id, Version: 1,
			Privileges: NewPublicSchemaPrivileges(owner),
		}
}

// NewSequence returns the descriptor of a sequence. Its one value column exists
// so that the sequence's key looks like a row.
func NewSequence(name string, id, db, schema ID, opts *catalogpb.SequenceOpts, privileges *catalogpb.PrivilegeDescriptor) *catalogpb.TableDescriptor {
	typ, _ := types.Int.Marshal() // A built-in type marshals.
	return &catalogpb.TableDescriptor{
		Name: name, Id: id, ParentId: db, UnexposedParentSchemaId: schema, Version: 1,
		Columns: []*catalogpb.ColumnDescriptor{{Id: 1, Name: "value", Type: typ}},
		Families: []*catalogpb.ColumnFamilyDescriptor{{
			Name: "primary", ColumnIds: []uint32{1}, ColumnNames: []string{"value"}, DefaultColumnId: 1,
		}},
		PrimaryIndex: &catalogpb.IndexDescriptor{
			Id: 1, Name: "primary", Unique: true, Version: PrimaryIndexVersion, EncodingType: catalogpb.IndexEncoding_PRIMARY_ENCODING,
			KeyColumnIds: []uint32{1}, KeyColumnNames: []string{"value"}, KeyColumnDirections: []catalogpb.Direction{catalogpb.Direction_ASC},
		},
		NextColumnId: 2, NextIndexId: 2, NextFamilyId: 1, NextMutationId: 1, NextConstraintId: 1,
		FormatVersion: FormatVersion, SequenceOpts: opts, Privileges: privileges,
	}
}

// IDCounterKey counts descriptor ids: it holds the last one handed out.
var IDCounterKey = append(append(keys.Key(nil), keys.SystemPrefix...), "desc-idgen"...)

// namespaceKey locates a name. Databases have parents (0, 0), schemas
// (database, 0).
type namespaceKey struct {
	parent, schema ID
	name           string
}

func (k namespaceKey) String() string {
	return strconv.Itoa(int(k.parent)) + "/" + strconv.Itoa(int(k.schema)) + "/" + k.name
}

func descriptorKey(id ID) (keys.Key, error) { return systables.Descriptor.Key(int64(id)) }

func (k namespaceKey) key() (keys.Key, error) {
	return systables.Namespace.Key(int64(k.parent), int64(k.schema), k.name)
}

func encodeDescriptorRow(id ID, b []byte) (keys.Key, []byte, error) {
	kvs, err := systables.Descriptor.Encode(systables.Row{int64(id), b})
	if err != nil {
		return nil, nil, err
	}
	return kvs[0].Key, kvs[0].Value, nil
}

func encodeNamespaceRow(k namespaceKey, id ID) (keys.Key, []byte, error) {
	kvs, err := systables.Namespace.Encode(systables.Row{int64(k.parent), int64(k.schema), k.name, int64(id)})
	if err != nil {
		return nil, nil, err
	}
	return kvs[0].Key, kvs[0].Value, nil
}

// DecodeDescriptorValue returns the descriptor bytes in a value of
// system.descriptor, as a backup reads them.
func DecodeDescriptorValue(key keys.Key, value []byte) (id ID, descriptor []byte, err error) {
	row, err := systables.Descriptor.Decode(key, value)
	if err != nil {
		return 0, nil, err
	}
	b, _ := row[1].([]byte)
	return ID(row[0].(int64)), b, nil
}
