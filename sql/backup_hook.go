package sql

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// BackupStatement and BackupRow are what goes through a BackupHook.
type (
	BackupStatement = tree.Statement
	BackupRow       = tree.Datums
)

// BackupHook runs BACKUP, RESTORE and SHOW BACKUP. Package backupccl has it;
// server introduces the two.
type BackupHook interface {
	// Columns returns what a statement returns, without running it; ok is false
	// for statements that are not about backups.
	Columns(stmt tree.Statement) (cols []ResultColumn, ok bool)
	// Run runs a statement and gives its rows to row.
	Run(ctx context.Context, env BackupEnv, stmt tree.Statement, row func(context.Context, tree.Datums) error) error
}

// BackupEnv is what a BackupHook sees of the session that runs a statement.
type BackupEnv struct {
	User       string
	Database   string
	SearchPath []string
	Txn        *kv.Txn
	// ExplicitTxn says that Txn goes on after the statement.
	ExplicitTxn bool
	// Uncommitted says that other statements of Txn wrote before this one.
	Uncommitted bool

	EvalString func(ctx context.Context, e tree.Expr) (string, error)
	AsOf       func(ctx context.Context, c tree.AsOfClause) (hlc.Timestamp, error)
	// HasPrivilege says whether the user has a privilege, by its SQL name, on d,
	// or on the system when d is nil.
	HasPrivilege func(ctx context.Context, d catalog.Descriptor, privilege string) (bool, error)
	Notice       func(*pgerr.Error)
}

// backupSource returns the rows of BACKUP, RESTORE, SHOW BACKUP and SHOW
// BACKUPS, or nil for other statements.
func (p *planner) backupSource(stmt tree.Statement) (*rowSource, error) {
	tag, mutates := "", false
	switch stmt.(type) {
	case *parser.Backup, *parser.Restore:
		tag, mutates = stmt.StatementTag(), true
	case *parser.ShowBackups, *parser.ShowBackup:
	default:
		return nil, nil
	}
	hook := p.srv.cfg.Backup
	if hook == nil {
		return nil, pgerr.Newf(pgerr.FeatureNotSupported, "%s is not available in this process", stmt.StatementTag())
	}
	cols, ok := hook.Columns(stmt)
	if !ok {
		return nil, pgerr.Newf(pgerr.Internal, "%T has no columns", stmt)
	}
	return &rowSource{columns: cols, tag: tag, mutates: mutates, run: func(ctx context.Context, p *planner, addRow func(...tree.Datum) error) error {
		env := p.backupEnv()
		// A job that is waited for is no part of this transaction: its row is there
		// whatever becomes of that.
		p.s.tx.writes = env.ExplicitTxn || env.Uncommitted
		return hook.Run(ctx, env, stmt, func(_ context.Context, row tree.Datums) error { return addRow(row...) })
	}}, nil
}

func (p *planner) backupEnv() BackupEnv {
	return BackupEnv{
		User: p.s.User(), Database: p.s.data.Database, SearchPath: p.s.searchPath(),
		Txn: p.txn, ExplicitTxn: p.s.tx.explicit(), Uncommitted: p.uncommitted,
		EvalString:   p.evalBackupString,
		AsOf:         func(_ context.Context, c tree.AsOfClause) (hlc.Timestamp, error) { return evalAsOfTimestamp(p, c) },
		HasPrivilege: p.hasBackupPrivilege,
		Notice: func(n *pgerr.Error) {
			if p.res != nil {
				p.s.sendNotice(p.res, n)
			}
		},
	}
}

// evalBackupString evaluates a URI or the value of an option.
func (p *planner) evalBackupString(_ context.Context, e tree.Expr) (string, error) {
	te, err := builtins.TypeCheck(&p.semaCtx, e, types.String)
	if err != nil {
		return "", err
	}
	var d tree.Datum
	if ph, ok := te.(*tree.Placeholder); ok {
		d, err = p.argument(ph)
	} else {
		d, err = te.Eval(&p.evalCtx)
	}
	if err != nil {
		return "", err
	}
	s, ok := tree.AsDString(d)
	if !ok {
		return "", pgerr.Newf(pgerr.DatatypeMismatch, "expected a string, got %s", d.ResolvedType().SQLString())
	}
	return string(s), nil
}
