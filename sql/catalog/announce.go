package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/auxten/postgresql-parser/pkg/util/encoding"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// ownChange is an announcement of this node that stands until its transaction has
// ended.
type ownChange struct {
	id    string
	txn   Txn
	slots []uint32 // of its rows; guarded by Peers.mu
}

// announcing is a collection that waits for other nodes, as those who wait for it
// see it.
type announcing struct {
	id     string
	locked bool // it has its locks and waits for answers
	since  time.Time
	cancel context.CancelCauseFunc
}

var errAnnounceDeadlock = pgerr.New(pgerr.DeadlockDetected, "deadlock detected").
	WithDetail("Two nodes change schemas that the other's transactions use.").
	WithHint("Run the transaction again.")

// announce tells the other nodes what the collection's transaction is about to
// change and waits until they are ready.
func (c *Collection) announce(ctx context.Context, row changeRow, timeout time.Duration) error {
	p := c.cache.peers
	if p == nil || c.txn == nil {
		return nil
	}
	// Whoever joins from here on makes the transaction start again.
	if _, err := c.txn.Get(ctx, joinsKey); err != nil {
		return err
	}
	// The clock of one who has joined may be ahead of this node's, and then what the
	// transaction has just read is, too.
	p.db.Clock().Update(c.txn.ReadTimestamp())
	state, err := p.load(ctx)
	if err != nil {
		return err
	}
	if _, ok := state.members[p.id]; !ok {
		return pgerr.New(pgerr.SerializationFailure, "restart transaction: this node has lost its lease on the catalog").
			WithHint("Run the transaction again: the node is about to get a new lease.")
	}
	if len(state.members) == 1 {
		return nil
	}
	c.bound()
	if c.announced == "" {
		c.announced = randomID()
		p.track(c.announced, c.txn)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx, kill := context.WithCancelCause(ctx)
	defer kill(nil)
	defer c.cache.setAnnouncing(c, nil)
	c.cache.setAnnouncing(c, &announcing{id: c.announced, since: time.Now(), cancel: kill})
	err = c.askMembers(ctx, p, row)
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case errors.Is(cause, errAnnounceDeadlock):
		return errAnnounceDeadlock
	case errors.Is(cause, context.DeadlineExceeded):
		return pgerr.New(pgerr.LockNotAvailable, "canceling statement due to lock timeout").
			WithDetail("Transactions of another node use the relation.")
	}
	return err
}

// askMembers is announce once it is clear that there are other members.
func (c *Collection) askMembers(ctx context.Context, p *Peers, row changeRow) error {
	row.Owner = []byte(p.id)
	slices.Sort(row.Exclusive)
	for _, id := range row.Exclusive {
		// Of two nodes that change one descriptor, the second waits here. The value
		// means nothing: it is the intent that keeps others away.
		key := encoding.EncodeUvarintAscending(schemaLockPrefix.Clone(), uint64(id))
		if err := c.txn.Put(ctx, key, kvpb.EncodeInt(key, int64(p.cfg.NodeID))); err != nil {
			return err
		}
	}
	c.cache.setAnnouncing(c, &announcing{id: c.announced, locked: true, since: time.Now(), cancel: c.cache.cancelOf(c)})
	c.announcements++
	row.Txn, row.Number = []byte(c.announced), c.announcements
	name := p.slot(c.announced)
	key := under(changePrefix, name)
	value, err := encodePeerRow(key, row)
	if err != nil {
		return err
	}
	if err := p.db.Put(ctx, key, value); err != nil {
		return err
	}
	if p.cfg.Notify != nil {
		p.cfg.Notify()
	}
	latest, err := p.awaitAnswers(ctx, name, row)
	if err != nil {
		return err
	}
	p.db.Clock().Update(hlc.Timestamp{WallTime: latest})
	return nil
}

// awaitAnswers returns when every other member has answered or is no more, and the
// latest time at which one of them may have committed something.
func (p *Peers) awaitAnswers(ctx context.Context, name string, row changeRow) (latest int64, _ error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		state, err := p.load(ctx)
		if err != nil {
			return 0, err
		}
		missing := 0
		latest = 0
		for process, m := range state.members {
			if process == p.id {
				continue
			}
			a, ok := state.answers[name+process]
			// What it holds may be of the slot's former use.
			ok = ok && string(a.Txn) == string(row.Txn) && a.Number == row.Number
			switch {
			case ok && a.Deadlock:
				return 0, errAnnounceDeadlock
			case ok:
				latest = max(latest, a.At)
			case m.Expires < state.at.WallTime:
				missing++
				if err := p.bury(ctx, process); err != nil {
					return 0, err
				}
			default:
				missing++
			}
		}
		if missing == 0 {
			return latest, nil
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return 0, ctx.Err()
		case <-t.C:
		}
	}
}

