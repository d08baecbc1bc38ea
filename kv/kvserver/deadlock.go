package kvserver

import (
	"bytes"

	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// deadlockVictim returns the transaction to abort if w, by waiting, has closed a
// circle of transactions that wait for each other.
//
// A waiter waits for the holder of its lock and for all who are before it in the
// queue. The graph is that of this store; a circle through locks of several
// stores is found because a pusher of a transaction that stays in the way asks
// again, and expired waits are rare enough for that.
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
