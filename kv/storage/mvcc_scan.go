package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// KeyValue is one pair of a scan.
type KeyValue struct {
	Key       keys.Key
	Value     []byte // empty for a tombstone that was asked for
	Timestamp hlc.Timestamp
}

// ScanOptions says how far a scan goes and how it treats what it meets. The
// first fields are as in GetOptions.
type ScanOptions struct {
	Txn              *Txn
	Inconsistent     bool
	SkipLocked       bool
	FailOnMoreRecent bool
	Tombstones       bool
	Reverse          bool
	// MaxKeys ends the scan after so many pairs; 0 means no limit. A negative
	// number returns nothing and the whole span as ResumeSpan.
	MaxKeys int64
	// TargetBytes ends the scan when keys and values returned reach it; the pair
	// that reaches it is included. 0 means no limit.
	TargetBytes int64
	// WholeRows never ends the result inside a row (the pairs of one
	// keys.RowPrefix), even if that exceeds the limits.
	WholeRows bool
	// MaxLocks bounds the locks in a LockConflictError; 0: 100.
	MaxLocks int
}

// ScanResult is the outcome of MVCCScan. Keys and values share arenas that
// belong to the caller.
type ScanResult struct {
	KVs []KeyValue
	// NumBytes is the sum of key and value lengths.
	NumBytes int64
	// ResumeSpan is what remains, nil if nothing does: for a forward scan it
	// begins after the last key looked at, for a reverse scan it ends before it.
	ResumeSpan *keys.Span
	// Intents are foreign locks met by an inconsistent or lock-skipping scan.
	Intents []Lock
}

const defaultMaxLocks = 100

// MVCCScan reads the span [start, end) as of ts. The errors are those of MVCCGet.
func MVCCScan(ctx context.Context, r Reader, start, end keys.Key, ts hlc.Timestamp, opts ScanOptions) (_ ScanResult, err error) {
	if opts.MaxKeys < 0 || bytes.Compare(start, end) >= 0 {
		res := ScanResult{}
		if bytes.Compare(start, end) < 0 {
			res.ResumeSpan = &keys.Span{Key: start.Clone(), EndKey: end.Clone()}
		}
		return res, nil
	}
	v := r.pin()
	defer func() {
		if uerr := v.unpin(); err == nil {
			err = uerr
		}
	}()
	s := scanner{
		ctx: ctx, start: start, end: end, opts: opts,
		rd: readSpec{ts: ts, txn: opts.Txn, inconsistent: opts.Inconsistent, skipLocked: opts.SkipLocked, failOnMoreRecent: opts.FailOnMoreRecent},
	}
	s.limit = s.rd.limit()
	if s.opts.MaxLocks == 0 {
		s.opts.MaxLocks = defaultMaxLocks
	}
	if err := s.locks.init(v, start, end, opts.Reverse, &s.rd); err != nil {
		return ScanResult{}, err
	}
	if s.it, s.ranged, err = v.dataIter(start, end); err != nil {
		return ScanResult{}, err
	}
	if opts.Reverse {
		err = s.reverse()
	} else {
		err = s.forward()
	}
	if err == nil {
		err = markEngineError(s.it.Error())
	}
	if err != nil && !errors.Is(err, errScanDone) {
		return ScanResult{}, err
	}
	if len(s.conflicts) > 0 {
		return ScanResult{}, &LockConflictError{Locks: s.conflicts}
	}
	return s.res, nil
}

// errScanDone ends a scan early.
var errScanDone = errors.New("scan is done")

// scanner is one run of MVCCScan.
type scanner struct {
	ctx        context.Context
	start, end keys.Key
	opts       ScanOptions
	rd         readSpec
	limit      hlc.Timestamp // versions in (rd.ts, limit] are errors
	it         *pebble.Iterator
	ranged     bool
	locks      lockCursor
	tombstones []hlc.Timestamp // range tombstones at the iterator's position
	conflicts  []Lock

	res      ScanResult
	arena    []byte
	limitHit bool
	lastRow  keys.Key // row prefix of the last pair, once limitHit
	visited  int
	seekBuf  []byte
	keyBuf   []byte
	valBuf   []byte
}

