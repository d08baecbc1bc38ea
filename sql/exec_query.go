package sql

import (
	"context"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/exec"
)

// plan is a statement that has been bound and optimized. It is immutable and can
// be run many times, until a descriptor in deps has another version.
type plan struct {
	md   *metadata
	root rel
	out  []colID
	cols []ResultColumn // nil if no rows are returned
	tag  string         // verb of the command tag
	// mutation is the top node of INSERT, UPDATE and DELETE.
	mutation *mutationNode
	// source is set for statements like SHOW, whose tag they know.
	source *rowSource

	deps  []planDep
	epoch uint64 // Session.planEpoch
	// cacheable: nothing but deps and settings went into it.
	cacheable bool
	params    []*types.T
	// point is the shortcut for reading a row by its primary key.
	point *pointPlan
}

// planStmt binds and optimizes a statement; nil means that it is not a query.
func (p *planner) planStmt(ctx context.Context, stmt tree.Statement) (*plan, error) {
	b := &binder{ctx: ctx, p: p, md: &metadata{}}
	if err := p.applyAsOf(ctx, stmt); err != nil {
		return nil, err
	}
	b.uncacheable = findAsOf(stmt).Expr != nil // Planning is what sets the timestamp.
	q, err := b.bindStatement(stmt, &scope{})
	if err != nil || q == nil {
		return nil, err
	}
	pl := &plan{md: b.md, root: q.in, deps: b.deps, epoch: p.s.planEpoch, cacheable: !b.uncacheable && !p.cat.HasChanges()}
	pl.tag, pl.mutation = statementTag(stmt, q.in)
	if src, ok := q.in.(*sourceNode); ok {
		pl.source = src.src
	}
	if q.cols != nil || pl.mutation == nil {
		pl.cols = []ResultColumn{}
	}
	for _, c := range q.cols {
		if c.hidden {
			continue
		}
		pl.out = append(pl.out, c.id)
		pl.cols = append(pl.cols, p.resultColumn(ctx, b.md, c))
	}
	if pl.mutation != nil {
		pl.mutation.top = true
	}
	for _, d := range b.mutating {
		clearTop(d.in)
	}
	pl.root = p.optimize(b.md, q.in, pl.out)
	pl.params = append([]*types.T(nil), p.semaCtx.Placeholders.Types...)
	pl.point = p.pointPlan(pl)
	return pl, nil
}

// clearTop marks mutations of WITH queries, which cannot carry the commit.
func clearTop(n rel) {
	visitRel(n, func(n rel) {
		if m, ok := n.(*mutationNode); ok {
			m.top = false
		}
	})
}

// statementTag returns the verb of a statement's tag and its mutation.
func statementTag(stmt tree.Statement, n rel) (string, *mutationNode) {
	for {
		switch t := n.(type) {
		case *mutationNode:
			return strings.ToUpper(t.op.String()), t
		case *projectNode:
			n = t.in
			continue
		case *withNode:
			n = t.in
			continue
		}
		break
	}
	switch stmt.(type) {
	case *tree.Select, *tree.ParenSelect, *tree.ValuesClause, *tree.SelectClause, *tree.UnionClause:
		return "SELECT", nil
	}
	return stmt.StatementTag(), nil
}

func (p *planner) resultColumn(ctx context.Context, md *metadata, c outCol) ResultColumn {
	rc := MakeResultColumn(c.name, c.typ)
	if rc.Typ.Family() == types.UnknownFamily {
		rc.Typ = types.String
	}
	if oids := catalog.UserTypeOIDs(c.typ); len(oids) > 0 {
		set := catalog.EnumSet{}
		if e, err := p.cat.EnumByOID(ctx, oids[0]); err == nil && e != nil {
			set[oids[0]] = e
		}
		rc.OID = catalog.PGOid(c.typ, set)
	}
	id := c.id
	if o := md.cols[id].origin; o != 0 {
		id = o
	}
	if m := md.cols[id]; m.tab != nil {
		rc.TableID = m.tab.desc.ID()
		rc.AttNum = int16(m.tab.columns[m.ord].PGAttributeNum())
	}
	return rc
}

// execQuery runs statements that are planned: queries, DML and whatever yields
// rows.
func (p *planner) execQuery(ctx context.Context, stmt tree.Statement, res ResultWriter) (bool, error) {
	if handled, err := p.execExplain(ctx, stmt, res); handled || err != nil {
		return handled, err
	}
	pl, err := p.planStmt(ctx, stmt)
	if err != nil || pl == nil {
		return false, err
	}
	r := &running{}
	if err := p.start(ctx, pl, r); err != nil {
		r.close()
		return true, err
	}
	_, err = p.pull(ctx, r, res, 0)
	r.close()
	return true, err
}

