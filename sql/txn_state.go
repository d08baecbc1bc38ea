package sql

import (
	"context"
	"errors"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// txnKind says what kind of transaction a session is in.
//
//	noTxn ─► txnImplicit ─► noTxn            a statement; Sync or an error
//	noTxn, txnImplicit ─► txnBlock           BEGIN
//	txnBlock ─► txnAborted                   an error
//	txnAborted ─► txnBlock                   ROLLBACK TO SAVEPOINT
//	txnBlock, txnAborted ─► noTxn            COMMIT, ROLLBACK
//	txnBlock ─► txnCommitWait ─► noTxn       RELEASE SAVEPOINT cockroach_restart
type txnKind int

const (
	noTxn txnKind = iota
	txnImplicit
	txnBlock
	txnAborted
	txnCommitWait
)

// restartSavepoint is the name by which clients that retry whole transactions
// mark their beginning; releasing it commits.
const restartSavepoint = "cockroach_restart"

// txnState is the transaction of a session.
type txnState struct {
	s    *Session
	kind txnKind
	txn  *kv.Txn // nil in noTxn, and in txnAborted once it cannot go on
	// cat sees descriptors as of the transaction.
	cat *catalog.Collection

	started    time.Time // transaction_timestamp()
	readOnly   bool
	isolation  string
	asOf       hlc.Timestamp // fixed read timestamp, or zero
	statements int           // run so far, not counting BEGIN and its like
	writes     bool          // some statement may have written

	savepoints []savepoint
	cursors    map[string]*cursor
	restoreVar []varUndo // undo SET LOCAL and, on rollback, SET

	// afterCommit runs once the transaction is durable, outside of it: waiting
	// for jobs, releasing names. Its first error goes to the client.
	afterCommit []func(ctx context.Context) error
	// beforeCommit runs in the transaction as its last act.
	beforeCommit []func(ctx context.Context) error
	// afterRollback runs when the transaction has ended without its effects.
	afterRollback []func(ctx context.Context)

	schemaTxn
}

// schemaTxn is what schema changes note about their transaction.
type schemaTxn struct {
	// created are the relations it made: nobody else can see or lock them.
	created map[catalog.ID]bool
	// counters are the last numbers of sequences among them.
	counters map[catalog.ID]int64
	// freshIndexes are the indexes that it gave to tables by TRUNCATE.
	freshIndexes map[catalog.ID]map[uint32]bool
	// locked are the relations it keeps to itself.
	locked map[catalog.ID]bool
	// rolesChanged says that the node's cache of memberships does not hold here.
	rolesChanged bool
	// schemaSeq rises with every change of the catalog.
	schemaSeq int
	// unsynced is a sequence that it took numbers from.
	unsynced catalog.ID
}

// noteFreshIndex says that nobody else knows an index of a table.
func (t *schemaTxn) noteFreshIndex(table catalog.ID, index uint32) {
	if t.freshIndexes == nil {
		t.freshIndexes = map[catalog.ID]map[uint32]bool{}
	}
	if t.freshIndexes[table] == nil {
		t.freshIndexes[table] = map[uint32]bool{}
	}
	t.freshIndexes[table][index] = true
}

type savepoint struct {
	name    string
	restart bool // cockroach_restart as first statement of the block
	kv      kv.Savepoint
	cat     catalog.Mark
	vars    int // len(restoreVar)
	after   int // len(afterCommit)
	before  int // len(beforeCommit)
}

func (t *txnState) explicit() bool {
	return t.kind == txnBlock || t.kind == txnAborted || t.kind == txnCommitWait
}

func (t *txnState) statusByte() byte {
	switch t.kind {
	case txnBlock, txnCommitWait:
		return 'T'
	case txnAborted:
		return 'E'
	}
	return 'I'
}

// begin opens a transaction of the given kind.
func (t *txnState) begin(kind txnKind, modes txnModes) error {
	*t = txnState{s: t.s, kind: kind, started: t.s.now()}
	t.open()
	t.readOnly = t.s.vars.defaultReadOnly
	t.isolation = t.s.vars.defaultIsolation
	return t.setModes(modes)
}

// open makes the kv transaction and what depends on it.
func (t *txnState) open() {
	t.txn = t.s.srv.db.NewTxn(context.Background(), "sql")
	t.cat = t.s.srv.catalog.NewCollection(t.txn)
	if d := t.s.vars.lockTimeout; d > 0 {
		t.txn.SetLockTimeout(d)
	}
	t.statements, t.writes = 0, false
	t.noteTxn()
}

// txnModes are the modes of BEGIN and SET TRANSACTION after evaluation.
type txnModes struct {
	isolation string
	readWrite tree.ReadWriteMode
	priority  tree.UserPriority
	asOf      hlc.Timestamp
}

func (t *txnState) setModes(m txnModes) error {
	if m.isolation != "" {
		t.isolation = m.isolation
	}
	switch m.readWrite {
	case tree.ReadOnly:
		t.readOnly = true
	case tree.ReadWrite:
		if !t.asOf.IsEmpty() || !m.asOf.IsEmpty() {
			return pgerr.New(pgerr.SyntaxError, "AS OF SYSTEM TIME specified with READ WRITE mode")
		}
		if t.readOnly && t.statements > 0 {
			return pgerr.New(pgerr.ActiveSQLTransaction, "transaction read-write mode must be set before any query")
		}
		t.readOnly = false
	}
	switch m.priority {
	case tree.Low:
		t.txn.SetPriority(kvpb.PriorityLow)
	case tree.Normal:
		t.txn.SetPriority(kvpb.PriorityNormal)
	case tree.High:
		t.txn.SetPriority(kvpb.PriorityHigh)
	}
	if !m.asOf.IsEmpty() {
		return t.setAsOf(m.asOf)
	}
	return nil
}

// setAsOf fixes the timestamp at which everything is read.
func (t *txnState) setAsOf(ts hlc.Timestamp) error {
	if t.asOf == ts {
		return nil
	}
	if t.statements > 0 {
		return pgerr.New(pgerr.FeatureNotSupported, "cannot set fixed timestamp, .ReadTimestamp() is already in use").
			WithHint("Use AS OF SYSTEM TIME in BEGIN or in the first statement of the transaction.")
	}
	if err := t.txn.SetFixedTimestamp(context.Background(), ts); err != nil {
		return err
	}
	t.cat = t.s.srv.catalog.NewCollection(t.txn)
	t.asOf, t.readOnly = ts, true
	return nil
}

// fail is what an error does to the transaction.
func (t *txnState) fail() {
	switch t.kind {
	case txnImplicit:
		t.rollback(context.Background())
	case txnBlock:
		t.kind = txnAborted
		t.dropCursors()
		if len(t.savepoints) == 0 {
			t.release(context.Background())
		}
	}
}

// release rolls back the kv transaction, so that an aborted block holds no locks
// while the client makes up its mind.
func (t *txnState) release(ctx context.Context) {
	if t.txn != nil {
		if err := t.txn.Rollback(context.WithoutCancel(ctx)); err != nil {
			t.s.srv.log.DebugContext(ctx, "rolling back; locks will expire", "err", err)
		}
		t.txn = nil
	}
	if t.cat != nil {
		t.cat.Release()
		t.cat = nil
	}
	for _, fn := range t.afterRollback {
		fn(context.WithoutCancel(ctx))
	}
	t.afterRollback = nil
}

// rollback ends the transaction without its effects.
func (t *txnState) rollback(ctx context.Context) {
	if t.kind == noTxn {
		return
	}
	t.dropCursors()
	t.undoVars(0)
	t.release(ctx)
	t.end()
}

// commit makes the transaction durable and runs what waited for that.
func (t *txnState) commit(ctx context.Context) error {
	if t.kind == noTxn {
		return nil
	}
	if held := t.takeHeld(); held != nil {
		s := t.s
		err := t.commit(ctx)
		if err != nil {
			for _, c := range held {
				c.close()
			}
			return err
		}
		s.hold(held)
		return nil
	}
	t.dropCursors()
	for _, fn := range t.beforeCommit {
		if err := fn(ctx); err != nil {
			t.rollback(ctx)
			return err
		}
	}
	if err := t.syncSequences(ctx); err != nil {
		t.rollback(ctx)
		return err
	}
	if err := t.txn.Commit(ctx); err != nil {
		t.rollback(ctx)
		return err
	}
	return t.committed(ctx)
}

// committed is the part of commit after the kv transaction has ended.
func (t *txnState) committed(ctx context.Context) error {
	t.undoLocalVars()
	after := t.afterCommit
	t.txn = nil
	if t.cat != nil {
		t.cat.Release()
	}
	t.end()
	var first error
	for _, fn := range after {
		if err := fn(ctx); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (t *txnState) end() {
	t.s.endAdvisoryXact()
	t.s.mu.Lock()
	t.s.mu.txnsDone++
	t.s.mu.txn = openTxn{}
	t.s.mu.Unlock()
	*t = txnState{s: t.s}
}

func (t *txnState) dropCursors() {
	for _, c := range t.cursors {
		c.close()
	}
	t.cursors = nil
}

// restart begins the same transaction anew after a retryable error.
func (t *txnState) restart(ctx context.Context) error {
	kind, ro, iso, started, asOf := t.kind, t.readOnly, t.isolation, t.started, t.asOf
	t.release(ctx)
	t.dropCursors()
	t.afterCommit, t.beforeCommit = nil, nil
	t.schemaTxn = schemaTxn{}
	t.kind, t.readOnly, t.isolation, t.started, t.asOf = kind, ro, iso, started, hlc.Timestamp{}
	t.open()
	if !asOf.IsEmpty() {
		return t.setAsOf(asOf)
	}
	return nil
}

// savepoint marks a place to come back to.
func (t *txnState) savepoint(ctx context.Context, name string) error {
	sp := savepoint{name: name, vars: len(t.restoreVar), after: len(t.afterCommit), before: len(t.beforeCommit), cat: t.cat.Mark()}
	sp.restart = name == restartSavepoint && t.statements == 0 && len(t.savepoints) == 0
	var err error
	if sp.kv, err = t.txn.Savepoint(ctx); err != nil {
		return err
	}
	t.savepoints = append(t.savepoints, sp)
	return nil
}

func (t *txnState) findSavepoint(name string) (int, error) {
	for i := len(t.savepoints) - 1; i >= 0; i-- {
		if t.savepoints[i].name == name {
			return i, nil
		}
	}
	return 0, pgerr.Newf(pgerr.InvalidSavepoint, "savepoint %q does not exist", name)
}

func (t *txnState) releaseSavepoint(ctx context.Context, name string) error {
	i, err := t.findSavepoint(name)
	if err != nil {
		return err
	}
	if t.savepoints[i].restart {
		for _, fn := range t.beforeCommit {
			if err := fn(ctx); err != nil {
				return err
			}
		}
		t.beforeCommit = nil
		if err := t.txn.Commit(ctx); err != nil {
			return err
		}
		t.kind = txnCommitWait
	} else if err := t.txn.Release(ctx, t.savepoints[i].kv); err != nil {
		return err
	}
	t.savepoints = t.savepoints[:i]
	return nil
}

func (t *txnState) rollbackToSavepoint(ctx context.Context, name string) error {
	i, err := t.findSavepoint(name)
	if err != nil {
		return err
	}
	sp := t.savepoints[i]
	if sp.restart {
		saved := t.savepoints[:i]
		t.undoVars(sp.vars)
		t.kind = txnBlock
		if err := t.restart(ctx); err != nil {
			return err
		}
		t.savepoints = saved
		return t.savepoint(ctx, name)
	}
	if t.txn == nil {
		return pgerr.New(pgerr.SerializationFailure, "restart transaction: the transaction cannot go on").
			WithHint("Roll the whole transaction back and run it again.")
	}
	if err := t.txn.RollbackTo(ctx, sp.kv); err != nil {
		return err
	}
	t.cat.RollbackTo(sp.cat)
	t.undoVars(sp.vars)
	t.afterCommit = t.afterCommit[:sp.after]
	t.beforeCommit = t.beforeCommit[:sp.before]
	t.savepoints = t.savepoints[:i+1]
	t.kind = txnBlock
	return nil
}

// undoVars takes back the settings made since mark.
func (t *txnState) undoVars(mark int) {
	for i := len(t.restoreVar) - 1; i >= mark; i-- {
		t.restoreVar[i].undo()
	}
	t.restoreVar = t.restoreVar[:mark]
}

// undoLocalVars takes back what SET LOCAL has set: the transaction has committed.
func (t *txnState) undoLocalVars() {
	for i := len(t.restoreVar) - 1; i >= 0; i-- {
		if t.restoreVar[i].local {
			t.restoreVar[i].undo()
		}
	}
	t.restoreVar = nil
}

// varUndo takes back one setting.
type varUndo struct {
	undo  func()
	local bool // also at COMMIT
}

// isRetryable says that running the whole transaction again may help.
func isRetryable(err error) bool {
	var pe *pgerr.Error
	return errors.As(err, &pe) && (pe.Code == pgerr.SerializationFailure || pe.Code == pgerr.DeadlockDetected)
}
