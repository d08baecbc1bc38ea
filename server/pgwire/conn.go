package pgwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/jackc/pgproto3/v2"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql"
	"github.com/holdfastdb/holdfast/sql/parser"
	"github.com/holdfastdb/holdfast/sql/pgcodec"
)

// Session is what the protocol needs of a *sql.Session; its methods are
// documented there. One goroutine calls them, but for CancelQuery.
type Session interface {
	ID() uint64
	TextSettings() *pgcodec.Settings
	ReportedParameters() map[string]string
	TxnStatus() byte
	IdleTimeout() (time.Duration, *pgerr.Error)
	CancelQuery()
	Close(context.Context)

	Parse(sql string) ([]parser.Statement, error)
	SyncFollows()
	ExecStmt(ctx context.Context, stmt parser.Statement, res sql.ResultWriter) error
	Sync(ctx context.Context) error

	Prepare(ctx context.Context, name string, stmt parser.Statement, paramTypes []oid.Oid) (*sql.Prepared, error)
	LookupPrepared(name string) (*sql.Prepared, error)
	CloseStatement(name string)
	Bind(ctx context.Context, portal string, p *sql.Prepared, args [][]byte, formats, resultFormats []int16) (*sql.Portal, error)
	LookupPortal(name string) (*sql.Portal, error)
	ExecutePortal(ctx context.Context, po *sql.Portal, maxRows int, res sql.ResultWriter) (suspended bool, err error)
	ClosePortal(portal string)
	// Fail aborts the transaction after an error that the session has not seen.
	Fail(err error) error
}

// conn is one client. Its goroutine owns all fields but the atomic ones.
type conn struct {
	srv *Server
	nc  net.Conn
	r   *reader
	be  *pgproto3.Backend
	w   writer

	sess      Session
	cancelKey cancelKey
	started   bool              // startup is over: ParameterStatus may be sent
	settings  *pgcodec.Settings // of the present result
	result    resultWriter

	stmts   map[string]*statement
	portals map[string]*portal // of empty statements have no sql.Portal

	// skipping is set after an error in the extended protocol: messages are
	// dropped until Sync.
	skipping bool
	// idle says that the goroutine waits for the client outside of a transaction.
	idle atomic.Bool
	// timeoutErr ends the connection when the read deadline passes.
	timeoutErr *pgerr.Error
	deadline   bool // a read deadline is set
	// cancelable is sess, for goroutines that want to cancel it.
	cancelable atomic.Pointer[Session]
	// terminated says that somebody wants the connection to end.
	terminated atomic.Bool
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, nc: nc, r: newReader(nc, s.cfg.MaxMessageBytes)}
	c.be = pgproto3.NewBackend(c.r, nil)
	c.w.nc = nc
	c.result.c = c
	return c
}

