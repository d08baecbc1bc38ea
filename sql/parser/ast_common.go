package parser

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// node is the part that statements of our own share. text is the statement as
// it was written, with secrets replaced; a statement that is shown again in
// canonical form has its own Format.
type node struct {
	typ       tree.StatementType
	tag, text string
}

// StatementType implements tree.Statement.
func (n *node) StatementType() tree.StatementType { return n.typ }

// StatementTag implements tree.Statement.
func (n *node) StatementTag() string { return n.tag }

// Format implements tree.NodeFormatter.
func (n *node) Format(ctx *tree.FmtCtx) { ctx.WriteString(n.text) }

func (n *node) String() string { return n.text }

// ObjectKind says what a statement that takes several kinds of objects is about.
type ObjectKind string

// The kinds of objects, spelled as in SQL.
const (
	KindDatabase           ObjectKind = "DATABASE"
	KindSchema             ObjectKind = "SCHEMA"
	KindTable              ObjectKind = "TABLE"
	KindView               ObjectKind = "VIEW"
	KindMaterializedView   ObjectKind = "MATERIALIZED VIEW"
	KindSequence           ObjectKind = "SEQUENCE"
	KindType               ObjectKind = "TYPE"
	KindIndex              ObjectKind = "INDEX"
	KindColumn             ObjectKind = "COLUMN"
	KindConstraint         ObjectKind = "CONSTRAINT"
	KindFunction           ObjectKind = "FUNCTION"
	KindProcedure          ObjectKind = "PROCEDURE"
	KindExtension          ObjectKind = "EXTENSION"
	KindRole               ObjectKind = "ROLE"
	KindExternalConnection ObjectKind = "EXTERNAL CONNECTION"
	KindSystem             ObjectKind = "SYSTEM"
	KindLanguage           ObjectKind = "LANGUAGE"
	KindOther              ObjectKind = "OTHER"
)

// SchemaName names a schema, perhaps with its database.
type SchemaName struct {
	Database, Schema tree.Name
}

func (n SchemaName) String() string {
	if n.Database == "" {
		return n.Schema.String()
	}
	return n.Database.String() + "." + n.Schema.String()
}

// NoOp is a statement that PostgreSQL has and that has nothing to do here:
// CHECKPOINT, CLUSTER, REINDEX, SET CONSTRAINTS, SECURITY LABEL, CREATE EXTENSION
// of a built-in one. Notice is sent when it is not empty.
type NoOp struct {
	node
	Notice string
}

// Discard is DISCARD ALL | PLANS | SEQUENCES | TEMP.
type Discard struct {
	node
	Mode string // "ALL", "PLANS", "SEQUENCES", "TEMP"
}

// SetLocal is SET LOCAL: the setting lasts until the transaction ends.
type SetLocal struct {
	*tree.SetVar
}

// DeclareCursor is DECLARE name … CURSOR … FOR query.
type DeclareCursor struct {
	node
	Name                                  tree.Name
	Binary, Insensitive, Scroll, NoScroll bool
	Hold                                  bool
	Query                                 *tree.Select
}

// TransactionChain is COMMIT or ROLLBACK … AND CHAIN.
type TransactionChain struct {
	node
	Commit bool
}

// FetchCursor is FETCH or MOVE.
type FetchCursor struct {
	node
	Name tree.Name
	Move bool
	// Direction is one of NEXT, PRIOR, FIRST, LAST, ABSOLUTE, RELATIVE, FORWARD,
	// BACKWARD. Count is used with the last four; All overrides it for the last two.
	Direction string
	Count     int64
	All       bool
}

// CloseCursor is CLOSE name | ALL.
type CloseCursor struct {
	node
	Name tree.Name
	All  bool
}

// Vacuum is VACUUM, which does nothing here but may include an ANALYZE.
type Vacuum struct {
	node
	Analyze bool
	Tables  []*tree.UnresolvedObjectName
}

// Analyze is ANALYZE [table [(columns)], …]; no tables: all.
type Analyze struct {
	node
	Tables []*tree.UnresolvedObjectName
}

// Truncate is TRUNCATE with RESTART IDENTITY.
type Truncate struct {
	*tree.Truncate
	RestartIdentity bool
}

// Do is DO with a block of one statement and an EXCEPTION clause that ignores
// that its object is there already.
type Do struct {
	node
	SQL string
}

// Listen is LISTEN channel.
type Listen struct {
	node
	Channel tree.Name
}

// Unlisten is UNLISTEN channel | *.
type Unlisten struct {
	node
	Channel tree.Name
	All     bool
}

// Notify is NOTIFY channel [, payload].
type Notify struct {
	node
	Channel tree.Name
	Payload string
}

// LockTable is LOCK [TABLE] t, … [IN mode MODE] [NOWAIT].
type LockTable struct {
	node
	Tables []*tree.UnresolvedObjectName
	Mode   string // "ACCESS EXCLUSIVE" unless given
	NoWait bool
}

// Explain is EXPLAIN with PostgreSQL's options.
type Explain struct {
	node
	Analyze, Verbose bool
	// Options holds the words of the option list, lower case, with their values:
	// "format" → "json", "costs" → "off".
	Options   map[string]string
	Statement tree.Statement
}

// Copy is COPY in both directions.
type Copy struct {
	node
	// Table is set unless Query is.
	Table   *tree.UnresolvedObjectName
	Columns tree.NameList
	Query   tree.Statement
	From    bool // COPY FROM STDIN; else COPY TO STDOUT
	Options CopyOptions
}

// CopyFormat is the data format of a COPY.
type CopyFormat string

// The formats of COPY.
const (
	CopyText   CopyFormat = "text"
	CopyCSV    CopyFormat = "csv"
	CopyBinary CopyFormat = "binary"
)

// CopyOptions are the options of a COPY with defaults filled in.
type CopyOptions struct {
	Format    CopyFormat
	Delimiter string
	Null      string
	Header    bool
	// HeaderMatch asks that the header line name the columns.
	HeaderMatch  bool
	Quote        string
	Escape       string
	Encoding     string
	Freeze       bool
	ForceQuote   tree.NameList
	ForceAll     bool // FORCE_QUOTE *
	ForceNotNull tree.NameList
	ForceNull    tree.NameList
	Where        tree.Expr // COPY FROM … WHERE

	nullSet bool
}

// Format prints a statement, passwords and secrets hidden. Use it rather than
// String for statements that came from a client: the module's trees cannot print
// all that the front puts into them.
func Format(stmt tree.Statement) (s string) {
	defer func() {
		if recover() != nil {
			s = stmt.StatementTag()
		}
	}()
	return stmt.String()
}
