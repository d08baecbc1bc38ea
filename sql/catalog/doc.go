// Package catalog knows the schema objects: databases, schemas, tables, views,
// sequences and types, their names, and how they are stored.
//
// A descriptor is a protobuf message (catalogpb) behind an immutable wrapper:
// Database, Schema, Table (also views and sequences) and Type. Who changes one
// takes Mutable, a deep copy of the message, edits it and hands it to
// Collection.Write, which raises its version. Descriptors live in
// system.descriptor (id → bytes); system.namespace maps (database, schema, name)
// to the id.
//
// A Collection reads descriptors for one transaction: first what the
// transaction itself wrote, then a cache that all transactions of the node
// share, then the store. At a historical timestamp it reads history and leaves
// the cache alone. At most two versions of a descriptor are in use at once:
// see collection.go.
//
// # Enums
//
// The parser's package types has no enum family. A value of an enum type is a
// *tree.DCollatedString: Contents is the label, Key the physical representation,
// Locale "@<oid>", where oid = 100000 + descriptor id of the type. Comparison,
// sorting, hashing and key encoding of collated strings go by Key, and two types
// are equivalent only when their locales are equal, so enums order by
// declaration and do not mix. EnumType makes the *types.T, EnumOID recognises
// it, Enum.FromLabel and Enum.FromPhysical make datums, EnumCast is the
// expression that turns text into an enum value, PGOid and SQLTypeName say what
// a client should see. On disk, in keys and values, an enum is its physical bytes
// (package rowenc), and in a descriptor its column type has family 24.
//
// Start reading at descriptor.go, then table.go, collection.go and names.go.
package catalog