// serve is the life of a connection.
func (c *conn) serve(ctx context.Context, full bool) {
	defer func() {
		if p := recover(); p != nil {
			c.srv.log.ErrorContext(ctx, "panic in a SQL session; its connection ends", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			c.fatal(pgerr.New(pgerr.Internal, "internal error: the session ends and its open transaction is rolled back").
				WithDetail("%v", p))
			c.closeSession(ctx)
		}
	}()
	c.loginDeadline(c.srv.cfg.LoginTimeout)
	err := c.startup(ctx, full)
	if err == nil {
		_ = c.nc.SetReadDeadline(time.Time{})
		err = c.loop(ctx)
	}
	var pe *pgerr.Error
	if errors.As(err, &pe) {
		c.fatal(pe)
	} else if err != nil && !errors.Is(err, errGone) && ctx.Err() == nil {
		c.srv.log.DebugContext(ctx, "SQL connection ended", "err", err)
	}
	c.closeSession(ctx)
}

func (c *conn) closeSession(ctx context.Context) {
	if sess := c.sess; sess != nil {
		c.sess = nil
		c.cancelable.Store(nil)
		defer func() {
			if p := recover(); p != nil {
				c.srv.log.ErrorContext(ctx, "panic while closing a SQL session", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			}
		}()
		sess.Close(context.WithoutCancel(ctx))
	}
	c.w.buf = c.w.buf[:0]
	c.w.release()
}

// fatal tells the client why the connection ends, without waiting long for it.
func (c *conn) fatal(e *pgerr.Error) {
	_ = c.nc.SetWriteDeadline(time.Now().Add(5 * time.Second))
	c.w.errorOrNotice('E', "FATAL", e)
	_ = c.w.flush()
}

// cancelQuery may be called by any goroutine. CancelQuery ends what runs; a COPY
// that waits for the client is woken by its context.
func (c *conn) cancelQuery() {
	if s := c.cancelable.Load(); s != nil {
		(*s).CancelQuery()
	}
}

// parameterChanged is called by the session, within one of its methods.
func (c *conn) parameterChanged(name, value string) {
	if c.started { // Before, all of them are still to be told.
		c.w.parameterStatus(name, value)
	}
}

// loop reads messages and acts on them until the client goes or must go.
func (c *conn) loop(ctx context.Context) error {
	for {
		msg, err := c.next(ctx)
		if err != nil {
			if err = c.badMessage(err); err != nil {
				return err
			}
			continue
		}
		if c.skipping {
			switch msg.(type) {
			case *pgproto3.Sync, *pgproto3.Terminate:
			default:
				continue
			}
		}
		if err := c.handle(ctx, msg); err != nil {
			return err
		}
	}
}

// handle acts on one message. An error ends the connection; errors of statements
// are sent and do not come back.
func (c *conn) handle(ctx context.Context, msg pgproto3.FrontendMessage) error {
	switch m := msg.(type) {
	case *pgproto3.Query:
		return c.simpleQuery(ctx, m.String)
	case *pgproto3.Bind:
		return c.extended(c.bind(ctx, m))
	case *pgproto3.Execute:
		return c.extended(c.execute(ctx, m))
	case *pgproto3.Describe:
		return c.extended(c.describe(m))
	case *pgproto3.Parse:
		return c.extended(c.parse(ctx, m))
	case *pgproto3.Sync:
		c.skipping = false
		return c.ready(ctx)
	case *pgproto3.Flush:
		return c.w.flush()
	case *pgproto3.Close:
		return c.extended(c.close(m))
	case *pgproto3.Terminate:
		return errGone
	case *pgproto3.CopyData, *pgproto3.CopyDone, *pgproto3.CopyFail:
		return nil // What was under way when a COPY failed; PostgreSQL ignores it too.
	case *pgproto3.FunctionCall:
		c.sendError(pgerr.New(pgerr.FeatureNotSupported, "fastpath function calls are not supported"))
		return c.ready(ctx)
	}
	return pgerr.New(pgerr.ProtocolViolation, "unexpected message type")
}

// extended ends the handling of one message of the extended protocol.
func (c *conn) extended(err error) error {
	if err != nil {
		c.sendError(err)
		c.skipping = true
	}
	return c.w.flushIfFull()
}

// ready ends a batch: the implicit transaction is committed and the client told.
func (c *conn) ready(ctx context.Context) error {
	if err := c.sess.Sync(ctx); err != nil {
		c.sendError(err)
	}
	status := c.sess.TxnStatus()
	if status == 'I' && len(c.portals) > 0 {
		clear(c.portals)
	}
	c.w.readyForQuery(status)
	c.srv.metrics.bytesOut.Add(float64(len(c.w.buf)))
	return c.w.flush()
}

// sendError reports the failure of a statement. The connection goes on.
func (c *conn) sendError(err error) {
	c.srv.metrics.failures.Inc()
	e := clientError(c.srv.log, err)
	severity := e.Severity
	if severity == "" {
		severity = "ERROR"
	}
	c.w.errorOrNotice('E', severity, e)
}

// next waits for a message. While it waits outside of a transaction the
// connection holds no write buffer, and a drain can end it.
func (c *conn) next(ctx context.Context) (pgproto3.FrontendMessage, error) {
	for {
		if !c.r.buffered() {
			if err := c.beforeWait(); err != nil {
				return nil, err
			}
		}
		msg, err := c.receive()
		c.idle.Store(false)
		if err == nil {
			c.srv.metrics.bytesIn.Add(float64(c.r.bodyLen + 5))
			return msg, nil
		}
		if !isTimeout(err) {
			return nil, err
		}
		// Woken by a drain, by a timeout, or by a cancel that came too late.
		_ = c.nc.SetReadDeadline(time.Time{})
		if ctx.Err() != nil {
			return nil, errShuttingDown
		}
		if c.terminated.Load() {
			return nil, errTerminated
		}
		if c.srv.isDraining() && c.sess.TxnStatus() == 'I' {
			return nil, errShuttingDown
		}
		if c.timeoutErr != nil {
			return nil, c.timeoutErr
		}
	}
}

// beforeWait prepares for a wait of unknown length.
func (c *conn) beforeWait() error {
	if len(c.w.buf) == 0 {
		c.w.release()
	}
	c.timeoutErr = nil
	if d, err := c.sess.IdleTimeout(); d > 0 {
		c.timeoutErr = err
		c.deadline = true
		_ = c.nc.SetReadDeadline(time.Now().Add(d))
	} else if c.deadline {
		c.deadline = false
		_ = c.nc.SetReadDeadline(time.Time{})
	}
	if c.sess.TxnStatus() == 'I' && !c.skipping {
		c.idle.Store(true)
		if c.srv.isDraining() {
			return errShuttingDown
		}
	}
	// After the deadlines, which would undo what wakes a wait.
	if c.terminated.Load() {
		return errTerminated
	}
	return nil
}

// terminate ends the connection when its goroutine next waits for the client. Any
// goroutine may call it.
func (c *conn) terminate() {
	c.terminated.Store(true)
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
}

// wakeIfIdle makes an idle connection look at whether the server drains.
func (c *conn) wakeIfIdle() {
	if c.idle.Load() {
		_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// receive reads and decodes one message. A body that does not decode gives
// errMalformed; the next message can still be read.
func (c *conn) receive() (msg pgproto3.FrontendMessage, err error) {
	defer func() {
		if p := recover(); p != nil { // pgproto3 slices by lengths that it has not checked.
			c.be = pgproto3.NewBackend(c.r, nil)
			msg, err = nil, errMalformed
		}
	}()
	msg, err = c.be.Receive()
	if err == nil || c.r.err != nil {
		return msg, c.r.err
	}
	if c.r.bodyLen < 0 {
		return nil, errBadLength
	}
	if !knownMessage(c.r.msgType) {
		return nil, pgerr.Newf(pgerr.ProtocolViolation, "invalid frontend message type %d", c.r.msgType)
	}
	return nil, errMalformed
}

var errBadLength = pgerr.New(pgerr.ProtocolViolation, "invalid message length")

var errMalformed = errors.New("malformed message")

func knownMessage(t byte) bool {
	switch t {
	case 'B', 'C', 'D', 'E', 'F', 'H', 'P', 'Q', 'S', 'X', 'c', 'd', 'f', 'p':
		return true
	}
	return false
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// badMessage decides what becomes of a connection whose last message could not be
// read. nil means that it goes on.
func (c *conn) badMessage(err error) error {
	typ, n := c.r.msgType, c.r.bodyLen
	switch {
	case errors.Is(err, errTooLarge) && n < 0:
		return errBadLength
	case errors.Is(err, errTooLarge):
		c.be = pgproto3.NewBackend(c.r, nil)
		if err := c.r.discard(n); err != nil {
			return errGone
		}
		err = pgerr.Newf(pgerr.ProgramLimitExceeded, "message of %d bytes is longer than the limit of %d bytes", n, c.srv.cfg.MaxMessageBytes).
			WithHint("Send the data in smaller statements, or with COPY.")
	case errors.Is(err, errMalformed):
		err = pgerr.Newf(pgerr.ProtocolViolation, "invalid message format in message of type \"%c\"", typ)
	case isEOF(err):
		return errGone
	default:
		return err
	}
	if c.skipping {
		return nil
	}
	err = c.sess.Fail(err)
	switch typ {
	case 'Q', 'F':
		c.sendError(err)
		return c.ready(context.Background())
	case 'S', 'H', 'X', 'p':
		return err
	}
	return c.extended(err)
}
