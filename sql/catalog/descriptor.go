package catalog

import (
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"

	"google.golang.org/protobuf/proto"
)

// Kind says what a descriptor describes.
type Kind int

// The kinds of descriptors.
const (
	DatabaseKind Kind = iota
	SchemaKind
	TableKind // also views and sequences
	TypeKind
)

func (k Kind) String() string { return [...]string{"database", "schema", "table", "type"}[k] }

// Descriptor is what all descriptors have in common. Implementations are
// immutable and safe for concurrent use.
type Descriptor interface {
	ID() ID
	Name() string
	Kind() Kind
	// ParentID is the database's id; 0 for databases.
	ParentID() ID
	// ParentSchemaID is the schema's id; 0 for databases and schemas.
	ParentSchemaID() ID
	Version() uint64
	ModificationTime() hlc.Timestamp
	State() catalogpb.State
	OfflineReason() string
	Privileges() *catalogpb.PrivilegeDescriptor
	// Message returns the descriptor's message. It is shared: clone before changing.
	Message() *catalogpb.Descriptor
}

// New wraps a descriptor message as it was stored. Column types are decoded, so
// a type that is not supported is an error here.
func New(d *catalogpb.Descriptor) (Descriptor, error) {
	switch u := d.GetUnion().(type) {
	case *catalogpb.Descriptor_Database:
		return NewDatabase(u.Database), nil
	case *catalogpb.Descriptor_Schema:
		return NewSchema(u.Schema), nil
	case *catalogpb.Descriptor_Table:
		return NewTable(u.Table)
	case *catalogpb.Descriptor_Type:
		return NewType(u.Type), nil
	case *catalogpb.Descriptor_Function:
		return nil, pgerr.Newf(pgerr.FeatureNotSupported, "function %q: functions are not supported", u.Function.GetName())
	}
	return nil, pgerr.New(pgerr.DataCorrupted, "empty descriptor")
}

// Unmarshal decodes the bytes of system.descriptor.
func Unmarshal(b []byte) (Descriptor, error) {
	var d catalogpb.Descriptor
	if err := proto.Unmarshal(b, &d); err != nil {
		return nil, pgerr.Newf(pgerr.DataCorrupted, "decoding descriptor: %w", err)
	}
	return New(&d)
}

// Marshal encodes d for system.descriptor.
func Marshal(d Descriptor) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(d.Message())
}

func timestamp(t *catalogpb.Timestamp) hlc.Timestamp {
	return hlc.Timestamp{WallTime: t.GetWallTime(), Logical: t.GetLogical()}
}

// TimestampPB converts for storing in a descriptor.
func TimestampPB(t hlc.Timestamp) *catalogpb.Timestamp {
	return &catalogpb.Timestamp{WallTime: t.WallTime, Logical: t.Logical}
}

// TimestampFromPB is the inverse of TimestampPB; nil is the zero timestamp.
func TimestampFromPB(t *catalogpb.Timestamp) hlc.Timestamp { return timestamp(t) }

// Database is an immutable database descriptor.
type Database struct{ pb *catalogpb.DatabaseDescriptor }

// NewDatabase wraps pb, which must not change afterwards.
func NewDatabase(pb *catalogpb.DatabaseDescriptor) *Database { return &Database{pb} }

func (d *Database) ID() ID                                     { return d.pb.Id }
func (d *Database) Name() string                               { return d.pb.Name }
func (d *Database) Kind() Kind                                 { return DatabaseKind }
func (d *Database) ParentID() ID                               { return 0 }
func (d *Database) ParentSchemaID() ID                         { return 0 }
func (d *Database) Version() uint64                            { return d.pb.Version }
func (d *Database) ModificationTime() hlc.Timestamp            { return timestamp(d.pb.ModificationTime) }
func (d *Database) State() catalogpb.State                     { return d.pb.State }
func (d *Database) OfflineReason() string                      { return d.pb.OfflineReason }
func (d *Database) Privileges() *catalogpb.PrivilegeDescriptor { return d.pb.Privileges }
func (d *Database) Proto() *catalogpb.DatabaseDescriptor       { return d.pb }
func (d *Database) Mutable() *catalogpb.DatabaseDescriptor     { return proto.CloneOf(d.pb) }
func (d *Database) Message() *catalogpb.Descriptor {
	return &catalogpb.Descriptor{Union: &catalogpb.Descriptor_Database{Database: d.pb}}
}