// nextsBeforeSeek is how many versions are stepped over before a seek is cheaper.
const nextsBeforeSeek = 6

// tick notices from time to time that nobody waits any more.
func (s *scanner) tick() error {
	if s.visited++; s.visited%1024 == 0 {
		return s.ctx.Err()
	}
	return nil
}

// forward visits the keys of the span in ascending order.
func (s *scanner) forward() error {
	ok := s.it.First()
	for ok {
		if err := s.tick(); err != nil {
			return err
		}
		if s.ranged {
			hasPoint, hasRange := s.it.HasPointAndRange()
			if err := s.loadTombstones(hasRange); err != nil {
				return err
			}
			if !hasPoint {
				ok = s.it.Next()
				continue
			}
		}
		ek := s.it.Key()
		n := int(ek[len(ek)-1])
		if n == 0 || n == suffixLenLock { // No version.
			ok = s.it.Next()
			continue
		}
		key := keys.Key(ek[: len(ek)-1-n : len(ek)-1-n])
		readTS, limit, fixed := s.rd.ts, s.limit, false
		var fixedValue []byte
		if s.locks.valid && s.locks.key.Compare(key) <= 0 {
			// Locks on smaller keys have no version in the way of the iterator.
			if err := s.orphanLocks(key); err != nil {
				return err
			}
			if s.locks.valid && s.locks.key.Equal(key) {
				if err := s.stopAtLimit(key); err != nil {
					return err
				}
				plan, err := s.planLock()
				if err != nil {
					return err
				}
				if plan.skip {
					ok = s.it.NextPrefix()
					continue
				}
				readTS, limit, fixed, fixedValue = plan.readTS, plan.limit, plan.fixed, plan.value
			}
		}
		if fixed {
			if err := s.add(key, fixedValue, s.locks.lastTS, true); err != nil {
				return err
			}
			ok = s.it.NextPrefix()
			continue
		}
		ts, err := fastTimestamp(ek, n)
		if err != nil {
			return err
		}
		if readTS.Less(ts) {
			if ts.LessEq(limit) {
				return s.rd.tooRecent(key, ts)
			}
			if ok, err = s.seekVersion(key, readTS, limit); err != nil {
				return err
			}
			if !ok {
				ok = s.it.Valid()
				continue
			}
			ek = s.it.Key()
			key = keys.Key(ek[:len(key):len(key)])
			if ts, err = fastTimestamp(ek, int(ek[len(ek)-1])); err != nil {
				return err
			}
		}
		if s.ranged {
			if rt, hidden := s.hiddenBy(ts, limit); hidden {
				if readTS.Less(rt) {
					return s.rd.tooRecent(key, rt)
				}
				if s.opts.Tombstones {
					if err := s.add(key, nil, rt, false); err != nil {
						return err
					}
				}
				ok = s.it.NextPrefix()
				continue
			}
		}
		raw, err := s.it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := s.add(key, raw, ts, false); err != nil {
			return err
		}
		ok = s.it.NextPrefix()
	}
	return s.orphanLocks(nil)
}

// fastTimestamp decodes the version of engine key ek, whose suffix has n bytes.
func fastTimestamp(ek []byte, n int) (hlc.Timestamp, error) {
	if n == suffixLenWall && len(ek) > n {
		return hlc.Timestamp{WallTime: int64(binary.BigEndian.Uint64(ek[len(ek)-n:]))}, nil
	}
	k, err := DecodeMVCCKey(ek)
	return k.Timestamp, err
}

