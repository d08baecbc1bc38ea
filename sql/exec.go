package sql

import (
	"context"
	"fmt"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// maxAutoRetries bounds how often a statement is run again when others keep
// winning.
const maxAutoRetries = 50

// execInTxn gives the statement a transaction, and runs it again when that is
// what a conflict asks for and the client cannot tell.
func (s *Session) execInTxn(ctx context.Context, ea execArgs, syncFollows bool) (suspended bool, _ error) {
	if done, err := s.execTxnControl(ctx, ea); done {
		return false, err
	}
	switch s.tx.kind {
	case txnAborted:
		return false, pgerr.New(pgerr.InFailedSQLTransaction,
			"current transaction is aborted, commands ignored until end of transaction block")
	case txnCommitWait:
		return false, pgerr.New(pgerr.InFailedSQLTransaction,
			"current transaction is committed, commands ignored until end of transaction block")
	}
	if po := ea.portal; po != nil {
		if po.done {
			ea.res.Complete(rowsTag("SELECT", 0))
			return false, nil
		}
		if po.run != nil {
			return s.resume(ctx, ea)
		}
	}
	auto := false
	if s.tx.kind == noTxn {
		if err := s.tx.begin(txnImplicit, txnModes{}); err != nil {
			return false, err
		}
		auto = syncFollows
	}
	// A statement may be run again while it is the first of its transaction:
	// then nothing that came before has been shown to anyone.
	alone := s.tx.statements == 0 && len(s.tx.savepoints) == 0
	for attempt := 0; ; attempt++ {
		suspended, err := s.execOnce(ctx, ea, auto)
		if err == nil {
			return suspended, nil
		}
		if !alone || s.tx.kind == noTxn || attempt >= maxAutoRetries || !isRetryable(err) ||
			ctx.Err() != nil || !ea.res.Rewind() {
			return false, err
		}
		if attempt > 2 {
			select {
			case <-time.After(min(time.Duration(attempt)*time.Millisecond, 50*time.Millisecond)):
			case <-ctx.Done():
			}
		}
		if err := s.tx.restart(ctx); err != nil {
			return false, err
		}
	}
}

// execOnce runs the statement in the open transaction, and commits if auto.
func (s *Session) execOnce(ctx context.Context, ea execArgs, auto bool) (suspended bool, _ error) {
	s.tx.txn.Step(ctx)
	res := ea.res
	var held *heldResult
	if auto {
		// The tag tells the client that its statement is durable: it waits
		// for the commit.
		held = &heldResult{ResultWriter: ea.res}
		res = held
	}
	p := s.newPlanner(ctx, ea.stmt, res)
	p.autoCommit = auto
	suspended, err := p.run(ctx, ea, res)
	s.tx.statements++
	if suspended {
		return true, err // The portal keeps the planner.
	}
	committed := p.committed
	if p.portal == nil {
		p.release()
	}
	if err != nil {
		return false, err
	}
	if auto && s.tx.kind == txnImplicit {
		if committed {
			err = s.tx.committed(ctx)
		} else {
			err = s.tx.commit(ctx)
		}
		if err != nil {
			return false, err
		}
	}
	if held != nil {
		held.flush()
	}
	if ea.portal != nil {
		ea.portal.done = true
	}
	return false, nil
}

// resume goes on with a portal that was suspended.
func (s *Session) resume(ctx context.Context, ea execArgs) (suspended bool, _ error) {
	po := ea.portal
	p := po.p
	p.res, p.evalCtx.Context = ea.res, ctx
	suspended, err := p.pull(ctx, po.run, ea.res, ea.max)
	if suspended && err == nil {
		return true, nil
	}
	po.done = err == nil
	po.close()
	return false, err
}

// heldResult keeps the tag back until the commit.
type heldResult struct {
	ResultWriter
	tag  string
	done bool
}

func (h *heldResult) Complete(tag string) { h.tag, h.done = tag, true }

func (h *heldResult) flush() {
	if h.done {
		h.ResultWriter.Complete(h.tag)
	}
}

// run executes the planner's statement.
func (p *planner) run(ctx context.Context, ea execArgs, res ResultWriter) (suspended bool, _ error) {
	if ea.prep != nil {
		return p.execPrepared(ctx, ea, res)
	}
	return false, p.execStmt(ctx, ea.stmt.AST, res)
}

// execStmt runs one statement that is neither transaction control (see
// exec_txn.go) nor prepared. Queries and everything else that yields rows go
// through planStmt; the rest has a method each:
//
//   - execSession (exec_session.go): PREPARE, EXECUTE, DEALLOCATE, DISCARD,
//     cursors;
//   - execSettings (settings.go): SET, RESET, cluster settings;
//   - execSchema (ddl.go): CREATE, ALTER, DROP, GRANT, COMMENT, jobs, backups;
//   - execCopy (copy.go).
//
// Each reports whether the statement was its own.
func (p *planner) execStmt(ctx context.Context, stmt tree.Statement, res ResultWriter) error {
	for _, try := range []func(context.Context, tree.Statement, ResultWriter) (bool, error){
		p.execQuery, p.execSession, p.execSettings, p.execSchema, p.execCopy,
	} {
		if ok, err := try(ctx, stmt, res); ok || err != nil {
			return err
		}
	}
	return pgerr.Newf(pgerr.FeatureNotSupported, "unimplemented: %s", stmt.StatementTag())
}

// rowsTag is the command tag of a statement that returns or changes n rows.
func rowsTag(verb string, n int64) string {
	if verb == "INSERT" {
		return fmt.Sprintf("INSERT 0 %d", n)
	}
	return fmt.Sprintf("%s %d", verb, n)
}
