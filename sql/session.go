package sql

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/sessiondata"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/sql/parser"
	"github.com/holdfastdb/holdfast/sql/pgcodec"
)

// SessionArgs describe a client that has been authenticated.
type SessionArgs struct {
	User            string
	Database        string
	ApplicationName string
	// Options are the startup parameters and "options" settings, by name.
	Options    map[string]string
	RemoteAddr string
	// Notify is told when a parameter that clients follow (ParameterStatus)
	// has changed. It may be nil.
	Notify func(name, value string)
	// Disconnect ends the client's connection when it next waits for the client. It
	// may be called by any goroutine, and may be nil.
	Disconnect func()
}

// Session is one client's conversation. Its methods are called by one goroutine
// at a time, except CancelQuery and the accessors that say otherwise.
//
// The simple protocol calls Parse, then ExecStmt for each statement, then Sync.
// The extended protocol calls Prepare, Bind and ExecutePortal in any order and
// Sync when the client says so. Statements outside of a transaction block share
// one implicit transaction that ends at Sync: an error before it undoes them
// all. If the caller knows that Sync comes next it says so with SyncFollows, and
// the statement commits by itself, at less cost and with automatic retries.
// After an error the caller skips to Sync.
type Session struct {
	srv  *Server
	id   uint64
	args SessionArgs

	data sessiondata.SessionData // what tree's evaluation reads
	vars sessionVars             // the rest of the settings

	tx       txnState
	held     map[string]*cursor // WITH HOLD
	prepared map[string]*Prepared
	portals  map[string]*Portal
	texts    textCache

	// planEpoch changes with every setting that a plan could depend on.
	planEpoch   uint64
	syncFollows bool
	free        *planner   // a planner for reuse by the next statement
	rng         *rand.Rand // after setseed()
	codec       *pgcodec.Settings
	codecEpoch  uint64
	closed      bool
	// jobsNow makes crdb_internal.jobs show the jobs as they are now and not as of
	// the transaction: a statement that waited for them says how they ended.
	jobsNow bool

	mu struct {
		sync.Mutex
		cancel   context.CancelCauseFunc // of the running statement
		sql      string                  // its text
		sqlStart time.Time
		lastSQL  string
		txnsDone int64
		start    time.Time
		txn      openTxn
	}

	sessionState // sequences, temporary objects and the like
}

var errTransactionTimeout = pgerr.New(transactionTimeout, "canceling statement due to transaction timeout")

var errQueryCanceled = pgerr.New(pgerr.QueryCanceled, "canceling statement due to user request")
var errStatementTimeout = pgerr.New(pgerr.QueryCanceled, "canceling statement due to statement timeout")

// sessionsPerNode is how many ids of sessions a node has. The id of the node stands
// above them, so an id, which clients know as a PID of 31 bits, is of one session in
// the cluster.
const sessionsPerNode = 1 << 20

func (s *Server) newSessionID() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		id := uint64(s.cfg.NodeID)*sessionsPerNode + s.nextSessionID.Add(1)%sessionsPerNode
		if s.mu.sessions[id] == nil {
			return id
		}
	}
}

// NodeOfSession returns the node whose session an id names.
func NodeOfSession(id uint64) int32 { return int32(id / sessionsPerNode) }

// NewSession opens a session for an authenticated user.
func (s *Server) NewSession(ctx context.Context, args SessionArgs) (*Session, error) {
	sess := &Session{
		srv: s, args: args, id: s.newSessionID(),
		prepared: map[string]*Prepared{}, portals: map[string]*Portal{},
	}
	sess.tx.s = sess
	sess.mu.start = time.Now()
	sess.data.User = args.User
	sess.data.Database = args.Database
	sess.data.ApplicationName = args.ApplicationName
	sess.data.SequenceState = sessiondata.NewSequenceState()
	sess.data.DataConversion.Location = time.UTC
	if err := sess.initVars(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.mu.sessions[sess.id] = sess
	s.mu.Unlock()
	return sess, nil
}

// Close rolls back what is open and forgets the session.
func (s *Session) Close(ctx context.Context) {
	if s.closed {
		return
	}
	s.closed = true
	s.closePortals(ctx)
	s.tx.rollback(ctx)
	s.dropHeld()
	s.closeState(ctx)
	s.srv.mu.Lock()
	delete(s.srv.mu.sessions, s.id)
	s.srv.mu.Unlock()
}

// ID identifies the session in the cluster. Safe for concurrent use.
func (s *Session) ID() uint64 { return s.id }

// User is the session's user.
func (s *Session) User() string { return s.data.User }

// Data gives the settings that the conversion of datums to text depends on.
func (s *Session) Data() *sessiondata.SessionData { return &s.data }

// Parse splits a query string into statements, under the session's settings.
func (s *Session) Parse(sql string) ([]parser.Statement, error) {
	if stmts := s.texts.statements(sql); stmts != nil {
		return stmts, nil
	}
	stmts, err := parser.Parse(sql)
	if err != nil {
		return nil, s.failBatch(err)
	}
	return stmts, nil
}

// SyncFollows promises that the next ExecStmt or ExecutePortal is the last
// before Sync.
func (s *Session) SyncFollows() { s.syncFollows = true }

// CancelQuery stops the running statement, if there is one. Safe for
// concurrent use.
func (s *Session) CancelQuery() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.cancel != nil {
		s.mu.cancel(errQueryCanceled)
	}
}

