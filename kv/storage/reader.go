package storage

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

var zeroTS hlc.Timestamp

// Reader is a view of the store: an Engine, a ReadOnly, a Snapshot or a Batch.
// Every MVCC function sees one consistent state of it during its run.
type Reader interface {
	// Get returns the value of a plain (unversioned) key in memory of the
	// caller's; ok is false if there is none.
	Get(key keys.Key) (value []byte, ok bool, err error)
	// Scan calls fn for each plain key of [start, end) in order until fn returns
	// false or an error. Versions and locks in the span are not shown. The
	// slices are valid during the call.
	Scan(start, end keys.Key, fn func(key keys.Key, value []byte) (more bool, err error)) error

	// pin returns the iterators for one MVCC function, which ends with unpin.
	pin() *view
}

// Writer takes plain keys. A Batch implements it.
type Writer interface {
	// Put sets a plain key.
	Put(key keys.Key, value []byte) error
	// Clear removes a plain key.
	Clear(key keys.Key) error
	// ClearRange removes everything in [start, end): plain keys, versions, range
	// tombstones, and locks on keys of the span.
	ClearRange(start, end keys.Key) error
}

// ReadWriter is what MVCC writes need: a Batch whose reads see its writes.
type ReadWriter interface {
	Reader
	Writer
	raw() *Batch
}

// Snapshot is a view of the state at its creation. It is safe for concurrent
// use and must be closed.
type Snapshot struct {
	eng  *Engine
	snap *pebble.Snapshot
}

// Get implements Reader.
func (s *Snapshot) Get(key keys.Key) ([]byte, bool, error) { return getPlain(s.snap, key) }

// Scan implements Reader.
func (s *Snapshot) Scan(start, end keys.Key, fn func(keys.Key, []byte) (bool, error)) error {
	return scanPlain(s.snap, start, end, fn)
}

func (s *Snapshot) pin() *view { return newView(s.eng, s.snap) }

// Close releases the snapshot.
func (s *Snapshot) Close() error { return markEngineError(s.snap.Close()) }

// ReadOnly is a consistent view for the reads of one request, taken at the
// first of them. It is not safe for concurrent use and must be closed soon: it
// holds files and memtables.
type ReadOnly struct {
	v *view
}

// Get implements Reader.
func (r *ReadOnly) Get(key keys.Key) ([]byte, bool, error) { return r.v.getPlain(key) }

// Scan implements Reader.
func (r *ReadOnly) Scan(start, end keys.Key, fn func(keys.Key, []byte) (bool, error)) error {
	return r.v.scanPlain(start, end, fn)
}

func (r *ReadOnly) pin() *view { return r.v }

// Close releases the view. It may be called again.
func (r *ReadOnly) Close() error {
	v := r.v
	if v == nil {
		return nil
	}
	r.v = nil
	return v.release()
}

// Batch collects writes that are applied together. Reads through it see the
// store and its own writes. It must be closed, also after Commit.
type Batch struct {
	eng *Engine
	b   *pebble.Batch
	v   *view  // nil for a batch that is only written
	key []byte // an engine key under construction
	val []byte // a lock record under construction
	// locked and unlocked are the filter slots of locks that the batch puts and
	// removes.
	locked, unlocked []uint32
	// useReserve: commit also on a disk that is nearly full.
	useReserve bool
}

// UseReserve lets the batch be committed when the disk is nearly full. It is for
// what ends transactions, frees space or keeps the node alive.
func (b *Batch) UseReserve() { b.useReserve = true }

// UsesReserve says whether UseReserve was called.
func (b *Batch) UsesReserve() bool { return b.useReserve }

// Get implements Reader.
func (b *Batch) Get(key keys.Key) ([]byte, bool, error) { return getPlain(b.b, key) }

// Scan implements Reader.
func (b *Batch) Scan(start, end keys.Key, fn func(keys.Key, []byte) (bool, error)) error {
	return scanPlain(b.b, start, end, fn)
}

