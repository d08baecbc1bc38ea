package kvserver

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// lockTable is where requests wait for locks. It knows the locks that somebody
// waits for and those that exist in memory only (SELECT FOR UPDATE). Intents
// that nobody met are in the engine alone, so a large transaction costs nothing
// here.
//
// Writers and lockers queue at a lock in order of arrival. When the lock goes,
// the first of the queue gets its turn and keeps its place until its request is
// over; so a row that many update is handed on without a stampede. Readers wait
// beside the queue and all go when the holder does.
//
// One table serves all replicas of a store, which makes the graph of who waits
// for whom complete on this store; see deadlock.go.
type lockTable struct {
	n  atomic.Int64 // number of locks; most requests look no further if it is zero
	mu struct {
		sync.Mutex
		locks   map[string]*lockState
		byTxn   map[kvpb.TxnID]map[*lockState]struct{} // by holder
		waiting map[kvpb.TxnID][]*waiter
	}
	finished finishedTxns
}

// lockState is one lock with those who want it.
type lockState struct {
	key keys.Key
	// held: holder has it. Otherwise the first of the queue may take it.
	held   bool
	holder storage.TxnMeta
	// memoryOnly: the lock is not an intent in the engine; plain readers pass.
	memoryOnly bool
	queue      []*waiter // writers and lockers
	readers    []*waiter
}

// waiter is a request at a lock.
type waiter struct {
	txn      storage.TxnMeta // ID zero: no transaction
	priority kvpb.Priority
	reader   bool
	readTS   hlc.Timestamp
	lock     *lockState
	// wake has one slot: the state of the lock changed, look again.
	wake chan struct{}
	// asleep: the request is waiting right now (and not being evaluated).
	asleep bool
}

// maxMemoryLocks bounds the in-memory locks of one transaction. Beyond it a
// locking read takes no more: two transactions that then meet find out at
// commit, as if they had not asked for locks.
const maxMemoryLocks = 100_000

func newLockTable() *lockTable {
	lt := &lockTable{}
	lt.mu.locks = map[string]*lockState{}
	lt.mu.byTxn = map[kvpb.TxnID]map[*lockState]struct{}{}
	lt.mu.waiting = map[kvpb.TxnID][]*waiter{}
	lt.finished.init()
	return lt
}

func (w *waiter) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// conflict returns the first of keys at which a write or locking read of txn
// has to wait: another transaction holds it, or another request is before this
// one in the queue.
func (lt *lockTable) conflict(txn kvpb.TxnID, mine []*waiter, key keys.Key) (lockConflict, bool) {
	if lt.n.Load() == 0 {
		return lockConflict{}, false
	}
	lt.mu.Lock()
	defer lt.mu.Unlock()
	l := lt.mu.locks[string(key)]
	if l == nil {
		return lockConflict{}, false
	}
	if l.held && (txn.IsEmpty() || l.holder.ID != txn) {
		return lockConflict{key: l.key, holder: l.holder, memoryOnly: l.memoryOnly, known: true}, true
	}
	if l.held || len(l.queue) == 0 {
		return lockConflict{}, false
	}
	if first := l.queue[0]; !slices.Contains(mine, first) && (txn.IsEmpty() || first.txn.ID != txn) {
		return lockConflict{key: l.key, holder: first.txn, queued: true, known: true}, true
	}
	return lockConflict{}, false
}

// lockConflict is a lock in the way of a request.
type lockConflict struct {
	key        keys.Key
	holder     storage.TxnMeta
	memoryOnly bool
	queued     bool // nobody holds it; holder is the next in the queue
	// known: the table itself said so, as opposed to an intent in the engine.
	known bool
}

// enqueue makes w wait at a lock, or wait again if it is there already. It
// returns false if the table said that the lock is in the way and it no longer
// is: the request looks again. An intent that the engine showed is entered; the
// caller holds latches, so that it cannot be resolved before it is known here,
// or checks afterwards that it is still there.
func (lt *lockTable) enqueue(c lockConflict, w *waiter) bool {
	lt.mu.Lock()
	defer lt.mu.Unlock()
	l := lt.mu.locks[string(c.key)]
	if l == nil {
		if c.known {
			return false
		}
		l = &lockState{key: c.key.Clone()}
		lt.mu.locks[string(l.key)] = l
		lt.n.Add(1)
	}
	if !c.known {
		switch {
		case !l.held:
			lt.setHolderLocked(l, c.holder, false)
		case l.holder.ID == c.holder.ID:
			// What was heard of a push may never have reached the intent: a reader
			// that believed it would look again and again.
			l.memoryOnly = false
			l.holder.WriteTimestamp = c.holder.WriteTimestamp
		default:
			// The engine knows better than a lock in memory that was taken over.
			lt.setHolderLocked(l, c.holder, false)
		}
	}
	w.asleep = true
	if w.lock == l {
		return true
	}
	w.lock = l
	if w.reader {
		l.readers = append(l.readers, w)
	} else {
		l.queue = append(l.queue, w)
	}
	if !w.txn.ID.IsEmpty() {
		lt.mu.waiting[w.txn.ID] = append(lt.mu.waiting[w.txn.ID], w)
	}
	return true
}

