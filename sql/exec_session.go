package sql

import (
	"context"
	"fmt"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// execSession runs PREPARE, EXECUTE, DEALLOCATE and cursors.
func (p *planner) execSession(ctx context.Context, stmt tree.Statement, res ResultWriter) (bool, error) {
	switch t := stmt.(type) {
	case *tree.Prepare:
		return true, p.sqlPrepare(ctx, t, res)
	case *tree.Execute:
		return true, p.sqlExecute(ctx, t, res)
	case *tree.Deallocate:
		return true, p.deallocate(t, res)
	case *parser.Discard:
		return true, p.discard(ctx, t, res)
	case *parser.DeclareCursor:
		return true, p.declareCursor(ctx, t, res)
	case *parser.FetchCursor:
		return true, p.fetchCursor(ctx, t, res)
	case *parser.CloseCursor:
		return true, p.closeCursor(t, res)
	case *parser.NoOp:
		if t.Notice != "" {
			p.notice("%s", t.Notice)
		}
		res.Complete(t.StatementTag())
		return true, nil
	}
	return false, nil
}

// sqlPrepare runs PREPARE.
func (p *planner) sqlPrepare(ctx context.Context, t *tree.Prepare, res ResultWriter) error {
	name := string(t.Name)
	if p.s.prepared[name] != nil {
		return pgerr.Newf(pgerr.DuplicatePreparedStatement, "prepared statement %q already exists", name)
	}
	text := tree.AsStringWithFlags(t.Statement, tree.FmtParsable)
	stmt, err := parser.ParseOne(text)
	if err != nil {
		return err
	}
	prep := &Prepared{Name: name, Stmt: stmt, fromSQL: true, hints: make([]*types.T, max(stmt.NumPlaceholders, len(t.Types)))}
	for i, typ := range t.Types {
		if prep.hints[i], err = p.columnType(ctx, typ); err != nil {
			return err
		}
	}
	sub := &planner{s: p.s, srv: p.srv}
	sub.reset(ctx, stmt, res)
	defer sub.mem.Close()
	sub.preparing = true
	pl, err := sub.planPrepared(ctx, prep)
	if err != nil {
		return err
	}
	for i, pt := range sub.semaCtx.Placeholders.Types {
		if pt == nil {
			pt = sub.semaCtx.Placeholders.TypeHints[i]
		}
		if pt == nil {
			return pgerr.Newf("42P18", "could not determine data type of parameter $%d", i+1)
		}
		prep.types = append(prep.types, pt)
		prep.ParamTypes = append(prep.ParamTypes, sub.paramOID(ctx, pt))
	}
	if pl != nil {
		prep.Columns, prep.ReturnsRows = pl.cols, pl.cols != nil
		if pl.cacheable {
			prep.plan = pl
		}
	}
	p.s.prepared[name] = prep
	res.Complete("PREPARE")
	return nil
}

// sqlExecute runs EXECUTE.
func (p *planner) sqlExecute(ctx context.Context, t *tree.Execute, res ResultWriter) error {
	prep, err := p.s.LookupPrepared(string(t.Name))
	if err != nil {
		return err
	}
	if len(t.Params) != len(prep.types) {
		return pgerr.Newf(pgerr.SyntaxError, "wrong number of parameters for prepared statement %q", string(t.Name)).
			WithDetail("Expected %d parameters but got %d.", len(prep.types), len(t.Params))
	}
	b := &binder{ctx: ctx, p: p, md: &metadata{}}
	args := make(tree.Datums, len(t.Params))
	for i, e := range t.Params {
		te, err := b.bindExpr(e, &scope{}, exprMode{clause: "EXECUTE", desired: prep.types[i]})
		if err != nil {
			return err
		}
		if isLiteral(e) {
			te, err = b.castLiteral(te, prep.types[i], true)
		} else if asg, ok, eerr := b.enumAssign(te, prep.types[i]); ok || eerr != nil {
			te, err = asg, eerr
		} else {
			te, err = builtins.AssignCast(te, prep.types[i])
		}
		if err != nil {
			return err
		}
		if args[i], err = p.flow.EvalRow(te, nil); err != nil {
			return err
		}
	}
	sub := &planner{s: p.s, srv: p.srv}
	sub.reset(ctx, prep.Stmt, res)
	defer sub.mem.Close()
	sub.autoCommit = p.autoCommit
	_, err = sub.execPrepared(ctx, execArgs{stmt: prep.Stmt, res: res, prep: prep, args: args}, res)
	p.committed = sub.committed
	return err
}

func (p *planner) deallocate(t *tree.Deallocate, res ResultWriter) error {
	if t.Name == "" {
		for name := range p.s.prepared {
			delete(p.s.prepared, name)
		}
		res.Complete("DEALLOCATE ALL")
		return nil
	}
	if p.s.prepared[string(t.Name)] == nil {
		return pgerr.Newf(pgerr.InvalidSQLStatementName, "prepared statement %q does not exist", string(t.Name))
	}
	delete(p.s.prepared, string(t.Name))
	res.Complete("DEALLOCATE")
	return nil
}

// discard runs DISCARD.
func (p *planner) discard(ctx context.Context, t *parser.Discard, res ResultWriter) error {
	if t.Mode == "ALL" {
		if p.s.tx.explicit() {
			return pgerr.New(pgerr.ActiveSQLTransaction, "DISCARD ALL cannot run inside a transaction block")
		}
		clear(p.s.prepared)
		p.s.dropHeld()
		if err := p.resetAllVars(ctx); err != nil {
			return err
		}
	}
	if err := p.discardState(ctx, t.Mode); err != nil {
		return err
	}
	if t.Mode == "ALL" || t.Mode == "PLANS" {
		p.s.planEpoch++
	}
	res.Complete("DISCARD " + t.Mode)
	return nil
}

// cursor is an open cursor of a transaction.
type cursor struct {
	name   string
	p      *planner
	run    *running
	scroll bool
	// hold: it lives on after the transaction, so all its rows are read at once.
	hold bool
	cols []ResultColumn // of a held cursor
	// rows are kept by SCROLL cursors and held ones; pos is the current row, from 1.
	rows []tree.Datums
	pos  int64
	end  bool
}

func (c *cursor) close() {
	if c.run != nil {
		c.run.close()
		c.run = nil
	}
	if c.p != nil {
		c.p.mem.Close()
	}
	c.rows = nil
}

// declareCursor runs DECLARE.
func (p *planner) declareCursor(ctx context.Context, t *parser.DeclareCursor, res ResultWriter) error {
	if !p.s.tx.explicit() && !t.Hold {
		return pgerr.New(pgerr.NoActiveSQLTransaction, "DECLARE CURSOR can only be used in transaction blocks")
	}
	name := string(t.Name)
	if p.s.tx.cursors[name] != nil || p.s.held[name] != nil {
		return pgerr.Newf("42P03", "cursor %q already exists", name)
	}
	sub := &planner{s: p.s, srv: p.srv}
	sub.reset(ctx, p.stmt, nil)
	sub.setArgs(p.args)
	sub.voidParams = p.voidParams
	pl, err := sub.planStmt(ctx, t.Query)
	if err != nil {
		sub.mem.Close()
		return err
	}
	c := &cursor{name: name, p: sub, run: &running{}, scroll: t.Scroll, hold: t.Hold}
	if err := sub.start(ctx, pl, c.run); err != nil {
		c.close()
		return err
	}
	if t.Hold {
		if _, err := c.row(ctx, 1<<62); err != nil {
			c.close()
			return err
		}
	}
	if p.s.tx.cursors == nil {
		p.s.tx.cursors = map[string]*cursor{}
	}
	p.s.tx.cursors[name] = c
	res.Complete("DECLARE CURSOR")
	return nil
}

func (p *planner) cursor(name tree.Name) (*cursor, error) {
	if c := p.s.tx.cursors[string(name)]; c != nil {
		return c, nil
	}
	if c := p.s.held[string(name)]; c != nil {
		return c, nil
	}
	return nil, pgerr.Newf(pgerr.InvalidCursorName, "cursor %q does not exist", string(name))
}

// row returns row n, counted from 1, or nil beyond the end.
func (c *cursor) row(ctx context.Context, n int64) (tree.Datums, error) {
	if c.scroll || c.hold {
		for int64(len(c.rows)) < n && !c.end {
			r, err := c.run.op.Next(ctx)
			if err != nil {
				return nil, err
			}
			if r == nil {
				c.end = true
				break
			}
			size := int64(32)
			for _, d := range r {
				size += int64(d.Size()) + 16
			}
			if err := c.p.mem.Grow(size); err != nil {
				return nil, err
			}
			c.rows = append(c.rows, append(tree.Datums(nil), r...))
		}
		if n >= 1 && n <= int64(len(c.rows)) {
			return c.rows[n-1], nil
		}
		return nil, nil
	}
	if c.end {
		return nil, nil
	}
	r, err := c.run.op.Next(ctx)
	if r == nil && err == nil {
		c.end = true
	}
	return r, err
}

// fetchCursor runs FETCH and MOVE.
func (p *planner) fetchCursor(ctx context.Context, t *parser.FetchCursor, res ResultWriter) error {
	c, err := p.cursor(t.Name)
	if err != nil {
		return err
	}
	c.p.evalCtx.Context = ctx
	backward := func() error {
		if !c.scroll {
			return pgerr.New(pgerr.ObjectNotInPrerequisiteState, "cursor can only scan forward").
				WithHint("Declare it with SCROLL option to enable backward scan.")
		}
		return nil
	}
	count, step := t.Count, int64(1)
	switch t.Direction {
	case "NEXT", "":
		count = 1
	case "PRIOR":
		count, step = 1, -1
	case "FORWARD":
		if t.All {
			count = -1
		} else if count < 0 {
			count, step = -count, -1
		}
	case "BACKWARD":
		step = -1
		if t.All {
			count = -1
		} else if count < 0 {
			count, step = -count, 1
		}
	case "FIRST":
		if c.pos != 0 {
			if err := backward(); err != nil {
				return err
			}
			c.pos = 0
		}
		count = 1
	case "LAST":
		if err := backward(); err != nil {
			return err
		}
		if _, err := c.row(ctx, 1<<62); err != nil {
			return err
		}
		c.pos, count = int64(len(c.rows))-1, 1
		c.pos = max(c.pos, 0)
	case "ABSOLUTE", "RELATIVE":
		target := t.Count
		if t.Direction == "RELATIVE" {
			target += c.pos
		} else if target < 0 {
			if err := backward(); err != nil {
				return err
			}
			if _, err := c.row(ctx, 1<<62); err != nil {
				return err
			}
			target += int64(len(c.rows)) + 1
		}
		if target <= c.pos && !c.scroll {
			if err := backward(); err != nil {
				return err
			}
		}
		for !c.scroll && c.pos < target-1 {
			if _, err := c.row(ctx, c.pos+1); err != nil {
				return err
			}
			c.pos++
		}
		c.pos, count = target-1, 1
	}
	if step < 0 {
		if err := backward(); err != nil {
			return err
		}
	}
	if !t.Move {
		if err := res.SetColumns(ctx, c.columns()); err != nil {
			return err
		}
	}
	n := int64(0)
	for count < 0 || n < count {
		at := c.pos + step
		if at < 1 {
			c.pos = 0
			break
		}
		row, err := c.row(ctx, at)
		if err != nil {
			return err
		}
		c.pos = at
		if row == nil {
			break
		}
		if !t.Move {
			if err := res.AddRow(ctx, row); err != nil {
				return err
			}
		}
		n++
	}
	verb := "FETCH"
	if t.Move {
		verb = "MOVE"
	}
	res.Complete(fmt.Sprintf("%s %d", verb, n))
	return nil
}

// takeHeld takes the WITH HOLD cursors out of a transaction that is about to commit.
// What is left of them is rows: the operators belong to the transaction.
func (t *txnState) takeHeld() map[string]*cursor {
	var out map[string]*cursor
	for name, c := range t.cursors {
		if !c.hold {
			continue
		}
		if out == nil {
			out = map[string]*cursor{}
		}
		c.cols = c.run.pl.cols
		c.run.close()
		c.run = nil
		out[name] = c
		delete(t.cursors, name)
	}
	return out
}

// hold keeps the cursors of a transaction that has committed.
func (s *Session) hold(cursors map[string]*cursor) {
	if s.held == nil {
		s.held = map[string]*cursor{}
	}
	for name, c := range cursors {
		s.held[name] = c
	}
}

// dropHeld closes the cursors that have outlived their transactions.
func (s *Session) dropHeld() {
	for _, c := range s.held {
		c.close()
	}
	s.held = nil
}

// columns are those of the cursor's rows.
func (c *cursor) columns() []ResultColumn {
	if c.run != nil {
		return c.run.pl.cols
	}
	return c.cols
}

func (p *planner) closeCursor(t *parser.CloseCursor, res ResultWriter) error {
	if t.All {
		p.s.tx.dropCursors()
		p.s.dropHeld()
		res.Complete("CLOSE CURSOR ALL")
		return nil
	}
	c, err := p.cursor(t.Name)
	if err != nil {
		return err
	}
	c.close()
	delete(p.s.tx.cursors, c.name)
	delete(p.s.held, c.name)
	res.Complete("CLOSE CURSOR")
	return nil
}

// describeOther gives the columns of statements that are not planned but return
// rows.
func (p *planner) describeOther(ctx context.Context, stmt tree.Statement) ([]ResultColumn, bool, error) {
	switch t := stmt.(type) {
	case *tree.Execute:
		prep, err := p.s.LookupPrepared(string(t.Name))
		if err != nil {
			return nil, true, err
		}
		return prep.Columns, true, nil
	case *parser.FetchCursor:
		if t.Move {
			return nil, true, nil
		}
		c, err := p.cursor(t.Name)
		if err != nil {
			return nil, true, err
		}
		return c.columns(), true, nil
	case *parser.DeclareCursor: // Planned for the types of its parameters.
		_, err := p.planStmt(ctx, t.Query)
		return nil, true, err
	case *tree.Explain, *parser.Explain, *tree.ExplainAnalyzeDebug:
		return explainColumns(), true, nil
	}
	return nil, false, nil
}
