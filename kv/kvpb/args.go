package kvpb

import (
	"slices"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// Args are the fields of a Request that only one operation has.
type Args interface{ args() }

// Reply is the part of a Response that only one operation has.
type Reply interface{ reply() }

// EndTxnArgs commits or aborts the transaction in the header.
type EndTxnArgs struct {
	Commit bool
	// LockSpans covers every key that the transaction may have locked.
	LockSpans []keys.Span
	// Deadline is the latest timestamp at which the transaction may commit.
	Deadline hlc.Timestamp
	// OnePhase says that the batch holds all writes of the transaction, so that
	// they can become versions without ever being intents.
	OnePhase bool
}

// PushType says what a push wants of the pushee.
type PushType int8

// The kinds of push.
const (
	// PushTimestamp moves the pushee's write timestamp above PushTo.
	PushTimestamp PushType = iota
	// PushAbort ends the pushee.
	PushAbort
	// PushTouch changes nothing but finds out whether the pushee is over.
	PushTouch
	// PushQueryWaiters only asks who waits for the pushee.
	PushQueryWaiters
)

// PushTxnArgs asks what became of a transaction that stands in the way, and
// tries to get it out of it.
type PushTxnArgs struct {
	Type           PushType
	Pushee         storage.TxnMeta
	PusherPriority Priority
	PushTo         hlc.Timestamp
	// Force ignores priorities: a deadlock is being broken.
	Force  bool
	Reason RetryReason // what an aborted pushee is told; empty: a pusher aborted it
	// Pusher is the transaction that waits for the pushee, if it is one.
	Pusher storage.TxnMeta
}

// PushTxnReply says what the pushee is now. Status Pending means that its write
// timestamp is WriteTimestamp, above PushTo.
type PushTxnReply struct {
	Status         TxnStatus
	WriteTimestamp hlc.Timestamp
	Epoch          int32 // of a committed pushee: the one whose writes count
	IgnoredSeqNums []SeqRange
	Waiters        []storage.TxnMeta // PushQueryWaiters: who has pushed it of late
}

// ResolveArgs tells locks what became of their transaction. The keys are those
// of the request.
type ResolveArgs struct {
	Txn            storage.TxnMeta
	Status         TxnStatus
	IgnoredSeqNums []SeqRange
	// MaxKeys bounds ResolveIntentRange; Response.Resume is the rest.
	MaxKeys int64
}

// RemoveTxnRecordArgs removes the record of a committed transaction that has no
// intents any more.
type RemoveTxnRecordArgs struct {
	ID TxnID
}

// HeartbeatArgs keeps the transaction in the header alive.
type HeartbeatArgs struct {
	Now hlc.Timestamp
}

// HeartbeatReply is the state of the record.
type HeartbeatReply struct {
	Status TxnStatus
}

// RefreshArgs checks that nothing was written to the span since From, up to the
// transaction's read timestamp.
type RefreshArgs struct {
	From hlc.Timestamp
}

// PutSortedArgs writes many pairs of one index in a transaction, as one write of
// it. The request's span goes from the first key to directly behind the last.
type PutSortedArgs struct {
	Pairs []storage.Pair // keys ascend
	// MustBeNew fails with a ConditionFailedError if a key exists.
	MustBeNew bool
}

// Within returns the part of a whose keys are in span.
func (a *PutSortedArgs) Within(span keys.Span) *PutSortedArgs {
	at := func(key keys.Key) int {
		i, _ := slices.BinarySearchFunc(a.Pairs, key, func(p storage.Pair, k keys.Key) int { return p.Key.Compare(k) })
		return i
	}
	return &PutSortedArgs{Pairs: a.Pairs[at(span.Key):at(span.EndKey)], MustBeNew: a.MustBeNew}
}

// ExportArgs reads one page of a span's history as an sstable.
type ExportArgs struct {
	StartTime    hlc.Timestamp // exclusive
	EndTime      hlc.Timestamp // inclusive
	ResumeTS     hlc.Timestamp // see storage.ExportOptions
	ResumeMidRow bool
	AllRevisions bool
	View         bool
	TargetBytes  int64
	MaxBytes     int64
}

// ExportReply is one page.
type ExportReply struct {
	SST    []byte // empty if the page has nothing
	Result storage.ExportResult
}

// AddSSTableArgs ingests an sstable of MVCC keys. All its versions get one new
// timestamp, above everything that was read or promised closed.
type AddSSTableArgs struct {
	SST []byte
	// DisallowShadowing fails if the span already holds a live key of the
	// sstable; otherwise the new version hides it.
	DisallowShadowing bool
	// RequireEmpty fails if the span holds any key.
	RequireEmpty bool
	// OnlyRepeat fails if the span knows a key of the sstable with another value, or
	// as deleted.
	OnlyRepeat bool
}

// AddSSTableReply says at which timestamp the keys are.
type AddSSTableReply struct {
	Timestamp hlc.Timestamp
}

// GCArgs without Garbage raises the threshold of the request's span. With Garbage
// it removes that, under a threshold raised by an earlier request: so it is
// durable before the first removal.
type GCArgs struct {
	Threshold hlc.Timestamp
	Garbage   storage.Garbage
}

// RangeInfoArgs asks for the GC threshold of all keys up to EndKey that are in
// the range.
//
// SplitBytes, if not zero, asks for row boundaries that cut them into parts of
// about so many bytes on disk.
type RangeInfoArgs struct {
	EndKey     keys.Key
	SplitBytes int64
}

// RangeInfoReply describes the range that holds the key of the request.
type RangeInfoReply struct {
	Info   RangeInfo
	Splits []keys.Key
}

// LookupRangeArgs asks for the addressing record of the range that holds For or,
// with Before, the keys directly before For. The request's key is that of the
// record.
type LookupRangeArgs struct {
	For    keys.Key
	Before bool
}

// LookupRangeReply may be out of date, but not ahead.
type LookupRangeReply struct {
	Descriptor RangeDescriptor
}

// UpdateAddressingArgs files a descriptor under the request's key unless the
// addressing records there are newer.
type UpdateAddressingArgs struct {
	Descriptor RangeDescriptor
}

// ChangeReplicasArgs changes which stores have a replica of the range. What has
// to be changed by several steps is; each leaves a range that works.
type ChangeReplicasArgs struct {
	// Generation is that of the descriptor which the change was decided on; if the
	// range has another by now, nothing is changed. Zero: any.
	Generation int64
	Add        []ReplicaDescriptor // without ReplicaID; Type is voter or non-voter
	Remove     []StoreID
}

// SplitArgs is of a split that somebody asks for by name; others need none.
type SplitArgs struct {
	StickyUntil hlc.Timestamp
}

// MergeStep is a part of a merge.
type MergeStep uint8

// The steps. A client asks for MergeRight; the others are what stores ask of each
// other for it.
const (
	MergeRight  MergeStep = iota // the range of the key absorbs the one to its right
	MergeFreeze                  // has the range serve nothing until it is absorbed or thawed
	MergeAwait                   // returns when the replica that is asked is frozen, and will be after a crash
	MergeThaw                    // has the range serve again
	MergeSettle                  // has the range give up a merge that nobody works on any more
)

// MergeArgs is of one step of a merge.
type MergeArgs struct {
	Step MergeStep
	// RangeID and Generation are of the right range.
	RangeID    RangeID
	Generation int64
	// LeftID and LeftStart are of the left range, Claim is its generation from when it
	// says that it absorbs the right one.
	LeftID    RangeID
	LeftStart keys.Key
	Claim     int64
}

// FreezeReply says what was frozen, and when: nothing above At was read of it.
type FreezeReply struct {
	Descriptor RangeDescriptor
	At         hlc.Timestamp
}

// CheckArgs asks whether the replicas of a range are alike. With Collect it asks one
// replica what it found for the check of that id.
type CheckArgs struct {
	Collect uint64
}

// The results of a check.
const (
	RangeConsistent    = "RANGE_CONSISTENT"
	RangeInconsistent  = "RANGE_INCONSISTENT"
	RangeIndeterminate = "RANGE_INDETERMINATE" // not all replicas have answered
)

// CheckReply is the result of a check, or what one replica found.
type CheckReply struct {
	RangeID        RangeID
	StartKey       keys.Key
	Status, Detail string
	Checksum       []byte
	Stats          string
}

// TransferLeaseArgs makes the replica on a store the leaseholder.
type TransferLeaseArgs struct {
	To StoreID
}

func (*LookupRangeArgs) args()      {}
func (*UpdateAddressingArgs) args() {}
func (*ChangeReplicasArgs) args()   {}
func (*TransferLeaseArgs) args()    {}
func (*SplitArgs) args()            {}
func (*MergeArgs) args()            {}
func (*CheckArgs) args()            {}
func (*CheckReply) reply()          {}
func (*FreezeReply) reply()         {}
func (*LookupRangeReply) reply()    {}

func (*EndTxnArgs) args()          {}
func (*PushTxnArgs) args()         {}
func (*ResolveArgs) args()         {}
func (*HeartbeatArgs) args()       {}
func (*RemoveTxnRecordArgs) args() {}
func (*RefreshArgs) args()         {}
func (*ExportArgs) args()          {}
func (*AddSSTableArgs) args()      {}
func (*GCArgs) args()              {}
func (*PutSortedArgs) args()       {}

func (*PushTxnReply) reply()    {}
func (*HeartbeatReply) reply()  {}
func (*ExportReply) reply()     {}
func (*AddSSTableReply) reply() {}
func (*RangeInfoReply) reply()  {}
func (*RangeInfoArgs) args()    {}
