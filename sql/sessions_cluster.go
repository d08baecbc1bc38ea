package sql

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// SessionStatus is a session as others see it. Its statements have no secrets in
// them any more.
type SessionStatus struct {
	NodeID                                      int32
	ID                                          uint64
	User, Database, RemoteAddr, ApplicationName string

	SQL, LastSQL        string // what runs, empty for nothing, and what ran before
	Started, QueryStart time.Time
	TxnsDone            int64
	TxnID               []byte // empty: no transaction is open
	TxnStarted          time.Time
	TxnStatements       int
	TxnRetries          int
}

// StopRequest asks to end what a session runs, or the session.
type StopRequest struct {
	SessionID uint64
	Terminate bool   // the session, not only its statement
	User      string // who wants it
	MayAll    bool   // and may stop sessions of others
}

// SessionPeers reaches the sessions of other nodes.
type SessionPeers interface {
	// Sessions returns those of all other nodes, and why some nodes are left out.
	Sessions(ctx context.Context) ([]SessionStatus, []error)
	// Stop carries out a request on another node, as StopSession does here.
	Stop(ctx context.Context, node int32, req StopRequest) (found bool, err error)
}

// SessionStatuses lists the sessions of this node, by id.
func (s *Server) SessionStatuses() []SessionStatus {
	var out []SessionStatus
	for _, sess := range s.Sessions() {
		out = append(out, sess.status())
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

// status may be called by any goroutine.
func (s *Session) status() SessionStatus {
	st := SessionStatus{
		NodeID: s.srv.cfg.NodeID, ID: s.id, User: s.args.User, Database: s.args.Database, RemoteAddr: s.args.RemoteAddr,
		ApplicationName: s.args.ApplicationName,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.SQL, st.LastSQL = withoutSecrets(s.mu.sql), withoutSecrets(s.mu.lastSQL)
	st.Started, st.QueryStart, st.TxnsDone = s.mu.start, s.mu.sqlStart, s.mu.txnsDone
	if s.mu.txn.id != (kvpb.TxnID{}) {
		st.TxnID, st.TxnStarted = s.mu.txn.id[:], s.mu.txn.started
		st.TxnStatements, st.TxnRetries = s.mu.txn.statements, s.mu.txn.retries
	}
	return st
}

// openTxn is what others may know of a session's transaction; the zero id means
// that none is open.
type openTxn struct {
	id                  kvpb.TxnID
	started             time.Time
	statements, retries int
}

// noteTxn says which transaction the session is in.
func (t *txnState) noteTxn() {
	s := t.s
	id := t.txn.ID()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.txn.id != (kvpb.TxnID{}) {
		s.mu.txn.retries++
	}
	s.mu.txn.id, s.mu.txn.started = id, t.started
}

// StopSession ends what a session of this node runs, or the session itself. found
// is false if there is no such session.
func (s *Server) StopSession(req StopRequest) (found bool, err error) {
	sess := s.SessionByID(req.SessionID)
	if sess == nil {
		return false, nil
	}
	if !req.MayAll && sess.args.User != req.User {
		return true, errMayNotStop()
	}
	if req.Terminate {
		sess.terminate()
	} else {
		sess.CancelQuery()
	}
	return true, nil
}

func errMayNotStop() error {
	return pgerr.New(pgerr.InsufficientPrivilege, "this operation requires CANCELQUERY privilege")
}

var errSessionTerminated = pgerr.New(pgerr.AdminShutdown, "terminating connection due to administrator command")

// terminate ends the running statement and, behind it, the client's connection. Any
// goroutine may call it.
func (s *Session) terminate() {
	if s.args.Disconnect != nil {
		s.args.Disconnect()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.cancel != nil {
		s.mu.cancel(errSessionTerminated)
	}
}

// stop carries out a request wherever the session is.
func (p *planner) stop(ctx context.Context, node int32, req StopRequest) (found bool, err error) {
	if node == p.srv.cfg.NodeID {
		if req.SessionID == p.s.id && !req.Terminate {
			return true, nil // It would stop this very statement.
		}
		return p.srv.StopSession(req)
	}
	if !p.srv.IsMember(node) {
		return false, nil
	}
	if peers := p.srv.cfg.SessionPeers; peers != nil {
		found, err = peers.Stop(ctx, node, req)
	} else {
		err = errors.New("there is no road to it")
	}
	if err != nil && pgerr.GetCode(err) != pgerr.InsufficientPrivilege {
		return false, pgerr.Newf("08006", "node %d, whose session it is, does not answer: %w", node, err)
	}
	return found, err
}

// sessionText names a session in SHOW SESSIONS and CANCEL SESSION, and the statement
// that it runs in SHOW QUERIES and CANCEL QUERY.
func (st *SessionStatus) idText() string { return sessionText(st.NodeID, st.ID) }

func sessionText(node int32, id uint64) string { return fmt.Sprintf("%016x%016x", node, id) }

// parseSessionText returns what a name stands for; ok is false if it is none.
func parseSessionText(text string) (node int32, id uint64, ok bool) {
	if len(text) != 32 {
		return 0, 0, false
	}
	var n uint64
	if _, err := fmt.Sscanf(text, "%16x%16x", &n, &id); err != nil || n > 1<<31-1 {
		return 0, 0, false
	}
	return int32(n), id, true
}

// visibleSessions returns the sessions that the user may see: those of this node or
// of all. Nodes that do not answer are left out, with a warning.
func (v *vctx) visibleSessions(ctx context.Context, everywhere bool) ([]SessionStatus, error) {
	all, err := v.p.isAdmin(ctx)
	if err != nil {
		return nil, err
	}
	if !all {
		if all, err = v.p.hasSystemPrivilege(ctx, v.p.user(), "VIEWACTIVITY"); err != nil {
			return nil, err
		}
	}
	list := v.p.srv.SessionStatuses()
	if peers := v.p.srv.cfg.SessionPeers; peers != nil && everywhere {
		others, failed := peers.Sessions(ctx)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, err := range failed {
			v.p.warn("01000", "%s", err)
		}
		list = append(list, others...)
		sort.SliceStable(list, func(i, j int) bool { return list[i].NodeID < list[j].NodeID })
	}
	out := list[:0]
	for _, st := range list {
		if all || st.User == v.p.s.data.User {
			out = append(out, st)
		}
	}
	return out, nil
}

// vcSessions, vcQueries and vcTransactions are tables of sessions: of this node or
// of all of them.
func vcSessions(everywhere bool) vpopulate {
	return func(ctx context.Context, v *vctx, add func(vrow) error) error {
		list, err := v.visibleSessions(ctx, everywhere)
		if err != nil {
			return err
		}
		for _, i := range list {
			status := "IDLE"
			if i.SQL != "" {
				status = "ACTIVE"
			}
			r := vrow{"node_id": i.NodeID, "session_id": i.idText(), "status": status, "user_name": i.User, "client_address": i.RemoteAddr,
				"application_name": i.ApplicationName, "active_queries": i.SQL, "last_active_query": i.LastSQL, "num_txns_executed": i.TxnsDone,
				"session_start": i.Started, "trace_id": 0, "goroutine_id": 0, "isolation_level": "SERIALIZABLE"}
			if i.SQL != "" {
				r["active_query_start"] = i.QueryStart
			}
			if len(i.TxnID) > 0 {
				r["kv_txn"] = txnText(i.TxnID)
			}
			if err := add(r); err != nil {
				return err
			}
		}
		return nil
	}
}

func vcQueries(everywhere bool) vpopulate {
	return func(ctx context.Context, v *vctx, add func(vrow) error) error {
		list, err := v.visibleSessions(ctx, everywhere)
		if err != nil {
			return err
		}
		for _, i := range list {
			if i.SQL == "" {
				continue
			}
			r := vrow{"query_id": i.idText(), "node_id": i.NodeID, "session_id": i.idText(), "user_name": i.User, "start": i.QueryStart,
				"query": i.SQL, "client_address": i.RemoteAddr, "application_name": i.ApplicationName, "distributed": false, "phase": "executing"}
			if len(i.TxnID) > 0 {
				r["txn_id"] = txnText(i.TxnID)
			}
			if err := add(r); err != nil {
				return err
			}
		}
		return nil
	}
}

func vcTransactions(everywhere bool) vpopulate {
	return func(ctx context.Context, v *vctx, add func(vrow) error) error {
		list, err := v.visibleSessions(ctx, everywhere)
		if err != nil {
			return err
		}
		for _, i := range list {
			if len(i.TxnID) == 0 {
				continue
			}
			if err := add(vrow{"id": txnText(i.TxnID), "node_id": i.NodeID, "session_id": i.idText(), "start": i.TxnStarted, "txn_string": "",
				"application_name": i.ApplicationName, "num_stmts": i.TxnStatements, "num_retries": i.TxnRetries, "num_auto_retries": i.TxnRetries}); err != nil {
				return err
			}
		}
		return nil
	}
}

// txnText prints the id of a transaction as a UUID.
func txnText(id []byte) string {
	if len(id) != 16 {
		return hex.EncodeToString(id)
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
