package storage

import (
	"bytes"
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// Pair is a key and the value to be written there.
type Pair struct {
	Key   keys.Key
	Value []byte
}

// IntentFiles are provisional versions of one transaction and the locks on them,
// as two sstables that IngestIntents makes part of the store together. For many
// keys that costs a fraction of writing them through log and memtable, twice.
type IntentFiles struct {
	// Stats is what the files add.
	Stats Stats

	versions, locks []byte
	slots           []uint32 // of the locks, in the lock filter
}

// MVCCPutSorted prepares MVCCPut of all pairs, which ascend; with mustBeNew it is
// MVCCConditionalPut of keys that must not exist. Nothing is written before
// IngestIntents. If some key needs more than that (the transaction has written it
// before, range tombstones are near), it returns nil, and the pairs have to be
// written one by one.
//
// Errors: LockConflictError, WriteTooOldError, ConditionFailedError.
func MVCCPutSorted(ctx context.Context, r Reader, pairs []Pair, mustBeNew bool, txn *Txn) (_ *IntentFiles, err error) {
	v := r.pin()
	defer func() {
		if uerr := v.unpin(); err == nil {
			err = uerr
		}
	}()
	f := &IntentFiles{slots: make([]uint32, 0, len(pairs))}
	if simple, err := v.checkSorted(ctx, pairs, mustBeNew, txn, &f.Stats); err != nil || !simple {
		return nil, err
	}
	return f, f.build(pairs, txn)
}

// checkSorted looks at what the store has of the keys, in one pass over locks and
// versions that skips what lies between the keys. simple is false if a key needs
// mvccWrite.
func (v *view) checkSorted(ctx context.Context, pairs []Pair, mustBeNew bool, txn *Txn, stats *Stats) (simple bool, err error) {
	start, end := pairs[0].Key, pairs[len(pairs)-1].Key.Next()
	lockIter, err := v.lockIter()
	if err != nil {
		return false, err
	}
	locks := sortedIter{it: lockIter, limit: appendLockPrefix(nil, end)}
	dataIter, ranged, err := v.dataIter(start, end)
	if err != nil || ranged {
		return false, err
	}
	data := sortedIter{it: dataIter}
	for i := range pairs {
		if i%1024 == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		key := pairs[i].Key
		if i > 0 && pairs[i-1].Key.Compare(key) >= 0 {
			return false, fmt.Errorf("keys to be written do not ascend at %s", keys.Pretty(key))
		}
		if err := checkWritable(pairs[i].Value); err != nil {
			return false, fmt.Errorf("writing %s: %w", keys.Pretty(key), err)
		}
		if len(pairs[i].Value) == 0 {
			return false, nil // A delete.
		}
		v.buf = appendLockPrefix(v.buf[:0], key)
		if found, err := locks.seek(v.buf); err != nil {
			return false, err
		} else if found {
			lock, err := lockAt(locks.it)
			if err != nil {
				return false, err
			}
			if lock.ID == txn.ID {
				return false, nil
			}
			return false, &LockConflictError{Locks: []Lock{lock.asLock(key, LockIntent)}}
		}
		v.buf = AppendMVCCKey(v.buf[:0], key, zeroTS)
		found, err := data.seek(v.buf)
		if err != nil {
			return false, err
		}
		if found {
			if err := checkReplaced(data.it, key, mustBeNew, txn, stats); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// checkReplaced looks at the newest version of key, on which it stands.
func checkReplaced(it *pebble.Iterator, key keys.Key, mustBeNew bool, txn *Txn, stats *Stats) error {
	have, err := DecodeMVCCKey(it.Key())
	if err != nil {
		return err
	}
	if txn.ReadTimestamp.Less(have.Timestamp) || txn.WriteTimestamp.LessEq(have.Timestamp) {
		return &WriteTooOldError{Key: key.Clone(), Timestamp: txn.WriteTimestamp, ActualTimestamp: have.Timestamp.Next()}
	}
	raw, err := it.ValueAndErr()
	if err != nil {
		return markEngineError(err)
	}
	old, err := splitValue(raw)
	if err != nil {
		return err
	}
	if len(old) > 0 && mustBeNew {
		return &ConditionFailedError{Key: key.Clone(), Actual: bytes.Clone(old), ActualTimestamp: have.Timestamp}
	}
	if len(old) > 0 {
		stats.subLive(key, raw)
	}
	return nil
}

// sortedIter finds ascending keys and moves only when one lies ahead.
type sortedIter struct {
	it    *pebble.Iterator
	limit []byte // nil: the iterator's own bound
	moved bool
	done  bool
}

// seek says whether the store has an engine key with the prefix (and sentinel)
// of a plain engine key, and stands on the first of them then.
func (s *sortedIter) seek(plain []byte) (bool, error) {
	if s.done {
		return false, nil
	}
	if !s.moved || bytes.Compare(enginePrefix(s.it.Key()), plain) < 0 {
		s.moved = true
		if s.it.SeekGEWithLimit(plain, s.limit) != pebble.IterValid {
			s.done = true
			return false, markEngineError(s.it.Error())
		}
	}
	return bytes.Equal(enginePrefix(s.it.Key()), plain), nil
}

// enginePrefix is an engine key without its suffix: key and sentinel.
func enginePrefix(k []byte) []byte {
	n := int(k[len(k)-1])
	if n == 0 || n >= len(k) {
		return k
	}
	return k[:len(k)-n]
}

// build writes the files.
func (f *IntentFiles) build(pairs []Pair, txn *Txn) error {
	var versions, locks bytes.Buffer
	vw := newSSTWriter(&versions, sstWriterOptions(CompressFast, blockBytes, false))
	lw := newSSTWriter(&locks, sstWriterOptions(CompressFast, blockBytes, false))
	if err := f.write(vw, lw, pairs, txn); err != nil {
		vw.Abort()
		lw.Abort()
		return err
	}
	if _, err := vw.Finish(); err != nil {
		lw.Abort()
		return err
	}
	if _, err := lw.Finish(); err != nil {
		return err
	}
	f.versions, f.locks = versions.Bytes(), locks.Bytes()
	return nil
}

func (f *IntentFiles) write(versions, locks *SSTWriter, pairs []Pair, txn *Txn) error {
	ts := txn.WriteTimestamp
	rec := lockRecord{TxnMeta: txn.TxnMeta, valueLen: -1}
	var engineKey, record []byte
	for i := range pairs {
		p := &pairs[i]
		engineKey = AppendMVCCKey(engineKey[:0], p.Key, ts)
		if err := versions.putRaw(engineKey, p.Value); err != nil {
			return err
		}
		if n := int64(len(p.Value)); n != rec.valueLen {
			rec.valueLen = n
			record = rec.append(record[:0])
		}
		engineKey = appendLockKey(engineKey[:0], p.Key, LockIntent, txn.ID)
		if err := locks.putRaw(engineKey, record); err != nil {
			return err
		}
		f.slots = append(f.slots, lockSlot(p.Key))
		f.Stats.addVersion(p.Key, ts, p.Value)
		f.Stats.addLive(p.Key, p.Value)
		f.Stats.addIntent(p.Key, int64(len(p.Value)))
	}
	return nil
}

// IngestIntents makes the versions and their locks part of the store: both or,
// on error and after a crash, neither. They are durable when it returns nil.
// Nobody may have written to the keys since MVCCPutSorted looked at them.
//
// Errors: ErrDiskFull.
func (e *Engine) IngestIntents(ctx context.Context, f *IntentFiles) error {
	if err := e.ingestIntents(ctx, f); err != nil {
		return fmt.Errorf("ingesting %d provisional versions: %w", len(f.slots), markEngineError(err))
	}
	return nil
}

func (e *Engine) ingestIntents(ctx context.Context, f *IntentFiles) error {
	if err := e.SpaceFor(int64(len(f.versions) + len(f.locks))); err != nil {
		return err
	}
	paths := make([]string, 0, 2)
	remove := func() {
		for _, p := range paths {
			_ = e.fs.Remove(p) // What is left is removed when the store is opened.
		}
	}
	for _, sst := range [][]byte{f.versions, f.locks} {
		p, err := e.stageBytes(sst)
		if err != nil {
			remove()
			return err
		}
		paths = append(paths, p)
	}
	for _, s := range f.slots {
		e.locks.raise(s)
	}
	if err := e.db.Ingest(ctx, paths); err != nil {
		remove()
		return err // Whether it happened is not known, so the filter stays raised.
	}
	return nil
}
