package storage

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// Marks that survive wrapping; match them with errors.Is.
var (
	// ErrDiskFull marks a write that was refused or failed for lack of space.
	// Nothing of it was applied.
	ErrDiskFull = errors.New("disk is full")
	// ErrCorrupt marks bytes that cannot be what was written.
	ErrCorrupt = errors.New("data is corrupt")
	// ErrBadSST marks what is wrong with a file that was to be ingested: every
	// store finds it.
	ErrBadSST = errors.New("sstable cannot be ingested")
	// ErrStoreLocked says that another process (or another Engine) has the store open.
	ErrStoreLocked = errors.New("store is in use by another process")
	// ErrStoreVersion says that the store was written by a version this binary cannot read.
	ErrStoreVersion = errors.New("store has another format version")
	// ErrClosed says that the Engine is closed.
	ErrClosed = errors.New("storage engine is closed")
	// ErrGCThreshold marks a read below the garbage collection threshold. The
	// caller of MVCC functions checks the threshold in the same snapshot; this
	// is the mark it uses.
	ErrGCThreshold = errors.New("timestamp is below the garbage collection threshold")
)

// markedError carries a mark without changing the message.
type markedError struct {
	error
	mark error
}

func (e *markedError) Unwrap() []error { return []error{e.error, e.mark} }

// Mark returns err such that errors.Is(err, mark) holds. A nil err stays nil.
func Mark(err, mark error) error {
	if err == nil || errors.Is(err, mark) {
		return err
	}
	return &markedError{error: err, mark: mark}
}

func corruptionf(format string, args ...any) error {
	return Mark(fmt.Errorf(format, args...), ErrCorrupt)
}

// markEngineError adds our marks to what Pebble or the file system report.
func markEngineError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return Mark(err, ErrDiskFull)
	case pebble.IsCorruptionError(err):
		return Mark(err, ErrCorrupt)
	case errors.Is(err, pebble.ErrClosed):
		return Mark(err, ErrClosed)
	}
	return err
}

// LockConflictError says that locks of other transactions stand in the way.
// Nothing was written.
type LockConflictError struct {
	Locks []Lock
}

func (e *LockConflictError) Error() string {
	const show = 3
	var b strings.Builder
	b.WriteString("conflicting locks on ")
	for i, l := range e.Locks {
		if i == show {
			fmt.Fprintf(&b, " and %d more", len(e.Locks)-show)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(keys.Pretty(l.Key))
	}
	return b.String()
}

// WriteTooOldError says that a write at Timestamp found a newer version.
// ActualTimestamp is the lowest timestamp at which it could succeed. Nothing
// was written.
type WriteTooOldError struct {
	Key             keys.Key
	Timestamp       hlc.Timestamp
	ActualTimestamp hlc.Timestamp
}

func (e *WriteTooOldError) Error() string {
	return fmt.Sprintf("write too old: %s at %s must move to %s", keys.Pretty(e.Key), e.Timestamp, e.ActualTimestamp)
}

// ReadWithinUncertaintyError says that a read at ReadTimestamp met a version
// that may have been written before the read began, by a clock that is ahead.
type ReadWithinUncertaintyError struct {
	Key                    keys.Key
	ReadTimestamp          hlc.Timestamp
	ValueTimestamp         hlc.Timestamp
	GlobalUncertaintyLimit hlc.Timestamp
}

func (e *ReadWithinUncertaintyError) Error() string {
	return fmt.Sprintf("read of %s at %s met a version at %s within the uncertainty interval up to %s",
		keys.Pretty(e.Key), e.ReadTimestamp, e.ValueTimestamp, e.GlobalUncertaintyLimit)
}

// ConditionFailedError says that a conditional put found another value. Actual
// is nil if the key does not exist.
type ConditionFailedError struct {
	Key             keys.Key
	Actual          []byte
	ActualTimestamp hlc.Timestamp
}

func (e *ConditionFailedError) Error() string {
	if e.Actual == nil {
		return fmt.Sprintf("unexpected value: %s does not exist", keys.Pretty(e.Key))
	}
	return fmt.Sprintf("unexpected value: %s has another one, of %d bytes", keys.Pretty(e.Key), len(e.Actual))
}

// TransactionStateError says that a request contradicts what the same
// transaction already wrote: an older epoch or sequence number. It is a bug of
// the client of this package.
type TransactionStateError struct {
	Key    keys.Key
	Reason string
}

func (e *TransactionStateError) Error() string {
	return fmt.Sprintf("transaction state at %s: %s", keys.Pretty(e.Key), e.Reason)
}
