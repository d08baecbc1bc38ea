package storage

import (
	"encoding/binary"
	"math"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// lockRecord is the value of a lock's engine key. The provisional value itself
// stands at its version; earlier values of the same transaction and epoch are
// the record's history.
//
//	01  flags  txn key  epoch  write ts  min ts  priority  sequence  value length
//	    history count { sequence  value }
//
// Integers are varints (timestamps: wall, logical), byte strings carry their
// length. Flag 1: the record was overwritten since the lock was taken.
type lockRecord struct {
	TxnMeta
	rewritten bool
	valueLen  int64 // of the provisional value
	history   []seqValue
}

// seqValue is a value written earlier by the transaction that holds the lock.
type seqValue struct {
	seq   int32
	value []byte // empty: a delete
}

const (
	lockRecordVersion   = 1
	lockFlagRewritten   = 1
	maxLockHistoryItems = 1 << 24
)

func (r *lockRecord) append(dst []byte) []byte {
	dst = append(dst, lockRecordVersion)
	var flags byte
	if r.rewritten {
		flags |= lockFlagRewritten
	}
	dst = append(dst, flags)
	dst = appendBytes(dst, r.Key)
	dst = binary.AppendVarint(dst, int64(r.Epoch))
	dst = appendTimestamp(dst, r.WriteTimestamp)
	dst = appendTimestamp(dst, r.MinTimestamp)
	dst = binary.AppendVarint(dst, int64(r.Priority))
	dst = binary.AppendVarint(dst, int64(r.Sequence))
	dst = binary.AppendVarint(dst, r.valueLen)
	dst = binary.AppendUvarint(dst, uint64(len(r.history)))
	for _, h := range r.history {
		dst = binary.AppendVarint(dst, int64(h.seq))
		dst = appendBytes(dst, h.value)
	}
	return dst
}

func appendBytes(dst, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

func appendTimestamp(dst []byte, ts hlc.Timestamp) []byte {
	dst = binary.AppendVarint(dst, ts.WallTime)
	return binary.AppendVarint(dst, int64(ts.Logical))
}

// decodeLockRecord reads the record of a lock of txn id. Slices share memory
// with b.
func decodeLockRecord(id TxnID, b []byte) (lockRecord, error) {
	r := lockRecord{TxnMeta: TxnMeta{ID: id}}
	d := recordDecoder{b: b}
	if v := d.byte(); v != lockRecordVersion && !d.bad {
		return lockRecord{}, corruptionf("lock record of version %d", v)
	}
	r.rewritten = d.byte()&lockFlagRewritten != 0
	r.Key = keys.Key(d.bytes())
	r.Epoch = d.int32()
	r.WriteTimestamp = d.timestamp()
	r.MinTimestamp = d.timestamp()
	r.Priority = d.int32()
	r.Sequence = d.int32()
	r.valueLen = d.varint()
	n := d.uvarint()
	if n > maxLockHistoryItems || n > uint64(len(d.b)) {
		d.bad = true
	}
	if n > 0 && !d.bad {
		r.history = make([]seqValue, n)
		for i := range r.history {
			r.history[i] = seqValue{seq: d.int32(), value: d.bytes()}
		}
	}
	if d.bad || len(d.b) != 0 || r.valueLen < 0 {
		return lockRecord{}, corruptionf("malformed lock record of %d bytes", len(b))
	}
	return r, nil
}

// recordDecoder reads fields in turn; bad stays set after the first that is not
// there.
type recordDecoder struct {
	b   []byte
	bad bool
}

func (d *recordDecoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *recordDecoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *recordDecoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *recordDecoder) int32() int32 {
	v := d.varint()
	if v < math.MinInt32 || v > math.MaxInt32 {
		d.bad = true
	}
	return int32(v)
}

func (d *recordDecoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *recordDecoder) timestamp() hlc.Timestamp {
	return hlc.Timestamp{WallTime: d.varint(), Logical: d.int32()}
}

// seqIgnored says whether seq was rolled back by a savepoint.
func seqIgnored(ignored []SeqRange, seq int32) bool {
	for _, r := range ignored {
		if r.Start <= seq && seq <= r.End {
			return true
		}
	}
	return false
}

// visibleHistory returns the newest entry of the history with sequence ≤ seq
// that was not rolled back.
func (r *lockRecord) visibleHistory(seq int32, ignored []SeqRange) (seqValue, bool) {
	for i := len(r.history) - 1; i >= 0; i-- {
		if h := r.history[i]; h.seq <= seq && !seqIgnored(ignored, h.seq) {
			return h, true
		}
	}
	return seqValue{}, false
}

// asLock returns r as errors report it, in memory of its own.
func (r *lockRecord) asLock(key keys.Key, strength LockStrength) Lock {
	m := r.TxnMeta
	m.Key = m.Key.Clone()
	return Lock{Key: key.Clone(), Strength: strength, Txn: m}
}
