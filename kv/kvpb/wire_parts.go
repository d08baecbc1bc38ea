package kvpb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb/wirepb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

func tsToWire(t hlc.Timestamp) *wirepb.Timestamp {
	if t.IsEmpty() {
		return nil
	}
	return &wirepb.Timestamp{Wall: t.WallTime, Logical: t.Logical}
}

func tsFromWire(t *wirepb.Timestamp) hlc.Timestamp {
	return hlc.Timestamp{WallTime: t.GetWall(), Logical: t.GetLogical()}
}

func spanToWire(s *keys.Span) *wirepb.Span {
	if s == nil {
		return nil
	}
	return &wirepb.Span{Key: s.Key, EndKey: s.EndKey}
}

func spanFromWire(s *wirepb.Span) *keys.Span {
	if s == nil {
		return nil
	}
	v := spanValue(s)
	return &v
}

func spanValue(s *wirepb.Span) keys.Span {
	return keys.Span{Key: slices.Clip(s.GetKey()), EndKey: slices.Clip(s.GetEndKey())}
}

func spansToWire(ss []keys.Span) []*wirepb.Span {
	var out []*wirepb.Span
	for i := range ss {
		out = append(out, spanToWire(&ss[i]))
	}
	return out
}

func spansFromWire(ss []*wirepb.Span) []keys.Span {
	var out []keys.Span
	for _, s := range ss {
		out = append(out, spanValue(s))
	}
	return out
}

func seqsToWire(ss []SeqRange) []*wirepb.SeqRange {
	var out []*wirepb.SeqRange
	for _, s := range ss {
		out = append(out, &wirepb.SeqRange{Start: s.Start, End: s.End})
	}
	return out
}

func seqsFromWire(ss []*wirepb.SeqRange) []SeqRange {
	var out []SeqRange
	for _, s := range ss {
		out = append(out, SeqRange{Start: s.GetStart(), End: s.GetEnd()})
	}
	return out
}

func idFromWire(b []byte) (id TxnID, err error) {
	if len(b) != len(id) {
		return id, fmt.Errorf("transaction id of %d bytes", len(b))
	}
	copy(id[:], b)
	return id, nil
}

func metaToWire(t *storage.TxnMeta) *wirepb.TxnMeta {
	return &wirepb.TxnMeta{
		Id: t.ID[:], Key: t.Key, Epoch: t.Epoch, WriteTimestamp: tsToWire(t.WriteTimestamp), MinTimestamp: tsToWire(t.MinTimestamp),
		Priority: t.Priority, Sequence: t.Sequence,
	}
}

func metaFromWire(m *wirepb.TxnMeta) (storage.TxnMeta, error) {
	id, err := idFromWire(m.GetId())
	return storage.TxnMeta{
		ID: id, Key: slices.Clip(m.GetKey()), Epoch: m.GetEpoch(), WriteTimestamp: tsFromWire(m.GetWriteTimestamp()),
		MinTimestamp: tsFromWire(m.GetMinTimestamp()), Priority: m.GetPriority(), Sequence: m.GetSequence(),
	}, err
}

func txnToWire(t *Transaction) *wirepb.Transaction {
	if t == nil {
		return nil
	}
	return &wirepb.Transaction{
		Id: t.ID[:], Name: t.Name, Key: t.Key, Epoch: t.Epoch, Priority: int32(t.Priority), MinTimestamp: tsToWire(t.MinTimestamp),
		ReadTimestamp: tsToWire(t.ReadTimestamp), WriteTimestamp: tsToWire(t.WriteTimestamp),
		UncertaintyLimit: tsToWire(t.UncertaintyLimit), Sequence: t.Sequence, IgnoredSeqnums: seqsToWire(t.IgnoredSeqNums),
	}
}

func txnFromWire(m *wirepb.Transaction) (*Transaction, error) {
	if m == nil {
		return nil, nil
	}
	id, err := idFromWire(m.GetId())
	return &Transaction{
		ID: id, Name: m.GetName(), Key: slices.Clip(m.GetKey()), Epoch: m.GetEpoch(), Priority: Priority(m.GetPriority()),
		MinTimestamp: tsFromWire(m.GetMinTimestamp()), ReadTimestamp: tsFromWire(m.GetReadTimestamp()),
		WriteTimestamp: tsFromWire(m.GetWriteTimestamp()), UncertaintyLimit: tsFromWire(m.GetUncertaintyLimit()),
		Sequence: m.GetSequence(), IgnoredSeqNums: seqsFromWire(m.GetIgnoredSeqnums()),
	}, err
}

func descToWire(d *RangeDescriptor) *wirepb.RangeDescriptor {
	m := &wirepb.RangeDescriptor{
		RangeId: int64(d.RangeID), StartKey: d.StartKey, EndKey: d.EndKey, Generation: d.Generation, NextReplicaId: d.NextReplicaID,
		StickyUntil: tsToWire(d.StickyUntil), Absorbing: int64(d.Absorbing),
	}
	for _, r := range d.Replicas {
		m.Replicas = append(m.Replicas, replicaToWire(r))
	}
	return m
}

