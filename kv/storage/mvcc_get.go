package storage

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// GetOptions says how a read treats what it meets. The zero value is a
// consistent, non-transactional read.
type GetOptions struct {
	// Txn makes own provisional values visible (up to Txn.Sequence, without
	// ignored ones) and gives the uncertainty interval. The read timestamp is
	// the one passed beside the options.
	Txn *Txn
	// Inconsistent reads the newest committed version ≤ ts and returns foreign
	// locks beside the result instead of as an error.
	Inconsistent bool
	// SkipLocked leaves locked keys out of the result.
	SkipLocked bool
	// FailOnMoreRecent is for locking reads: a version or a lock above ts is a
	// WriteTooOldError or LockConflictError too.
	FailOnMoreRecent bool
	// Tombstones returns deleted keys with an empty value.
	Tombstones bool
}

// GetResult is the outcome of MVCCGet.
type GetResult struct {
	// Value is in memory of the caller's; nil if the key does not exist, or is
	// locked and skipped; empty for a tombstone that was asked for.
	Value     []byte
	Timestamp hlc.Timestamp // of the version, zero if none
	Intent    *Lock         // a foreign lock met by an inconsistent or lock-skipping read
}

// Exists says whether the key had a value.
func (r *GetResult) Exists() bool { return len(r.Value) > 0 }

// MVCCGet reads key as of ts.
//
// Errors: LockConflictError, ReadWithinUncertaintyError, WriteTooOldError (with
// FailOnMoreRecent), TransactionStateError.
func MVCCGet(ctx context.Context, r Reader, key keys.Key, ts hlc.Timestamp, opts GetOptions) (res GetResult, err error) {
	v := r.pin()
	defer func() {
		if uerr := v.unpin(); err == nil {
			err = uerr
		}
	}()
	rd := readSpec{ts: ts, txn: opts.Txn, inconsistent: opts.Inconsistent, skipLocked: opts.SkipLocked, failOnMoreRecent: opts.FailOnMoreRecent}
	var free lockFreeRead
	if v.isEngine() {
		free = v.eng.locks.begin(key)
	}
	it, err := v.pointIter()
	if err != nil {
		return GetResult{}, err
	}
	var lock lockRecord
	found := false
	// What is read through a batch is ordered with the writers of the key.
	if !free.holds() && !(v.batch && v.eng.locks.load(lockSlot(key)).none()) {
		if lock, found, err = v.lockOn(it, key); err != nil {
			return GetResult{}, err
		}
	}
	plan := keyPlan{readTS: ts, limit: rd.limit()}
	if found {
		if plan, err = rd.planLocked(key, &lock); err != nil {
			return GetResult{}, err
		}
		switch {
		case plan.conflict:
			return GetResult{}, &LockConflictError{Locks: []Lock{lock.asLock(key, LockIntent)}}
		case plan.report:
			l := lock.asLock(key, LockIntent)
			res.Intent = &l
		}
		switch {
		case plan.skip:
			return res, nil
		case plan.fixed:
			if len(plan.value) > 0 || opts.Tombstones {
				res.Value, res.Timestamp = append([]byte{}, plan.value...), lock.WriteTimestamp
			}
			return res, nil
		}
	}
	ver, err := v.versionAt(it, key, plan.readTS, plan.limit)
	if err != nil || !ver.found() {
		return res, err
	}
	if plan.readTS.Less(ver.ts) {
		return GetResult{}, rd.tooRecent(key, ver.ts)
	}
	simple, err := splitValue(ver.raw)
	if err != nil {
		return GetResult{}, err
	}
	if len(simple) > 0 || opts.Tombstones {
		res.Value, res.Timestamp = append([]byte{}, simple...), ver.ts
	}
	return res, nil
}

// readSpec is what gets and scans have in common.
type readSpec struct {
	ts               hlc.Timestamp
	txn              *Txn
	inconsistent     bool
	skipLocked       bool
	failOnMoreRecent bool
}

// limit is up to where a version above ts is an error: ts itself when none is.
func (rd *readSpec) limit() hlc.Timestamp {
	switch {
	case rd.failOnMoreRecent:
		return hlc.MaxTimestamp
	case rd.txn != nil && rd.ts.Less(rd.txn.GlobalUncertaintyLimit):
		return rd.txn.GlobalUncertaintyLimit
	}
	return rd.ts
}

// tooRecent is the error for a version between ts and limit.
func (rd *readSpec) tooRecent(key keys.Key, ts hlc.Timestamp) error {
	if rd.failOnMoreRecent {
		return &WriteTooOldError{Key: key.Clone(), Timestamp: rd.ts, ActualTimestamp: ts.Next()}
	}
	return &ReadWithinUncertaintyError{Key: key.Clone(), ReadTimestamp: rd.ts, ValueTimestamp: ts,
		GlobalUncertaintyLimit: rd.txn.GlobalUncertaintyLimit}
}

// keyPlan says how a locked key is to be read.
type keyPlan struct {
	conflict bool // the lock stands in the way
	report   bool // name the lock in the result
	skip     bool // leave the key out
	fixed    bool // the value is this one, from the lock's history
	value    []byte
	readTS   hlc.Timestamp // else: read the committed versions at this timestamp
	limit    hlc.Timestamp // and fail on versions above readTS up to this
}