// track remembers an announcement until its transaction has ended.
func (p *Peers) track(id string, txn Txn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.own = append(p.mu.own, &ownChange{id: id, txn: txn})
}

// slot gives a row of an announcement its place, named by this process and a number.
// Places are used again and again: of keys without number each look would have to
// step over all that ever were.
func (p *Peers) slot(id string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n uint32
	for p.mu.slots[n] {
		n++
	}
	p.mu.slots[n] = true
	for _, o := range p.mu.own {
		if o.id == id {
			o.slots = append(o.slots, n)
		}
	}
	return p.slotName(n)
}

func (p *Peers) slotName(n uint32) string {
	return p.id + string(binary.BigEndian.AppendUint32(nil, n))
}

// removeOwn removes the announcements of transactions that have ended.
func (p *Peers) removeOwn(ctx context.Context) {
	p.mu.Lock()
	var ended []*ownChange
	left := p.mu.own[:0]
	for _, o := range p.mu.own {
		if o.txn.IsFinished() {
			ended = append(ended, o)
		} else {
			left = append(left, o)
		}
	}
	p.mu.own = left
	p.mu.Unlock()
	for _, o := range ended {
		err := p.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
			for _, n := range o.slots {
				for _, prefix := range []keys.Key{changePrefix, answerPrefix} {
					sp := keys.Prefix(under(prefix, p.slotName(n)))
					if _, err := txn.DelRange(ctx, sp.Key, sp.EndKey); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			if ctx.Err() == nil {
				p.log.WarnContext(ctx, "removing the announcement of a schema change; will retry", "err", err)
			}
			p.mu.Lock()
			p.mu.own = append(p.mu.own, o)
			p.mu.Unlock()
			continue
		}
		p.mu.Lock()
		for _, n := range o.slots {
			delete(p.mu.slots, n)
		}
		p.mu.Unlock()
		if p.cfg.Notify != nil {
			p.cfg.Notify()
		}
	}
}

// Announce has all other nodes turn to something that is about to change beside
// descriptors, until the collection's transaction has ended.
func (c *Collection) Announce(ctx context.Context, s Signals) error {
	return c.announce(ctx, changeRow{Signals: s}, defaultLockWait)
}

// Tell has all other nodes turn to something that has changed, and returns when
// they have or timeout has passed: they will all the same, later.
func (p *Peers) Tell(ctx context.Context, s Signals, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	txn := p.db.NewTxn(ctx, "tell")
	c := p.cache.NewCollection(txn)
	defer p.Wake()
	defer c.Release()
	defer txn.Rollback(ctx) //nolint:errcheck // It only read.
	if err := c.Announce(ctx, s); err != nil {
		return fmt.Errorf("telling other nodes of a change: %w", err)
	}
	return nil
}

// Poke is Tell for what nobody needs to wait for: it returns at once, and what comes
// while others are being told is told together.
func (p *Peers) Poke(s Signals) {
	select {
	case p.poked <- s:
	case old := <-p.poked:
		select {
		case p.poked <- s | old:
		default:
		}
	}
}

func (p *Peers) tellPoked(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-p.poked:
			if err := p.Tell(ctx, s, pokeTimeout); err != nil && ctx.Err() == nil {
				p.log.DebugContext(ctx, "telling other nodes", "err", err)
			}
		}
	}
}

// pokeTimeout bounds how long one word holds up the next.
const pokeTimeout = time.Second

// setAnnouncing says that a collection waits for other nodes, or no longer does.
func (c *Cache) setAnnouncing(who *Collection, a *announcing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a == nil {
		delete(c.mu.announcing, who)
	} else {
		c.mu.announcing[who] = a
	}
	c.signalLocked()
}

func (c *Cache) cancelOf(who *Collection) context.CancelCauseFunc {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.announcing[who].cancel
}
