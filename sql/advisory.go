package sql

import (
	"context"
	"sync"

	"github.com/holdfastdb/holdfast/sql/builtins"
)

// advisoryLocks are locks on numbers to which applications give a meaning:
// pg_advisory_lock and its relatives. What sessions hold is in this node's memory;
// see advisory_cluster.go for what nodes hold of each other.
//
// A lock is held exclusively by one session or shared by several, and as often as
// it was asked for; it goes when the session or, for the xact forms, when the
// transaction ends.
type advisoryLocks struct {
	mu    sync.Mutex
	locks map[advisoryKey]*advisoryLock
}

// advisoryKey names a lock: databases have locks of their own.
type advisoryKey struct {
	database string
	key      builtins.AdvisoryKey
}

type advisoryLock struct {
	holders map[uint64]*advisoryHold // by session
	freed   chan struct{}            // closed when a hold goes
}

// advisoryHold counts how often a session holds a lock in each way.
type advisoryHold struct {
	session, xact [2]int // exclusive, shared
}

func (h *advisoryHold) exclusive() bool { return h.session[0]+h.xact[0] > 0 }

func (h *advisoryHold) empty() bool { return !h.exclusive() && h.session[1]+h.xact[1] == 0 }

func way(shared bool) int {
	if shared {
		return 1
	}
	return 0
}

// acquire waits until session holds the lock, or returns false at once if mode
// says not to wait.
func (a *advisoryLocks) acquire(ctx context.Context, session uint64, key advisoryKey, mode builtins.AdvisoryMode) (bool, error) {
	for {
		a.mu.Lock()
		l := a.locks[key]
		if l == nil {
			if a.locks == nil {
				a.locks = make(map[advisoryKey]*advisoryLock)
			}
			l = &advisoryLock{holders: make(map[uint64]*advisoryHold), freed: make(chan struct{})}
			a.locks[key] = l
		}
		if l.grants(session, mode.Shared) {
			h := l.holders[session]
			if h == nil {
				h = &advisoryHold{}
				l.holders[session] = h
			}
			if mode.Xact {
				h.xact[way(mode.Shared)]++
			} else {
				h.session[way(mode.Shared)]++
			}
			a.mu.Unlock()
			return true, nil
		}
		freed := l.freed
		a.mu.Unlock()
		if mode.Try {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-freed:
		}
	}
}

// grants says whether no other session stands in the way.
func (l *advisoryLock) grants(session uint64, shared bool) bool {
	for id, h := range l.holders {
		if id != session && (!shared || h.exclusive()) {
			return false
		}
	}
	return true
}

// release gives one session-level hold back and says whether there was one.
func (a *advisoryLocks) release(session uint64, key advisoryKey, shared bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.locks[key]
	if l == nil || l.holders[session] == nil || l.holders[session].session[way(shared)] == 0 {
		return false
	}
	l.holders[session].session[way(shared)]--
	a.tidy(key, l, session)
	return true
}

// releaseAll gives back what a session holds: for its transaction, and also the
// rest if sessionToo.
func (a *advisoryLocks) releaseAll(session uint64, xact, sessionToo bool) (touched []advisoryKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, l := range a.locks {
		h := l.holders[session]
		if h == nil {
			continue
		}
		if xact {
			h.xact = [2]int{}
		}
		if sessionToo {
			h.session = [2]int{}
		}
		a.tidy(key, l, session)
		touched = append(touched, key)
	}
	return touched
}

// undo takes back one acquisition.
func (a *advisoryLocks) undo(session uint64, key advisoryKey, mode builtins.AdvisoryMode) {
	if !mode.Xact {
		a.release(session, key, mode.Shared)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.locks[key]
	l.holders[session].xact[way(mode.Shared)]--
	a.tidy(key, l, session)
}

// tidy wakes those who wait and forgets what nobody holds.
func (a *advisoryLocks) tidy(key advisoryKey, l *advisoryLock, session uint64) {
	close(l.freed)
	l.freed = make(chan struct{})
	if l.holders[session].empty() {
		delete(l.holders, session)
	}
	if len(l.holders) == 0 {
		delete(a.locks, key)
	}
}

// AdvisoryLock implements builtins.Env.
func (e *evalEnv) AdvisoryLock(ctx context.Context, key builtins.AdvisoryKey, mode builtins.AdvisoryMode) (bool, error) {
	s := e.p.s
	k := advisoryKey{e.CurrentDatabase(), key}
	ok, err := s.srv.advisory.acquire(ctx, s.id, k, mode)
	if ok && err == nil {
		if ok, err = s.srv.claimAdvisory(ctx, k, mode); !ok {
			s.srv.advisory.undo(s.id, k, mode)
			s.srv.advisoryReleased([]advisoryKey{k})
		}
	}
	if ok && mode.Xact {
		s.advisoryXact = true
	}
	if ok {
		s.advisoryUsed = true
	}
	return ok, err
}

// AdvisoryUnlock implements builtins.Env.
func (e *evalEnv) AdvisoryUnlock(key builtins.AdvisoryKey, shared bool) bool {
	k := advisoryKey{e.CurrentDatabase(), key}
	ok := e.p.s.srv.advisory.release(e.p.s.id, k, shared)
	if ok {
		e.p.s.srv.advisoryReleased([]advisoryKey{k})
	}
	return ok
}

// AdvisoryUnlockAll implements builtins.Env.
func (e *evalEnv) AdvisoryUnlockAll() {
	srv := e.p.s.srv
	srv.advisoryReleased(srv.advisory.releaseAll(e.p.s.id, false, true))
}

// endAdvisoryXact gives back the locks of a transaction that has ended.
func (s *Session) endAdvisoryXact() {
	if s.advisoryXact {
		s.advisoryXact = false
		s.srv.advisoryReleased(s.srv.advisory.releaseAll(s.id, true, false))
	}
}