// seekVersion moves from a version of key above readTS to the newest one ≤
// readTS. It returns false if there is none; the iterator then stands after all
// versions looked at, perhaps at the end. A version ≤ limit met on the way is an
// error.
func (s *scanner) seekVersion(key keys.Key, readTS, limit hlc.Timestamp) (bool, error) {
	s.keyBuf = append(append(s.keyBuf[:0], key...), sentinel)
	seek := limit
	if readTS.IsEmpty() {
		return false, s.skipPrefix()
	}
	for i := 0; ; i++ {
		if i == nextsBeforeSeek {
			s.seekBuf = appendTimestampSuffix(append(s.seekBuf[:0], s.keyBuf...), seek)
			s.it.SeekGE(s.seekBuf)
		} else {
			s.it.Next()
		}
		if !s.it.Valid() {
			return false, nil
		}
		ek := s.it.Key()
		n := int(ek[len(ek)-1])
		if len(ek)-n != len(s.keyBuf) || !bytes.Equal(ek[:len(ek)-n], s.keyBuf) {
			return false, nil
		}
		if s.ranged {
			hasPoint, hasRange := s.it.HasPointAndRange()
			if err := s.loadTombstones(hasRange); err != nil {
				return false, err
			}
			if !hasPoint {
				continue
			}
		}
		ts, err := fastTimestamp(ek, n)
		if err != nil {
			return false, err
		}
		if ts.LessEq(readTS) {
			return true, nil
		}
		if ts.LessEq(limit) {
			return false, s.rd.tooRecent(keys.Key(s.keyBuf[:len(s.keyBuf)-1]), ts)
		}
	}
}

// skipPrefix moves past the key at which the iterator stands.
func (s *scanner) skipPrefix() error {
	s.it.NextPrefix()
	return markEngineError(s.it.Error())
}

// loadTombstones keeps the range tombstones of the iterator's position.
func (s *scanner) loadTombstones(hasRange bool) error {
	if !s.it.RangeKeyChanged() {
		return nil
	}
	s.tombstones = s.tombstones[:0]
	if !hasRange {
		return nil
	}
	for _, rk := range s.it.RangeKeys() {
		ts, err := decodeTimestampSuffix(rk.Suffix)
		if err != nil {
			return corruptionf("range key: %v", err)
		}
		s.tombstones = append(s.tombstones, ts)
	}
	return nil
}

// hiddenBy returns the newest range tombstone ≤ limit that is not older than ts.
func (s *scanner) hiddenBy(ts, limit hlc.Timestamp) (hlc.Timestamp, bool) {
	var newest hlc.Timestamp
	for _, t := range s.tombstones {
		if ts.LessEq(t) && t.LessEq(limit) {
			newest.Forward(t)
		}
	}
	return newest, !newest.IsEmpty()
}

// orphanLocks handles locks before key (nil: the rest) that have no version in
// the span. Foreign ones conflict all the same.
func (s *scanner) orphanLocks(key keys.Key) error {
	for s.locks.valid && (key == nil || s.locks.before(key)) {
		if err := s.stopAtLimit(s.locks.key); err != nil {
			return err
		}
		if _, err := s.planLock(); err != nil {
			return err
		}
	}
	return nil
}

// planLock decides what the cursor's lock means and moves the cursor on.
func (s *scanner) planLock() (keyPlan, error) {
	rec, err := s.locks.record()
	if err != nil {
		return keyPlan{}, err
	}
	key := s.locks.key
	plan, err := s.rd.planLocked(key, &rec)
	if err != nil {
		return keyPlan{}, err
	}
	switch {
	case plan.conflict:
		return keyPlan{}, s.collectConflicts(&rec)
	case plan.report:
		s.res.Intents = append(s.res.Intents, rec.asLock(key, LockIntent))
	}
	s.locks.lastTS = rec.WriteTimestamp
	return plan, s.locks.advance()
}

