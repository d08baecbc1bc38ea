package storage

import (
	"bytes"
	"context"
	"fmt"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// WriteOptions is what every MVCC write takes beside its key and value.
type WriteOptions struct {
	// Txn makes the write provisional, at Txn.WriteTimestamp and Txn.Sequence;
	// the timestamp passed beside is then ignored.
	Txn *Txn
	// Stats receives the change, if not nil.
	Stats *Stats
}

// MVCCPut writes a value. An empty value is a delete.
//
// A repeated write (same transaction, epoch and sequence) changes nothing and
// succeeds if the value is the same.
//
// Errors: LockConflictError, WriteTooOldError, TransactionStateError.
func MVCCPut(ctx context.Context, rw ReadWriter, key keys.Key, ts hlc.Timestamp, value []byte, opts WriteOptions) error {
	_, err := mvccWrite(ctx, rw, key, ts, value, nil, opts)
	return err
}

// MVCCConditionalPut writes value if the key's present value, without its
// checksum, equals expected; an empty expected value means that the key must not
// exist. allowNotExist accepts a missing key too. An empty value deletes.
//
// Errors beside those of MVCCPut: ConditionFailedError.
func MVCCConditionalPut(ctx context.Context, rw ReadWriter, key keys.Key, ts hlc.Timestamp, value, expected []byte, allowNotExist bool, opts WriteOptions) error {
	cond := func(actual []byte, actualTS hlc.Timestamp) error {
		switch {
		case len(actual) == 0 && (len(expected) == 0 || allowNotExist):
			return nil
		case len(actual) > 0 && len(expected) > 0 && equalValueData(actual, expected):
			return nil
		case len(actual) == 0:
			return &ConditionFailedError{Key: key.Clone()}
		}
		return &ConditionFailedError{Key: key.Clone(), Actual: bytes.Clone(actual), ActualTimestamp: actualTS}
	}
	_, err := mvccWrite(ctx, rw, key, ts, value, cond, opts)
	return err
}

// MVCCDelete writes a tombstone and says whether the key existed.
func MVCCDelete(ctx context.Context, rw ReadWriter, key keys.Key, ts hlc.Timestamp, opts WriteOptions) (existed bool, err error) {
	return mvccWrite(ctx, rw, key, ts, nil, nil, opts)
}

// condition looks at the simple value (empty: none) that a write replaces.
type condition func(actual []byte, ts hlc.Timestamp) error

// mvccWrite is every write of one key. It says whether the key had a value.
func mvccWrite(ctx context.Context, rw ReadWriter, key keys.Key, ts hlc.Timestamp, value []byte, cond condition, opts WriteOptions) (existed bool, err error) {
	if err := checkWritable(value); err != nil {
		return false, fmt.Errorf("writing %s: %w", keys.Pretty(key), err)
	}
	b := rw.raw()
	v := rw.pin()
	it, err := v.pointIter()
	if err != nil {
		return false, err
	}
	var lock lockRecord
	locked := false
	// Writers of a key come one after the other, so the filter needs no care here.
	if !b.eng.locks.load(lockSlot(key)).none() {
		if lock, locked, err = v.lockOn(it, key); err != nil {
			return false, err
		}
	}
	txn := opts.Txn
	if locked {
		if txn == nil || txn.ID != lock.ID {
			return false, &LockConflictError{Locks: []Lock{lock.asLock(key, LockIntent)}}
		}
		return overwriteOwn(ctx, b, v, key, value, cond, &lock, opts)
	}
	readTS, writeTS := ts, ts
	if txn != nil {
		readTS, writeTS = txn.ReadTimestamp, txn.WriteTimestamp
	}
	if writeTS.IsEmpty() {
		return false, fmt.Errorf("writing %s: no timestamp", keys.Pretty(key))
	}
	newest, err := v.versionAt(it, key, hlc.MaxTimestamp, hlc.MaxTimestamp)
	if err != nil {
		return false, err
	}
	if newest.found() && (readTS.Less(newest.ts) || writeTS.LessEq(newest.ts)) {
		return false, &WriteTooOldError{Key: key.Clone(), Timestamp: writeTS, ActualTimestamp: newest.ts.Next()}
	}
	old, err := splitValue(newest.raw)
	if err != nil {
		return false, err
	}
	if cond != nil {
		if err := cond(old, newest.ts); err != nil {
			return false, err
		}
	}
	existed = len(old) > 0
	if s := opts.Stats; s != nil {
		if existed {
			s.subLive(key, newest.raw)
		}
		s.addVersion(key, writeTS, value)
		s.addLive(key, value)
		if txn != nil {
			s.addIntent(key, int64(len(value)))
		}
	}
	if txn != nil {
		rec := lockRecord{TxnMeta: txn.TxnMeta, valueLen: int64(len(value))}
		if err := b.putNewLock(key, &rec); err != nil {
			return false, err
		}
	}
	return existed, b.putVersion(key, writeTS, value)
}

// overwriteOwn writes a key on which the transaction holds a lock already.
func overwriteOwn(ctx context.Context, b *Batch, v *view, key keys.Key, value []byte, cond condition, lock *lockRecord, opts WriteOptions) (existed bool, err error) {
	txn := opts.Txn
	if lock.Epoch > txn.Epoch {
		return false, &TransactionStateError{Key: key.Clone(), Reason: fmt.Sprintf("write in epoch %d after one in epoch %d", txn.Epoch, lock.Epoch)}
	}
	it, err := v.pointIter()
	if err != nil {
		return false, err
	}
	prov, err := v.provisional(it, key, lock.WriteTimestamp)
	if err != nil {
		return false, err
	}
	sameEpoch := lock.Epoch == txn.Epoch
	replay := sameEpoch && txn.Sequence <= lock.Sequence
	if replay {
		if err := checkReplay(key, value, prov, lock, txn); err != nil {
			return false, err
		}
	}

	// What the write replaces: the transaction's last one before it that still
	// counts, or the committed value below the lock.
	var old []byte
	oldTS := lock.WriteTimestamp
	var history []seqValue
	if sameEpoch {
		for _, h := range lock.history {
			if h.seq < txn.Sequence && !seqIgnored(txn.IgnoredSeqNums, h.seq) {
				history = append(history, h)
			}
		}
		if lock.Sequence < txn.Sequence && !seqIgnored(txn.IgnoredSeqNums, lock.Sequence) {
			history = append(history, seqValue{seq: lock.Sequence, value: prov})
		}
	}
	if len(history) > 0 {
		old = history[len(history)-1].value
	} else {
		below, err := v.versionAt(it, key, lock.WriteTimestamp.Prev(), lock.WriteTimestamp.Prev())
		if err != nil {
			return false, err
		}
		if old, err = splitValue(below.raw); err != nil {
			return false, err
		}
		oldTS = below.ts
	}
	existed = len(old) > 0
	if replay {
		return existed, nil // The condition held the first time.
	}
	if cond != nil {
		if err := cond(old, oldTS); err != nil {
			return false, err
		}
	}

	newTS := hlc.Later(lock.WriteTimestamp, txn.WriteTimestamp)
	if s := opts.Stats; s != nil {
		s.subVersion(key, lock.WriteTimestamp, prov)
		s.subLive(key, prov)
		s.subIntent(key, lock.valueLen)
		s.addVersion(key, newTS, value)
		s.addLive(key, value)
		s.addIntent(key, int64(len(value)))
	}
	rec := lockRecord{TxnMeta: txn.TxnMeta, rewritten: true, valueLen: int64(len(value)), history: history}
	rec.WriteTimestamp = newTS
	if err := b.putLock(key, &rec); err != nil {
		return false, err
	}
	if newTS != lock.WriteTimestamp {
		if err := b.clearVersion(key, lock.WriteTimestamp); err != nil {
			return false, err
		}
	}
	return existed, b.putVersion(key, newTS, value)
}

// checkReplay accepts a write that was made before and is sent again.
func checkReplay(key keys.Key, value, prov []byte, lock *lockRecord, txn *Txn) error {
	seen, ok := prov, txn.Sequence == lock.Sequence
	for _, h := range lock.history {
		if h.seq == txn.Sequence {
			seen, ok = h.value, true
		}
	}
	if !ok {
		return &TransactionStateError{Key: key.Clone(), Reason: fmt.Sprintf("write with sequence %d after one with %d", txn.Sequence, lock.Sequence)}
	}
	if !bytes.Equal(seen, value) {
		return &TransactionStateError{Key: key.Clone(), Reason: fmt.Sprintf("two different writes with sequence %d", txn.Sequence)}
	}
	return nil
}

// putNewLock writes the first lock record of a transaction on key.
func (b *Batch) putNewLock(key keys.Key, rec *lockRecord) error {
	slot := lockSlot(key)
	b.eng.locks.raise(slot)
	b.locked = append(b.locked, slot)
	return b.putLock(key, rec)
}

// putLock replaces the lock record of key.
func (b *Batch) putLock(key keys.Key, rec *lockRecord) error {
	b.key = appendLockKey(b.key[:0], key, LockIntent, rec.ID)
	b.val = rec.append(b.val[:0])
	return b.b.Set(b.key, b.val, nil)
}

// clearLock removes the lock record of key.
func (b *Batch) clearLock(key keys.Key, rec *lockRecord) error {
	b.unlocked = append(b.unlocked, lockSlot(key))
	b.key = appendLockKey(b.key[:0], key, LockIntent, rec.ID)
	if rec.rewritten {
		return b.b.Delete(b.key, nil)
	}
	// Written once: the two operations annihilate as soon as they meet, so that
	// short transactions leave nothing in the lock table.
	return b.b.SingleDelete(b.key, nil)
}

func versionBytes(key keys.Key, ts hlc.Timestamp) int64 {
	if ts.Logical != 0 {
		return int64(len(key)) + 1 + suffixLenLogical
	}
	return int64(len(key)) + 1 + suffixLenWall
}

func (s *Stats) addVersion(key keys.Key, ts hlc.Timestamp, value []byte) {
	s.KeyCount++
	s.KeyBytes += versionBytes(key, ts)
	s.ValBytes += int64(len(value))
}

func (s *Stats) subVersion(key keys.Key, ts hlc.Timestamp, value []byte) {
	s.KeyCount--
	s.KeyBytes -= versionBytes(key, ts)
	s.ValBytes -= int64(len(value))
}

// addLive and subLive count a newest version, unless it is a tombstone.
func (s *Stats) addLive(key keys.Key, value []byte) {
	if len(value) > 0 {
		s.LiveCount++
		s.LiveBytes += int64(len(key) + len(value))
	}
}

func (s *Stats) subLive(key keys.Key, value []byte) {
	if len(value) > 0 {
		s.LiveCount--
		s.LiveBytes -= int64(len(key) + len(value))
	}
}

func (s *Stats) addIntent(key keys.Key, valueLen int64) {
	s.IntentCount++
	s.IntentBytes += int64(len(key)) + valueLen
}

func (s *Stats) subIntent(key keys.Key, valueLen int64) {
	s.IntentCount--
	s.IntentBytes -= int64(len(key)) + valueLen
}