func descFromWire(m *wirepb.RangeDescriptor) RangeDescriptor {
	d := RangeDescriptor{
		RangeID: RangeID(m.GetRangeId()), StartKey: slices.Clip(m.GetStartKey()), EndKey: slices.Clip(m.GetEndKey()), Generation: m.GetGeneration(),
		NextReplicaID: m.GetNextReplicaId(), StickyUntil: tsFromWire(m.GetStickyUntil()),
		Absorbing: RangeID(m.GetAbsorbing()),
	}
	for _, r := range m.GetReplicas() {
		d.Replicas = append(d.Replicas, replicaFromWire(r))
	}
	return d
}

func replicaToWire(r ReplicaDescriptor) *wirepb.ReplicaDescriptor {
	return &wirepb.ReplicaDescriptor{NodeId: int32(r.NodeID), StoreId: int32(r.StoreID), ReplicaId: r.ReplicaID, Type: int32(r.Type)}
}

func replicaFromWire(r *wirepb.ReplicaDescriptor) ReplicaDescriptor {
	return ReplicaDescriptor{NodeID: NodeID(r.GetNodeId()), StoreID: StoreID(r.GetStoreId()), ReplicaID: r.GetReplicaId(), Type: ReplicaType(r.GetType())}
}

// Pairs travel as one block of bytes instead of a message each: a scan has
// thousands. Its first number is their count. A length is one more than it says,
// so that 0 can stand for no value at all.

func appendBytes(b, v []byte) []byte {
	if v == nil {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(v))+1)
	return append(b, v...)
}

func kvsToWire(kvs []KeyValue) []byte {
	if len(kvs) == 0 {
		return nil
	}
	size := binary.MaxVarintLen64
	for i := range kvs {
		size += len(kvs[i].Key) + len(kvs[i].Value) + 2*binary.MaxVarintLen32 + 8 + binary.MaxVarintLen32
	}
	b := binary.AppendUvarint(make([]byte, 0, size), uint64(len(kvs)))
	for i := range kvs {
		b = appendBytes(appendBytes(b, kvs[i].Key), kvs[i].Value)
		b = binary.BigEndian.AppendUint64(b, uint64(kvs[i].Timestamp.WallTime))
		b = binary.AppendUvarint(b, uint64(uint32(kvs[i].Timestamp.Logical)))
	}
	return b
}

func kvsFromWire(b []byte) ([]KeyValue, error) {
	n, r := openBlock(b, 11)
	var kvs []KeyValue
	if n > 0 {
		kvs = make([]KeyValue, n)
	}
	for i := range kvs {
		kvs[i] = KeyValue{Key: r.bytes(), Value: r.bytes(), Timestamp: hlc.Timestamp{WallTime: r.fixed(), Logical: int32(uint32(r.uvarint()))}}
	}
	return kvs, r.end()
}

func pairsToWire(pairs []storage.Pair) []byte {
	if len(pairs) == 0 {
		return nil
	}
	size := binary.MaxVarintLen64
	for i := range pairs {
		size += len(pairs[i].Key) + len(pairs[i].Value) + 2*binary.MaxVarintLen32
	}
	b := binary.AppendUvarint(make([]byte, 0, size), uint64(len(pairs)))
	for i := range pairs {
		b = appendBytes(appendBytes(b, pairs[i].Key), pairs[i].Value)
	}
	return b
}

func pairsFromWire(b []byte) ([]storage.Pair, error) {
	n, r := openBlock(b, 2)
	var pairs []storage.Pair
	if n > 0 {
		pairs = make([]storage.Pair, n)
	}
	for i := range pairs {
		pairs[i] = storage.Pair{Key: r.bytes(), Value: r.bytes()}
	}
	return pairs, r.end()
}

// blockReader reads a block of pairs. Once bad, it only returns zeros.
type blockReader struct {
	b   []byte
	bad bool
}

// openBlock returns how many pairs of at least minBytes each are in a block.
func openBlock(b []byte, minBytes int) (int, *blockReader) {
	r := &blockReader{b: b}
	if len(b) == 0 {
		return 0, r
	}
	n := r.uvarint()
	if n > uint64(len(r.b)/minBytes) {
		r.bad = true
		return 0, r
	}
	return int(n), r
}

func (r *blockReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *blockReader) bytes() []byte {
	n := r.uvarint()
	if n == 0 {
		return nil
	}
	if n--; n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *blockReader) fixed() int64 {
	if len(r.b) < 8 {
		r.bad, r.b = true, nil
		return 0
	}
	v := int64(binary.BigEndian.Uint64(r.b))
	r.b = r.b[8:]
	return v
}

func (r *blockReader) end() error {
	if r.bad || len(r.b) > 0 {
		return errors.New("block of pairs is cut or has more than its pairs")
	}
	return nil
}

// EncodeDescriptor returns d as it travels where no request does.
func EncodeDescriptor(d *RangeDescriptor) ([]byte, error) { return descToWire(d).MarshalVT() }

// DecodeDescriptor reads what EncodeDescriptor wrote.
func DecodeDescriptor(b []byte) (*RangeDescriptor, error) {
	m := &wirepb.RangeDescriptor{}
	if err := m.UnmarshalVTUnsafe(slices.Clone(b)); err != nil {
		return nil, fmt.Errorf("decoding a range descriptor: %w", err)
	}
	d := descFromWire(m)
	if d.RangeID <= 0 || d.StartKey.Compare(d.EndKey) >= 0 || len(d.Replicas) == 0 {
		return nil, fmt.Errorf("%s makes no sense", &d)
	}
	return &d, nil
}
