package storage

import (
	"encoding/binary"
	"fmt"
)

// A stored value is
//
//	(nothing)                                 tombstone
//	checksum(4) tag(1) data                   simple
//	headerLen(4) 65 header [simple]           extended; without simple: tombstone
//
// This package looks at no more of it than the fifth byte, and zeroes checksums
// on export. It writes simple values and reads both.
const (
	valueChecksumLen = 4
	valuePreludeLen  = 5
	extendedTag      = 0x65
)

// splitValue returns the simple value within a stored one: empty for a tombstone.
func splitValue(raw []byte) ([]byte, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	if len(raw) < valuePreludeLen {
		return nil, corruptionf("value of %d bytes is shorter than its header", len(raw))
	}
	if raw[valueChecksumLen] != extendedTag {
		return raw, nil
	}
	n := uint64(binary.BigEndian.Uint32(raw))
	if n > uint64(len(raw)-valuePreludeLen) {
		return nil, corruptionf("extended value header of %d bytes in a value of %d", n, len(raw))
	}
	simple := raw[valuePreludeLen+int(n):]
	switch {
	case len(simple) == 0:
		return nil, nil
	case len(simple) < valuePreludeLen:
		return nil, corruptionf("value of %d bytes after its extended header", len(simple))
	case simple[valueChecksumLen] == extendedTag:
		return nil, corruptionf("value with two extended headers")
	}
	return simple, nil
}

// checkWritable refuses what could not be read back as what it is.
func checkWritable(value []byte) error {
	switch {
	case len(value) == 0:
		return nil
	case len(value) < valuePreludeLen:
		return fmt.Errorf("value of %d bytes has no room for checksum and tag", len(value))
	case value[valueChecksumLen] == extendedTag:
		return fmt.Errorf("value tag %#x is reserved", extendedTag)
	}
	return nil
}

// MakeValue returns a value of raw bytes (tag 3) with checksum "not set".
func MakeValue(data []byte) []byte {
	return append([]byte{0, 0, 0, 0, 3}, data...)
}

// equalValueData compares two simple values without their checksums.
func equalValueData(a, b []byte) bool {
	if len(a) < valueChecksumLen || len(b) < valueChecksumLen {
		return len(a) == len(b)
	}
	return string(a[valueChecksumLen:]) == string(b[valueChecksumLen:])
}
