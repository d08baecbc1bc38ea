package kvserver

import (
	"encoding/binary"
	"fmt"

	"github.com/auxten/postgresql-parser/pkg/util/encoding"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/kvserverpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// Local keys. What is addressed by a key moves with it when its range splits;
// what is addressed by a range id stays with the replica.
//
//	01 'k' <enc(key)> "rdsc"            range descriptor, at the range's start key
//	01 'k' <enc(key)> "txn-" <uuid>     transaction record, at the anchor key
//	01 'i' <range id> "gcth"            GC threshold
//	01 'i' <range id> "stat"            Stats, as of the last orderly stop
//	01 'i' <range id> "leas"            Lease
//	01 'i' <range id> "frzn"            Freeze, while the range waits to be absorbed by its left neighbour
//	01 'i' <range id> "gone"            the least replica id that may come to this store
//	01 'i' <range id> "blnk"            id of a replica that has only voted so far
//	01 'i' <range id> "rlog" …          log and applied state of the replica (package raftgroup)
//	01 's' "iden"                       StoreIdent
//	01 's' "clck"                       upper bound of the clock
//	01 's' "peer"                       addresses to join the cluster through
//	03 <end key>                        range descriptor, for lookups (MetaKey)

const (
	suffixRangeDescriptor = "rdsc"
	suffixTxn             = "txn-"
	suffixGCThreshold     = "gcth"
	suffixStats           = "stat"
	suffixLease           = "leas"
	suffixFrozen          = "frzn"
	suffixGone            = "gone"
	suffixBlank           = "blnk"
	suffixRaft            = "rlog"
	suffixIdent           = "iden"
	suffixClock           = "clck"
	suffixPeers           = "peer"
)

func addressedKey(at keys.Key, suffix string) keys.Key {
	k := append(make(keys.Key, 0, len(at)+len(suffix)+24), keys.LocalRangePrefix...)
	k = encoding.EncodeBytesAscending(k, at)
	return append(k, suffix...)
}

func rangeDescriptorKey(start keys.Key) keys.Key { return addressedKey(start, suffixRangeDescriptor) }

func txnRecordKey(anchor keys.Key, id kvpb.TxnID) keys.Key {
	return append(addressedKey(anchor, suffixTxn), id[:]...)
}

// decodeAddressedKey splits a key made by addressedKey into address and suffix.
func decodeAddressedKey(k keys.Key) (at keys.Key, suffix []byte, err error) {
	if len(k) < len(keys.LocalRangePrefix) {
		return nil, nil, fmt.Errorf("local key %x is too short", []byte(k))
	}
	rest, b, err := encoding.DecodeBytesAscending(k[len(keys.LocalRangePrefix):], nil)
	if err != nil {
		return nil, nil, storage.Mark(fmt.Errorf("local key %x: %w", []byte(k), err), storage.ErrCorrupt)
	}
	return b, rest, nil
}

func rangeIDKey(id kvpb.RangeID, suffix string) keys.Key {
	k := append(make(keys.Key, 0, 16), keys.LocalRangeIDPrefix...)
	k = encoding.EncodeUvarintAscending(k, uint64(id))
	return append(k, suffix...)
}

func storeKey(suffix string) keys.Key {
	return append(keys.LocalStorePrefix.Clone(), suffix...)
}

// MetaKey is where the descriptor of the range that ends at end is found. The
// first one after a key is that of the range which holds the key.
func MetaKey(end keys.Key) keys.Key {
	return append(keys.Meta2Prefix.Clone(), end...)
}

func encodeProto(m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

func tsToProto(t hlc.Timestamp) *kvserverpb.Timestamp {
	if t.IsEmpty() {
		return nil
	}
	return &kvserverpb.Timestamp{Wall: t.WallTime, Logical: t.Logical}
}

func tsFromProto(t *kvserverpb.Timestamp) hlc.Timestamp {
	return hlc.Timestamp{WallTime: t.GetWall(), Logical: t.GetLogical()}
}

// encodeTimestamp is the fixed form of timestamps that stand alone.
func encodeTimestamp(t hlc.Timestamp) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(t.WallTime))
	return binary.BigEndian.AppendUint32(b, uint32(t.Logical))
}

