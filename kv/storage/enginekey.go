package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2/cockroachkvs"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// An engine key is what Pebble sorts:
//
//	key 00                          no version: the plain key
//	key 00 wall(8) 09               version, logical part zero
//	key 00 wall(8) logical(4) 0d    version
//	01 'z' key 00 strength(1) txn(16) 12    lock on key
//
// The last byte is the length of the suffix, itself included. Plain keys sort
// before the versions of the same key, newer versions before older ones.
const (
	suffixLenWall    = 9
	suffixLenLogical = 13
	suffixLenLock    = 18
	sentinel         = 0x00
)

// maxSuffixLen bounds what an engine key adds to a key: sentinel and suffix.
const maxSuffixLen = 1 + suffixLenLock

// MVCCKey is a decoded engine key. A zero Timestamp means "no version".
type MVCCKey struct {
	Key       keys.Key
	Timestamp hlc.Timestamp
}

func (k MVCCKey) String() string {
	if k.Timestamp.IsEmpty() {
		return keys.Pretty(k.Key)
	}
	return fmt.Sprintf("%s@%s", keys.Pretty(k.Key), k.Timestamp)
}

// appendTimestampSuffix appends the version suffix of ts, with its length byte.
func appendTimestampSuffix(dst []byte, ts hlc.Timestamp) []byte {
	if ts.Logical != 0 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(ts.WallTime))
		dst = binary.BigEndian.AppendUint32(dst, uint32(ts.Logical))
		return append(dst, suffixLenLogical)
	}
	if ts.WallTime != 0 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(ts.WallTime))
		return append(dst, suffixLenWall)
	}
	return dst
}

// AppendMVCCKey appends the engine key of (key, ts) to dst.
func AppendMVCCKey(dst []byte, key keys.Key, ts hlc.Timestamp) []byte {
	dst = append(dst, key...)
	dst = append(dst, sentinel)
	return appendTimestampSuffix(dst, ts)
}

// EncodeMVCCKey returns the engine key of (key, ts) in new memory.
func EncodeMVCCKey(key keys.Key, ts hlc.Timestamp) []byte {
	return AppendMVCCKey(make([]byte, 0, len(key)+maxSuffixLen), key, ts)
}

// DecodeMVCCKey splits an engine key. The key shares memory with b.
func DecodeMVCCKey(b []byte) (MVCCKey, error) {
	key, suffix, err := splitEngineKey(b)
	if err != nil {
		return MVCCKey{}, err
	}
	ts, err := decodeTimestampSuffix(suffix)
	if err != nil {
		return MVCCKey{}, corruptionf("engine key %x: %v", b, err)
	}
	return MVCCKey{Key: key, Timestamp: ts}, nil
}

// splitEngineKey returns the key without sentinel, and the suffix with its
// length byte (empty for a plain key).
func splitEngineKey(b []byte) (key keys.Key, suffix []byte, err error) {
	if len(b) == 0 {
		return nil, nil, corruptionf("empty engine key")
	}
	n := int(b[len(b)-1])
	end := len(b) - 1 - n
	if n == 1 || end < 0 || b[end] != sentinel {
		return nil, nil, corruptionf("malformed engine key %x", b)
	}
	return b[:end:end], b[end+1 : end+1+n], nil
}

// decodeTimestampSuffix reads a version suffix with its length byte. The old
// form with a fourteenth byte (synthetic timestamps) is read, never written.
func decodeTimestampSuffix(s []byte) (hlc.Timestamp, error) {
	switch len(s) {
	case 0:
		return hlc.Timestamp{}, nil
	case suffixLenWall:
		return hlc.Timestamp{WallTime: int64(binary.BigEndian.Uint64(s))}, nil
	case suffixLenLogical, suffixLenLogical + 1:
		return hlc.Timestamp{
			WallTime: int64(binary.BigEndian.Uint64(s)),
			Logical:  int32(binary.BigEndian.Uint32(s[8:])),
		}, nil
	}
	return hlc.Timestamp{}, fmt.Errorf("suffix %x is no timestamp", s)
}

// appendLockKey appends the engine key of the lock that txn id holds on key.
func appendLockKey(dst []byte, key keys.Key, strength LockStrength, id TxnID) []byte {
	dst = appendLockPrefix(dst, key)
	dst = append(dst, byte(strength))
	dst = append(dst, id[:]...)
	return append(dst, suffixLenLock)
}

// appendLockPrefix appends the engine key that sorts before all locks on key
// and after all locks on smaller keys.
func appendLockPrefix(dst []byte, key keys.Key) []byte {
	dst = append(dst, keys.LocalLockPrefix...)
	dst = append(dst, key...)
	return append(dst, sentinel)
}

// decodeLockKey splits the engine key of a lock. The key shares memory with b.
func decodeLockKey(b []byte) (key keys.Key, strength LockStrength, id TxnID, err error) {
	k, suffix, err := splitEngineKey(b)
	if err != nil {
		return nil, 0, TxnID{}, err
	}
	if len(suffix) != suffixLenLock || len(k) < len(keys.LocalLockPrefix) ||
		string(k[:len(keys.LocalLockPrefix)]) != string(keys.LocalLockPrefix) {
		return nil, 0, TxnID{}, corruptionf("engine key %x is no lock", b)
	}
	copy(id[:], suffix[1:17])
	return k[len(keys.LocalLockPrefix):], LockStrength(suffix[0]), id, nil
}

// compareEngineKeys orders engine keys as Pebble does.
func compareEngineKeys(a, b []byte) int { return cockroachkvs.Compare(a, b) }
