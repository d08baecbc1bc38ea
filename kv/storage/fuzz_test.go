package storage

import (
	"bytes"
	"context"
	"testing"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

func FuzzEngineKey(f *testing.F) {
	f.Add([]byte("key"), int64(7), int32(3), EncodeMVCCKey(keys.Key("a"), ts(5)))
	f.Add([]byte{}, int64(0), int32(0), []byte{0, 1})
	f.Add([]byte{0}, int64(1), int32(0), appendLockKey(nil, keys.Key("k"), LockIntent, TxnID{1}))
	f.Fuzz(func(t *testing.T, key []byte, wall int64, logical int32, any []byte) {
		at := hlc.Timestamp{WallTime: max(wall, 0), Logical: max(logical, 0)}
		got, err := DecodeMVCCKey(EncodeMVCCKey(key, at))
		if err != nil || !bytes.Equal(got.Key, key) || got.Timestamp != at {
			t.Fatalf("%x@%s came back as %v, %v", key, at, got, err)
		}
		k, _, id, err := decodeLockKey(appendLockKey(nil, key, LockIntent, TxnID{7}))
		if err != nil || !bytes.Equal(k, key) || id != (TxnID{7}) {
			t.Fatalf("lock key of %x: %x %v %v", key, []byte(k), id, err)
		}
		if _, err := DecodeMVCCKey(any); err == nil {
			if _, _, err := splitEngineKey(any); err != nil {
				t.Fatal(err)
			}
		}
		_, _, _, _ = decodeLockKey(any)
		_, _ = decodeTimestampSuffix(any)
	})
}

func FuzzStoredValue(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 1, 0x65, 9})
	f.Add([]byte{0, 0, 0, 1, 0x65, 9, 0, 0, 0, 0, 3, 'x'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x65})
	f.Add([]byte{1, 2, 3, 4, 3, 'a'})
	f.Fuzz(func(t *testing.T, raw []byte) {
		simple, err := splitValue(raw)
		if err != nil {
			return
		}
		if len(simple) > 0 && (len(simple) < valuePreludeLen || simple[valueChecksumLen] == extendedTag) {
			t.Fatalf("%x gives the simple value %x", raw, simple)
		}
		if err := checkWritable(simple); err != nil {
			t.Fatalf("%x is not writable: %v", simple, err)
		}
	})
}

func FuzzLockRecord(f *testing.F) {
	r := lockRecord{TxnMeta: TxnMeta{Key: keys.Key("k"), Epoch: 1, WriteTimestamp: ts(9), MinTimestamp: ts(3), Priority: -1, Sequence: 8},
		rewritten: true, valueLen: 5, history: []seqValue{{2, []byte("old")}, {5, nil}}}
	f.Add(r.append(nil))
	f.Add([]byte{1, 0, 0})
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeLockRecord(TxnID{1}, b)
		if err != nil {
			return
		}
		enc := r.append(nil)
		again, err := decodeLockRecord(TxnID{1}, enc)
		if err != nil || !bytes.Equal(again.append(nil), enc) {
			t.Fatalf("%x decodes, but its encoding %x does not: %v", b, enc, err)
		}
	})
}

// FuzzSSTReader flips bytes of a good file: the reader gives what was written or
// an error, and no panic.
func FuzzSSTReader(f *testing.F) {
	var sst SSTBuffer
	w := NewSSTWriter(&sst, CompressFast)
	for i := range 100 {
		k := append(keys.IndexPrefix(106, 1), 0x89+byte(i), 0x88)
		if err := w.PutVersion(MVCCKey{Key: k, Timestamp: ts(int64(i + 1))}, val("value of a row")); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.PutRangeTombstone(keys.IndexSpan(106, 2), ts(7)); err != nil {
		f.Fatal(err)
	}
	if _, err := w.Finish(); err != nil {
		f.Fatal(err)
	}
	good := sst.Bytes()
	ctx := context.Background()
	want, err := SummarizeSST(ctx, NewMemSST(good), true)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint(0), byte(1), uint(0))
	f.Add(uint(len(good)-1), byte(0xff), uint(0))
	f.Add(uint(len(good)-60), byte(0x10), uint(0))
	f.Add(uint(10), byte(0), uint(100))
	f.Fuzz(func(t *testing.T, at uint, flip byte, cut uint) {
		bad := bytes.Clone(good)
		bad[at%uint(len(bad))] ^= flip
		bad = bad[:uint(len(bad))-cut%uint(len(bad))]
		got, err := SummarizeSST(ctx, NewMemSST(bad), true)
		if err == nil && got.Total() != want.Total() {
			t.Fatalf("damaged file read as %+v", got.Total())
		}
		it, err := NewRestoreIterator(ctx, []SSTFile{NewMemSST(bad)}, RestoreOptions{Span: keys.TableSpan(106), Rewrites: []PrefixRewrite{TableRewrite(106, 7)}})
		if err != nil {
			return
		}
		var out SSTBuffer
		_, _ = it.WritePage(&out, 0)
		_ = it.Close()
	})
}

func FuzzRewrite(f *testing.F) {
	f.Add([]byte{0xf6, 0x6e, 0x89, 0x88}, uint32(110), uint32(7))
	f.Fuzz(func(t *testing.T, key []byte, oldID, newID uint32) {
		r := RestoreIterator{opts: RestoreOptions{Rewrites: []PrefixRewrite{TableRewrite(oldID, newID)}}, orig: key}
		if r.rewrite() != nil {
			return
		}
		id, rest, ok := keys.DecodeTablePrefix(key)
		nid, nrest, nok := keys.DecodeTablePrefix(r.key)
		if ok && id == oldID && (!nok || nid != newID || !bytes.Equal(rest, nrest)) {
			t.Fatalf("%x of table %d became %x", key, oldID, []byte(r.key))
		}
	})
}
