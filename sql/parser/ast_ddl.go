package parser

import (
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
)

// CreateDatabase is CREATE DATABASE with what the module's grammar lacks.
type CreateDatabase struct {
	*tree.CreateDatabase
	Owner string
	// Options holds the PostgreSQL options by lower-case name (tablespace, locale,
	// connection_limit, …).
	Options map[string]string
	// PrimaryRegion and the rest are for multi-region databases.
	PrimaryRegion tree.Name
	Regions       tree.NameList
	SurvivalGoal  string // "ZONE", "REGION" or ""
	Placement     string
}

// CreateSchema is CREATE SCHEMA. Elements are the statements inside it.
type CreateSchema struct {
	node
	Name        SchemaName // Schema may be empty: then it is AuthRole
	IfNotExists bool
	AuthRole    string
}

// DropSchema is DROP SCHEMA a, b.
type DropSchema struct {
	node
	Names        []SchemaName
	IfExists     bool
	DropBehavior tree.DropBehavior
}

// AlterSchema is ALTER SCHEMA s RENAME TO t | OWNER TO r.
type AlterSchema struct {
	node
	Name    SchemaName
	NewName tree.Name // or
	Owner   string
}

// CreateType is CREATE TYPE … AS ENUM (…).
type CreateType struct {
	node
	Name        *tree.UnresolvedObjectName
	IfNotExists bool
	Labels      []string
}

// AlterType is ALTER TYPE. Exactly one of the groups is set.
type AlterType struct {
	node
	Name *tree.UnresolvedObjectName

	AddValue    string // with IfNotExists, Before or After
	HasAddValue bool
	IfNotExists bool
	Before      string
	After       string
	HasPlace    bool // Before or After was given; Before wins if PlaceBefore
	PlaceBefore bool

	RenameValue    string // to RenameValueTo
	RenameValueTo  string
	HasRenameValue bool

	DropValue    string
	HasDropValue bool

	NewName tree.Name
	Schema  tree.Name
	Owner   string
}

// DropType is DROP TYPE a, b.
type DropType struct {
	node
	Names        []*tree.UnresolvedObjectName
	IfExists     bool
	DropBehavior tree.DropBehavior
}

// Drop is DROP of a kind that the module's grammar lacks (MATERIALIZED VIEW,
// EXTENSION, FUNCTION, …).
type Drop struct {
	node
	Kind         ObjectKind
	Names        []*tree.UnresolvedObjectName
	IfExists     bool
	DropBehavior tree.DropBehavior
}

// AlterOwner is ALTER kind name OWNER TO role.
type AlterOwner struct {
	node
	Kind     ObjectKind
	Name     *tree.UnresolvedObjectName
	IfExists bool
	Owner    string
}

// AlterSetSchema is ALTER kind name SET SCHEMA s.
type AlterSetSchema struct {
	node
	Kind     ObjectKind
	Name     *tree.UnresolvedObjectName
	IfExists bool
	Schema   tree.Name
}

// Locality is the LOCALITY clause of a table.
type Locality struct {
	Global        bool
	RegionalByRow bool
	As            tree.Name // of REGIONAL BY ROW AS col
	// Region of REGIONAL BY TABLE; "" means the primary region.
	Region tree.Name
}

// AlterTableLocality is ALTER TABLE t SET LOCALITY ….
type AlterTableLocality struct {
	node
	Name     *tree.UnresolvedObjectName
	IfExists bool
	Locality Locality
}

// CreateTable is CREATE TABLE with what the module's grammar lacks. Defs may
// hold *LikeTableDef and *IndexTableDef.
type CreateTable struct {
	*tree.CreateTable
	Locality *Locality
	NoData   bool // CREATE TABLE AS … WITH NO DATA
	// PartitionAll is PARTITION ALL BY: what PartitionBy says holds of all indexes.
	PartitionAll bool
}

// LikeTableDef is LIKE t [INCLUDING …] inside CREATE TABLE.
type LikeTableDef struct {
	tree.TableDef
	Name *tree.UnresolvedObjectName
	// Including holds ALL, DEFAULTS, CONSTRAINTS, INDEXES, … as given, minus what
	// EXCLUDING took away afterwards.
	Including map[string]bool
}

// Format implements tree.NodeFormatter.
func (n *LikeTableDef) Format(ctx *tree.FmtCtx) {
	ctx.WriteString("LIKE ")
	ctx.FormatNode(n.Name)
}

func (n *LikeTableDef) String() string { return tree.AsString(n) }

// SetName implements tree.TableDef.
func (n *LikeTableDef) SetName(tree.Name) {}

// IndexDef is an INDEX element of CREATE TABLE with a predicate or with expressions.
type IndexDef struct {
	tree.TableDef
	*CreateIndex
}

// Format implements tree.NodeFormatter.
func (n *IndexDef) Format(ctx *tree.FmtCtx) { ctx.FormatNode(n.CreateIndex) }

func (n *IndexDef) String() string { return tree.AsString(n.CreateIndex) }

// SetName implements tree.TableDef.
func (n *IndexDef) SetName(name tree.Name) { n.Name = name }

