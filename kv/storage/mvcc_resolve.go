package storage

import (
	"bytes"
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// MVCCResolveIntent makes the provisional value of one key permanent, moves it
// or removes it, as update says. It does nothing, and says so, if the
// transaction holds no lock there.
func MVCCResolveIntent(ctx context.Context, rw ReadWriter, update LockUpdate, stats *Stats) (found bool, err error) {
	v := rw.pin()
	it, err := v.pointIter()
	if err != nil {
		return false, err
	}
	key := update.Span.Key
	lock, found, err := v.lockOn(it, key)
	if err != nil || !found || lock.ID != update.Txn.ID {
		return false, err
	}
	return true, resolveLock(rw.raw(), v, it, key, &lock, &update, stats)
}

// maxResolveBytes bounds the batch of one MVCCResolveIntentRange with a limit.
const maxResolveBytes = 4 << 20

// MVCCResolveIntentRange does the same for all locks of the transaction in the
// span, at most maxKeys (0: no limit) and about as many as fit into
// maxResolveBytes, and returns what remains.
func MVCCResolveIntentRange(ctx context.Context, rw ReadWriter, update LockUpdate, maxKeys int64, stats *Stats) (numKeys int64, resume *keys.Span, err error) {
	v := rw.pin()
	it, err := v.pointIter()
	if err != nil {
		return 0, nil, err
	}
	var c lockCursor
	if err := c.init(v, update.Span.Key, update.Span.End(), false, nil); err != nil {
		return 0, nil, err
	}
	b := rw.raw()
	var run lockRun
	for ; c.valid; err = c.advance() {
		if err != nil {
			return numKeys, nil, err
		}
		if err := ctx.Err(); err != nil {
			return numKeys, nil, err
		}
		if c.id != update.Txn.ID {
			if err := run.clear(b, update.Txn.ID); err != nil {
				return numKeys, nil, err
			}
			continue
		}
		if maxKeys > 0 && (numKeys >= maxKeys || b.Len() >= maxResolveBytes && numKeys > 0) {
			resume = &keys.Span{Key: c.key.Clone(), EndKey: update.Span.End().Clone()}
			break
		}
		numKeys++
		lock, err := c.record()
		if err != nil {
			return numKeys, nil, err
		}
		if update.onlyUnlocks(&lock) {
			if stats != nil {
				stats.subIntent(c.key, lock.valueLen)
			}
			run.add(c.key, lock.rewritten)
			continue
		}
		if err := run.clear(b, update.Txn.ID); err != nil {
			return numKeys, nil, err
		}
		if err := resolveLock(b, v, it, c.key, &lock, &update, stats); err != nil {
			return numKeys, nil, err
		}
	}
	if err == nil {
		err = run.clear(b, update.Txn.ID)
	}
	return numKeys, resume, err
}

// onlyUnlocks says whether the lock goes and its version stays as it is.
func (u *LockUpdate) onlyUnlocks(lock *lockRecord) bool {
	return u.Status == Committed && lock.Epoch == u.Txn.Epoch && lock.WriteTimestamp == u.Txn.WriteTimestamp &&
		!seqIgnored(u.IgnoredSeqNums, lock.Sequence)
}

// lockRun is locks of one transaction with no other lock in between, all to be
// removed. Many go by one range deletion: a deletion per lock would have to be
// written, and compacted down to where the locks of a bulk load are.
type lockRun struct {
	arena []byte
	locks []lockInRun
}

type lockInRun struct {
	end       int // of the key in the arena
	rewritten bool
}

// minLockRun is from how many locks on a range deletion is the better way: each
// is a burden to reads of the lock table until it is compacted.
const minLockRun = 1000

func (r *lockRun) add(key keys.Key, rewritten bool) {
	r.arena = append(r.arena, key...)
	r.locks = append(r.locks, lockInRun{end: len(r.arena), rewritten: rewritten})
}

// clear removes the locks, which are of txn id, and empties the run.
func (r *lockRun) clear(b *Batch, id TxnID) error {
	if len(r.locks) == 0 {
		return nil
	}
	least := minLockRun
	if n := b.eng.cfg.Testing.MinLockRun; n > 0 {
		least = n
	}
	many := len(r.locks) >= least
	var first, last keys.Key
	start := 0
	for _, l := range r.locks {
		last = keys.Key(r.arena[start:l.end:l.end])
		start = l.end
		if first == nil {
			first = last
		}
		var err error
		if many {
			b.unlocked = append(b.unlocked, lockSlot(last))
		} else {
			err = b.clearLock(last, &lockRecord{TxnMeta: TxnMeta{ID: id}, rewritten: l.rewritten})
		}
		if err != nil {
			return err
		}
	}
	r.arena, r.locks = r.arena[:0], r.locks[:0]
	if !many {
		return nil
	}
	return b.b.DeleteRange(appendLockPrefix(nil, first), appendLockPrefix(nil, last.Next()), nil)
}

// resolveLock applies update to the lock that its transaction holds on key.
func resolveLock(b *Batch, v *view, it *pebble.Iterator, key keys.Key, lock *lockRecord, update *LockUpdate, stats *Stats) error {
	remove := false
	newTS := lock.WriteTimestamp
	switch update.Status {
	case Aborted:
		remove = true
	case Committed:
		// Writes of an older epoch that the last one did not repeat never happened.
		remove = lock.Epoch != update.Txn.Epoch
		if !remove && update.Txn.WriteTimestamp.Less(lock.WriteTimestamp) {
			return &TransactionStateError{Key: key.Clone(), Reason: fmt.Sprintf("committed at %s below its lock at %s",
				update.Txn.WriteTimestamp, lock.WriteTimestamp)}
		}
		newTS = update.Txn.WriteTimestamp
	case Pending:
		remove = lock.Epoch < update.Txn.Epoch
		newTS.Forward(update.Txn.WriteTimestamp)
	default:
		return fmt.Errorf("resolving %s: unknown status %d", keys.Pretty(key), update.Status)
	}

	// Which of the transaction's writes counts after savepoint rollbacks.
	rolledBack := false
	var kept seqValue
	ignored := update.IgnoredSeqNums
	if !remove && lock.Epoch == update.Txn.Epoch && seqIgnored(ignored, lock.Sequence) {
		var ok bool
		if kept, ok = lock.visibleHistory(lock.Sequence, ignored); ok {
			rolledBack = true
		} else {
			remove = true
		}
	}
	if remove {
		return removeLock(b, v, it, key, lock, stats)
	}
	if update.Status == Pending && !rolledBack && newTS == lock.WriteTimestamp {
		return nil
	}

	newLen := lock.valueLen
	if rolledBack || newTS != lock.WriteTimestamp {
		prov, err := v.provisional(it, key, lock.WriteTimestamp)
		if err != nil {
			return err
		}
		value := prov
		if rolledBack {
			value = kept.value
		}
		newLen = int64(len(value))
		if stats != nil {
			stats.subVersion(key, lock.WriteTimestamp, prov)
			stats.subLive(key, prov)
			stats.addVersion(key, newTS, value)
			stats.addLive(key, value)
		}
		if newTS != lock.WriteTimestamp {
			if err := b.clearVersion(key, lock.WriteTimestamp); err != nil {
				return err
			}
		}
		if err := b.putVersion(key, newTS, value); err != nil {
			return err
		}
	}
	if stats != nil {
		stats.subIntent(key, lock.valueLen)
	}
	if update.Status == Committed {
		return b.clearLock(key, lock)
	}
	rec := *lock
	rec.rewritten = true
	rec.WriteTimestamp = newTS
	rec.valueLen = newLen
	if rolledBack {
		rec.Sequence = kept.seq
		rec.history = nil
		for _, h := range lock.history {
			if h.seq < kept.seq && !seqIgnored(ignored, h.seq) {
				rec.history = append(rec.history, h)
			}
		}
	}
	if stats != nil {
		stats.addIntent(key, newLen)
	}
	return b.putLock(key, &rec)
}

// removeLock takes back the provisional value and the lock.
func removeLock(b *Batch, v *view, it *pebble.Iterator, key keys.Key, lock *lockRecord, stats *Stats) error {
	if stats != nil {
		prov, err := v.provisional(it, key, lock.WriteTimestamp)
		if err != nil {
			return err
		}
		stats.subVersion(key, lock.WriteTimestamp, prov)
		stats.subLive(key, prov)
		stats.subIntent(key, lock.valueLen)
		below, err := v.versionAt(it, key, lock.WriteTimestamp.Prev(), lock.WriteTimestamp.Prev())
		if err != nil {
			return err
		}
		live, err := below.live()
		if err != nil {
			return err
		}
		if live {
			stats.addLive(key, below.raw)
		}
	}
	if err := b.clearVersion(key, lock.WriteTimestamp); err != nil {
		return err
	}
	return b.clearLock(key, lock)
}

// provisional returns the value at exactly ts, where a lock says there is one,
// in memory of its own.
func (v *view) provisional(it *pebble.Iterator, key keys.Key, ts hlc.Timestamp) ([]byte, error) {
	v.buf = AppendMVCCKey(v.buf[:0], key, ts)
	if !it.SeekPrefixGE(v.buf) || !bytes.Equal(it.Key(), v.buf) {
		if err := it.Error(); err != nil {
			return nil, markEngineError(err)
		}
		return nil, corruptionf("lock on %s without its version at %s", keys.Pretty(key), ts)
	}
	raw, err := it.ValueAndErr()
	if err != nil {
		return nil, markEngineError(err)
	}
	return append([]byte{}, raw...), nil
}
