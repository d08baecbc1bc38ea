package sql

import (
	"context"
	"strings"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/exec"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// planner carries one statement from its syntax tree to its result. It lives as
// long as the statement, or as the portal that has suspended it.
type planner struct {
	s   *Session
	srv *Server
	// txn and cat are those of the session's transaction.
	txn *kv.Txn
	cat *catalog.Collection

	stmt    parser.Statement
	res     ResultWriter
	semaCtx tree.SemaContext
	evalCtx tree.EvalContext
	flow    *exec.Flow
	mem     *exec.Budget

	// args are the values of the statement's placeholders.
	args tree.Datums
	// autoCommit says that the statement is alone in its transaction, so its
	// last batch of writes may carry the commit.
	autoCommit bool
	// committed says that it did.
	committed bool
	// preparing says that names and types are wanted, not effects.
	preparing bool
	// voidParams marks parameters that calls drop; nil: none.
	voidParams []bool
	// portal is set while a portal keeps this planner.
	portal *Portal
	env    evalEnv
	// depth counts nested statements (views, triggers of foreign keys, SQL
	// functions), to stop runaway recursion.
	depth int
	// internal planners run statements of the schema changer and of foreign keys:
	// they have all rights.
	internal bool
	// uncommitted says that statements before this one, in its transaction, wrote.
	uncommitted bool
	// descs is what virtual tables were made from, as of schemaSeq descsSeq.
	descs    *descSet
	descsSeq int
}

// maxPlanDepth bounds views on views, and cascades of cascades.
const maxPlanDepth = 64

// newPlanner returns a planner for the session's open transaction.
func (s *Session) newPlanner(ctx context.Context, stmt parser.Statement, res ResultWriter) *planner {
	p := s.free
	s.free = nil
	if p == nil {
		p = &planner{s: s, srv: s.srv}
	}
	p.reset(ctx, stmt, res)
	return p
}

func (p *planner) reset(ctx context.Context, stmt parser.Statement, res ResultWriter) {
	s := p.s
	p.txn, p.cat = s.tx.txn, s.tx.cat
	p.stmt, p.res = stmt, res
	p.args, p.autoCommit, p.committed, p.preparing, p.depth = nil, false, false, false, 0
	p.internal, p.descs, p.voidParams = false, nil, nil
	p.uncommitted = s.tx.writes && s.tx.statements > 0
	p.mem = exec.NewBudget(s.srv.memPool, s.srv.cfg.StatementMemoryBytes)

	p.evalCtx = tree.EvalContext{
		SessionData:   &s.data,
		TxnReadOnly:   s.tx.readOnly,
		TxnImplicit:   s.tx.kind == txnImplicit,
		NodeID:        tree.NodeID(s.srv.cfg.NodeID),
		TxnTimestamp:  s.tx.started,
		StmtTimestamp: s.now(),
		Context:       ctx,
	}
	if s.tx.statements == 0 && s.tx.kind == txnImplicit {
		p.evalCtx.StmtTimestamp = s.tx.started
	}
	p.evalCtx.Placeholders = &p.semaCtx.Placeholders
	p.evalCtx.Annotations = &p.semaCtx.Annotations
	p.installEval()

	p.semaCtx = tree.SemaContext{
		Location:   &s.data.DataConversion.Location,
		SearchPath: s.data.SearchPath,
	}
	p.flow = exec.NewFlow(&p.evalCtx, p.mem, s.srv.cfg.TempDir)
}

// release gives the planner back for reuse.
func (p *planner) release() {
	p.mem.Close()
	p.txn, p.cat, p.res, p.args = nil, nil, nil, nil
	p.evalCtx.Context = nil
	if p.s.free == nil {
		p.s.free = p
	}
}

// now is the session's clock: microseconds, as PostgreSQL's timestamps.
func (s *Session) now() time.Time {
	return s.srv.clock.PhysicalTime().UTC().Round(time.Microsecond)
}

// notice sends a NOTICE to the client.
func (p *planner) notice(format string, args ...any) {
	n := pgerr.Notice(format, args...)
	if what, ok := strings.CutSuffix(n.Message, " already exists, skipping"); ok {
		n.Code = duplicateCode(what)
	}
	p.s.sendNotice(p.res, n)
}

// duplicateCode is the code with which something that exists already is skipped.
func duplicateCode(what string) pgerr.Code {
	kind, _, _ := strings.Cut(what, " ")
	switch kind {
	case "relation":
		return pgerr.DuplicateRelation
	case "schema":
		return pgerr.DuplicateSchema
	case "column":
		return pgerr.DuplicateColumn
	case "database":
		return pgerr.DuplicateDatabase
	}
	return pgerr.DuplicateObject
}

// warn sends a WARNING with a code.
func (p *planner) warn(code pgerr.Code, format string, args ...any) {
	e := pgerr.Newf(code, format, args...)
	e.Severity = "WARNING"
	p.s.sendNotice(p.res, e)
}

// sendNotice sends a notice or a warning, unless client_min_messages is above it.
func (s *Session) sendNotice(res ResultWriter, n *pgerr.Error) {
	if res == nil {
		return
	}
	switch s.vars.clientMinMessages {
	case "warning":
		if n.Severity == "NOTICE" {
			return
		}
	case "error", "fatal", "panic":
		return
	}
	res.Notice(n)
}

// checkWritable refuses what a read-only transaction may not do. what is the
// command as PostgreSQL names it, for instance "INSERT" or "CREATE TABLE".
func (p *planner) checkWritable(what string) error {
	if p.s.tx.readOnly {
		return pgerr.Newf(pgerr.ReadOnlySQLTransaction, "cannot execute %s in a read-only transaction", what)
	}
	p.s.tx.writes = true
	return nil
}

// afterCommit registers work for when the transaction is durable; its error
// reaches the client as that of COMMIT.
func (p *planner) afterCommit(fn func(ctx context.Context) error) {
	p.s.tx.afterCommit = append(p.s.tx.afterCommit, fn)
}

// query runs a nested SQL statement in the same transaction, with the session's
// rights, and returns its rows. args are its $1, $2, ….
func (p *planner) query(ctx context.Context, sql string, args ...tree.Datum) ([]tree.Datums, []ResultColumn, error) {
	if p.depth >= maxPlanDepth {
		return nil, nil, pgerr.New("54001", "stack depth limit exceeded")
	}
	stmt, err := parser.ParseOne(sql)
	if err != nil {
		return nil, nil, err
	}
	var res bufferedResult
	sub := &planner{s: p.s, srv: p.srv}
	sub.reset(ctx, stmt, &res)
	defer sub.mem.Close()
	sub.depth = p.depth + 1
	sub.evalCtx.StmtTimestamp = p.evalCtx.StmtTimestamp
	sub.setArgs(args)
	if err := sub.execStmt(ctx, stmt.AST, &res); err != nil {
		return nil, nil, err
	}
	return res.rows, res.cols, nil
}

// exec is query for statements whose rows do not matter.
func (p *planner) exec(ctx context.Context, sql string, args ...tree.Datum) error {
	_, _, err := p.query(ctx, sql, args...)
	return err
}

// setArgs gives the placeholders their values.
func (p *planner) setArgs(args tree.Datums) {
	p.args = args
	ph := &p.semaCtx.Placeholders
	ph.Types = make(tree.PlaceholderTypes, len(args))
	ph.TypeHints = make(tree.PlaceholderTypes, len(args))
	for i, a := range args {
		ph.TypeHints[i] = a.ResolvedType()
	}
}
