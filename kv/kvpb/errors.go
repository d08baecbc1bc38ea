package kvpb

import (
	"errors"
	"fmt"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// ConditionFailedError says that a conditional put found another value.
type ConditionFailedError = storage.ConditionFailedError

// WriteTooOldError says that a newer version is in the way of a write. Clients
// do not see it: the transaction refreshes or restarts.
type WriteTooOldError = storage.WriteTooOldError

// ReadWithinUncertaintyError says that a read met a value that may be older
// than it looks. Clients do not see it.
type ReadWithinUncertaintyError = storage.ReadWithinUncertaintyError

// RetryReason says why a transaction must be tried again.
type RetryReason string

// The reasons, as they appear in messages.
const (
	RetrySerializable   RetryReason = "RETRY_SERIALIZABLE"
	RetryWriteTooOld    RetryReason = "RETRY_WRITE_TOO_OLD"
	RetryUncertainty    RetryReason = "RETRY_UNCERTAINTY"
	RetryCommitDeadline RetryReason = "RETRY_COMMIT_DEADLINE_EXCEEDED"
	RetryAborted        RetryReason = "ABORT_REASON_ABORTED_RECORD_FOUND"
	RetryDeadlock       RetryReason = "ABORT_REASON_DEADLOCK"
	RetryClientAbort    RetryReason = "ABORT_REASON_PUSHER_ABORTED"
)

// RetryTxnError is what a range says when a transaction cannot commit at its
// timestamps. The client refreshes to RefreshTo, if it can, and tries again.
type RetryTxnError struct {
	Reason    RetryReason
	RefreshTo hlc.Timestamp
	Msg       string
}

func (e *RetryTxnError) Error() string {
	if e.Msg == "" {
		return fmt.Sprintf("transaction must retry: %s", e.Reason)
	}
	return fmt.Sprintf("transaction must retry: %s: %s", e.Reason, e.Msg)
}

// TxnAbortedError is what a range says to a transaction that another one ended.
type TxnAbortedError struct {
	Reason RetryReason
}

func (e *TxnAbortedError) Error() string { return fmt.Sprintf("transaction aborted: %s", e.Reason) }

// TransactionRetryError is what the user of a Txn sees: everything that was done
// in it must be done again. After Txn.PrepareForRetry the same Txn can be used
// for that. Its SQLSTATE is 40001.
type TransactionRetryError struct {
	TxnID  TxnID // the transaction that failed, before PrepareForRetry
	Reason RetryReason
	Msg    string
	// Next is the transaction to continue with: the same one in its next epoch,
	// or a new one if it was aborted.
	Next Transaction
}

func (e *TransactionRetryError) Error() string { return e.pgError().Message }

// Unwrap gives the wire layer code and message.
func (e *TransactionRetryError) Unwrap() error { return e.pgError() }

func (e *TransactionRetryError) pgError() *pgerr.Error {
	kind := "TransactionRetryWithProtoRefreshError"
	err := pgerr.Newf(pgerr.SerializationFailure, "restart transaction: %s: %s (%s)", kind, e.Msg, e.Reason)
	return err.WithHint("The transaction met a concurrent one and can be tried again from its start.")
}

// TransactionPushError says that the pushee is alive and has a priority that the
// pusher cannot overcome. The pusher waits.
type TransactionPushError struct {
	Pushee storage.TxnMeta
}

func (e *TransactionPushError) Error() string {
	return fmt.Sprintf("transaction %s is active and cannot be pushed", e.Pushee.ID)
}

// LockNotAvailableError says that a lock is held by another transaction and the
// request was not to wait (any longer). Its SQLSTATE is 55P03.
type LockNotAvailableError struct {
	Key     keys.Key
	Timeout time.Duration // zero: NOWAIT
}

func (e *LockNotAvailableError) Error() string { return e.pgError().Message }

// Unwrap gives the wire layer code and message.
func (e *LockNotAvailableError) Unwrap() error { return e.pgError() }

func (e *LockNotAvailableError) pgError() *pgerr.Error {
	if e.Timeout == 0 {
		return pgerr.Newf(pgerr.LockNotAvailable, "could not obtain lock on row")
	}
	return pgerr.Newf(pgerr.LockNotAvailable, "canceling statement due to lock timeout")
}

// AmbiguousResultError says that a commit may or may not have happened. Its
// SQLSTATE is 40003.
type AmbiguousResultError struct{ Cause error }

func (e *AmbiguousResultError) Error() string { return e.pgError().Message }

// Unwrap gives the wire layer code and message, and callers the cause.
func (e *AmbiguousResultError) Unwrap() []error { return []error{e.pgError(), e.Cause} }

func (e *AmbiguousResultError) pgError() *pgerr.Error {
	return pgerr.Newf(pgerr.StatementCompletionUnknown, "result is ambiguous: %v", e.Cause)
}

// BatchTimestampBeforeGCError says that versions at the timestamp may already
// have been removed. errors.Is(err, storage.ErrGCThreshold) holds.
type BatchTimestampBeforeGCError struct {
	Timestamp hlc.Timestamp
	Threshold hlc.Timestamp
}

func (e *BatchTimestampBeforeGCError) Error() string { return e.pgError().Message }

// Unwrap gives the wire layer code and message, and callers the mark.
func (e *BatchTimestampBeforeGCError) Unwrap() []error {
	return []error{e.pgError(), storage.ErrGCThreshold}
}

func (e *BatchTimestampBeforeGCError) pgError() *pgerr.Error {
	return pgerr.Newf(pgerr.Uncategorized, "batch timestamp %s must be after replica GC threshold %s", e.Timestamp, e.Threshold)
}

// PartialBatchError says that a batch failed after ranges had evaluated parts of
// it, which left intents up to WriteTimestamp. The transaction must not commit
// below. It adds nothing to the message of its cause.
type PartialBatchError struct {
	WriteTimestamp hlc.Timestamp
	Cause          error
}

func (e *PartialBatchError) Error() string { return e.Cause.Error() }

// Unwrap returns why the batch failed.
func (e *PartialBatchError) Unwrap() error { return e.Cause }

// RangeKeyMismatchError says that a batch went to a range that does not hold all
// of its keys. Descriptor is what the range holds, for the sender's cache.
type RangeKeyMismatchError struct {
	Requested  keys.Span
	Descriptor RangeDescriptor
}

func (e *RangeKeyMismatchError) Error() string {
	return fmt.Sprintf("keys %s are not all in %s", e.Requested, e.Descriptor.String())
}

// RangeNotFoundError says that a store has no replica of the range.
type RangeNotFoundError struct {
	RangeID RangeID
}

func (e *RangeNotFoundError) Error() string { return fmt.Sprintf("r%d was not found", e.RangeID) }

// NotLeaseholderError says that the replica that was asked does not serve the
// range. Nothing was done. Leaseholder is who does, as far as the replica knows;
// the zero value means that it does not.
type NotLeaseholderError struct {
	RangeID     RangeID
	Leaseholder ReplicaDescriptor
	Descriptor  RangeDescriptor // the replica's
}

func (e *NotLeaseholderError) Error() string {
	if e.Leaseholder.NodeID == 0 {
		return fmt.Sprintf("r%d: this replica does not hold the lease", e.RangeID)
	}
	return fmt.Sprintf("r%d: this replica does not hold the lease; n%d does", e.RangeID, e.Leaseholder.NodeID)
}

// IsRetry returns the retry error in err's chain, if there is one.
func IsRetry(err error) (*TransactionRetryError, bool) {
	var e *TransactionRetryError
	ok := errors.As(err, &e)
	return e, ok
}
