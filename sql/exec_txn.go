package sql

import (
	"context"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// isTxnControl says whether a statement begins, ends or marks transactions.
func isTxnControl(stmt tree.Statement) bool {
	switch stmt.(type) {
	case *tree.BeginTransaction, *tree.CommitTransaction, *tree.RollbackTransaction, *parser.TransactionChain,
		*tree.Savepoint, *tree.ReleaseSavepoint, *tree.RollbackToSavepoint, *tree.SetTransaction, *tree.SetSessionCharacteristics:
		return true
	}
	return false
}

// execTxnControl runs BEGIN, COMMIT, SAVEPOINT and their kind.
func (s *Session) execTxnControl(ctx context.Context, ea execArgs) (done bool, _ error) {
	stmt := ea.stmt.AST
	if !isTxnControl(stmt) {
		return false, nil
	}
	res := ea.res
	if s.tx.kind == txnAborted {
		switch stmt.(type) {
		case *tree.CommitTransaction, *tree.RollbackTransaction, *parser.TransactionChain, *tree.RollbackToSavepoint:
		default:
			return true, pgerr.New(pgerr.InFailedSQLTransaction,
				"current transaction is aborted, commands ignored until end of transaction block")
		}
	}
	if s.tx.kind == txnCommitWait {
		switch stmt.(type) {
		case *tree.CommitTransaction, *tree.RollbackTransaction, *parser.TransactionChain:
		default:
			return true, pgerr.New(pgerr.InFailedSQLTransaction,
				"current transaction is committed, commands ignored until end of transaction block")
		}
	}
	switch t := stmt.(type) {
	case *tree.BeginTransaction:
		return true, s.beginBlock(ctx, t, beginTag(ea.stmt.SQL), res)

	case *tree.CommitTransaction:
		return true, s.endBlock(ctx, true, res)

	case *tree.RollbackTransaction:
		return true, s.endBlock(ctx, false, res)

	case *parser.TransactionChain:
		return true, s.chain(ctx, t, res)

	case *tree.Savepoint:
		if err := s.needBlock("SAVEPOINT"); err != nil {
			return true, err
		}
		if err := s.tx.savepoint(ctx, string(t.Name)); err != nil {
			return true, err
		}
		res.Complete("SAVEPOINT")

	case *tree.ReleaseSavepoint:
		if err := s.needBlock("RELEASE SAVEPOINT"); err != nil {
			return true, err
		}
		if err := s.tx.releaseSavepoint(ctx, string(t.Savepoint)); err != nil {
			return true, err
		}
		res.Complete("RELEASE")

	case *tree.RollbackToSavepoint:
		if err := s.needBlock("ROLLBACK TO SAVEPOINT"); err != nil {
			return true, err
		}
		s.closePortals(ctx)
		if err := s.tx.rollbackToSavepoint(ctx, string(t.Savepoint)); err != nil {
			return true, err
		}
		res.Complete("ROLLBACK")

	case *tree.SetTransaction:
		if s.tx.kind == noTxn {
			w := pgerr.New(pgerr.NoActiveSQLTransaction, "SET TRANSACTION can only be used in transaction blocks")
			w.Severity = "WARNING"
			s.sendNotice(res, w)
			res.Complete("SET")
			return true, nil
		}
		modes, err := s.evalModes(ctx, &t.Modes)
		if err != nil {
			return true, err
		}
		if modes.isolation != "" && s.tx.statements > 0 {
			return true, pgerr.New(pgerr.ActiveSQLTransaction, "SET TRANSACTION ISOLATION LEVEL must be called before any query")
		}
		if err := s.tx.setModes(modes); err != nil {
			return true, err
		}
		res.Complete("SET")

	case *tree.SetSessionCharacteristics:
		switch t.Modes.ReadWriteMode {
		case tree.ReadOnly:
			s.vars.defaultReadOnly = true
		case tree.ReadWrite:
			s.vars.defaultReadOnly = false
		}
		if iso := isolationName(&t.Modes); iso != "" {
			s.vars.defaultIsolation = iso
		}
		res.Complete("SET")
	}
	return true, nil
}

func (s *Session) needBlock(what string) error {
	if s.tx.explicit() {
		return nil
	}
	return pgerr.Newf(pgerr.NoActiveSQLTransaction, "%s can only be used in transaction blocks", what)
}

// beginTag is the tag of the statement as it was written.
func beginTag(sql string) string {
	if f := strings.Fields(sql); len(f) > 0 && strings.EqualFold(f[0], "start") {
		return "START TRANSACTION"
	}
	return "BEGIN"
}

// beginBlock runs BEGIN.
func (s *Session) beginBlock(ctx context.Context, t *tree.BeginTransaction, tag string, res ResultWriter) error {
	switch s.tx.kind {
	case noTxn:
		if err := s.tx.begin(txnBlock, txnModes{}); err != nil {
			return err
		}
		modes, err := s.evalModes(ctx, &t.Modes)
		if err == nil {
			err = s.tx.setModes(modes)
		}
		if err != nil {
			s.tx.rollback(ctx)
			return err
		}
	case txnImplicit:
		// BEGIN in the middle of a batch makes a block of what came before.
		modes, err := s.evalModes(ctx, &t.Modes)
		if err != nil {
			return err
		}
		s.tx.kind = txnBlock
		if err := s.tx.setModes(modes); err != nil {
			return err
		}
	default:
		w := pgerr.New(pgerr.ActiveSQLTransaction, "there is already a transaction in progress")
		w.Severity = "WARNING"
		s.sendNotice(res, w)
	}
	res.Complete(tag)
	return nil
}

// endBlock runs COMMIT and ROLLBACK.
func (s *Session) endBlock(ctx context.Context, commit bool, res ResultWriter) error {
	tag := "COMMIT"
	if !commit {
		tag = "ROLLBACK"
	}
	switch s.tx.kind {
	case noTxn, txnImplicit:
		w := pgerr.New(pgerr.NoActiveSQLTransaction, "there is no transaction in progress")
		w.Severity = "WARNING"
		s.sendNotice(res, w)
		if s.tx.kind == txnImplicit {
			s.closePortals(ctx)
			if !commit {
				s.tx.rollback(ctx)
			} else if err := s.tx.commit(ctx); err != nil {
				return err
			}
		}
	case txnBlock:
		s.closePortals(ctx)
		if !commit {
			s.tx.rollback(ctx)
		} else if err := s.tx.commit(ctx); err != nil {
			return err
		}
	case txnAborted:
		s.closePortals(ctx)
		s.tx.rollback(ctx)
		tag = "ROLLBACK"
	case txnCommitWait:
		s.closePortals(ctx)
		if err := s.tx.committed(ctx); err != nil {
			return err
		}
		tag = "COMMIT"
	}
	res.Complete(tag)
	return nil
}

// chain ends the transaction block and begins another with its modes.
func (s *Session) chain(ctx context.Context, t *parser.TransactionChain, res ResultWriter) error {
	if err := s.needBlock(t.StatementTag() + " AND CHAIN"); err != nil {
		return err
	}
	isolation, readOnly := s.tx.isolation, s.tx.readOnly
	if err := s.endBlock(ctx, t.Commit, res); err != nil {
		return err
	}
	if err := s.tx.begin(txnBlock, txnModes{isolation: isolation}); err != nil {
		return err
	}
	s.tx.readOnly = readOnly
	return nil
}

// evalModes evaluates the modes of BEGIN and SET TRANSACTION.
func (s *Session) evalModes(ctx context.Context, m *tree.TransactionModes) (txnModes, error) {
	out := txnModes{readWrite: m.ReadWriteMode, priority: m.UserPriority, isolation: isolationName(m)}
	if m.AsOf.Expr != nil {
		p := s.newPlanner(ctx, parser.Statement{}, &bufferedResult{})
		defer p.release()
		var err error
		if out.asOf, err = evalAsOfTimestamp(p, m.AsOf); err != nil {
			return out, err
		}
	}
	return out, nil
}

// isolationName is the level as SHOW TRANSACTION ISOLATION LEVEL prints it. All
// levels are run as serializable, which each of them allows.
func isolationName(m *tree.TransactionModes) string {
	if m.Isolation == tree.UnspecifiedIsolation {
		return ""
	}
	return strings.ToLower(m.Isolation.String())
}
