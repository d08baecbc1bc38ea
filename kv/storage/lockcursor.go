package storage

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// lockCursor walks the locks of a span beside a scan, stopping only at those
// that matter to it.
type lockCursor struct {
	it         *pebble.Iterator
	reverse    bool
	rd         *readSpec
	valid      bool
	key        keys.Key // of the lock, own memory
	id         TxnID
	lastTS     hlc.Timestamp // of the lock handled last
	lower, end []byte        // engine keys around the span's locks
	buf        []byte        // the value behind the record handed out last
}

// init moves to the first lock of [start, end) in the scan's direction.
func (c *lockCursor) init(v *view, start, end keys.Key, reverse bool, rd *readSpec) error {
	if err := c.open(v, start, end, reverse, rd); err != nil {
		return err
	}
	return c.first()
}

// open prepares the cursor; first moves it to the first lock.
func (c *lockCursor) open(v *view, start, end keys.Key, reverse bool, rd *readSpec) error {
	var err error
	if c.it, err = v.lockIter(); err != nil {
		return err
	}
	c.reverse, c.rd = reverse, rd
	// One buffer for both bounds.
	buf := make([]byte, 0, len(start)+len(end)+2*(len(keys.LocalLockPrefix)+1))
	buf = appendLockPrefix(buf, start)
	n := len(buf)
	buf = appendLockPrefix(buf, end)
	c.lower, c.end = buf[:n:n], buf[n:]
	return nil
}

func (c *lockCursor) first() error {
	if c.reverse {
		return c.settle(c.it.SeekLTWithLimit(c.end, c.lower))
	}
	return c.settle(c.it.SeekGEWithLimit(c.lower, c.end))
}

// advance moves to the next lock that matters.
func (c *lockCursor) advance() error {
	if c.reverse {
		return c.settle(c.it.PrevWithLimit(c.lower))
	}
	return c.settle(c.it.NextWithLimit(c.end))
}

// settle skips locks that do not matter.
func (c *lockCursor) settle(st pebble.IterValidityState) error {
	for ; st == pebble.IterValid; st = c.step() {
		key, _, id, err := decodeLockKey(c.it.Key())
		if err != nil {
			return err
		}
		if c.rd != nil && !c.rd.failOnMoreRecent && (c.rd.txn == nil || c.rd.txn.ID != id) {
			rec, err := c.decode(id)
			if err != nil {
				return err
			}
			if c.rd.ts.Less(rec.WriteTimestamp) {
				continue // A foreign lock above the read.
			}
		}
		c.key, c.id, c.valid = append(c.key[:0], key...), id, true
		return nil
	}
	c.valid = false
	return markEngineError(c.it.Error())
}

func (c *lockCursor) step() pebble.IterValidityState {
	if c.reverse {
		return c.it.PrevWithLimit(c.lower)
	}
	return c.it.NextWithLimit(c.end)
}

// decode reads the lock that the iterator stands on; its slices are valid until
// it moves.
func (c *lockCursor) decode(id TxnID) (lockRecord, error) {
	raw, err := c.it.ValueAndErr()
	if err != nil {
		return lockRecord{}, markEngineError(err)
	}
	return decodeLockRecord(id, raw)
}

// record decodes the cursor's lock; its slices are valid until the next call.
func (c *lockCursor) record() (lockRecord, error) {
	raw, err := c.it.ValueAndErr()
	if err != nil {
		return lockRecord{}, markEngineError(err)
	}
	c.buf = append(c.buf[:0], raw...)
	return decodeLockRecord(c.id, c.buf)
}

// before says whether the scan passes the lock before it comes to key.
func (c *lockCursor) before(key keys.Key) bool {
	if c.reverse {
		return key.Less(c.key)
	}
	return c.key.Less(key)
}

// ScanLocks returns the locks on keys of [start, end), at most max (0: no
// limit), and what remains.
func ScanLocks(ctx context.Context, r Reader, start, end keys.Key, max int64) (locks []Lock, resume *keys.Span, err error) {
	v := r.pin()
	defer func() {
		if uerr := v.unpin(); err == nil {
			err = uerr
		}
	}()
	var c lockCursor
	if err := c.init(v, start, end, false, nil); err != nil {
		return nil, nil, err
	}
	for c.valid {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if max > 0 && int64(len(locks)) >= max {
			return locks, &keys.Span{Key: c.key.Clone(), EndKey: end.Clone()}, nil
		}
		rec, err := c.record()
		if err != nil {
			return nil, nil, err
		}
		locks = append(locks, rec.asLock(c.key, LockIntent))
		if err := c.advance(); err != nil {
			return nil, nil, err
		}
	}
	return locks, nil, nil
}
