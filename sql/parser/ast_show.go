package parser

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// ShowTypes is SHOW TYPES [FROM db[.schema]].
type ShowTypes struct {
	node
	From SchemaName
}

// ShowEnums is SHOW ENUMS [FROM db[.schema]].
type ShowEnums struct {
	node
	From SchemaName
}

// ShowFunctions is SHOW FUNCTIONS [FROM …].
type ShowFunctions struct {
	node
	From SchemaName
}

// ShowCreateDatabase is SHOW CREATE DATABASE d.
type ShowCreateDatabase struct {
	node
	Name tree.Name
}

// ShowCreateAll is SHOW CREATE ALL {TABLES|SCHEMAS|TYPES}; What is the word.
type ShowCreateAll struct {
	node
	What string
}

// ShowCreate is SHOW CREATE with a kind that the module's grammar lacks: TYPE,
// SCHEMA, INDEX(ES), TRIGGER, ….
type ShowCreate struct {
	node
	Kind ObjectKind
	Name *tree.UnresolvedObjectName
}

// RangeSource says FROM what SHOW RANGES shows.
type RangeSource string

// The sources of SHOW RANGES.
const (
	RangesFromCurrentDatabase RangeSource = ""
	RangesFromCluster         RangeSource = "CLUSTER"
	RangesFromDatabase        RangeSource = "DATABASE"
	RangesFromTable           RangeSource = "TABLE"
	RangesFromIndex           RangeSource = "INDEX"
)

// ShowRanges is SHOW [CLUSTER] RANGES.
type ShowRanges struct {
	node
	From     RangeSource
	Database tree.Name
	Table    *tree.UnresolvedObjectName
	Index    tree.Name

	Tables, Indexes, Details, Keys, Explain bool
}

// RelocateSubject says what RELOCATE moves.
type RelocateSubject string

// The subjects.
const (
	RelocateVoters    RelocateSubject = "VOTERS"
	RelocateNonVoters RelocateSubject = "NONVOTERS"
	RelocateLease     RelocateSubject = "LEASE"
)

// Relocate is ALTER TABLE t|INDEX t@i RELOCATE [VOTERS|NONVOTERS|LEASE] rows.
type Relocate struct {
	node
	TableOrIndex tree.TableIndexName
	Subject      RelocateSubject
	// Rows have an array of stores, or one store for a lease, and a key.
	Rows *tree.Select
}

// AlterRangeRelocate is ALTER RANGE … RELOCATE [VOTERS|NONVOTERS] FROM s TO s, and
// ALTER RANGE … RELOCATE LEASE TO s.
type AlterRangeRelocate struct {
	node
	Subject  RelocateSubject
	Ranges   *tree.Select // ids in one column
	From, To tree.Expr
}

// ShowRangeForRow is SHOW RANGE FROM TABLE t|INDEX t@i FOR ROW (…).
type ShowRangeForRow struct {
	node
	Table *tree.UnresolvedObjectName
	Index tree.Name
	Row   tree.Exprs
}

// ShowGrants is SHOW GRANTS [ON …] [FOR …], and SHOW SYSTEM GRANTS.
type ShowGrants struct {
	node
	// Kind is "" when there is no ON clause; KindRole for ON ROLE.
	Kind     ObjectKind
	Tables   tree.TablePatterns
	Names    []*tree.UnresolvedObjectName
	Grantees []string
}

// ShowDefaultPrivileges is SHOW DEFAULT PRIVILEGES.
type ShowDefaultPrivileges struct {
	node
	Roles    []string
	AllRoles bool
	Grantees []string
	Schema   *SchemaName
}

// ShowRegions is SHOW REGIONS [FROM …].
type ShowRegions struct {
	node
	From     string // "", "CLUSTER", "DATABASE", "ALL DATABASES"
	Database tree.Name
}

// ShowTransactions is SHOW [ALL] [CLUSTER|LOCAL] TRANSACTIONS.
type ShowTransactions struct {
	node
	All, Local bool
}

// ShowSurvivalGoal is SHOW SURVIVAL GOAL FROM DATABASE [d].
type ShowSurvivalGoal struct {
	node
	Database tree.Name
}

// ShowTables is SHOW TABLES [FROM db[.schema]] [WITH COMMENT].
type ShowTables struct {
	node
	From        SchemaName
	WithComment bool
}

// ShowSequences is SHOW SEQUENCES [FROM db[.schema]].
type ShowSequences struct {
	node
	From SchemaName
}
