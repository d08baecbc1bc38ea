package storage

import (
	"bytes"
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/zeebo/xxh3"

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

// countingSink checks what a stream reader promises.
type countingSink struct {
	t      *testing.T
	spans  []engineSpan
	points int64
	ranges int64
}

func (c *countingSink) begin(_ SpanSet, spans []engineSpan) error {
	c.spans = spans
	return nil
}

func (c *countingSink) point(span int, key, value []byte) error {
	if c.points++; !c.spans[span].contains(key) {
		c.t.Fatalf("key %x is not in span %d", key, span)
	}
	return nil
}

func (c *countingSink) rangeKey(span int, start, end, suffix, value []byte) error {
	if c.ranges++; !c.spans[span].contains(start) || compareEngineKeys(end, c.spans[span].end) > 0 {
		c.t.Fatalf("range key [%x, %x) is not in span %d", start, end, span)
	}
	return nil
}

// FuzzSpanStream reads arbitrary bytes as the stream of a range, as they are and
// as content within frames whose checksums fit.
func FuzzSpanStream(f *testing.F) {
	set := SpanSet{User: keys.Span{Key: keys.Key("\x90"), EndKey: keys.Key("\xa0")}, Local: []keys.Span{{Key: keys.Key("\x01ix")}, keys.Prefix(keys.Key("\x01iy"))}}
	write := func(head, content []byte, counts SpanCounts) []byte {
		var out bytes.Buffer
		w := &frameWriter{w: &out}
		_ = w.raw(append([]byte(spanStreamMark), spanStreamVersion))
		_ = w.frame(frameSpans, head)
		_, _ = w.Write(content)
		_ = w.flush()
		_ = w.frame(frameEnd, spanEnd{counts: counts, checksum: xxh3.Hash128(content).Bytes()}.append(nil))
		return out.Bytes()
	}
	var content bytes.Buffer
	c := newSpanContent(&content)
	_ = c.point(EncodeMVCCKey(keys.Key("\x01ix"), zeroTS), []byte("local"), false)
	_ = c.point(appendLockKey(nil, keys.Key("\x91"), LockIntent, TxnID{1}), []byte("lock"), true)
	_ = c.rangeKey(EncodeMVCCKey(keys.Key("\x90"), zeroTS), EncodeMVCCKey(keys.Key("\x92"), zeroTS), appendTimestampSuffix(nil, ts(5)), nil)
	_ = c.point(EncodeMVCCKey(keys.Key("\x91"), ts(3)), val("v"), false)
	f.Add(set.append(nil), content.Bytes())
	f.Add(write(set.append(nil), content.Bytes(), c.counts), []byte{})
	f.Add([]byte{}, []byte{1, 0xff, 0xff, 0xff, 0xff, 0x03})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		ctx := context.Background()
		for _, s := range [][]byte{a, write(a[:min(len(a), maxFrameBytes)], b, SpanCounts{}), write(set.append(nil), b, c.counts)} {
			sink := &countingSink{t: t}
			end, err := readSpanStream(ctx, bytes.NewReader(s), sink)
			if err == nil && (end.counts.Points+end.counts.Locks != sink.points || end.counts.RangeKeys != sink.ranges) {
				t.Fatalf("%+v, but %d points and %d range keys came", end.counts, sink.points, sink.ranges)
			}
		}
		if s, err := decodeSpanSet(a); err == nil {
			if again, err := decodeSpanSet(s.append(nil)); err != nil || !bytes.Equal(again.append(nil), s.append(nil)) {
				t.Fatalf("%x: %v", a, err)
			}
		}
	})
}

// FuzzBatchRepr applies arbitrary bytes as a batch: what is accepted can be
// committed and read.
func FuzzBatchRepr(f *testing.F) {
	e, err := Open(testConfig(vfs.NewMem()))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = e.Close() })
	b := e.NewBatch()
	txn := &Txn{TxnMeta: TxnMeta{ID: TxnID{1}, Key: keys.Key("k"), WriteTimestamp: ts(10), MinTimestamp: ts(10), Sequence: 1}, ReadTimestamp: ts(10)}
	if err := MVCCPut(context.Background(), b, keys.Key("k"), ts(10), val("v"), WriteOptions{Txn: txn}); err != nil {
		f.Fatal(err)
	}
	if err := MVCCDeleteRangeTombstone(context.Background(), b, keys.Key("\x90"), keys.Key("\x91"), ts(7), nil); err != nil {
		f.Fatal(err)
	}
	if err := b.ClearSpans(SpanSet{User: keys.Span{Key: keys.Key("\x90"), EndKey: keys.Key("\x92")}}); err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Clone(b.Repr()))
	if err := b.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(make([]byte, batchHeaderBytes))
	f.Add(append(make([]byte, batchHeaderBytes), 1, 0xff))
	f.Fuzz(func(t *testing.T, repr []byte) {
		b := e.NewBatch()
		defer b.Close()
		if err := b.ApplyRepr(repr); err != nil {
			if !b.Empty() {
				t.Fatalf("refused (%v), yet there are %d operations", err, b.Count())
			}
			return
		}
		if err := b.Commit(false); err != nil {
			t.Fatal(err)
		}
		whole := SpanSet{User: keys.Span{Key: keys.MinKey, EndKey: keys.MaxKey}}
		if _, _, err := e.ChecksumSpans(context.Background(), whole); err != nil {
			t.Fatal(err)
		}
		clear := e.NewBatch()
		defer clear.Close()
		if err := clear.ClearRange(keys.MinKey, keys.Key("\xff\xff\xff\xff")); err != nil {
			t.Fatal(err)
		}
		if err := clear.Commit(false); err != nil {
			t.Fatal(err)
		}
	})
}