// collectConflicts ends the scan at a foreign lock. An unlimited scan names the
// further ones too, so that its caller can push them together.
func (s *scanner) collectConflicts(rec *lockRecord) error {
	s.conflicts = append(s.conflicts, rec.asLock(s.locks.key, LockIntent))
	if s.opts.MaxKeys > 0 || s.opts.TargetBytes > 0 {
		return errScanDone
	}
	for len(s.conflicts) < s.opts.MaxLocks {
		if err := s.locks.advance(); err != nil {
			return err
		}
		if !s.locks.valid {
			break
		}
		rec, err := s.locks.record()
		if err != nil {
			return err
		}
		if s.rd.txn == nil || s.rd.txn.ID != rec.ID {
			s.conflicts = append(s.conflicts, rec.asLock(s.locks.key, LockIntent))
		}
	}
	return errScanDone
}

// add appends a pair to the result, or ends the scan if there is no room for it.
func (s *scanner) add(key keys.Key, raw []byte, ts hlc.Timestamp, isSimple bool) error {
	value := raw
	if !isSimple && len(raw) > 0 && (len(raw) < valuePreludeLen || raw[valueChecksumLen] == extendedTag) {
		var err error
		if value, err = splitValue(raw); err != nil {
			return err
		}
	}
	if len(value) == 0 && !s.opts.Tombstones {
		return nil
	}
	if s.limitHit {
		if err := s.stopAtLimit(key); err != nil {
			return err
		}
	}
	n := len(key) + len(value)
	if cap(s.arena)-len(s.arena) < n {
		s.growArena(n)
	}
	at := len(s.arena)
	s.arena = append(append(s.arena, key...), value...)
	mid, end := at+len(key), at+n
	s.res.KVs = append(s.res.KVs, KeyValue{
		Key:       keys.Key(s.arena[at:mid:mid]),
		Value:     s.arena[mid:end:end],
		Timestamp: ts,
	})
	s.res.NumBytes += int64(n)
	if (s.opts.MaxKeys > 0 && int64(len(s.res.KVs)) >= s.opts.MaxKeys) ||
		(s.opts.TargetBytes > 0 && s.res.NumBytes >= s.opts.TargetBytes) {
		if !s.limitHit {
			s.limitHit = true
			if s.opts.WholeRows {
				s.lastRow = keys.RowPrefix(s.res.KVs[len(s.res.KVs)-1].Key)
			}
		}
		if !s.opts.WholeRows {
			return s.stopAfterLast()
		}
	}
	return nil
}

// growArena starts a new chunk; the old one stays referenced by the result.
func (s *scanner) growArena(n int) {
	const minChunk, maxChunk = 512, 1 << 20
	size := max(minChunk, min(2*cap(s.arena), maxChunk), n)
	s.arena = make([]byte, 0, size)
}

// stopAtLimit ends the scan before key if the limits are reached and key does
// not belong to the last row.
func (s *scanner) stopAtLimit(key keys.Key) error {
	if !s.limitHit {
		return nil
	}
	if s.opts.WholeRows && keys.RowPrefix(key).Equal(s.lastRow) {
		return nil
	}
	if s.opts.Reverse {
		s.res.ResumeSpan = &keys.Span{Key: s.start.Clone(), EndKey: key.Next()}
	} else {
		s.res.ResumeSpan = &keys.Span{Key: key.Clone(), EndKey: s.end.Clone()}
	}
	return errScanDone
}

// stopAfterLast ends the scan after the last pair added. Nothing remains if
// neither the iterator nor the lock table has more.
func (s *scanner) stopAfterLast() error {
	last := s.res.KVs[len(s.res.KVs)-1].Key
	if s.opts.Reverse {
		// The iterator stands before last already.
		if s.it.Valid() || s.locks.valid {
			s.res.ResumeSpan = &keys.Span{Key: s.start.Clone(), EndKey: last.Clone()}
		}
		return errScanDone
	}
	if s.it.NextPrefix() || s.locks.valid {
		s.res.ResumeSpan = &keys.Span{Key: last.Next(), EndKey: s.end.Clone()}
	}
	return errScanDone
}
