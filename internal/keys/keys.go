// Package keys names the parts of the sorted keyspace.
//
//	01            local: store facts, raft state, range descriptors, transaction records
//	02, 03        meta1, meta2: where ranges are
//	04            system: liveness, id counters, cluster facts
//	88 … fd       table data: ordered uvarint(table id), ordered uvarint(index id), …
//
// A Key is what the layers above storage speak of. The engine appends a sentinel
// and a version; see kv/storage.
package keys

import (
	"bytes"
	"fmt"

	"github.com/auxten/postgresql-parser/pkg/util/encoding"
)

// Key is a position in the keyspace, without version.
type Key []byte

// Span is the half-open interval [Key, EndKey). An empty EndKey means the single
// key Key.
type Span struct {
	Key, EndKey Key
}

// Prefixes and bounds of the keyspace.
var (
	LocalPrefix  = Key{0x01}
	LocalMax     = Key{0x02}
	Meta1Prefix  = Key{0x02}
	Meta2Prefix  = Key{0x03}
	MetaMax      = Key{0x04}
	SystemPrefix = Key{0x04}
	SystemMax    = Key{0x05}
	TableDataMin = Key{0x80}
	TableDataMax = Key{0xfe}
	MinKey       = Key{}
	MaxKey       = Key{0xff, 0xff}
)

// Local key families, each below LocalPrefix.
var (
	// LocalStorePrefix holds facts of one store: its identity, the clock's upper bound.
	LocalStorePrefix = Key{0x01, 's'}
	// LocalRangeIDPrefix holds what belongs to a replica by range id: applied state, raft log, GC threshold.
	LocalRangeIDPrefix = Key{0x01, 'i'}
	// LocalRangePrefix holds what is addressed by a key: range descriptors, transaction records.
	LocalRangePrefix = Key{0x01, 'k'}
	// LocalLockPrefix holds the replicated lock table.
	LocalLockPrefix = Key{0x01, 'z'}
)

// IsLocal says whether k is a local key.
func (k Key) IsLocal() bool { return bytes.HasPrefix(k, LocalPrefix) }

// Next returns the first key after k.
func (k Key) Next() Key { return append(append(make(Key, 0, len(k)+1), k...), 0) }

// PrefixEnd returns the end of the span of keys that have k as prefix.
func (k Key) PrefixEnd() Key {
	for i := len(k) - 1; i >= 0; i-- {
		if k[i] != 0xff {
			end := append(Key(nil), k[:i+1]...)
			end[i]++
			return end
		}
	}
	return MaxKey
}

// Clone returns a copy that shares no memory with k.
func (k Key) Clone() Key { return append(Key(nil), k...) }

// Compare orders keys by bytes.
func (k Key) Compare(o Key) int { return bytes.Compare(k, o) }

// Less says whether k sorts before o.
func (k Key) Less(o Key) bool { return bytes.Compare(k, o) < 0 }

// Equal says whether k and o are the same key.
func (k Key) Equal(o Key) bool { return bytes.Equal(k, o) }

// String prints table keys as /Table/<id>/<index>/… and others as hex.
func (k Key) String() string { return Pretty(k) }

// Prefix returns the span of all keys that start with p.
func Prefix(p Key) Span { return Span{Key: p, EndKey: p.PrefixEnd()} }

// End returns the exclusive end of s, also when s is a single key.
func (s Span) End() Key {
	if len(s.EndKey) == 0 {
		return s.Key.Next()
	}
	return s.EndKey
}

// Contains says whether k lies in s.
func (s Span) Contains(k Key) bool {
	return bytes.Compare(s.Key, k) <= 0 && bytes.Compare(k, s.End()) < 0
}

// ContainsSpan says whether o lies in s.
func (s Span) ContainsSpan(o Span) bool {
	return bytes.Compare(s.Key, o.Key) <= 0 && bytes.Compare(o.End(), s.End()) <= 0
}

// Overlaps says whether s and o share a key.
func (s Span) Overlaps(o Span) bool {
	return bytes.Compare(s.Key, o.End()) < 0 && bytes.Compare(o.Key, s.End()) < 0
}

func (s Span) String() string {
	if len(s.EndKey) == 0 {
		return Pretty(s.Key)
	}
	return fmt.Sprintf("{%s-%s}", Pretty(s.Key), Pretty(s.EndKey))
}

// TablePrefix returns the prefix of all keys of a table.
func TablePrefix(tableID uint32) Key {
	return encoding.EncodeUvarintAscending(nil, uint64(tableID))
}

// IndexPrefix returns the prefix of all keys of an index.
func IndexPrefix(tableID, indexID uint32) Key {
	return encoding.EncodeUvarintAscending(TablePrefix(tableID), uint64(indexID))
}

// TableSpan returns the span of a table's keys, all indexes.
func TableSpan(tableID uint32) Span { return Prefix(TablePrefix(tableID)) }

// IndexSpan returns the span of an index's keys.
func IndexSpan(tableID, indexID uint32) Span { return Prefix(IndexPrefix(tableID, indexID)) }

// DecodeTablePrefix splits a table key into its table id and the rest. ok is
// false when k is not a table key.
func DecodeTablePrefix(k Key) (tableID uint32, rest Key, ok bool) {
	id, rest, ok := decodeUvarint(k)
	if !ok || id > 1<<32-1 {
		return 0, nil, false
	}
	return uint32(id), rest, true
}

// DecodeIndexPrefix splits a table key into table id, index id and the rest.
func DecodeIndexPrefix(k Key) (tableID, indexID uint32, rest Key, ok bool) {
	tableID, rest, ok = DecodeTablePrefix(k)
	if !ok {
		return 0, 0, nil, false
	}
	id, rest, ok := decodeUvarint(rest)
	if !ok || id > 1<<32-1 {
		return 0, 0, nil, false
	}
	return tableID, uint32(id), rest, true
}

// decodeUvarint reads an ordered uvarint. The library's decoder trusts its
// input; here a byte outside 88…fd or a short buffer is not ok.
func decodeUvarint(b []byte) (uint64, Key, bool) {
	if len(b) == 0 || b[0] < 0x88 || b[0] > 0xfd {
		return 0, nil, false
	}
	n := int(b[0]) - 0xf5
	if n < 0 {
		n = 0
	}
	if len(b) < 1+n {
		return 0, nil, false
	}
	rest, v, err := encoding.DecodeUvarintAscending(b)
	if err != nil {
		return 0, nil, false
	}
	return v, rest, true
}

// FamilySuffixLen returns how many bytes at the end of a row key are its column
// family suffix, and false if k is too short to carry one.
func FamilySuffixLen(k Key) (int, bool) {
	if len(k) == 0 {
		return 0, false
	}
	last := k[len(k)-1]
	if last < 0x88 || int(last)-0x88+1 > len(k) {
		return 0, false
	}
	return int(last) - 0x88 + 1, true
}

// RowPrefix returns k without its column family suffix: all pairs of one row
// share it. Splits and export pages happen only at row prefixes. A key that has
// no such suffix is its own row.
func RowPrefix(k Key) Key {
	if _, _, _, ok := DecodeIndexPrefix(k); !ok {
		return k
	}
	n, ok := FamilySuffixLen(k)
	if !ok {
		return k
	}
	return k[:len(k)-n]
}
