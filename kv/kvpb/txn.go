package kvpb

import (
	"math"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// TxnID names a transaction. It is random and never reused; an aborted
// transaction that starts again does so under a new one.
type TxnID = storage.TxnID

// Priority decides who yields when two transactions meet: a pusher moves or
// aborts only a transaction of lower priority.
type Priority int32

// Priorities that users can ask for, and the one of background work that must
// not wait for clients, such as exports.
const (
	PriorityLow    Priority = 1
	PriorityNormal Priority = 2
	PriorityHigh   Priority = 3
	PriorityMax    Priority = math.MaxInt32
)

// TxnStatus says where a transaction stands. Committed and Aborted are final.
type TxnStatus int8

// The states of a transaction.
const (
	TxnPending TxnStatus = iota
	TxnCommitted
	TxnAborted
)

func (s TxnStatus) String() string {
	switch s {
	case TxnPending:
		return "PENDING"
	case TxnCommitted:
		return "COMMITTED"
	case TxnAborted:
		return "ABORTED"
	}
	return "UNKNOWN"
}

// IsFinal says whether the transaction can no longer change its status.
func (s TxnStatus) IsFinal() bool { return s == TxnCommitted || s == TxnAborted }

// SeqRange is a closed interval of sequence numbers, here of writes that a
// savepoint rolled back.
type SeqRange = storage.SeqRange

// Transaction is a transaction as a request carries it.
type Transaction struct {
	ID   TxnID
	Name string // for people: "sql txn", "job claim"
	// Key anchors the transaction record: it lives on the range that holds Key.
	// It is nil until the first write or lock.
	Key      keys.Key
	Epoch    int32
	Priority Priority
	// MinTimestamp is where the transaction began. None of its intents is older.
	MinTimestamp hlc.Timestamp
	// ReadTimestamp is the snapshot that all reads see.
	ReadTimestamp hlc.Timestamp
	// WriteTimestamp is where the writes would commit. It is at or above
	// ReadTimestamp; a commit needs them to be equal, if need be by a refresh.
	WriteTimestamp hlc.Timestamp
	// UncertaintyLimit is the newest timestamp that might belong to a value
	// written before the transaction began, on a node with a faster clock.
	UncertaintyLimit hlc.Timestamp
	// Sequence is the number of the newest write.
	Sequence int32
	// IgnoredSeqNums lists rolled back writes, in order, disjoint.
	IgnoredSeqNums []SeqRange
}

// TxnRecord is the durable state of a transaction, kept at its anchor key from
// its first heartbeat, or from its commit if its intents outlive that, until
// all its intents are resolved.
type TxnRecord struct {
	ID             TxnID
	Key            keys.Key
	Status         TxnStatus
	Epoch          int32
	Priority       Priority
	MinTimestamp   hlc.Timestamp
	WriteTimestamp hlc.Timestamp
	LastHeartbeat  hlc.Timestamp
	LockSpans      []keys.Span
	IgnoredSeqNums []SeqRange
}

// LastActive returns when the transaction was last known to have a client.
func (r *TxnRecord) LastActive() hlc.Timestamp {
	return hlc.Later(r.MinTimestamp, r.LastHeartbeat)
}
