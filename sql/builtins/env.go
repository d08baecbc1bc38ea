package builtins

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// RangeCheck says whether the replicas of a range are alike.
type RangeCheck struct {
	RangeID             int64
	Start               []byte
	StartPretty, Status string
	Detail              string
}

// Env is what functions see of the session, the catalog and the node. The sql
// package puts an implementation into the EvalContext: its Planner field must
// also implement Env. Functions called without one fail with 0A000.
//
// Names and texts are returned as PostgreSQL shows them. ok=false means that
// there is no such object; the function then returns NULL.
type Env interface {
	// Session.
	CurrentUser() string
	SessionUser() string
	CurrentDatabase() string
	// SearchPath lists the existing schemas of the search path; implicit ones
	// (pg_catalog) only if asked for.
	SearchPath(ctx context.Context, implicit bool) ([]string, error)
	// GetVar and SetVar read and set session variables; unknown names are
	// errors (42704). local is SET LOCAL.
	GetVar(ctx context.Context, name string, missingOK bool) (value string, ok bool, err error)
	SetVar(ctx context.Context, name, value string, local bool) error
	BackendPID() int32
	RemoteAddr() (host string, port int)
	// Random state of this session for random() and setseed().
	Random() float64
	SetSeed(seed float64)

	// Transaction and node.
	// ClusterLogicalTimestamp pins and returns the commit timestamp of the transaction.
	ClusterLogicalTimestamp(ctx context.Context) (*tree.DDecimal, error)
	// ForceRetry returns a retryable error during the first d of the transaction.
	ForceRetry(ctx context.Context, d *tree.DInterval) error
	TxnID() int64
	NodeID() int32
	ClusterID() string
	// Locality returns the value of a locality tier.
	Locality(key string) (value string, ok bool)
	Version() string
	// UniqueRowID returns a new id, unique in the cluster and rising with time.
	UniqueRowID() int64

	// Sequences, named as in nextval('s'); see also the *ByID forms for regclass.
	SequenceNextval(ctx context.Context, name string) (int64, error)
	SequenceCurrval(ctx context.Context, name string) (int64, error)
	SequenceSetval(ctx context.Context, name string, value int64, isCalled bool) error
	SequenceLastval(ctx context.Context) (int64, error)
	// SerialSequence returns the sequence owned by table.column.
	SerialSequence(ctx context.Context, table, column string) (name string, ok bool, err error)

	// Catalog.
	// ResolveRegtype maps a name to the oid of an object of one of the reg*
	// types (regclass, regtype, regproc, regprocedure, regnamespace, regrole).
	// Unknown names are errors with PostgreSQL's text.
	ResolveRegtype(ctx context.Context, typ oid.Oid, name string) (id oid.Oid, err error)
	// RegtypeName is the reverse; schema-qualified unless visible.
	RegtypeName(ctx context.Context, typ oid.Oid, id oid.Oid) (name string, ok bool, err error)
	// TypeByOID finds types of the catalog (enums); built-in types need no Env.
	TypeByOID(ctx context.Context, id oid.Oid) (typ *types.T, name string, ok bool, err error)
	ConstraintDef(ctx context.Context, id oid.Oid) (def string, ok bool, err error)
	// IndexDef gives CREATE INDEX for column 0, the column's text otherwise.
	IndexDef(ctx context.Context, id oid.Oid, column int) (def string, ok bool, err error)
	ViewDef(ctx context.Context, id oid.Oid) (def string, ok bool, err error)
	FunctionDef(ctx context.Context, id oid.Oid) (def string, ok bool, err error)
	// FunctionSignature are the types of a function's arguments and of its result.
	FunctionSignature(ctx context.Context, id oid.Oid) (args, result string, ok bool, err error)
	UserByID(ctx context.Context, id oid.Oid) (name string, ok bool, err error)
	// Visible says whether an object (class, type, function…) is found without
	// its schema.
	Visible(ctx context.Context, kind string, id oid.Oid) (visible, ok bool, err error)
	// Comment returns COMMENT ON text; catalog is "pg_class", "pg_database"…,
	// "" for any; column 0 is the object itself.
	Comment(ctx context.Context, catalog string, id oid.Oid, column int) (text string, ok bool, err error)
	// RelationSize returns the approximate bytes of a relation; with indexes if total.
	RelationSize(ctx context.Context, id oid.Oid, total bool) (bytes int64, ok bool, err error)
	DatabaseSize(ctx context.Context, name string) (bytes int64, err error)
	// HasPrivilege answers has_*_privilege. kind is "table", "column", "schema",
	// "database", "sequence", "type", "function"…; object is a name or an oid in decimal;
	// column only for kind "column"; privilege as given by the user, such as
	// "SELECT, INSERT WITH GRANT OPTION". user "" is the current user.
	HasPrivilege(ctx context.Context, user, kind, object, column, privilege string) (has, ok bool, err error)
	// HasRole answers pg_has_role.
	HasRole(ctx context.Context, user, role, privilege string) (has bool, err error)
	// EnumValue returns the value of an enum type with this label; an unknown
	// label is an error (22P02).
	EnumValue(ctx context.Context, id oid.Oid, label string) (tree.Datum, error)
	// EnumValues lists the values of an enum type in order.
	EnumValues(ctx context.Context, id oid.Oid) (values []tree.Datum, ok bool, err error)
	// CheckConsistency compares the replicas of the ranges between two keys.
	CheckConsistency(ctx context.Context, start, end []byte) ([]RangeCheck, error)
	// AdvisoryLock waits for an advisory lock, unless mode says to try; it says
	// whether the session holds it. AdvisoryUnlock gives a session-level hold back
	// and says whether there was one.
	AdvisoryLock(ctx context.Context, key AdvisoryKey, mode AdvisoryMode) (bool, error)
	AdvisoryUnlock(key AdvisoryKey, shared bool) bool
	AdvisoryUnlockAll()
	// CancelBackend and TerminateBackend act on other sessions by pid.
	CancelBackend(ctx context.Context, pid int32, terminate bool) (bool, error)
	// PBToJSON renders a descriptor or job message by its full name.
	PBToJSON(ctx context.Context, message string, data []byte) (string, error)
}

// AdvisoryKey is what an application locks: one bigint, or a pair of integers,
// which are different locks even where the bits agree.
type AdvisoryKey struct {
	Pair bool
	A, B int64
}

// AdvisoryMode says how.
type AdvisoryMode struct {
	Shared bool // with others that share it
	Xact   bool // until the transaction ends, otherwise until it is unlocked
	Try    bool // do not wait
}

// getEnv returns the Env that sql put into ctx.
func getEnv(ctx *tree.EvalContext) (Env, error) {
	if ctx != nil {
		if env, ok := ctx.Planner.(Env); ok {
			return env, nil
		}
	}
	return nil, pgerr.New(pgerr.FeatureNotSupported, "this function needs a session")
}
