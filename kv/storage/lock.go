package storage

import (
	"encoding/hex"
	"fmt"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// TxnID names a transaction: a UUID.
type TxnID [16]byte

// IsEmpty says whether the id is all zero.
func (id TxnID) IsEmpty() bool { return id == TxnID{} }

func (id TxnID) String() string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// LockStrength says what a replicated lock excludes. Only intents are stored
// here so far; the byte is part of the engine key.
type LockStrength byte

// LockIntent excludes every other writer, and readers at or above its timestamp.
const LockIntent LockStrength = 1

// TxnMeta is what a lock remembers of its transaction.
type TxnMeta struct {
	ID             TxnID
	Key            keys.Key // where the transaction record is
	Epoch          int32
	WriteTimestamp hlc.Timestamp // of provisional values
	MinTimestamp   hlc.Timestamp // lower bound of all its timestamps
	Priority       int32
	Sequence       int32 // of the last write; for a read: see own writes ≤ Sequence
}

// SeqRange is a closed interval of sequence numbers.
type SeqRange struct {
	Start, End int32
}

// Txn is a transaction as a read or write request sees it.
type Txn struct {
	TxnMeta
	ReadTimestamp hlc.Timestamp
	// GlobalUncertaintyLimit is ReadTimestamp plus the clock offset bound as of
	// the transaction's start; zero switches uncertainty off.
	GlobalUncertaintyLimit hlc.Timestamp
	// IgnoredSeqNums were rolled back by savepoints: sorted, not overlapping.
	IgnoredSeqNums []SeqRange
}

// Lock is a lock as conflict errors and inconsistent reads report it.
type Lock struct {
	Key      keys.Key
	Strength LockStrength
	Txn      TxnMeta
}

func (l Lock) String() string {
	return fmt.Sprintf("%s held by %s at %s", keys.Pretty(l.Key), l.Txn.ID, l.Txn.WriteTimestamp)
}

// TxnStatus is what the resolver of a lock knows of its transaction.
type TxnStatus int8

// The states in which a lock can be resolved.
const (
	// Pending: the transaction goes on; move its lock up to the given timestamp.
	Pending TxnStatus = iota
	Committed
	Aborted
)

func (s TxnStatus) String() string {
	return [...]string{"PENDING", "COMMITTED", "ABORTED"}[s]
}

// LockUpdate says what became of a transaction, for one lock or a span of them.
type LockUpdate struct {
	Span           keys.Span // EndKey empty: one key
	Txn            TxnMeta
	Status         TxnStatus
	IgnoredSeqNums []SeqRange
}
