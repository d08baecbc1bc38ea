package catalog

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// foreignChange is what a transaction of another node has announced.
type foreignChange struct {
	// who stands for that transaction among the users of descriptors here.
	who     *Collection
	seen    []int // numbers of the rows
	ids     []ID
	signals Signals
	cancel  context.CancelFunc
	ctx     context.Context //nolint:containedctx // It is the change's, and ends with it.
	working sync.WaitGroup
	last    chan struct{} // closed when the latest row is dealt with; nil: there is none
}

// Look obeys what other nodes have announced and forgets what they have withdrawn.
func (p *Peers) Look(ctx context.Context) error {
	p.removeOwn(ctx)
	p.looking.Lock()
	defer p.looking.Unlock()
	state, err := p.load(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.mu.alone = len(state.members) <= 1
	p.mu.Unlock()
	stands := map[string]bool{}
	for name, row := range state.changes {
		if string(row.Owner) == p.id {
			continue
		}
		if m, ok := state.members[string(row.Owner)]; !ok || m.Expires < state.at.WallTime {
			// Until it is buried it may still commit.
			if err := p.bury(ctx, string(row.Owner)); err != nil {
				return err
			}
		}
		id := string(row.Txn)
		stands[id] = true
		f := p.foreign[id]
		if f == nil {
			f = &foreignChange{who: &Collection{cache: p.cache, announced: id, foreign: true}}
			f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
			p.foreign[id] = f
		}
		if !slices.Contains(f.seen, row.Number) {
			p.beginForeign(f, name, row)
		}
	}
	for id := range p.foreign {
		if !stands[id] {
			p.endForeign(ctx, id)
		}
	}
	for process, m := range state.members {
		// Nobody waits for it; it may just have been slow.
		if process != p.id && m.Expires+int64(buryAfter) < state.at.WallTime {
			if err := p.bury(ctx, process); err != nil {
				return err
			}
		}
	}
	return nil
}

// buryAfter is how long the lease of a process stays after its end if it is in
// nobody's way.
const buryAfter = time.Minute

// beginForeign takes what a row names from the cache and answers when it is out of
// use.
func (p *Peers) beginForeign(f *foreignChange, name string, row changeRow) {
	p.mu.Lock()
	p.mu.quick = time.Now().Add(quickFor)
	p.mu.Unlock()
	f.seen = append(f.seen, row.Number)
	ids := append(slices.Clone(row.Exclusive), row.Changed...)
	f.ids = append(f.ids, ids...)
	p.cache.suspend(ids)
	fresh := row.Signals &^ f.signals
	f.signals |= fresh
	before, done := f.last, make(chan struct{})
	f.last = done
	f.working.Go(func() { // endForeign waits for it.
		defer close(done)
		if before != nil {
			<-before // A transaction waits for one thing at a time.
		}
		a := answerRow{Txn: row.Txn, Number: row.Number}
		if fresh != 0 && p.cfg.Begin != nil {
			if err := p.cfg.Begin(f.ctx, fresh); err != nil && f.ctx.Err() == nil {
				p.log.WarnContext(f.ctx, "following a change of another node", "err", err)
			}
		}
		if row.Signals&EverythingChange != 0 {
			p.cache.Clear()
		}
		for _, id := range append(slices.Clone(row.Exclusive), row.Shared...) {
			err := p.cache.wait(f.ctx, f.who, id, slices.Contains(row.Exclusive, id), enterWait)
			if pgerr.GetCode(err) == pgerr.DeadlockDetected {
				a.Deadlock = true
				break
			}
			if err != nil {
				return // It was withdrawn, or this node stops.
			}
		}
		a.At = p.cache.usedUntil(p.db.Clock().Now()).WallTime + 1
		p.answer(f.ctx, name, a)
	})
}

// answer writes an answer, until the announcement is withdrawn.
func (p *Peers) answer(ctx context.Context, name string, a answerRow) {
	key := under(answerPrefix, name, p.id)
	value, err := encodePeerRow(key, a)
	if err != nil {
		p.log.ErrorContext(ctx, "encoding an answer", "err", err)
		return
	}
	for ctx.Err() == nil {
		if err = p.db.Put(ctx, key, value); err == nil {
			return
		}
		p.log.WarnContext(ctx, "answering the announcement of a schema change; will retry", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(recheck):
		}
	}
}

// endForeign lets everyone use again what a change was about. It is called with
// looking held.
func (p *Peers) endForeign(ctx context.Context, id string) {
	f := p.foreign[id]
	delete(p.foreign, id)
	f.cancel()
	f.working.Wait()
	if f.signals != 0 && p.cfg.End != nil {
		if err := p.cfg.End(ctx, f.signals); err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "following a change of another node", "err", err)
		}
	}
	if f.signals&EverythingChange != 0 {
		p.cache.Clear()
	}
	// The change may bear a time that is yet to come by this node's clock.
	p.cache.resume(f.ids, p.db.Clock().Now().Add(p.db.Clock().MaxOffset()))
	f.who.Release()
}