// CreateIndex is CREATE INDEX with a predicate or with expressions. Exprs[i]
// replaces Columns[i] where it is not nil.
type CreateIndex struct {
	*tree.CreateIndex
	Predicate tree.Expr
	Exprs     []tree.Expr
}

// CreateView is CREATE [OR REPLACE] [MATERIALIZED] VIEW.
type CreateView struct {
	*tree.CreateView
	Replace      bool
	Materialized bool
	NoData       bool
}

// RefreshView is REFRESH MATERIALIZED VIEW.
type RefreshView struct {
	node
	Name         *tree.UnresolvedObjectName
	Concurrently bool
	NoData       bool
}

// Identity describes a GENERATED … AS IDENTITY column.
type Identity struct {
	Always  bool // else BY DEFAULT
	Options tree.SequenceOptions
}

// Names of sequence options that the module does not know. AS carries the size in
// bits in IntVal; RESTART carries its value there, or nil to restart at START.
const (
	SeqOptAs      = "AS"
	SeqOptRestart = "RESTART"
)

// AlterTableSetParams is the ALTER TABLE command SET (k = v, …).
type AlterTableSetParams struct {
	tree.AlterTableCmd
	Params tree.StorageParams
}

// AlterTablePartitionAllBy is the ALTER TABLE command PARTITION ALL BY. A nil
// By is NOTHING.
type AlterTablePartitionAllBy struct {
	tree.AlterTableCmd
	By *tree.PartitionBy
}

// Format implements tree.NodeFormatter.
func (n *AlterTablePartitionAllBy) Format(ctx *tree.FmtCtx) {
	ctx.WriteString(strings.Replace(tree.AsString(n.By), "PARTITION BY", "PARTITION ALL BY", 1))
}

// AlterTableResetParams is the ALTER TABLE command RESET (k, …).
type AlterTableResetParams struct {
	tree.AlterTableCmd
	Params tree.NameList
}

// AlterTableAddIdentity is ALTER COLUMN c ADD GENERATED … AS IDENTITY.
type AlterTableAddIdentity struct {
	tree.AlterTableCmd
	Column   tree.Name
	Identity Identity
}

// AlterTableDropIdentity is ALTER COLUMN c DROP IDENTITY [IF EXISTS].
type AlterTableDropIdentity struct {
	tree.AlterTableCmd
	Column   tree.Name
	IfExists bool
}

// AlterTableSetGenerated is ALTER COLUMN c SET GENERATED {ALWAYS|BY DEFAULT} and
// SET of sequence options.
type AlterTableSetGenerated struct {
	tree.AlterTableCmd
	Column  tree.Name
	Always  *bool
	Options tree.SequenceOptions
}

// AlterTableNoOp is a command without meaning here: SET STATISTICS, SET STORAGE,
// CLUSTER ON, ENABLE TRIGGER, REPLICA IDENTITY, …
type AlterTableNoOp struct {
	tree.AlterTableCmd
	What string
}

// AlterTableAddConstraintUsingIndex is ADD CONSTRAINT c {UNIQUE|PRIMARY KEY} USING
// INDEX i.
type AlterTableAddConstraintUsingIndex struct {
	tree.AlterTableCmd
	Name, Index tree.Name
	PrimaryKey  bool
}

// Format implements tree.NodeFormatter.
func (n *AlterTableSetParams) Format(ctx *tree.FmtCtx) {
	ctx.WriteString(" SET (")
	ctx.FormatNode(&n.Params)
	ctx.WriteByte(')')
}

// Format implements tree.NodeFormatter.
func (n *AlterTableResetParams) Format(ctx *tree.FmtCtx) {
	ctx.WriteString(" RESET (")
	ctx.FormatNode(&n.Params)
	ctx.WriteByte(')')
}

// Format implements tree.NodeFormatter.
func (n *AlterTableAddIdentity) Format(ctx *tree.FmtCtx) {
	ctx.WriteString(" ALTER COLUMN ")
	ctx.FormatNode(&n.Column)
	ctx.WriteString(" ADD GENERATED ")
	ctx.WriteString(n.Identity.kind())
	ctx.WriteString(" AS IDENTITY")
}

func (i Identity) kind() string {
	if i.Always {
		return "ALWAYS"
	}
	return "BY DEFAULT"
}

// Format implements tree.NodeFormatter.
func (n *AlterTableDropIdentity) Format(ctx *tree.FmtCtx) {
	ctx.WriteString(" ALTER COLUMN ")
	ctx.FormatNode(&n.Column)
	ctx.WriteString(" DROP IDENTITY")
}

// Format implements tree.NodeFormatter.
func (n *AlterTableSetGenerated) Format(ctx *tree.FmtCtx) {
	ctx.WriteString(" ALTER COLUMN ")
	ctx.FormatNode(&n.Column)
	ctx.WriteString(" SET GENERATED")
}

// Format implements tree.NodeFormatter.
func (n *AlterTableNoOp) Format(ctx *tree.FmtCtx) { ctx.WriteString(" " + n.What) }

