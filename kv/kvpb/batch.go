package kvpb

import (
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// RangeID names a range for ever. Range 1 is the first.
type RangeID int64

// NodeID names a node of the cluster, StoreID a store directory.
type (
	NodeID  int32
	StoreID int32
)

// Op says what a Request does.
type Op uint8

// The operations. Those below OpEndTxn belong to a transaction or stand alone;
// the others keep transactions and ranges in order.
const (
	OpInvalid Op = iota
	OpGet
	OpScan
	OpReverseScan
	OpPut
	OpCPut
	OpDelete
	OpDeleteRange
	OpInc
	OpPutSorted

	OpEndTxn
	OpHeartbeatTxn
	OpPushTxn
	OpResolveIntent
	OpResolveIntentRange
	OpRemoveTxnRecord
	OpRefresh
	OpRefreshRange
	OpExport
	OpAddSSTable
	OpDeleteRangeTombstone
	OpClearRange
	OpGC
	OpRangeInfo
	OpAdminSplit
	OpLookupRange
	OpUpdateAddressing
	OpAdminChangeReplicas
	OpAdminTransferLease
	OpAdminUnsplit
	OpAdminScatter
	OpAdminMerge
	OpAdminCheck
)

var opNames = [...]string{
	"Invalid", "Get", "Scan", "ReverseScan", "Put", "CPut", "Delete", "DeleteRange", "Inc", "PutSorted",
	"EndTxn", "HeartbeatTxn", "PushTxn", "ResolveIntent", "ResolveIntentRange", "RemoveTxnRecord", "Refresh", "RefreshRange",
	"Export", "AddSSTable", "DeleteRangeTombstone", "ClearRange", "GC", "RangeInfo", "AdminSplit",
	"LookupRange", "UpdateAddressing", "AdminChangeReplicas", "AdminTransferLease", "AdminUnsplit", "AdminScatter", "AdminMerge", "AdminCheck",
}

func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "Unknown"
}

// opFlags are the properties of an operation that routers and replicas need.
type opFlags uint8

const (
	flagRead      opFlags = 1 << iota // returns values at the read timestamp
	flagWrite                         // changes keys
	flagTxnWrite                      // leaves intents when in a transaction
	flagTimeCache                     // its reads keep later writes above them
	flagRange                         // has an EndKey
)

var flagsOf = [...]opFlags{
	OpGet:                  flagRead | flagTimeCache,
	OpScan:                 flagRead | flagTimeCache | flagRange,
	OpReverseScan:          flagRead | flagTimeCache | flagRange,
	OpPut:                  flagWrite | flagTxnWrite,
	OpCPut:                 flagRead | flagWrite | flagTxnWrite | flagTimeCache,
	OpDelete:               flagWrite | flagTxnWrite,
	OpDeleteRange:          flagRead | flagWrite | flagTxnWrite | flagRange | flagTimeCache,
	OpInc:                  flagRead | flagWrite | flagTxnWrite,
	OpPutSorted:            flagWrite | flagTxnWrite | flagRange | flagTimeCache,
	OpEndTxn:               flagWrite,
	OpHeartbeatTxn:         flagWrite,
	OpPushTxn:              flagWrite,
	OpResolveIntent:        flagWrite,
	OpResolveIntentRange:   flagWrite | flagRange,
	OpRemoveTxnRecord:      flagWrite,
	OpRefresh:              flagTimeCache,
	OpRefreshRange:         flagTimeCache | flagRange,
	OpExport:               flagTimeCache | flagRange,
	OpAddSSTable:           flagWrite | flagRange,
	OpDeleteRangeTombstone: flagWrite | flagRange,
	OpClearRange:           flagWrite | flagRange,
	OpGC:                   flagWrite | flagRange,
	OpRangeInfo:            0,
	OpAdminSplit:           0,
	OpLookupRange:          0,
	OpUpdateAddressing:     flagWrite,
	OpAdminChangeReplicas:  0,
	OpAdminTransferLease:   0,
	OpAdminUnsplit:         0,
	OpAdminScatter:         0,
	OpAdminMerge:           0,
	OpAdminCheck:           0,
}

// IsRead says whether o returns values at the transaction's read timestamp.
func (o Op) IsRead() bool { return flagsOf[o]&flagRead != 0 }

// IsWrite says whether o changes the store.
func (o Op) IsWrite() bool { return flagsOf[o]&flagWrite != 0 }

// IsTxnWrite says whether o leaves an intent when sent in a transaction.
func (o Op) IsTxnWrite() bool { return flagsOf[o]&flagTxnWrite != 0 }

// IsRange says whether o works on the span [Key, EndKey).
func (o Op) IsRange() bool { return flagsOf[o]&flagRange != 0 }

// UpdatesTimestampCache says whether later writes to what o read must have
// later timestamps.
func (o Op) UpdatesTimestampCache() bool { return flagsOf[o]&flagTimeCache != 0 }