// status says what w waits for now. ready: for nothing any more.
func (lt *lockTable) status(w *waiter) (c lockConflict, ready bool) {
	lt.mu.Lock()
	defer lt.mu.Unlock()
	l := w.lock
	switch {
	case l.held && l.holder.ID == w.txn.ID && !w.txn.ID.IsEmpty():
		return lockConflict{}, true // Another request of the transaction got it.
	case l.held && w.reader && (l.memoryOnly || w.readTS.Less(l.holder.WriteTimestamp)):
		return lockConflict{}, true
	case l.held:
		return lockConflict{key: l.key, holder: l.holder, memoryOnly: l.memoryOnly}, false
	case w.reader || l.queue[0] == w || l.queue[0].txn.ID == w.txn.ID && !w.txn.ID.IsEmpty():
		w.asleep = false
		return lockConflict{}, true
	}
	return lockConflict{key: l.key, holder: l.queue[0].txn, queued: true}, false
}

// setAsleep records whether w's request is waiting or being evaluated.
func (lt *lockTable) setAsleep(w *waiter, asleep bool) {
	lt.mu.Lock()
	w.asleep = asleep
	lt.mu.Unlock()
}

// leave takes w out of its lock. acquired: its request wrote or locked the key,
// so those behind it now wait for its transaction.
func (lt *lockTable) leave(w *waiter, acquired bool) {
	lt.mu.Lock()
	defer lt.mu.Unlock()
	l := w.lock
	remove := func(list []*waiter) []*waiter {
		if i := slices.Index(list, w); i >= 0 {
			return slices.Delete(list, i, i+1)
		}
		return list
	}
	if w.reader {
		l.readers = remove(l.readers)
	} else {
		l.queue = remove(l.queue)
	}
	if ws := lt.mu.waiting[w.txn.ID]; len(ws) > 0 {
		ws = slices.DeleteFunc(ws, func(o *waiter) bool { return o == w })
		if len(ws) == 0 {
			delete(lt.mu.waiting, w.txn.ID)
		} else {
			lt.mu.waiting[w.txn.ID] = ws
		}
	}
	if acquired && !l.held && !w.txn.ID.IsEmpty() {
		lt.setHolderLocked(l, w.txn, false)
	}
	lt.changedLocked(l)
}

// lockInMemory gives the lock on key to txn. ok is false if another has it or is
// first in the queue.
func (lt *lockTable) lockInMemory(txn storage.TxnMeta, mine []*waiter, key keys.Key) (lockConflict, bool) {
	lt.mu.Lock()
	defer lt.mu.Unlock()
	l := lt.mu.locks[string(key)]
	if l == nil {
		if len(lt.mu.byTxn[txn.ID]) >= maxMemoryLocks {
			return lockConflict{}, true
		}
		l = &lockState{key: key.Clone()}
		lt.mu.locks[string(l.key)] = l
		lt.n.Add(1)
		lt.setHolderLocked(l, txn, true)
		return lockConflict{}, true
	}
	if l.held {
		if l.holder.ID == txn.ID {
			return lockConflict{}, true
		}
		return lockConflict{key: l.key, holder: l.holder, memoryOnly: l.memoryOnly, known: true}, false
	}
	if len(l.queue) > 0 {
		if first := l.queue[0]; !slices.Contains(mine, first) && first.txn.ID != txn.ID {
			return lockConflict{key: l.key, holder: first.txn, queued: true, known: true}, false
		}
	}
	lt.setHolderLocked(l, txn, true)
	return lockConflict{}, true
}

func (lt *lockTable) setHolderLocked(l *lockState, txn storage.TxnMeta, memoryOnly bool) {
	if l.held {
		lt.dropHolderLocked(l)
	}
	txn.Key = txn.Key.Clone()
	l.held, l.holder, l.memoryOnly = true, txn, memoryOnly
	m := lt.mu.byTxn[txn.ID]
	if m == nil {
		m = map[*lockState]struct{}{}
		lt.mu.byTxn[txn.ID] = m
	}
	m[l] = struct{}{}
}

func (lt *lockTable) dropHolderLocked(l *lockState) {
	m := lt.mu.byTxn[l.holder.ID]
	delete(m, l)
	if len(m) == 0 {
		delete(lt.mu.byTxn, l.holder.ID)
	}
	l.held = false
	l.holder = storage.TxnMeta{}
	l.memoryOnly = false
}