// Format implements tree.NodeFormatter.
func (n *AlterTableAddConstraintUsingIndex) Format(ctx *tree.FmtCtx) {
	ctx.WriteString(" ADD CONSTRAINT ")
	ctx.FormatNode(&n.Name)
	if n.PrimaryKey {
		ctx.WriteString(" PRIMARY KEY")
	} else {
		ctx.WriteString(" UNIQUE")
	}
	ctx.WriteString(" USING INDEX ")
	ctx.FormatNode(&n.Index)
}

// CommentOn is COMMENT ON for the kinds that the module's grammar lacks. Table is
// set for constraints (and triggers, …).
type CommentOn struct {
	node
	Kind    ObjectKind
	Name    *tree.UnresolvedObjectName
	Table   *tree.UnresolvedObjectName
	Comment *string // nil: remove
}

// RoleOption is one option of CREATE or ALTER ROLE.
type RoleOption struct {
	Name string // upper case: LOGIN, NOLOGIN, PASSWORD, VALID UNTIL, …
	// Value is the string of PASSWORD, VALID UNTIL, …; nil for NULL and for options
	// without a value. Placeholders are kept as expressions.
	Value tree.Expr
}

// CreateRole is CREATE ROLE | USER | GROUP.
type CreateRole struct {
	node
	Name        string
	IsUser      bool // CREATE USER: LOGIN is implied
	IfNotExists bool
	Options     []RoleOption
	InRoles     []string // IN ROLE: become a member of
	Members     []string // ROLE: make members
	Admins      []string // ADMIN
}

// AlterRole is ALTER ROLE name [WITH] options.
type AlterRole struct {
	node
	Name     string
	IfExists bool
	Options  []RoleOption
}

// AlterRoleSet is ALTER ROLE … SET and ALTER DATABASE … SET. Reset with an empty
// Var resets all.
type AlterRoleSet struct {
	node
	Role     string // "" with AllRoles, or for ALTER DATABASE
	AllRoles bool
	Database tree.Name
	Var      string
	Values   tree.Exprs
	Reset    bool
}

// AlterRoleRename is ALTER ROLE a RENAME TO b.
type AlterRoleRename struct {
	node
	Name, NewName string
}

// DropRole is DROP ROLE | USER.
type DropRole struct {
	node
	Names    []string
	IfExists bool
}

// ReassignOwned is REASSIGN OWNED BY a TO b.
type ReassignOwned struct {
	node
	From []string
	To   string
}

// DropOwned is DROP OWNED BY a.
type DropOwned struct {
	node
	Roles        []string
	DropBehavior tree.DropBehavior
}

// Grant is GRANT and REVOKE of privileges on objects.
type Grant struct {
	node
	Revoke bool
	// GrantOption: WITH GRANT OPTION, or of a REVOKE, GRANT OPTION FOR.
	GrantOption bool
	// Privileges are upper case, as written; ALL stands alone. ColumnPrivileges is
	// set when a privilege carried a column list, which is not supported.
	Privileges       []string
	ColumnPrivileges bool
	On               GrantTarget
	Grantees         []string
	Cascade          bool
}

// GrantTarget is what a GRANT is ON.
type GrantTarget struct {
	Kind ObjectKind // KindTable also for names without a kind; KindSystem for GRANT SYSTEM
	// Tables may hold patterns (db.*); Names are databases, schemas, types, sequences,
	// functions, external connections.
	Tables tree.TablePatterns
	Names  []*tree.UnresolvedObjectName
	// AllInSchemas: ON ALL <kind>S IN SCHEMA.
	AllInSchemas []SchemaName
}

// GrantRole is GRANT and REVOKE of role membership.
type GrantRole struct {
	node
	Revoke      bool
	AdminOption bool
	Roles       []string
	Members     []string
}

// AlterDefaultPrivileges is ALTER DEFAULT PRIVILEGES.
type AlterDefaultPrivileges struct {
	node
	Roles       []string
	AllRoles    bool
	Schemas     []SchemaName
	Revoke      bool
	GrantOption bool
	Privileges  []string
	Kind        ObjectKind // TABLE, SEQUENCE, SCHEMA, TYPE, FUNCTION
	Grantees    []string
}

// DeleteUsing is DELETE FROM t USING other ….
type DeleteUsing struct {
	*tree.Delete
	Using tree.TableExprs
}

// InsertOverriding is INSERT … OVERRIDING {SYSTEM|USER} VALUE.
type InsertOverriding struct {
	*tree.Insert
	System bool // else USER
}

// UDTCast is a cast or annotation to a user-defined type. It must be resolved
// before type checking. Either Name or OID is set.
type UDTCast struct {
	Expr  tree.Expr
	Name  *tree.UnresolvedObjectName
	OID   uint32
	Array bool
	// Annotation: the form x:::T.
	Annotation bool
}

// compile-time checks
var (
	_ tree.Expr      = (*UDTCast)(nil)
	_ tree.Statement = (*CreateTable)(nil)
	_ tree.Statement = (*Grant)(nil)
	_                = types.Int
)
