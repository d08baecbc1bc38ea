package catalog

import (
	"context"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
)

// defaultLockWait bounds how long a schema change waits for others when the
// session has no lock_timeout: a deadlock that also involves row locks is not
// seen by findCycle.
const defaultLockWait = time.Minute

// enterWait bounds how long others wait for a schema change to end: it may have
// to build an index over a large table. What it waits for itself is bounded by
// defaultLockWait, so this never decides a deadlock.
const enterWait = time.Hour

// LockExclusive keeps the other transactions of all nodes from using a
// descriptor until the collection is released, and waits until those that use it
// have ended. A schema change that is not safe between two versions (it makes an
// index public in one step) holds this lock from before it reads rows until its
// commit. timeout 0 means the default.
//
// Waiting collections form a graph; one that would close a cycle gets SQLSTATE
// 40P01 at once.
func (c *Collection) LockExclusive(ctx context.Context, id ID, timeout time.Duration) error {
	if timeout == 0 {
		timeout = defaultLockWait
	}
	// What this collection itself knows of the descriptor is read anew.
	delete(c.read, id)
	if err := c.cache.wait(ctx, c, id, true, timeout); err != nil || c.txn == nil {
		return err
	}
	if err := c.announce(ctx, changeRow{Exclusive: []ID{id}}, timeout); err != nil {
		return err
	}
	// Those who used it may have committed after this transaction's snapshot, and
	// by a clock that is ahead. What they wrote must be seen by what is built now.
	if db, ok := c.txn.(*kv.Txn); ok {
		db.DB().Clock().Update(c.cache.usedUntil(hlc.Timestamp{}))
	}
	return c.txn.RefreshToNow(ctx)
}

// enter waits while another collection holds id exclusively.
func (c *Collection) enter(ctx context.Context, id ID) error {
	if _, ok := c.entered[id]; ok || id < FirstUserID {
		return nil
	}
	if c.announced == "" || c.foreign {
		return c.cache.wait(ctx, c, id, false, enterWait)
	}
	return c.enterAnnounced(ctx, id)
}

// enterAnnounced is enter for a transaction that keeps others out on other nodes.
// Those may wait for it there, and who holds id may be one of them: the other
// nodes hear of the wait, so that one of them sees the circle.
func (c *Collection) enterAnnounced(ctx context.Context, id ID) error {
	if c.cache.tryTake(c, id) {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	told := make(chan struct{})
	go func() { // Ends with the wait below.
		defer close(told)
		if err := c.announce(ctx, changeRow{Shared: []ID{id}}, defaultLockWait); err != nil {
			cancel(err)
		}
	}()
	err := c.cache.wait(ctx, c, id, false, defaultLockWait)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	cancel(nil)
	<-told
	return err
}

// tryTake enters id if nobody is in the way.
func (c *Cache) tryTake(who *Collection, id ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.grantedLocked(who, lockWait{id: id}) {
		return false
	}
	c.takeLocked(who, id, false)
	return true
}

type lockWait struct {
	id        ID
	exclusive bool
	since     time.Time
}

// A descriptor in constant use never falls free by itself, so who wants it
// exclusively keeps newcomers out for the first half of every turn of its wait.
// In the other half they pass: one of them may hold locks on rows that a user of
// the descriptor waits for, and nobody sees that circle.
const lockTurn = 2 * time.Second

func (w lockWait) keepsOut(now time.Time) bool {
	return w.exclusive && now.Sub(w.since)%lockTurn < lockTurn/2
}

// recheck bounds how long a change of what keepsOut says goes unnoticed.
const recheck = 50 * time.Millisecond

func (c *Cache) wait(ctx context.Context, who *Collection, id ID, exclusive bool, timeout time.Duration) error {
	c.mu.Lock()
	w := lockWait{id, exclusive, time.Now()}
	if c.grantedLocked(who, w) {
		c.takeLocked(who, id, exclusive)
		c.mu.Unlock()
		return nil
	}
	c.mu.waiting[who] = w
	defer func() {
		c.mu.Lock()
		delete(c.mu.waiting, who)
		c.mu.Unlock()
	}()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	again := time.NewTicker(recheck)
	defer again.Stop()
	for { // The mutex is held here.
		if who.foreign {
			c.interruptLocked(who, w)
		}
		if c.deadlockLocked(who) && c.mayEndLocked(who, w) {
			c.mu.Unlock()
			return pgerr.New(pgerr.DeadlockDetected, "deadlock detected").
				WithDetail("Two transactions wait for each other's use of a relation, and one wants to change its schema.").
				WithHint("Run the transaction again.")
		}
		changed := c.mu.changed
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return pgerr.New(pgerr.LockNotAvailable, "canceling statement due to lock timeout")
		case <-changed:
		case <-again.C:
		}
		c.mu.Lock()
		if c.grantedLocked(who, w) {
			c.takeLocked(who, id, exclusive)
			c.mu.Unlock()
			return nil
		}
	}
}

