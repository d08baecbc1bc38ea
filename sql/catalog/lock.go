package catalog

import (
	"context"
	"time"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// defaultLockWait bounds how long a schema change waits for others when the
// session has no lock_timeout: a deadlock that also involves row locks is not
// seen by findCycle.
const defaultLockWait = time.Minute

// enterWait bounds how long others wait for a schema change to end: it may have
// to build an index over a large table. What it waits for itself is bounded by
// defaultLockWait, so this never decides a deadlock.
const enterWait = time.Hour

// LockExclusive keeps the other transactions of this node from using a
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
	return c.cache.wait(ctx, c, id, true, timeout)
}

// enter waits while another collection holds id exclusively.
func (c *Collection) enter(ctx context.Context, id ID) error {
	if id < FirstUserID {
		return nil
	}
	return c.cache.wait(ctx, c, id, false, enterWait)
}

type lockWait struct {
	id        ID
	exclusive bool
}

func (c *Cache) wait(ctx context.Context, who *Collection, id ID, exclusive bool, timeout time.Duration) error {
	c.mu.Lock()
	if len(c.blockersLocked(who, lockWait{id, exclusive})) == 0 {
		c.takeLocked(who, id, exclusive)
		c.mu.Unlock()
		return nil
	}
	c.mu.waiting[who] = lockWait{id, exclusive}
	defer func() {
		c.mu.Lock()
		delete(c.mu.waiting, who)
		c.mu.Unlock()
	}()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for { // The mutex is held here.
		if c.deadlockLocked(who) {
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
		}
		c.mu.Lock()
		if len(c.blockersLocked(who, lockWait{id, exclusive})) == 0 {
			c.takeLocked(who, id, exclusive)
			c.mu.Unlock()
			return nil
		}
	}
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
