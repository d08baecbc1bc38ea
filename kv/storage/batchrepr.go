package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// batchOp is one operation of a batch in its serialised form. Slices share
// memory with it.
type batchOp struct {
	kind  pebble.InternalKeyKind
	key   []byte // of ranges: where they start
	value []byte // of points
	end   []byte // of ranges
	// suffixes are pairs of suffix and value of range keys.
	suffixes []suffixValue
}

type suffixValue struct{ suffix, value []byte }

const batchHeaderBytes = 12 // sequence number, count

// visitRepr calls fn with the operations of a serialised batch. Only those that
// batches of this package have are understood: the engine itself trusts what it
// is given too far to be shown anything else.
func visitRepr(repr []byte, fn func(op *batchOp) error) error {
	if len(repr) < batchHeaderBytes {
		return corruptionf("batch of %d bytes", len(repr))
	}
	want := binary.LittleEndian.Uint32(repr[8:])
	d := recordDecoder{b: repr[batchHeaderBytes:]}
	n := uint32(0)
	for ; len(d.b) > 0; n++ {
		op := batchOp{kind: pebble.InternalKeyKind(d.byte()), key: d.bytes()}
		ranged := true
		switch op.kind {
		case pebble.InternalKeyKindSet:
			op.value, ranged = d.bytes(), false
		case pebble.InternalKeyKindDelete, pebble.InternalKeyKindSingleDelete:
			ranged = false
		case pebble.InternalKeyKindRangeDelete, pebble.InternalKeyKindRangeKeyDelete:
			op.end = d.bytes()
		case pebble.InternalKeyKindRangeKeySet, pebble.InternalKeyKindRangeKeyUnset:
			v := recordDecoder{b: d.bytes()}
			op.end = v.bytes()
			for len(v.b) > 0 && !v.bad {
				sv := suffixValue{suffix: v.bytes()}
				if op.kind == pebble.InternalKeyKindRangeKeySet {
					sv.value = v.bytes()
				}
				if _, err := decodeTimestampSuffix(sv.suffix); err != nil || len(sv.suffix) == 0 {
					v.bad = true
				}
				op.suffixes = append(op.suffixes, sv)
			}
			d.bad = d.bad || v.bad || len(op.suffixes) == 0
		default:
			return corruptionf("operation %d of a batch has the unknown kind %d", n, op.kind)
		}
		if d.bad {
			break
		}
		if err := op.check(ranged); err != nil {
			return fmt.Errorf("operation %d of a batch: %w", n, err)
		}
		if err := fn(&op); err != nil {
			return err
		}
	}
	if d.bad || n != want {
		return corruptionf("batch of %d bytes with %d operations is malformed at number %d", len(repr), want, n)
	}
	return nil
}

// check looks at the keys of an operation.
func (op *batchOp) check(ranged bool) error {
	_, suffix, err := splitEngineKey(op.key)
	if err != nil {
		return err
	}
	if !ranged {
		if isLockKey(op.key) {
			_, _, _, err = decodeLockKey(op.key)
			if err == nil && op.kind == pebble.InternalKeyKindSet {
				_, err = decodeLockRecord(TxnID{}, op.value)
			}
		} else if _, err = decodeTimestampSuffix(suffix); err != nil {
			err = corruptionf("engine key %x: %v", op.key, err)
		}
		return err
	}
	_, endSuffix, err := splitEngineKey(op.end)
	if err != nil {
		return err
	}
	if len(suffix)+len(endSuffix) > 0 || compareEngineKeys(op.key, op.end) >= 0 {
		return corruptionf("engine keys [%x, %x) are no span", op.key, op.end)
	}
	return nil
}

// isLockKey says whether an engine key is in the lock table.
func isLockKey(engineKey []byte) bool {
	return compareEngineKeys(lockOptions.LowerBound, engineKey) <= 0 && compareEngineKeys(engineKey, lockOptions.UpperBound) < 0
}

// ApplyRepr adds the operations of another batch, of this store or another, in
// the form that Repr gave. Malformed bytes are refused (ErrCorrupt) and add
// nothing.
//
// What is not malformed is trusted: a batch is to be applied where the one it
// comes from was, with what that one met.
//
// A batch made by NewBatch keeps better count of the locks that go than one made
// by NewWriteBatch: see lockFilter.
func (b *Batch) ApplyRepr(repr []byte) error {
	if err := visitRepr(repr, func(*batchOp) error { return nil }); err != nil {
		return err
	}
	return visitRepr(repr, b.applyOp)
}

