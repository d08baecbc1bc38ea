package rowenc

import (
	"encoding/binary"
	"hash/crc32"

	enc "github.com/auxten/postgresql-parser/pkg/util/encoding"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// A value is checksum(4) tag(1) data. The tag says how to read the data.
const (
	tagInt      = 1
	tagFloat    = 2
	tagBytes    = 3 // also the value of a secondary index entry
	tagTime     = 4
	tagDecimal  = 5
	tagDuration = 6
	tagTuple    = 10
	tagBitArray = 11
	tagTimeTZ   = 12
	tagHeader   = 101 // an extended MVCC value

	checksumLen = 4
	headerLen   = checksumLen + 1
)

// KV is a key and its value. An empty value asks for the key to be deleted.
type KV struct {
	Key   keys.Key
	Value []byte
}

// Checksum returns the checksum of a value: CRC-32 over the key, the tag and the
// data. It is never 0, which means "not set".
func Checksum(key keys.Key, value []byte) uint32 {
	sum := crc32.ChecksumIEEE(key)
	sum = crc32.Update(sum, crc32.IEEETable, value[checksumLen:])
	if sum == 0 {
		return 1
	}
	return sum
}

// SetChecksum writes the checksum into value, for key.
func SetChecksum(key keys.Key, value []byte) {
	binary.BigEndian.PutUint32(value, Checksum(key, value))
}

// ClearChecksum marks value as having no checksum.
func ClearChecksum(value []byte) { binary.BigEndian.PutUint32(value, 0) }

// VerifyChecksum checks a value read from the store. A checksum of 0 is valid.
func VerifyChecksum(key keys.Key, value []byte) error {
	if len(value) == 0 {
		return nil
	}
	if len(value) < headerLen {
		return corrupt("corrupt value at %s: %d bytes", key, len(value))
	}
	if sum := binary.BigEndian.Uint32(value); sum != 0 && sum != Checksum(key, value) {
		return corrupt("corrupt value at %s: checksum %08x, want %08x", key, sum, Checksum(key, value))
	}
	return nil
}

// StripMVCCHeader returns the simple value inside an extended one, and other
// values unchanged. An empty result is a delete.
func StripMVCCHeader(value []byte) ([]byte, error) {
	if len(value) == 0 || len(value) >= headerLen && value[checksumLen] != tagHeader {
		return value, nil
	}
	if len(value) < headerLen {
		return nil, corrupt("corrupt value: %d bytes", len(value))
	}
	n := uint64(binary.BigEndian.Uint32(value))
	if n > uint64(len(value)-headerLen) {
		return nil, corrupt("corrupt value: header of %d bytes", n)
	}
	return value[headerLen+n:], nil
}

// splitValue checks the frame of a value and returns tag and data.
func splitValue(key keys.Key, value []byte) (tag byte, data []byte, err error) {
	if len(value) >= headerLen && value[checksumLen] == tagHeader {
		if value, err = StripMVCCHeader(value); err != nil {
			return 0, nil, err
		}
	}
	if len(value) < headerLen {
		return 0, nil, corrupt("corrupt value at %s: %d bytes", key, len(value))
	}
	return value[checksumLen], value[headerLen:], nil
}

// AppendFamily appends the column family suffix to a row prefix.
func AppendFamily(b []byte, family uint32) []byte {
	if family == 0 {
		return enc.EncodeUvarintAscending(b, 0)
	}
	size := len(b)
	b = enc.EncodeUvarintAscending(b, uint64(family))
	return enc.EncodeUvarintAscending(b, uint64(len(b)-size))
}

// FamilyKey returns the key of one family's pair of a row.
func FamilyKey(prefix keys.Key, family uint32) keys.Key {
	return AppendFamily(append(make([]byte, 0, len(prefix)+4), prefix...), family)
}

// decodeFamily splits the family suffix off what follows the key columns.
func decodeFamily(b []byte) (uint32, error) {
	if len(b) == 0 || b[0] < 0x88 || b[0] > 0xfd {
		return 0, corrupt("corrupt key: no column family")
	}
	if b[0] == 0x88 && len(b) == 1 {
		return 0, nil
	}
	n := 0
	if b[0] > 0xf5 {
		n = int(b[0]) - 0xf5
	}
	if len(b) != n+2 || b[len(b)-1] != 0x88+byte(n+1) {
		return 0, corrupt("corrupt key: column family suffix %x", b)
	}
	_, v, err := enc.DecodeUvarintAscending(b)
	if err != nil || v > 1<<32-1 || v == 0 {
		return 0, corrupt("corrupt key: column family suffix %x", b)
	}
	return uint32(v), nil
}

// SequenceKey returns the key that holds a sequence's value.
func SequenceKey(tableID uint32) keys.Key {
	k := keys.IndexPrefix(tableID, 1)
	k = enc.EncodeVarintAscending(k, 0)
	return AppendFamily(k, 0)
}

// EncodeInt returns a value that holds one integer, as sequences do.
func EncodeInt(key keys.Key, v int64) []byte {
	b := append(make([]byte, 0, 16), 0, 0, 0, 0, tagInt)
	b = enc.EncodeUntaggedIntValue(b, v)
	SetChecksum(key, b)
	return b
}

// DecodeInt reads what EncodeInt wrote.
func DecodeInt(key keys.Key, value []byte) (int64, error) {
	tag, data, err := splitValue(key, value)
	if err != nil {
		return 0, err
	}
	if tag != tagInt {
		return 0, corrupt("corrupt value at %s: tag %d where an integer was expected", key, tag)
	}
	rest, v, err := decodeZZ(data)
	if err == nil && len(rest) > 0 {
		err = corrupt("corrupt value at %s: %d bytes left over", key, len(rest))
	}
	return v, err
}
