package storage

import (
	"context"
	"errors"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

var errTODO = errors.New("not yet")

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
	Value     []byte // nil if the key does not exist (or is locked and skipped)
	Exists    bool
	Timestamp hlc.Timestamp // of the version, zero if none
	Intent    *Lock         // a foreign lock met by an inconsistent or lock-skipping read
}

// MVCCGet reads key as of ts.
func MVCCGet(ctx context.Context, r Reader, key keys.Key, ts hlc.Timestamp, opts GetOptions) (GetResult, error) {
	return GetResult{}, errTODO
}

// KeyValue is one pair of a scan.
type KeyValue struct {
	Key       keys.Key
	Value     []byte
	Timestamp hlc.Timestamp
}

// ScanOptions says how far a scan goes and how it treats what it meets.
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
	// MaxIntents bounds the locks in a LockConflictError or a result; 0: 100.
	MaxIntents int
}

// ScanResult is the outcome of MVCCScan. Keys and values share arenas that
// belong to the caller.
type ScanResult struct {
	KVs []KeyValue
	// NumBytes is the sum of key and value lengths.
	NumBytes int64
	// ResumeSpan is what remains, nil if nothing does: its Key is the next key
	// for a forward scan, its EndKey the (exclusive) next for a reverse one.
	ResumeSpan *keys.Span
	// Intents are foreign locks met by an inconsistent or lock-skipping scan.
	Intents []Lock
}

// MVCCScan reads the span [start, end) as of ts.
func MVCCScan(ctx context.Context, r Reader, start, end keys.Key, ts hlc.Timestamp, opts ScanOptions) (ScanResult, error) {
	return ScanResult{}, errTODO
}

// WriteOptions is what every MVCC write takes beside its key and value.
type WriteOptions struct {
	// Txn makes the write provisional, at Txn.WriteTimestamp and Txn.Sequence.
	Txn *Txn
	// Stats receives the change, if not nil.
	Stats *Stats
}

// MVCCPut writes value at ts, or, in a transaction, at Txn.WriteTimestamp
// (ts is then ignored). An empty value is a delete.
//
// Errors: LockConflictError, WriteTooOldError, TransactionStateError.
func MVCCPut(ctx context.Context, rw ReadWriter, key keys.Key, ts hlc.Timestamp, value []byte, opts WriteOptions) error {
	return errTODO
}

// MVCCConditionalPut writes value if the key's present value, without its
// checksum, equals expected; nil expects that the key does not exist.
// allowNotExist accepts a missing key too.
// Errors beside those of MVCCPut: ConditionFailedError.
func MVCCConditionalPut(ctx context.Context, rw ReadWriter, key keys.Key, ts hlc.Timestamp, value, expected []byte, allowNotExist bool, opts WriteOptions) error {
	return errTODO
}

// MVCCDelete writes a tombstone and says whether the key existed.
func MVCCDelete(ctx context.Context, rw ReadWriter, key keys.Key, ts hlc.Timestamp, opts WriteOptions) (existed bool, err error) {
	return false, errTODO
}

// DeleteRangeResult is the outcome of MVCCDeleteRange.
type DeleteRangeResult struct {
	NumKeys    int64
	Keys       []keys.Key // if asked for
	ResumeSpan *keys.Span
}

// MVCCDeleteRange writes a point tombstone over each live key of [start, end),
// at most maxKeys (0: no limit).
func MVCCDeleteRange(ctx context.Context, rw ReadWriter, start, end keys.Key, ts hlc.Timestamp, maxKeys int64, returnKeys bool, opts WriteOptions) (DeleteRangeResult, error) {
	return DeleteRangeResult{}, errTODO
}

// MVCCDeleteRangeTombstone deletes [start, end) as of ts with one range
// tombstone. It refuses spans with locks (LockConflictError) or versions ≥ ts
// (WriteTooOldError).
func MVCCDeleteRangeTombstone(ctx context.Context, rw ReadWriter, start, end keys.Key, ts hlc.Timestamp, stats *Stats) error {
	return errTODO
}

// MVCCResolveIntent makes the provisional value of one key permanent, moves it
// or removes it. It does nothing, and says so, if the transaction holds no lock
// there.
func MVCCResolveIntent(ctx context.Context, rw ReadWriter, update LockUpdate, stats *Stats) (found bool, err error) {
	return false, errTODO
}

// MVCCResolveIntentRange does the same for all locks of the transaction in the
// span, at most maxKeys (0: no limit).
func MVCCResolveIntentRange(ctx context.Context, rw ReadWriter, update LockUpdate, maxKeys int64, stats *Stats) (numKeys int64, resume *keys.Span, err error) {
	return 0, nil, errTODO
}

// ScanLocks returns the locks on keys of [start, end), at most max (0: no limit).
func ScanLocks(ctx context.Context, r Reader, start, end keys.Key, max int64) (locks []Lock, resume *keys.Span, err error) {
	return nil, nil, errTODO
}

// GCKey asks to remove the version of Key at Timestamp and all older ones.
type GCKey struct {
	Key       keys.Key
	Timestamp hlc.Timestamp
}

// GCRange asks to remove range tombstones ≤ Timestamp from a span.
type GCRange struct {
	Span      keys.Span
	Timestamp hlc.Timestamp
}

// Garbage is a set of removals that no read above the threshold notices.
type Garbage struct {
	Keys   []GCKey
	Ranges []GCRange
	Bytes  int64
}

// FindGarbage lists what may go from [start, end) under the threshold: versions
// that no read at or above threshold needs. Never the newest version ≤
// threshold unless it is a tombstone. It stops after maxBytes of garbage.
func FindGarbage(ctx context.Context, r Reader, start, end keys.Key, threshold hlc.Timestamp, maxBytes int64) (Garbage, *keys.Span, error) {
	return Garbage{}, nil, errTODO
}

// MVCCGarbageCollect removes garbage. It checks each removal again against what
// rw holds and refuses to remove what a read above the threshold could see.
func MVCCGarbageCollect(ctx context.Context, rw ReadWriter, g Garbage, threshold hlc.Timestamp, stats *Stats) error {
	return errTODO
}

// ComputeStats counts what [start, end) holds.
func ComputeStats(ctx context.Context, r Reader, start, end keys.Key) (Stats, error) {
	return Stats{}, errTODO
}

// FindSplitKey returns a row boundary near the middle of [start, end) by size,
// or nil if there is none.
func FindSplitKey(ctx context.Context, r Reader, start, end keys.Key) (keys.Key, error) {
	return nil, errTODO
}
