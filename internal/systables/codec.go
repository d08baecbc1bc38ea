package systables

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/auxten/postgresql-parser/pkg/util/encoding"
	"github.com/auxten/postgresql-parser/pkg/util/uuid"
	"github.com/cockroachdb/apd"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// KV is one pair of the store: a key with its column family suffix, and a value
// with its checksum.
type KV struct {
	Key   keys.Key
	Value []byte
}

// Value tags that follow the checksum; see docs/format.
const (
	tagBytes = 3
	tagTuple = 10
)

// familyZero is the suffix of column family 0, the only family of these tables.
const familyZero = 0x88

// Encode returns the pairs that hold row: the primary one first, then one for
// each secondary index.
func (t *Table) Encode(row Row) ([]KV, error) {
	if err := t.check(row); err != nil {
		return nil, err
	}
	key, err := t.Key(t.primaryValues(row)...)
	if err != nil {
		return nil, err
	}
	var body []byte
	prev := uint32(0)
	for i, c := range t.Columns {
		if row[i] == nil || (t.isPrimary(i) && !isComposite(row[i])) {
			continue
		}
		if body, err = encodeDatum(body, c.ID-prev, c.Type, row[i]); err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t.Name, c.Name, err)
		}
		prev = c.ID
	}
	out := []KV{{Key: key, Value: seal(key, tagTuple, body)}}
	for n := range t.Indexes {
		kv, err := t.encodeIndex(&t.Indexes[n], row)
		if err != nil {
			return nil, err
		}
		out = append(out, kv)
	}
	return out, nil
}

// encodeIndex returns the entry of row in a non-unique index: the indexed
// columns, then those of the primary key that they lack; stored columns stand in
// the value.
func (t *Table) encodeIndex(ix *Index, row Row) (KV, error) {
	key := keys.IndexPrefix(t.ID, ix.ID)
	var err error
	for _, col := range t.indexKeyColumns(ix) {
		if key, err = encodeKeyPart(key, t.Columns[col].Type, row[col]); err != nil {
			return KV{}, fmt.Errorf("%s@%s: %w", t.Name, ix.Name, err)
		}
	}
	key = append(key, familyZero)
	var body []byte
	prev := uint32(0)
	for _, col := range ix.Storing {
		if row[col] == nil {
			continue
		}
		c := t.Columns[col]
		if body, err = encodeDatum(body, c.ID-prev, c.Type, row[col]); err != nil {
			return KV{}, fmt.Errorf("%s@%s: %w", t.Name, ix.Name, err)
		}
		prev = c.ID
	}
	return KV{Key: key, Value: seal(key, tagBytes, body)}, nil
}

// indexKeyColumns returns the positions of the columns in an index key: indexed
// ones, then the missing ones of the primary key.
func (t *Table) indexKeyColumns(ix *Index) []int {
	cols := append([]int(nil), ix.Columns...)
	for _, pk := range t.PrimaryKey {
		seen := false
		for _, c := range ix.Columns {
			seen = seen || c == pk
		}
		if !seen {
			cols = append(cols, pk)
		}
	}
	return cols
}

// Key returns the key of the row whose primary key has these values.
func (t *Table) Key(values ...any) (keys.Key, error) {
	if len(values) != len(t.PrimaryKey) {
		return nil, fmt.Errorf("%s: %d primary key values, want %d", t.Name, len(values), len(t.PrimaryKey))
	}
	key, err := t.KeyPrefix(values...)
	return append(key, familyZero), err
}

// KeyPrefix returns the common prefix of the rows whose primary key starts with
// these values.
func (t *Table) KeyPrefix(values ...any) (keys.Key, error) {
	key := keys.IndexPrefix(t.ID, 1)
	var err error
	for i, v := range values {
		c := t.Columns[t.PrimaryKey[i]]
		if key, err = encodeKeyPart(key, c.Type, v); err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t.Name, c.Name, err)
		}
	}
	return key, nil
}

