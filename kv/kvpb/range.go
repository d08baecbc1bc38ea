package kvpb

import (
	"fmt"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// ReplicaDescriptor names one copy of a range.
type ReplicaDescriptor struct {
	NodeID    NodeID
	StoreID   StoreID
	ReplicaID int32
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
}

// Span returns the keys of the range.
func (d *RangeDescriptor) Span() keys.Span { return keys.Span{Key: d.StartKey, EndKey: d.EndKey} }

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