// running is a plan in execution. A portal keeps it between fetches.
type running struct {
	pl    *plan
	op    exec.Operator
	c     *compiler
	n     int64 // rows returned in this execution
	done  bool
	total int64
}

func (r *running) close() {
	if r.op != nil {
		r.op.Close()
		r.op = nil
	}
	if r.c != nil {
		r.c.close()
		r.c = nil
	}
}

// start makes the operators.
func (p *planner) start(ctx context.Context, pl *plan, r *running) error {
	r.pl = pl
	r.c = p.newCompiler(ctx, pl.md)
	op, err := r.c.compileOutput(pl.root, pl.out)
	if err != nil {
		return err
	}
	r.op = op
	return op.Open(ctx)
}

// pull sends up to max rows (0: all) to res and completes the statement when
// there are no more.
func (p *planner) pull(ctx context.Context, r *running, res ResultWriter, max int) (suspended bool, _ error) {
	pl := r.pl
	if pl.cols != nil { // A portal that goes on writes to a result of its own.
		if err := res.SetColumns(ctx, pl.cols); err != nil {
			return false, err
		}
	}
	r.n = 0
	for {
		if max > 0 && r.n >= int64(max) {
			return true, nil
		}
		row, err := r.op.Next(ctx)
		if err != nil {
			return false, err
		}
		if row == nil {
			break
		}
		if err := res.AddRow(ctx, row); err != nil {
			return false, err
		}
		r.n++
	}
	r.done = true
	r.total += r.n
	res.Complete(p.completion(r))
	return false, nil
}

// completion is the command tag of a finished plan.
func (p *planner) completion(r *running) string {
	pl := r.pl
	if pl.mutation != nil {
		var n int64
		for _, m := range r.c.mutations {
			if m.node == pl.mutation {
				n = m.count
			}
		}
		return rowsTag(pl.tag, n)
	}
	if pl.source != nil {
		if pl.source.tag != "" {
			return pl.source.tag
		}
		return rowsTag(pl.tag, r.n)
	}
	if pl.tag != "SELECT" {
		return pl.tag
	}
	return rowsTag("SELECT", r.n)
}

// applyAsOf gives an implicit transaction the timestamp of the AS OF SYSTEM TIME
// of its only statement.
func (p *planner) applyAsOf(ctx context.Context, stmt tree.Statement) error {
	as := findAsOf(stmt)
	if as.Expr == nil {
		return nil
	}
	ts, err := p.evalAsOf(ctx, as)
	if err != nil {
		return err
	}
	if p.preparing {
		return nil
	}
	tx := &p.s.tx
	if tx.asOf == ts {
		return nil
	}
	if !tx.asOf.IsEmpty() || tx.kind != txnImplicit {
		return pgerr.Newf(pgerr.FeatureNotSupported,
			"inconsistent AS OF SYSTEM TIME timestamp; expected: %s, got: %s", tx.asOf, ts).
			WithHint("Use BEGIN AS OF SYSTEM TIME, or SET TRANSACTION AS OF SYSTEM TIME before the first query.")
	}
	if err := tx.setAsOf(ts); err != nil {
		return err
	}
	p.txn, p.cat = tx.txn, tx.cat
	return nil
}

// findAsOf returns the AS OF SYSTEM TIME of a statement's query.
func findAsOf(stmt tree.Statement) tree.AsOfClause {
	switch t := stmt.(type) {
	case *tree.Select:
		return findAsOf(t.Select)
	case *tree.ParenSelect:
		return findAsOf(t.Select)
	case *tree.UnionClause:
		if a := findAsOf(t.Left); a.Expr != nil {
			return a
		}
		return findAsOf(t.Right)
	case *tree.SelectClause:
		if t.From.AsOf.Expr != nil {
			return t.From.AsOf
		}
		for _, te := range t.From.Tables {
			if a, ok := te.(*tree.AliasedTableExpr); ok {
				te = a.Expr
			}
			if s, ok := te.(*tree.Subquery); ok {
				if as := findAsOf(s.Select); as.Expr != nil {
					return as
				}
			}
		}
	}
	return tree.AsOfClause{}
}

// evalAsOf evaluates an AS OF SYSTEM TIME expression.
func (p *planner) evalAsOf(ctx context.Context, as tree.AsOfClause) (hlc.Timestamp, error) {
	return evalAsOfTimestamp(p, as)
}