// applyOp adds an operation, with all that goes with it when it is made here.
func (b *Batch) applyOp(op *batchOp) error {
	switch op.kind {
	case pebble.InternalKeyKindSet:
		if isLockKey(op.key) && op.value[1]&lockFlagRewritten == 0 {
			// The first record of a lock, as putNewLock makes it.
			key, _, _, err := decodeLockKey(op.key)
			if err != nil {
				return err
			}
			slot := lockSlot(key)
			b.eng.locks.raise(slot)
			b.locked = append(b.locked, slot)
		}
		return b.b.Set(op.key, op.value, nil)
	case pebble.InternalKeyKindDelete, pebble.InternalKeyKindSingleDelete:
		if isLockKey(op.key) {
			key, _, _, err := decodeLockKey(op.key)
			if err != nil {
				return err
			}
			b.unlocked = append(b.unlocked, lockSlot(key))
		}
		if op.kind == pebble.InternalKeyKindDelete {
			return b.b.Delete(op.key, nil)
		}
		return b.b.SingleDelete(op.key, nil)
	case pebble.InternalKeyKindRangeDelete:
		if from, to, ok := inLockTable(op.key, op.end); ok {
			if err := b.noteLocksIn(from, to); err != nil {
				return err
			}
		}
		return b.b.DeleteRange(op.key, op.end, nil)
	case pebble.InternalKeyKindRangeKeyDelete:
		return b.b.RangeKeyDelete(op.key, op.end, nil)
	}
	for _, sv := range op.suffixes {
		if op.kind == pebble.InternalKeyKindRangeKeyUnset {
			if err := b.b.RangeKeyUnset(op.key, op.end, sv.suffix, nil); err != nil {
				return err
			}
			continue
		}
		start, _, err := splitEngineKey(op.key)
		if err != nil {
			return err
		}
		end, _, err := splitEngineKey(op.end)
		if err != nil {
			return err
		}
		b.eng.rangeKeys.add(start, end)
		if err := b.b.RangeKeySet(op.key, op.end, sv.suffix, sv.value, nil); err != nil {
			return err
		}
	}
	return nil
}

// inLockTable returns the part of [start, end) that is in the lock table.
func inLockTable(start, end []byte) (from, to []byte, ok bool) {
	from, to = start, end
	if compareEngineKeys(from, lockOptions.LowerBound) < 0 {
		from = lockOptions.LowerBound
	}
	if compareEngineKeys(lockOptions.UpperBound, to) < 0 {
		to = lockOptions.UpperBound
	}
	return from, to, compareEngineKeys(from, to) < 0
}

// plainOps is what a batch of plain keys comes to, in a form that does not depend
// on the order of its operations.
type plainOps struct {
	points map[string]*batchOp
	clears []engineSpan // of points, in any order, perhaps overlapping
	ranges []engineSpan // the same of range keys
}

// collectPlain reads a batch that has only plain keys and removals.
func collectPlain(repr []byte) (*plainOps, error) {
	p := &plainOps{points: make(map[string]*batchOp)}
	err := visitRepr(repr, func(op *batchOp) error {
		switch op.kind {
		case pebble.InternalKeyKindSet, pebble.InternalKeyKindDelete:
			_, suffix, err := splitEngineKey(op.key)
			if err != nil {
				return err
			}
			if len(suffix) > 0 {
				return fmt.Errorf("batch with the engine key %x, which is no plain key", op.key)
			}
			c := *op
			p.points[string(op.key)] = &c
		case pebble.InternalKeyKindRangeDelete:
			s := engineSpan{start: op.key, end: op.end}
			for k := range p.points {
				if s.contains([]byte(k)) {
					delete(p.points, k)
				}
			}
			p.clears = append(p.clears, s)
		case pebble.InternalKeyKindRangeKeyDelete:
			p.ranges = append(p.ranges, engineSpan{start: op.key, end: op.end})
		default:
			return fmt.Errorf("batch with an operation of kind %d on %s, which is no plain key", op.kind, keys.Pretty(op.key))
		}
		return nil
	})
	return p, err
}