// grantedLocked says whether nobody is in the way of w.
func (c *Cache) grantedLocked(who *Collection, w lockWait) bool {
	if len(c.blockersLocked(who, w)) > 0 {
		return false
	}
	if w.exclusive || len(c.mu.waiting) == 0 {
		return true
	}
	now := time.Now()
	for x, other := range c.mu.waiting {
		if x != who && other.id == w.id && other.keepsOut(now) {
			return false
		}
	}
	return true
}

// spareAnnounced is how long a schema change may wait for other nodes while it is
// itself in the way of another node's.
const spareAnnounced = 3 * time.Second

// interruptLocked ends the wait of those who are in the way of another node's
// change and wait for other nodes themselves, as far as that could be for ever:
// before they have their locks, which that node may hold, and, if both sides
// have theirs, on one of the two. What they wait for may in turn wait for a third
// node, where nobody sees this one: after a while none is spared.
func (c *Cache) interruptLocked(who *Collection, w lockWait) {
	for _, b := range c.blockersLocked(who, w) {
		a := c.mu.announcing[b]
		if a == nil {
			continue
		}
		waited := time.Since(a.since)
		if !a.locked && waited >= recheck || waited >= time.Second && who.announced < a.id || waited >= spareAnnounced {
			a.cancel(errAnnounceDeadlock)
		}
	}
}

// mayEndLocked says whether who is the one to end of a circle of waits. Two nodes
// may both see it; then one of them lets the other go first.
func (c *Cache) mayEndLocked(who *Collection, w lockWait) bool {
	if !who.foreign || time.Since(w.since) >= time.Second {
		return true
	}
	for _, b := range c.blockersLocked(who, w) {
		if a := c.mu.announcing[b]; a != nil && who.announced < a.id {
			return false
		}
	}
	return true
}

// takeLocked registers that who uses id, or holds it exclusively.
func (c *Cache) takeLocked(who *Collection, id ID, exclusive bool) {
	if exclusive {
		c.mu.exclusive[id] = who
		set(&who.exclusive, id, struct{}{})
		return
	}
	h := c.mu.holders[id]
	if h == nil {
		h = make(map[*Collection]struct{})
		c.mu.holders[id] = h
	}
	h[who] = struct{}{}
	set(&who.entered, id, struct{}{})
}

// blockersLocked returns the collections that w has to wait for.
func (c *Cache) blockersLocked(who *Collection, w lockWait) []*Collection {
	var out []*Collection
	if x := c.mu.exclusive[w.id]; x != nil && x != who {
		out = append(out, x)
	}
	if w.exclusive {
		for u := range c.mu.holders[w.id] {
			if u != who {
				out = append(out, u)
			}
		}
	}
	return out
}

// deadlockLocked says whether who waits, through others, for itself.
func (c *Cache) deadlockLocked(who *Collection) bool {
	seen := map[*Collection]bool{}
	var reach func(x *Collection) bool
	reach = func(x *Collection) bool {
		w, ok := c.mu.waiting[x]
		if !ok {
			return false
		}
		for _, b := range c.blockersLocked(x, w) {
			if b == who {
				return true
			}
			if !seen[b] {
				seen[b] = true
				if reach(b) {
					return true
				}
			}
		}
		return false
	}
	return reach(who)
}

// leaveLocked gives back what a collection uses or holds.
func (c *Cache) leaveLocked(who *Collection) {
	for id := range who.entered {
		if h := c.mu.holders[id]; h != nil {
			if delete(h, who); len(h) == 0 {
				delete(c.mu.holders, id)
			}
		}
	}
	for id := range who.exclusive {
		if c.mu.exclusive[id] == who {
			delete(c.mu.exclusive, id)
		}
	}
}

// signalLocked wakes everyone who waits.
func (c *Cache) signalLocked() {
	if len(c.mu.waiting) == 0 && c.mu.watchers == 0 {
		return
	}
	close(c.mu.changed)
	c.mu.changed = make(chan struct{})
}