// changedLocked wakes those who can go on, and forgets a lock that nobody holds
// or wants, or that is an intent nobody waits for.
func (lt *lockTable) changedLocked(l *lockState) {
	if len(l.queue) == 0 && len(l.readers) == 0 && (!l.held || !l.memoryOnly) {
		if l.held {
			lt.dropHolderLocked(l)
		}
		if lt.mu.locks[string(l.key)] == l {
			delete(lt.mu.locks, string(l.key))
			lt.n.Add(-1)
		}
		return
	}
	// Everyone looks again: the holder may have changed, and with it whom they
	// push. Only the first of the queue can go on.
	for _, r := range l.readers {
		r.signal()
	}
	for i, w := range l.queue {
		if i == 0 || l.held {
			w.signal()
		}
	}
}

// wrote says that txn now has an intent on key: an in-memory lock on it has
// become a durable one.
func (lt *lockTable) wrote(txn kvpb.TxnID, key keys.Key, writeTS hlc.Timestamp) {
	if lt.n.Load() == 0 {
		return
	}
	lt.mu.Lock()
	defer lt.mu.Unlock()
	l := lt.mu.locks[string(key)]
	if l == nil || !l.held || l.holder.ID != txn {
		return
	}
	l.memoryOnly = false
	l.holder.WriteTimestamp = writeTS
	if len(l.queue) == 0 && len(l.readers) == 0 {
		lt.changedLocked(l)
	}
}

// releaseTxn drops all locks of a transaction that is over. Its intents on this
// store must be gone, or whoever meets them must be able to find out its fate.
func (lt *lockTable) releaseTxn(txn kvpb.TxnID) {
	if lt.n.Load() == 0 {
		return
	}
	lt.mu.Lock()
	defer lt.mu.Unlock()
	for l := range lt.mu.byTxn[txn] {
		lt.dropHolderLocked(l)
		lt.changedLocked(l)
	}
}

// updated says that the lock of txn on key was resolved: released, or moved to
// writeTS if the transaction goes on.
func (lt *lockTable) updated(txn kvpb.TxnID, key keys.Key, released bool, writeTS hlc.Timestamp) {
	if lt.n.Load() == 0 {
		return
	}
	lt.mu.Lock()
	defer lt.mu.Unlock()
	if l := lt.mu.locks[string(key)]; l != nil && l.held && l.holder.ID == txn {
		lt.updateLocked(l, released, writeTS)
	}
}

// updatedSpan is updated for every lock of txn in span.
func (lt *lockTable) updatedSpan(txn kvpb.TxnID, span keys.Span, released bool, writeTS hlc.Timestamp) {
	if lt.n.Load() == 0 {
		return
	}
	lt.mu.Lock()
	defer lt.mu.Unlock()
	for l := range lt.mu.byTxn[txn] {
		if span.Contains(l.key) {
			lt.updateLocked(l, released, writeTS)
		}
	}
}

func (lt *lockTable) updateLocked(l *lockState, released bool, writeTS hlc.Timestamp) {
	if released {
		lt.dropHolderLocked(l)
	} else {
		l.holder.WriteTimestamp.Forward(writeTS)
	}
	lt.changedLocked(l)
}

// wakeTxn wakes every waiting request of txn, which was aborted.
func (lt *lockTable) wakeTxn(txn kvpb.TxnID) {
	if lt.n.Load() == 0 {
		return
	}
	lt.mu.Lock()
	defer lt.mu.Unlock()
	for _, w := range lt.mu.waiting[txn] {
		w.signal()
	}
}

// heldByOther says whether another transaction holds an in-memory lock on key.
func (lt *lockTable) heldByOther(txn kvpb.TxnID, key keys.Key) bool {
	if lt.n.Load() == 0 {
		return false
	}
	lt.mu.Lock()
	defer lt.mu.Unlock()
	l := lt.mu.locks[string(key)]
	return l != nil && l.held && l.holder.ID != txn
}

// finishedTxns remembers the fate of transactions whose intents may still be
// around, so that whoever meets one need not ask the record.
type finishedTxns struct {
	mu  sync.Mutex
	cur map[kvpb.TxnID]finishedTxn
	old map[kvpb.TxnID]finishedTxn
}

type finishedTxn struct {
	status   kvpb.TxnStatus
	commitTS hlc.Timestamp
	epoch    int32
	ignored  []kvpb.SeqRange
}

const maxFinishedTxns = 4096

func (f *finishedTxns) init() { f.cur = map[kvpb.TxnID]finishedTxn{} }

func (f *finishedTxns) add(id kvpb.TxnID, t finishedTxn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.cur) >= maxFinishedTxns {
		f.old, f.cur = f.cur, make(map[kvpb.TxnID]finishedTxn, maxFinishedTxns)
	}
	f.cur[id] = t
}

func (f *finishedTxns) get(id kvpb.TxnID) (finishedTxn, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t, ok := f.cur[id]; ok {
		return t, true
	}
	t, ok := f.old[id]
	return t, ok
}