// IndexKeyPrefix returns the common prefix of the entries of index ix whose
// indexed columns start with these values.
func (t *Table) IndexKeyPrefix(ix *Index, values ...any) (keys.Key, error) {
	cols := t.indexKeyColumns(ix)
	key := keys.IndexPrefix(t.ID, ix.ID)
	var err error
	for i, v := range values {
		if key, err = encodeKeyPart(key, t.Columns[cols[i]].Type, v); err != nil {
			return nil, fmt.Errorf("%s@%s: %w", t.Name, ix.Name, err)
		}
	}
	return key, nil
}

// Span covers all rows of the table's primary index.
func (t *Table) Span() keys.Span { return keys.IndexSpan(t.ID, 1) }

// DecodeKey returns the row of a primary index key with nothing but its primary
// key columns set.
func (t *Table) DecodeKey(key keys.Key) (row Row, err error) {
	defer guard(t.Name, key, &err)
	tableID, indexID, rest, ok := keys.DecodeIndexPrefix(key)
	if !ok || tableID != t.ID || indexID != 1 {
		return nil, fmt.Errorf("%s: key %s is not of its primary index", t.Name, key)
	}
	row = make(Row, len(t.Columns))
	for _, col := range t.PrimaryKey {
		if rest, row[col], err = decodeKeyPart(rest, t.Columns[col].Type); err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t.Name, t.Columns[col].Name, err)
		}
	}
	return row, nil
}

// Decode returns the row that a pair of the primary index holds.
func (t *Table) Decode(key keys.Key, value []byte) (row Row, err error) {
	defer guard(t.Name, key, &err)
	if row, err = t.DecodeKey(key); err != nil {
		return nil, err
	}
	body, tag, err := open(key, value)
	if err != nil {
		return nil, fmt.Errorf("%s: key %s: %w", t.Name, key, err)
	}
	if tag != tagTuple {
		return nil, fmt.Errorf("%s: key %s: value tag %d, want %d", t.Name, key, tag, tagTuple)
	}
	return row, t.decodeTuple(body, row)
}

// DecodeIndex returns the columns that an entry of index ix holds; the others
// are nil.
func (t *Table) DecodeIndex(ix *Index, key keys.Key, value []byte) (row Row, err error) {
	defer guard(t.Name, key, &err)
	tableID, indexID, rest, ok := keys.DecodeIndexPrefix(key)
	if !ok || tableID != t.ID || indexID != ix.ID {
		return nil, fmt.Errorf("%s@%s: key %s is not of it", t.Name, ix.Name, key)
	}
	row = make(Row, len(t.Columns))
	for _, col := range t.indexKeyColumns(ix) {
		if rest, row[col], err = decodeKeyPart(rest, t.Columns[col].Type); err != nil {
			return nil, fmt.Errorf("%s@%s: %w", t.Name, ix.Name, err)
		}
	}
	body, _, err := open(key, value)
	if err != nil {
		return nil, fmt.Errorf("%s@%s: key %s: %w", t.Name, ix.Name, key, err)
	}
	return row, t.decodeTuple(body, row)
}

// guard turns a panic of the value decoders, which trust their input, into an
// error.
func guard(table string, key keys.Key, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s: key %s: corrupt value: %v", table, key, r)
	}
}

func (t *Table) decodeTuple(body []byte, row Row) error {
	id := uint32(0)
	for len(body) > 0 {
		typeOffset, dataOffset, delta, typ, err := encoding.DecodeValueTag(body)
		if err != nil || typeOffset < 0 || dataOffset > len(body) {
			return fmt.Errorf("%s: corrupt value tag: %v", t.Name, err)
		}
		id += delta
		col := t.columnByID(id)
		if col < 0 { // A column of a later version of this table.
			n, err := encoding.PeekValueLengthWithOffsetsAndType(body, dataOffset, typ)
			if err != nil || n > len(body) {
				return fmt.Errorf("%s: corrupt column %d: %v", t.Name, id, err)
			}
			body = body[n:]
			continue
		}
		if body, row[col], err = decodeDatum(body, t.Columns[col].Type); err != nil {
			return fmt.Errorf("%s.%s: %w", t.Name, t.Columns[col].Name, err)
		}
	}
	return nil
}

