package storage

import (
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// lockFilter knows of most keys that no lock is on them, so that reading or
// writing one key need not look into the lock table. That saves half of the work
// of a point read, and for a row that is updated again and again it saves
// stepping over all the removed locks that no compaction has dropped yet.
//
// It counts the locks of all keys that share a slot. A count is raised when a
// lock is put into a batch, before it can be visible, and lowered after the
// batch that removes it was applied, or when the batch is dropped. It may be too
// high, for ever, and then costs a look.
//
// Invariant: a slot's count is at least the number of locks in the engine on its
// keys. Everything that writes locks goes through Batch.putLock and clearLock, or
// is counted where it is taken over: IngestIntents, ReplaceSpans, Batch.ApplyRepr.
type lockFilter struct {
	// slots hold a count in the low half and, in the high half, how often it was
	// raised.
	slots []atomic.Uint64
}

const lockFilterSlots = 1 << 18

// slotState is a slot as it was at some moment.
type slotState uint64

// none says that no lock was on the slot's keys.
func (s slotState) none() bool { return uint32(s) == 0 }

func newLockFilter() *lockFilter {
	return &lockFilter{slots: make([]atomic.Uint64, lockFilterSlots)}
}

func lockSlot(key keys.Key) uint32 { return uint32(xxhash.Sum64(key) % lockFilterSlots) }

func (f *lockFilter) load(slot uint32) slotState { return slotState(f.slots[slot].Load()) }

func (f *lockFilter) raise(slot uint32) { f.slots[slot].Add(1<<32 | 1) }

// raiseBy is raise, n times.
func (f *lockFilter) raiseBy(slot, n uint32) { f.slots[slot].Add(uint64(n)<<32 | uint64(n)) }

func (f *lockFilter) lower(slot uint32) { f.slots[slot].Add(^uint64(0)) }

// fill counts the locks of a store just opened.
func (f *lockFilter) fill(db *pebble.DB) (err error) {
	it, err := db.NewIter(&lockOptions)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := it.Close(); err == nil {
			err = cerr
		}
	}()
	for ok := it.First(); ok; ok = it.Next() {
		key, _, _, err := decodeLockKey(it.Key())
		if err != nil {
			return err
		}
		f.raise(lockSlot(key))
	}
	return it.Error()
}

// lockFreeRead helps a read that is not ordered with writers to use the filter.
// The state it reads is fixed between begin and holds: if nobody held a lock at
// begin and nobody took one until holds, there was none in between.
type lockFreeRead struct {
	f      *lockFilter
	slot   uint32
	before slotState
}

func (f *lockFilter) begin(key keys.Key) lockFreeRead {
	r := lockFreeRead{f: f, slot: lockSlot(key)}
	r.before = f.load(r.slot)
	return r
}

// holds says that the state fixed since begin has no lock on the key.
func (r *lockFreeRead) holds() bool {
	return r.f != nil && r.before.none() && r.f.load(r.slot) == r.before
}