// SchemaID returns the id of a schema of this database. A database without an
// entry for public has the old shared public schema 29.
func (d *Database) SchemaID(name string) (ID, bool) {
	if s, ok := d.pb.Schemas[name]; ok {
		return s.GetId(), !s.GetDropped()
	}
	if name == PublicSchemaName {
		return PublicSchemaID, true
	}
	return 0, false
}

// Schema is an immutable schema descriptor.
type Schema struct{ pb *catalogpb.SchemaDescriptor }

// NewSchema wraps pb, which must not change afterwards.
func NewSchema(pb *catalogpb.SchemaDescriptor) *Schema { return &Schema{pb} }

func (d *Schema) ID() ID                                     { return d.pb.Id }
func (d *Schema) Name() string                               { return d.pb.Name }
func (d *Schema) Kind() Kind                                 { return SchemaKind }
func (d *Schema) ParentID() ID                               { return d.pb.ParentId }
func (d *Schema) ParentSchemaID() ID                         { return 0 }
func (d *Schema) Version() uint64                            { return d.pb.Version }
func (d *Schema) ModificationTime() hlc.Timestamp            { return timestamp(d.pb.ModificationTime) }
func (d *Schema) State() catalogpb.State                     { return d.pb.State }
func (d *Schema) OfflineReason() string                      { return d.pb.OfflineReason }
func (d *Schema) Privileges() *catalogpb.PrivilegeDescriptor { return d.pb.Privileges }
func (d *Schema) Proto() *catalogpb.SchemaDescriptor         { return d.pb }
func (d *Schema) Mutable() *catalogpb.SchemaDescriptor       { return proto.CloneOf(d.pb) }
func (d *Schema) Message() *catalogpb.Descriptor {
	return &catalogpb.Descriptor{Union: &catalogpb.Descriptor_Schema{Schema: d.pb}}
}

// Type is an immutable type descriptor.
type Type struct{ pb *catalogpb.TypeDescriptor }

// NewType wraps pb, which must not change afterwards.
func NewType(pb *catalogpb.TypeDescriptor) *Type { return &Type{pb} }

func (d *Type) ID() ID                                     { return d.pb.Id }
func (d *Type) Name() string                               { return d.pb.Name }
func (d *Type) Kind() Kind                                 { return TypeKind }
func (d *Type) ParentID() ID                               { return d.pb.ParentId }
func (d *Type) ParentSchemaID() ID                         { return d.pb.ParentSchemaId }
func (d *Type) Version() uint64                            { return d.pb.Version }
func (d *Type) ModificationTime() hlc.Timestamp            { return timestamp(d.pb.ModificationTime) }
func (d *Type) State() catalogpb.State                     { return d.pb.State }
func (d *Type) OfflineReason() string                      { return d.pb.OfflineReason }
func (d *Type) Privileges() *catalogpb.PrivilegeDescriptor { return d.pb.Privileges }
func (d *Type) Proto() *catalogpb.TypeDescriptor           { return d.pb }
func (d *Type) Mutable() *catalogpb.TypeDescriptor         { return proto.CloneOf(d.pb) }
func (d *Type) Message() *catalogpb.Descriptor {
	return &catalogpb.Descriptor{Union: &catalogpb.Descriptor_Type{Type: d.pb}}
}

// IsEnum says whether the type is an enum (not the array type of one).
func (d *Type) IsEnum() bool {
	return d.pb.Kind == catalogpb.TypeDescriptor_ENUM || d.pb.Kind == catalogpb.TypeDescriptor_MULTIREGION_ENUM
}