func decodeTimestamp(b []byte) (hlc.Timestamp, error) {
	if len(b) != 12 {
		return hlc.Timestamp{}, storage.Mark(fmt.Errorf("timestamp of %d bytes", len(b)), storage.ErrCorrupt)
	}
	return hlc.Timestamp{WallTime: int64(binary.BigEndian.Uint64(b)), Logical: int32(binary.BigEndian.Uint32(b[8:]))}, nil
}

func encodeTxnRecord(r *kvpb.TxnRecord) ([]byte, error) {
	m := &kvserverpb.TxnRecord{
		Id: r.ID[:], Key: r.Key, Status: int32(r.Status), Epoch: r.Epoch, Priority: int32(r.Priority),
		MinTimestamp: tsToProto(r.MinTimestamp), WriteTimestamp: tsToProto(r.WriteTimestamp),
		LastHeartbeat: tsToProto(r.LastHeartbeat),
	}
	for _, s := range r.LockSpans {
		m.LockSpans = append(m.LockSpans, &kvserverpb.Span{Key: s.Key, EndKey: s.EndKey})
	}
	for _, s := range r.IgnoredSeqNums {
		m.IgnoredSeqnums = append(m.IgnoredSeqnums, &kvserverpb.SeqRange{Start: s.Start, End: s.End})
	}
	return encodeProto(m)
}

func decodeTxnRecord(b []byte) (*kvpb.TxnRecord, error) {
	var m kvserverpb.TxnRecord
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, storage.Mark(fmt.Errorf("decoding transaction record: %w", err), storage.ErrCorrupt)
	}
	r := &kvpb.TxnRecord{
		Key: m.Key, Status: kvpb.TxnStatus(m.Status), Epoch: m.Epoch, Priority: kvpb.Priority(m.Priority),
		MinTimestamp: tsFromProto(m.MinTimestamp), WriteTimestamp: tsFromProto(m.WriteTimestamp),
		LastHeartbeat: tsFromProto(m.LastHeartbeat),
	}
	if len(m.Id) != len(r.ID) || r.Status < kvpb.TxnPending || r.Status > kvpb.TxnCommitted {
		return nil, storage.Mark(fmt.Errorf("transaction record with id %x and status %d", m.Id, m.Status), storage.ErrCorrupt)
	}
	copy(r.ID[:], m.Id)
	for _, s := range m.LockSpans {
		r.LockSpans = append(r.LockSpans, keys.Span{Key: s.Key, EndKey: s.EndKey})
	}
	for _, s := range m.IgnoredSeqnums {
		r.IgnoredSeqNums = append(r.IgnoredSeqNums, kvpb.SeqRange{Start: s.Start, End: s.End})
	}
	return r, nil
}

// loadTxnRecord returns nil if the transaction has no record.
func loadTxnRecord(r storage.Reader, anchor keys.Key, id kvpb.TxnID) (*kvpb.TxnRecord, error) {
	b, ok, err := r.Get(txnRecordKey(anchor, id))
	if err != nil || !ok {
		return nil, err
	}
	return decodeTxnRecord(b)
}

func putTxnRecord(w storage.Writer, r *kvpb.TxnRecord) error {
	b, err := encodeTxnRecord(r)
	if err != nil {
		return err
	}
	return w.Put(txnRecordKey(r.Key, r.ID), b)
}

func encodeRangeDescriptor(d *kvpb.RangeDescriptor) ([]byte, error) {
	return encodeProto(descriptorToProto(d))
}