// TxnStatus is the byte of ReadyForQuery: 'I' outside of a transaction block,
// 'T' in one, 'E' in one that has failed.
func (s *Session) TxnStatus() byte { return s.tx.statusByte() }

// IdleTimeout says how long the client may stay silent now, and with which error
// its connection ends if it does. 0 means no limit.
func (s *Session) IdleTimeout() (time.Duration, *pgerr.Error) {
	if s.tx.explicit() {
		left, limited := s.transactionTimeLeft()
		if d := s.vars.idleInTransactionTimeout; limited && (d == 0 || left < d) {
			return left, pgerr.New(transactionTimeout, "terminating connection due to transaction timeout")
		}
		if d := s.vars.idleInTransactionTimeout; d > 0 {
			return d, pgerr.New("25P03", "terminating connection due to idle-in-transaction timeout")
		}
		return 0, nil
	}
	if d := s.vars.idleSessionTimeout; d > 0 {
		return d, pgerr.New("57P05", "terminating connection due to idle-session timeout")
	}
	return 0, nil
}

// transactionTimeout is the code of transactions that took too long, as PostgreSQL
// has it from version 17 on.
const transactionTimeout pgerr.Code = "25P04"

// transactionTimeLeft says how long the transaction may go on.
func (s *Session) transactionTimeLeft() (time.Duration, bool) {
	d := s.vars.transactionTimeout
	if d <= 0 {
		return 0, false
	}
	if s.tx.kind != noTxn {
		d -= s.now().Sub(s.tx.started)
	}
	return max(d, time.Nanosecond), true
}

// ExecStmt runs one statement of the simple protocol.
func (s *Session) ExecStmt(ctx context.Context, stmt parser.Statement, res ResultWriter) error {
	_, err := s.exec(ctx, execArgs{stmt: stmt, res: res})
	return err
}

// Sync ends the implicit transaction, if one is open.
func (s *Session) Sync(ctx context.Context) error {
	s.syncFollows = false
	if s.tx.kind == txnImplicit {
		// Portals die with their transaction.
		s.closePortals(ctx)
		if err := s.tx.commit(ctx); err != nil {
			return mapError(ctx, err)
		}
	} else if s.tx.kind == noTxn {
		s.closePortals(ctx)
	}
	return nil
}

// execArgs is one execution of one statement.
type execArgs struct {
	stmt parser.Statement
	res  ResultWriter

	prep   *Prepared   // extended protocol and EXECUTE
	args   tree.Datums // values of its parameters
	portal *Portal     // keeps the operators when maxRows is reached
	max    int         // rows to return at most; 0 is no limit
}

// exec runs one statement in its lifecycle: time limits, cancel, transaction,
// retries, commit. suspended says that a portal has more rows.
func (s *Session) exec(ctx context.Context, ea execArgs) (suspended bool, _ error) {
	auto := s.syncFollows
	s.syncFollows = false

	ctx, done := s.beginStatement(ctx, ea.stmt.SQL)
	defer done()

	suspended, err := s.guarded(ctx, func() (bool, error) { return s.execInTxn(ctx, ea, auto) })
	if err != nil {
		err = s.failBatch(mapError(ctx, err))
	}
	return suspended, err
}

// guarded turns a panic into an error of the statement. The packages of the
// parser panic where they meet what they think impossible; one statement must
// not take down the sessions of others.
func (s *Session) guarded(ctx context.Context, fn func() (bool, error)) (suspended bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			s.srv.log.ErrorContext(ctx, "a statement panicked", "panic", r, "stack", string(debug.Stack()))
			s.free = nil // It may be in any state.
			suspended, err = false, fmt.Errorf("a statement panicked: %v", r)
		}
	}()
	return fn()
}

// beginStatement makes the statement visible to CancelQuery and SHOW QUERIES,
// and sets its time limit.
func (s *Session) beginStatement(ctx context.Context, sql string) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var timer *time.Timer
	limit, cause := s.data.StmtTimeout, error(errStatementTimeout)
	// ROLLBACK and COMMIT of a failed block always get through.
	if d, ok := s.transactionTimeLeft(); ok && s.tx.kind != txnAborted && (limit == 0 || d < limit) {
		limit, cause = d, errTransactionTimeout
	}
	if limit > 0 {
		timer = time.AfterFunc(limit, func() { cancel(cause) })
	}
	s.mu.Lock()
	s.mu.cancel, s.mu.sql, s.mu.sqlStart = cancel, sql, time.Now()
	s.mu.txn.statements++
	s.mu.Unlock()
	return ctx, func() {
		if timer != nil {
			timer.Stop()
		}
		s.mu.Lock()
		s.mu.cancel, s.mu.lastSQL, s.mu.sql = nil, s.mu.sql, ""
		s.mu.Unlock()
		cancel(nil)
	}
}

// failBatch leaves the transaction as an error leaves it: an implicit one is
// gone, a block is aborted.
func (s *Session) failBatch(err error) error {
	s.tx.fail()
	return err
}

// mapError gives an error that came from below the SQLSTATE a client knows it by.
func mapError(ctx context.Context, err error) error {
	var unknown *kvpb.AmbiguousResultError
	if errors.As(err, &unknown) {
		return mapTreeError(err) // Also if it is because of a cancellation: that may have come too late.
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		if cause := context.Cause(ctx); cause != nil {
			var pe *pgerr.Error
			if errors.As(cause, &pe) {
				return pe
			}
			if errors.Is(cause, context.Canceled) {
				return errQueryCanceled
			}
		}
	}
	return mapTreeError(err)
}
