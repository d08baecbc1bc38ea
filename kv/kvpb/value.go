package kvpb

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// tagInt marks a value that is a zigzag varint.
const tagInt = 1

// EncodeInt returns n as the value of key: checksum, tag and a zigzag varint.
func EncodeInt(key keys.Key, n int64) []byte {
	b := append(make([]byte, 0, 5+binary.MaxVarintLen64), 0, 0, 0, 0, tagInt)
	b = binary.AppendVarint(b, n)
	SetChecksum(key, b)
	return b
}

// DecodeInt reads what EncodeInt wrote.
func DecodeInt(value []byte) (int64, error) {
	if len(value) < 6 || value[4] != tagInt {
		return 0, fmt.Errorf("value %x is no integer", value)
	}
	n, l := binary.Varint(value[5:])
	if l != len(value)-5 {
		return 0, fmt.Errorf("value %x is no integer", value)
	}
	return n, nil
}

// SetChecksum fills the first four bytes of value with the checksum over key,
// tag and data. Zero would mean "not set", so a checksum of zero becomes one.
func SetChecksum(key keys.Key, value []byte) {
	c := crc32.ChecksumIEEE(key)
	c = crc32.Update(c, crc32.IEEETable, value[4:])
	if c == 0 {
		c = 1
	}
	binary.BigEndian.PutUint32(value, c)
}

// tagBytes marks a value that is a string of bytes.
const tagBytes = 3

// EncodeBytes returns data as the value of key: checksum, tag and the bytes.
func EncodeBytes(key keys.Key, data []byte) []byte {
	b := append(make([]byte, 0, 5+len(data)), 0, 0, 0, 0, tagBytes)
	b = append(b, data...)
	SetChecksum(key, b)
	return b
}

// DecodeBytes reads what EncodeBytes wrote.
func DecodeBytes(value []byte) ([]byte, error) {
	if len(value) < 5 || value[4] != tagBytes {
		return nil, fmt.Errorf("value %x is no string of bytes", value)
	}
	return value[5:], nil
}