func descriptorToProto(d *kvpb.RangeDescriptor) *kvserverpb.RangeDescriptor {
	m := &kvserverpb.RangeDescriptor{
		RangeId: int64(d.RangeID), StartKey: d.StartKey, EndKey: d.EndKey,
		Generation: d.Generation, NextReplicaId: d.NextReplicaID, StickyUntil: tsToProto(d.StickyUntil),
		Absorbing: int64(d.Absorbing),
	}
	for _, r := range d.Replicas {
		m.Replicas = append(m.Replicas, replicaToProto(r))
	}
	return m
}

func replicaToProto(r kvpb.ReplicaDescriptor) *kvserverpb.ReplicaDescriptor {
	return &kvserverpb.ReplicaDescriptor{NodeId: int32(r.NodeID), StoreId: int32(r.StoreID), ReplicaId: r.ReplicaID, Type: int32(r.Type)}
}

func replicaFromProto(m *kvserverpb.ReplicaDescriptor) kvpb.ReplicaDescriptor {
	return kvpb.ReplicaDescriptor{
		NodeID: kvpb.NodeID(m.GetNodeId()), StoreID: kvpb.StoreID(m.GetStoreId()), ReplicaID: m.GetReplicaId(), Type: kvpb.ReplicaType(m.GetType()),
	}
}

func decodeRangeDescriptor(b []byte) (*kvpb.RangeDescriptor, error) {
	var m kvserverpb.RangeDescriptor
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, storage.Mark(fmt.Errorf("decoding range descriptor: %w", err), storage.ErrCorrupt)
	}
	return descriptorFromProto(&m)
}

func descriptorFromProto(m *kvserverpb.RangeDescriptor) (*kvpb.RangeDescriptor, error) {
	d := &kvpb.RangeDescriptor{
		RangeID: kvpb.RangeID(m.GetRangeId()), StartKey: m.GetStartKey(), EndKey: m.GetEndKey(),
		Generation: m.GetGeneration(), NextReplicaID: m.GetNextReplicaId(), StickyUntil: tsFromProto(m.GetStickyUntil()),
		Absorbing: kvpb.RangeID(m.GetAbsorbing()),
	}
	for _, r := range m.GetReplicas() {
		d.Replicas = append(d.Replicas, replicaFromProto(r))
	}
	if d.RangeID <= 0 || d.StartKey.Compare(d.EndKey) >= 0 {
		return nil, storage.Mark(fmt.Errorf("range descriptor %s", d), storage.ErrCorrupt)
	}
	return d, nil
}

func encodeStats(s storage.Stats) ([]byte, error) { return encodeProto(statsToProto(s)) }

func statsToProto(s storage.Stats) *kvserverpb.Stats {
	return &kvserverpb.Stats{
		KeyCount: s.KeyCount, KeyBytes: s.KeyBytes, ValBytes: s.ValBytes, LiveCount: s.LiveCount, LiveBytes: s.LiveBytes,
		IntentCount: s.IntentCount, IntentBytes: s.IntentBytes, RangeKeys: s.RangeKeys, Estimates: s.Estimates,
	}
}

func decodeStats(b []byte) (storage.Stats, error) {
	var m kvserverpb.Stats
	if err := proto.Unmarshal(b, &m); err != nil {
		return storage.Stats{}, storage.Mark(fmt.Errorf("decoding range stats: %w", err), storage.ErrCorrupt)
	}
	return statsFromProto(&m), nil
}

func statsFromProto(m *kvserverpb.Stats) storage.Stats {
	return storage.Stats{
		KeyCount: m.GetKeyCount(), KeyBytes: m.GetKeyBytes(), ValBytes: m.GetValBytes(), LiveCount: m.GetLiveCount(), LiveBytes: m.GetLiveBytes(),
		IntentCount: m.GetIntentCount(), IntentBytes: m.GetIntentBytes(), RangeKeys: m.GetRangeKeys(), Estimates: m.GetEstimates(),
	}
}
