package kvpb

import (
	"fmt"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// ReplicaType says what part a replica has in the consensus of its range.
type ReplicaType int8

// The types.
const (
	ReplicaVoter   ReplicaType = iota
	ReplicaLearner             // gets a snapshot, to become a voter
	ReplicaNonVoter
	// In a joint configuration the voters from before and from after have to agree:
	// ReplicaVoter is one of both.
	ReplicaVoterIncoming         // of those after only
	ReplicaVoterOutgoing         // of those before only; will be gone
	ReplicaVoterDemotingNonVoter // of those before only; will be a non-voter
)

var replicaTypes = [...]string{"VOTER", "LEARNER", "NON_VOTER", "VOTER_INCOMING", "VOTER_OUTGOING", "VOTER_DEMOTING_NON_VOTER"}

// Votes says whether a replica of type t has a vote now.
func (t ReplicaType) Votes() bool { return t != ReplicaLearner && t != ReplicaNonVoter }

// MayServe says whether a replica of type t may hold the lease: one that will go on
// voting.
func (t ReplicaType) MayServe() bool { return t == ReplicaVoter || t == ReplicaVoterIncoming }

func (t ReplicaType) String() string {
	if int(t) < len(replicaTypes) {
		return replicaTypes[t]
	}
	return "UNKNOWN"
}

// ReplicaDescriptor names one copy of a range.
type ReplicaDescriptor struct {
	NodeID    NodeID
	StoreID   StoreID
	ReplicaID int32
	Type      ReplicaType
}

// RangeDescriptor says which keys a range holds and where its replicas are.
// Generation grows with every change, so that of two descriptors the newer is
// known.
type RangeDescriptor struct {
	RangeID       RangeID
	StartKey      keys.Key
	EndKey        keys.Key
	Replicas      []ReplicaDescriptor
	Generation    int64
	NextReplicaID int32
	// StickyUntil: somebody asked for the split at StartKey, and wants it to last
	// until then. Zero: nobody did.
	StickyUntil hlc.Timestamp
	// Absorbing is the range to the right that this one is about to take in, zero if
	// there is none.
	Absorbing RangeID
}

// Span returns the keys of the range.
func (d *RangeDescriptor) Span() keys.Span { return keys.Span{Key: d.StartKey, EndKey: d.EndKey} }

// ReplicaOn returns the replica on a store.
func (d *RangeDescriptor) ReplicaOn(store StoreID) (ReplicaDescriptor, bool) {
	for _, r := range d.Replicas {
		if r.StoreID == store {
			return r, true
		}
	}
	return ReplicaDescriptor{}, false
}

// Joint says whether the range is in the middle of a change of its voters.
func (d *RangeDescriptor) Joint() bool {
	for _, r := range d.Replicas {
		if r.Type > ReplicaNonVoter {
			return true
		}
	}
	return false
}

// Replica returns the replica with an id.
func (d *RangeDescriptor) Replica(id int32) (ReplicaDescriptor, bool) {
	for _, r := range d.Replicas {
		if r.ReplicaID == id {
			return r, true
		}
	}
	return ReplicaDescriptor{}, false
}

// ContainsKey says whether k is in the range.
func (d *RangeDescriptor) ContainsKey(k keys.Key) bool {
	return d.StartKey.Compare(k) <= 0 && k.Compare(d.EndKey) < 0
}

// ContainsSpan says whether all of s is in the range.
func (d *RangeDescriptor) ContainsSpan(s keys.Span) bool {
	if len(s.EndKey) == 0 {
		return d.ContainsKey(s.Key)
	}
	return d.StartKey.Compare(s.Key) <= 0 && s.EndKey.Compare(d.EndKey) <= 0
}

func (d *RangeDescriptor) String() string {
	return fmt.Sprintf("r%d:%s gen %d", d.RangeID, d.Span(), d.Generation)
}

// RangeInfo is a range as SHOW RANGES sees it.
type RangeInfo struct {
	Descriptor  RangeDescriptor
	Leaseholder NodeID
	Bytes       int64 // logical size of all versions
	LiveBytes   int64
	LiveKeys    int64
	GCThreshold hlc.Timestamp // of the span that was asked about
}
