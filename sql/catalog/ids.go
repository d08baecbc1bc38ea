package catalog

import "github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

// ID is a descriptor id.
type ID = uint32

// Well-known ids. User objects start at FirstUserID.
const (
	InvalidID          ID = 0
	SystemDatabaseID   ID = 1
	DescriptorTableID  ID = 3
	UsersTableID       ID = 4
	ZonesTableID       ID = 5
	PublicSchemaID     ID = 29 // of the system database, and of databases of old backups
	NamespaceTableID   ID = 30
	FirstUserID        ID = 100
	DefaultDBID        ID = 100
	DefaultDBPublicID  ID = 101
	PostgresDBID       ID = 102
	PostgresPublicID   ID = 103
	FirstAllocatableID ID = 104

	// VirtualTableIDBase is the first of the ids given to virtual tables,
	// downwards from the top, so that they never meet a stored one.
	VirtualTableIDBase ID = 1<<32 - 1
)

// Names that every database has.
const (
	SystemDatabaseName    = "system"
	DefaultDatabaseName   = "defaultdb"
	PostgresDatabaseName  = "postgres"
	PublicSchemaName      = tree.PublicSchema
	PgCatalogName         = "pg_catalog"
	InformationSchemaName = "information_schema"
	CrdbInternalName      = "crdb_internal"
	PgExtensionName       = "pg_extension"
)

// VirtualSchemas are the schemas without descriptors, in every database.
var VirtualSchemas = []string{CrdbInternalName, InformationSchemaName, PgCatalogName, PgExtensionName}

// IsVirtualSchema says whether name is one of VirtualSchemas.
func IsVirtualSchema(name string) bool {
	for _, s := range VirtualSchemas {
		if s == name {
			return true
		}
	}
	return false
}
