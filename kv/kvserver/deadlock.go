package kvserver

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// deadlockVictim returns the transaction to abort if w, by waiting, has closed a
// circle of transactions that wait for each other.
//
// A waiter waits for the holder of its lock and for all who are before it in the
// queue. The graph is that of this store; see closesCircle for circles through the
// locks of several.
//
// The victim is the transaction of the lowest priority, and of several the
// youngest: the oldest always gets through, so everyone does in the end.
func (lt *lockTable) deadlockVictim(w *waiter) (waiterInfo, bool) {
	if w.txn.ID.IsEmpty() {
		return waiterInfo{}, false // Nobody can wait for it.
	}
	lt.mu.Lock()
	defer lt.mu.Unlock()
	seen := map[kvpb.TxnID]bool{}
	var path []*waiter
	var find func(at *waiter) bool
	find = func(at *waiter) bool {
		path = append(path, at)
		for _, next := range at.waitsForLocked() {
			if next == w.txn.ID {
				return true
			}
			if seen[next] {
				continue
			}
			seen[next] = true
			for _, nw := range lt.mu.waiting[next] {
				if nw.asleep && find(nw) {
					return true
				}
			}
		}
		path = path[:len(path)-1]
		return false
	}
	if !find(w) {
		return waiterInfo{}, false
	}
	victim := path[0]
	for _, p := range path[1:] {
		if p.yieldsTo(victim) {
			victim = p
		}
	}
	return waiterInfo{txn: victim.txn, self: victim.txn.ID == w.txn.ID}, true
}

// waitsForLocked returns the transactions that must move before w can.
func (w *waiter) waitsForLocked() []kvpb.TxnID {
	l := w.lock
	var ids []kvpb.TxnID
	if l.held && l.holder.ID != w.txn.ID {
		ids = append(ids, l.holder.ID)
	}
	if w.reader {
		return ids
	}
	for _, q := range l.queue {
		if q == w {
			break
		}
		if !q.txn.ID.IsEmpty() && q.txn.ID != w.txn.ID {
			ids = append(ids, q.txn.ID)
		}
	}
	return ids
}

// yieldsTo says whether w is the better victim.
func (w *waiter) yieldsTo(o *waiter) bool {
	if w.priority != o.priority {
		return w.priority < o.priority
	}
	if c := w.txn.MinTimestamp.Compare(o.txn.MinTimestamp); c != 0 {
		return c > 0
	}
	return bytes.Compare(w.txn.ID[:], o.txn.ID[:]) > 0
}

// waitEdges remembers who waits for whom: every waiter pushes the transaction that
// is in its way again and again, at the range of that one's record. So the store of
// a record knows the waiters of its transaction, wherever the lock is.
type waitEdges struct {
	mu     sync.Mutex
	byID   map[kvpb.TxnID][]waitEdge // by the transaction that is waited for
	sweeps time.Time
}

type waitEdge struct {
	waiter storage.TxnMeta
	at     time.Time
}

// edgeLife is how long a push counts as a wait: a little more than repushInterval.
const edgeLife = 3 * repushInterval / 2

func (w *waitEdges) note(pushee kvpb.TxnID, pusher storage.TxnMeta) {
	if pusher.ID.IsEmpty() || pusher.Key == nil {
		return // Nobody can wait for what has no lock.
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.byID == nil || now.Sub(w.sweeps) > 10*edgeLife {
		old := w.byID
		w.byID, w.sweeps = map[kvpb.TxnID][]waitEdge{}, now
		for id, edges := range old {
			if live := liveEdges(edges, now); len(live) > 0 {
				w.byID[id] = live
			}
		}
	}
	pusher.Key = pusher.Key.Clone()
	edges := liveEdges(w.byID[pushee], now)
	for i := range edges {
		if edges[i].waiter.ID == pusher.ID {
			edges[i].at = now
			w.byID[pushee] = edges
			return
		}
	}
	w.byID[pushee] = append(edges, waitEdge{pusher, now})
}

func liveEdges(edges []waitEdge, now time.Time) (live []waitEdge) {
	for _, e := range edges {
		if now.Sub(e.at) < edgeLife {
			live = append(live, e)
		}
	}
	return live
}

// of returns who waits for a transaction.
func (w *waitEdges) of(pushee kvpb.TxnID) (waiters []storage.TxnMeta) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range liveEdges(w.byID[pushee], time.Now()) {
		waiters = append(waiters, e.waiter)
	}
	return waiters
}

// maxCircle bounds how many transactions are asked about in search of a circle.
const maxCircle = 100

// closesCircle finds out whether holder waits, perhaps through others, for the
// waiting transaction w, which waits for holder. It asks the ranges of their
// records, from w backwards. The victim is chosen as by deadlockVictim, so that all
// who find the circle choose the same. What it sees is not one instant's picture; a
// circle that is none costs a transaction a retry.
func (s *Store) closesCircle(ctx context.Context, w *waiting, holder storage.TxnMeta) (waiterInfo, bool, error) {
	type step struct {
		txn  storage.TxnMeta
		next int // of the transaction that this one waits for
	}
	steps := []step{{txn: w.txn, next: -1}}
	seen := map[kvpb.TxnID]bool{w.txn.ID: true}
	for i := 0; i < len(steps) && i < maxCircle; i++ {
		reply, err := s.pushTxn(ctx, steps[i].txn, &kvpb.PushTxnArgs{Type: kvpb.PushQueryWaiters})
		if err != nil {
			return waiterInfo{}, false, err
		}
		for _, x := range reply.Waiters {
			if x.ID != holder.ID {
				if !seen[x.ID] {
					seen[x.ID] = true
					steps = append(steps, step{x, i})
				}
				continue
			}
			victim := &waiter{txn: x, priority: kvpb.Priority(x.Priority)}
			for at := i; at >= 0; at = steps[at].next {
				t := steps[at].txn
				if c := (&waiter{txn: t, priority: kvpb.Priority(t.Priority)}); c.yieldsTo(victim) {
					victim = c
				}
			}
			return waiterInfo{txn: victim.txn, self: victim.txn.ID == w.txn.ID}, true, nil
		}
	}
	return waiterInfo{}, false, nil
}
