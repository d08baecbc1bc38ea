package sql

import (
	"context"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/cockroachdb/apd"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/parser"
	"github.com/holdfastdb/holdfast/sql/pgcodec"
)

// evalEnv is what functions see of the session, the transaction and the node
// (builtins.Env). What they see of the catalog is in env_catalog.go.
type evalEnv struct{ p *planner }

var _ builtins.Env = (*evalEnv)(nil)
var _ tree.EvalPlanner = (*evalEnv)(nil)
var _ builtins.TextEnv = (*evalEnv)(nil)

// TextSettings are those that casts from and to text obey.
func (e *evalEnv) TextSettings() *pgcodec.Settings { return e.p.s.codecSettings() }

// installEval puts the environment into the evaluation context.
func (p *planner) installEval() {
	p.env.p = p
	p.evalCtx.Planner = &p.env
}

func (e *evalEnv) CurrentUser() string     { return e.p.s.data.User }
func (e *evalEnv) SessionUser() string     { return e.p.s.args.User }
func (e *evalEnv) CurrentDatabase() string { return e.p.s.data.Database }
func (e *evalEnv) BackendPID() int32       { return int32(e.p.s.id) }
func (e *evalEnv) RemoteAddr() (string, int) {
	return splitAddr(e.p.s.args.RemoteAddr)
}

// SearchPath lists the schemas of the search path that exist.
func (e *evalEnv) SearchPath(ctx context.Context, implicit bool) ([]string, error) {
	refs, err := e.p.resolver().Schemas(ctx)
	if err != nil {
		return nil, err
	}
	given := map[string]bool{}
	for _, s := range e.p.s.searchPath() {
		given[s] = true
	}
	var out []string
	for _, r := range refs {
		if r.Virtual && !implicit && !given[r.Name] {
			continue
		}
		out = append(out, r.Name)
	}
	return out, nil
}

func (e *evalEnv) Random() float64      { return e.p.s.random() }
func (e *evalEnv) SetSeed(seed float64) { e.p.s.setSeed(seed) }

// ClusterLogicalTimestamp pins and returns the commit timestamp.
func (e *evalEnv) ClusterLogicalTimestamp(context.Context) (*tree.DDecimal, error) {
	ts := e.p.s.tx.asOf
	if ts.IsEmpty() {
		ts = e.p.txn.CommitTimestamp()
	}
	return hlcDecimal(ts)
}

func hlcDecimal(ts hlc.Timestamp) (*tree.DDecimal, error) {
	d, _, err := apd.NewFromString(ts.AsOfSystemTime())
	if err != nil {
		return nil, err
	}
	return &tree.DDecimal{Decimal: *d}, nil
}

// ForceRetry fails with a retryable error until the transaction is d old.
func (e *evalEnv) ForceRetry(_ context.Context, d *tree.DInterval) error {
	if time.Since(e.p.s.tx.started) < time.Duration(d.Duration.Nanos()) {
		return pgerr.New(pgerr.SerializationFailure, "restart transaction: forced by crdb_internal.force_retry()")
	}
	return nil
}

func (e *evalEnv) TxnID() int64 {
	id := e.p.txn.ID()
	var v int64
	for _, b := range id[:7] {
		v = v<<8 | int64(b)
	}
	return v
}

func (e *evalEnv) NodeID() int32     { return e.p.srv.cfg.NodeID }
func (e *evalEnv) ClusterID() string { return formatUUID(e.p.srv.cfg.ClusterID) }
func (e *evalEnv) Version() string   { return e.p.srv.cfg.Version }

// Locality returns the value of a tier of the node's locality.
func (e *evalEnv) Locality(key string) (string, bool) {
	return localityValue(e.p.srv.cfg.Locality, key)
}

// UniqueRowID returns an id that rises with time: 49 bits of ten microseconds
// since 2015, then 15 bits of the node.
func (e *evalEnv) UniqueRowID() int64 { return e.p.srv.uniqueRowID() }

// ParseType implements tree.EvalPlanner.
func (e *evalEnv) ParseType(sql string) (*types.T, error) { return parser.ParseType(sql) }

// EvalSubquery implements tree.EvalPlanner. Subqueries have become plans before
// anything is evaluated.
func (e *evalEnv) EvalSubquery(*tree.Subquery) (tree.Datum, error) { return nil, errUnboundColumn }

// ParseQualifiedTableName implements tree.EvalPlanner.
func (e *evalEnv) ParseQualifiedTableName(sql string) (*tree.TableName, error) {
	n, err := parser.ParseObjectName(sql)
	if err != nil {
		return nil, err
	}
	tn := n.ToTableName()
	return &tn, nil
}

// ResolveTableName implements tree.EvalPlanner.
func (e *evalEnv) ResolveTableName(ctx context.Context, tn *tree.TableName) (tree.ID, error) {
	ref, err := e.p.lookupRelation(ctx, tn)
	if err != nil {
		return 0, err
	}
	if ref.Table == nil {
		return 0, pgerr.Newf(pgerr.UndefinedTable, "relation %q does not exist", tn.String())
	}
	return tree.ID(ref.Table.ID()), nil
}

// LookupSchema implements tree.EvalPlanner.
func (e *evalEnv) LookupSchema(ctx context.Context, db, schema string) (bool, tree.SchemaMeta, error) {
	_, ok, err := e.p.resolver().FindSchema(ctx, db, schema)
	return ok, nil, err
}

// codecSettings are the settings that shape text.
func (s *Session) codecSettings() *pgcodec.Settings {
	if s.codec == nil || s.codecEpoch != s.planEpoch {
		s.codec, s.codecEpoch = s.makeCodecSettings(), s.planEpoch
	}
	return s.codec
}