// seal puts checksum and tag in front of a value's data.
func seal(key keys.Key, tag byte, data []byte) []byte {
	v := make([]byte, 5, 5+len(data))
	v[4] = tag
	v = append(v, data...)
	binary.BigEndian.PutUint32(v, checksum(key, v[4:]))
	return v
}

// open checks a value's checksum and returns its data and tag.
func open(key keys.Key, v []byte) (data []byte, tag byte, err error) {
	if len(v) < 5 {
		return nil, 0, fmt.Errorf("value of %d bytes is too short", len(v))
	}
	if have := binary.BigEndian.Uint32(v); have != 0 && have != checksum(key, v[4:]) {
		return nil, 0, fmt.Errorf("checksum mismatch; expected %08x, got %08x", checksum(key, v[4:]), have)
	}
	return v[5:], v[4], nil
}

// checksum is CRC-32 (IEEE) over the key and the tagged data; 0 means "not set",
// so a computed 0 is stored as 1.
func checksum(key keys.Key, tagged []byte) uint32 {
	sum := crc32.Update(crc32.ChecksumIEEE(key), crc32.IEEETable, tagged)
	if sum == 0 {
		return 1
	}
	return sum
}

func encodeKeyPart(b []byte, typ Type, v any) ([]byte, error) {
	if v == nil {
		return encoding.EncodeNullAscending(b), nil
	}
	switch typ {
	case Int, OID:
		if n, ok := v.(int64); ok {
			return encoding.EncodeVarintAscending(b, n), nil
		}
	case Bool:
		if x, ok := v.(bool); ok {
			return encoding.EncodeVarintAscending(b, boolInt(x)), nil
		}
	case String:
		if s, ok := v.(string); ok {
			return encoding.EncodeStringAscending(b, s), nil
		}
	case Bytes:
		if s, ok := v.([]byte); ok {
			return encoding.EncodeBytesAscending(b, s), nil
		}
	case Timestamp, TimestampTZ:
		if x, ok := v.(time.Time); ok {
			return encoding.EncodeTimeAscending(b, x.UTC()), nil
		}
	case UUID:
		if u, ok := v.([16]byte); ok {
			return encoding.EncodeBytesAscending(b, u[:]), nil
		}
	}
	return nil, fmt.Errorf("%T is no key value of type %s", v, typ)
}

func decodeKeyPart(b []byte, typ Type) (rest []byte, v any, err error) {
	if len(b) == 0 {
		return nil, nil, fmt.Errorf("key ends before column")
	}
	if rest, isNull := encoding.DecodeIfNull(b); isNull {
		return rest, nil, nil
	}
	switch typ {
	case Int, OID:
		return intPart(encoding.DecodeVarintAscending(b))
	case Bool:
		rest, n, err := encoding.DecodeVarintAscending(b)
		return rest, n != 0, err
	case String:
		rest, s, err := encoding.DecodeUnsafeStringAscending(b, nil)
		return rest, string([]byte(s)), err
	case Bytes:
		rest, s, err := encoding.DecodeBytesAscending(b, nil)
		return rest, append([]byte{}, s...), err
	case Timestamp, TimestampTZ:
		rest, x, err := encoding.DecodeTimeAscending(b)
		return rest, x.UTC(), err
	case UUID:
		rest, s, err := encoding.DecodeBytesAscending(b, nil)
		if err != nil || len(s) != 16 {
			return nil, nil, fmt.Errorf("uuid of %d bytes: %v", len(s), err)
		}
		return rest, [16]byte(s), nil
	}
	return nil, nil, fmt.Errorf("type %s cannot stand in a key", typ)
}

func intPart(rest []byte, n int64, err error) ([]byte, any, error) { return rest, n, err }

func boolInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func encodeDatum(b []byte, delta uint32, typ Type, v any) ([]byte, error) {
	switch typ {
	case Int, OID:
		if n, ok := v.(int64); ok {
			return encoding.EncodeIntValue(b, delta, n), nil
		}
	case Bool:
		if x, ok := v.(bool); ok {
			return encoding.EncodeBoolValue(b, delta, x), nil
		}
	case Float:
		if f, ok := v.(float64); ok {
			return encoding.EncodeFloatValue(b, delta, f), nil
		}
	case String:
		if s, ok := v.(string); ok {
			return encoding.EncodeBytesValue(b, delta, []byte(s)), nil
		}
	case Bytes:
		if s, ok := v.([]byte); ok {
			return encoding.EncodeBytesValue(b, delta, s), nil
		}
	case Timestamp, TimestampTZ:
		if x, ok := v.(time.Time); ok {
			return encoding.EncodeTimeValue(b, delta, x.UTC()), nil
		}
	case UUID:
		if u, ok := v.([16]byte); ok {
			return encoding.EncodeUUIDValue(b, delta, uuid.UUID(u)), nil
		}
	case Decimal:
		if d, ok := v.(*apd.Decimal); ok {
			return encoding.EncodeDecimalValue(b, delta, d), nil
		}
	case StringArray:
		if a, ok := v.([]string); ok {
			return encoding.EncodeArrayValue(b, delta, encodeStrings(a)), nil
		}
	}
	return nil, fmt.Errorf("%T is no value of type %s", v, typ)
}

func decodeDatum(b []byte, typ Type) (rest []byte, v any, err error) {
	switch typ {
	case Int, OID:
		return intPart(encoding.DecodeIntValue(b))
	case Bool:
		rest, x, err := encoding.DecodeBoolValue(b)
		return rest, x, err
	case Float:
		rest, f, err := encoding.DecodeFloatValue(b)
		return rest, f, err
	case String:
		rest, s, err := encoding.DecodeBytesValue(b)
		return rest, string(s), err
	case Bytes:
		rest, s, err := encoding.DecodeBytesValue(b)
		return rest, append([]byte{}, s...), err
	case Timestamp, TimestampTZ:
		rest, x, err := encoding.DecodeTimeValue(b)
		return rest, x.UTC(), err
	case UUID:
		rest, u, err := encoding.DecodeUUIDValue(b)
		return rest, [16]byte(u), err
	case Decimal:
		rest, d, err := encoding.DecodeDecimalValue(b)
		return rest, &d, err
	case StringArray:
		_, dataOffset, _, _, err := encoding.DecodeValueTag(b)
		if err != nil {
			return nil, nil, err
		}
		rest, body, err := encoding.DecodeUntaggedBytesValue(b[dataOffset:])
		if err != nil {
			return nil, nil, err
		}
		a, err := decodeStrings(body)
		return rest, a, err
	}
	return nil, nil, fmt.Errorf("unknown type %s", typ)
}

// encodeStrings writes an array body: header (one dimension), element type,
// count, elements without tags.
func encodeStrings(a []string) []byte {
	b := []byte{1, byte(encoding.Bytes)}
	b = encoding.EncodeNonsortingUvarint(b, uint64(len(a)))
	for _, s := range a {
		b = encoding.EncodeUntaggedBytesValue(b, []byte(s))
	}
	return b
}

func decodeStrings(b []byte) ([]string, error) {
	if len(b) < 3 || b[0] != 1 {
		return nil, fmt.Errorf("array header %x is not of a one-dimensional array without NULL", b)
	}
	rest, _, n, err := encoding.DecodeNonsortingUvarint(b[2:])
	if err != nil || n > uint64(len(b)) || n > math.MaxInt32 {
		return nil, fmt.Errorf("array of %d elements in %d bytes: %v", n, len(b), err)
	}
	a := make([]string, n)
	for i := range a {
		var s []byte
		if rest, s, err = encoding.DecodeUntaggedBytesValue(rest); err != nil {
			return nil, err
		}
		a[i] = string(s)
	}
	return a, nil
}

// isComposite says whether a key value must stand in the row's value, too. No
// type that these tables allow in keys needs it.
func isComposite(any) bool { return false }
