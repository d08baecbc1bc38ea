package storage

import (
	"bytes"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// reverse visits the keys of the span in descending order. Within a key the
// iterator meets the oldest version first, so each version ≤ the read timestamp
// is a candidate until the next one is seen.
func (s *scanner) reverse() error {
	ok := s.it.Last()
	for ok {
		if err := s.tick(); err != nil {
			return err
		}
		ek := s.it.Key()
		n := int(ek[len(ek)-1])
		if s.ranged {
			hasPoint, hasRange := s.it.HasPointAndRange()
			if err := s.loadTombstones(hasRange); err != nil {
				return err
			}
			if !hasPoint {
				ok = s.it.Prev()
				continue
			}
		}
		if n == 0 || n == suffixLenLock {
			ok = s.it.Prev()
			continue
		}
		s.keyBuf = append(s.keyBuf[:0], ek[:len(ek)-n]...)
		key := keys.Key(s.keyBuf[:len(s.keyBuf)-1])
		plan := keyPlan{readTS: s.rd.ts, limit: s.limit}
		if s.locks.valid && s.locks.key.Compare(key) >= 0 {
			if err := s.orphanLocks(key); err != nil {
				return err
			}
			if s.locks.valid && s.locks.key.Equal(key) {
				if err := s.stopAtLimit(key); err != nil {
					return err
				}
				var err error
				if plan, err = s.planLock(); err != nil {
					return err
				}
			}
		}
		if plan.skip || plan.fixed {
			ok = s.it.SeekLT(s.keyBuf)
			if plan.fixed {
				if err := s.add(key, plan.value, s.locks.lastTS, true); err != nil {
					return err
				}
			}
			continue
		}
		var err error
		if ok, err = s.reverseKey(key, plan.readTS, plan.limit); err != nil {
			return err
		}
	}
	return s.orphanLocks(nil)
}

// reverseKey adds the visible version of key, on whose oldest version the
// iterator stands, and moves before the key. more is false at the end.
func (s *scanner) reverseKey(key keys.Key, readTS, limit hlc.Timestamp) (more bool, err error) {
	var best hlc.Timestamp // timestamp of the candidate, whose value is in valBuf
	for steps := 0; ; steps++ {
		ek := s.it.Key()
		n := int(ek[len(ek)-1])
		if n == 0 {
			// The plain key sorts before all versions, where a range key may begin.
			break
		}
		ts, err := fastTimestamp(ek, n)
		if err != nil {
			return false, err
		}
		if limit.Less(ts) {
			// Only newer ones follow.
			s.it.SeekLT(s.keyBuf)
			break
		}
		if readTS.Less(ts) {
			return false, s.rd.tooRecent(key, ts)
		}
		best = ts
		if steps < nextsBeforeSeek {
			raw, err := s.it.ValueAndErr()
			if err != nil {
				return false, err
			}
			s.valBuf = append(s.valBuf[:0], raw...)
		} else {
			// Many versions: go to the newest ≤ limit directly.
			s.seekBuf = appendTimestampSuffix(append(s.seekBuf[:0], s.keyBuf...), limit)
			if !s.it.SeekGE(s.seekBuf) {
				return false, corruptionf("version of %s vanished during a scan", keys.Pretty(key))
			}
			if s.ranged {
				if err := s.toPoint(); err != nil {
					return false, err
				}
			}
			if ts, err = fastTimestamp(s.it.Key(), int(s.it.Key()[len(s.it.Key())-1])); err != nil {
				return false, err
			}
			if readTS.Less(ts) {
				return false, s.rd.tooRecent(key, ts)
			}
			raw, err := s.it.ValueAndErr()
			if err != nil {
				return false, err
			}
			best = ts
			s.valBuf = append(s.valBuf[:0], raw...)
			s.it.SeekLT(s.keyBuf)
			break
		}
		if !s.it.Prev() {
			break
		}
		if ek = s.it.Key(); len(ek) < len(s.keyBuf) || !bytes.Equal(ek[:len(ek)-int(ek[len(ek)-1])], s.keyBuf) {
			break
		}
	}
	more = s.it.Valid()
	if best.IsEmpty() {
		return more, nil
	}
	if s.ranged {
		// The tombstones were loaded on the key; the iterator may have left it.
		if rt, hidden := s.hiddenBy(best, limit); hidden {
			if readTS.Less(rt) {
				return false, s.rd.tooRecent(key, rt)
			}
			if s.opts.Tombstones {
				return more, s.add(key, nil, rt, false)
			}
			return more, nil
		}
	}
	return more, s.add(key, s.valBuf, best, false)
}

// toPoint steps from the begin of a range key to the version at the same key.
func (s *scanner) toPoint() error {
	for {
		if hasPoint, _ := s.it.HasPointAndRange(); hasPoint {
			return nil
		}
		if !s.it.Next() {
			return corruptionf("version vanished during a scan")
		}
	}
}