// planLocked decides what a lock on key means for the read.
func (rd *readSpec) planLocked(key keys.Key, lock *lockRecord) (keyPlan, error) {
	// While the lock is there its version is the newest, so everything below it
	// is committed.
	below := lock.WriteTimestamp.Prev()
	below.Backward(rd.ts)
	if rd.txn == nil || rd.txn.ID != lock.ID {
		if rd.ts.Less(lock.WriteTimestamp) && !rd.failOnMoreRecent {
			// Not in the way; if its version is within the uncertainty interval,
			// that is found as for a committed one.
			return keyPlan{readTS: rd.ts, limit: rd.limit()}, nil
		}
		switch {
		case rd.skipLocked:
			return keyPlan{skip: true, report: true}, nil
		case rd.inconsistent:
			return keyPlan{report: true, readTS: below, limit: below}, nil
		}
		return keyPlan{conflict: true}, nil
	}
	switch {
	case lock.Epoch > rd.txn.Epoch:
		return keyPlan{}, &TransactionStateError{Key: key.Clone(), Reason: "read in an epoch older than its write"}
	case lock.Epoch < rd.txn.Epoch:
		return keyPlan{readTS: below, limit: below}, nil
	case lock.Sequence <= rd.txn.Sequence && !seqIgnored(rd.txn.IgnoredSeqNums, lock.Sequence):
		return keyPlan{readTS: lock.WriteTimestamp, limit: lock.WriteTimestamp}, nil
	}
	if h, ok := lock.visibleHistory(rd.txn.Sequence, rd.txn.IgnoredSeqNums); ok {
		return keyPlan{fixed: true, value: h.value}, nil
	}
	return keyPlan{readTS: below, limit: below}, nil
}

// lockOn returns the lock on key. Its slices are valid until it moves.
func (v *view) lockOn(it *pebble.Iterator, key keys.Key) (lockRecord, bool, error) {
	v.buf = appendLockPrefix(v.buf[:0], key)
	if !it.SeekPrefixGE(v.buf) {
		return lockRecord{}, false, markEngineError(it.Error())
	}
	rec, err := lockAt(it)
	return rec, err == nil, err
}

// lockAt decodes the lock that it stands on, in memory of its own: the iterator
// will be moved to the data.
func lockAt(it *pebble.Iterator) (lockRecord, error) {
	_, _, id, err := decodeLockKey(it.Key())
	if err != nil {
		return lockRecord{}, err
	}
	raw, err := it.ValueAndErr()
	if err != nil {
		return lockRecord{}, markEngineError(err)
	}
	return decodeLockRecord(id, append([]byte(nil), raw...))
}

// version is a stored version or the range tombstone that hides it.
type version struct {
	ts  hlc.Timestamp
	raw []byte // valid until the iterator moves; nil for a range tombstone
	// point says that ts and raw are of a point version.
	point bool
}

func (v version) found() bool { return !v.ts.IsEmpty() }

// live says whether the version holds a value.
func (v version) live() (bool, error) {
	simple, err := splitValue(v.raw)
	return len(simple) > 0, err
}

// versionAt returns the newest version of key in (ts, limit] if there is one,
// else the newest ≤ ts. Range tombstones count as versions of every key in
// their span. point is the view's iterator for prefix seeks.
func (v *view) versionAt(point *pebble.Iterator, key keys.Key, ts, limit hlc.Timestamp) (version, error) {
	it := point
	if v.eng.rangeKeys.contains(key) {
		var err error
		if it, _, err = v.dataIter(key, key.Next()); err != nil {
			return version{}, err
		}
	}
	if limit.IsEmpty() {
		return version{}, nil // A key without version would be found.
	}
	v.buf = AppendMVCCKey(v.buf[:0], key, limit)
	if !it.SeekPrefixGE(v.buf) {
		return version{}, markEngineError(it.Error())
	}
	hasPoint, hasRange := it.HasPointAndRange()
	var rangeTS hlc.Timestamp
	if hasRange {
		var err error
		if rangeTS, err = newestRangeTombstone(it.RangeKeys(), limit); err != nil {
			return version{}, err
		}
		if !hasPoint && it.Next() {
			hasPoint, _ = it.HasPointAndRange()
		}
	}
	if hasPoint {
		k, err := DecodeMVCCKey(it.Key())
		if err != nil {
			return version{}, err
		}
		if rangeTS.Less(k.Timestamp) {
			raw, err := it.ValueAndErr()
			if err != nil {
				return version{}, markEngineError(err)
			}
			return version{ts: k.Timestamp, raw: raw, point: true}, nil
		}
	}
	if err := it.Error(); err != nil {
		return version{}, markEngineError(err)
	}
	return version{ts: rangeTS}, nil
}

// newestRangeTombstone returns the newest timestamp ≤ limit among range keys.
func newestRangeTombstone(rks []pebble.RangeKeyData, limit hlc.Timestamp) (hlc.Timestamp, error) {
	var newest hlc.Timestamp
	for _, rk := range rks {
		ts, err := decodeTimestampSuffix(rk.Suffix)
		if err != nil {
			return hlc.Timestamp{}, corruptionf("range key: %v", err)
		}
		if ts.LessEq(limit) {
			newest.Forward(ts)
		}
	}
	return newest, nil
}