// IsAdmin says whether o changes a range and not what is in it.
func (o Op) IsAdmin() bool {
	switch o {
	case OpAdminSplit, OpAdminUnsplit, OpAdminChangeReplicas, OpAdminTransferLease, OpAdminScatter, OpAdminMerge, OpAdminCheck:
		return true
	}
	return false
}

// LockStrength says which lock a read takes on what it finds.
type LockStrength uint8

// The strengths. An exclusive lock keeps other writers and lockers out, and
// plain readers in.
const (
	LockNone LockStrength = iota
	LockExclusive
)

// WaitPolicy says what a request does when it meets a lock of another
// transaction.
type WaitPolicy uint8

// The policies.
const (
	WaitBlock WaitPolicy = iota // wait until it is gone
	WaitError                   // NOWAIT: fail with LockNotAvailableError
	WaitSkip                    // SKIP LOCKED: leave the row out
)

// Request is one operation. It is one flat type, so that a batch of a thousand
// writes is one allocation. Fields that few operations need are in Args.
type Request struct {
	Op       Op
	Lock     LockStrength
	Sequence int32 // of a write; for a read, the newest own write it may see
	Key      keys.Key
	EndKey   keys.Key // exclusive; range operations only
	Value    []byte   // Put, CPut: the value with its checksum field
	Expected []byte   // CPut: the value that must be there; nil means none
	Delta    int64    // Inc
	Args     Args     // EndTxn, PushTxn, Export, …
}

// Span returns the span of keys that r is about.
func (r *Request) Span() keys.Span { return keys.Span{Key: r.Key, EndKey: r.EndKey} }

// Response is the answer to one Request.
type Response struct {
	KVs    []KeyValue // Get (none or one), Scan, ReverseScan
	Resume *keys.Span // what a limit left undone
	Count  int64      // DeleteRange: keys deleted; Inc: the new value
	Reply  Reply      // EndTxn, PushTxn, Export, …
}

// KeyValue is a key and the value it had at Timestamp. A missing key has a nil
// Value. The memory is the receiver's.
type KeyValue = storage.KeyValue

// Header says how the requests of a batch are to be evaluated.
type Header struct {
	RangeID RangeID // filled in by the router
	// Timestamp is where a batch without a transaction reads and writes; if it
	// is empty the replica chooses its present.
	Timestamp hlc.Timestamp
	Txn       *Transaction // never changed by the receiver
	Priority  Priority     // of a batch without transaction
	// MaxKeys and TargetBytes limit what all requests of the batch return
	// together; zero means no limit.
	MaxKeys     int64
	TargetBytes int64
	// CanForwardReadTimestamp says that the transaction has read nothing yet, so
	// the replica may move its read timestamp instead of failing.
	CanForwardReadTimestamp bool
	WaitPolicy              WaitPolicy
	// LockTimeout bounds the wait for each lock; zero means no bound.
	LockTimeout time.Duration
	// Unsynced says that a write outside of a transaction need not be durable
	// before its answer leaves: a crash may undo it, but not without undoing
	// everything that was committed later.
	Unsynced bool
	// Nearest sends a read of the past to the nearest replica. It goes to the
	// leaseholder if that one cannot serve it.
	Nearest bool
}

// BatchRequest is what a client asks of a range.
type BatchRequest struct {
	Header
	Requests []Request
}

// BatchResponse answers a BatchRequest.
type BatchResponse struct {
	Responses []Response // one per request
	// Timestamp is where a batch without a transaction was evaluated.
	Timestamp hlc.Timestamp
	// Txn is what became of the transaction; zero without one.
	Txn TxnUpdate
}

// TxnUpdate is what evaluation changed about a transaction.
type TxnUpdate struct {
	Status         TxnStatus
	ReadTimestamp  hlc.Timestamp
	WriteTimestamp hlc.Timestamp
}

// Add appends a request and returns it for the rest to be filled in. The
// pointer is valid until the next Add.
func (b *BatchRequest) Add(r Request) *Request {
	b.Requests = append(b.Requests, r)
	return &b.Requests[len(b.Requests)-1]
}

// Span returns the smallest span that holds all requests. A single point
// request gives a span without EndKey.
func (b *BatchRequest) Span() keys.Span {
	if len(b.Requests) == 1 {
		return b.Requests[0].Span()
	}
	var s keys.Span
	var last keys.Key // the greatest inclusive key or exclusive end
	lastIsEnd := false
	for i := range b.Requests {
		r := &b.Requests[i]
		if i == 0 || r.Key.Less(s.Key) {
			s.Key = r.Key
		}
		if len(r.EndKey) > 0 {
			if i == 0 || last.Less(r.EndKey) || last.Equal(r.EndKey) {
				last, lastIsEnd = r.EndKey, true
			}
		} else if i == 0 || last.Less(r.Key) || (lastIsEnd && last.Equal(r.Key)) {
			last, lastIsEnd = r.Key, false
		}
	}
	if lastIsEnd {
		s.EndKey = last
	} else {
		s.EndKey = last.Next()
	}
	return s
}
