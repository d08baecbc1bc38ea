package sql

import (
	"context"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// Nested statements: schema changes and foreign keys ask for rows in SQL, inside
// the session's transaction and with all rights.

// newBinder returns a binder for expressions that are not part of a statement.
func (p *planner) newBinder(ctx context.Context) *binder {
	return &binder{ctx: ctx, p: p, md: &metadata{}}
}

// nested runs a statement in a planner of its own.
func (p *planner) nested(ctx context.Context, sql string, args tree.Datums, internal bool, res ResultWriter) error {
	if p.depth >= maxPlanDepth {
		return pgerr.New("54001", "stack depth limit exceeded")
	}
	stmt, err := parser.ParseOne(sql)
	if err != nil {
		return pgerr.Wrapf(err, pgerr.Internal, "nested statement %q", sql)
	}
	sub := &planner{s: p.s, srv: p.srv}
	sub.reset(ctx, stmt, res)
	defer sub.mem.Close()
	sub.depth = p.depth + 1
	sub.internal = internal || p.internal
	sub.evalCtx.StmtTimestamp = p.evalCtx.StmtTimestamp
	sub.setArgs(args)
	return sub.execStmt(ctx, stmt.AST, res)
}

// internalQuery runs a statement with all rights and returns its rows.
func (p *planner) internalQuery(ctx context.Context, sql string, args ...tree.Datum) ([]tree.Datums, []ResultColumn, error) {
	var res bufferedResult
	if err := p.nested(ctx, sql, args, true, &res); err != nil {
		return nil, nil, err
	}
	return res.rows, res.cols, nil
}

// execTag runs a statement with the user's rights and returns its tag.
func (p *planner) execTag(ctx context.Context, sql string, args ...tree.Datum) (string, error) {
	var res bufferedResult
	if err := p.nested(ctx, sql, args, false, &res); err != nil {
		return "", err
	}
	return res.tag, nil
}

// streamQuery runs a query with all rights and feeds its rows to fn.
func (p *planner) streamQuery(ctx context.Context, sql string, fn func(row tree.Datums) error) error {
	return p.nested(ctx, sql, nil, true, &streamSink{fn: fn})
}

// streamSink feeds the rows of a nested query to fn.
type streamSink struct {
	bufferedResult
	fn func(row tree.Datums) error
}

func (r *streamSink) AddRow(_ context.Context, row tree.Datums) error { return r.fn(row) }

// Rewind says that rows cannot be taken back.
func (r *streamSink) Rewind() bool { return false }

// evalConst evaluates an expression without columns.
func (p *planner) evalConst(ctx context.Context, e tree.Expr) (tree.Datum, error) {
	te, err := p.bindStandalone(ctx, nil, e, "value", types.Any)
	if err != nil {
		return nil, err
	}
	return te.Eval(&p.evalCtx)
}

// fitDatum makes a value fit a column's width, scale and length.
func fitDatum(ec *tree.EvalContext, d tree.Datum, t *types.T, column string) (tree.Datum, error) {
	if d == tree.DNull || len(catalog.UserTypeOIDs(t)) > 0 {
		return d, nil
	}
	te, err := builtins.AssignCast(d, t)
	if err != nil {
		return nil, pgerr.Wrapf(err, pgerr.DatatypeMismatch, "column \"%s\"", column)
	}
	return te.Eval(ec)
}

// convertDatum brings a foreign key's value to the type of the parent's column.
func convertDatum(ec *tree.EvalContext, d tree.Datum, t *types.T) (tree.Datum, error) {
	if d == tree.DNull || d.ResolvedType().Family() == t.Family() {
		return d, nil
	}
	return tree.PerformCast(ec, d, t)
}

// typeOIDByName finds a built-in type by its PostgreSQL name.
func typeOIDByName(name string) (o typeOIDValue) {
	for k, t := range types.OidToType {
		if strings.EqualFold(t.PGName(), name) {
			return k
		}
	}
	return 0
}

func lowerKind(k parser.ObjectKind) string { return strings.ToLower(string(k)) }