func (b *Batch) pin() *view {
	if b.v == nil {
		panic("storage: a write-only batch was read")
	}
	b.v.refresh()
	return b.v
}

func (b *Batch) raw() *Batch { return b }

// Put implements Writer.
func (b *Batch) Put(key keys.Key, value []byte) error {
	b.key = AppendMVCCKey(b.key[:0], key, zeroTS)
	return b.b.Set(b.key, value, nil)
}

// Clear implements Writer.
func (b *Batch) Clear(key keys.Key) error {
	b.key = AppendMVCCKey(b.key[:0], key, zeroTS)
	return b.b.Delete(b.key, nil)
}

// ClearRange implements Writer.
func (b *Batch) ClearRange(start, end keys.Key) error {
	s, e := EncodeMVCCKey(start, zeroTS), EncodeMVCCKey(end, zeroTS)
	if compareEngineKeys(s, e) >= 0 {
		return fmt.Errorf("clearing an empty span [%s, %s)", keys.Pretty(start), keys.Pretty(end))
	}
	if err := b.b.DeleteRange(s, e, nil); err != nil {
		return err
	}
	if err := b.b.RangeKeyDelete(s, e, nil); err != nil {
		return err
	}
	return b.b.DeleteRange(appendLockPrefix(nil, start), appendLockPrefix(nil, end), nil)
}

// putVersion sets the version of key at ts.
func (b *Batch) putVersion(key keys.Key, ts hlc.Timestamp, value []byte) error {
	b.key = AppendMVCCKey(b.key[:0], key, ts)
	return b.b.Set(b.key, value, nil)
}

// clearVersion removes the version of key at ts.
func (b *Batch) clearVersion(key keys.Key, ts hlc.Timestamp) error {
	b.key = AppendMVCCKey(b.key[:0], key, ts)
	return b.b.Delete(b.key, nil)
}

// Empty says whether nothing was written.
func (b *Batch) Empty() bool { return b.b.Empty() }

// Len returns the size of the batch in bytes.
func (b *Batch) Len() int { return b.b.Len() }

// Count returns the number of operations.
func (b *Batch) Count() int { return int(b.b.Count()) }

// Repr returns the batch in its serialised form; it is valid until the next
// write.
func (b *Batch) Repr() []byte { return b.b.Repr() }

// Commit applies the batch. With sync it returns after the write-ahead log is
// on disk; concurrent commits share one sync. Without, a crash may lose the
// batch, but never a part of it, nor an earlier one while it stays.
//
// ErrDiskFull means that nothing was applied.
func (b *Batch) Commit(sync bool) error {
	if b.v != nil {
		// The iterators of the view read the batch's memory.
		if err := b.v.close(); err != nil {
			return err
		}
	}
	if b.b.Empty() && !sync {
		return nil
	}
	if !b.useReserve {
		if err := b.eng.SpaceFor(int64(b.b.Len())); err != nil {
			return err
		}
	}
	o := pebble.NoSync
	if sync {
		o = pebble.Sync
	}
	b.locked = nil // After an error nobody knows, so their slots stay raised.
	if err := b.b.Commit(o); err != nil {
		return fmt.Errorf("committing a batch of %d bytes: %w", b.b.Len(), markEngineError(err))
	}
	for _, slot := range b.unlocked {
		b.eng.locks.lower(slot)
	}
	b.unlocked = nil
	return nil
}

// Close releases the batch; writes that were not committed are dropped. It may
// be called again.
func (b *Batch) Close() error {
	if b.b == nil {
		return nil
	}
	defer func() { b.b = nil }()
	for _, slot := range b.locked {
		b.eng.locks.lower(slot)
	}
	b.locked = nil
	var err error
	if v := b.v; v != nil {
		b.v = nil
		err = v.release()
	}
	if berr := b.b.Close(); err == nil {
		err = markEngineError(berr)
	}
	return err
}
